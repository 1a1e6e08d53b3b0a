"""Parsers of a sweep file's sections. They collect all faults instead of stopping at the first."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from strive import app
from strive.cells.metrics import Better
from strive.config import identity
from strive.config.keys import defaults, groups
from strive.config.platform_keys import NEEDS, check_need, is_need
from strive.errors import ConfigError
from strive.sweeps.choice import ChoiceSpec
from strive.sweeps.criterion import Criterion, read_criterion
from strive.sweeps.override_syntax import NAME, bare_key

_SWEPT_TEXT = re.compile(r"(glob|range|choice|interval|sort|shuffle|tag)\(.*\)", flags=re.DOTALL)


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Cells of the product that the sweep leaves out."""

    when: Mapping[str, Sequence[Any]]  # {knob: values, any of which matches}, as in a record's config
    reason: str
    place: str  # such as exclude[0]

    def matches(self, flat: Mapping[str, Any]) -> bool:
        """Return whether a cell is left out. flat: the result of App.flat."""
        spread = identity.with_argument_keys(flat)
        return all(
            key in spread and _is_among(_comparable(key, spread[key]), values) for key, values in self.when.items()
        )

    def __str__(self) -> str:
        texts = (f"{key}: {values[0] if len(values) == 1 else values}" for key, values in self.when.items())
        return f"{self.place} ({', '.join(texts)})"


class Faults:
    """The faults of a file, one line each."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        """Add a fault."""
        self.lines.append(line)

    def mapping(self, place: str, value: Any, legal: str) -> dict[str, Any]:
        """Return the mapping; an empty one if there is none, or after adding a fault if it is another type."""
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.add(f"{place} must hold {legal}, got {value!r}")
            return {}
        return {str(key): each for key, each in value.items()}

    def sequence(self, place: str, value: Any, legal: str) -> list[Any]:
        """Return the list; an empty one if there is none, or after adding a fault if it is another type."""
        if value is None:
            return []
        if not isinstance(value, list):
            self.add(f"{place} must be a list of {legal}, got {value!r}")
            return []
        return value

    def unknown(self, place: str, got: Iterable[Any], legal: Sequence[str]) -> None:
        """Add a fault for each key that is not legal."""
        for key in got:
            if key not in legal:
                close = difflib.get_close_matches(str(key), legal, n=1)
                hint = f" did you mean {close[0]}?" if close else ""
                self.add(f"{place}there is no key {shown(key)};{hint} legal: {', '.join(legal)}")

    def choice(self, place: str, got: Any, legal: Sequence[str]) -> None:
        """Add a fault for a word that is not legal."""
        close = difflib.get_close_matches(str(got), legal, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        self.add(f"{place} must be one of {', '.join(legal)}, got {got!r}{hint}")

    def key(self, place: str, key: str) -> bool:
        """Return whether a key is a knob or a group; add a fault if not."""
        if key in groups() or key.startswith("+"):
            return True
        return self.knob(place, key, [*defaults(), *groups()], "knob or group")

    def knob(self, place: str, key: str, legal: Sequence[str] = (), kind: str = "knob") -> bool:
        """Return whether a key is a knob or a builder's argument; add a fault if not."""
        if key.startswith(("hydra.", "hydra/")):
            self.add(f"{place}: {key} says how to launch, not what a cell is: give it on the command line")
            return False
        if is_need(key) and NEEDS not in groups():
            return self._need(place, key)
        if key in defaults() or identity.is_open_key(key):
            return True
        own = [name for name in defaults() if key in (name.partition(".")[0], name.rpartition(".")[2])]
        close = own[:3] or difflib.get_close_matches(key, legal or defaults(), n=3)
        self.add(
            f"{place}: there is no {kind} {shown(key)}; "
            + (f"did you mean {' or '.join(close)}?" if close else "docs/config.md lists them")
        )
        return False

    def _need(self, place: str, key: str) -> bool:
        """Return whether there is such a key of needs, which an app need not have."""
        try:
            check_need(key)
        except ConfigError as error:
            self.add(f"{place}: {error}")
            return False
        return True

    def one_value(self, place: str, key: str, value: Any) -> Any:
        """Return the value of a key as a record's config stores it, where there are no alternatives; a list is one."""
        alone = [value] if identity.is_open_key(key) else value
        return next(iter(record_values(place, key, alone, self)), value)

    def value(self, place: str, key: str, value: Any) -> None:
        """Add a fault if the value has the wrong type for this key. Its range is checked later, by to_config."""
        if wanted := _misfit(key, value):
            self.add(f"{place}: {key} must be {wanted}, got {value!r}")


def shown(key: Any) -> str:
    """Return a key as typed, quoted if it contains invisible or ambiguous characters."""
    text = str(key)
    return text if text and text.isprintable() and text.isascii() and " " not in text else repr(text)


