"""The `choose` of a sweep file: a knob's value, such as each net's learning rate, from another sweep's records.

Imports no torch.
"""

import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strive.cells.metrics import Better, is_share
from strive.cells.records import Record, Status
from strive.command_line import multirun
from strive.config import identity
from strive.errors import ConfigError
from strive.format import counted
from strive.sweeps.criterion import Criterion

Science = Mapping[str, Any]  # {dotted key: value} of what determines a cell's numbers, as in a record's config
HELD_OUT = "data.val_images"  # key of the number of examples that validation metrics are measured on
Parents = Sequence[tuple[Science, Record | None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChoiceSpec:
    """One entry of `choose` in a sweep file."""

    key: str  # the knob to choose
    sweeps: tuple[str, ...]  # the sweeps whose cells are compared
    by: Criterion
    per: tuple[str, ...]  # one choice for each combination of these knobs' values


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen value and the reason for it."""

    value: Any  # as in a record's config: a JSON value
    why: str  # the reason, one line
    edge: str = ""  # "largest" or "smallest" if no larger or no smaller value was tried
    noise: str = ""  # its lead and the larger standard error of it, if it is within noise

    @property
    def doubt(self) -> str:
        """Return why another value might be better, one line; "" if nothing says so."""
        return "; ".join(filter(None, [f"the {self.edge} tried" if self.edge else "", self.noise]))


class MissingParentsError(ConfigError):
    """Raised when cells that a choice depends on have no result yet."""

    def __init__(self, spec: ChoiceSpec, wanted: str, states: Sequence[str], overrides: Sequence[str]) -> None:
        """Store the state of each candidate: "" if it has a result, else its status."""
        self.spec, self.wanted, self.states, self.overrides = spec, wanted, states, overrides
        holes = Counter(filter(None, states))
        counts = ", ".join(f"{count} {state}" for state, count in sorted(holes.items()))
        commands = [multirun(f"sweeps={name}", *overrides) for name in spec.sweeps]
        super().__init__(
            f"{spec.key}{wanted} is chosen from {_listed(spec.sweeps)}, where {holes.total()} of"
            f" {counted(len(states), 'cell')} have no result ({counts})\n  train them first: "
            + "\n                    ".join(commands)
            + "\n  or add hydra.sweeper.parents=true"
        )


def together(errors: Iterable[MissingParentsError]) -> list[MissingParentsError]:
    """Merge the errors of each entry of `choose` into one, so twelve nets without parents give one message."""
    grouped: dict[ChoiceSpec, dict[str, MissingParentsError]] = {}
    for error in errors:
        # Cells that differ only in the seed miss the same parents.
        grouped.setdefault(error.spec, {}).setdefault(error.wanted, error)
    merged = []
    for spec, found in grouped.items():
        first, *others = found.values()
        states = [state for error in found.values() for state in error.states]
        merged.append(MissingParentsError(spec, "", states, first.overrides) if others else first)
    return merged


def chooser(spec: ChoiceSpec, parents: Parents, overrides: Sequence[str] = ()) -> Callable[[Science], Choice]:
    """Return `choose` with the parents sorted once, for the many cells of one sweep.

    overrides: additional overrides for the command that trains missing parents.
    """

    def alike(science: Science) -> str:
        flat = identity.with_argument_keys(science)
        return repr([flat.get(key) for key in spec.per])

    # A cell may belong to several of the sweeps.
    distinct = {identity.hash_of(science): (science, record) for science, record in parents}
    groups: dict[str, list[tuple[Science, Record | None]]] = {}
    for science, record in distinct.values():
        groups.setdefault(alike(science), []).append((science, record))
    chosen: dict[str, Choice] = {}

    def choose_for(science: Science) -> Choice:
        group = alike(science)
        if group not in chosen:
            chosen[group] = _choose(spec, _wanted(spec, science), groups.get(group, []), overrides)
        return chosen[group]

    return choose_for


def choose(spec: ChoiceSpec, science: Science, parents: Parents, overrides: Sequence[str] = ()) -> Choice:
    """Return the value with the best mean among the parents that equal a cell in spec.per. science: of that cell.

    A value is never chosen if one of its seeds diverged. If two values are equally good, the smaller one wins.

    Raises MissingParentsError if one of these cells has no result: a mean over the finished cells alone
    would change the choice as more cells finish. Raises ConfigError if there is nothing to choose from.
    """
    return chooser(spec, parents, overrides)(science)


def _choose(spec: ChoiceSpec, wanted: str, candidates: Parents, overrides: Sequence[str]) -> Choice:
    if not candidates:
        raise ConfigError(
            f"{spec.key}{wanted} is chosen from {_listed(spec.sweeps)}, which has no such cell;"
            f" give {spec.key}=VALUE, or correct `per` or `sweep`"
        )
    states = [_state(record) for _, record in candidates]
    if any(states):
        raise MissingParentsError(spec, wanted, states, overrides)
    _check_alike(spec, wanted, candidates)
    values, diverged = _values(spec, wanted, candidates)
    if not values:
        raise ConfigError(
            f"{spec.key}{wanted}: every value in {_listed(spec.sweeps)} diverged ({_texts(diverged)});"
            f" give {spec.key}=VALUE, or other values to that sweep"
        )
    return best_of(spec.by, values, diverged, examples(spec.by, candidates[0][0]))


def examples(by: Criterion, science: Mapping[Any, Any]) -> int:
    """Return the number of held-out examples that the metric is a share of; 0 if it is none, or nobody says."""
    number = science.get(HELD_OUT, 0) if is_share(by.metric) and by.metric.startswith("val") else 0
    return number if isinstance(number, int) else 0


def _state(record: Record | None) -> str:
    if record is None:
        return "not trained"
    return "" if record.status.finished else record.status.value


def _check_alike(spec: ChoiceSpec, wanted: str, candidates: Parents) -> None:
    first, *others = (science for science, _ in candidates)
    differing = {key for other in others for key in identity.differences(first, other)} - {spec.key, "seed"}
    if differing:
        raise ConfigError(
            f"{spec.key}{wanted}: the cells of {_listed(spec.sweeps)} that would be averaged differ in"
            f" {_texts(sorted(differing))}, not only in seed; name that in `per`, or choose from another sweep"
        )


def _values(spec: ChoiceSpec, wanted: str, candidates: Parents) -> tuple[list[tuple[Any, list[float]]], list[Any]]:
    """Return [(value, the metric of each seed)] and the values that diverged, both in ascending order."""
    found: dict[str, tuple[Any, list[Record]]] = {}
    for science, record in candidates:
        assert record is not None
        value = identity.with_argument_keys(science).get(spec.key)
        found.setdefault(json.dumps(value), (value, []))[1].append(record)
    values, diverged = [], []
    for value, cells in sorted(found.values(), key=lambda item: order(item[0])):
        if any(cell.status is Status.diverged for cell in cells):
            diverged.append(value)
        else:
            values.append((value, [_metric(spec, wanted, cell) for cell in cells]))
    return values, diverged


def _metric(spec: ChoiceSpec, wanted: str, cell: Record) -> float:
    name = spec.by.metric
    value = cell.metrics.get(name)
    if value is not None:
        return value
    if name in cell.metrics:
        hint = "; set data.val_images there, such as 5000" if "data.val_images" in cell.config else ""
        why = f"{_listed(spec.sweeps)} holds nothing out{hint}" if name.startswith("val") else f"{cell.cell} has none"
    else:
        why = f"{cell.cell} has only {', '.join(cell.metrics) or 'no metrics'}"
    raise ConfigError(f"{spec.key}{wanted} is chosen by {name}, but {why}")


def best_of(
    by: Criterion, values: Sequence[tuple[Any, Sequence[float]]], diverged: Sequence[Any], num_examples: int = 0
) -> Choice:
    """Return the value with the best mean; the first one if several are equal.

    values: [(value, the metric of each seed)] in ascending order, at least one. An error is a share in [0, 1].
    diverged: the values with a diverged seed. num_examples: of which the metric is a share; 0 if unknown.
    """
    share = is_share(by.metric)
    means = [(value, _mean(cells, share)) for value, cells in values]
    sign = -1 if by.better is Better.higher else 1
    value, best = min(means, key=lambda each: sign * each[1])  # if several are equal, the first and so smallest value
    num_seeds = next(len(cells) for each, cells in values if each == value)
    shown = _shown(means, share)
    ties = [f"{_text(each)}: {shown[mean]}" for each, mean in means if mean == best and each != value]
    rest = sorted((each for each in means if each[1] != best), key=lambda each: sign * each[1])
    beaten = [f"{_text(each)}: {shown[mean]}" for each, mean in rest]
    why = f"{by.words} {shown[best]} ({f'mean of {num_seeds} seeds' if num_seeds > 1 else '1 seed'})"
    why += f", equal to {', '.join(ties)}, of which it is the smallest value" if ties else ""
    why += f", beats {', '.join(beaten)}" if beaten else ""
    why += f"; {_texts(diverged)} diverged" if diverged else ""
    return Choice(
        value,
        why if len(means) > 1 or diverged else f"{why}, the only value",
        edge=_edge(value, [*(each for each, _ in values), *diverged]),
        noise=_noise(by, value, values, num_examples),
    )


def _edge(value: Any, tried: Sequence[Any]) -> str:
    """Return "largest" or "smallest" if a chosen number is that of several that were tried, or ""."""
    numbers = [each for each in tried if isinstance(each, int | float) and not isinstance(each, bool)]
    if len(numbers) < 2 or value not in numbers:
        return ""
    return "largest" if value == max(numbers) else "smallest" if value == min(numbers) else ""


def _noise(by: Criterion, value: Any, values: Sequence[tuple[Any, Sequence[float]]], num_examples: int) -> str:
    """Return the lead of the chosen value over the second best if it is within noise, or "".

    With several seeds of both that is the standard error of a difference of two means. With one seed it is the sampling
    error of the examples that a share was counted on, sqrt((p (1 - p) + q (1 - q)) / n), as if each value was scored on
    examples of its own: what was predicted for each is not kept. On the same ones, which are hard for both, it is
    smaller, and what seeds add is not in it. Otherwise it is unknown.
    """
    sign, factor = (-1 if by.better is Better.higher else 1), (100 if is_share(by.metric) else 1)
    own = next(cells for each, cells in values if each == value)
    others = [cells for each, cells in values if each != value]
    if not others:
        return ""
    second = min(others, key=lambda cells: sign * math.fsum(cells) / len(cells))
    means = [math.fsum(cells) / len(cells) for cells in (own, second)]
    if len(own) > 1 and len(second) > 1:
        error = math.sqrt(statistics.variance(own) / len(own) + statistics.variance(second) / len(second))
        what = "its standard error of {:.2g} (over seeds)"
    elif num_examples:
        error = math.sqrt(sum(mean * (1 - mean) for mean in means) / num_examples)
        what = f"{{:.2g}}, its standard error from {num_examples:,} examples each"
    else:
        return ""
    lead = abs(means[0] - means[1])
    if lead >= error:
        return ""
    return f"lead {factor * lead:.2g}, below {what.format(factor * error)}"


def _mean(cells: Sequence[float], share: bool) -> float:
    """Return the mean, of a share in percentage points."""
    # Rounded to twelve digits: two means of the same counts may differ in their last bit.
    mean = math.fsum(cells) / len(cells)
    return round(100 * mean, 12) if share else float(f"{mean:.12g}")


def _shown(means: Sequence[tuple[Any, float]], share: bool) -> dict[float, str]:
    """Return {mean: text} with enough digits to distinguish different means."""
    distinct = {mean for _, mean in means}
    forms = [f".{digits}f" for digits in (2, 3, 4, 12)] if share else [f".{digits}g" for digits in (4, 5, 6, 12)]
    texts = ({mean: f"{mean:{form}}{'%' if share else ''}" for mean in distinct} for form in forms)
    return next(found for found in texts if len(set(found.values())) == len(distinct))


def order(value: Any) -> tuple[int, float, str]:
    """Return a sort key: numbers by size, including infinity (text in JSON), then everything else as text."""
    try:
        return 0, float(value), ""
    except (TypeError, ValueError):
        return 1, 0.0, _text(value)


def _wanted(spec: ChoiceSpec, science: Science) -> str:
    flat = identity.with_argument_keys(science)
    same = ", ".join(f"{key}={_text(flat.get(key))}" for key in spec.per)
    return f" for {same}" if same else ""


def _listed(sweeps: Sequence[str]) -> str:
    return "sweep " + sweeps[0] if len(sweeps) == 1 else "sweeps " + " and ".join(sweeps)


def _texts(values: Iterable[Any]) -> str:
    return ", ".join(map(_text, values))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
