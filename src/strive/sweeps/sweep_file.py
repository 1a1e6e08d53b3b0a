"""A sweep file: one question, and the cells that answer it. Imports no torch.

`read_sweep` checks the file, `Sweep.combinations` expands it into Hydra overrides, one tuple for each
cell. docs/sweeps.md describes the format.
"""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from strive import app
from strive.config import identity
from strive.config.platform_keys import CellConfig
from strive.errors import ConfigError
from strive.sweeps import sections
from strive.sweeps.choice import ChoiceSpec
from strive.sweeps.design import Design, read_design
from strive.sweeps.labels import ARM
from strive.sweeps.looks_section import check_looks, read_looks
from strive.sweeps.override_syntax import (
    bare_key,
    flattened,
    keys_of,
    no_value,
    override,
    typed_key,
)
from strive.sweeps.sections import Exclusion, Faults, is_one_value
from strive.sweeps.table_spec import TableSpec, read_table
from strive.sweeps.yaml_reader import read_yaml

# Expands "key=text" into "key=value" strings with Hydra's override grammar; one string if nothing is swept.
Parse = Callable[[str], Sequence[str]]
Point = dict[str, str]  # {key: "key=value"}

_KEYS = (
    "question", "fixed", "grid", "zip", "arms", "components", "design", "cells", "exclude", "choose", "seeds", "table"
)  # fmt: skip
NO_CELLS = ("question", "seeds", "table")  # sections that may change without another cell to train
# The keys that make an option of a group worth choosing: if a file sets them itself, the option has no effect.
_CHOSEN_BY = {
    "model": ("model.family", "model.base", "model.variant"),
    "data": ("data.source",),
    "preprocess": ("preprocess.kind",),
    "augment": ("augment.kind",),
}


@dataclass(frozen=True, slots=True)
class Combination:
    """The overrides of one cell of a sweep."""

    arm: str  # "" if the cell belongs to no arm
    overrides: tuple[str, ...]  # Hydra's "key=value"
    label: str = ""  # distinguishes the cell from its neighbours, in the words of the file and the command line
    in_product: bool = True  # False for an entry of `cells`, which exclusions do not apply to
    point: int = 0  # number of the point of grid, zip and command line; arms have cells at equal points


