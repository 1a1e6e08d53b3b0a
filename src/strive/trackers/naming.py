"""Name, group, tags, config and summary of a cell on W&B. Imports neither W&B nor torch."""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from strive import app
from strive.cells.metrics import Better, better_of
from strive.cells.records import Provenance, Status
from strive.config import identity
from strive.errors import RecordError
from strive.sweeps.labels import Labels
from strive.sweeps.plan import StoredPlan
from strive.trackers.cell_files import CellFiles, step_name

STATUS = "status"  # in the summary, and key of the tag of a diverged cell
_TAG = 64  # characters that W&B takes
# arms: {sweep: arm}, because a cell may stand in several sweeps, under another name in each.
CONFIG_KEYS = ("net", "sweep", "arm", "arms")  # and the flat names of an app's labels


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """How W&B shows a cell."""

    name: str
    group: str  # the sweep
    tags: list[str]
    config: dict[str, Any]


@lru_cache(maxsize=1024)
def _plan(folder: Path, changed: int) -> tuple[StoredPlan, dict[str, str]]:
    """Return a plan and its {cell: arm}. changed: when it was, so that it is read again after that."""
    plan = StoredPlan.read(folder)
    return plan, {cell.cell: cell.arm for cell in plan.cells}


def _plans_with(cell: str, runs: Path) -> dict[str, tuple[StoredPlan, str]]:
    """Return {sweep: its plan, the cell's arm in it} of the sweeps that hold a cell, in order of their names."""
    found = {}
    for path in sorted((runs / "sweeps").glob("*/plan.json")):
        with suppress(OSError, RecordError):  # tables say what is wrong with it
            plan, arms = _plan(path.parent, path.stat().st_mtime_ns)
            if cell in arms:
                found[path.parent.name] = plan, arms[cell]
    return found


def config_key(knob: str, keys: Collection[str], labels: Labels) -> str:
    """Return the flat key that W&B has a knob under: its last part, or all of it where something else has that.

    keys: all knobs of the cell. An app's own names are those of no Hydra group: a parameter `model` of a W&B sweep
    would lock the config's own `model`.
    """
    if knob in labels.flat:
        return labels.flat[knob]
    last = knob.rpartition(".")[2]
    own, alone = last, 1
    if identity.is_open_key(knob):
        own, alone = identity.argument_name(knob).replace(".", "_"), 0
    groups = {key.partition(".")[0] for key in keys}
    same = sum(key.rpartition(".")[2] == own for key in keys if not identity.is_open_key(key))
    taken = own in groups or own in (*CONFIG_KEYS, *labels.flat.values()) or same > alone
    return knob.replace(".", "_") if taken else own


def tag(key: str, value: str) -> str:
    """Return KEY:VALUE as W&B takes it, in at most 64 characters; "" where the key alone leaves no room.

    The value is shortened, never the key, and values that differ stay different.
    """
    if len(whole := f"{key}:{value}") <= _TAG:
        return whole
    end = f"~{hashlib.sha256(value.encode()).hexdigest()[:6]}"
    room = _TAG - len(f"{key}:{end}")
    return f"{key}:{value[:room]}{end}" if room > 0 else ""


def label_of(files: CellFiles, runs: Path, *, group: str = "") -> Label:
    """Return how W&B shows a cell.

    runs: folder whose sweeps may hold it. group: the sweep that it was first shown under, which it keeps; "" takes the
    first that holds it.
    """
    plans = _plans_with(files.cell, runs)
    arms = {name: arm for name, (_, arm) in plans.items()}
    group = group if group in arms else next(iter(arms), "")
    arm = arms.get(group, "")
    labels = app.in_use().labels()
    flat = identity.with_argument_keys(files.config)
    varying = {key: flat[key] for plan, _ in plans.values() for key in plan.varying if key in flat}
    names = {key: config_key(key, files.config, labels) for key in varying}
    own = {names[key]: value for key, value in varying.items() if key not in labels.flat}
    factors = _factors(files, labels)
    tagged = {name: factors[name] for name in labels.tags if name in factors}
    tagged |= {names[key]: value for key, value in varying.items() if key != app.in_use().seed}
    pairs = [*_texts(tagged), *(("arm", each) for each in arms.values()), *(("sweep", name) for name in arms)]
    return Label(
        name=" ".join([files.cell.rpartition("-")[0], *([arm] if arm else map("=".join, _texts(own)))]),
        group=group,
        tags=_tags(pairs, files),
        config=own | factors | {"sweep": group, "arm": arm, "arms": arms, "cell": identity.nested(files.config)},
    )


def _factors(files: CellFiles, labels: Labels) -> dict[str, Any]:
    config, net = files.config, files.cell.partition("-")[0]
    factors = {"net": net} | {name: config[key] for key, name in labels.flat.items() if key in config}
    for joint in labels.names:
        if joint.of(config) is None:  # another net has these keys, too, at values that say nothing
            for key in joint.keys:
                factors.pop(labels.flat.get(key, ""), None)
    return factors


def _texts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in values.items()]


def _tags(pairs: Iterable[tuple[str, str]], files: CellFiles) -> list[str]:
    """Return the tags of these keys and values; that a cell diverged is one, as W&B's own state is finished."""
    ended = [(STATUS, files.state)] if files.state == Status.diverged else []
    return list(dict.fromkeys(filter(None, (tag(key, value) for key, value in (*pairs, *ended) if value))))


def summary_of(files: CellFiles) -> dict[str, Any]:
    """Return what W&B shows of a cell beside its last step's numbers; keys without a value are left out.

    status, cause, record, a record's metrics and circumstances, and best_NAME and best_NAME_step of what was logged on
    held-out data.
    """
    record = files.record
    summary: dict[str, Any] = {STATUS: files.state, **_best(files)}
    if record is None:
        return summary
    summary["cause"] = record.failure.cause if record.failure is not None else record.cause or None
    summary |= {name: value for name, value in record.metrics.items() if name not in summary}
    summary |= _made(record.provenance) | {"record": files.record_text}
    return {key: value for key, value in summary.items() if value is not None}


def _best(files: CellFiles) -> dict[str, Any]:
    """Return the best value, and its step, of each number that was logged on held-out data: val_error, val/acc."""
    found: dict[str, Any] = {}
    rows, step = files.rows(0), step_name()
    for name in dict.fromkeys(name for row in rows for name in row if re.match(r"val[^a-z]", name)):
        better = better_of(name)
        scored = [row for row in rows if name in row]
        if better is not None:
            sign = -1 if better is Better.higher else 1
            best = min(scored, key=lambda row: (sign * float(row[name]), int(row[step])))
            found |= {f"best_{name}": best[name], f"best_{name}_{step}": best[step]}
    return found


def _made(provenance: Provenance) -> dict[str, Any]:
    speed = provenance.details.get("images_per_second")
    return {
        "train_seconds": round(provenance.seconds, 3),
        "images_per_second": round(speed, 1) if isinstance(speed, int | float) else None,
        "peak_memory_gb": round(provenance.peak_memory_bytes / 1e9, 3),
        "host": provenance.host,
        "device": provenance.device,
        "resumes": provenance.resumes,
        "code_hash": provenance.code_hash,
    }
