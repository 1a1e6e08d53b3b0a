import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from allcnn.app import APP, CODE, NO_CODE
from strive.code import cache
from strive.code import hash as module
from strive.code.files import _NO_CODE, reached
from strive.code.hash import Code, changed_files_text

NETS = """
import torch
from mypkg.blocks import block, WIDTH
from . import shapes

def resnet(num_classes, image_size):
    from .late import head
    return torch.nn.Sequential(block(WIDTH), head(shapes.flat(num_classes)))
"""
FILES = {
    "mypkg/__init__.py": "",
    "mypkg/nets.py": NETS,
    "mypkg/blocks.py": "from mypkg.deep.constants import SLOPE\nWIDTH = 8\ndef block(n): return n * SLOPE\n",
    "mypkg/deep/constants.py": "SLOPE = 0.1\n",  # a folder without __init__
    "mypkg/shapes.py": "def flat(n): return n\n",
    "mypkg/late.py": "def head(n): return n\n",
    "mypkg/unused.py": "OTHER = 1\n",
    "loose.py": "OTHER = 1\n",
}
BUILDER = "mypkg.nets:resnet"


@pytest.fixture(autouse=True)
def _as_if_anew() -> Iterator[None]:
    module._code.cache_clear()
    yield
    module._code.cache_clear()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def fresh(builder: str = BUILDER) -> Code:
    module._code.cache_clear()
    return code_of(builder)


def code_of(builder: str = "") -> Code:
    return APP.code_of({"model.builder": builder})


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


# -- what counts


def test_nets_data_and_loop_count_and_what_keeps_records_plans_and_shows_does_not():
    files = set(code_of().files)
    assert {"allcnn/training/train.py", "allcnn/networks/build.py", "allcnn/data/augment.py"} <= files
    assert "allcnn/randomness.py" in files
    folders = {name.split("/")[1] for name in files}
    assert folders <= {"training", "networks", "data", "randomness.py", "user_builder.py"}


def test_a_module_of_strive_that_the_loop_begins_to_import_counts_unless_it_is_known_to_decide_nothing():
    found = reached([CODE], NO_CODE)
    assert not found.keys() & (_NO_CODE | NO_CODE)
    assert all(name.startswith("allcnn.") for name, module in found.items() if module.form.text)


def test_config_computes_nothing_that_the_loop_could_read():
    # Its values are in the record and in the id; a property of it would be neither, nor in the hash.
    from allcnn import config

    computed = {
        f"{name}.{key}"
        for name, each in vars(config).items()
        if isinstance(each, type) and each.__module__ == config.__name__
        for key, value in vars(each).items()
        if isinstance(value, property) or (callable(value) and not key.startswith("_"))
    }
    assert computed <= {"ModelConfig.name"}
    used = {
        use.attributes[-1] for each in reached([CODE], NO_CODE).values() for use in each.form.uses if use.attributes
    }
    assert "name" not in used


def test_finding_it_imports_neither_torch_nor_the_users_code(project: Path):
    (project / "mypkg" / "__init__.py").write_text("raise RuntimeError('it was imported')\n")
    assert "mypkg/blocks.py" in fresh().files
    assert "mypkg" not in sys.modules


def test_what_a_users_net_imports_counts_and_nothing_else_of_the_users(project: Path):
    mine = {name for name in fresh().files if not name.startswith("allcnn/")}
    assert mine == {"mypkg/nets.py", "mypkg/blocks.py", "mypkg/deep/constants.py", "mypkg/shapes.py", "mypkg/late.py"}


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("mypkg/nets.py", "block(WIDTH)", "block(2 * WIDTH)"),
        ("mypkg/blocks.py", "WIDTH = 8", "WIDTH = 9"),
        ("mypkg/deep/constants.py", "0.1", "0.2"),
        ("mypkg/shapes.py", "return n", "return -n"),
        ("mypkg/late.py", "return n", "return -n"),
    ],
)
def test_a_change_in_anything_that_the_net_imports_changes_it_and_is_named(
    project: Path, name: str, before: str, after: str
):
    old = fresh()
    edit(project / name, before, after)
    new = fresh()
    assert new.hash != old.hash
    assert changed_files_text(old.files, new.files) == name
    assert fresh("").hash not in (old.hash, new.hash)


