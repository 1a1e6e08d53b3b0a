"""JSON as typed structures: one decoder, and one wording of what does not fit."""

import json
import re
from collections.abc import Callable
from enum import StrEnum
from functools import cache
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

T = TypeVar("T")

_decoder: Callable[[Any], msgspec.json.Decoder[Any]] = cache(msgspec.json.Decoder)


class NotJsonError(ValueError):
    """Text that is not whole JSON."""


class WrongTypeError(ValueError):
    """JSON of another shape than the structure has; the message names the place, what is legal there and what is."""


def decode(content: bytes, structure: type[T]) -> T:
    """Return JSON as the structure, nothing converted but an integer where a float is asked for.

    Raises NotJsonError and WrongTypeError.
    """
    try:
        decoded: T = _decoder(structure).decode(content)
        return decoded
    except (msgspec.DecodeError, RecursionError):
        # Read again by the standard library: msgspec refuses halves of characters, which odd file names have.
        return convert(loads(content), structure)


def convert(value: Any, structure: type[T]) -> T:
    """Return JSON that was parsed already as the structure. Raises WrongTypeError."""
    try:
        return msgspec.convert(value, structure)
    except msgspec.ValidationError as error:
        raise WrongTypeError(_wording(str(error), value, structure)) from None
    except RecursionError:
        raise WrongTypeError("nested too deeply") from None


def loads(content: bytes) -> Any:
    """Return parsed JSON. Raises NotJsonError."""
    try:
        return json.loads(content.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise NotJsonError(str(error)) from None


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def _wording(error: str, value: Any, structure: Any) -> str:
    """Return msgspec's message in the words of a user: the place, what is legal, and the value that is there."""
    what, _, at = error.partition(" - at `$")
    place = ""
    for name, number, key in re.findall(r"\.(\w+)|\[(\d+)\]|(\[\.\.\.\])", at):
        if key:
            name = _wrong_key(value, structure)
        place += f"[{number}]" if number else f".{name}"
        value = value[int(number)] if number else value[name]
        structure = _part(structure, name)
    place = place.lstrip(".") or _plain(structure).__name__
    if field := re.search(r"(missing required|unknown) field `(\w+)`", what):
        return f"{place} {'lacks' if field[1] != 'unknown' else 'has an unknown field'} {field[2]}"
    structure = _plain(structure)
    if isinstance(structure, type) and issubclass(structure, StrEnum):
        legal = f"one of {', '.join(structure)}"
    else:
        legal = re.sub(r"^Expected |`|, got `.*", "", what).replace("|", "or")
    return f"{place} must be {legal}, got {value!r}"


def _part(structure: Any, name: str) -> Any:
    """Return the type of a field; of a list, given "", that of its items."""
    structure = _plain(structure)
    if get_origin(structure) is dict:
        return get_args(structure)[1]
    return get_type_hints(structure, include_extras=True)[name] if name else get_args(structure)[0]


def _wrong_key(value: dict[str, Any], structure: Any) -> str:
    """Return the first key of a mapping whose value does not fit; msgspec does not name it."""
    kind = get_args(_plain(structure))[1]
    return next(key for key, item in value.items() if not _fits(item, kind))


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _plain(structure: Any) -> Any:
    """Return a type without `| None`."""
    others = [each for each in get_args(structure) if each is not NoneType]
    return others[0] if NoneType in get_args(structure) else structure
