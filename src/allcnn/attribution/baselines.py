"""Controls for a map: networks with fresh weights, another class, and maps that no network made.

A map that shows what a network has learned must change with its weights (Adebayo et al., 2018) and with the
class that is asked for (Nie et al., 2018).

Shapes: n images, c classes, h height, w width.
"""

import copy
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from allcnn import randomness
from allcnn.attribution.relu_override import AttributionError
from allcnn.attribution.units import first_largest
from allcnn.config import Family, ModelConfig
from allcnn.networks.init import initialise

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


def reset_layers(network: nn.Module, model: ModelConfig, layers: Sequence[str], seed: int) -> nn.Module:
    """Return a copy of the network whose named layers are as untrained; the network stays as it is.

    The convolutions of a net built here are drawn by its own `model.init`, a custom net's modules draw for
    themselves (reset_parameters). Each seed draws anew, and never the weights that the training with that seed
    began with; a layer's draw does not depend on the layers reset with it. A normalisation that directly follows
    a layer goes back to where it began, statistics included.

    Raises AttributionError for a module that is not there, or cannot be reset as a whole.
    """
    changed = copy.deepcopy(network)
    seed = randomness.number(seed, "reset")
    untrained = copy.deepcopy(network)
    if model.family is not Family.custom:
        initialise(untrained, model, seed)
    followers = _norms_after(network)
    for layer in layers:
        for name in (layer, *followers.get(layer, ())):
            fresh = _submodule(untrained, name)
            if model.family is Family.custom or not isinstance(fresh, nn.Conv2d):
                _draw(fresh, name, randomness.number(seed, name))
            _copy_own(fresh, _submodule(changed, name))
    return changed


def layers_from_top(network: nn.Module, images: Tensor) -> list[str]:
    """Return the names of all layers with weights, the one called last first: the order of the cascade.

    images: one or more that the network takes, to see the order. A normalisation directly after a layer belongs
    to that layer. Layers that are never called come last, so that no trained weight is left when all layers are reset.
    """
    followers = set(itertools.chain.from_iterable(_norms_after(network).values()))
    names = {module: name for name, module in network.named_modules() if _is_trained(module) and name not in followers}
    called: dict[str, None] = {}

    def note(module: nn.Module, args: object) -> None:
        called.setdefault(names[module])

    handles = [module.register_forward_pre_hook(note) for module in names]
    try:
        with torch.no_grad():
            network(images[:1])
    finally:
        for handle in handles:
            handle.remove()
    return [*reversed(called), *(name for name in names.values() if name not in called)]


def cascade(layers: Sequence[str]) -> list[Sequence[str]]:
    """Return what is reset at each stage of a cascade from the top: one layer, half, three quarters, all.

    Of conv9, ..., conv1: conv9; conv9 to conv6; conv9 to conv3; all nine.
    """
    count = len(layers)
    sizes = {1, count // 2, -(-3 * count // 4), count} - {0}
    return [layers[:size] for size in sorted(sizes)]


def wrong_class(logits: Tensor, predicted: Tensor) -> Tensor:
    """Return the class [n] that the network holds for the least likely of [n, c]; never the predicted one [n].

    The least likely, because there is least of it in the image: a map that stays the same for it is a map of the
    image. Of equal ones it is the first. Raises AttributionError where there is no other class.
    """
    if logits.shape[1] < 2:
        raise AttributionError(f"a wrong class needs two classes or more, the network's output has {logits.shape[1]}")
    others = (-logits.double()).scatter(1, predicted.unsqueeze(1), -torch.inf)
    return first_largest(others)


def contrast_map(images: Tensor) -> Tensor:
    """Return [n, 3, h, w]: each image minus the median of its pixels, each channel by itself; no network is asked.

    Signed, so that it can be held against signed maps; what is scored is |image - median|. Of an even number of
    pixels the median is the lower of the two in the middle.
    """
    return images - images.flatten(2).median(2).values[..., None, None]


def noise_map(like: Tensor, seed: int) -> Tensor:
    """Return independent standard normal numbers of the shape, type and device of `like`."""
    drawn = torch.randn(like.shape, generator=randomness.generator(seed, "noise map"))
    return drawn.to(like.device, like.dtype)


def other_images(predicted: Tensor) -> Tensor:
    """Return for each image the place [n] of another that the network takes for another class, predicted [n].

    Another class, because the maps of some rules do not depend on the image at all. It is the first one from half
    the images further on, as images may be sorted by class; where there is no other class, any image is taken.
    Raises AttributionError for fewer than two images.
    """
    count = len(predicted)
    if count < 2:
        raise AttributionError(f"another image needs two images or more, got {count}")
    own = torch.arange(count, device=predicted.device)
    # Row i: all the places in the order in which they are asked, but i itself, which comes last.
    order = (own[:, None] + count // 2 + own[None, :]) % count
    other_class = predicted[order] != predicted[:, None]
    first = other_class.int().argmax(1)  # 0, half the images further on, where there is no other class
    return order[own, first]


def _norms_after(network: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return for each layer with weights the normalisation that is registered right after it, if there is one."""
    pairs = itertools.pairwise(network.named_modules())
    return {
        name: (following,)
        for (name, module), (following, norm) in pairs
        if isinstance(norm, _NORMS) and _is_trained(module) and not isinstance(module, _NORMS)
    }


def _is_trained(module: nn.Module) -> bool:
    """Whether the module itself, not its parts, holds what training changed."""
    statistics = getattr(module, "running_mean", None)
    return statistics is not None or next(module.parameters(recurse=False), None) is not None


def _draw(module: nn.Module, name: str, seed: int) -> None:
    """Reset a module in place, on the CPU, by its own rule."""
    if not callable(getattr(module, "reset_parameters", None)):
        raise AttributionError(
            f"layer={name or 'the network itself'}: {type(module).__name__} has no reset_parameters(), so its"
            " initial weights are unknown; give it one that draws them"
        )
    module.cpu()
    own = [tensor for tensor in _own(module).values() if tensor.is_floating_point()]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for tensor in own:
            tensor.fill_(torch.nan)
        # Not torch.manual_seed, which would also reset the GPU generators of others.
        torch.default_generator.manual_seed(seed)
        module.reset_parameters()  # type: ignore[operator]
    if any(bool(tensor.isnan().any()) for tensor in _own(module).values() if tensor.is_floating_point()):
        raise AttributionError(
            f"layer={name}: reset_parameters() of {type(module).__name__} leaves some of its weights as they are;"
            " it must set them all"
        )


def _copy_own(source: nn.Module, target: nn.Module) -> None:
    with torch.no_grad():
        for name, tensor in _own(target).items():
            tensor.copy_(_own(source)[name])


def _own(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and lasting buffers of the module itself, not of its parts."""
    lasting = module.state_dict(keep_vars=True)
    return {
        name: tensor
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        if name in lasting
    }


def _submodule(network: nn.Module, name: str) -> nn.Module:
    try:
        return network.get_submodule(name)
    except AttributeError:
        names = ", ".join(each for each, module in network.named_modules() if _is_trained(module))
        raise AttributionError(
            f"layer={name}: the network has no such module; those with weights are {names}"
        ) from None
