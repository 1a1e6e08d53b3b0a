"""A builder's arguments, filled in from its signature and typed by it, so that one training has one config.

A parameter's type is its annotation, or else that of its default. A default that JSON cannot represent (a function,
an enum, a tensor) is not filled in, and an annotation without a JSON type leaves a value as it is.
"""

import builtins
import collections.abc
import copy
import functools
import inspect
import sys
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

OF_DATA = ("num_classes", "image_size")  # what every builder is called with
_SCALARS = (bool, int, float, str, types.NoneType)
_LISTS = (list, tuple, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


class MisfitError(ValueError):
    """A value that a parameter does not take."""


def filled_in(function: Callable[..., object], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments as JSON values: those given as their parameters' types, the others by their defaults.

    Raises MisfitError with the parameter and the value. What the signature does not name comes back as it is:
    **kwargs may take it, and else the call says that it is unknown.
    """
    parameters, given = _parameters(function), _json(given)
    found = {
        name: _fit(parameter, given[name]) if name in given else _default(parameter)
        for name, parameter in parameters.items()
        if name in given or _is_json(parameter.default)
    }
    return found | {name: value for name, value in given.items() if name not in found}


def as_called(function: Callable[..., object], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON values as the builder takes them: lists as tuples where the signature has a tuple."""
    parameters = _parameters(function)
    kinds = {
        name: _kind_of(each.default) if type(each.default) is tuple else _kind(each)
        for name, each in parameters.items()
    }
    # A copy: a builder may well change the list that it was given.
    return {name: _tupled(kinds.get(name, Any), value) for name, value in copy.deepcopy(dict(arguments)).items()}


def _parameters(function: Callable[..., object]) -> dict[str, inspect.Parameter]:
    """Return what the config may set; nothing where Python knows no signature, as of some compiled classes."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return {}
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = _names_of(function)
    return {
        name: each.replace(annotation=_evaluated(each.annotation, names))
        for name, each in signature.parameters.items()
        if each.kind in kinds and name not in OF_DATA
    }


def _names_of(function: Any) -> dict[str, Any]:
    """Return the names that an annotation in quotes may use: those of the builder's module."""
    while isinstance(function, functools.partial):
        function = function.func
    return vars(sys.modules.get(getattr(inspect.unwrap(function), "__module__", ""), builtins))


def _evaluated(annotation: Any, names: dict[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, dict(names))
    except Exception:  # a name that only a type checker imports has no JSON type
        return Any


def _kind(parameter: inspect.Parameter) -> Any:
    annotation = parameter.annotation
    return _kind_of(parameter.default) if annotation is inspect.Parameter.empty else annotation


def _kind_of(default: Any) -> Any:
    """Return the annotation that a default stands for; Any for None and what is no JSON."""
    kind = type(default)
    if kind in (list, tuple):
        kinds = list(dict.fromkeys(map(_kind_of, default)))
        inner = kinds[0] if len(kinds) == 1 else Any
        return list[inner] if kind is list else tuple[inner, ...]  # type: ignore[valid-type]
    return kind if kind in (bool, int, float, str, dict) else Any


def _is_json(value: Any) -> bool:
    if type(value) in (list, tuple):
        return all(map(_is_json, value))
    if type(value) is dict:
        return all(type(key) is str and _is_json(each) for key, each in value.items())
    return type(value) in _SCALARS


def _json(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_json(each) for each in value]
    return {key: _json(each) for key, each in value.items()} if isinstance(value, Mapping) else value


def _default(parameter: inspect.Parameter) -> Any:
    value = _json(parameter.default)
    try:
        return _typed(_kind(parameter), value)
    except MisfitError:
        return value  # `width: int = None` means what it says


def _fit(parameter: inspect.Parameter, value: Any) -> Any:
    try:
        return _typed(_kind(parameter), value)
    except MisfitError:
        if _is_json(parameter.default) and _same(value, _json(parameter.default)):
            return value
        bare = parameter.annotation is inspect.Parameter.empty
        hint = "; annotate it, if it takes more than its default's type" if bare else ""
        raise MisfitError(f"it takes {parameter}, got {parameter.name}={value!r}{hint}") from None


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _typed(kind: Any, value: Any) -> Any:
    """Return the JSON value as this annotation has it; raise MisfitError if it is none of its values."""
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin is float and (type(value) in (int, float) or value in ("inf", "-inf", "nan")):
        return _number(value)
    if origin in (Union, types.UnionType):
        return _typed_by_one(inner, value)
    if origin is Annotated:
        return _typed(inner[0], value)
    if origin in _LISTS and isinstance(value, list):
        return _typed_list(origin, inner, value)
    if origin in _DICTS and isinstance(value, dict):
        return {key: _typed(inner[1], each) if len(inner) == 2 else each for key, each in value.items()}
    known = origin in (*_SCALARS, *_LISTS, *_DICTS, None, Literal)
    fits = any(_same(value, each) for each in inner) if origin is Literal else type(value) is (origin or types.NoneType)
    if known and not fits:
        raise MisfitError
    return value


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        raise MisfitError from None


def _typed_by_one(kinds: tuple[Any, ...], value: Any) -> Any:
    found = []
    for kind in kinds:
        try:
            found.append(_typed(kind, value))
        except MisfitError:
            continue
    if not found:
        raise MisfitError
    # 0 for `int | float` stays 0, and for `float | None` is 0.0.
    return next((each for each in found if type(each) is type(value)), found[0])


def _typed_list(origin: Any, inner: tuple[Any, ...], value: list[Any]) -> list[Any]:
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        if len(inner) != len(value):
            raise MisfitError
        return [_typed(kind, each) for kind, each in zip(inner, value, strict=True)]
    return [_typed(inner[0], each) if inner else each for each in value]


def _tupled(kind: Any, value: Any) -> Any:
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, types.UnionType, Annotated):
        lists = [each for each in inner if (get_origin(each) or each) in _LISTS]
        return _tupled(lists[0], value) if lists else value
    if not isinstance(value, list) or origin not in _LISTS:
        return value
    kinds = inner if origin is tuple and inner and inner[-1] is not Ellipsis else (*inner[:1],) * len(value)
    found = [_tupled(each, item) for each, item in zip(kinds, value, strict=True)] if kinds else value
    return tuple(found) if origin is tuple else found
