"""A forward pass whose ReLUs and poolings obey a rule, whatever their spelling; what cannot obey is refused.

Modules of any kind end in torch's functions, so these are what is overridden (torch.overrides). What escapes
that, such as a scripted part or a function that is no ReLU, is found in autograd's graph. Nothing is ever
silently the plain gradient.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from strive.attribution.rules import RULED, Pooling, Rule, ruled_norm_pool, ruled_relu, switchless_pool
from strive.networks.pooling import NormPool


class AttributionError(ValueError):
    """What cannot be attributed, and why."""


# Autograd's nodes of functions that are linear in each argument; of two arguments only one may come from the image.
_LINEAR = frozenset(
    re.findall(
        r"\w+",
        """
        Convolution CudnnConvolution MkldnnConvolution Addmm Mm Mv Bmm Baddbmm Linear Add Sub Rsub Neg Mul Div Mean Sum
        NativeBatchNorm CudnnBatchNorm MiopenBatchNorm AvgPool2D AvgPool3D AdaptiveAvgPool2D AdaptiveAvgPool3D
        MkldnnAdaptiveAvgPool2D UpsampleNearest2D UpsampleBilinear2D UpsampleBicubic2D ConstantPadNd ReflectionPad2D
        ReplicationPad2D View UnsafeView ReshapeAlias AsStrided Permute Transpose T Squeeze Unsqueeze Expand Repeat Cat
        Stack Slice Select Index IndexSelect Split SplitWithSizes UnsafeSplit Unbind Unfold Im2Col Col2Im Flip Roll
        PixelShuffle PixelUnshuffle Clone Alias ToCopy CopySlices Copys
        """,
    )
)
# A sum of two things from the image is linear; a product is not.
_SUMS = frozenset(["Add", "Sub", "Rsub", "Cat", "Stack", "CopySlices", "Copys"])
_SWITCHED = frozenset(["MaxPool2DWithIndices", "MaxPool3DWithIndices", "AdaptiveMaxPool2D", "AdaptiveMaxPool3D"])

_CLAMPS = frozenset({"clamp", "clip", "clamp_min"})
_MAXIMA = frozenset({"maximum", "max", "fmax"})
# They return plain numbers, by which a forward pass could take another way for another image.
_READS = frozenset(
    re.findall(r"\w+", "item tolist numpy equal allclose is_nonzero __bool__ __int__ __float__ __index__ __array__")
)
# They look at shape and type alone.
_LIKE = re.compile(r"(zeros|ones|empty|full|rand|randn|randint)_like|new_\w+")


class Overriding(TorchFunctionMode):
    """While it is entered, the forward pass of `network` obeys the rule; enter it once, and go back outside of it.

    Meanwhile no parameter asks for its gradient: what asks for one comes from the image.
    """

    def __init__(self, network: nn.Module, rule: Rule, pooling: Pooling) -> None:
        super().__init__()
        self._network, self._rule, self._pooling = network, rule, pooling
        self._paths = [""]  # of the modules that are being called
        self._places: dict[Node, str] = {}  # what made a node: a function, and the module that called it
        self._pooled: list[Tensor] = []  # the inputs of a NormPool that is being called
        self._stack = ExitStack()

    def __enter__(self) -> "Overriding":
        for path, module in self._network.named_modules():
            self._hook(path, module)
        for parameter in self._network.parameters():
            if parameter.requires_grad:
                parameter.requires_grad_(False)
                self._stack.callback(parameter.requires_grad_, True)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._stack.close()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function, or what stands for it under the rule."""
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if self._pooled:
            return func(*args, **kwargs)
        made = self._replaced(func, name.removeprefix("_"), args, kwargs)
        if made is None:
            made = func(*args, **kwargs)
            self._check_call(name, args, kwargs, made)
        for tensor in _tensors((made,)):
            if tensor.grad_fn is not None:
                self._places.setdefault(tensor.grad_fn, f"{name} in {self._paths[-1] or 'the network'}")
        return made

    def check(self, activations: Tensor) -> None:
        """Raise AttributionError if anything between the image and these activations does not obey."""
        assert activations.grad_fn is not None
        seen, waiting = {activations.grad_fn}, [activations.grad_fn]
        while waiting:
            node = waiting.pop()
            before = [each for each, _ in node.next_functions if each is not None]
            self._check_node(node, len(before))
            waiting += [each for each in dict.fromkeys(before) if each not in seen]
            seen.update(before)

    def _hook(self, path: str, module: nn.Module) -> None:
        def enters(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            self._paths.append(path)
            if not isinstance(module, NormPool):
                return None
            self._pooled.append(args[0])
            return (args[0].detach(),)

        def leaves(module: nn.Module, args: tuple[Any, ...], made: Any) -> Any:
            self._paths.pop()
            if not isinstance(module, NormPool):
                return None
            made = ruled_norm_pool(made, self._pooled[-1], module, self._pooling)
            self._pooled.pop()
            return made

        self._stack.callback(module.register_forward_pre_hook(enters).remove)
        self._stack.callback(module.register_forward_hook(leaves).remove)

    def _replaced(
        self, func: Callable[..., Any], name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Tensor | None:
        inputs = args[0] if args else kwargs.get("input")
        base = name.removesuffix("_")
        if base in _MAXIMA and isinstance(inputs, Tensor) and not inputs.requires_grad:
            other = args[1] if len(args) > 1 else kwargs.get("other")
            inputs, args = (other, (other, inputs)) if _is_zero(inputs) else (None, args)
        if not isinstance(inputs, Tensor) or not inputs.requires_grad:
            return None
        if _is_relu(base, args, kwargs):
            made = ruled_relu(inputs, self._rule)
            in_place = name.endswith("_") or kwargs.get("inplace") or any(each is True for each in args[1:])
            return inputs.copy_(made) if in_place else made
        if base == "max_pool2d" and self._pooling is Pooling.switchless:
            return _switchless(func, args, kwargs)
        return None

    def _check_call(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], made: Any) -> None:
        if not any(each.requires_grad for each in _tensors((*args, *kwargs.values()))) or _LIKE.fullmatch(name):
            return
        trains = kwargs.get("training", kwargs.get("train", args[2] if len(args) > 2 else True))
        if "dropout" in name and trains:
            self._refuse(name, "it drops values at random, as in training")
        # Where pooling's switches come from does not matter to who asks for them.
        if name in ("max_pool2d_with_indices", "max_pool2d") and isinstance(made, tuple):
            return
        if name in _READS or any(not each.requires_grad for each in _tensors((made,))):
            self._refuse(name, "what it returns depends on the image, but carries no signal back")

    def _check_node(self, node: Node, inputs: int) -> None:
        if getattr(type(node), "_forward_cls", None) in RULED:
            return
        found = re.fullmatch(r"(?:.*::)?(\w+?)(?:Backward\d*|(?<=Copy)Backwards|(?<=CopySlices))", node.name())
        name = found[1] if found and not hasattr(type(node), "_forward_cls") else ""
        if node.name().endswith("AccumulateGrad"):
            return
        if name in _SWITCHED and self._pooling is Pooling.switches:
            return
        where = self._places.get(node, node.name())
        if name in _SWITCHED:
            self._refuse(where, "this pooling has no switchless way back here; take pooling=switches")
        if name not in _LINEAR:
            self._refuse(where, "it is neither linear nor a ReLU nor a pooling")
        if inputs > 1 and name not in _SUMS:
            self._refuse(where, "it multiplies two things that both come from the image")
        if getattr(node, "_saved_training", False):
            self._refuse(where, "it normalises with the image's own statistics")

    def _refuse(self, what: str, why: str) -> None:
        where = f" in {self._paths[-1]}" if " in " not in what and self._paths[-1] else ""
        raise AttributionError(
            f"{what}{where}: {why}, so that no rule says how a signal passes it back;"
            " put a ReLU in its place, or choose a layer before it"
        )


def _is_relu(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call computes max(x, 0) of its first argument."""

    def argument(place: int, *names: str) -> Any:
        return args[place] if len(args) > place else next((kwargs[each] for each in names if each in kwargs), None)

    if name in _CLAMPS:
        return _is_zero(argument(1, "min")) and argument(2, "max") is None
    if name in _MAXIMA:
        return isinstance(argument(1, "other"), Tensor) and _is_zero(argument(1, "other"))
    if name == "threshold":
        return _is_zero(argument(1, "threshold")) and _is_zero(argument(2, "value"))
    return name == "relu"


def _is_zero(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.requires_grad and not bool(value.any())
    return isinstance(value, int | float) and value == 0


def _switchless(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    inputs = given.pop("input")
    kernel = given["kernel_size"]
    return switchless_pool(
        func(inputs.detach(), **given),
        inputs,
        kernel=kernel,
        stride=given.get("stride") or kernel,
        padding=given.get("padding", 0),
        dilation=given.get("dilation", 1),
    )


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    """Yield the tensors among the values, and within lists, tuples and dictionaries of them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
        elif isinstance(value, dict):
            yield from _tensors(list(value.values()))
