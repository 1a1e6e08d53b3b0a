"""What a source file tells Python, without what only people read and without where it lies.

The form is this module's own walk over the syntax tree: the names of classes and of non-empty fields,
so that Python 3.11 to 3.14 give the same. `ast.dump` does not: it names fields that a version adds.
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
    """Where a name of a file comes from: `from ..module import name`."""

    level: int  # dots in front; 0: the module's whole name is there
    module: str  # dotted; "" behind dots alone
    name: str = ""  # what is taken from it; "": the module itself; "*": all


@dataclass(frozen=True, slots=True)
class Use:
    """A place where a file uses what it has imported: `nn.functional.relu` is torch.nn and its attributes."""

    source: Import
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Form:
    """A source file as Python understands it.

    Import statements are not in the text. A name that they bind, and nothing else in the file, stands
    in `uses` with where it comes from, so that no spelling of an import changes the form and every
    import of something else does. Of other names, and where a failure to import has a meaning, the
    statement stays where it is.
    """

    text: str  # hash of all but the uses; "" of a file that has nothing but imports and docstrings
    uses: tuple[Use, ...] = ()  # in the order of the text
    imports: tuple[Import, ...] = ()  # of what Python loads with the file, or later inside of its functions
    names: dict[str, Import] = field(default_factory=dict)  # that others may import from here in their turn


@lru_cache(maxsize=4096)
def form_of(content: bytes) -> Form:
    """Return the form of a file's content: of its bytes, if they are no Python that this version reads."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an odd escape in somebody's string
            tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return bytes_form(content)
    names = _imported_names(tree)
    text, uses = _written(tree, names)
    return Form(text, uses, tuple(_imports(tree)), names)


def bytes_form(content: bytes) -> Form:
    """Return the form of what is no source, such as a compiled module."""
    return Form(hashlib.sha256(b"bytes " + content).hexdigest())


# -- imports


def _bound(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Import]]:
    """Yield (name, where it comes from) of what a statement binds."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield alias.asname or alias.name, Import(node.level, node.module or "", alias.name)
        elif alias.asname:
            yield alias.asname, Import(0, alias.name)
        else:
            top = alias.name.partition(".")[0]
            yield top, Import(0, top)


def _imports(tree: ast.AST) -> Iterator[Import]:
    """Yield what is imported anywhere in a tree, but for type checkers alone."""
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
    """Return {name: where it comes from} of the names that one import alone binds in the whole file."""
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
    """Yield the names that a node binds, in whatever scope: one that is sometimes another is not followed."""
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

# Whether a name is read or written is seen from where it stands; the others are spelling and comments.
_NOT_WRITTEN = frozenset({"ctx", "kind", "type_comment", "type_ignores"})


class _Mark(str):
    """Text of the form itself, not of the file."""


def _written(tree: ast.Module, names: Mapping[str, Import]) -> tuple[str, tuple[Use, ...]]:
    """Return the hash of a tree's text, "" if there is nothing in it, and what stands at its uses."""
    text, uses = list[str](), list[Use]()
    # Not by recursion: how deep that may go depends on who calls.
    waiting: list[object] = [_kept([node for node in tree.body if not _is_list_of_exports(node)], names)]
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.AST):
            waiting += reversed([use] if (use := _use(part, names)) else list(_parts(part, names)))
        elif isinstance(part, Use):
            uses.append(part)
            text.append("@")
        elif isinstance(part, list):
            waiting += [_Mark("]"), *reversed(part), _Mark("[")]
        else:
            text.append(part if isinstance(part, _Mark) else f"{_scalar(part)} ")
    written = "".join(text)
    return ("" if written == "[]" else hashlib.sha256(written.encode()).hexdigest()), tuple(uses)


def _parts(node: ast.AST, names: Mapping[str, Import]) -> Iterator[object]:
    """Yield the class and the non-empty fields of a node."""
    yield _Mark(f"({type(node).__name__}")
    for name, value in _fields(node):
        if value is None or value == []:
            continue
        if isinstance(value, list) and isinstance(value[0], ast.stmt):
            value = _kept(value, names, in_try=isinstance(node, ast.Try | ast.TryStar | ast.ExceptHandler))
        yield _Mark(f" {name} ")
        yield value
    yield _Mark(")")


def _fields(node: ast.AST) -> Iterator[tuple[str, object]]:
    if isinstance(node, ast.Constant):
        # None and "" are values like others here.
        yield "value", _Mark(f"{type(node.value).__name__} {_scalar(node.value)}")
        return
    for name in node._fields:
        if name in _NOT_WRITTEN:
            continue
        value = getattr(node, name, None)
        if name == "values" and type(node).__name__ in ("JoinedStr", "TemplateStr"):
            value = _joined(node.values)  # type: ignore[attr-defined]
        if name == "format_spec" and isinstance(value, ast.JoinedStr) and not _joined(value.values):
            continue  # f"{x:}" is f"{x}"
        yield name, value


def _joined(values: Sequence[ast.expr]) -> list[ast.expr]:
    """Return the pieces of an f-string with its plain text in as few as can be: versions cut it differently."""
    joined = list[ast.expr]()
    for plain, group in groupby(values, lambda value: isinstance(value, ast.Constant)):
        pieces = list(group)
        text = "".join(str(piece.value) for piece in pieces if isinstance(piece, ast.Constant))
        joined += [ast.Constant(text)] if text else [] if plain else pieces
    return joined


def _kept(statements: Sequence[ast.stmt], names: Mapping[str, Import], *, in_try: bool = False) -> list[object]:
    """Return the statements that do something; imports only where `names` cannot stand for them."""
    kept = list[object]()
    for node in statements:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias, (name, source) in zip(node.names, _bound(node), strict=True):
                if in_try or name not in names:
                    whole = source if isinstance(node, ast.ImportFrom) else Import(0, alias.name)
                    kept += [_Mark(f"import {name} "), Use(whole)]
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
    """Return what an expression such as `functional.relu` means, if it begins with an imported name."""
    attributes = list[str]()
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id in names:
        return Use(names[node.id], tuple(reversed(attributes)))
    return None


def _scalar(value: object) -> str:
    # ascii: which characters repr shows as they are depends on the version's Unicode tables. hex: for any length.
    return hex(value) if type(value) is int else ascii(value)
