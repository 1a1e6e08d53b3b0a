"""Name, group, tags, config and summary of a cell on W&B. Imports neither W&B nor torch."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from strive import app
from strive.cells.records import Provenance
from strive.config import identity
from strive.config.keys import defaults
from strive.errors import RecordError
from strive.sweeps.plan import StoredPlan
from strive.trackers.cell_files import CellFiles

# Names that no Hydra group has: a parameter `model` of a W&B sweep would lock the config's own `model`.
_FACTORS = {
    "model.base": "base",
    "model.variant": "variant",
    "augment.kind": "augmentation",
    "data.name": "dataset",
    "optimizer.lr": "lr",
    "seed": "seed",
}
# arms: {sweep: arm}, because a cell may stand in several sweeps, under another name in each.
CONFIG_KEYS = ("net", *_FACTORS.values(), "sweep", "arm", "arms")
EPOCH_KEYS = ("epoch", "lr", "train_loss", "train_error", "val_loss", "val_error")
SUMMARY_KEYS = (
    "status",
    "cause",
    "test_error",
    "test_loss",
    "best_val_error",
    "best_val_epoch",
    "parameters",
    "train_seconds",
    "images_per_second",
    "peak_memory_gb",
    "host",
    "device",
    "resumes",
    "code_hash",
    "record",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """How W&B shows a cell."""

    name: str
    group: str  # the sweep
    tags: list[str]
    config: dict[str, Any]


class Plans:
    """The sweeps below a runs folder, read again when one changes."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._read: dict[Path, tuple[int, StoredPlan | None, dict[str, str]]] = {}

    def of(self, cell: str) -> dict[str, str]:
        """Return {plan name: the cell's arm in it} of the plans that hold a cell, in order of their names."""
        self._look()
        return {path.parent.name: arms[cell] for path, (_, _, arms) in sorted(self._read.items()) if cell in arms}

    def factors(self, name: str) -> list[str]:
        """Return the knobs that vary over a sweep."""
        _, plan, _ = self._read.get(self._runs / "sweeps" / name / "plan.json", (0, None, {}))
        return plan.varying if plan else []

    def common(self, name: str) -> dict[str, Any]:
        """Return the knobs that all cells of a sweep share."""
        self._look()
        _, plan, _ = self._read.get(self._runs / "sweeps" / name / "plan.json", (0, None, {}))
        return plan.common if plan else {}

    def _look(self) -> None:
        for path in (self._runs / "sweeps").glob("*/plan.json"):
            try:
                changed = path.stat().st_mtime_ns
                if path in self._read and self._read[path][0] == changed:
                    continue
                plan = StoredPlan.read(path.parent)
                self._read[path] = (changed, plan, {cell.cell: cell.arm for cell in plan.cells})
            except (OSError, RecordError):
                self._read[path] = (0, None, {})  # analysis says what is wrong with it


def config_key(knob: str) -> str:
    """Return the flat key that W&B has a knob under: its last part, or all of it where something else has that."""
    if knob in _FACTORS:
        return _FACTORS[knob]
    if identity.is_argument(knob):
        own = knob.removeprefix(f"{identity.KWARGS}.").replace(".", "_")
        taken = own in _groups() or own in CONFIG_KEYS or own in _last_parts()
        return knob.replace(".", "_") if taken else own
    last = knob.rpartition(".")[2]
    taken = last in _groups() or last in CONFIG_KEYS or _last_parts()[last] > 1
    return knob.replace(".", "_") if taken else last


def tag(text: str) -> str:
    """Return a tag as W&B takes it, of at most 64 characters."""
    return text[:64]


def label_of(files: CellFiles, plans: Plans, *, group: str = "") -> Label:
    """Return how W&B shows a cell.

    group: the sweep that it was first shown under, which it keeps; "" takes the first that holds it.
    """
    arms = plans.of(files.cell)
    group = group if group in arms else next(iter(arms), "")
    arm = arms.get(group, "")
    own = {config_key(key): value for name in arms for key, value in _varying(files, plans.factors(name)).items()}
    return Label(
        name=" ".join([files.cell.rpartition("-")[0], *([arm] if arm else _texts(own))]),
        group=group,
        tags=_tags(files, arms),
        config=own
        | _factors(files)
        | {"sweep": group, "arm": arm, "arms": arms, "cell": identity.nested(files.config)},
    )


def _factors(files: CellFiles) -> dict[str, Any]:
    config = files.config
    factors = {"net": app.current().label(identity.config_of(config))}
    factors |= {name: config[key] for key, name in _FACTORS.items()}
    if config["model.family"] != "paper":
        del factors["base"], factors["variant"]  # which only the paper's nets have
    return factors


def _varying(files: CellFiles, factors: Sequence[str]) -> dict[str, Any]:
    config = identity.with_argument_keys(files.config)
    return {key: config[key] for key in factors if key not in _FACTORS and key in config}


@cache
def _groups() -> frozenset[str]:
    return frozenset(key.partition(".")[0] for key in defaults())


@cache
def _last_parts() -> Counter[str]:
    """Return how many keys end in each name, such as lr of optimizer.lr."""
    return Counter(key.rpartition(".")[2] for key in defaults())


def _texts(values: dict[str, Any]) -> list[str]:
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items()]


def _tags(files: CellFiles, sweeps: Iterable[str]) -> list[str]:
    factors = _factors(files)
    values = [factors.get("base"), factors.get("variant"), factors["augmentation"], factors["dataset"], *sweeps]
    return list(dict.fromkeys(tag(str(value)) for value in values if value))


def summary_of(files: CellFiles) -> dict[str, Any]:
    """Return what W&B shows of a cell beside its last epoch's numbers; keys without a value are left out."""
    record = files.record
    summary: dict[str, Any] = {"status": files.state, **_best(files)}
    if record is None:
        return summary
    if record.failure is not None:
        summary["cause"] = record.failure.cause
    summary |= {name: record.metrics.get(name) for name in ("test_error", "test_loss", "parameters")}
    summary |= _made(record.provenance) | {"record": files.record_text}
    return {key: value for key, value in summary.items() if value is not None}


def _best(files: CellFiles) -> dict[str, Any]:
    scored = [row for row in files.rows(0) if "val_error" in row]
    if not scored:
        return {}
    best = min(scored, key=lambda row: (float(row["val_error"]), int(row["epoch"])))
    return {"best_val_error": best["val_error"], "best_val_epoch": best["epoch"]}


def _made(provenance: Provenance) -> dict[str, Any]:
    return {
        "train_seconds": round(provenance.seconds, 3),
        "images_per_second": _rounded(provenance.details.get("images_per_second")),
        "peak_memory_gb": round(provenance.peak_memory_bytes / 1e9, 3),
        "host": provenance.host,
        "device": provenance.device,
        "resumes": provenance.resumes,
        "code_hash": provenance.code_hash,
    }


def _rounded(value: object) -> float | None:
    return round(value, 1) if isinstance(value, int | float) else None
