"""Reproduction of a cell: its config from its record, and comparison of the two records.

Imports torch only for training, so that comparing and refusing are quick.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from strive import app
from strive.cells import records
from strive.cells.metrics import last_word, result_text
from strive.cells.records import Record, data_text
from strive.cells.task import task_of
from strive.code.hash import changed_files_text
from strive.code.same_code import same_code
from strive.config import identity
from strive.config.keys import knobs
from strive.config.platform_keys import CellConfig
from strive.errors import ConfigError, RecordError

# Fields that may affect the last bits, or that show that other code or images were used.
_MAY_MATTER = (
    "code_hash", "data_fingerprint", "device", "threads", "layout", "compiled", "bf16", "fast", "torch", "python",
    "strive", "inexact", "host",
)  # fmt: skip
_SETTABLE = ("data.", "trainer.")


def config_again(record: Record, into: Path, overrides: Mapping[str, str]) -> Any:
    """Return the config that trains a record's cell again, with the same device and number of threads.

    into: the folder for the new record. overrides: {key: value} of logistics.

    Raises ConfigError for an override that would make it another cell or that has an illegal value;
    OmegaConf's errors for a value of the wrong type; RecordError for a record whose config has another id
    in this version.
    """
    _check(overrides)
    given = app.in_use().logistics_of(record) | {"runs": str(into)}
    node = OmegaConf.structured(app.in_use().config_of(record.flat | given))
    for key, value in overrides.items():
        OmegaConf.update(node, key, value)
    flat = app.in_use().flat(OmegaConf.to_object(node))
    config = app.in_use().of_task(task_of(app.in_use().config_of(flat)))
    if (cell := identity.cell_id(config)) != record.cell:
        raise RecordError(f"{record.cell}: in this version of strive its config is that of {cell}")
    return config


def known_differences(record: Record, config: CellConfig, runs: Path | None = None) -> list[str]:
    """Return lines on the differences that are known before training and may change the last bits.

    runs: the folder of the record.
    """
    code = app.in_use().code_of(record.config)
    here = {"code_hash": code.hash} | app.in_use().surroundings(config)
    if code.hash in same_code(record.provenance.code_hash, record.config, runs):
        del here["code_hash"]
    made = provenance_values(record)
    pairs = {name: (made.get(name, ""), value) for name, value in here.items()}
    lines = [f"  {name}: {before}, here {now}" for name, (before, now) in _unlike(pairs).items()]
    changed = changed_files_text(record.provenance.code_files, code.files) if "code_hash" in here else ""
    return [*lines, *([f"    changed since: {changed}"] if changed else [])]


def differing(first: Record, again: Record) -> dict[str, tuple[Any, Any]]:
    """Return {name: (value, value again)} for the results in which two records are not bit-identical."""
    before, after = _comparable(first), _comparable(again)
    pairs = {name: (before.get(name), after.get(name)) for name in {**before, **after}}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _comparable(record: Record) -> dict[str, Any]:
    """Return a record's result without measured times, which are never the same twice."""
    return {name: value for name, value in record.result.items() if last_word(name) != "seconds"}


def provenance_values(record: Record) -> dict[str, Any]:
    """Return {name: value} of a record's provenance, with its packages, details and data."""
    made = record.provenance
    own = {name: getattr(made, name) for name in made.__struct_fields__ if name not in ("packages", "details")}
    return {**made.details, **made.packages, **own, "data_fingerprint": data_text(record.data)}


def other_differences(first: Record, again: Record) -> dict[str, tuple[Any, Any]]:
    """Return {name: (value, value again)} for the other differences, which may be the reason."""
    before, after = provenance_values(first), provenance_values(again)
    return _unlike({name: (before.get(name, ""), after.get(name, "")) for name in _MAY_MATTER})


def _unlike(pairs: Mapping[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    # Older records without this field do not show how they computed in bf16.
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] and not (name == "bf16" and "" in pair)}


