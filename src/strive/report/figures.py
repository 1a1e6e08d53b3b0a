"""The figures of a sweep on its page: those of `strive figures`, as SVG, with titles that a mouse gets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup
from matplotlib.figure import Figure

from strive.figures.curves import learning_curves
from strive.figures.effects import effect_plot, seeds_plot
from strive.figures.style import condition_gid
from strive.report.html_table import Places
from strive.report.svg import inline_svg, mark
from strive.results.conditions import Condition
from strive.sweeps.table_spec import Value
from strive.tables.summary import SweepSummary
from strive.tables.sweep_tables import decision_text

_Draw = Callable[[SweepSummary], list[Figure]]


@dataclass(frozen=True, kw_only=True, slots=True)
class PageFigure:
    """A figure on the page, drawn for a screen and for a phone."""

    name: str  # its id
    title: str
    caption: str
    wide: list[Markup]
    narrow: list[Markup]  # [] where the wide one is scrolled


def page_figures(sweep: SweepSummary, section: str, places: Places) -> list[PageFigure]:
    """Return the figures that a sweep has something for, the one that answers its question first."""
    marks = {
        str(condition_gid(condition.ref)): mark(
            places.number(condition.labels.texts(condition.key)), _title(condition, sweep)
        )
        for condition in sweep.conditions
    }
    drawn = [
        _figure(f"{section}-{name}", title, draw, sweep, marks)
        for name, title, draw in (
            ("effects-figure", _effects_title(sweep), effect_plot),
            ("curves-figure", "Learning curves", learning_curves),
            ("seeds-figure", "Every seed", seeds_plot),
        )
    ]
    return [figure for figure in drawn if figure.wide]


def _figure(name: str, title: str, draw: _Draw, sweep: SweepSummary, marks: Mapping[str, Markup]) -> PageFigure:
    svg = partial(inline_svg, label=f"{title}, {sweep.title}. The tables have the numbers.", marks=marks)
    figures = draw(sweep)
    return PageFigure(
        name=name,
        title=title,
        caption=str(figures[0].get_label()) if figures else "",
        wide=[svg(figure, f"{name}-{number}") for number, figure in enumerate(figures, 1)],
        narrow=[],
    )


def _effects_title(sweep: SweepSummary) -> str:
    if sweep.components:
        return "Effects of the components"
    compared = any(condition.baseline for condition in sweep.conditions)
    return "Differences with their intervals" if compared else "Means with their intervals"


def _title(condition: Condition, sweep: SweepSummary) -> str:
    """Return what a mouse on a condition's marks is told."""
    value = sweep.layout.value
    parts = [condition.label]
    if (own := condition.summary) is not None:
        parts.append(f"{_number(own.mean, value, '')} {value.own_unit}".rstrip() + f", n = {own.n}")
    if (found := condition.difference) is not None:
        parts.append(f"{_number(found.mean, value, '+')} {value.unit}".rstrip() + f" from {condition.baseline}")
        parts.append(decision_text(condition) if condition.judgement else f"p {decision_text(condition)}")
    return "; ".join(parts)


def _number(number: float, value: Value, sign: str) -> str:
    return f"{number:{sign}.{value.digits}f}"
