import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

from strive.code.form import Form, form_of

CODE = """
import torch
from torch import nn
from .blocks import depth

class Net(nn.Module):
    def forward(self, x):
        return torch.relu(x) * depth
"""


def form(text: str) -> Form:
    return form_of(text.encode())


def same(one: str, other: str) -> bool:
    mine, its = form(one), form(other)
    return (mine.text, mine.uses) == (its.text, its.uses)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1  # one\n", "\n\nx = (1)\n"),
        ("def f():\n    'Return one.'\n    return 1\n", "def f():\n    return 1\n"),
        ("'''About.'''\nx = 1\n'''About x.'''\n", "x = 1\n"),
        ("class A:\n    '''Nothing.'''\n", "class A: ...\n"),
        ("x = 'a'\r\ny = u'b'\r\n", 'x = "a"\ny = "b"\n'),
        ("x = 0x10, 1_000, 'a' 'b'\n", "x = 16, 1000, 'ab'\n"),
        ("import os, sys\nx = sys.path\n", "import sys\nx = sys.path\n"),
        ("__all__ = ['x']\nx = 1\n", "x = 1\n"),
        ("y = f'a' f'b{x}' 'c'\n", "y = f'ab{x}c'\n"),
        ("y = f'{x:}'\n", "y = f'{x}'\n"),
        ("# -*- coding: latin-1 -*-\nx = 1\n", "x = 1\n"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a\nx = 1\n", "x = 1\n"),
    ],
)
def test_what_only_people_read_is_not_in_it(one: str, other: str):
    assert same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1\n", "x = 2\n"),
        ("x = 1\n", "x = 1.0\n"),
        ("x = 1\n", "x = True\n"),
        ("x = 'a'\n", "x = b'a'\n"),
        ("x = None\n", "x = ''\n"),
        ("x = 0.1\n", "x = 0.1000000000000001\n"),
        ("x = [a]\n", "x = (a,)\n"),
        ("x = {**a}\n", "x = {None: a}\n"),
        ("x = f'{a}'\n", "x = f'{a!r}'\n"),
        ("x = f'{a}b'\n", "x = f'{a:b}'\n"),
        ("x = a + b * c\n", "x = (a + b) * c\n"),
        ("f(a, b=1)\n", "f(a, c=1)\n"),
        ("def f(a, b=1): return a\n", "def f(a=1, b=1): return a\n"),
        ("def f(a, /, b): return a\n", "def f(a, b): return a\n"),
        ("def f(*, a=1, b): return a\n", "def f(*, a, b=1): return a\n"),
        ("a\nb\n", "b\na\n"),
        ("if a:\n    b()\n    c()\n", "if a:\n    b()\nc()\n"),
        ("match a:\n    case [1, *_]: b()\n", "match a:\n    case [1, *c]: b()\n"),
        ("x: int = 1\n", "x = 1\n"),
        ("@cache\ndef f(): return 1\n", "def f(): return 1\n"),
        ("x = 'a' if b else 'c'\n", "x = 'c' if b else 'a'\n"),
    ],
)
def test_what_python_does_otherwise_is_in_it(one: str, other: str):
    assert not same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("import torch\nx = torch.nn.functional.relu\n", "import torch.nn as n\nx = n.functional.relu\n"),
        (
            "from torch.nn import functional as F\nx = F.relu\n",
            "from torch.nn import functional\nx = functional.relu\n",
        ),
        ("from math import pi\nx = pi\n", "def f():\n    from math import pi\nfrom math import pi as p\nx = p\n"),
    ],
)
def test_no_spelling_of_an_import_changes_it(one: str, other: str):
    mine, its = form(one), form(other)
    told = [[".".join((*filter(None, (use.source.module, use.source.name)), *use.attributes)) for use in each.uses]
            for each in (mine, its)]  # fmt: skip
    assert told[0] == told[1] != []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("from torch.nn import relu as f\nx = f(1)\n", "from torch.nn import gelu as f\nx = f(1)\n"),
        ("import a as m\nx = m.f()\n", "import b as m\nx = m.f()\n"),
        ("from .a import f\nx = f()\n", "from ..a import f\nx = f()\n"),
        ("from a import *\nx = f()\n", "from b import *\nx = f()\n"),
        # What is sometimes another thing is not followed: there the import itself counts.
        ("from a import f\ndef g(f): return f\nx = f\n", "from b import f\ndef g(f): return f\nx = f\n"),
        ("try:\n    import a\n    x = 1\nexcept ImportError:\n    x = 2\n",
         "try:\n    import b\n    x = 1\nexcept ImportError:\n    x = 2\n"),
        ("if c:\n    from a import f\nelse:\n    from b import f\nf()\n",
         "if c:\n    from b import f\nelse:\n    from a import f\nf()\n"),
    ],
)  # fmt: skip
def test_another_thing_under_the_same_name_changes_it(one: str, other: str):
    assert not same(one, other)


