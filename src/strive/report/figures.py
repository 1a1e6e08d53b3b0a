"""The figures of a sweep on its page: those of `strive figures`, as SVG, with titles that a mouse gets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup
from matplotlib.figure import Figure

from strive.figures.curves import learning_curves
from strive.figures.effects import effect_plot, seeds_plot
from strive.figures.style import COLUMN, PAGE, condition_gid
from strive.report.html_table import Places
from strive.report.svg import inline_svg, mark
from strive.results.conditions import Condition
from strive.sweeps.table_spec import Value
from strive.tables.condition_lines import decision_text
from strive.tables.summary import SweepSummary

_MOST_LINES = 60  # of a figure; more are the business of `strive figures`
_MANY = 300  # cells, whose curves and seeds are not drawn a second time for a phone, which scrolls them


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
    shown = replace(sweep, conditions=sweep.conditions[:_MOST_LINES])
    few = (PAGE, COLUMN) if len(sweep.loaded.cells) <= _MANY else (PAGE,)
    drawn = [
        ("effects", _effects_title(sweep), [effect_plot(shown, form) for form in (PAGE, COLUMN)]),
        ("curves", "Learning curves", [learning_curves(sweep, form) for form in few]),
        ("seeds", "Every seed", [seeds_plot(shown, form) for form in few if _has_seeds(shown)]),
    ]
    return [
        _figure(f"{section}-{name}-figure", title, [figure for pages in found for figure in pages], sweep, marks)
        for name, title, found in drawn
        if any(found)
    ]


def _figure(
    name: str, title: str, figures: Sequence[Figure], sweep: SweepSummary, marks: Mapping[str, Markup]
) -> PageFigure:
    """Return the drawings of both widths as one figure."""
    wide, narrow = list[Markup](), list[Markup]()
    label = f"{title}, {sweep.title}. The tables have the numbers."
    for number, figure in enumerate(figures, 1):
        column = narrow if figure.get_figwidth() == COLUMN.width else wide
        column.append(inline_svg(figure, f"{name}-{number}", label, marks))
    captions = dict.fromkeys(str(figure.get_label()) for figure in figures)
    lines = len(sweep.conditions)
    if lines > _MOST_LINES and not name.endswith("curves-figure"):
        captions |= {f"The first {_MOST_LINES} of {lines:,} lines; `strive figures` draws all.": None}
    return PageFigure(name=name, title=title, caption=" ".join(captions), wide=wide, narrow=narrow)


def _has_seeds(sweep: SweepSummary) -> bool:
    """Return whether a figure of all seeds shows more than the means."""
    return any(len(condition.values) > 1 or condition.paper is not None for condition in sweep.conditions)


def _effects_title(sweep: SweepSummary) -> str:
    if sweep.components:
        return "Effects of the components"
    compared = any(condition.baseline for condition in sweep.conditions)
    return "Differences with their intervals" if compared else "Means with their intervals"


def _title(condition: Condition, sweep: SweepSummary) -> str:
    """Return the text that is shown while the mouse is over a condition's marks."""
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
