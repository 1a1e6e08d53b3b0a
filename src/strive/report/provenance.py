"""Provenance of each number on the page: the cells of each condition, and the values that all of them share."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pandas as pd

from strive.cells.metrics import better_of, is_share
from strive.sweeps.labels import Labels
from strive.tables.summary import SweepSummary

_TITLES = {
    "test_error": "test error, %",
    "val_error": "held-out error, %",
    "train_error": "training error, %",
    "record_sha256": "record's sha256",
    "code_hash": "code",
    "train_seconds": "seconds",
    "finished": "finished, UTC",
    "wandb": "W&B",
    "not_checked": "not checked",
}
_SHORT = ("record_sha256", "data_fingerprint")  # hashes shortened to their first digits
_SHARED = ("code_hash", "data_fingerprint", "device", "host", "torch", "inexact")
_SOME = ("wandb", "not_checked", "dead")  # columns that are often empty
_NOT_COLUMNS = ("ref", "place", "cause", "record")  # group headings, the list of failures, the cell's link
_DIGITS = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class ProvenanceText:
    """One entry of the list."""

    text: str
    whole: str = ""  # the full text, if `text` is shortened
    link: str = ""  # an address
    code: bool = False  # whether it is set in a fixed-width font


@dataclass(frozen=True, kw_only=True, slots=True)
class CellGroup:
    """The cells of the lines with one ref."""

    ref: str
    condition: str
    factors: dict[str, str]
    rows: tuple[tuple[ProvenanceText, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberProvenance:
    """The cells of a sweep's numbers."""

    shared: tuple[tuple[str, ProvenanceText], ...]  # (title, entry) for each value shared by all cells with a record
    titles: tuple[str, ...]
    groups: tuple[CellGroup, ...]


def record_links(sweep: SweepSummary, folder: Path) -> dict[str, str]:
    """Return {cell: address of its record}, relative to the page's folder."""
    there = folder.resolve()
    cells = sweep.footnotes[sweep.footnotes["record"].fillna("") != ""]
    return {
        cell: quote(Path(os.path.relpath(os.path.realpath(record), there)).as_posix())
        for cell, record in zip(cells["cell"], cells["record"], strict=True)
    }


def number_provenance(
    sweep: SweepSummary, records: Mapping[str, str], url_of: Callable[[Path], str]
) -> NumberProvenance:
    """Return the sweep's footnotes by condition, without columns in which all cells agree.

    records: addresses, as record_links. url_of: returns the tracker's address for a cell folder, "" if it has none.
    """
    labels = sweep.loaded.labels
    notes = sweep.footnotes.astype(object).where(sweep.footnotes.notna(), "")
    notes = notes.assign(wandb=[url_of(Path(record).parent) if record else "" for record in notes["record"]])
    shared = {name: value for name in _SHARED if name in notes and (value := _common(notes[name])) is not None}
    columns = [name for name in notes.columns if name not in {*_NOT_COLUMNS, *shared}]
    columns = [name for name in columns if name not in _SOME or notes[name].any()]
    factors = {condition.ref: condition.labels.texts(condition.key) for condition in sweep.conditions}
    rows: dict[tuple[str, str], list[tuple[ProvenanceText, ...]]] = {}
    for ref, condition, *values in notes[["ref", "place", *columns]].to_numpy(object).tolist():
        row = tuple(_text(name, value, labels, records) for name, value in zip(columns, values, strict=True))
        rows.setdefault((ref, condition), []).append(row)
    groups = [
        CellGroup(ref=ref, condition=condition, factors=factors[ref], rows=tuple(found))
        for (ref, condition), found in rows.items()
    ]
    return NumberProvenance(
        shared=tuple(
            (_title(name, labels), _text(name, value, labels, {})) for name, value in shared.items() if value != ""
        ),
        titles=tuple(_title(name, labels) for name in columns),
        groups=tuple(groups),
    )


def _common(values: "pd.Series[Any]") -> Any | None:
    """Return the value shared by all cells that have one, "" if none has; None if they differ."""
    found = list(dict.fromkeys(value for value in values if value != ""))
    return None if len(found) > 1 else (found or [""])[0]


def _title(name: str, labels: Labels) -> str:
    if name == "data_fingerprint":
        return labels.examples
    return _TITLES.get(name, name.replace("_", " "))


def _text(name: str, value: Any, labels: Labels, records: Mapping[str, str]) -> ProvenanceText:
    if value == "":
        return ProvenanceText(text="")
    if isinstance(value, float) and is_share(name):
        return ProvenanceText(text=f"{100 * value:.2f}")
    if isinstance(value, float) and better_of(name) is not None and name != "train_seconds":
        return ProvenanceText(text=f"{value:.4f}")
    if name == "train_seconds":
        return ProvenanceText(text=f"{value:,.0f}" if value >= 10 else f"{value:.2g}")
    text = str(value).replace("_", " ") if name == "status" else labels.text(name, value)
    if name in _SHORT:
        return ProvenanceText(text=text[:_DIGITS], whole=text, code=True)
    if text.startswith(("https://", "http://")):
        return ProvenanceText(text=urlsplit(text).netloc if name == "wandb" else text, link=text)
    if name == "finished":
        return ProvenanceText(text=text[:16].replace("T", " "), whole=text)
    if name == "cell":
        return ProvenanceText(text=text, link=records.get(text, ""), code=True)
    return ProvenanceText(text=text, code=name == "code_hash")


def refs(groups: Sequence[CellGroup]) -> frozenset[str]:
    """Return the refs that lines can link to."""
    return frozenset(group.ref for group in groups)