@dataclass(frozen=True, slots=True)
class Sweep:
    """A parsed sweep file."""

    name: str
    question: str
    fixed: Mapping[str, Any]
    grid: Mapping[str, Any]
    zip: tuple[Mapping[str, Sequence[Any]], ...]
    arms: Mapping[str, Mapping[str, Any]]  # of the file, or of its design
    cells: tuple[Mapping[str, Any], ...]
    exclude: tuple[Exclusion, ...]
    choose: tuple[ChoiceSpec, ...]
    table: TableSpec | None  # with the looks of the section `seeds`
    text: str = ""  # of the file, stored in the plan; "" if there is no file
    path: str = ""  # of the file, where its name does not say it: absolute
    design: Design | None = None  # None for a file without components

    @property
    def factors(self) -> tuple[str, ...]:
        """Return the keys that this file varies."""
        parts = (self.grid, *self.zip, *self.arms.values(), *self.cells, [spec.key for spec in self.choose])
        return tuple(dict.fromkeys(bare_key(key) for part in parts for key in part))

    def combinations(self, command_line: Sequence[str], parse: Parse) -> list[Combination]:
        """Return all cells in the file's order, before values are chosen from other sweeps.

        command_line: its effective_overrides, without sweeps= and Hydra's own keys. It has priority: keys that it sets
        are removed from the file, and keys that it sweeps become factors. Raises ConfigError for text that Hydra cannot
        parse.
        """
        added = spelt_out(command_line, parse)
        self._check_mappings(command_line, added)
        given = {key: text for factor in added for point in factor for key, text in point.items()}
        self._check_groups(given)
        fixed = {key: text for key, text in _point(self.fixed).items() if key not in given}
        read = _Reader(self.name, given, parse)
        found = []
        if self.grid or self.zip or self.arms:
            factors = [*read.zipped(self.zip), *read.alternatives("grid", self.grid), *added]
            for arm, own in self.arms.items() or {"": {}}.items():
                start = f"arm {arm}" if arm else ""
                base = fixed | {key: text for key, text in _point(own).items() if key not in given}
                points = enumerate(_spelt(base, start, factors))
                found += [Combination(arm, *spelt, True, point) for point, spelt in points]
        for number, entry in enumerate(self.cells):
            factors = [*read.alternatives(f"cells[{number}]", entry), *added]
            found += [Combination("", *spelt, False) for spelt in _spelt(fixed, f"cells[{number}]", factors)]
        return found

    def choices(self, command_line: Sequence[str]) -> list[ChoiceSpec]:
        """Return the values that are still to be chosen, without those that the command line sets."""
        given = {key for text in command_line for key in keys_of(text)}
        return [spec for spec in self.choose if spec.key not in given]

    def for_parents(self, command_line: Sequence[str]) -> tuple[str, ...]:
        """Return the overrides that also apply to the sweeps that values are chosen from.

        Other images or a smaller budget apply to them as well. A narrower range of this sweep's own factors
        does not: otherwise, with fewer seeds here, another value might be chosen there.
        """
        texts = (text for given in command_line for text in flattened(given))
        return tuple(text for text in texts if not set(keys_of(text)) & set(self.factors))

    def excluded(self, config: CellConfig) -> str:
        """Return the reason why the product excludes this cell, or "".

        Accepts an unchecked config, because a product may contain impossible cells.
        """
        flat = app.in_use().flat(config)
        return next((rule.reason for rule in self.exclude if rule.matches(flat)), "")

    def check(
        self,
        named: Iterable[tuple[str, str]],
        excluded: Iterable[tuple[str, str]] = (),
        command_line: Sequence[str] = (),
    ) -> None:
        """Raise ConfigError if two cells are identical or if an exclusion matches no cell.

        named: (label, cell id) of every cell of the sweep. excluded: (label, reason) of the excluded cells.
        """
        faults = [*self._twins(named), *self._unused_exclusions({reason for _, reason in excluded}, command_line)]
        if faults:
            raise ConfigError("\n".join(f"{_where(self.name)}{line}" for line in faults))

    def check_table(self, configs: Iterable[CellConfig]) -> None:
        """Raise ConfigError if the table names an argument that no cell's builder has."""
        table = self.table
        named = [*table.keys, *table.pair, *table.select] if table else []
        # A foreign app may have any key, but the arm's name is none of a cell's.
        arguments = [key for key in named if key != ARM and identity.is_open_key(key)]
        there = (
            {key for config in configs for key in identity.with_argument_keys(app.in_use().flat(config))}
            if arguments
            else set()
        )
        if missing := [key for key in arguments if key not in there]:
            legal = ", ".join(filter(identity.is_open_key, sorted(there))) or "none"
            raise ConfigError(f"{_where(self.name)}table: no cell has {', '.join(missing)}; arguments here: {legal}")

    def _twins(self, named: Iterable[tuple[str, str]]) -> list[str]:
        # An ablation would compare such a cell with itself.
        first: dict[str, str] = {}
        twins = []
        for label, cell in named:
            if cell in first:
                twins.append((first[cell], label, cell))
            first.setdefault(cell, label)
        lines = [f"{one!r} and {other!r} are one cell, {cell}" for one, other, cell in twins[:10]]
        return lines + ([f"and {len(twins) - 10} more pairs"] if len(twins) > 10 else [])

    def _unused_exclusions(self, reasons: Collection[str], command_line: Sequence[str]) -> list[str]:
        given = {key for text in command_line for key in keys_of(text)}
        return [
            f"{rule} leaves no cell out; correct it or take it out"
            for rule in self.exclude
            if rule.reason not in reasons
            # The command line may have removed the cells that it would exclude.
            and not any(key in given or key.partition(".")[0] in given for key in rule.when)
        ]

    def _check_mappings(self, command_line: Sequence[str], added: Sequence[Sequence[Point]]) -> None:
        """Refuse a sweep over mappings if only some of them set a key that the file also sets."""
        own = {bare_key(key) for key in self.fixed} | set(self.factors)
        for text, factor in zip(command_line, added, strict=True):
            some = {key for point in factor for key in point if any(key not in other for other in factor)}
            if some & own:
                raise ConfigError(
                    f"{text}: {_where(self.name)}sets {' and '.join(sorted(some & own))}, too, and only some of these"
                    " mappings do; give every mapping the same keys, or each key its own values"
                )

    def _check_groups(self, given: Mapping[str, str]) -> None:
        """Refuse an option of a group if the file overrides everything that the option stands for."""
        keys = {bare_key(key) for part in (self.fixed, self.grid, *self.zip) for key in part}
        for group in given:
            own = [key for key in _CHOSEN_BY.get(group, ()) if key in keys and key not in given]
            if own:
                raise ConfigError(
                    f"{_where(self.name)}sets {' and '.join(own)} itself, so {given[group]} would change nothing;"
                    f" give {' '.join(f'{key}=VALUE' for key in own)} instead"
                )


