"""Designs of an ablation: components that are there or not, and the arms that compare them. Imports no torch.

`read_design` turns the sections `components` and `design` of a sweep file into named arms, each with the arm that it is
compared with. Everything after that treats them as arms that a file spells out. docs/designs.md describes the designs.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum, auto
from itertools import combinations, product
from typing import Any

from strive.sweeps.override_syntax import bare_key
from strive.sweeps.sections import Faults, check_name, read_values, shown

WITHOUT, WITH = "without", "with"  # the levels of a component; one with alternatives has their names as levels
RESOLUTIONS = {"III": 3, "IV": 4, "V": 5, "VI": 6, "VII": 7}
_DEFAULT_RESOLUTION = 4  # the least in which no effect of one component is an alias of an interaction of two
_KEYS = (WITH, WITHOUT, "reference")
_TRUTHS = ("True", "False", "on", "off")  # what YAML makes of on and off
_MOST_FULL, _MOST_FRACTION = 8, 12  # components: 256 runs, and 4095 effects to share out among the runs

Word = tuple[str, ...]  # the components of an effect: one of a main effect, two of an interaction, ...


class DesignName(StrEnum):
    """The designs that a sweep file can name."""

    one_at_a_time = auto()
    leave_one_out = auto()
    cumulative = auto()
    factorial = auto()
    fractional_factorial = auto()

    @property
    def compares_arms(self) -> bool:
        """Return whether each arm is compared with another one; else components are compared over all arms."""
        return self not in (DesignName.factorial, DesignName.fractional_factorial)

    @property
    def has_alternatives(self) -> bool:
        """Return whether components may have several alternatives: where not, it is not clear what all of them are."""
        return self in (DesignName.one_at_a_time, DesignName.factorial)

    @property
    def has_references(self) -> bool:
        """Return whether components may have references of their own."""
        return self in (DesignName.one_at_a_time, DesignName.leave_one_out)

    @property
    def least(self) -> int:
        """Return how many components it needs."""
        return {DesignName.one_at_a_time: 1, DesignName.fractional_factorial: 3}.get(self, 2)


@dataclass(frozen=True, slots=True)
class Component:
    """A part of a recipe, with what it means to be there and not to be there."""

    name: str
    ways: Mapping[str, Mapping[str, Any]]  # {name of the alternative: {key: value}}; "" names the only one
    without: Mapping[str, Any]  # {key: value}; empty for the default
    reference: Mapping[str, Any]  # {key: value} of the cells in which its effect shows; empty for those of the file

    @property
    def levels(self) -> list[str]:
        """Return its levels; the first is to be without it."""
        return [WITHOUT, *(way or WITH for way in self.ways)]

    @property
    def keys(self) -> set[str]:
        """Return the keys that it sets at any level."""
        return {bare_key(key) for values in (self.without, *self.ways.values()) for key in values}

    def values(self, level: str) -> Mapping[str, Any]:
        """Return {key: value} of a level."""
        return self.without if level == WITHOUT else self.ways["" if level == WITH else level]


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm of a design."""

    values: Mapping[str, Any]  # {key: value} that it sets
    levels: Mapping[str, str]  # {component: its level}, without those that it says nothing of
    reference: str = ""  # the arm that it is compared with; "" for one that others are compared with
    moved: tuple[str, ...] = ()  # components in which it differs from that


@dataclass(frozen=True, slots=True)
class Design:
    """The components of a sweep file, and the arms that its design makes of them."""

    name: DesignName
    components: tuple[Component, ...]
    arms: Mapping[str, Arm]
    # For a factorial of two levels and its fractions: the effects that the arms tell apart, each with its aliases: the
    # first word is the shortest, the effects of the others are added to its own.
    effects: tuple[tuple[Word, ...], ...] = ()
    resolution: int = 0  # of a fraction

    @property
    def references(self) -> dict[str, str]:
        """Return {arm: the arm that it is compared with}."""
        return {name: arm.reference for name, arm in self.arms.items() if arm.reference}

    @property
    def title(self) -> str:
        """Return its name with its size, such as "leave_one_out of 6 components"."""
        count = len(self.components)
        text = f"{self.name.value} of {count} component{'s' if count > 1 else ''}"
        if self.name is not DesignName.fractional_factorial:
            return text
        left_out = count - (len(self.arms).bit_length() - 1)
        roman = next(roman for roman, number in RESOLUTIONS.items() if number >= self.resolution)
        return f"{text}, 2^({count}-{left_out}) of resolution {roman}"

    def component(self, name: str) -> Component:
        """Return the component of this name."""
        return next(each for each in self.components if each.name == name)


