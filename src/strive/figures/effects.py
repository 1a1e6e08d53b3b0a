"""Figures of one sweep's means and differences. Each may take several pages; each page is one figure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from strive.cells.metrics import Better
from strive.figures import style
from strive.figures.curves import learning_curves, subtitle
from strive.figures.forest import Draw, ForestLine, Frame, draw_pages, mark, span, whisker
from strive.figures.heat_map import heat_map
from strive.results.component_effects import ComponentEffect, effect_text
from strive.results.conditions import Condition, in_order
from strive.results.published import PaperValue, off_paper
from strive.statistics.inference import SIDE, Difference, Summary, Verdict
from strive.sweeps.design import DesignName
from strive.sweeps.labels import in_sentence
from strive.sweeps.table_spec import Value
from strive.tables.condition_lines import DEAD_PAIRS, LATER, STEPWISE, decision_text, ruled, simultaneous_level
from strive.tables.entries import p_text
from strive.tables.summary import SweepSummary

_NO_MEAN = "A missing, failed or diverged cell leaves its place without a mean."
_NONE = "\N{EN DASH}"

_OWN, _LOSS = style.COLOURS[:2]
_VERDICTS: dict[Verdict, dict[str, Any]] = {  # the shape identifies the verdict, the colour only repeats it
    Verdict.not_worse: {"marker": "o", "color": _OWN, "markersize": 5.5},
    Verdict.worse: {"marker": "s", "color": _LOSS, "markersize": 5},
    Verdict.undecided: {"marker": "D", "color": style.FOREGROUND, "markerfacecolor": "white", "markersize": 4.5},
}
_MEAN: dict[str, Any] = {"marker": "o", "color": _OWN, "markersize": 5}
_BAR: dict[str, Any] = {"marker": "|", "color": style.FOREGROUND, "markersize": 12, "markeredgewidth": 1.3}
_SEED: dict[str, Any] = {"marker": "o", "color": _OWN, "markerfacecolor": "none", "markersize": 3.4}
_PAPER: dict[str, Any] = {"marker": "D", "color": _LOSS, "markerfacecolor": "white", "markersize": 4.5}


@style.house_style()
def effect_plot(sweep: SweepSummary, form: style.FigureForm = style.PAGE) -> list[Figure]:
    """Return the effects of a design, else each condition's difference from its baseline, else the means."""
    if sweep.components:
        return _components(sweep, form)
    compared = in_order(sweep.conditions, sweep.layout)
    return _differences(sweep, compared, form) if compared else _means(sweep, form)


@style.house_style()
def seeds_plot(sweep: SweepSummary, form: style.FigureForm = style.PAGE) -> list[Figure]:
    """Return each seed's value for each condition, with the mean and the paper's value."""
    conditions = sweep.conditions
    papers = {
        condition.ref: condition.paper.error
        for condition in conditions
        if condition.paper and condition.paper.error is not None
    }
    values = [value for condition in conditions for value in condition.values.values()]
    limits = span(values)
    # A number far from ours would leave half of the axis blank; the column has it.
    reach = span(values, keep=list(papers.values()))
    beside = reach[1] - reach[0] <= 2 * (limits[1] - limits[0])
    limits = reach if beside else limits
    lines = [
        ForestLine(
            label=condition.label,
            ref=condition.ref,
            entries=_seed_entries(condition, sweep.layout.value.digits, with_paper=bool(papers)),
            note=condition.hole,
            draw=_draw_seeds(condition, papers.get(condition.ref) if beside else None),
            rule=rule,
        )
        for condition, rule in ruled(sweep.conditions, sweep.layout)
    ]
    several = any(condition.summary is not None and condition.summary.n > 1 for condition in conditions)
    legend = [("one seed" if sweep.layout.pair == (sweep.loaded.plan.seed,) else "one cell", _SEED, True)]
    legend += [("their mean", _BAR, several), ("the paper", _PAPER, bool(papers) and beside)]
    frame = Frame(
        title=f"{sweep.title}: every seed",
        subtitle=subtitle(sweep),
        form=form,
        axis=sweep.layout.value.title,
        limits=limits,
        headings=("mean", "sd", "n", *(["paper"] if papers else [])),
        caption=_seeds_caption(sweep, bool(papers)) + _beyond(limits, values),
        legend=tuple(_key(label, style) for label, style, there in legend if there),
        height=0.22,
    )
    return draw_pages(frame, lines)


FIGURES: Mapping[str, Callable[[SweepSummary, style.FigureForm], list[Figure]]] = {
    "curves": learning_curves,
    "matrix": heat_map,
    "effects": effect_plot,
    "seeds": seeds_plot,
}