def test_a_name_of_an_import_and_of_an_argument_alike_stays_a_name():
    text = "from strive import spec\ndef f(spec): return spec.width\nx = spec.layers\n"
    assert [use.source.name for use in form(text).uses] == ["spec"]  # the import statement alone
    assert form(text).names == {}


def test_imports_are_found_wherever_python_makes_them_but_not_for_type_checkers():
    text = CODE + (
        "def late():\n    with a:\n        from .late import b\n"
        "match x:\n    case 1:\n        import c.d\n"
        "if TYPE_CHECKING:\n    import e\n"
        "from . import *\n"
    )
    found = {(each.level, each.module, each.name) for each in form(text).imports}
    assert found == {
        (0, "torch", ""), (0, "torch", "nn"), (1, "blocks", "depth"), (1, "late", "b"), (0, "c.d", ""), (1, "", "*"),
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "'''About.'''\n", "from .a import b\n\n__all__ = ['b']\n", "# nothing\n"])
def test_a_file_of_imports_and_docstrings_is_nothing(text: str):
    assert form(text).text == ""


def test_what_is_no_python_counts_by_its_bytes():
    assert form("def (").text != form("def ((").text != ""


def test_depth_decides_nothing():
    # Whoever calls from deep down must find the same hash: recursion would not.
    deep = "x = " + "+".join("a" * 900)

    def below(levels: int) -> Form:
        return below(levels - 1) if levels else form_of.__wrapped__(deep.encode())

    assert below(0) == below(sys.getrecursionlimit() // 2)


# What one version of Python writes otherwise than the one before: f-strings, type parameters, defaults.
SYNTAX = """
def f(a, /, b: int = 1, *c, d=None, **e) -> "x":
    global g
    async def h():
        async with a as b, c: await d
        return [i async for i in a if i]
    match a:
        case {"k": [1, *rest], **more} | Point(x=0) | None if b: pass
    try: pass
    except* ValueError as error: raise error from None
    return f"{a!r:>{b}}" "plain" f"{ a = }{{}}" f"" f"{a:}" f'{a:{"x"}y}' "u", rb"\\x00", -1j, ..., lambda: (yield)
class A(B, metaclass=C):
    x: int
    y: int = 1_0
    @property
    def z(self): return self.x[1:2, ::3]
for i in x: continue
else: del x, y
while (n := 1): break
"""


def test_every_python_that_is_here_gives_the_same(tmp_path: Path):
    ast.parse(SYNTAX)
    (tmp_path / "code_form.py").write_bytes((ROOT / "src" / "strive" / "code" / "form.py").read_bytes())
    (tmp_path / "syntax.py").write_text(SYNTAX)
    files = [tmp_path / "syntax.py", *(ROOT / "src" / "allcnn" / "training").glob("*.py")]
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from code_form import form_of\n"
        "for path in sys.argv[1:]: print(form_of(open(path, 'rb').read()))"
    )
    said = {}
    for version in ("3.11", "3.12", "3.13", "3.14"):
        # pyenv's own commands of that name work only where a version was chosen.
        installed = [*Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python")]
        if python := next(iter(installed), shutil.which(f"python{version}")):
            command = [python, "-I", "-c", program, *files]
            said[version] = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert len(set(said.values())) == 1, said.keys()
    assert form_of(SYNTAX.encode()).text in next(iter(said.values()))


def test_a_field_that_a_later_python_adds_and_leaves_empty_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    before = form_of.__wrapped__(CODE.encode())
    for node, more in ((ast.FunctionDef, "type_params"), (ast.ClassDef, "type_params"), (ast.Import, "is_lazy")):
        monkeypatch.setattr(node, "_fields", (*dict.fromkeys((*node._fields, more)),))
        monkeypatch.setattr(node, more, [], raising=False)
    assert form_of.__wrapped__(CODE.encode()) == before