def read_design(content: Mapping[str, Any], faults: Faults) -> Design | None:
    """Return the design of a sweep file; None if it has no components. content: the whole file."""
    if content.get("components") is None:
        if content.get("design") is not None:
            faults.add("design: there are no components to arrange; add components: {NAME: {with: {KEY: VALUE}}}")
        return None
    legal = "NAME: {with: {KEY: VALUE}, without: {KEY: VALUE}}"
    entries = faults.mapping("components", content["components"], legal)
    components = tuple(_component(name, value, faults) for name, value in entries.items())
    name, resolution = _name(content.get("design"), faults)
    if not components:
        if isinstance(content["components"], Mapping):
            faults.add(f"components must hold {legal}, got {content['components']!r}")
        return None
    if name is None or not _fits(name, components, faults):
        return Design(name=name or DesignName.one_at_a_time, components=components, arms={})
    design = Design(name=name, components=components, arms={})
    if name is DesignName.fractional_factorial:
        return _fraction(design, resolution, faults)
    return _with_arms(replace(design, effects=_all_effects(design)), _arms(name, components), faults)


# -- reading


def _component(name: str, value: Any, faults: Faults) -> Component:
    place = f"components: {name}"
    check_name("components", name, faults)
    entry = faults.mapping(place, value, ", ".join(_KEYS))
    if any(key in _TRUTHS for key in entry):
        faults.add(f"{place}: the keys are with and without; YAML reads on and off as true and false")
    faults.unknown(f"{place}: ", [key for key in entry if key not in _TRUTHS], _KEYS)
    ways = _ways(place, entry.get(WITH), faults)
    without = read_values(f"{place}: without", entry.get(WITHOUT), faults)
    for way, values in ways.items():
        _check_levels(place, way, values, without, faults)
    return Component(
        name=name,
        ways=ways,
        without=without,
        reference=read_values(f"{place}: reference", entry.get("reference"), faults),
    )


def _ways(place: str, value: Any, faults: Faults) -> dict[str, dict[str, Any]]:
    """Return {name: {key: value}}: of one way to be there, named "", or of several alternatives."""
    if not value or not isinstance(value, Mapping):
        faults.add(f"{place}: with must hold KEY: VALUE, or alternatives NAME: {{KEY: VALUE}}, got {value!r}")
        return {"": {}}
    if not all(isinstance(each, Mapping) for each in value.values()):
        return {"": read_values(f"{place}: with", value, faults)}
    ways: dict[str, dict[str, Any]] = {}
    for name, values in value.items():
        check_name(f"{place}: with", str(name), faults)
        if name in (WITH, WITHOUT):
            faults.add(f"{place}: with: an alternative must have another name than {name}")
        ways[str(name)] = read_values(f"{place}: with: {name}", values, faults)
        if not values:
            faults.add(f"{place}: with: {name} must set at least one key")
    for one, other in combinations(ways, 2):
        if _equal(ways[one], ways[other]):
            faults.add(f"{place}: with: {one} and {other} set the same")
    return ways


def _check_levels(place: str, way: str, values: Mapping[str, Any], without: Mapping[str, Any], faults: Faults) -> None:
    """Add a fault if being there and not being there set other keys, or the same values."""
    here = f"with: {way}" if way else "with"
    for one, other, keys in (
        (here, "without", [key for key in values if key not in without]),
        ("without", here, [key for key in without if key not in values]),
    ):
        if keys and without:
            names = ", ".join(map(shown, keys))
            faults.add(f"{place}: {one} sets {names}, and {other} does not: give both the same keys")
    if values and _equal(values, without):
        faults.add(f"{place}: {here} sets what without sets, so its arm would be its own reference")


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    # In Python 1 and True are equal; in a config they are two.
    return one == other and all(isinstance(one[key], bool) == isinstance(other[key], bool) for key in one)