@pytest.mark.parametrize("name", ["mypkg/unused.py", "loose.py"])
def test_a_change_in_what_is_not_imported_changes_nothing(project: Path, name: str):
    old = fresh()
    edit(project / name, "OTHER = 1", "OTHER = 2")
    assert fresh() == old


def test_a_packages_init_counts_when_it_does_something(project: Path):
    old = fresh()
    (project / "mypkg" / "__init__.py").write_text("import torch\ntorch.set_float32_matmul_precision('medium')\n")
    new = fresh()
    assert new.hash != old.hash
    assert changed_files_text(old.files, new.files) == "mypkg/__init__.py"


def test_a_compiled_module_counts_by_its_bytes(project: Path):
    from importlib.machinery import EXTENSION_SUFFIXES

    path = project / "mypkg" / f"fast{EXTENSION_SUFFIXES[0]}"
    edit(project / "mypkg" / "shapes.py", "def", "from .fast import f\ndef")
    path.write_bytes(b"\x7fELF one")
    old = fresh()
    assert f"mypkg/{path.name}" in old.files
    path.write_bytes(b"\x7fELF two")
    assert fresh().hash != old.hash


def test_a_module_in_a_zip_archive_counts(project: Path, monkeypatch: pytest.MonkeyPatch):
    import zipfile

    hashes = []
    for slope in ("0.1", "0.2"):
        archive = project / f"lib{slope}.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("zipped.py", f"SLOPE = {slope}\n")
        edit(project / "mypkg" / "late.py", "def", "import zipped\ndef") if slope == "0.1" else None
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(archive))
            hashes.append(fresh().hash)
    assert hashes[0] != hashes[1]


