"""Recognition of calls of torch's functions that compute max(x, 0), however they are written."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_CLAMPS = frozenset({"clamp", "clip", "clamp_min"})
_MAXIMA = frozenset({"maximum", "max", "fmax"})


def name_of(func: Callable[..., Any]) -> str:
    """Return a function's name as in torch.NAME or Tensor.NAME, `x.__get__` for a property x of a tensor.

    Functions of other libraries bear the library's name: theirs may do what they like under a name of torch's.
    """
    name = str(getattr(func, "__name__", ""))
    if name in ("__get__", "__set__"):
        return f"{getattr(getattr(func, '__self__', None), '__name__', 'property')}.{name}"
    if isinstance(func, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
        library, _, name = str(func).partition(".")
        return name.partition(".")[0] if library == "aten" else str(func)
    # F.threshold calls itself _threshold.
    return name[1:] if name.startswith("_") and not name.startswith("__") else name


def relu_input(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Return x where the call computes max(x, 0), in x's shape and type; else None."""

    def argument(place: int, *names: str) -> Any:
        return args[place] if len(args) > place else next((kwargs[each] for each in names if each in kwargs), None)

    inputs, base = argument(0, "input", "self"), name.removesuffix("_")
    if not isinstance(inputs, Tensor):
        return None
    if base in _MAXIMA:
        other = argument(1, "other")
        pairs = [(inputs, other), (other, inputs)] if isinstance(other, Tensor) else []
        return next((each for each, zero in pairs if each.requires_grad and _is_zero(zero, each)), None)
    if base in _CLAMPS:
        is_relu = _is_zero(argument(1, "min"), inputs) and argument(2, "max") is None
    elif base == "threshold":
        is_relu = _is_zero(argument(1, "threshold"), inputs) and _is_zero(argument(2, "value"), inputs)
    else:
        is_relu = base == "relu"
    return inputs if is_relu else None


def in_place(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Return whether such a call overwrites x."""
    return name.endswith("_") or bool(kwargs.get("inplace")) or any(each is True for each in args[1:])


def tensors(values: Iterable[Any]) -> list[Tensor]:
    """Return the tensors among the values, and within lists, tuples and dictionaries of them."""
    found = list[Tensor]()
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += tensors(value)
        elif isinstance(value, dict):
            found += tensors(value.values())
    return found


def _is_zero(value: Any, like: Tensor) -> bool:
    if not isinstance(value, Tensor):
        return isinstance(value, int | float) and value == 0
    if value.requires_grad or torch.result_type(value, like) != like.dtype:
        return False
    return torch.broadcast_shapes(value.shape, like.shape) == like.shape and not bool(value.any())
