"""The report of bench/gpu_check.py, as one JSON file and one Markdown page."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gpu_arms import Setup
from gpu_correctness import Finding
from gpu_speed import GpuPeak, SpeedRow, legend, table


@dataclass(frozen=True)
class CheckResult:
    """A check of correctness and how it ended."""

    check: str
    says: str  # what holds if it passed
    net: str
    compiled: bool
    seconds: float
    finding: Finding


@dataclass
class CheckReport:
    """The content of the two files."""

    out: Path
    where: Mapping[str, str]
    smoke: bool
    limit_seconds: float
    checks: list[CheckResult] = field(default_factory=list)
    rows: list[SpeedRow] = field(default_factory=list)
    calibrated: dict[str, int] = field(default_factory=dict)  # cells side by side that a sweep would choose, by net
    skipped: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    legend: str = ""
    at: str = ""  # the part that is running

    @property
    def failed(self) -> bool:
        """Whether a check failed, or a part could not be done, or nothing was checked."""
        return bool(self.errors) or not self.checks or not all(each.finding.passed for each in self.checks)

    def legend_of(self, setup: Setup, gpu_peak: GpuPeak, rounds: int) -> None:
        """Keep what the columns of the speed table mean."""
        self.legend = legend(setup, gpu_peak, rounds)

    def write(self, seconds: float, *, complete: bool = False) -> None:
        """Write both files, each whole or not at all."""
        self.out.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("gpu_check.json", json.dumps(self.as_json(seconds, complete=complete), indent=1, allow_nan=False) + "\n"),
            ("gpu_check.md", self.markdown(seconds, complete=complete) + "\n"),
        ):
            fresh = self.out / f".{name}"
            fresh.write_text(text)
            os.replace(fresh, self.out / name)

    def as_json(self, seconds: float, *, complete: bool) -> dict[str, object]:
        """Return the report as plain values."""
        return {
            "schema": 1,
            "complete": complete,
            "failed": self.failed,
            "smoke": self.smoke,
            "where": dict(self.where),
            "seconds": round(seconds, 1),
            "limit_seconds": self.limit_seconds,
            "checks": [_plain(asdict(each)) for each in self.checks],
            "speed": [_plain(asdict(row)) for row in self.rows],
            "cells_at_once": self.calibrated,
            "skipped": self.skipped,
            "errors": self.errors,
        }

    def markdown(self, seconds: float, *, complete: bool) -> str:
        """Return the page."""
        passed = sum(each.finding.passed for each in self.checks)
        head = f"{passed} of {len(self.checks)} checks passed, {len(self.skipped)} parts left out, {seconds:.0f} s."
        if self.smoke:
            head += " A smoke run of tiny nets: no number here says anything about speed."
        if not complete:
            head += f" Not complete: still at {self.at}."
        parts = [f"# Training on a GPU, checked and timed\n\n{head}", self._checks()]
        if self.rows:
            parts.append(f"## Speed\n\n{table(self.rows)}\n\n{self.legend}")
        if self.calibrated:
            chosen = ", ".join(f"{net} {cells}" for net, cells in self.calibrated.items())
            parts.append(f"Cells side by side that a sweep would choose here: {chosen}.")
        for title, lines in (("Left out for lack of time", self.skipped), ("Errors", self.errors)):
            if lines:
                parts.append(f"## {title}\n\n" + "\n".join(f"- {_flat(line)}" for line in lines))
        parts.append("\n".join(f"{what}: {which}  " for what, which in self.where.items()).rstrip())
        return "\n\n".join(parts)

    def _checks(self) -> str:
        lines = ["## Checks", "", "| check | net | compiled | passed | found | s |", "|---|---|---|---|---|---|"]
        for each in self.checks:
            passed = "yes" if each.finding.passed else "**no**"
            lines.append(
                f"| {each.check} | {each.net} | {'yes' if each.compiled else 'no'} | {passed}"
                f" | {_flat(each.finding.note)} | {each.seconds:.1f} |"
            )
        says = {each.check: each.says for each in self.checks}
        return "\n".join([*lines, "", *(f"- {check}: {text}" for check, text in says.items())])


def _plain(values: Any) -> Any:
    """Return the values without numbers that JSON does not know."""
    if isinstance(values, dict):
        return {key: _plain(value) for key, value in values.items()}
    return None if isinstance(values, float) and not math.isfinite(values) else values


def _flat(text: str) -> str:
    """Return a text that stays in its cell or item."""
    return text.replace("|", "\\|").replace("\n", " / ")