def _differences(sweep: SweepSummary, conditions: Sequence[Condition], form: style.FigureForm) -> list[Figure]:
    found = [condition.difference for condition in conditions if condition.difference is not None]
    value = sweep.layout.value
    margin = value.sign * sweep.layout.margin
    intervals = [condition.simultaneous for condition in conditions if condition.simultaneous is not None]
    drawn = [each.mean for each in found] + [number for each in conditions for number in each.differences]
    limits = span(drawn, intervals, keep=[-margin, 2 * margin])
    frame = Frame(
        title=f"{sweep.title}: difference from the {'step before' if _is_ladder(sweep) else 'baseline'}",
        subtitle=subtitle(sweep),
        form=form,
        axis=_difference_axis(value, form),
        limits=limits,
        headings=(
            "difference",
            f"simultaneous {simultaneous_level(sweep.layout)}",
            "pairs",
            "verdict" if margin else "p",
        ),
        caption=_difference_caption(sweep) + _beyond(limits, _ends(found, intervals)),
        backdrop=_zero_and_margin(margin) if margin else _zero,
    )
    means = {condition.label: condition.summary for condition in sweep.conditions}
    if _is_ladder(sweep):
        first = conditions[0].baseline
        head = f"Each step against the one before, from {in_sentence(first)}{_mean_text(means.get(first), sweep)}"
        return draw_pages(frame, [_difference_line(condition, head, value.digits) for condition in conditions])
    lines = [
        _difference_line(
            condition, f"Against {in_sentence(baseline)}{_mean_text(means.get(baseline), sweep)}", value.digits
        )
        for baseline in dict.fromkeys(condition.baseline for condition in conditions)
        for condition in conditions
        if condition.baseline == baseline
    ]
    return draw_pages(frame, lines)


def _is_ladder(sweep: SweepSummary) -> bool:
    return sweep.layout.design is not None and sweep.layout.design.name is DesignName.cumulative


def _components(sweep: SweepSummary, form: style.FigureForm) -> list[Figure]:
    value = sweep.layout.value
    found = [each.found for place in sweep.components for each in place.effects]
    intervals = [
        (low, high) for low, high in (each.simultaneous for each in found) if low is not None and high is not None
    ]
    limits = span([each.estimate for each in found], intervals, keep=[0.0])
    ends = [each.estimate for each in found] + [end for interval in intervals for end in interval]
    frame = Frame(
        title=f"{sweep.title}: effects of the components",
        subtitle=subtitle(sweep),
        form=form,
        axis=_difference_axis(value, form),
        limits=limits,
        headings=("difference", "simultaneous 95%", "p"),
        caption=_components_caption(sweep) + _beyond(limits, ends),
        backdrop=_zero,
    )
    lines = [
        _component_line(each, sweep.layout.labels.name(place.place) if place.place else "", value.digits)
        for place in sweep.components
        for each in place.effects
    ]
    return draw_pages(frame, lines)


def _component_line(each: ComponentEffect, head: str, digits: int) -> ForestLine:
    found = each.found
    low, high = found.simultaneous
    interval = (low, high) if low is not None and high is not None else None
    style_of = _MEAN | ({} if each.decided else {"markerfacecolor": "white"})
    return ForestLine(
        label=effect_text(each.words[0]) + (f" = {each.aliases}" if each.aliases else ""),
        entries=(
            style.number(found.estimate, digits, sign=True),
            _interval(interval, digits, sign=True),
            _NONE if each.p is None else p_text(each.p) + (LATER if each.stepwise else ""),
        ),
        draw=_draw_mean(found.estimate, interval, style_of),
        head=head,
    )


def _components_caption(sweep: SweepSummary) -> str:
    aliased = any(len(each.words) > 1 for place in sweep.components for each in place.effects)
    parts = [
        "Mean of the cells with a component minus mean of those without it; A x B: half of what B changes in the effect"
        " of A. 95% intervals, which hold for all effects at once (Student's t, Bonferroni); p is Holm-corrected over"
        " all of them. Filled: shown to differ from 0; open: undecided.",
        "Effects joined by = are aliases: their sum is shown." if aliased else "",
        STEPWISE if any(each.stepwise for place in sweep.components for each in place.effects) else "",
    ]
    return " ".join(filter(None, parts))


def _difference_axis(value: Value, form: style.FigureForm) -> str:
    what = "difference, " if form.narrow else "difference in "
    what += f"{value.words}{f', {value.unit}' if value.unit else ''}"
    if value.better is None:
        return what
    left, right = ("better", "worse") if value.sign > 0 else ("worse", "better")
    return f"←  {left}    {what}    {right}  →"