def _misfit(key: str, value: Any) -> str:
    """Return a description of the legal values, or "" if the value is legal."""
    if isinstance(value, str) and _SWEPT_TEXT.fullmatch(value.strip()):
        return "one value here; sweep text stands alone behind a key of grid or cells"
    if not _is_plain(value):
        return "a number, text, true, false, null, or a list or mapping of them; put a date into quotes"
    if key in groups():
        if isinstance(value, dict):
            return f"the name of an option; a knob of it is a key of its own, such as {key}.{next(iter(value), 'NAME')}"
        return "" if isinstance(value, str) and value else "the name of one option"
    match defaults().get(key):
        case None:  # an argument of a builder, or a key that the user adds
            return ""
        case list():
            return "" if isinstance(value, list) and not any(isinstance(each, list) for each in value) else "a list"
        case dict():
            return "" if isinstance(value, dict) else "a mapping"
    return "one value here; alternatives belong in grid" if isinstance(value, list | dict) else ""


def _is_plain(value: Any) -> bool:
    match value:
        case list():
            return all(map(_is_plain, value))
        case dict():
            return all(isinstance(key, str) and NAME.fullmatch(key) and _is_plain(each) for key, each in value.items())
    return value is None or isinstance(value, bool | int | float | str)


def is_one_value(key: str, value: Any) -> bool:
    """Return whether this is one value and not a list of alternatives.

    For a knob that holds a list, such as optimizer.drop_at, a list is one value unless it contains lists.
    """
    if not isinstance(value, list):
        return True
    holds_lists = isinstance(defaults().get(bare_key(key)), list)
    return holds_lists and not (value and all(isinstance(each, list) for each in value))


def read_question(value: Any, faults: Faults) -> str:
    """Return the question."""
    if isinstance(value, str) and value.strip():
        return value.strip()
    faults.add(f"question must say in one sentence what the sweep answers, got {value!r}")
    return ""


def read_values(place: str, value: Any, faults: Faults) -> dict[str, Any]:
    """Return {key: one value} for `fixed` or for one arm."""
    part = faults.mapping(place, value, "KEY: VALUE")
    for key, each in part.items():
        if faults.key(place, key):
            faults.value(place, key, each)
    return part


def read_grid(value: Any, faults: Faults) -> dict[str, Any]:
    """Return {key: list of values, or Hydra's sweep text}."""
    part = faults.mapping("grid", value, "KEY: [VALUES]")
    for key, each in part.items():
        if not faults.key("grid", key) or isinstance(each, str):
            continue
        if not isinstance(each, list) or not each:
            faults.add(
                f"grid: {key} must be a list of values or Hydra's sweep text, such as range(0,3), got {each!r};"
                " one value for all cells belongs in fixed"
            )
        elif is_one_value(key, each):
            faults.add(f"grid: {key} holds a list, so its alternatives are a list of lists, got {each!r}")
        else:
            for alternative in each:
                faults.value("grid", key, alternative)
    return part


def read_zip(value: Any, faults: Faults) -> tuple[dict[str, Any], ...]:
    """Return the blocks of equally long lists."""
    sequence = faults.sequence("zip", value, "blocks {KEY: [VALUES], KEY: [VALUES]}")
    return tuple(_block(f"zip[{number}]", item, faults) for number, item in enumerate(sequence))


def _block(place: str, value: Any, faults: Faults) -> dict[str, Any]:
    block = faults.mapping(place, value, "KEY: [VALUES]")
    if not block:
        faults.add(f"{place} is empty")
    lengths = {}
    for key, each in block.items():
        if not faults.key(place, key):
            continue
        if not isinstance(each, list) or not each or is_one_value(key, each):
            faults.add(f"{place}: {key} must be a list of values, got {each!r}")
            continue
        lengths[key] = len(each)
        for alternative in each:
            faults.value(place, key, alternative)
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{length} for {key}" for key, length in lengths.items())
        faults.add(f"{place}: its lists must be equally long, got {counts}")
    return block


def read_arms(value: Any, faults: Faults) -> dict[str, dict[str, Any]]:
    """Return {arm: the values that it sets}."""
    legal = "NAME: {KEY: VALUE}"
    arms = {
        name: read_values(f"arms: {name}", own, faults) for name, own in faults.mapping("arms", value, legal).items()
    }
    first: dict[str, str] = {}
    for name, own in arms.items():
        check_name("arms", name, faults)
        twin = first.setdefault(repr(sorted(own.items(), key=lambda item: item[0])), name)
        if twin != name:
            faults.add(f"arms: {twin} and {name} set the same, so they are one cell")
    return arms


def check_name(place: str, name: str, faults: Faults) -> None:
    """Add a fault for a name that could not be told from another one in a table."""
    if not name or name != name.strip() or not name.isprintable():
        faults.add(f"{place}: a name must be one line of text without blanks around it, got {name!r}")


def read_cells(value: Any, faults: Faults) -> tuple[dict[str, Any], ...]:
    """Return the entries: {key: one value, list of values, or Hydra's sweep text}."""
    sequence = faults.sequence("cells", value, "entries {KEY: VALUE}")
    return tuple(_entry(f"cells[{number}]", item, faults) for number, item in enumerate(sequence))