def verdict(first: Path, again: Path) -> tuple[bool, list[str]]:
    """Return whether two records of a cell agree to the last bit, and lines on their differences.

    Raises RecordError for a file that cannot be trusted, or a record without a result.
    """
    old, new = records.read_record(first), records.read_record(again)
    if old.failure is not None:
        raise RecordError(without_result(old))
    if new.failure is not None:
        lines = [f"different: it was {old.status.value}, and now ended as {new.status.value}: {new.failure.cause}"]
        same = False
    else:
        found = differing(old, new)
        same = not found and old.status is new.status
        lines = list(_result_lines(old, new, found))
        if "predictions_sha256" in found:
            lines += _prediction_lines(first.parent, again.parent)
    return same, lines + list(_surrounding_lines(old, new, first.parent.parent))


def without_result(record: Record) -> str:
    """Return the error message for a comparison with a record of a failure."""
    cause = record.failure.cause if record.failure else ""
    return (
        f"{record.cell} has no result to compare with: {record.status.value}: {cause}\n"
        "  train it with the command that it was launched with; what failed is tried again"
    )


def _check(overrides: Mapping[str, str]) -> None:
    science = {key: meaning.science for key, meaning, _ in knobs(app.in_use().config_class())}
    logistics = ", ".join(key for key, decides in science.items() if not decides and key.startswith(_SETTABLE))
    for key, value in overrides.items():
        if science.get(key):
            raise ConfigError(
                f"{key}={value} would make it another cell; here only {logistics} can be set."
                f" Another cell is trained by the app: {key}={value} in its command line"
            )
        if key not in science or not key.startswith(_SETTABLE):
            raise ConfigError(f"there is no key {key}; here {logistics} can be set")


def _result_lines(old: Record, new: Record, found: Mapping[str, tuple[Any, Any]]) -> Iterator[str]:
    count = len(_comparable(new))
    if not found and old.status is new.status:
        yield f"identical: all {count} numbers of the result agree to the last bit"
        yield f"  {new.status.value}, {result_text(new.metrics)}"
        if times := sorted(new.result.keys() - _comparable(new).keys()):
            yield f"  measured times are not compared: {', '.join(times)}"
        return
    yield f"different: {len(found)} of {count} numbers of the result"
    if old.status is not new.status:
        yield f"  status: {old.status.value}, now {new.status.value}"
    for name, (before, after) in found.items():
        yield f"  {name}: {_text(before)}, now {_text(after)}{_change(before, after)}"


def _text(value: Any) -> str:
    if value is None:
        return "none"
    # The start of a hash is enough to see that two differ.
    return f"{value[:10]}..." if isinstance(value, str) and len(value) == 64 else str(value)


def _change(before: Any, after: Any) -> str:
    if not all(isinstance(value, int | float) for value in (before, after)):
        return ""
    share = f", {abs(after - before) / abs(before):.2g} of it" if before else ""
    return f" ({after - before:+.3g}{share})"


def _prediction_lines(first: Path, again: Path) -> list[str]:
    """Return lines on the differences in the predictions for the test images, if both files still exist."""
    try:
        old, new = (np.load(folder / "predictions.npz")["logits"] for folder in (first, again))
    except (OSError, ValueError, KeyError):
        return []
    if old.shape != new.shape:
        return [f"  predictions: {list(old.shape)} numbers, now {list(new.shape)}"]
    others = int((old.argmax(axis=1) != new.argmax(axis=1)).sum())
    largest = float(np.abs(old - new).max())
    far = f"{largest:.3g}" if math.isfinite(largest) else "not finite"
    return [f"  {others} of {len(old)} test images get another class; largest difference of a logit: {far}"]


def _surrounding_lines(old: Record, new: Record, runs: Path) -> Iterator[str]:
    found = other_differences(old, new)
    if not found:
        yield "nothing else differs: code, images, device, threads and versions are the same"
        return
    yield "what else differs:"
    for name, (before, after) in found.items():
        yield f"  {name}: {before}, now {after}"
    if "code_hash" in found:
        if new.provenance.code_hash in same_code(old.provenance.code_hash, old.config, runs):
            yield "    which is known to train the same numbers"
        elif changed := changed_files_text(old.provenance.code_files, new.provenance.code_files):
            yield f"    changed: {changed}"
