import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from strive.errors import SnapshotError
from strive.slurm import snapshot
from strive.slurm.snapshot import check_code, freeze_code, freeze_modules


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    write(
        root,
        {"src/strive/__init__.py": "", "src/allcnn/cells.py": "CELL = 1\n", "conf/config.yaml": "seed: 0\n"},
    )
    write(
        root,
        {"README.md": "read me", ".gitignore": "/data/\n/runs/\n*.log\n", "data/images.bin": "pixels", "a.log": ""},
    )
    git(root.parent, "init", "-q", str(root))
    git(root, "add", ".")
    return root


def test_tracked_and_new_files_are_frozen_and_ignored_ones_are_not(project: Path, tmp_path: Path) -> None:
    write(project, {"src/strive/new.py": "", "src/strive/new.log": "", "src/strive/old.py": ""})
    git(project, "add", ".")
    (project / "src/strive/old.py").unlink()  # git still has it
    frozen = freeze_code(project, tmp_path / "sweeps")
    assert below(frozen) == {
        "conf/config.yaml", "src/strive/__init__.py", "src/allcnn/cells.py", "src/strive/new.py",
    }  # fmt: skip
    assert frozen.parent == tmp_path / "sweeps"


def test_the_same_code_is_frozen_once(project: Path, tmp_path: Path) -> None:
    first = freeze_code(project, tmp_path / "sweeps")
    assert freeze_code(project, tmp_path / "sweeps") == first
    write(project, {"src/allcnn/cells.py": "CELL = 2\n"})
    second = freeze_code(project, tmp_path / "sweeps")
    assert second != first
    assert (first / "src/allcnn/cells.py").read_text() == "CELL = 1\n"
    assert (second / "src/allcnn/cells.py").read_text() == "CELL = 2\n"
    assert {path.name for path in (tmp_path / "sweeps").iterdir()} == {first.name, second.name}, (
        "and no drafts are left"
    )


def test_only_what_a_job_imports_or_reads_is_frozen(project: Path, tmp_path: Path) -> None:
    code = {"src/hydra_plugins/plugin.py": "", "sweeps/mine.yaml": "", "pyproject.toml": "", "src/strive/font.bin": "f"}
    rest = {
        "results/cell/record.json": "{}",
        "tests/test_a.py": "",
        "docs/a.md": "",
        "analysis/make_tables.py": "",
    }
    write(project, code | rest | {"src.py": "", "configure/a.py": ""})
    git(project, "add", ".")
    frozen = freeze_code(project, tmp_path / "sweeps")
    assert below(frozen) == {*code, "conf/config.yaml", "src/strive/__init__.py", "src/allcnn/cells.py"}


def test_a_file_that_did_not_change_is_not_copied_again(project: Path, tmp_path: Path) -> None:
    write(project, {"src/strive/long.py": "LONG = 1\n", "src/strive/short.py": "S = 1\n"})
    first = freeze_code(project, tmp_path / "sweeps")
    write(project, {"src/allcnn/cells.py": "CELL = 2\n"})  # of the same length
    (project / "src/strive/short.py").rename(project / "src/strive/other.py")
    second = freeze_code(project, tmp_path / "sweeps")
    shared = {name for name in below(second) & below(first) if (second / name).samefile(first / name)}
    assert shared == below(second) - {"src/allcnn/cells.py", "src/strive/other.py"}
    assert (first / "src/allcnn/cells.py").read_text() == "CELL = 1\n"


def test_a_file_system_without_hard_links_gets_copies(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*names: object) -> None:
        raise PermissionError

    first = freeze_code(project, tmp_path / "sweeps")
    monkeypatch.setattr(snapshot.os, "link", refuse)
    write(project, {"src/allcnn/cells.py": "CELL = 2\n"})
    second = freeze_code(project, tmp_path / "sweeps")
    assert below(second) == below(first)
    assert (second / "conf/config.yaml").read_text() == "seed: 0\n"


def test_a_checkout_without_git_is_frozen_by_its_folders(project: Path, tmp_path: Path) -> None:
    shutil.rmtree(project / ".git")
    write(project, {"src/strive/__pycache__/cell.pyc": "", "src/strive.egg-info/PKG-INFO": "", "notes.txt": ""})
    assert below(freeze_code(project, tmp_path / "sweeps")) == {
        "conf/config.yaml", "src/strive/__init__.py", "src/allcnn/cells.py"
    }  # fmt: skip


def test_a_project_that_lies_ignored_in_another_repository_is_frozen_too(project: Path, tmp_path: Path) -> None:
    shutil.rmtree(project / ".git")
    git(tmp_path.parent, "init", "-q", str(tmp_path))
    write(tmp_path, {".gitignore": "project/src\n"})
    assert "src/allcnn/cells.py" in below(freeze_code(project, tmp_path / "sweeps"))


