"""Canonical form of a source file: its meaning to Python, without comments, spelling of imports and file location.

This module walks the syntax tree itself and writes the names of classes and of non-empty fields, so that
Python 3.11 to 3.14 give the same form. `ast.dump` would include fields that newer versions add.
"""

import ast
import hashlib
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby


@dataclass(frozen=True, slots=True)
class Import:
    """Origin of a name in a file: `from ..module import name`."""

    level: int  # number of leading dots; 0 if `module` is the full name
    module: str  # dotted; "" if there are only dots
    name: str = ""  # the imported name; "" for the module itself; "*" for all


@dataclass(frozen=True, slots=True)
class Use:
    """A place at which a file uses an import: for `nn.functional.relu`, torch.nn and the attributes."""

    source: Import
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Form:
    """A source file as Python understands it.

    Import statements are not in the text. If a name is bound only by imports, its uses are in `uses` with
    their origin. So the spelling of an import does not change the form, but importing something else does.
    Other import statements stay in the text: those of names that are also bound otherwise, and those whose
    failure has a meaning.
    """

    text: str  # hash of everything but the uses; "" for a file with only imports and docstrings
    uses: tuple[Use, ...] = ()  # in the order of the text
    imports: tuple[Import, ...] = ()  # modules that Python loads with the file, or later inside its functions
    names: dict[str, Import] = field(default_factory=dict)  # names that other files may import from this one


@lru_cache(maxsize=4096)
def form_of(content: bytes) -> Form:
    """Return the form of a file's content, or of its bytes if this Python version cannot parse it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about invalid escapes in the user's strings
            tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return bytes_form(content)
    names = _imported_names(tree)
    text, uses = _written(tree, names)
    return Form(text, uses, tuple(_imports(tree)), names)


def bytes_form(content: bytes) -> Form:
    """Return the form of a file without source, such as a compiled module."""
    return Form(hashlib.sha256(b"bytes " + content).hexdigest())


# -- imports


def _bound(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Import]]:
    """Yield (name, its origin) for each name that a statement binds."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield alias.asname or alias.name, Import(node.level, node.module or "", alias.name)
        elif alias.asname:
            yield alias.asname, Import(0, alias.name)
        else:
            top = alias.name.partition(".")[0]
            yield top, Import(0, top)


