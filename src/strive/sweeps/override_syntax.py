"""Hydra's override grammar: formatting values, splitting "key=value", and finding the keys that an override sets."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from strive.command_line import command
from strive.config.keys import defaults, groups
from strive.errors import ConfigError

if TYPE_CHECKING:  # imported at run time only where the grammar is needed: status starts without Hydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Override

_WORD = r"(?!(?:true|false|null|inf|nan)$)[A-Za-z_][\w-]*"
# Hydra's grammar cannot quote a key of a mapping.
NAME = re.compile(_WORD, re.IGNORECASE | re.ASCII)
# Text that needs no quotes: a name, a path such as extra/large_all_cnn, a fraction such as 200/350.
_PLAIN_TEXT = re.compile(rf"{_WORD}(?:/[A-Za-z_][\w-]*)*|\d+/\d+", re.IGNORECASE | re.ASCII)


def plain_keys() -> frozenset[str]:
    """Return the keys whose values can be put into a composed config with the same result as in Hydra."""
    # Dicts are left to Hydra: their keys are chosen by the user, and adding one follows other rules.
    return frozenset(key for key, value in defaults().items() if not isinstance(value, dict))


def override(key: str, value: Any) -> str:
    """Return "key=value" for a YAML or JSON value."""
    return f"{typed_key(key)}={_text(value)}"


def typed_key(key: str) -> str:
    """Return the key as it must be typed on Hydra's command line: with ++ where it belongs to a mapping."""
    # ++ works whether or not the config has the key.
    known, parts = defaults(), key.split(".")
    inside = any(isinstance(known.get(".".join(parts[:count])), dict) for count in range(1, len(parts) + 1))
    return f"++{key}" if inside else key


def bare_key(text: str) -> str:
    """Return the key of an override (or a key alone) without Hydra's + or ++."""
    return text.partition("=")[0].lstrip("+")


def check_options(texts: Sequence[str]) -> None:
    """Raise ConfigError for text that Hydra's grammar accepts but Hydra then fails on, such as model=3."""
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
                    f" {command('--help')} lists them; or leave it out"
                )


def no_value(key: str, value: str) -> str:
    """Return the message for an empty sweep, such as model=glob(nothing*) or seed=range(3,0)."""
    if "glob(" in value:
        is_group = bare_key(key) in groups() or "/" in key
        why = "no option fits" if is_group else f"glob is for groups, such as model, and {bare_key(key)} is none"
        return f"gives no value: {why}; {command('--help')} lists them"
    if "range(" in value:
        return "gives no value: range(A,B) counts from A up to, but without, B; a step below 0 counts down"
    return "gives no value"


def flattened(text: str) -> tuple[str, ...]:
    """Split an override that sets several keys of a group into one for each; return any other unchanged.

    Hydra merges optimizer={lr:1,momentum:0} as optimizer.lr=1 and optimizer.momentum=0. A sweep over such
    mappings is returned unchanged. Raises Hydra's error for text that it cannot parse.
    """
    if not _may_hold_keys(text):
        return (text,)
    parsed = _parsed(text)
    return (text,) if parsed.is_sweep_override() else tuple(_leaves(text, parsed, parsed.value()))


def keys_of(text: str) -> tuple[str, ...]:
    """Return the keys that an override sets; for a sweep, those that any of its values sets. ~key counts as a key."""
    return tuple(dict.fromkeys(key for keys in _keys_of_each(text) for key in keys))


def effective_overrides(texts: Sequence[str]) -> list[str]:
    """Return the overrides that have an effect, without those whose keys are all set again by later ones."""
    found: list[str] = []
    set_later: set[str] = set()
    for text in reversed(texts):
        # +key adds a new key and ~key removes one, so neither replaces another override.
        stands_in = text.startswith("++") or not text.startswith(("+", "~"))
        keys = set(keys_of(text))
        if not (stands_in and keys <= set_later and keys <= plain_keys() | set(groups())):
            found.append(text)
        if stands_in:
            set_later |= set.intersection(*map(set, _keys_of_each(text)))
    return found[::-1]


def value_of(text: str) -> Any:
    """Return the value that an override sets, or its sweep; raise Hydra's error if it has no value."""
    return _parsed(text).value()


def _keys_of_each(text: str) -> list[tuple[str, ...]]:
    """Return the keys that each value of an override sets; they differ only in a sweep over mappings."""
    if not _may_hold_keys(text):
        return [(bare_key(text),)]
    from hydra.core.override_parser.types import ChoiceSweep

    parsed = _parsed(text)
    value = parsed.value()
    values = value.list if isinstance(value, ChoiceSweep) else [value]
    return [tuple(map(bare_key, _leaves(text, parsed, each))) for each in values]


def _may_hold_keys(text: str) -> bool:
    key, _, value = text.partition("=")
    # Avoids the parser, which most overrides do not need.
    return "{" in value and key.lstrip("+").partition(".")[0] in groups()


def _leaves(text: str, parsed: "Override", value: Any) -> Iterator[str]:
    # + before a mapping merges it, as ++ does.
    sign = "++" if text.startswith("+") else ""
    if parsed.package is None and isinstance(value, dict):
        yield from _leaves_below(sign, parsed.key_or_group, value)
    else:
        yield text


def _leaves_below(sign: str, key: str, value: Any) -> Iterator[str]:
    holds_keys = key in groups() or (sign and typed_key(key) != key)
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
    return repr(value)  # numbers; the grammar knows inf and nan


def _quoted(text: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text, Quote.single).with_quotes()
