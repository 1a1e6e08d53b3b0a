"""Write docs/reference.md from the docstrings of the public interface: `python docs/make_reference_page.py`."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import strive
from allcnn import attribution
from strive import errors
from strive.cells.records import Provenance, Record, Status
from strive.lightning import StriveCallback

PAGE = Path(__file__).with_name("reference.md")
HEAD = """# Reference

Written by `python docs/make_reference_page.py` from the docstrings; do not edit. [contract.md](contract.md) says how
these go together and what happens when something fails.
"""


def page() -> str:
    """Return the page's text."""
    own = {name: getattr(strive, name) for name in strive.__all__}
    parts = [
        HEAD,
        "\n## In a training script: `import strive`\n",
        *_entries("strive", {name: each for name, each in own.items() if not _is_error(each)}),
        "\n## What it raises\n",
        *_entries("strive", {name: each for name, each in own.items() if _is_error(each)}),
        "\nAll errors that may be caught are in `strive.errors`:\n",
        f"\n```\n{_tree()}\n```\n",
        "\n## What it returns: a cell's record\n",
        *_entries("strive.cells.records", {each.__name__: each for each in (Record, Provenance, Status)}),
        "\n## Lightning: `from strive.lightning import StriveCallback`\n",
        *_entries("strive.lightning", {"StriveCallback": StriveCallback}),
        "\n## Saliency maps of any torch module: `from allcnn import attribution`\n",
        *_entries("attribution", {name: getattr(attribution, name) for name in attribution.__all__}),
    ]
    return "".join(parts)


def _entries(place: str, things: dict[str, Any]) -> Iterator[str]:
    for name, thing in things.items():
        yield f"\n### `{place}.{name}`\n"
        if head := _head(thing):
            yield f"\n```python\n{head}\n```\n"
        yield f"\n{_as_markdown(inspect.getdoc(thing) or '')}\n"


def _is_error(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseException)


def _head(thing: Any) -> str:
    """Return what its source says of it before the docstring: a function's signature, or a class's fields."""
    lines = textwrap.dedent(inspect.getsource(thing)).splitlines()
    (node,) = ast.parse("\n".join(lines)).body
    if isinstance(node, ast.ClassDef):
        fields = [each for each in node.body if isinstance(each, ast.AnnAssign | ast.Assign)]
        public = [each for each in fields if not ast.unparse(each).startswith("_")]
        return "\n".join(
            lines[number][4:] for each in public for number in range(each.lineno - 1, each.end_lineno or each.lineno)
        )
    assert isinstance(node, ast.FunctionDef)
    return "\n".join(lines[node.lineno - 1 : node.body[0].lineno - 1])


def _as_markdown(text: str) -> str:
    """Return a docstring with its lists of `name: meaning` as lists."""
    return re.sub(r"^([a-z_]+(?:, [a-z_]+)*): (?=\S)", r"- **\1**: ", text, flags=re.MULTILINE)


def _tree() -> str:
    """Return the tree in the docstring of strive.errors."""
    return (inspect.getdoc(errors) or "").partition("\n\n")[2].partition("\n\n")[0]


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
