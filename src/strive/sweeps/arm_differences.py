"""Comparison of the composed cells of a design: what differs between an arm and its reference. Imports no torch."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from strive.config import identity
from strive.config.platform_keys import CellConfig
from strive.errors import ConfigError
from strive.sweeps.design import Arm, Design
from strive.sweeps.override_syntax import bare_key

Point = tuple[str, int]  # (arm, number of the point of the other factors)


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyDifference:
    """A key in which the cells of an arm differ from those of its reference."""

    key: str
    reference: Any  # the value there, as the cells of the first point have it
    own: Any
    varies: bool = False  # at other points of the other factors the two have other values


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmDifference:
    """All keys that decide numbers and differ between an arm and its reference. There are no others."""

    arm: str
    reference: str
    components: tuple[str, ...]  # that the two have at different levels
    set: tuple[KeyDifference, ...]  # keys that these components set, or the options that they choose
    chosen: tuple[KeyDifference, ...]  # keys whose values come from other sweeps' records, for each arm its own
    following: tuple[KeyDifference, ...]  # what the config makes of the keys above, such as interpolations


def arm_differences(
    design: Design, cells: Mapping[Point, CellConfig], chosen: Collection[str] = (), given: Collection[str] = ()
) -> list[ArmDifference]:
    """Return how each arm differs from its reference in the composed cells.

    chosen: keys whose values are chosen from other sweeps. given: keys that the command line sets.
    Raises ConfigError with all arms that equal their reference, or whose reference is excluded at a point.
    """
    faults, found = list[str](), list[ArmDifference]()
    for name, arm in design.arms.items():
        points = [point for of, point in cells if of == name]
        if not arm.reference or not points:
            continue
        if any((arm.reference, point) not in cells for point in points):
            faults.append(
                f"{name} is compared with {arm.reference}, of which `exclude` leaves cells out: leave out those of both"
            )
            continue
        differing = [
            identity.differences(*(identity.deciding(cells[of, point]) for of in (arm.reference, name)))
            for point in points
        ]
        if all(differing):
            found.append(_difference(design, name, arm, differing, chosen))
        else:
            faults.append(_no_difference(design, name, arm, given))
    if faults:
        raise ConfigError("\n".join(f"components: {fault}" for fault in faults))
    return found


def _difference(
    design: Design, name: str, arm: Arm, differing: list[dict[str, tuple[Any, Any]]], chosen: Collection[str]
) -> ArmDifference:
    own = {key for each in arm.moved for key in design.component(each).keys}
    keys = dict.fromkeys(key for each in differing for key in each)
    parts: dict[str, list[KeyDifference]] = {"set": [], "chosen": [], "following": []}
    for key in keys:
        values = [each[key] for each in differing if key in each]
        reference, mine = values[0]
        varies = len(values) < len(differing) or any(each != values[0] for each in values)
        part = "chosen" if key in chosen else "set" if _is_set(key, own) else "following"
        parts[part].append(KeyDifference(key=key, reference=reference, own=mine, varies=varies))
    return ArmDifference(
        arm=name,
        reference=arm.reference,
        components=arm.moved,
        **{part: tuple(each) for part, each in parts.items()},
    )


def _is_set(key: str, own: Iterable[str]) -> bool:
    """Return whether a component sets a key, or the group or the mapping that it belongs to."""
    return any(key == each or key.startswith(f"{each.replace('/', '.')}.") for each in map(bare_key, own))


def _no_difference(design: Design, name: str, arm: Arm, given: Collection[str]) -> str:
    moved = [design.component(each) for each in arm.moved]
    typed = sorted({key for each in moved for key in each.keys} & set(given))
    why = f"the command line sets {', '.join(typed)}" if typed else "what `with` sets is what the cells have without it"
    return f"{' and '.join(each.name for each in moved)}: arm {name!r} equals its reference {arm.reference!r}: {why}"