class _Reader:
    """Converts a file's values into lists of points, without the keys that the command line sets."""

    def __init__(self, name: str, given: Mapping[str, Any], parse: Parse) -> None:
        self._name, self._given, self._parse = name, given, parse

    def alternatives(self, place: str, part: Mapping[str, Any]) -> list[list[Point]]:
        """Return one factor for each key."""
        return [
            [{bare_key(key): text} for text in self._texts(place, key, value)]
            for key, value in part.items()
            if bare_key(key) not in self._given
        ]

    def zipped(self, blocks: Sequence[Mapping[str, Sequence[Any]]]) -> list[list[Point]]:
        """Return one factor for each block."""
        factors = []
        for block in blocks:
            left = {key: values for key, values in block.items() if bare_key(key) not in self._given}
            rows = zip(*left.values(), strict=True)
            factors.append([_point(dict(zip(left, row, strict=True))) for row in rows])
        return [factor for factor in factors if factor]

    def _texts(self, place: str, key: str, value: Any) -> Sequence[str]:
        if isinstance(value, str):
            return self._swept(place, key, value)
        return [override(key, each) for each in ([value] if is_one_value(key, value) else value)]

    def _swept(self, place: str, key: str, text: str) -> Sequence[str]:
        from hydra.errors import HydraException

        try:
            texts = self._parse(f"{typed_key(key)}={text}")
        except (HydraException, ConfigError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"{_where(self._name)}{place}: {key}: {text!r} cannot be read: {reason}") from error
        if not texts:
            raise ConfigError(f"{_where(self._name)}{place}: {key}: {text!r} {no_value(key, text)}")
        return texts