def _name(value: Any, faults: Faults) -> tuple[DesignName | None, int]:
    """Return the design and its resolution; None if it is none."""
    legal = ", ".join(DesignName)
    if isinstance(value, Mapping) and len(value) == 1:
        ((value, options),) = value.items()
        if value == DesignName.fractional_factorial:
            return DesignName.fractional_factorial, _resolution(options, faults)
    if isinstance(value, str) and value in DesignName.__members__:
        return DesignName(value), _DEFAULT_RESOLUTION
    if value is None:
        faults.add(f"design: say how to compare the components: {legal}")
    else:
        faults.choice("design", value, list(DesignName))
    return None, 0


def _resolution(value: Any, faults: Faults) -> int:
    options = faults.mapping("design: fractional_factorial", value, "resolution")
    faults.unknown("design: fractional_factorial: ", options, ("resolution",))
    wanted = options.get("resolution", _DEFAULT_RESOLUTION)
    found = RESOLUTIONS.get(wanted, wanted) if isinstance(wanted, str) else wanted
    if isinstance(found, int) and found in RESOLUTIONS.values():
        return found
    faults.add(f"design: resolution must be one of {', '.join(RESOLUTIONS)}, got {wanted!r}")
    return _DEFAULT_RESOLUTION


def _fits(name: DesignName, components: Sequence[Component], faults: Faults) -> bool:
    """Return whether the components are such as the design needs; add a fault for each that is not."""
    before, count = len(faults.lines), len(components)
    if count < name.least:
        only = ", ".join(each.name for each in components)
        other = "" if name.least > 2 and count > 1 else "; for one alone take one_at_a_time"
        faults.add(f"components: {name} needs at least {name.least} of them, got {count}: {only}{other}")
    most = {DesignName.factorial: _MOST_FULL, DesignName.fractional_factorial: _MOST_FRACTION}.get(name, count)
    if count > most:
        smaller = "fractional_factorial or leave_one_out" if name is DesignName.factorial else "leave_one_out"
        faults.add(f"components: {name} takes up to {most} of them, got {count}: take {smaller}")
    for each in components:
        if len(each.ways) > 1 and not name.has_alternatives:
            faults.add(
                f"components: {each.name} has {len(each.ways)} alternatives, and {name} needs to know which one it is"
                " that is there: leave one, or take one_at_a_time"
            )
        if each.reference and not name.has_references:
            faults.add(
                f"components: {each.name} has a reference of its own, and {name} compares all components in the same"
                " cells: take it out, or take one_at_a_time or leave_one_out"
            )
    _check_shared_keys(name, components, faults)
    return len(faults.lines) == before


def _check_shared_keys(name: DesignName, components: Sequence[Component], faults: Faults) -> None:
    """Add a fault for each two components that would set one key in one arm."""
    for one, other in combinations(components, 2):
        for key in sorted(one.keys & other.keys):
            if name is not DesignName.one_at_a_time:
                faults.add(
                    f"components: {one.name} and {other.name} both set {key}, and in {name} both may be there: make"
                    " them one component, or take one_at_a_time"
                )
            elif (
                key in one.without and key in other.without and not one.reference and not other.reference
            ) and not _equal({key: one.without[key]}, {key: other.without[key]}):
                faults.add(f"components: without {one.name} and without {other.name} set two values of {key}")


# -- arms


@dataclass(frozen=True, slots=True)
class _Start:
    """An arm before its values are put together."""

    name: str
    levels: Mapping[str, str]
    reference: str = ""
    own: Mapping[str, Any] | None = None  # the components' own reference


def _arms(name: DesignName, components: Sequence[Component]) -> Iterator[_Start]:
    match name:
        case DesignName.one_at_a_time:
            yield from _against(components, "none", WITHOUT)
        case DesignName.leave_one_out:
            yield from _against(components, "all", WITH)
        case DesignName.cumulative:
            levels, before = {each.name: WITHOUT for each in components}, "none"
            yield _Start(before, levels)
            for each in components:
                levels = levels | {each.name: WITH}
                yield _Start(f"+ {each.name}", levels, before)
                before = f"+ {each.name}"
        case DesignName.factorial:
            names = [each.name for each in components]
            yield from _runs([dict(zip(names, row, strict=True)) for row in product(*(c.levels for c in components))])


