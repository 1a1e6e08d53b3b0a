"""A sweep's view of W&B as code: which panels, over which keys. Imports wandb, and asks no server.

A panel of W&B cannot choose its W&B runs: all sections of a view share one filter. So each sweep gets a
view of its own, and so do the cells that failed.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import wandb_workspaces.reports.v2.interface as wr
import wandb_workspaces.workspaces as ws

from strive import app
from strive.cells.metrics import Better, is_share, last_word
from strive.errors import LoadError
from strive.sweeps.labels import ARM
from strive.trackers.naming import config_key, tag
from strive.trackers.outline import Outline

FAILURES = "failures"  # the view of all cells of the project that are not done
_TRAIN = "train"  # job type of the W&B runs of cells; those of plans have another
_LOGARITHMIC = ("lr", "learning_rate")  # knobs on a logarithmic axis
_MOST = 100  # lines or bars in a panel; W&B takes 10 unless told
_NOT_IN_NAMES = ("So", "Sk", "Sm", "Sc", "Cs")
_SPEED = {"images_per_second": "images/s", "train_seconds": "s", "peak_memory_gb": "GB"}  # {metric: unit}


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedView:
    """One saved view."""

    sweep: str  # the plan's name; FAILURES for the view of the cells that failed
    key: str  # what tells it from every other view of the project
    workspace: ws.Workspace


def sweep_view(outline: Outline, prefix: str) -> SavedView:
    """Return the view of one sweep: its answer, curves, choices, failures and speed.

    Raises LoadError for a name that cannot be filtered by.
    """
    keys = group_keys(outline.keys, outline)
    values = [outline.value.name]
    if outline.held_out and "val_error" not in values:
        values.append("val_error")
    sections = [
        _section("Answer", _answer(outline, keys, values), columns=2),
        _section("Learning curves", _curves(outline, keys), columns=3),
        _section("What moves it", _choices(outline, values), columns=2),
        _section("Failures", _failures(prefix), columns=2),
        _section("Speed", (_bar(metric, keys, outline) for metric in _SPEED), columns=3),
    ]
    runset = ws.RunsetSettings(
        filters=ws.And(ws.Metric("JobType") == _TRAIN, ws.Tags().isin([_tag(outline.name)])),
        # A panel can group by one key alone; by several only the table of W&B runs can, and the panels follow it.
        groupby=[ws.Config(key) for key in keys] if len(keys) > 1 else [],
        order=[ws.Ordering(ws.Summary(values[0]), ascending=outline.value.better is not Better.higher)],
        pinned_columns=_columns(("status",), (*keys, "seed"), (*values, "cause")),
    )
    return _view(outline.name, f"sweep {outline.name}", prefix, sections, runset, outline.labels.step)


def failures_view(prefix: str) -> SavedView:
    """Return the view of the cells of all sweeps that are neither done nor at work: which, and why."""
    section = _section("Failures", [wr.RunComparer(diff_only="split")], columns=1)
    runset = ws.RunsetSettings(
        filters=ws.And(ws.Metric("JobType") == _TRAIN, ws.Summary("status").notin(["done", "training"])),
        order=[ws.Ordering(ws.Summary("status"), ascending=True)],
        pinned_columns=_columns(("status", "cause"), ("sweep", "net", "arm", "lr", "seed"), ("host", "device")),
    )
    return _view(FAILURES, FAILURES, prefix, [section], runset, app.in_use().labels().step)


def spec(view: SavedView, entity: str, project: str) -> dict[str, Any]:
    """Return what would be saved, as W&B's library has it; the same for the same view."""
    model = view.workspace._to_model()
    content: dict[str, Any] = json.loads(model.spec.model_dump_json(by_alias=True, exclude_none=True))
    return {"entity": entity, "project": project, "displayName": model.display_name, "spec": content}