def _spelt(base: Point, start: str, factors: Sequence[Sequence[Point]]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (overrides, label) for each point of the product; the last factor varies fastest."""
    for parts in itertools.product(*factors):
        point = {key: text for part in parts for key, text in part.items()}
        moving = [part for part, factor in zip(parts, factors, strict=True) if len(factor) > 1]
        varied = " ".join(text for part in moving for text in part.values())
        label = f"{start}: {varied}" if start and varied else start or varied or "the only cell"
        yield tuple({**base, **point}.values()), label


def spelt_out(command_line: Sequence[str], parse: Parse) -> list[list[Point]]:
    """Return a factor for each override, in order. command_line: its effective_overrides.

    Raises ConfigError for an override without a value.
    """
    factors = []
    for text in command_line:
        # ~key has no value to expand, and removes nothing from a file.
        texts = [text] if text.startswith("~") else parse(text)
        if not texts:
            raise ConfigError(f"{text} {no_value(*text.split('=', 1))}")
        factors.append([{bare_key(leaf): leaf for leaf in flattened(each)} for each in texts])
    return factors


def _point(part: Mapping[str, Any]) -> Point:
    return {bare_key(key): override(key, value) for key, value in part.items()}


def _where(name: str) -> str:
    return f"sweeps/{name}.yaml: "


def parse_sweep(name: str, text: str) -> Sweep:
    """Parse the text of a sweep file.

    Raises ConfigError with all faults, one on a line, and yaml.YAMLError.
    """
    faults = Faults()
    content = read_yaml(text, f"sweeps/{name}.yaml", faults)
    return replace(read_sweep(name, content, faults), text=text)


def read_sweep(name: str, content: Mapping[str, Any], faults: Faults | None = None) -> Sweep:
    """Check and return a sweep; `content` is the file as plain mappings and lists.

    Raises ConfigError with all faults, one on a line, including the earlier ones in `faults`.
    """
    faults = faults or Faults()
    if not isinstance(content, Mapping):
        raise ConfigError(f"{_where(name)}must hold {', '.join(_KEYS)}, got {content!r}")
    faults.unknown("", content, _KEYS)
    design = read_design(content, faults)
    arms = sections.read_arms(content.get("arms"), faults)
    if design is not None:
        if arms:
            faults.add("arms: a file has arms or components; make the arms components, or give their keys in grid")
        arms = {name: dict(arm.values) for name, arm in design.arms.items()}
    sweep = Sweep(
        name=name,
        question=sections.read_question(content.get("question"), faults),
        fixed=sections.read_values("fixed", content.get("fixed"), faults),
        grid=sections.read_grid(content.get("grid"), faults),
        zip=sections.read_zip(content.get("zip"), faults),
        arms=arms,
        cells=sections.read_cells(content.get("cells"), faults),
        exclude=sections.read_exclusions(content.get("exclude"), faults),
        choose=sections.read_choices(name, content.get("choose"), faults),
        table=read_layout(content, faults, design),
        design=design,
    )
    _check_places(sweep, faults)
    if faults.lines:
        raise ConfigError("\n".join(f"{_where(name)}{line}" for line in faults.lines))
    return sweep


def read_layout(content: Mapping[str, Any], faults: Faults, design: Design | None) -> TableSpec | None:
    """Return the layout of the table, with the looks at its lines; None if there is neither a table nor a design.

    None also for a design that has faults: without its arms each line on them would be a fault, too.
    """
    if design is not None and not design.arms:
        return None
    arms = content.get("arms") if design is None else design.arms
    table = read_table(content.get("table"), faults, arms=arms if isinstance(arms, Mapping) else {}, design=design)
    looks = read_looks(content.get("seeds"), faults)
    if looks is not None and design is not None and not design.name.compares_arms:
        faults.add(
            f"seeds: {design.name} compares components over all arms, and a look decides on arms that are compared with"
            " one other: take one_at_a_time, leave_one_out or cumulative, or plain numbers of seeds in grid"
        )
        return table
    check_looks(looks, table, faults)
    return replace(table, looks=looks) if table is not None else None


def _check_places(sweep: Sweep, faults: Faults) -> None:
    """Add a fault for each key that is set twice, and for a file without cells."""
    places: dict[str, str] = {}
    product: list[tuple[str, Mapping[str, Any]]] = [("fixed", sweep.fixed), ("grid", sweep.grid)]
    product += [(f"zip[{number}]", block) for number, block in enumerate(sweep.zip)]
    chosen = {spec.key: spec for spec in sweep.choose}
    for place, part in [*product, ("choose", chosen)]:
        for key in map(bare_key, part):
            if key in places:
                faults.add(f"{key} is set in {places[key]} and in {place}; set it in one of them")
            places.setdefault(key, place)
    # Arms and entries of `cells` override `fixed`; entries of `cells` do not belong to grid and zip.
    _check_tops(sweep, places, faults)
    if not (sweep.grid or sweep.zip or sweep.arms or sweep.cells or sweep.design):
        faults.add("nothing to train: give at least one factor (grid, zip, arms or components) or one entry of cells")


def _check_tops(sweep: Sweep, places: Mapping[str, str], faults: Faults) -> None:
    tops: list[tuple[str, Mapping[str, Any], tuple[str, ...]]]
    if sweep.design is None:
        tops = [(f"arms: {name}", own, ("fixed",)) for name, own in sweep.arms.items()]
    else:
        parts = sweep.design.components
        tops = [
            (f"components: {each.name}", {**each.without, **each.reference, **way}, ("fixed",))
            for each in parts
            for way in each.ways.values()
        ]
    tops += [(f"cells[{number}]", own, ("fixed", "grid", "zip")) for number, own in enumerate(sweep.cells)]
    for place, own, below in tops:
        for key in map(bare_key, own):
            if key in places and not places[key].startswith(below):
                faults.add(f"{key} is set in {places[key]} and in {place}; set it in one of them")