def test_output_inside_the_project_is_not_frozen(project: Path) -> None:
    runs = project / "src" / "runs"
    write(runs, {"cell-1/record.json": "{}"})
    frozen = freeze_code(project, runs / "sweeps", without=[runs])
    again = freeze_code(project, runs / "sweeps", without=[runs])
    assert frozen == again
    assert not any("runs" in name for name in below(frozen))


def test_a_launch_from_frozen_code_uses_that_copy_again(project: Path) -> None:
    # A job that submits jobs: the copy lies in the very folder whose contents are output, and has no git.
    runs = project / "runs"
    frozen = freeze_code(project, runs / "sweeps", without=[runs])
    assert freeze_code(frozen, runs / "sweeps", without=[runs]) == frozen
    elsewhere = freeze_code(frozen, project.parent / "sweeps", without=[project.parent])
    assert "src/allcnn/cells.py" in below(elsewhere)


def test_too_much_to_be_code_is_refused_with_the_largest_files(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "_MOST_BYTES", 1_000)
    write(project, {"src/images/train.bin": "x" * 2_000_000})
    with pytest.raises(SnapshotError, match=r"src/images/train.bin \(2 MB\).*hydra.launcher.snapshot=false"):
        freeze_code(project, tmp_path / "sweeps")


def test_a_copy_that_another_launcher_made_a_moment_ago_is_taken(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def late(draft: Path, target: Path) -> None:
        shutil.copytree(draft, target)
        rename(draft, target)

    monkeypatch.setattr(snapshot.os, "rename", late)
    frozen = freeze_code(project, tmp_path / "sweeps")
    assert (frozen / "src/allcnn/cells.py").exists()
    assert list((tmp_path / "sweeps").iterdir()) == [frozen]


def test_launchers_at_once_share_one_copy(project: Path, tmp_path: Path) -> None:
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(freeze_code(project, tmp_path / "sweeps"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [path.name for path in (tmp_path / "sweeps").iterdir()] == [found[0].name]


def test_a_group_can_read_and_write_it_where_the_umask_says_so(project: Path, tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        frozen = freeze_code(project, tmp_path / "sweeps")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o060 for path in (frozen, *frozen.rglob("*"))} == {0o060}


def test_a_builders_module_is_frozen_with_what_it_may_import(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    write(folder, {"nets.py": "", "blocks.py": "", "package/__init__.py": "", "package/deep/layer.py": ""})
    write(folder, {"data/script.py": "", "table.csv": "", "package/weights.bin": ""})
    frozen = freeze_modules(folder, ["nets"], tmp_path / "sweeps")
    assert frozen is not None
    assert below(frozen) == {"nets.py", "blocks.py", "package/__init__.py", "package/deep/layer.py"}
    assert freeze_modules(folder, ["package.deep.layer"], tmp_path / "sweeps") == frozen


def test_a_builder_is_frozen_with_what_it_imports_from_outside_of_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "work"
    # Names of its own: a module that another test has imported would be the one that counts.
    write(folder, {"frozen_nets.py": "from frozen_parts.layers import layer\nimport frozen_fast.kernel"})
    write(
        folder,
        {"frozen_parts/layers.py": "layer = 1", "frozen_fast/kernel.abi3.so": "compiled", "others/script.py": ""},
    )
    monkeypatch.chdir(folder)
    frozen = freeze_modules(folder, ["frozen_nets"], tmp_path / "sweeps")
    assert frozen is not None
    assert below(frozen) == {"frozen_nets.py", "frozen_parts/layers.py", "frozen_fast/kernel.abi3.so"}


def test_a_builder_that_is_installed_needs_no_copy(tmp_path: Path) -> None:
    write(tmp_path / "work", {"other.py": ""})
    assert freeze_modules(tmp_path / "work", ["torchvision.models"], tmp_path / "sweeps") is None


def test_a_job_refuses_to_train_with_other_code_than_was_frozen(tmp_path: Path) -> None:
    source = Path(snapshot.__file__).parents[2]
    check_code(source.parent)
    with pytest.raises(SnapshotError, match=f"would train with the code in {source}/strive"):
        check_code(tmp_path / "code-123")


def test_the_frozen_code_goes_before_an_editable_install(tmp_path: Path) -> None:
    root = Path(snapshot.__file__).parents[3]
    frozen = freeze_code(root, tmp_path / "sweeps")
    program = "import strive; from strive.slurm.snapshot import check_code; from pathlib import Path; "
    program += f"check_code(Path({str(frozen)!r})); print(strive.__file__)"
    said = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": f"{frozen}/src", "PYTHONSAFEPATH": "1"},
        cwd=root / "src",  # where another strive lies
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == f"{frozen}/src/strive/__init__.py"
