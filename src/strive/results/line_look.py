"""The state of one line of a table after the looks at it so far."""

from collections.abc import Sequence
from dataclasses import dataclass

from strive.statistics.inference import Verdict
from strive.statistics.looks import LineVerdict, largest_death_rate


@dataclass(frozen=True, kw_only=True, slots=True)
class LineLook:
    """A line's newest verdict, and the looks that were planned."""

    line: LineVerdict
    looks: tuple[int, ...]  # number of seeds at each look

    @property
    def decided(self) -> bool:
        """Return whether it has a verdict."""
        return self.line.verdict is not Verdict.undecided

    @property
    def n(self) -> int:
        """Return the number of seeds at its newest look; 0 before the first."""
        return self.line.n

    @property
    def needs(self) -> int:
        """Return how many seeds its next look needs; without a next one, how many its newest look had."""
        return self.looks[self.line.next_look] if self.line.next_look is not None else self.n

    @property
    def waits(self) -> bool:
        """Return whether it needs more seeds than it has."""
        return self.line.next_look is not None

    @property
    def left_alone(self) -> bool:
        """Return whether it stopped undecided, because more seeds would hardly decide it."""
        return not self.decided and not self.waits and self.line.look is not None and self.n < self.looks[-1]

    @property
    def at(self) -> str:
        """Return the newest look, such as look 2 of 4, n = 8."""
        if self.line.look is None:
            return "no look yet"
        return f"look {self.line.look + 1} of {len(self.looks)}, n = {self.n}"

    @property
    def verdict(self) -> str:
        """Return the verdict in words, and why there is none."""
        if self.decided or not self.line.reason:
            return self.line.verdict.value
        undecided = Verdict.undecided.value
        return self.line.reason if self.line.reason.startswith(undecided) else f"{undecided}: {self.line.reason}"

    @property
    def died(self) -> str:
        """Return how many pairs died, and up to which rate they do by that, such as 0 of 8, rate up to 31%."""
        if not self.n:
            return "-"
        rate = largest_death_rate(self.line.dead_pairs, self.n)
        return f"{self.line.dead_pairs} of {self.n}, rate up to {100 * rate:.0f}%"


def looks_text(looks: Sequence[int]) -> str:
    """Return when a table is looked at, such as looks planned at 5, 8 and 12 seeds."""
    *first, last = map(str, looks)
    planned = "looks planned" if first else "one look planned"
    return f"{planned} at {' and '.join([', '.join(first), last]) if first else last} seeds"