def _difference_line(condition: Condition, head: str, digits: int) -> ForestLine:
    found, judged = condition.difference, condition.judgement
    if found is None:
        return ForestLine(
            label=condition.label, ref=condition.ref, entries=("",) * 4, note=condition.no_difference, head=head
        )
    return ForestLine(
        label=condition.label,
        ref=condition.ref,
        entries=(
            style.number(found.mean, digits, sign=True),
            _interval(condition.simultaneous, digits, sign=True),
            str(found.n),
            decision_text(condition),
        ),
        draw=_draw_mean(
            found.mean,
            condition.simultaneous,
            _VERDICTS[judged.verdict] if judged else _MEAN,
            condition.differences,
        ),
        head=head,
    )


def _means(sweep: SweepSummary, form: style.FigureForm) -> list[Figure]:
    found = [condition.summary for condition in sweep.conditions if condition.summary is not None]
    intervals = [interval for each in found if (interval := _own_interval(each))]
    limits = span([each.mean for each in found], intervals)
    lines, digits = [], sweep.layout.value.digits
    for condition, rule in ruled(sweep.conditions, sweep.layout):
        own = condition.summary
        entries = (
            ("", "", "")
            if own is None
            else (
                style.number(own.mean, digits),
                _interval(_own_interval(own), digits),
                str(own.n),
            )
        )
        draw = None if own is None else _draw_mean(own.mean, _own_interval(own), _MEAN)
        line = ForestLine(
            label=condition.label, ref=condition.ref, entries=entries, note=condition.hole, draw=draw, rule=rule
        )
        lines.append(line)
    frame = Frame(
        title=f"{sweep.title}: means",
        subtitle=subtitle(sweep),
        form=form,
        axis=sweep.layout.value.title,
        limits=limits,
        headings=("mean", "95% interval", "n"),
        caption=(
            f"Mean over n cells that differ in {_pair(sweep)} alone, with its 95% interval (Student's t; none for n = 1"
            f" or where all are equal){_cut(intervals, sweep)}; it says nothing of the difference of two."
            f" {_better(sweep)}{_NO_MEAN}"
            f"{_beyond(limits, _ends(found, intervals))}"
        ),
    )
    return draw_pages(frame, lines)


def _difference_caption(sweep: SweepSummary) -> str:
    looks, side = sweep.layout.looks, SIDE
    level, over = simultaneous_level(sweep.layout), " for all lines at once"
    if looks is not None:
        over, side = f"{over} and over all looks", looks.alpha / 2
    what = (
        f"Mean difference of pairs that agree in {_pair(sweep)}, own minus baseline, with its {level} interval, which"
        f" holds{over} (Student's t, Bonferroni; none for one pair or where all are equal)."
    )
    later = any(condition.stepwise for condition in sweep.conditions)
    mark = f" {STEPWISE}" if later else ""
    mark += (
        f" {DEAD_PAIRS}" if any(each.dead_pairs and each.difference is not None for each in sweep.conditions) else ""
    )
    if not sweep.layout.margin:
        return f"{what} p: two-sided paired t-tests, Holm-corrected over all differences.{mark}"
    margin = sweep.layout.value.amount(sweep.layout.margin)
    what += " Small circles: the single differences." if looks is not None else ""
    return (
        f"{what} Circle, not worse: shown to be worse by less than the margin of {margin}, or better. Square,"
        " worse: shown to be worse by more. Diamond, undecided: neither is shown. One-sided paired t-tests at"
        f" {100 * side:g}%, Holm-corrected over all differences.{mark}"
    )


def _better(sweep: SweepSummary) -> str:
    """Return which values are better, as a sentence; "" if nobody says."""
    better = sweep.layout.value.better
    return "" if better is None else "Less is better. " if better is Better.lower else "More is better. "


def _seeds_caption(sweep: SweepSummary, with_paper: bool) -> str:
    doubt = any(
        condition.paper and condition.paper.error is not None and not condition.paper.certain
        for condition in sweep.conditions
    )
    paper = " '?': the paper's number is not certain." if doubt else ""
    paper += _other_setup(sweep) if with_paper else ""
    return (
        f"Every cell that is done; from top to bottom of a line in the order of {_pair(sweep)}. sd: sample standard"
        f" deviation over the n of them. {_better(sweep)}{_NO_MEAN}{paper}"
    )


def _other_setup(sweep: SweepSummary) -> str:
    """Return the differences of the cells' training set-up from the paper's, or ""."""
    table = sweep.layout
    varied = {*table.keys, *table.pair, *table.select, *(chosen.key for chosen in sweep.loaded.choices)}
    other = off_paper(table.paper, sweep.loaded.cells.iloc[0].to_dict(), varied)
    return f" Not the paper's set-up, so the gap is no failure to reproduce: {', '.join(other)}." if other else ""


