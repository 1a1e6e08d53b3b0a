"""Hydra's override grammar: values as it writes them, "key=value", and the keys that an override sets."""

import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from strive.config.keys import defaults, groups
from strive.errors import ConfigError

if TYPE_CHECKING:  # elsewhere only where its grammar is needed: status starts without Hydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Override

_WORD = r"(?!(?:true|false|null|inf|nan)$)[A-Za-z_][\w-]*"
# A key of a mapping cannot be quoted.
NAME = re.compile(_WORD, re.IGNORECASE | re.ASCII)
# Text that needs no quotes: a name, a path such as extra/large_all_cnn, a fraction such as 200/350.
_PLAIN_TEXT = re.compile(rf"{_WORD}(?:/[A-Za-z_][\w-]*)*|\d+/\d+", re.IGNORECASE | re.ASCII)


@cache
def plain_keys() -> frozenset[str]:
    """Return the keys whose values can be put into a composed config, as Hydra itself would put them."""
    # A dict's keys are the user's, and adding one has rules of its own: those are left to Hydra.
    return frozenset(key for key, value in defaults().items() if not isinstance(value, dict))


def override(key: str, value: Any) -> str:
    """Return "key=value" for a value as YAML or JSON has it."""
    return f"{typed_key(key)}={_text(value)}"


def typed_key(key: str) -> str:
    """Return the key as Hydra takes it on a command line."""
    # Hydra knows no arguments of a user's builder; ++ is right whether or not the model's file has it.
    return f"++{key}" if key == "model.kwargs" or key.startswith("model.kwargs.") else key


def bare_key(text: str) -> str:
    """Return the key of an override, or of a key, without Hydra's + or ++."""
    return text.partition("=")[0].lstrip("+")


def check_options(texts: Sequence[str]) -> None:
    """Raise ConfigError for what Hydra's grammar takes and Hydra then stumbles over, such as model=3."""
    from hydra.core.override_parser.types import ChoiceSweep, Glob, QuotedString, Sweep

    for text in texts:
        parsed = _parsed(text)
        key, value = parsed.key_or_group, parsed.value()
        if not key:
            raise ConfigError(f"{text!r} has no key: write KEY=VALUE")
        values = value.list if isinstance(value, ChoiceSweep) else [value]
        if (key in (*groups(), "sweeps") or key.startswith("hydra/")) and not parsed.is_delete():
            wrong = [each for each in values if not isinstance(each, str | dict | QuotedString | Sweep | Glob)]
            if wrong:
                raise ConfigError(
                    f"{text}: {key} takes the name of an option, got {_text(wrong[0])};"
                    " python src/run.py --help lists them; or leave it out"
                )


def no_value(key: str, value: str) -> str:
    """Return why a sweep is one over nothing, such as model=glob(nothing*) or seed=range(3,0)."""
    if "glob(" in value:
        is_group = bare_key(key) in groups() or "/" in key
        why = "no option fits" if is_group else f"glob is for groups, such as model, and {bare_key(key)} is none"
        return f"gives no value: {why}; python src/run.py --help lists them"
    if "range(" in value:
        return "gives no value: range(A,B) counts from A up to, but without, B; a step below 0 counts down"
    return "gives no value"


def flattened(text: str) -> tuple[str, ...]:
    """Return an override that sets several keys of a group as one of each, any other as it is.

    optimizer={lr:1,momentum:0} is optimizer.lr=1 and optimizer.momentum=0, as Hydra merges it. What
    sweeps over such mappings is left as it is. Raises Hydra's error for text that it cannot read.
    """
    if not _may_hold_keys(text):
        return (text,)
    parsed = _parsed(text)
    return (text,) if parsed.is_sweep_override() else tuple(_leaves(text, parsed, parsed.value()))


def keys_of(text: str) -> tuple[str, ...]:
    """Return the keys that an override sets; where it sweeps, those that any of its values sets. ~key is its own."""
    return tuple(dict.fromkeys(key for keys in _keys_of_each(text) for key in keys))


def counting(texts: Sequence[str]) -> list[str]:
    """Return the overrides without those whose every key a later one sets again: the last word on a key counts."""
    found: list[str] = []
    set_later: set[str] = set()
    for text in reversed(texts):
        # +key adds what must not be there yet, and ~key takes away: neither stands in for another.
        stands_in = text.startswith("++") or not text.startswith(("+", "~"))
        keys = set(keys_of(text))
        if not (stands_in and keys <= set_later and keys <= plain_keys() | set(groups())):
            found.append(text)
        if stands_in:
            set_later |= set.intersection(*map(set, _keys_of_each(text)))
    return found[::-1]


def value_of(text: str) -> Any:
    """Return the value that an override sets, or what it sweeps over; raise Hydra's error where it has none."""
    return _parsed(text).value()


def _keys_of_each(text: str) -> list[tuple[str, ...]]:
    """Return the keys that each value of an override sets; the same for all, but for a sweep over mappings."""
    if not _may_hold_keys(text):
        return [(bare_key(text),)]
    from hydra.core.override_parser.types import ChoiceSweep

    parsed = _parsed(text)
    value = parsed.value()
    values = value.list if isinstance(value, ChoiceSweep) else [value]
    return [tuple(map(bare_key, _leaves(text, parsed, each))) for each in values]


def _may_hold_keys(text: str) -> bool:
    key, _, value = text.partition("=")
    # Most overrides need no parser.
    return "{" in value and key.lstrip("+").partition(".")[0] in groups()


def _leaves(text: str, parsed: "Override", value: Any) -> Iterator[str]:
    # + in front of a mapping merges it, as ++ does.
    sign = "++" if text.startswith("+") else ""
    if parsed.package is None and isinstance(value, dict):
        yield from _leaves_below(sign, parsed.key_or_group, value)
    else:
        yield text


def _leaves_below(sign: str, key: str, value: Any) -> Iterator[str]:
    holds_keys = key in groups() or (sign and key == "model.kwargs")
    if holds_keys and isinstance(value, dict) and all(NAME.fullmatch(str(name)) for name in value):
        for name, each in value.items():
            yield from _leaves_below(sign, f"{key}.{name}", each)
    else:
        yield f"{sign}{key}={_text(value)}"


def _parsed(text: str) -> "Override":
    (parsed,) = _parser().parse_overrides([text])
    return parsed


@lru_cache(maxsize=1)
def _parser() -> "OverridesParser":
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create()


def _text(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case list():
            return f"[{','.join(map(_text, value))}]"
        case dict():
            return "{" + ",".join(f"{key}:{_text(each)}" for key, each in value.items()) + "}"
        case str():
            return value if _PLAIN_TEXT.fullmatch(value) else _quoted(value)
    return repr(value)  # numbers; inf and nan are words of the grammar


def _quoted(text: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text, Quote.single).with_quotes()
