"""bfloat16 arithmetic on every machine: by native kernels, or rounded around float32 kernels.

precision=bf16 means: factors rounded to bf16, their products summed in float32, the sum rounded to bf16. A
processor without instructions for it does that in software, which made a narrow net 14 times slower than float32.
There torch.autocast calls float32 kernels between the same roundings; all else about it stays as it is.
"""

import os
from collections.abc import Callable
from enum import StrEnum
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.library import Library
from torch.utils._pytree import tree_leaves, tree_map_only

from allcnn.config import Precision
from strive.errors import ConfigError

# Environment variable that forces either way, so that tests can compare the two.
SWITCH = "STRIVE_BF16"

# The operations that autocast computes in bf16, by the dispatcher's names. Recurrent layers are left to torch: it has
# one kernel for a whole layer, within which nothing can be rounded.
_PRODUCTS = (
    *("conv1d", "conv1d.padding", "conv2d", "conv2d.padding", "conv3d", "conv3d.padding"),
    *("conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input", "linear", "matmul", "mm", "bmm", "mv"),
    *("addmm", "addmv", "addbmm", "baddbmm", "bilinear", "linalg_vecdot", "scaled_dot_product_attention"),
)
_KEYS = {"cpu": "AutocastCPU", "cuda": "AutocastCUDA"}


class Bf16(StrEnum):
    """How a device computes in bf16."""

    native = "native"
    rounded = "rounded"  # float32 kernels between roundings to bf16


def bf16_of(precision: Precision, device: torch.device) -> Bf16 | None:
    """Return how a cell of this precision computes on the device; None in float32.

    Raises ConfigError where the environment variable STRIVE_BF16 has another value than native or rounded.
    """
    if precision is not Precision.bf16:
        return None
    if forced := os.environ.get(SWITCH):
        if forced not in list(Bf16):
            raise ConfigError(f"{SWITCH}={forced} in the environment: legal are {', '.join(Bf16)}, or leave it out")
        return Bf16(forced)
    return Bf16.native if _has_native(device.type) else Bf16.rounded


@cache
def _has_native(device: str) -> bool:
    """Return whether the device has instructions for bf16 and torch kernels that use them. Tries nothing out."""
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    if device != "cpu" or not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    # oneDNN reports support for any AVX-512, where it converts in software; on ARM its answer is right.
    return not torch.cpu._is_avx2_supported() or (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Return the context in which a cell's network runs forward."""
    if bf16_of(precision, device) is Bf16.rounded:
        _override_autocast(device.type)
    return torch.autocast(device.type, torch.bfloat16, enabled=precision is Precision.bf16)


@cache
def _override_autocast(device: str) -> Library:
    """Replace autocast's kernels in this process. The library must not be garbage-collected."""
    library = Library("aten", "IMPL")
    for name in _PRODUCTS:
        # If autocast does not handle it on this device, the operations that it consists of are overridden.
        if torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", _KEYS[device]):
            operation, _, overload = name.partition(".")
            function = getattr(getattr(torch.ops.aten, operation), overload or "default")
            library.impl(name, partial(_product, function, device), _KEYS[device])
    return library


def _product(function: Callable[..., Any], device: str, *args: Any, **kwargs: Any) -> Any:
    """Call the function as autocast would, or in float32 between roundings, where autocast is on."""
    factors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    cast: Callable[[Tensor], Tensor] = _rounded
    if any(factor.dtype is torch.float64 for factor in factors):
        cast = _untouched  # autocast leaves them alone
    elif torch.get_autocast_dtype(device) is not torch.bfloat16 or bf16_of(Precision.bf16, torch.device(device)) is (
        Bf16.native
    ):
        cast = partial(_as_type, torch.get_autocast_dtype(device))
    args, kwargs = tree_map_only(Tensor, cast, (args, kwargs))
    with torch.autocast(device, enabled=False):
        result = function(*args, **kwargs)
    # Casts round gradients as they round values, so that backward passes follow the same rule.
    return result.to(torch.bfloat16) if cast is _rounded else result


def _rounded(factor: Tensor) -> Tensor:
    return _as_type(torch.bfloat16, factor).float() if factor.is_floating_point() else factor


def _as_type(dtype: torch.dtype, factor: Tensor) -> Tensor:
    return factor.to(dtype) if factor.is_floating_point() else factor


def _untouched(factor: Tensor) -> Tensor:
    return factor
