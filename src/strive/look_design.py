"""At how many seeds the lines of a table are looked at, and with what level: what is legal. Imports nothing heavy."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

MOST_LOOKS = 20  # these take eight seconds to prepare, ten looks two, five less than one
ALPHA, SHAPE = 0.05, 0.25  # where a sweep file says nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class LookDesign:
    """When a table is looked at, and with what level in all. Raises ValueError for illegal values."""

    looks: tuple[int, ...]  # seeds at each look, rising, each at least 2
    alpha: float = ALPHA  # two-sided, over all looks and lines: alpha / 2 for each of the two verdicts
    shape: float = SHAPE  # 0: early looks hardly reject (O'Brien-Fleming type); 0.5: one level for all (Pocock type)

    def __post_init__(self) -> None:
        """Check the values."""
        if faults := [*look_faults(list(self.looks), self.alpha, self.shape)]:
            raise ValueError("; ".join(faults))


def look_faults(looks: Any, alpha: Any, shape: Any) -> Iterator[str]:
    """Yield what is wrong with the values of a design, whatever they are, and what is legal: a clause each."""
    rising = (
        isinstance(looks, list)
        and 1 <= len(looks) <= MOST_LOOKS
        and all(type(each) is int and each >= 2 for each in looks)
        and all(one < other for one, other in pairwise(looks))
    )
    if not rising:
        yield (
            f"looks must be 1 to {MOST_LOOKS} rising numbers of seeds, each 2 or more, such as [5, 8, 12, 20]; got"
            f" {looks!r}"
        )
    if not (_is_number(alpha) and 1e-6 <= alpha <= 0.5):
        yield f"alpha must be from 1e-6 to 0.5, got {alpha!r}"
    if not (_is_number(shape) and 0 <= shape <= 0.5):
        yield f"shape must be from 0 (O'Brien-Fleming type) to 0.5 (Pocock type), got {shape!r}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