def _beyond(limits: tuple[float, float], values: Iterable[float]) -> str:
    low, high = limits
    return "" if all(low <= value <= high for value in values) else " An arrow at the edge: goes on beyond the axis."


def _zero(axes: Axes, top: float) -> None:
    axes.axvline(0, color=style.FOREGROUND, linewidth=0.8)


def _zero_and_margin(margin: float) -> Draw:
    """Return what draws zero and the margin, beyond which a loss counts; it is negative if more is better."""

    def draw(axes: Axes, top: float) -> None:
        low, high = axes.get_xlim()
        axes.axvspan(*((margin, high) if margin > 0 else (low, margin)), color=_LOSS, alpha=0.07, linewidth=0)
        axes.axvline(0, color=style.FOREGROUND, linewidth=0.8)
        axes.axvline(margin, color=_LOSS, linewidth=0.8, linestyle=(0, (4, 2)))
        word = f"margin {abs(margin):g}"
        room = (high - margin if margin > 0 else margin - low) / (high - low)
        room *= axes.get_position().width * axes.get_figure().get_figwidth()  # type: ignore[union-attr] # is in one
        sides = ("left", "right") if margin > 0 else ("right", "left")
        side = sides[int(style.text_width(word, style.SMALL) >= room)]
        axes.text(margin, top + 0.05, word, size=style.SMALL, color="#a84a00", va="bottom", ha=side)

    return draw


def _draw_mean(
    mean: float, interval: tuple[float, float] | None, style: dict[str, Any], single: Sequence[float] = ()
) -> Draw:
    """Return what draws a mean and its interval over the single numbers that it is of."""

    def draw(axes: Axes, y: float) -> None:
        for number in single:
            mark(axes, number, y, _SEED)
        if interval is not None:
            whisker(axes, *interval, y, style["color"])
        mark(axes, mean, y, style, shape=True)

    return draw


def _draw_seeds(condition: Condition, paper: float | None) -> Draw:
    values = list(condition.values.values())
    # The first seed is on top, and none hides another.
    heights = [0.0] if len(values) == 1 else np.linspace(0.055, -0.055, len(values))

    def draw(axes: Axes, y: float) -> None:
        if paper is not None:
            mark(axes, paper, y, _PAPER)
        if condition.summary is not None and condition.summary.n > 1:
            mark(axes, condition.summary.mean, y, _BAR)
        low, high = axes.get_xlim()
        places = [(value, y + float(height)) for value, height in zip(values, heights, strict=True)]
        # Those within the axis at once: a thousand artists take a second.
        inside = [place for place in places if low <= place[0] <= high]
        if inside:
            axes.plot(*zip(*inside, strict=True), linestyle="none", clip_on=False, zorder=4, **_SEED)
        for place in places:
            if place not in inside:
                mark(axes, *place, _SEED)

    return draw


def _seed_entries(condition: Condition, digits: int, *, with_paper: bool) -> tuple[str, ...]:
    entries = ["", "", ""]
    if (own := condition.summary) is not None:
        entries = [
            style.number(own.mean, digits),
            _NONE if own.sd is None else style.number(own.sd, digits),
            str(own.n),
        ]
    return (*entries, _paper_text(condition.paper)) if with_paper else tuple(entries)


def _paper_text(paper: PaperValue | None) -> str:
    if paper is None:
        return _NONE
    return "new" if paper.error is None else style.number(paper.error) + ("" if paper.certain else "?")


def _own_interval(found: Summary) -> tuple[float, float] | None:
    return None if found.low is None or found.high is None else (found.low, found.high)


def _cut(intervals: Iterable[tuple[float, float]], sweep: SweepSummary) -> str:
    cut = any(end in sweep.layout.value.bounds for interval in intervals for end in interval)
    return ", cut at 0 and 100%" if cut else ""


def _ends(found: Sequence[Summary | Difference], intervals: Iterable[tuple[float, float]]) -> list[float]:
    return [each.mean for each in found] + [end for interval in intervals for end in interval]


def _interval(interval: tuple[float, float] | None, digits: int, *, sign: bool = False) -> str:
    if interval is None:
        return _NONE
    low, high = (style.number(end, digits, sign=sign) for end in interval)
    return f"{low} to {high}"


def _mean_text(mean: Summary | None, sweep: SweepSummary) -> str:
    if mean is None:
        return ""
    value = sweep.layout.value
    unit = f" {value.own_unit}".replace(" %", "%").rstrip()
    return f": {style.number(mean.mean, value.digits)}{unit}, n = {mean.n}"


def _key(label: str, style: dict[str, Any]) -> Line2D:
    return Line2D([], [], linestyle="none", label=label, **style)


def _pair(sweep: SweepSummary) -> str:
    return " and ".join(sweep.layout.pair)
