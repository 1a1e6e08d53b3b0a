"""Random numbers without state: each is a function of (seed, purpose, step, element).

A cell can stop, resume, move to another device and be run again bit for bit, and switching
augmentation off changes nothing else. Arithmetic is int32 with wrap-around, which every device
computes alike.
"""

import hashlib
from collections.abc import Callable
from functools import cache, lru_cache

import torch
from torch import Tensor

# Multipliers of the 'lowbias32' integer hash (C. Wellons, 'Prospecting for Hash Functions', 2018)
# and the odd number nearest 2^32 / golden ratio, all as signed int32.
_M1, _M2, _GOLDEN = 0x7FEB352D, 0x846CA68B - 2**32, 0x9E3779B9 - 2**32


def number(*parts: int | str) -> int:
    """Return a whole number in [0, 2^63) that depends on all the parts."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """Return a CPU generator that is used once and thrown away."""
    return torch.Generator().manual_seed(number(*parts))


def key(seed: int, purpose: str, step: int) -> Tensor:
    """Return the int32 scalar that selects one stream of `bits`."""
    return torch.tensor(number(seed, purpose, step) % 2**32 - 2**31, dtype=torch.int32)


def keys(seed: int, purpose: str, steps: range) -> Tensor:
    """Return int32 [len(steps)], the `key` of each step."""
    start = hashlib.blake2b(f"{seed}/{purpose}/".encode(), digest_size=8)
    numbers = []
    for step in steps:
        # What `number` hashes, of which all but the end is the same.
        digest = start.copy()
        digest.update(b"%d" % step)
        numbers.append((int.from_bytes(digest.digest(), "big") >> 1) % 2**32 - 2**31)
    return torch.tensor(numbers, dtype=torch.int32)


Streams = Callable[[str], Tensor]  # from a purpose to its `key` in one step of one cell, on the device


def streams(seed: int, step: int, device: torch.device) -> Streams:
    """Return the streams of one step."""
    return lambda purpose: key(seed, purpose, step).to(device)


def bits(stream: Tensor, elements: Tensor) -> Tensor:
    """Return one int32 for each element, uniform over the whole range.

    stream: int32 scalar of `key`; elements: what `enumerated` returns. Only the high bits are
    well mixed: compare the result, or shift it right, but do not mask its low bits.
    """
    mixed = elements ^ stream
    mixed ^= (mixed >> 16) & 0xFFFF
    mixed *= _M1
    mixed ^= (mixed >> 15) & 0x1FFFF
    mixed *= _M2
    return mixed


def enumerated(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return int32 [*shape]: the elements' numbers, multiplied so that neighbours differ in all bits.

    Four dimensions are laid out channels_last, as activations are, but numbered in [n, c, h, w]
    order: the memory layout does not change what is drawn.
    """
    if torch.compiler.is_compiling():
        # A compiled graph computes the numbers where it needs them, and warns of a cache.
        return _enumerate(shape, device)
    return _row(*shape, device) if len(shape) == 1 else _maps(shape, device)


def _enumerate(shape: tuple[int, ...], device: torch.device) -> Tensor:
    count = 1
    for size in shape:
        count *= size
    numbers = (torch.arange(count, dtype=torch.int64, device=device) * _GOLDEN).to(torch.int32)
    numbers = numbers.view(shape)
    return numbers.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else numbers


@lru_cache(maxsize=16)
def _maps(shape: tuple[int, ...], device: torch.device) -> Tensor:
    return _enumerate(shape, device)


# Small, and never forgotten: a CUDA graph reads the one that was there when it was captured.
@cache
def _row(count: int, device: torch.device) -> Tensor:
    return _enumerate((count,), device)


def drawn(stream: Tensor, count: int) -> Tensor:
    """Return `bits` int32 [*stream, count] of elements 0 to count - 1.

    stream: int32 scalar of `key`, or some at once. What it returned for one key is such a stream, too.
    """
    return bits(stream[..., None], enumerated((count,), stream.device))


def _first_bits(stream: Tensor, count: int) -> Tensor:
    return stream[:count] if stream.dim() else drawn(stream, count)


def integers(stream: Tensor, count: int, high: int) -> Tensor:
    """Return int64 [count], uniform over 0 <= value < high; high at most 32,768.

    stream: int32 scalar of `key`, or what `drawn` made of it.
    """
    assert 0 < high <= 32_768
    top = (_first_bits(stream, count) >> 16) & 0xFFFF
    return (top.to(torch.int64) * high) >> 16


def uniform(stream: Tensor, count: int) -> Tensor:
    """Return float32 [count], uniform over [0, 1) in steps of 2^-24. stream: as for `integers`."""
    top = (_first_bits(stream, count) >> 8) & 0xFFFFFF
    return top.to(torch.float32) / 2**24


def threshold(share: float) -> int:
    """Return t such that `bits < t` holds for this share of elements, 0 <= share < 1."""
    return round(share * 2**32) - 2**31
