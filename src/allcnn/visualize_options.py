"""Options of src/visualize.py: which nets, which figures, and how. Imports no torch."""

import dataclasses
import difflib
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allcnn.config import Config, DeviceChoice
from strive.errors import ConfigError

_FIGURES = ("filters", "patches", "methods", "sanity")
_TARGETS = ("cell", "sweeps", "weights")
_COMMON = ("figure", "runs", "out", "device")
TAKES = {
    "filters": ("units",),
    "patches": ("layer", "units", "top", "split", "batch"),
    "methods": ("images", "seed", "batch"),
    "sanity": ("images", "score_images", "seeds", "split"),
}
OPTIONS = tuple(dict.fromkeys(key for keys in TAKES.values() for key in keys))
_SPLITS = ("train", "val", "test")

Value = Any  # int, str, or tuple of int


@dataclass(frozen=True, kw_only=True, slots=True)
class FigureRequest:
    """The parsed options of src/visualize.py."""

    kind: str  # of target: cell, sweeps or weights
    target: str  # which one
    runs: Path
    figures: tuple[str, ...]
    options: dict[str, Value]  # of the figures
    overrides: list[str]  # of the config, as they were typed
    device: str
    out: Path | None
    command: str


def parse_request(texts: Sequence[str]) -> FigureRequest:
    """Parse KEY=VALUEs; raise ConfigError for what is not legal, before anything is loaded."""
    given = dict(map(pair, texts))
    kind = _kind(given)
    _check_keys(kind, given)
    figure, device, out = given.get("figure", "all"), given.get("device", "auto"), given.get("out", "")
    _check_choice("figure", figure, (*_FIGURES, "all"))
    _check_choice("device", device, tuple(DeviceChoice))
    figures = _FIGURES if figure == "all" else (figure,)
    keys = _option_keys(kind, given, figures)
    if out and Path(out).exists() and not Path(out).is_dir():
        raise ConfigError(f"out={out} is a file; name a folder for the figures")
    own = {*_TARGETS, *_COMMON, *keys}
    # A launch may have given its runs= twice.
    _check_once(texts, own - {"runs", "sweeps"} if kind == "sweeps" else own)
    return FigureRequest(
        kind=kind,
        target=given[kind],
        runs=Path(given.get("runs", "runs")),
        figures=figures,
        options={key: _value(key, given[key], figure) for key in keys},
        overrides=[text for text in texts if text.partition("=")[0] not in own],
        device=device,
        out=Path(out) if out else None,
        command=f"python src/visualize.py {shlex.join(texts)}",
    )


def pair(text: str) -> tuple[str, str]:
    """Return the key and the value of a KEY=VALUE. Raises ConfigError for other text."""
    key, equals, value = text.partition("=")
    if not equals and not text.startswith("~"):
        raise ConfigError(f"{text} is no KEY=VALUE; is cell={text} meant?")
    return key, value.strip("'\"") if key in (*_TARGETS, *_COMMON, *OPTIONS) else value


def _kind(given: Mapping[str, str]) -> str:
    kinds = [key for key in _TARGETS if key in given]
    if len(kinds) != 1:
        raise ConfigError(
            f"give one of cell=ID, sweeps=NAME or weights=FILE, got {' and '.join(kinds) or 'none'};"
            " python src/visualize.py --help shows how"
        )
    return kinds[0]


def _check_keys(kind: str, given: Mapping[str, str]) -> None:
    """Raise ConfigError for an unknown option; keys below a group are checked by the config."""
    known = [*_TARGETS, *_COMMON, *OPTIONS]
    groups = [] if kind == "cell" else [item.name for item in dataclasses.fields(Config)]
    for key in given:
        if key in (*known, *groups) or re.search(r"[./+~@]", key):
            continue
        close = difflib.get_close_matches(key, known, n=3)
        meant = f"; is {' or '.join(close)} meant?" if close else ""
        why = ": a cell is what its record says" if key in {item.name for item in dataclasses.fields(Config)} else ""
        raise ConfigError(f"there is no option {key} with {kind}={why}{meant}\n  options: {', '.join(known)}")


def _option_keys(kind: str, given: Mapping[str, str], figures: Sequence[str]) -> list[str]:
    """Return the options of the figures; raise ConfigError for one that no figure takes."""
    taken = {key for name in figures for key in TAKES[name]}
    keys = [key for key in OPTIONS if key in given]
    # seed= is a key of the config, too: seed=0,1 of a sweep is the launch's, whose overrides name the plan.
    if "seed" in keys and (kind == "sweeps" or (kind == "weights" and "seed" not in taken)):
        keys.remove("seed")
    for key in keys:
        if key not in taken:
            (figure,) = figures  # all of them together take every option
            raise ConfigError(
                f"{key}={given[key]} has no effect on figure={figure}, which takes {', '.join(TAKES[figure])}"
            )
    return keys


def _check_once(texts: Sequence[str], keys: Collection[str]) -> None:
    """Raise ConfigError for one of these keys that was given twice."""
    typed = [text.partition("=")[0] for text in texts]
    for key in typed:
        if key in keys and typed.count(key) > 1:
            same = [text for text, own in zip(texts, typed, strict=True) if own == key]
            raise ConfigError(
                f"{key} is given {len(same)} times, {' and '.join(same)}: give it once, or start the command once for"
                " each"
            )


def _check_choice(key: str, got: str, legal: Sequence[str]) -> None:
    if got not in legal:
        close = difflib.get_close_matches(got, legal, n=1)
        meant = f"; is {close[0]} meant?" if close else ""
        raise ConfigError(f"{key} must be one of {', '.join(legal)}, got {got!r}{meant}")


def _value(key: str, text: str, figure: str) -> Value:
    """Return the option's value, or raise ConfigError with what is legal."""
    if key == "layer":
        return text
    if key == "split":
        _check_choice(key, text, _SPLITS)
        return text
    listed = key in ("units", "images") and figure != "sanity"
    numbers = [part.strip() for part in text.strip("[]()").split(",")]
    if listed and "," in text and numbers[-1] == "":
        numbers.pop()  # units=17, is one unit
    if not all(re.fullmatch(r"[0-9]{1,9}", part) for part in numbers) or (len(numbers) > 1 and not listed):
        several = f", or numbers such as {key}=3,17,40" if listed else ""
        raise ConfigError(f"{key} must be a whole number{several}, got {text!r}")
    if listed and "," in text:
        if len(set(map(int, numbers))) < len(numbers):
            raise ConfigError(f"{key}={text} names one of them twice")
        return tuple(map(int, numbers))
    if int(numbers[0]) < (0 if key == "seed" else 1):
        raise ConfigError(f"{key} must be 1 or more, got {text}")
    return int(numbers[0])