def _against(components: Sequence[Component], start: str, level: str) -> Iterator[_Start]:
    """Yield the arm with all components at a level, and those in which one of them is at another level.

    Components with a reference of their own are left out of other arms, where they would show nothing. In the arms of
    their reference all others are at the level.
    """
    families: dict[str, list[Component]] = {}
    for each in components:
        families.setdefault(_values_text(each.reference), []).append(each)
    for where, members in families.items():
        own = members[0].reference
        there = [each for each in components if not each.reference or each in members]
        levels, reference = {each.name: level for each in there}, f"{start} ({where})" if where else start
        yield _Start(reference, levels, own=own)
        for each in members:
            for other in each.levels:
                if other != level:
                    arm = f"without {each.name}" if other == WITHOUT else _present(each.name, other)
                    yield _Start(arm, levels | {each.name: other}, reference, own)


def _runs(rows: Sequence[Mapping[str, str]]) -> Iterator[_Start]:
    """Yield the arms of a factorial: what differs is shown against the first of them."""
    first = ""
    for levels in rows:
        there = [_present(name, level) for name, level in levels.items() if level != WITHOUT]
        every = len(there) == len(levels) and all(level == WITH for level in levels.values())
        name = "all" if every else " + ".join(there) or "none"
        yield _Start(name, levels, first)
        first = first or name


def _present(name: str, level: str) -> str:
    return name if level == WITH else f"{name}={level}"


def _values_text(values: Mapping[str, Any]) -> str:
    texts = {key: each if isinstance(each, str) else json.dumps(each, default=str) for key, each in values.items()}
    return ", ".join(f"{key}={text}" for key, text in texts.items())


def _with_arms(design: Design, starts: Iterator[_Start], faults: Faults) -> Design:
    found = list(starts)
    for name, count in Counter(each.name for each in found).items():
        if count > 1:
            faults.add(f"components: {count} arms of this design would be called {name}: rename a component")
    by_name = {each.name: each for each in found}
    arms = {}
    for each in found:
        before = by_name[each.reference].levels if each.reference else each.levels
        moved = tuple(name for name, level in each.levels.items() if level != before[name])
        values = _values(design, each.levels, each.own or {})
        arms[each.name] = Arm(values=values, levels=each.levels, reference=each.reference, moved=moved)
    return replace(design, arms=arms)


def _values(design: Design, levels: Mapping[str, str], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an arm sets: the file's components, then the reference, then the components that have it."""
    there = [each for each in design.components if each.name in levels]
    there.sort(key=lambda each: levels[each.name] != WITHOUT)  # one that is there has the last word on its keys
    parts = [each.values(levels[each.name]) for each in there if not each.reference]
    parts += [own, *(each.values(levels[each.name]) for each in there if each.reference)]
    return {key: value for part in parts for key, value in part.items()}


# -- effects


def _all_effects(design: Design) -> tuple[tuple[Word, ...], ...]:
    """Return the main effects and interactions of a full factorial of two levels; () for any other design."""
    if design.name is not DesignName.factorial or any(len(each.ways) > 1 for each in design.components):
        return ()
    names = [each.name for each in design.components]
    words = (word for size in range(1, len(names) + 1) for word in combinations(names, size))
    return tuple((word,) for word in words)


def _fraction(design: Design, resolution: int, faults: Faults) -> Design:
    """Return a fraction with the fewest runs of this resolution, with its arms, effects and aliases."""
    from pydoe import fracfact_aliasing, fracfact_by_res  # seconds to import, which nothing else needs

    names = [each.name for each in design.components]
    roman = next(roman for roman, number in RESOLUTIONS.items() if number == resolution)
    runs = fracfact_by_res(len(names), resolution)  # [runs, components] of -1 and 1
    if len(runs) == 2 ** len(names):
        faults.add(
            f"design: {len(names)} components have no fraction of resolution {roman}: take factorial, which has the"
            " same runs, or a lower resolution"
        )
        return design
    effects, defining = list[tuple[Word, ...]](), list[tuple[Word, ...]]()
    for text in fracfact_aliasing(runs)[0]:
        indices = [[ord(letter) - ord("a") for letter in word] for word in text.split(" = ")]
        words = tuple(tuple(names[index] for index in word) for word in indices)
        # The words of the defining relation are no effects: their product is 1 in every run.
        (effects if (runs[:, indices[0]].prod(axis=1) < 0).any() else defining).append(words)
    rows = [dict(zip(names, [WITH if each > 0 else WITHOUT for each in row], strict=True)) for row in runs]
    shortest = min(len(word) for words in defining for word in words)
    return _with_arms(replace(design, effects=tuple(effects), resolution=shortest), _runs(rows), faults)
