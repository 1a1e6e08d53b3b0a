from pathlib import Path

import pytest

from strive import code_hash as module
from strive.code_hash import code_hash


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("randomness.py", "networks/spec.py", "data/augment.py", "training/loop.py", "records.py", "cell.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"# {name}\n")
    monkeypatch.setattr(module, "PACKAGE", tmp_path)
    return tmp_path


def fresh(builder: Path | None = None) -> str:
    code_hash.cache_clear()
    return code_hash(builder)


@pytest.mark.parametrize("name", ["randomness.py", "networks/spec.py", "data/augment.py", "training/loop.py"])
def test_it_changes_with_each_file_that_decides_numbers(package: Path, name: str):
    before = fresh()
    (package / name).write_text("# other\n")
    assert fresh() != before


@pytest.mark.parametrize("name", ["records.py", "cell.py", "networks/notes.md"])
def test_it_does_not_change_with_anything_else(package: Path, name: str):
    before = fresh()
    (package / name).write_text("other\n")
    assert fresh() == before


def test_a_new_or_renamed_file_changes_it(package: Path):
    before = fresh()
    (package / "networks" / "spec.py").rename(package / "networks" / "nets.py")
    assert fresh() != before


def test_line_ends_do_not_change_it(package: Path):
    before = fresh()
    path = package / "networks" / "spec.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert fresh() == before


def test_the_file_of_a_custom_builder_counts_wherever_it_lies(package: Path, tmp_path: Path):
    one, two = tmp_path / "one", tmp_path / "two"
    for place in (one, two):
        place.mkdir()
        (place / "net.py").write_text("def build(): ...\n")
    without, with_builder = fresh(), fresh(one / "net.py")
    assert with_builder != without
    assert fresh(two / "net.py") == with_builder
    (one / "net.py").write_text("def build(): return 1\n")
    assert fresh(one / "net.py") != with_builder
