"""Plotly figures as plain dicts that the page's script draws; building them does not import plotly.

The parts that the page changes are marked: a trace's meta has `colour`, its index in the page's palette, and
`factors`, the values to filter it by; a shape's name identifies it. All text is escaped, because plotly interprets
tags and entities.
"""

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from strive.results.conditions import Condition, in_order
from strive.statistics.inference import Verdict
from strive.sweeps.table_spec import Value
from strive.tables.summary import SweepSummary
from strive.tables.sweep_tables import decision_text, p_text

Spec = dict[str, Any]  # a trace or a layout
Name = tuple[str, str]  # (the knob's name or "", the value)

# Okabe and Ito (2008), safe for colour-blind readers. The page's style sheet repeats them for light and dark mode.
COLOURS = ("#0072b2", "#d55e00", "#1a1a1a", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7a3b8f")
DASHES = ("solid", "dash", "dot", "dashdot")
_MOST_LINES = 60  # shown at once in an effect plot; the filter shows the others
_LINE_PX, _AROUND_PX = 26, 90
_FOREGROUND = 2  # index of the text colour
_MOST_NAMED = 6  # conditions named in a sentence
_MOST_SERIES = 8  # conditions that can be distinguished in one plot
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
# The symbol also identifies the verdict.
_SHOWN = {True: "circle", False: "circle-open"}
_VERDICTS = {Verdict.no_loss: (0, "circle"), Verdict.loss: (1, "square"), Verdict.undecided: (2, "diamond-open")}


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """One legend entry of a figure, which the page writes as text."""

    group: str  # common name of the entries in the same group; "" if each label is self-explanatory
    text: str
    colour: int
    form: str  # one of DASHES, or a plotly symbol


@dataclass(frozen=True, kw_only=True, slots=True)
class WebPanel:
    """One plot."""

    title: str
    traces: list[Spec]


@dataclass(frozen=True, kw_only=True, slots=True)
class WebFigure:
    """Plots that form one figure."""

    name: str  # only letters, digits and _
    title: str
    caption: str  # whole sentences
    alt: str  # alternative text, one sentence
    panels: tuple[WebPanel, ...]
    layout: Spec  # shared by all panels
    legend: tuple[Key, ...] = ()
    most: int = 24  # panels, or lines of a plot, shown at once


def effect_plot(sweep: SweepSummary) -> WebFigure | None:
    """Return each condition's difference from its baseline with its interval; None if there is no baseline.

    Own minus baseline, in percentage points or in the metric's unit.
    """
    ordered = in_order(sweep.conditions, sweep.layout)
    shown = [condition for condition in ordered if condition.difference is not None]
    if not shown:
        return None
    value = sweep.layout.value
    traces = [_difference_trace(condition, number, value) for number, condition in enumerate(shown)]
    margin = value.sign * sweep.layout.margin
    shapes: list[Spec] = [
        {"name": "zero", "type": "line", "x0": 0, "x1": 0, "layer": "below", "line": {"width": 1}},
    ]
    if margin:
        band = {"name": "margin", "type": "rect", "x0": min(0, margin), "x1": max(0, margin)}
        shapes.insert(0, band | {"layer": "below", "line": {"width": 0}})
    layout = _lines_layout(
        [condition.label for condition in shown], f"difference, {value.unit}" if value.unit else "difference"
    )
    layout["shapes"] = [shape | {"yref": "paper", "y0": 0, "y1": 1} for shape in shapes]
    baselines = list(dict.fromkeys(condition.baseline for condition in shown))
    against = ", ".join(baselines) if len(baselines) <= _MOST_NAMED else "the baseline of each"
    caption = (
        f"Mean difference from {against}, paired by {', '.join(sweep.layout.pair)}, with its 95% interval, which holds"
        f" for all lines at once{_side(value, sweep.layout.margin)}"
    )
    verdicts = [condition.judgement.verdict for condition in shown if condition.judgement]
    return WebFigure(
        name="effect",
        title="Differences with their intervals",
        caption=caption + _left_out([condition for condition in sweep.conditions if condition.no_difference]),
        alt=f"{len(shown)} differences from {against}; the table of differences has their numbers.",
        panels=(WebPanel(title="", traces=traces),),
        layout=layout,
        legend=tuple(
            Key(group="", text=verdict.value, colour=colour, form=form)
            for verdict, (colour, form) in _VERDICTS.items()
            if verdict in verdicts
        ),
        most=_MOST_LINES,
    )


def component_plot(sweep: SweepSummary) -> WebFigure | None:
    """Return the effects of a factorial design's components with their intervals; None for any other sweep."""
    found = [each for place in sweep.components for each in place.effects]
    if not found:
        return None
    labels, value = sweep.layout.labels, sweep.layout.value
    traces = []
    for number, each in enumerate(found):
        estimate, (low, high), form = each.found.estimate, each.found.simultaneous, f"+.{value.digits}f"
        text = [
            *([f"with its aliases {each.aliases}"] if each.aliases else []),
            f"{estimate:{form}} {value.unit}".rstrip(),
            f"{_interval(low, high, form, 'simultaneous 95% interval')}p {p_text(each.p)}",
        ]
        point = _point(each.label, labels.texts(each.place), number, 0, _SHOWN[each.decided], text=text)
        traces.append(point | {"x": [_rounded(estimate)], "error_x": _bars(estimate, low, high, 0)})
    layout = _lines_layout([each.label for each in found], f"difference, {value.unit}" if value.unit else "difference")
    zero = {"name": "zero", "type": "line", "x0": 0, "x1": 0, "layer": "below", "line": {"width": 1}}
    layout["shapes"] = [zero | {"yref": "paper", "y0": 0, "y1": 1}]
    return WebFigure(
        name="components",
        title="Effects of the components",
        caption=(
            "Mean of the cells with a component minus mean of those without it, with its 95% interval, which holds for"
            f" all effects at once{_side(value, 0.0)} A x B: half of what B changes in the effect of A. Filled: shown"
            " to differ from 0."
        ),
        alt=f"{len(found)} effects; the table of the components has their numbers.",
        panels=(WebPanel(title="", traces=traces),),
        layout=layout,
        most=_MOST_LINES,
    )


def _side(value: Value, margin: float) -> str:
    """Return the end of a caption: which side is worse, and what the band is."""
    if value.better is None:
        return "."
    worse = "right" if value.sign > 0 else "left"
    band = f" The band is the margin of {f'{margin:g} {value.unit}'.rstrip()}." if margin else ""
    return f"; to the {worse} is worse.{band}"


def mean_plot(sweep: SweepSummary) -> WebFigure | None:
    """Return each condition's mean with its interval; None if fewer than two conditions have one."""
    shown = [condition for condition in sweep.conditions if condition.summary is not None]
    if len(shown) < 2:
        return None
    what = sweep.layout.value.title
    caption = "Mean with its 95% interval (Student's t); small points are the single cells."
    if all(condition.summary.n == 1 for condition in shown if condition.summary):
        caption = "The one value of each: without a second seed there is no interval."
    traces = [_mean_trace(condition, number, sweep.layout.value) for number, condition in enumerate(shown)]
    return WebFigure(
        name="means",
        title=what[:1].upper() + what[1:],
        caption=caption + _left_out([condition for condition in sweep.conditions if condition.hole]),
        alt=f"{len(shown)} means; the table of errors has their numbers.",
        panels=(WebPanel(title="", traces=traces),),
        layout=_lines_layout([condition.label for condition in shown], what),
        most=_MOST_LINES,
    )


def paper_plot(sweep: SweepSummary) -> WebFigure | None:
    """Return our mean over the paper's value, in percent; None if the paper has no value for any condition."""
    shown = [
        condition
        for condition in sweep.conditions
        if condition.summary and condition.paper and condition.paper.error is not None
    ]
    if not shown:
        return None
    panels, lines = series_of(sweep)
    colours = {name: number for number, name in enumerate(dict.fromkeys(panels.values()))}
    symbols = {name: _SYMBOLS[number % len(_SYMBOLS)] for number, name in enumerate(dict.fromkeys(lines.values()))}
    traces = [
        _paper_trace(condition, colours[panels[condition.ref]], symbols[lines[condition.ref]]) for condition in shown
    ]
    theirs = _range(
        [condition.paper.error for condition in shown if condition.paper and condition.paper.error is not None]
    )
    ours = _range([value for condition in shown if condition.summary for value in _reach(condition)])
    low, high = max(theirs[0], ours[0]), min(theirs[1], ours[1])
    certain = all(condition.paper.certain for condition in shown if condition.paper)
    shapes = [{"name": "zero", "type": "line", "x0": low, "y0": low, "x1": high, "y1": high, "layer": "below"}]
    layout = _layout(height=420) | {
        "xaxis": _axis("the paper's error, %") | {"range": theirs},
        "yaxis": _axis("our mean error, %") | {"range": ours},
        "shapes": shapes if low < high else [],
    }
    return WebFigure(
        name="paper",
        title="The paper's errors and ours",
        caption="Our mean, with the 95% prediction interval of one further value, over the number the paper prints."
        + (" On the line they are equal." if low < high else " The line of equal errors lies outside.")
        + ("" if certain else " Open: the paper's number is not certain."),
        alt=f"{len(shown)} errors over the paper's; the table of errors has both.",
        panels=(WebPanel(title="", traces=traces),),
        layout=layout,
        legend=tuple(
            [_key(name, number % len(COLOURS), "solid") for name, number in colours.items() if len(colours) > 1]
            + [_key(name, _FOREGROUND, symbol) for name, symbol in symbols.items() if len(symbols) > 1]
        ),
    )


def series_of(sweep: SweepSummary) -> tuple[dict[str, Name], dict[str, Name]]:
    """Return {condition's ref: name of its panel} and {condition's ref: name of its line in the panel}.

    The first row key names the panel, and more keys if a panel would hold too many lines; a few conditions share one
    panel.
    """
    keys = sweep.layout.keys
    for depth in range(min(1, len(keys) - 1), len(keys) + 1):
        panels = {condition.ref: _name(condition, keys[:depth]) for condition in sweep.conditions}
        if max(Counter(panels.values()).values()) <= _MOST_SERIES:
            break
    return panels, {condition.ref: _name(condition, keys[depth:]) for condition in sweep.conditions}


def line_keys(names: Iterable[Name]) -> tuple[Key, ...]:
    """Return the legend of lines, numbered as in style(); empty for a single line."""
    found = list(dict.fromkeys(names))
    return tuple(_key(name, *style(number)) for number, name in enumerate(found)) if len(found) > 1 else ()


def plain(text: str) -> str:
    """Return the text escaped so that plotly shows neither tags nor mathematics."""
    return escape(text, quote=False).replace("$", "&#36;")


def style(number: int) -> tuple[int, str]:
    """Return colour and dash of a line; the first 32 all differ."""
    return number % len(COLOURS), DASHES[(number + number // len(COLOURS)) % len(DASHES)]


def _difference_trace(condition: Condition, number: int, value: Value) -> Spec:
    found = condition.difference
    assert found is not None
    low, high = condition.simultaneous or (None, None)
    colour, symbol = _VERDICTS[condition.judgement.verdict] if condition.judgement else (0, "circle")
    form = f"+.{value.digits}f"
    text = [
        f"{f'{found.mean:{form}} {value.unit}'.rstrip()} from {condition.baseline}",
        f"{_interval(low, high, form, 'simultaneous 95% interval')}n = {found.n}",
        decision_text(condition) if condition.judgement else f"p {decision_text(condition)}",
    ]
    return _point(condition.label, condition.labels.texts(condition.key), number, colour, symbol, text=text) | {
        "x": [_rounded(found.mean)],
        "error_x": _bars(found.mean, low, high, colour),
    }


def _mean_trace(condition: Condition, number: int, value: Value) -> Spec:
    found = condition.summary
    assert found is not None
    form = f".{value.digits}f"
    text = [f"{value.title}: {found.mean:{form}}", f"{_interval(found.low, found.high, form)}n = {found.n}"]
    values = [_rounded(each) for each in condition.values.values()] if found.n > 1 else []
    # The mean first, then the cells, in arrays, so that a line of the plot is one trace.
    return _point(condition.label, condition.labels.texts(condition.key), number, 0, "circle", text=text) | {
        "x": [_rounded(found.mean), *values],
        "y": [number] * (1 + len(values)),
        "text": [
            _lines(condition.label, *text),
            *[_lines(condition.label, f"one cell: {each:{form}}") for each in values],
        ],
        "error_x": _bars(found.mean, found.low, found.high, 0, len(values)),
        "marker": {
            "color": COLOURS[0],
            "size": [9] + [5] * len(values),
            "symbol": ["circle"] + ["circle-open"] * len(values),
        },
    }


def _rounded(value: float) -> float:
    """Return a number as the page stores it: four digits behind the point, more for a small one."""
    return round(value, 4) if abs(value) >= 1 else float(f"{value:.4g}") if abs(value) < 0.1 else round(value, 4)


def _name(condition: Condition, keys: Sequence[str]) -> Name:
    labels = condition.labels
    if len(keys) == 1:
        return labels.title(keys[0]), labels.text(keys[0], condition.key[keys[0]])
    return "", labels.name({key: condition.key[key] for key in keys}) if keys else ""


def _key(name: Name, colour: int, form: str) -> Key:
    return Key(group=name[0], text=name[1], colour=colour, form=form)


def _paper_trace(condition: Condition, colour: int, symbol: str) -> Spec:
    ours, theirs = condition.summary, condition.paper
    assert ours is not None
    assert theirs is not None
    assert theirs.error is not None
    number = colour % len(COLOURS)
    certain = "" if theirs.certain else " (not certain)"
    interval = _interval(ours.next_low, ours.next_high, ".2f", "95% prediction interval")
    text = [f"ours: {ours.mean:.2f}%, {interval}n = {ours.n}"]
    text += [f"{theirs.place}: {theirs.error:.2f}%{certain}"]
    factors, form = condition.labels.texts(condition.key), symbol + ("" if theirs.certain else "-open")
    return _point(condition.label, factors, 0, number, form, text=text) | {
        "x": [theirs.error],
        "y": [round(ours.mean, 4)],
        "error_y": _bars(ours.mean, ours.next_low, ours.next_high, number),
    }


def _point(
    label: str, factors: Mapping[str, str], number: int, colour: int, symbol: str, *, text: Sequence[str]
) -> Spec:
    """Return a trace of one point without its x. factors: to filter by. number: row of its line, from the top."""
    return {
        "type": "scatter",
        "mode": "markers",
        "y": [number],
        "marker": {"color": COLOURS[colour], "size": 9, "symbol": symbol},
        "text": [_lines(label, *text)],
        "hoverinfo": "text",
        "showlegend": False,
        "cliponaxis": False,
        "meta": {"factors": dict(factors), "colour": colour, "label": _tick(label)},
    }


def _bars(mean: float, low: float | None, high: float | None, colour: int, further: int = 0) -> Spec:
    """Return an error bar for the first point. further: number of following points, which have none."""
    if low is None or high is None:
        return {"visible": False}
    zeros = [0] * further
    return {
        "type": "data",
        "symmetric": False,
        "array": [_rounded(high - mean), *zeros],
        "arrayminus": [_rounded(mean - low), *zeros],
        "color": COLOURS[colour],
        "thickness": 1.5,
        "width": 0,
    }


def _lines_layout(labels: Sequence[str], title: str) -> Spec:
    """Return the layout of a plot with one line for each label, the first at the top."""
    count = min(len(labels), _MOST_LINES)
    ticks = {"tickvals": list(range(count)), "ticktext": [_tick(label) for label in labels[:count]]}
    return _layout(height=_AROUND_PX + _LINE_PX * count) | {
        "xaxis": _axis(title),
        "yaxis": {"range": [count - 0.5, -0.5], "automargin": True, "fixedrange": True, "zeroline": False}
        | ticks
        | {"showgrid": False},
        "meta": {"lines": True, "line_px": _LINE_PX, "around_px": _AROUND_PX},
    }


def _layout(*, height: int) -> Spec:
    return {
        "height": height,
        "margin": {"l": 56, "r": 16, "t": 12, "b": 48},
        "hovermode": "closest",
        "dragmode": False,
        "showlegend": False,
    }


def _axis(title: str) -> Spec:
    return {"title": {"text": plain(title)}, "automargin": True, "fixedrange": True, "zeroline": False}


def _range(values: Sequence[float]) -> list[float]:
    """Return the ends of an axis with some margin."""
    low, high = min(values), max(values)
    room = 0.12 * (high - low) or 0.5
    return [round(max(0.0, low - room), 4), round(high + room, 4)]


def _reach(condition: Condition) -> list[float]:
    summary = condition.summary
    assert summary is not None
    return [value for value in (summary.next_low, summary.mean, summary.next_high) if value is not None]


def _lines(*texts: str) -> str:
    return "<br>".join(map(plain, texts))


def _tick(label: str) -> str:
    return "<br>".join(map(plain, textwrap.wrap(label, 28, max_lines=3, placeholder=" …") or [label]))


def _interval(low: float | None, high: float | None, form: str, name: str = "95% interval") -> str:
    return "" if low is None or high is None else f"{name} {low:{form}} to {high:{form}}, "


def _left_out(conditions: Iterable[Condition]) -> str:
    labels = [f"{condition.label} ({condition.no_difference or condition.hole})" for condition in conditions]
    more = f" and {len(labels) - _MOST_NAMED} more" if len(labels) > _MOST_NAMED else ""
    named = ", ".join(labels[:_MOST_NAMED]) + more
    return f" Not shown: {named}." if labels else ""
