"""The numbers of a sweep by key, such as table3/all_cnn_c/test_error, for use in the text of a paper or a page."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from strive.results.component_effects import ComponentEffect
from strive.results.conditions import Condition
from strive.statistics.inference import Verdict
from strive.sweeps.table_spec import TableSpec
from strive.tables.condition_lines import at_chance_note
from strive.tables.entries import p_text
from strive.tables.error_table import gap
from strive.tables.summary import SweepSummary
from strive.tables.table import Entry, Table

# Their lines are conditions or effects of components, whose numbers have shorter keys, or cells without numbers.
_OF_CONDITIONS = frozenset({"errors", "overview", "differences", "components", "holes"})
_WORD = re.compile(r"(?<!\w)-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![^\W_])|[^\W_]+")
_DIGITS = re.compile(r"(?P<digits>[<+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)(?:, \d+ of \d+ dead)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Number:
    """What a key stands for: a number, or a text such as a verdict."""

    text: str = ""  # as tables print it; "" if there is none
    why: str = ""  # why there is none, in one line
    of: str = ""  # what it is a number of, for messages

    @property
    def is_number(self) -> bool:
        """Return whether it is a number, rather than a text."""
        return _DIGITS.fullmatch(self.text) is not None

    @property
    def raw(self) -> str:
        """Return the digits alone, such as 14362 for 14,362; the text if it is no number."""
        found = _DIGITS.fullmatch(self.text)
        return found["digits"].replace(",", "") if found else self.text


def slug(text: str) -> str:
    """Return a name as a part of a key: all_cnn_c for ALL-CNN-C, model_width_0.5 for model.width 0.5."""
    plain = unicodedata.normalize("NFKD", text.replace("\N{MINUS SIGN}", "-")).lower()
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    return "_".join(_WORD.findall(plain)) or "unnamed"


def numbers_of(sweep: SweepSummary) -> dict[str, Number]:
    """Return {key: number} of a sweep. A key that two things claim has no number, and says which two.

    SWEEP/CONDITION/METRIC is the mean, and the same with /n, /sd, /low, /high, /diff, /p and more its other numbers.
    SWEEP/effect_of_COMPONENT/METRIC/diff is an effect of a factorial design, also with /diff_low, /diff_high and /p.
    SWEEP/TABLE/LINE/COLUMN is an entry of a further table, SWEEP/TABLE/NAME a number of a caption; SWEEP/answer and
    SWEEP/question are texts.
    """
    found: dict[str, Number] = {}
    for key, number in _all(sweep):
        key = f"{sweep.loaded.name}/{key}"
        first = found.get(key)
        if first is None or first.why.startswith(f"{key} "):
            found.setdefault(key, number)
        elif first.of != number.of:
            why = f"{key} would be of both {first.of} and {number.of}; rename one of them"
            found[key] = Number(why=why, of=first.of)
    return found


def collisions(numbers: Iterable[Number]) -> list[str]:
    """Return a sentence for each two things whose keys are the same."""
    return list(dict.fromkeys(each.why for each in numbers if " would be of both " in each.why))


def tables_of(sweep: SweepSummary) -> dict[str, Table]:
    """Return {key: table} of a sweep, such as table3/errors."""
    return {f"{sweep.loaded.name}/{table.name}": table for table in sweep.tables}


def _all(sweep: SweepSummary) -> Iterator[tuple[str, Number]]:
    name = sweep.loaded.name
    yield "answer", Number(text=sweep.answer, of=f"the answer of {name}")
    yield "question", _text(sweep.loaded.question, "the sweep has no question", f"the question of {name}")
    for condition in sweep.conditions:
        own, of = slug(condition.label), f"{condition.label}, condition {condition.ref}"
        metric = slug(sweep.layout.value.name)
        for field, number in _of_condition(condition, sweep.layout):
            yield f"{own}/{metric}{field and '/'}{field}", replace(number, of=of)
        count = condition.parameters
        yield f"{own}/parameters", _text("" if count is None else f"{count:,}", condition.hole or "no record says", of)
    for effect in (each for place in sweep.components for each in place.effects):
        own, of = slug(f"effect of {effect.label}"), f"the effect of {effect.label}"
        for field, number in _of_effect(effect, sweep.layout.value.digits):
            yield f"{own}/{slug(sweep.layout.value.name)}/{field}", replace(number, of=of)
    for table in sweep.tables:
        yield from _of_table(table)


def _of_effect(effect: ComponentEffect, digits: int) -> Iterator[tuple[str, Number]]:
    """Yield (field, number) of an effect, in the words of a difference."""
    low, high = effect.found.simultaneous
    for field, number in (("diff", effect.found.estimate), ("diff_low", low), ("diff_high", high)):
        yield field, _text("" if number is None else f"{number:+.{digits}f}", "one cell for each arm has no interval")
    yield "p", _p(effect.p, "no test")
    yield "aliases", _text(effect.aliases, "it has no aliases")


def _of_condition(condition: Condition, layout: TableSpec) -> Iterator[tuple[str, Number]]:
    """Yield (field, number) of a condition's mean and of its difference from the baseline; "" is the mean itself."""
    summary, value, form = condition.summary, layout.value, f".{layout.value.digits}f"
    yield "n", Number(text=str(len(condition.values)))
    for field, attribute in (("", "mean"), ("sd", "sd"), ("low", "low"), ("high", "high")):
        note = at_chance_note(condition) if field == "" else ""
        number = getattr(summary, attribute, None)
        yield (
            field,
            _text(
                "" if number is None else f"{number:{form}}{note}",
                condition.hole or "there is none for n = 1 or equal values",
            ),
        )
    if condition.paper is not None:
        printed, apart = condition.paper.error, gap(condition)
        yield "paper", _text("" if printed is None else f"{printed:.2f}", "the paper has no such number")
        yield "gap", _text("" if apart is None else f"{apart:+.2f}", condition.hole or "the paper has no such number")
    yield from _of_difference(condition, value.digits)


