"""The oracle: every layer of a net as an explicit matrix, and the way back by hand, in numpy's float64.

No convolution, no pooling and no autograd of torch takes part. A matrix maps all values of one image's maps, in the
order [c, h, w], to those of the next layer. Small nets only.

Shapes: c channels, h and w of a layer's maps; [c, h, w] flattened is [v] values.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from torch import nn

from allcnn.networks.build import GlobalMean
from allcnn.networks.pooling import NormPool


@dataclass(frozen=True)
class Layer:
    """One step of a net, from [v] values to [v'] values."""

    name: str
    kind: str  # affine, relu or pool
    matrix: np.ndarray | None = None  # [v', v] of an affine layer
    bias: np.ndarray | None = None  # [v']
    windows: tuple[tuple[int, ...], ...] = ()  # of a pool: for each of its outputs the values that it sees
    norm: float = math.inf  # p of a pool
    shape: tuple[int, ...] = ()  # of its output, [c, h, w]


def layers_of(network: nn.Sequential, shape: tuple[int, int, int]) -> list[Layer]:
    """Return the net's layers for one image [c, h, w]; dropout, which does nothing here, is left out."""
    layers = list[Layer]()
    for name, module in network._modules.items():
        layer = _layer(name, module, shape)
        if layer is not None:
            layers.append(layer)
            shape = layer.shape
    return layers


def forward(layers: list[Layer], image: np.ndarray) -> list[np.ndarray]:
    """Return the image and every layer's output, [v] each."""
    values = [image.astype(np.float64).ravel()]
    for layer in layers:
        values.append(_forward(layer, values[-1]))
    return values


def attribution(
    layers: list[Layer], values: list[np.ndarray], layer: str, unit: tuple[int, ...], rule: str, pooling: str
) -> np.ndarray:
    """Return the map [v] of one unit (channel, row, column or channel) of a layer; values: what `forward` returned."""
    last = [each.name for each in layers].index(layer)
    signal = np.zeros(layers[last].shape)
    signal[unit] = 1
    signal = signal.ravel()
    for place in range(last, -1, -1):
        signal = _backward(layers[place], values[place], signal, rule, pooling)
    return signal


def _layer(name: str, module: nn.Module, shape: tuple[int, int, int]) -> Layer | None:
    if isinstance(module, nn.Conv2d):
        return _conv(name, module, shape)
    if isinstance(module, nn.ReLU):
        return Layer(name, "relu", shape=shape)
    if isinstance(module, NormPool):
        geometry = (3, 2, module.padding, module.ceil_mode)
        return _pool(name, geometry, module.norm, shape)
    if isinstance(module, nn.MaxPool2d):
        geometry = (module.kernel_size, module.stride, module.padding, module.ceil_mode)
        return _pool(name, geometry, math.inf, shape)
    if isinstance(module, GlobalMean):
        channels, places = shape[0], shape[1] * shape[2]
        matrix = np.kron(np.eye(channels), np.full((1, places), 1 / places))
        return Layer(name, "affine", matrix, np.zeros(channels), shape=(channels,))
    if isinstance(module, nn.BatchNorm2d):
        scale, shift = (
            np.repeat(each, shape[1] * shape[2])
            for each in _normalisation(*(_numbers(each) for each in _parts(module)), module.eps)
        )
        return Layer(name, "affine", np.diag(scale), shift, shape=shape)
    assert not list(module.parameters()), name  # such as dropout
    return None


def _parts(module: nn.BatchNorm2d):
    return module.weight, module.bias, module.running_mean, module.running_var


def _normalisation(weight, bias, mean, variance, eps):
    scale = weight / np.sqrt(variance + eps)
    return scale, bias - mean * scale


def _numbers(tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def _conv(name: str, module: nn.Conv2d, shape: tuple[int, int, int]) -> Layer:
    weights, (stride, _), (padding, _) = _numbers(module.weight), module.stride, module.padding
    out, channels, kernel, _ = weights.shape
    high, wide = ((side + 2 * padding - kernel) // stride + 1 for side in shape[1:])
    matrix = np.zeros((out, high, wide, *shape))
    for row, column, i, j in itertools.product(range(high), range(wide), range(kernel), range(kernel)):
        top, left = row * stride - padding + i, column * stride - padding + j
        if 0 <= top < shape[1] and 0 <= left < shape[2]:
            matrix[:, row, column, :, top, left] = weights[:, :, i, j]
    assert channels == shape[0]
    bias = np.repeat(_numbers(module.bias), high * wide)
    return Layer(name, "affine", matrix.reshape(len(bias), -1), bias, shape=(out, high, wide))


def _pool(name: str, geometry: tuple[int, int, int, bool], norm: float, shape: tuple[int, int, int]) -> Layer:
    kernel, stride, padding, ceil_mode = geometry
    rounded = math.ceil if ceil_mode else math.floor
    high, wide = (int(rounded((side + 2 * padding - kernel) / stride)) + 1 for side in shape[1:])
    places = np.arange(math.prod(shape)).reshape(shape)
    windows = list[tuple[int, ...]]()
    for channel, row, column in itertools.product(range(shape[0]), range(high), range(wide)):
        top, left = row * stride - padding, column * stride - padding
        seen = places[channel, max(0, top) : max(0, top + kernel), max(0, left) : max(0, left + kernel)]
        windows.append(tuple(seen.ravel().tolist()))
    return Layer(name, "pool", windows=tuple(windows), norm=norm, shape=(shape[0], high, wide))


def _forward(layer: Layer, values: np.ndarray) -> np.ndarray:
    match layer.kind:
        case "affine":
            return layer.matrix @ values + layer.bias
        case "relu":
            return np.maximum(values, 0)
        case _:
            return np.array([_pooled(np.abs(values[list(window)]), layer.norm) for window in layer.windows])


def _pooled(sizes: np.ndarray, norm: float) -> float:
    return float(sizes.max() if math.isinf(norm) else (sizes**norm).sum() ** (1 / norm))


def _backward(layer: Layer, values: np.ndarray, signal: np.ndarray, rule: str, pooling: str) -> np.ndarray:
    if layer.kind == "affine":
        return layer.matrix.T @ signal
    if layer.kind == "pool":
        return _pool_back(layer, values, signal, pooling)
    passed = {"backprop": values > 0, "deconvnet": signal > 0, "guided": (values > 0) & (signal > 0)}
    return signal * passed[rule]


def _pool_back(layer: Layer, values: np.ndarray, signal: np.ndarray, pooling: str) -> np.ndarray:
    back = np.zeros_like(values)
    for window, arrived in zip(layer.windows, signal, strict=True):
        places = list(window)
        seen = values[places]
        if pooling == "switchless":
            back[places] += arrived
        elif math.isinf(layer.norm):
            back[places[int(seen.argmax())]] += arrived
        elif seen.any():
            # d(sum of |x|^p)^(1/p) / dx = sign(x) |x|^(p-1) (sum of |x|^p)^(1/p - 1)
            total = (np.abs(seen) ** layer.norm).sum()
            back[places] += arrived * np.sign(seen) * np.abs(seen) ** (layer.norm - 1) * total ** (1 / layer.norm - 1)
    return back