def stable_id(text: str, length: int) -> str:
    """Return an id as W&B makes them, small letters and digits, but the same for the same text."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def key_of(knob: str, outline: Outline) -> str:
    """Return the key under which W&B runs have a knob, or their arm in a sweep."""
    if knob == ARM:
        return f"arms.{outline.name}"
    return config_key(knob, outline.config_keys, outline.labels)


def group_keys(knobs: Sequence[str], outline: Outline) -> tuple[str, ...]:
    """Return the W&B keys that tell the same places apart: knobs with a joint name, are net."""
    labels = outline.labels
    joint = {key for each in labels.names for key in (*each.keys, *each.when)}
    whole = any(set(each.keys) <= set(knobs) or set(each.when) & set(knobs) for each in labels.names)
    keys = ["net" if whole and knob in joint else key_of(knob, outline) for knob in knobs]
    return tuple(dict.fromkeys(keys)) or ("net",)


def _view(
    sweep: str, key: str, prefix: str, sections: list[ws.Section], runset: ws.RunsetSettings, step: str
) -> SavedView:
    for section in sections:
        panels: list[Any] = section.panels
        for number, panel in enumerate(panels):
            # Random otherwise, and a view that did not change would be another each time.
            panel._id = stable_id(f"{key}/{section.name}/{number}", 12)
    workspace = ws.Workspace(
        entity="",
        project="",
        name=_legal(f"{prefix}: {sweep}"),
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis=step, max_runs=_MOST),
        runset_settings=runset,
    )
    return SavedView(sweep=sweep, key=f"{prefix}/{key}", workspace=workspace)


def _section(name: str, panels: Iterable[Any], *, columns: int) -> ws.Section:
    layout = ws.SectionLayoutSettings(columns=columns, rows=2)
    return ws.Section(name=name, panels=list(panels), is_open=True, layout_settings=layout)


def _answer(outline: Outline, keys: Sequence[str], values: Sequence[str]) -> Iterator[Any]:
    answer = f"{outline.answer}\n\n" if outline.answer else ""
    yield wr.MarkdownPanel(
        markdown=f"**{outline.question or outline.name}**\n\n{answer}Bars: means over the W&B runs that are there, one"
        " for each seed; whiskers: standard deviations. Intervals, tests, and which cells are missing:"
        f" `strive tables {outline.name}`."
    )
    for value in values:
        yield _bar(value, keys, outline)
    # Beside the places the effect of each factor alone, over all values of the others.
    alone = dict.fromkeys(key_of(knob, outline) for knob in outline.keys)
    for key in alone if len(alone) > 1 else ():
        yield _bar(values[0], [key], outline, title=f"{_words(values[0])} by {key}")


def _curves(outline: Outline, keys: Sequence[str]) -> Iterator[Any]:
    step = outline.labels.step
    for metric in outline.metrics:
        yield wr.LinePlot(
            title=_words(metric),
            x=step,
            y=[metric],
            title_x=step,
            title_y=_unit(metric, outline),
            groupby=_one(keys),
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
            max_runs_to_show=_MOST,
            smoothing_type="none",
        )


def _choices(outline: Outline, values: Sequence[str]) -> Iterator[Any]:
    # Arms may differ in a knob each: so many axes say less than one with their names.
    knobs = outline.keys if ARM in outline.keys else outline.factors
    factors = [
        wr.ParallelCoordinatesPlotColumn(
            metric=wr.Config(key_of(knob, outline)),
            display_name=outline.labels.title(knob),
            log=knob.rpartition(".")[2] in _LOGARITHMIC or None,
        )
        for knob in knobs
    ]
    ends = [
        wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(value), display_name=_words(value))
        for value in reversed(values)
    ]
    yield wr.ParallelCoordinatesPlot(title=f"from the choices to the {_words(values[0])}", columns=[*factors, *ends])
    yield wr.ParameterImportancePlot(with_respect_to=values[0])


def _failures(prefix: str) -> list[Any]:
    text = (
        "The columns *status* and *cause* of the table of W&B runs say how each cell ended; those of every sweep that"
        f" are not done: view *{_legal(prefix)}: {FAILURES}*. Below: in what the first ten W&B runs differ."
    )
    return [wr.MarkdownPanel(markdown=text), wr.RunComparer(diff_only="split")]


def _bar(metric: str, keys: Sequence[str], outline: Outline, title: str = "") -> wr.BarPlot:
    return wr.BarPlot(
        title=title or _words(metric),
        metrics=[metric],
        title_x=_unit(metric, outline),
        groupby=_one(keys),
        groupby_aggfunc="mean",
        groupby_rangefunc="stddev",
        max_runs_to_show=_MOST,
        max_bars_to_show=_MOST,
    )


def _one(keys: Sequence[str]) -> wr.Config | None:
    """Return what a panel itself groups by; None where it follows the table of W&B runs."""
    return wr.Config(keys[0]) if len(keys) == 1 else None


def _columns(first: Sequence[str], config: Sequence[str], last: Sequence[str]) -> list[str]:
    """Return columns of the table of W&B runs: summary, config, summary."""
    return [
        "run:displayName",
        *(f"summary:{key}" for key in first),
        # The value of a key stands below the first part of its name.
        *(f"config:{first}.value{dot}{rest}" for first, dot, rest in (key.partition(".") for key in config)),
        *(f"summary:{key}" for key in last),
    ]


def _words(metric: str) -> str:
    return metric.removesuffix("_gb").replace("_", " ")


def _unit(metric: str, outline: Outline) -> str:
    if metric in _SPEED:
        return _SPEED[metric]
    measured = metric in outline.labels.measured
    if is_share(metric):
        return f"share of {outline.labels.examples}" if measured else "share"
    return "nats per image" if measured and last_word(metric) == "loss" else ""


def _tag(sweep: str) -> str:
    """Return the tag that W&B runs of a sweep have."""
    if re.search(r"['\"\\=<>]", sweep):
        raise LoadError(f"{sweep}: W&B's library cannot filter by a name with quotes, \\, =, < or >; rename it")
    return tag("sweep", sweep)


def _legal(name: str) -> str:
    """Return a name without what W&B's library takes for emojis, + and = among them."""
    return "".join("_" if unicodedata.category(letter) in _NOT_IN_NAMES else letter for letter in name)
