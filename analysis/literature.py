"""The paper's comparisons with the literature, and our value beside the paper's where there is one."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from strive.config.identity import science_keys
from strive.results.conditions import Condition
from strive.results.published import agrees, off_paper, paper_file, paper_setup
from strive.sweeps.table_spec import TEST_ERROR
from strive.tables.summary import SweepSummary
from strive.tables.table import Column, Entry, Row, Table

# In these a cell may differ from the paper's and still stand beside it: the table says in what.
_SAID = ("data.name", "optimizer.lr")
_NONE = Entry(text="-")
_COLUMNS = (
    Column(title="method", numeric=False),
    Column(
        title="error, %",
        help="on the test images, of ImageNet the validation images; ours is the mean over seeds; no row is tested"
        " against another, so a smaller error is not shown to be better",
    ),
    Column(title="sd", help="sample standard deviation over seeds (n - 1)"),
    Column(title="n", help="seeds; the paper and the methods it compares with give one number each"),
    Column(title="parameters"),
)


@dataclass(frozen=True, slots=True)
class _Setting:
    """A condition of a sweep, and the knobs of its cells, those that are alike once."""

    sweep: SweepSummary
    condition: Condition
    knobs: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Ours:
    """A condition of a sweep with the net of a comparison."""

    sweep: SweepSummary
    condition: Condition
    said: tuple[str, ...]  # in what it is not the paper's, and may stand beside it
    other: tuple[str, ...]  # in what it is not the paper's, so that it may not

    @property
    def cells(self) -> frozenset[str]:
        return frozenset(self.condition.cells["cell"])


def comparison_tables(sweeps: Sequence[SweepSummary]) -> list[Table]:
    """Return the paper's comparisons on images that a sweep trained with; what is in its set-up stands below its row.

    A sweep's value counts if its sweep file names the paper's table (`table: {paper: NAME}`) and shows test errors.
    """
    named = science_keys() - {"seed"}  # what paper.yaml may name
    settings = [
        _Setting(sweep, condition, _knobs(condition, named)) for sweep in sweeps for condition in sweep.conditions
    ]
    cells = [cell for setting in settings for cell in setting.knobs]
    tables = []
    for entry in paper_file()["comparison"]:
        images = _images(entry)
        if any(agrees(cell, images) for cell in cells):
            tables.append(_table(entry, _unique(_ours(entry, settings))))
    return tables


def _knobs(condition: Condition, named: Collection[str]) -> list[dict[str, Any]]:
    keys = [str(key) for key in condition.cells if key in named]
    rows = {repr(row): row for row in condition.cells[keys].to_numpy(object).tolist()}
    return [dict(zip(keys, row, strict=True)) for row in rows.values()]


def _images(entry: dict[str, Any]) -> dict[str, Any]:
    """Return {key: value} of the cells that train with a comparison's images, augmented as there."""
    ours = entry["ours"]
    augmented = {key: value for key, value in ours["when"].items() if key.startswith("augment.")}
    return {"data.name": paper_file()["tables"][ours["table"]]["data"]} | augmented


def _ours(entry: dict[str, Any], settings: Sequence[_Setting]) -> Iterator[_Ours]:
    """Yield the conditions with the net, images and augmentation of a comparison."""
    table, when = entry["ours"]["table"], entry["ours"]["when"]
    wanted = {
        "data.name": paper_file()["tables"][table]["data"],
        "model.family": paper_setup(table)["model.family"],
    } | when
    for setting in settings:
        layout = setting.sweep.layout
        if layout.paper != table or layout.value.name != TEST_ERROR.name:
            continue
        if setting.knobs and all(agrees(cell, wanted) for cell in setting.knobs):
            lines = dict.fromkeys(line for cell in setting.knobs for line in off_paper(table, cell))
            said = tuple(line for line in lines if line.partition("=")[0] in _SAID)
            yield _Ours(setting.sweep, setting.condition, said, tuple(line for line in lines if line not in said))


