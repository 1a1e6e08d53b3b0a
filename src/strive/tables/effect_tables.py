"""The tables of an analysis of variance: effects, and the mean of each level."""

import math

from strive.statistics.factorial import Assumptions, Effect, Effects
from strive.statistics.inference import cut
from strive.sweeps.table_spec import TableSpec
from strive.tables.entries import NONE, bounded, cut_notes, p_is, p_text
from strive.tables.table import Column, Entry, Row, Table


def effect_table(effects: Effects, table: TableSpec) -> Table:
    """Return one line for each main effect and interaction."""
    rows = []
    for each in effects.effects:
        source = " x ".join(map(table.labels.title, each.source))
        entries = (
            Entry(text=source),
            Entry(text=str(each.df), value=each.df),
            Entry(text=f"{each.f:.2f}", value=each.f),
            Entry(text=p_text(each.p), value=each.p),
            *_unequal_entries(each),
            Entry(text=f"{each.share:.2f}", value=each.share),
        )
        rows.append(Row(entries=entries))
    block = ", with the seed as a block" if effects.blocked else ""
    spread = f"{effects.residual_sd:.{table.value.digits}f}"
    return Table(
        name="effects",
        title="Main effects and interactions",
        caption=(
            f"Analysis of variance over all cells{block}; residual standard deviation {spread},"
            f" {effects.residual_df} degrees of freedom. Share: partial eta squared, of what no other"
            " effect explains; shares do not add up to 1. Each p is of its line alone, not corrected for the other"
            " lines; a large one does not show that there is no effect."
            f" {assumptions_text(effects.assumptions)}"
        ),
        columns=(
            Column(title="effect", numeric=False),
            Column(title="df"),
            Column(title="F"),
            Column(title="p", help="assumes that all combinations have the same spread"),
            Column(title="df, any spread"),
            Column(title="error df, any spread"),
            Column(title="F, any spread"),
            Column(title="p, any spread", help=_any_spread(effects)),
            Column(title="share"),
        ),
        rows=tuple(rows),
        in_caption=_assumptions(effects, spread),
    )


def _unequal_entries(effect: Effect) -> list[Entry]:
    """Return both degrees of freedom, F and p without equal spread."""
    test = effect.unequal
    if test is None:
        return [NONE] * 4
    return [
        *(Entry(text=f"{number:.2f}", value=number) for number in (test.df, test.error_df, test.f)),
        Entry(text=p_text(test.p), value=test.p),
    ]


def _assumptions(effects: Effects, spread: str) -> dict[str, Entry]:
    """Return the numbers of the caption."""
    found = effects.assumptions
    return {
        "residual_sd": Entry(text=spread, value=effects.residual_sd),
        "residual_df": Entry(text=str(effects.residual_df), value=effects.residual_df),
        "variance_ratio": Entry(text=_ratio(found.variance_ratio), value=found.variance_ratio),
        "p_equal_spread": Entry(text=p_text(found.p_equal), value=found.p_equal),
        "p_normal": Entry(text=p_text(found.p_normal), value=found.p_normal),
    }


def _ratio(ratio: float) -> str:
    return "infinite" if math.isinf(ratio) else f"{ratio:,.{0 if ratio >= 10 else 1}f}"


def assumptions_text(found: Assumptions) -> str:
    """Return what the cells say of the assumptions of an analysis, and which p that leaves to read."""
    one = "A combination has no variance over seeds at all"
    if math.isfinite(found.variance_ratio):
        one = f"The largest variance over seeds is {_ratio(found.variance_ratio)} times the smallest"
    tests = [f"{one} (Bartlett's test of equal spread: {p_is(found.p_equal)})"]
    if found.p_normal is not None:
        tests.append(f"Shapiro and Wilk's test of normal residuals: {p_is(found.p_normal)}")
    said = "Neither assumption is rejected, which says little with few seeds"
    if found.p_normal is None:
        said = "Equal spread is not rejected, which says little with few seeds"
    if not found.equal_spread:
        said = "The cells contradict the equal spread that p assumes: read 'p, any spread', which does without"
        said += "" if found.normal else ", but assumes normal residuals, too, and the cells contradict these as well"
    elif not found.normal:
        said = "The cells contradict the normal residuals that both p assume"
    return f"{'; '.join(tests)}. {said}."


def _any_spread(effects: Effects) -> str:
    if effects.blocked:
        return "the effect over its own variation between seeds, degrees of freedom after Geisser and Greenhouse"
    return "each combination with its own variance, degrees of freedom after Brunner, Dette and Munk"


def level_table(effects: Effects, table: TableSpec) -> Table:
    """Return the marginal mean of each level of each factor."""
    rows, digits = [], table.value.digits
    last, doubt = "", "" if effects.assumptions.equal_spread else ", which the cells contradict"
    shared = ": what a seed changes in all cells alike is in them" if effects.blocked else ""
    for each in effects.levels:
        entries = (
            Entry(text=table.labels.title(each.factor)),
            Entry(text=table.labels.text(each.factor, each.value)),
            Entry(text=str(each.n), value=each.n),
            Entry(text=f"{each.mean:.{digits}f}", value=each.mean),
            bounded(cut(each.mean, (each.low, each.high), table.value.bounds), table.value),
        )
        rows.append(Row(entries=entries, rule=bool(last) and last != each.factor))
        last = each.factor
    return Table(
        name="levels",
        title="Means by factor",
        caption=(
            "Each mean is over all cells with that value. Its interval is about further seeds, and assumes that all"
            f" combinations have one spread{doubt}. To compare the values of a factor, read the analysis of variance,"
            f" not these intervals{shared}."
        ),
        columns=(
            Column(title="factor", numeric=False),
            Column(title="value", numeric=False),
            Column(title="n", help="cells with that value"),
            Column(title=table.value.title),
            Column(title="95% interval"),
        ),
        rows=tuple(rows),
        notes=cut_notes(rows),
    )