def _imports(tree: ast.AST) -> Iterator[Import]:
    """Yield all imports in a tree, except those for type checkers only."""
    places: list[ast.AST] = [tree]
    while places:
        node = places.pop()
        if isinstance(node, ast.Import):
            yield from (Import(0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (source for _, source in _bound(node))
        elif not _is_for_type_checkers(node):
            places += (each for each in ast.iter_child_nodes(node) if not isinstance(each, ast.expr))


def _imported_names(tree: ast.AST) -> dict[str, Import]:
    """Return {name: its origin} for the names that are bound by exactly one import in the whole file."""
    found: dict[str, set[Import]] = {}
    otherwise = Counter[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name, source in _bound(node):
                found.setdefault(name, set()).add(source)
        else:
            otherwise.update(_names_bound_by(node))
    return {
        name: next(iter(sources))
        for name, sources in found.items()
        if len(sources) == 1 and name != "*" and name not in otherwise
    }


def _names_bound_by(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node binds in any scope; such names are not followed to an import."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield name
        case ast.arg(arg=name):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name
    if type(node).__name__ in ("TypeVar", "ParamSpec", "TypeVarTuple"):  # Python 3.12
        yield node.name  # type: ignore[attr-defined]


def _is_for_type_checkers(node: ast.AST) -> bool:
    if not isinstance(node, ast.If) or node.orelse:
        return False
    return getattr(node.test, "id", getattr(node.test, "attr", "")) == "TYPE_CHECKING"


# -- the text

# ctx follows from the position in the tree; the others are spelling and comments.
_NOT_WRITTEN = frozenset({"ctx", "kind", "type_comment", "type_ignores"})


class _Syntax(str):
    """Text written by this module, not taken from the file."""


def _written(tree: ast.Module, names: Mapping[str, Import]) -> tuple[str, tuple[Use, ...]]:
    """Return the hash of a tree's text ("" if it is empty), and the uses in it."""
    text, uses = list[str](), list[Use]()
    # An explicit stack, because the recursion limit would depend on the caller's depth.
    waiting: list[object] = [_kept([node for node in tree.body if not _is_list_of_exports(node)], names)]
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.AST):
            waiting += reversed([use] if (use := _use(part, names)) else list(_parts(part, names)))
        elif isinstance(part, Use):
            uses.append(part)
            text.append("@")
        elif isinstance(part, list):
            waiting += [_Syntax("]"), *reversed(part), _Syntax("[")]
        else:
            text.append(part if isinstance(part, _Syntax) else f"{_scalar(part)} ")
    written = "".join(text)
    return ("" if written == "[]" else hashlib.sha256(written.encode()).hexdigest()), tuple(uses)


def _parts(node: ast.AST, names: Mapping[str, Import]) -> Iterator[object]:
    """Yield the class and the non-empty fields of a node."""
    yield _Syntax(f"({type(node).__name__}")
    for name, value in _fields(node):
        if value is None or value == []:
            continue
        if isinstance(value, list) and isinstance(value[0], ast.stmt):
            value = _kept(value, names, in_try=isinstance(node, ast.Try | ast.TryStar | ast.ExceptHandler))
        yield _Syntax(f" {name} ")
        yield value
    yield _Syntax(")")


def _fields(node: ast.AST) -> Iterator[tuple[str, object]]:
    if isinstance(node, ast.Constant):
        # None and "" are ordinary values here.
        yield "value", _Syntax(f"{type(node.value).__name__} {_scalar(node.value)}")
        return
    for name in node._fields:
        if name in _NOT_WRITTEN:
            continue
        value = getattr(node, name, None)
        if name == "values" and type(node).__name__ in ("JoinedStr", "TemplateStr"):
            value = _joined(node.values)  # type: ignore[attr-defined]
        if name == "format_spec" and isinstance(value, ast.JoinedStr) and not _joined(value.values):
            continue  # f"{x:}" equals f"{x}"
        yield name, value


def _joined(values: Sequence[ast.expr]) -> list[ast.expr]:
    """Merge the plain text in an f-string, because Python versions split it differently."""
    joined = list[ast.expr]()
    for plain, group in groupby(values, lambda value: isinstance(value, ast.Constant)):
        pieces = list(group)
        text = "".join(str(piece.value) for piece in pieces if isinstance(piece, ast.Constant))
        joined += [ast.Constant(text)] if text else [] if plain else pieces
    return joined


def _kept(statements: Sequence[ast.stmt], names: Mapping[str, Import], *, in_try: bool = False) -> list[object]:
    """Return the statements that have an effect; imports only if `names` does not cover them."""
    kept = list[object]()
    for node in statements:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias, (name, source) in zip(node.names, _bound(node), strict=True):
                if in_try or name not in names:
                    whole = source if isinstance(node, ast.ImportFrom) else Import(0, alias.name)
                    kept += [_Syntax(f"import {name} "), Use(whole)]
        elif not (
            isinstance(node, ast.Pass)
            or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
            or _is_for_type_checkers(node)
        ):
            kept.append(node)
    return kept


def _is_list_of_exports(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["__all__"]


def _use(node: ast.AST, names: Mapping[str, Import]) -> Use | None:
    """Return the origin of an expression such as `functional.relu`, if it begins with an imported name."""
    attributes = list[str]()
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id in names:
        return Use(names[node.id], tuple(reversed(attributes)))
    return None


def _scalar(value: object) -> str:
    # ascii: repr depends on the version's Unicode tables. hex: works for ints of any length.
    return hex(value) if type(value) is int else ascii(value)