def _unique(found: Iterator[_Ours]) -> list[_Ours]:
    """Return each condition once: two sweeps may share cells, and fewer seeds of the same say less."""
    kept: list[_Ours] = []
    for each in found:
        if any(each.cells <= other.cells for other in kept):
            continue
        kept = [other for other in kept if not other.cells < each.cells] + [each]
    return kept


def _table(entry: dict[str, Any], found: Sequence[_Ours]) -> Table:
    rows = []
    for row in entry["rows"]:
        rows.append(_row_of(row))
        if row["method"] == f"{entry['net']}, the paper":
            rows += [_our_row(entry, each) for each in found if not each.other] or [_no_row(entry)]
    doubt = " A number with '?' is remembered from the paper or from the work that it quotes, and was not read again."
    return Table(
        name=f"paper_{entry['name']}",
        title=entry["title"],
        caption=f"The paper's comparison, its {entry['place']}."
        + ("" if all(row["certain"] for row in entry["rows"]) else doubt),
        columns=_COLUMNS,
        rows=tuple(rows),
        notes=(*entry.get("notes", ()), *_sources(entry), *_our_notes(found)),
    )


def _row_of(row: dict[str, Any]) -> Row:
    text = f"{row['error']:.{1 if row['error'] > 40 else 2}f}{'' if row['certain'] else '?'}"
    parameters = Entry(text=row["parameters"]) if row["parameters"] else _NONE
    return Row(entries=(Entry(text=row["method"]), Entry(text=text, value=row["error"]), _NONE, _NONE, parameters))


def _our_row(entry: dict[str, Any], ours: _Ours) -> Row:
    condition, summary = ours.condition, ours.condition.summary
    cell = condition.cells.iloc[0]
    words = [f"{entry['net']}, ours"]
    # What one comparison may have twice: with and without augmentation, CIFAR-10 and its JPEG copies.
    words += [str(cell["augment.kind"])] if "augment.kind" not in entry["ours"]["when"] else []
    words += [str(cell["data.name"])] if any(line.startswith("data.name=") for line in ours.said) else []
    start = Entry(text=", ".join(words))
    parameters = (
        _NONE if condition.parameters is None else Entry(text=f"{condition.parameters:,}", value=condition.parameters)
    )
    if summary is None:
        n = Entry(text=str(len(condition.values)), value=len(condition.values))
        return Row(entries=(start, Entry(text=condition.hole, hole=True), _NONE, n, parameters), ref=_ref(ours))
    sd = _NONE if summary.sd is None else Entry(text=f"{summary.sd:.2f}", value=summary.sd)
    mean = Entry(text=f"{summary.mean:.2f}", value=summary.mean)
    n = Entry(text=str(summary.n), value=summary.n)
    return Row(entries=(start, mean, sd, n, parameters), ref=_ref(ours))


def _no_row(entry: dict[str, Any]) -> Row:
    hole = Entry(text="no value of ours yet", hole=True)
    return Row(entries=(Entry(text=f"{entry['net']}, ours"), hole, _NONE, _NONE, _NONE))


def _ref(ours: _Ours) -> str:
    """Return the condition's number with its sweep: a comparison has those of several."""
    return f"{ours.sweep.loaded.name} {ours.condition.ref}"


def _sources(entry: dict[str, Any]) -> list[str]:
    """Return a sentence for each source, with the methods whose numbers it has."""
    methods: dict[str, list[str]] = {}
    for row in entry["rows"]:
        if row["certain"]:
            methods.setdefault(row["source"], []).append(row["method"])
    return [f"{'; '.join(names)}: {source}." for source, names in methods.items()]


def _our_notes(found: Sequence[_Ours]) -> list[str]:
    notes = []
    for each in found:
        name = f"{each.sweep.title}, {each.condition.label}"
        if each.other:
            notes.append(f"{name} is in another set-up, and so no comparison: {'; '.join((*each.said, *each.other))}.")
            continue
        if each.said:
            notes.append(f"{name} is not the paper's in {'; '.join(each.said)}.")
        by = {chosen.by for chosen in each.sweep.loaded.choices} | set(map(str, each.sweep.layout.select.values()))
        if "test_error" in by:
            notes.append(f"{name}: the test images chose a value, as in the paper, so the error is too small.")
    return notes