def test_a_net_in_an_installed_package_counts_with_its_package_and_other_installed_ones_do_not(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    place = project / "lib" / "site-packages"
    (place / "other").mkdir(parents=True)
    (place / "other" / "__init__.py").write_text("X = 1\n")
    shutil.move(project / "mypkg", place / "mypkg")
    edit(place / "mypkg" / "late.py", "def", "import other\ndef")
    monkeypatch.syspath_prepend(str(place))
    files = fresh().files
    assert "mypkg/blocks.py" in files
    assert "other/__init__.py" not in files
    assert not any(name.startswith(("torch/", "numpy/")) for name in files)


def test_modules_that_import_each_other_are_found_once(project: Path):
    edit(project / "mypkg" / "shapes.py", "def", "from . import nets, late\ndef")
    edit(project / "mypkg" / "late.py", "def", "from . import shapes\ndef")
    assert len(fresh().files) == len(code_of().files) + 5


@pytest.mark.parametrize("builder", ["missing:net", "mypkg.missing:net", "missing.deeper:net", "loose.deeper:net"])
def test_a_builder_that_is_not_there_has_no_hash(project: Path, builder: str):
    assert fresh(builder) == Code("", {})


# -- what does not


def test_comments_docstrings_and_line_ends_change_nothing(project: Path):
    old = fresh()
    for name in FILES:
        path = project / name
        path.write_bytes(b'"""About."""\r\n# more\r\n' + path.read_bytes().replace(b"\n", b"  # why\r\n"))
    assert fresh() == old


def test_a_moved_project_changes_nothing(project: Path, monkeypatch: pytest.MonkeyPatch):
    old = fresh()
    shutil.move(project / "mypkg", project / "elsewhere" / "mypkg")
    monkeypatch.chdir(project / "elsewhere")
    assert fresh() == old


def test_renamed_modules_change_nothing_however_they_are_imported(project: Path):
    old = fresh()
    mine = project / "mypkg"
    (mine / "parts").mkdir()
    (mine / "parts" / "__init__.py").write_text('"""Parts."""\n')
    (mine / "blocks.py").rename(mine / "parts" / "layers.py")
    (mine / "deep" / "constants.py").rename(mine / "parts" / "numbers.py")
    (mine / "shapes.py").rename(mine / "forms.py")
    edit(mine / "nets.py", "from mypkg.blocks import block, WIDTH", "from .parts import layers as l")
    edit(mine / "nets.py", "block(WIDTH)", "l.block(l.WIDTH)")
    edit(mine / "nets.py", "from . import shapes", "from mypkg import forms as shape_of")
    edit(mine / "nets.py", "shapes.flat", "shape_of.flat")
    edit(mine / "parts" / "layers.py", "mypkg.deep.constants", "mypkg.parts.numbers")
    new = fresh()
    assert new.hash == old.hash
    assert changed_files_text(old.files, new.files) == ""


def test_a_package_that_hands_names_on_changes_nothing(project: Path):
    old = fresh()
    (project / "mypkg" / "__init__.py").write_text("from .blocks import WIDTH, block\n__all__ = ['WIDTH', 'block']\n")
    edit(project / "mypkg" / "nets.py", "from mypkg.blocks", "from mypkg")
    assert fresh().hash == old.hash


def test_one_more_import_that_is_not_used_changes_nothing(project: Path):
    old = fresh()
    edit(project / "mypkg" / "nets.py", "import torch\n", "import math, os\nimport torch\nfrom torch import nn\n")
    edit(project / "mypkg" / "nets.py", "torch.nn.", "nn.")
    assert fresh().hash == old.hash


# -- the same names, other things


def test_the_same_name_from_another_file_changes_it(project: Path):
    for name, number in (("small", 1), ("large", 2)):
        (project / f"parts_{name}.py").write_text(f"SIZE = {number}\n")
        # Alike but for what they import: told apart by that alone.
        (project / f"{name}.py").write_text(f"from parts_{name} import SIZE\ndef build(): return SIZE\n")
    nets = project / "mine.py"
    nets.write_text("import small, large\ndef net(): return small.build()\n")
    old = fresh("mine:net").hash
    edit(nets, "small.build()", "large.build()")
    assert fresh("mine:net").hash != old
    nets.write_text("import small as large, large as small\ndef net(): return large.build()\n")
    assert fresh("mine:net").hash == old


def test_a_builder_in_another_file_of_the_same_files_is_other_code(project: Path):
    (project / "one.py").write_text("import two\ndef net(): return 1\n")
    (project / "two.py").write_text("import one\ndef net(): return 2\n")
    assert set(fresh("one:net").files) == set(fresh("two:net").files)
    assert fresh("one:net").hash != fresh("two:net").hash


def test_names_that_are_handed_on_in_a_circle_end(project: Path):
    (project / "one.py").write_text("from two import name\n")
    (project / "two.py").write_text("from one import name\ndef net(): return name\n")
    assert fresh("two:net").hash


def test_what_changed_is_named_where_it_is_known():
    before = {"a.py": "1", "b.py": "2", "c.py": "3"}
    assert changed_files_text(before, {"a.py": "1", "b.py": "9", "renamed.py": "3"}) == "b.py"
    assert changed_files_text(before, {"a.py": "1", "b.py": "2"}) == "c.py"
    assert changed_files_text({}, before) == ""
    many = {f"{number}.py": str(number) for number in range(10, 20)}
    assert changed_files_text(before, before | many).endswith("14.py and 5 more".replace(" and", ", and"))


def test_what_is_edited_after_a_process_has_asked_does_not_count(project: Path):
    old = fresh().hash
    edit(project / "mypkg" / "blocks.py", "WIDTH = 8", "WIDTH = 9")
    assert code_of(BUILDER).hash == old


def test_the_cache_saves_time_and_changes_nothing_whatever_becomes_of_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    without = fresh()
    kept = project / "cache"
    monkeypatch.setattr(cache, "_folder", lambda: kept)
    assert fresh() == without
    with monkeypatch.context() as patch:
        patch.setattr(cache, "form_of", lambda content: pytest.fail("it was read already"))
        assert fresh() == without
    for number, path in enumerate(sorted(kept.iterdir())):
        path.write_bytes([b"", b"[1, 2]", b'{"a": 1}', b"\xff"][number % 4])
    assert fresh() == without
    monkeypatch.setattr(cache, "_folder", lambda: Path("/dev/null/nowhere"))
    assert fresh() == without