def _of_difference(condition: Condition, digits: int) -> Iterator[tuple[str, Number]]:
    found, judged, form = condition.difference, condition.judgement, f"+.{digits}f"
    why = condition.no_difference or "it has no baseline"
    yield "baseline", _text(condition.baseline, "it has no baseline")
    yield "diff", _text("" if found is None else f"{found.mean:{form}}", why)
    ends = (None, None) if found is None else condition.simultaneous or (None, None)
    for field, end in zip(("diff_low", "diff_high"), ends, strict=True):
        yield field, _text("" if end is None else f"{end:{form}}", why if found is None else "no interval")
    if judged is None:
        yield "p", _p(condition.p_holm, why if found is None else "no test")
        return
    yield "verdict", Number(text=judged.verdict.value)
    yield "p_no_loss", _p(judged.p_no_loss, "no test")
    yield "p_loss", _p(judged.p_loss, "no test")
    decided = {Verdict.not_worse: judged.p_no_loss, Verdict.worse: judged.p_loss}.get(judged.verdict)
    yield "p", _p(decided, "an undecided line has two tests: say /p_no_loss or /p_loss")


def _of_table(table: Table) -> Iterator[tuple[str, Number]]:
    """Yield the numbers of a table's caption, and of its entries if its lines are no conditions."""
    for name, entry in table.in_caption.items():
        yield f"{table.name}/{name}", _entry(entry, f"the caption of '{table.title}'")
    if table.name in _OF_CONDITIONS:
        return
    words = max(1, next((i for i, column in enumerate(table.columns) if column.numeric), 1))
    for row in table.rows:
        line = "_".join(slug(entry.text) for entry in row.entries[:words])
        of = f"line {', '.join(entry.text for entry in row.entries[:words])} of '{table.title}'"
        for column, entry in zip(table.columns[words:], row.entries[words:], strict=True):
            yield f"{table.name}/{line}/{slug(column.title)}", _entry(entry, of)


def _entry(entry: Entry, of: str) -> Number:
    if entry.hole or entry.text in ("", "-"):
        return Number(why=entry.text if entry.hole else "the table has no number there", of=of)
    return Number(text=entry.text, of=of)


def _p(p: float | None, why: str) -> Number:
    return _text("" if p is None else p_text(p), why)


def _text(text: str, why: str, of: str = "") -> Number:
    return Number(text=text, of=of) if text else Number(why=why, of=of)
