"""The table of the effects of a factorial design's components, the largest first."""

from collections.abc import Sequence

from strive.results.component_effects import ComponentEffect, ComponentEffects
from strive.sweeps.design import DesignName
from strive.sweeps.table_spec import TableSpec
from strive.tables.condition_lines import LATER, STEPWISE
from strive.tables.effect_tables import assumptions_text
from strive.tables.entries import bounded, cut_notes, p_text
from strive.tables.table import Column, Entry, Row, Table


def component_table(found: Sequence[ComponentEffects], table: TableSpec) -> Table:
    """Return one line for each main effect and interaction that the arms tell apart."""
    design = table.design
    assert design is not None
    aliased = design.name is DesignName.fractional_factorial
    comma = f", {table.value.unit}" if table.value.unit else ""
    columns = (
        Column(title="effect", numeric=False),
        Column(
            title=f"difference{comma}",
            help="mean over the arms with the component minus mean over those without; bold: shown to differ from 0",
        ),
        Column(title="simultaneous interval", help="95%, for all effects at once: Student's t, Bonferroni"),
        Column(title="of the line alone", help="its 95% interval, not corrected for the other lines", latex=False),
        Column(title="p", help="Holm-corrected over the effects; assumes that all arms have the same spread"),
        Column(title="p, any spread", help=f"Holm-corrected over the effects; {_any_spread(found)}"),
        *([Column(title="aliases", numeric=False, help="what is added to this effect")] if aliased else []),
    )
    rows = [
        Row(
            entries=_entries(each, table, aliased=aliased),
            factors=table.labels.texts(place.place),
            rule=number == 0 and place is not found[0],
        )
        for place in found
        for number, each in enumerate(place.effects)
    ]
    stepwise = any(each.stepwise for place in found for each in place.effects)
    return Table(
        name="components",
        title=f"Effects of the components{comma}",
        caption=_caption(found, table),
        columns=columns,
        rows=tuple(rows),
        notes=(*((STEPWISE,) if stepwise else ()), *cut_notes(rows)),
    )


def _entries(each: ComponentEffect, table: TableSpec, *, aliased: bool) -> tuple[Entry, ...]:
    found, value = each.found, table.value
    mark = LATER if each.stepwise else ""
    ps = [
        Entry(text=p_text(p) + (mark if p is not None and p == each.p else ""), value=p)
        for p in (found.p, found.p_unequal)
    ]
    return (
        Entry(text=each.label),
        Entry(text=f"{found.estimate:+.{value.digits}f}", value=found.estimate, bold=each.decided),
        bounded(found.simultaneous, value, difference=True),
        bounded(found.alone, value, difference=True),
        *ps,
        *([Entry(text=each.aliases)] if aliased else []),
    )


def _any_spread(found: Sequence[ComponentEffects]) -> str:
    if all(each.contrasts.blocked for each in found):
        return "the effect over its own spread between seeds, as a paired t-test"
    return "each arm with its own variance, as Welch's test"


def _caption(found: Sequence[ComponentEffects], table: TableSpec) -> str:
    design = table.design
    assert design is not None
    value = table.value
    worse = f": {value.worse}" if value.better is not None else ""
    parts = [
        f"{design.title}, sorted by size. The effect of a component is the mean {value.words} over the arms that have"
        f" it minus the mean over those that do not{worse}; A x B is half of what B changes in the effect of A."
    ]
    if design.name is DesignName.fractional_factorial:
        parts.append(
            "With an effect its aliases are estimated: what is shown is their sum, and nothing tells them apart."
        )
    for each in found:
        where = f"{table.labels.name(each.place)}: " if each.place else ""
        parts.append(f"{where}{_spread_text(each, value.digits)}")
    return " ".join(parts)


def _spread_text(each: ComponentEffects, digits: int) -> str:
    found = each.contrasts
    if found.assumptions is None or found.residual_sd is None:
        return "With one cell for each arm there is no spread to compare effects with."
    block = ", with the seed as a block" if found.blocked else ""
    intervals = "of all arms together" if found.pooled else "of each effect alone"
    return (
        f"{found.seeds} cells in each of {each.arms} arms{block}; residual standard deviation"
        f" {found.residual_sd:.{digits}f}, {found.df} degrees of freedom. {assumptions_text(found.assumptions)}"
        f" Intervals and what is decided (bold) are by the spread {intervals}."
    )