def _entry(place: str, value: Any, faults: Faults) -> dict[str, Any]:
    entry = faults.mapping(place, value, "KEY: VALUE")
    if not entry:
        faults.add(f"{place} is empty")
    for key, each in entry.items():
        if not faults.key(place, key) or isinstance(each, str):
            continue
        alternatives = [each] if is_one_value(key, each) else each
        if not alternatives:
            faults.add(f"{place}: {key} has no value")
        for alternative in alternatives:
            faults.value(place, key, alternative)
    return entry


def read_exclusions(value: Any, faults: Faults) -> tuple[Exclusion, ...]:
    """Return the exclusions."""
    sequence = faults.sequence("exclude", value, "entries {when: {KNOB: VALUE}, reason: TEXT}")
    return tuple(_exclusion(f"exclude[{number}]", item, faults) for number, item in enumerate(sequence))


def _exclusion(place: str, value: Any, faults: Faults) -> Exclusion:
    entry = faults.mapping(place, value, "when and reason")
    faults.unknown(f"{place}: ", entry, ("when", "reason"))
    when = faults.mapping(f"{place}: when", entry.get("when"), "KNOB: VALUE")
    if not when:
        faults.add(f"{place}: when must name at least one knob and its value")
    reason = entry.get("reason")
    if not isinstance(reason, str) or not reason.strip():
        faults.add(f"{place}: reason must say why these cells are left out, got {reason!r}")
    values = {key: record_values(place, key, each, faults) for key, each in when.items() if faults.knob(place, key)}
    return Exclusion(values, str(reason).strip(), place)


def record_values(place: str, key: str, value: Any, faults: Faults) -> list[Any]:
    """Return one or several values as a record's config stores them (0.10 as 0.1); add a fault for an unknown name."""
    found = []
    for each in [value] if is_one_value(key, value) else value:
        try:
            found.append(_comparable(key, app.in_use().recorded_value(key, each)))
        except OmegaConfBaseException as error:
            faults.add(f"{place}: {key}: {str(error).splitlines()[0]}")
    return found


def _is_among(value: Any, values: Sequence[Any]) -> bool:
    return any(_is(value, each) for each in values)


def _is(value: Any, wanted: Any) -> bool:
    if isinstance(value, dict) and isinstance(wanted, dict) and wanted:
        # Builder arguments that are not listed may have any value.
        return all(name in value and _is(value[name], each) for name, each in wanted.items())
    # Builder arguments have no declared type, and in Python True equals 1.
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _comparable(key: str, value: Any) -> Any:
    """Return a value with fractions in lowest terms: an unchecked config may contain 200/350."""
    if not isinstance(value, list) or key not in defaults():
        return value
    try:
        return [str(Fraction(text)) for text in value]
    except (ValueError, ZeroDivisionError, TypeError):
        return value


def read_choices(name: str, value: Any, faults: Faults) -> tuple[ChoiceSpec, ...]:
    """Return the values to choose from other sweeps. name: this sweep's name."""
    sections = faults.mapping("choose", value, "KNOB: {sweep, by, per}")
    return tuple(_choice(name, key, item, faults) for key, item in sections.items())


def _choice(name: str, key: str, value: Any, faults: Faults) -> ChoiceSpec:
    place = f"choose: {key}"
    faults.knob("choose", key)
    if key == "seed":
        faults.add("choose: seed: what is averaged over cannot be chosen")
    entry = faults.mapping(place, value, "sweep, by and per")
    faults.unknown(f"{place}: ", entry, ("sweep", "by", "per"))
    by = read_criterion(f"{place}: by", entry.get("by"), faults)
    per = knob_list(place, "per", entry, faults)
    if key in per:
        faults.add(f"{place}: per holds {key} itself")
    sweeps = _parents(name, place, entry.get("sweep"), faults)
    return ChoiceSpec(key=key, sweeps=sweeps, by=by or Criterion("", Better.lower), per=per)


def _parents(name: str, place: str, value: Any, faults: Faults) -> tuple[str, ...]:
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(each, str) and each for each in names):
        faults.add(f"{place}: sweep must be the name of another sweep file, or a list of names, got {value!r}")
        return ()
    if name in names:
        faults.add(f"{place}: sweep must be another sweep than {name} itself")
    return tuple(dict.fromkeys(names))


def knob_list(
    place: str, name: str, entry: Mapping[str, Any], faults: Faults, words: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return the knobs listed in entry[name], without invalid ones. words: additional legal entries."""
    if name not in entry:
        faults.add(f"{place}: {name} must be a list of knobs; [] is legal")
        return ()
    keys = [str(key) for key in faults.sequence(f"{place}: {name}", entry[name], "knobs")]
    for key in dict.fromkeys(keys):
        if keys.count(key) > 1:
            faults.add(f"{place}: {name} has {key} twice")
    known = {key for key in dict.fromkeys(keys) if key in words or faults.knob(f"{place}: {name}", key)}
    return tuple(key for key in keys if key in known)
