"""Allow-list of the linear operations that may occur between an image and a layer, besides ReLUs and poolings.

Each function returns an objection in words, or None. Unknown operations are objected to.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from allcnn.attribution.relu_calls import tensors
from allcnn.attribution.rules import RULED, Pooling

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
        PixelShuffle PixelUnshuffle Clone Alias ToCopy Copy AccumulateGrad
        """,
    )
)
# A sum of two things from the image is linear; a product is not.
_SUMS = frozenset(["Add", "Sub", "Rsub", "Cat", "Stack", "Copy"])
_SWITCHED = frozenset(["MaxPool2DWithIndices", "MaxPool3DWithIndices", "AdaptiveMaxPool2D", "AdaptiveMaxPool3D"])

# Functions that may return their switches with the maxima.
POOLS = re.compile(r"(adaptive_)?max_pool[123]d(_with_indices)?")
# They return a tensor, but look at shape and type alone.
_LIKE = re.compile(r"(zeros|ones|empty|full|rand|randn|randint)_like|new_(zeros|ones|full|empty|empty_strided)")
# Of their second tensor they look at shape and type alone.
_AS = frozenset(["to", "type_as", "expand_as", "view_as", "reshape_as"])
# They return no tensor, and look at shape and type alone.
_ASKING = re.compile(
    r"\w+\.__get__|_?is_(?!nonzero)\w+|size|dim|ndimension|numel|nelement|stride|storage_offset|element_size|get_device"
    r"|__len__|__hash__"
)
# Writing a part of a tensor hides from autograd's graph what is written: these write what they are given, ...
_WRITES = frozenset(["copy_", "__setitem__", "zero_", "fill_", "add_", "__iadd__", "sub_", "__isub__"])
# ... and these a multiple of what is there.
_SCALES = frozenset(["mul_", "__imul__", "div_", "__itruediv__"])


def objection_to_call(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], made: Any) -> str | None:
    """Judge a call that takes what comes from the image, and returned `made`."""
    if "dropout" in name and kwargs.get("training", kwargs.get("train", args[2] if len(args) > 2 else True)):
        return "it drops values at random, as in training"
    if name.endswith(".__set__"):
        return "it changes a tensor behind autograd's back"
    return objection_to_result(name, args, made)


def objection_to_result(name: str, args: Sequence[Any], made: Any) -> str | None:
    """Judge what such a call returned: it must carry the signal back, or not depend on the image's values."""
    if isinstance(made, Tensor) and made.requires_grad:
        return None
    # What returns nothing has changed its first argument.
    results = list(_flat(args[:1] if made is None else made))
    silent = any(isinstance(each, Tensor) and not each.requires_grad for each in results)
    if POOLS.fullmatch(name):
        silent = silent and not any(isinstance(each, Tensor) and each.requires_grad for each in results)
    reveals = any(not isinstance(each, Tensor | torch.Size | torch.dtype | str | None) for each in results)
    like = _LIKE.fullmatch(name) or (name in _AS and not args[0].requires_grad)
    if (silent and not like) or (reveals and not _ASKING.fullmatch(name)):
        return "what it returns depends on the image, but carries no signal back"
    return None


def may_write(name: str, given: Sequence[Tensor], kwargs: Mapping[str, Any]) -> bool:
    """Return whether a call that changes a part of a tensor in place is linear in what is `given` from the image."""
    return name in _WRITES or (name in _SCALES and len(given) == 1 and not kwargs)


def objection_to_node(node: Node, pooling: Pooling) -> str | None:
    """Judge a node of autograd's graph."""
    if getattr(type(node), "_forward_cls", None) in RULED:
        return None
    name = _function(node)
    if name in _SWITCHED:
        switched = pooling is Pooling.switches
        return None if switched else "this pooling has no switchless way back here; take pooling=switches"
    if is_write(node):
        return "it changes a part of a tensor in place"
    if name not in _LINEAR or getattr(node, "_saved_rounding_mode", None) is not None:
        return "it is neither linear nor a ReLU nor a pooling"
    from_image = [each is not None for each, _ in node.next_functions]
    if sum(from_image) > 1 and name not in _SUMS:
        return "it multiplies two things that both come from the image"
    if name == "Div" and from_image[1:] == [True]:
        return "it divides by what comes from the image"
    if getattr(node, "_saved_training", False):
        return "it normalises with the image's own statistics"
    return None


def is_write(node: Node) -> bool:
    """Return whether the node stands for writing a part of a tensor in place, whatever the written value is."""
    return _function(node) == "CopySlices"


def _function(node: Node) -> str:
    """Return the name of what autograd goes back through, as in NAMEBackward0; "" for a user's own."""
    return "" if hasattr(type(node), "_forward_cls") else _without_suffix(node.name())


@cache
def _without_suffix(name: str) -> str:
    return re.sub(r"Backwards?\d*$", "", name.rpartition("::")[2])


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
        for each in value:
            yield from _flat(each)
    elif isinstance(value, dict):
        yield from tensors([value])
    else:
        yield value
