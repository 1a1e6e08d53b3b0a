import json
import os
import pickle
import re
import runpy
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pages
import pytest
from pages import arguments_of
from PIL import Image
from support import JPEG_ARCHIVE, ROOT, CommandLine
from wheel_environment import clone

from allcnn.data.digits import read_digits

# What makes a command of the README short. It comes last, and the last value of a key counts.
SHORT = ("budget=smoke", "model.width=0.04", "preprocess=standardize", "trainer.threads=1")


def commands(page: str) -> list[list[str]]:
    """Return the arguments of every src/run.py command in the page's bash blocks."""
    return [texts for _, *texts in arguments_of(page, "src/run.py")]


def type_in(folder: Path, line: str, *more: str) -> str:
    """Run a command of this page, with more arguments, in a clone that has our environment; return what it prints."""
    program, *texts = shlex.split(line)
    assert program in ("python", ".venv/bin/python")
    done = subprocess.run(
        [sys.executable, *texts, *more],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder / "src"), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{line}: {done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Make train/CLASS/ and test/CLASS/ of 20 and 10 images a class, as JPEG files."""
    if JPEG_ARCHIVE.is_file():
        wanted = re.compile(r"(train/[a-z]+/000\d|train/[a-z]+/001\d|test/[a-z]+/000\d)\.jpe?g$")
        with tarfile.open(JPEG_ARCHIVE) as archive:
            members = [member for member in archive.getmembers() if wanted.search(member.name)]
            archive.extractall(tmp_path / "images", members=members, filter="data")
        (root,) = (path.parent for path in (tmp_path / "images").rglob("train"))
        return root
    raw = read_digits()
    for name, split, count in (("train", raw.train, 20), ("test", raw.test, 10)):
        for label in range(10):
            folder = tmp_path / "images" / name / f"class{label}"
            folder.mkdir(parents=True)
            for number, index in enumerate(np.flatnonzero(split.labels == label)[:count]):
                Image.fromarray(split.images[index]).save(folder / f"{number:04d}.jpg")
    return tmp_path / "images"


@pytest.fixture
def cifar10_folder(image_folder: Path, tmp_path: Path) -> Path:
    """Make data/cifar-10-batches-py in torchvision's format from the images."""
    classes = sorted(path.name for path in (image_folder / "train").iterdir())
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def dump(name: str, content: dict[object, object]) -> None:
        with (folder / name).open("wb") as file:
            pickle.dump(content, file, protocol=2)

    def batch(files: list[Path]) -> dict[object, object]:
        pixels = [np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1).reshape(-1) for path in files]
        return {b"data": np.stack(pixels), b"labels": [classes.index(path.parent.name) for path in files]}

    train, test = (sorted((image_folder / name).glob("*/*")) for name in ("train", "test"))
    for number in range(5):
        dump(f"data_batch_{number + 1}", batch(train[number::5]))
    dump("test_batch", batch(test))
    dump("batches.meta", {b"label_names": [name.encode() for name in classes]})
    return tmp_path / "data"


def records(tmp_path: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted((tmp_path / "runs").glob("*/record.json"))]


def test_every_block_of_the_readme_with_commands_is_run_by_a_test():
    """The first four in test_examples.py, from the wheel; the others here, in a clone."""
    last = [block[-1] for block in pages.commands("README.md")]
    assert last[1:5] == ["strive report", "strive report models", "pip install dist/strive-*.whl", "make test"]
    assert len(last) == 6


def test_make_demo_plans_the_twelve_nets_and_trains_and_reports_two_of_them_in_a_clone(tmp_path: Path):
    """`make demo` takes minutes: its plan is made whole, and two of its nets train with budget=smoke.

    `make test` is what runs this. Both make an environment first, which takes a network: here it is the tests' own.
    """
    assert pages.commands("README.md")[4] == ["make demo", "make test"]
    folder = clone(tmp_path / "clone")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "ready").touch()
    shown = subprocess.run(["make", "-n", "demo", "test"], cwd=folder, capture_output=True, text=True, check=True)
    train, report = (
        line for line in shown.stdout.splitlines() if line.startswith(".venv/bin/python ") and "-m pytest" not in line
    )
    assert "12 cells: 0 done already, 12 to train" in type_in(folder, train, "hydra.sweeper.dry_run=true")
    type_in(folder, train, "budget=smoke", "model=model_a,all_cnn_c", "model.width=0.04", "trainer.threads=1")
    assert len(list(folder.glob("runs/demo/*/record.json"))) == 2
    type_in(folder, report)
    assert "ALL-CNN-C" in (folder / "runs" / "demo" / "report.html").read_text()


def test_the_page_of_the_study_has_the_commands_that_are_tried_here():
    assert [arguments[0] if arguments else "" for arguments in commands("docs/study.md")] == [
        "",
        "-m",
        "-m",
        "model=all_cnn_c",
        "-m",
        "-m",
    ]


def test_the_baseline_trains_from_a_real_cifar10_folder(strive: CommandLine, cifar10_folder: Path, tmp_path: Path):
    done = strive(*commands("docs/study.md")[0], *SHORT)
    assert done.returncode == 0, done.stderr
    (record,) = records(tmp_path)
    assert str(record["cell"]).startswith("all_cnn_c-cifar10-none-lr0.05-s0-")
    assert done.stdout.splitlines()[-1].endswith("record.json")


def test_the_readme_s_grid_trains_in_a_clone_and_a_second_call_trains_none(cifar10_folder: Path, tmp_path: Path):
    """Hours on a GPU: planned as it stands, without data; trained with budget=smoke, on 200 images and small nets."""
    train, tables = pages.commands("README.md")[5]
    folder = clone(tmp_path / "clone")
    assert "12 cells: 0 done already, 12 to train" in type_in(folder, train, "hydra.sweeper.dry_run=true")
    short = (*SHORT, f"data.root={cifar10_folder}")
    done = type_in(folder, train, *short)
    assert "12 cells: 0 done already, 12 to train" in done
    found = records(folder)
    assert [record["status"] for record in found] == ["done"] * 12
    # The table at the end has a line for each, and so have the paper's tables.
    for record in found:
        assert f" {str(record['cell']).partition('-')[0]} " in done
    assert type_in(folder, tables).count("ALL-CNN-") >= 3
    stamps = [path.stat().st_mtime_ns for path in sorted((folder / "runs").glob("*-*/*"))]
    assert [*commands("docs/study.md")[1], "data.download=true"] == shlex.split(train)[2:]
    assert "12 cells: 12 done already, nothing to train" in type_in(folder, train, *short)
    assert [path.stat().st_mtime_ns for path in sorted((folder / "runs").glob("*-*/*"))] == stamps


def test_the_grid_over_augmentation_lr_and_seeds_is_planned_whole(
    strive: CommandLine, cifar10_folder: Path, tmp_path: Path
):
    # 12 nets x 2 x 4 x 3 = 288 cells; one wrong value at the end of the line stops all of them.
    done = strive(*commands("docs/study.md")[2], *SHORT, "data.val_images=200")
    assert done.returncode == 2
    assert "288 of 288 cells cannot train; nothing was started" in done.stderr
    assert "data.val_images=200 leaves no training images; cifar10 has 200" in done.stderr
    assert records(tmp_path) == []


def test_a_part_of_that_grid_trains(strive: CommandLine, cifar10_folder: Path, tmp_path: Path):
    done = strive(*commands("docs/study.md")[2], *SHORT, "model=all_cnn_a,model_a", "optimizer.lr=0.05", "seed=0,1")
    assert done.returncode == 0, done.stderr
    assert len(records(tmp_path)) == 2 * 2 * 2


def test_any_folder_of_class_folders_trains(strive: CommandLine, image_folder: Path, tmp_path: Path):
    arguments = [text.replace("=DIR", f"={image_folder}") for text in commands("docs/study.md")[3]]
    done = strive(*arguments, *SHORT)
    assert done.returncode == 0, done.stderr
    (record,) = records(tmp_path)
    assert str(record["cell"]).startswith("all_cnn_c-cifar10_jpeg-none-")


def test_the_smoke_sweep_is_planned_trained_and_found_done(strive: CommandLine, tmp_path: Path):
    dry = strive(*commands("docs/study.md")[4])
    assert dry.returncode == 0, dry.stderr
    assert "train (12)" in dry.stdout
    assert not (tmp_path / "runs").exists()
    # Two of the twelve; all of them train in the test of the glob.
    two = ("model=model_a,all_cnn_c", "model.width=0.04", "trainer.threads=1")
    done = strive(*commands("docs/study.md")[5], *two)
    assert done.returncode == 0, done.stderr
    assert [record["status"] for record in records(tmp_path)] == ["done"] * 2
    again = strive(*commands("docs/study.md")[5], *two)
    assert "2 cells: 2 done already, nothing to train" in again.stderr


def test_the_papers_whitening_trains_on_real_images(strive: CommandLine, tmp_path: Path):
    if not JPEG_ARCHIVE.is_file():
        pytest.skip(f"needs the CIFAR-10 JPEG copies at {JPEG_ARCHIVE}")
    root = tmp_path / "some"
    wanted = re.compile(r"(train/[a-z]+/00[0-2]\d|test/[a-z]+/000\d)\.jpe?g$")
    with tarfile.open(JPEG_ARCHIVE) as archive:
        members = [member for member in archive.getmembers() if wanted.search(member.name)]
        archive.extractall(root, members=members, filter="data")
    (images,) = (path.parent for path in root.rglob("train"))
    arguments = ("data=image_folder", f"data.root={images}", "data.name=cifar10_jpeg", "augment=flip_shift")
    done = strive(*arguments, "budget=smoke", "model.width=0.125", "trainer.threads=1", "data.val_images=50")
    assert done.returncode == 0, done.stderr
    (record,) = records(tmp_path)
    assert record["metrics"]["val_error"] is not None  # type: ignore[index]


@pytest.mark.parametrize("number", range(3))
def test_a_network_of_ones_own_trains_as_the_page_says(strive: CommandLine, tmp_path: Path, number: int):
    text = (ROOT / "docs" / "own_network.md").read_text()
    (source,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (settings,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "my_nets.py").write_text(source)
    (tmp_path / "my_conf" / "model").mkdir(parents=True)
    (tmp_path / "my_conf" / "model" / "lenet.yaml").write_text(settings)
    done = strive(*commands("docs/own_network.md")[number], "preprocess=standardize", "trainer.threads=1")
    assert done.returncode == 0, done.stderr
    found = records(tmp_path)
    assert len(found) == (2 if number == 1 else 1)
    assert {str(record["cell"]).partition("-")[0] for record in found} == {"lenet"}
    if number == 1:
        assert len({record["metrics"]["parameters"] for record in found}) == 2  # type: ignore[index]


def test_no_link_in_the_pages_is_broken():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "bench").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert link.startswith("https://") or (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize("name", ["config", "reference"])
def test_a_page_that_is_made_from_the_code_says_what_the_code_says(name: str):
    page = runpy.run_path(str(ROOT / "docs" / f"make_{name}_page.py"))["page"]()
    assert page == (ROOT / "docs" / f"{name}.md").read_text(), f"run: python docs/make_{name}_page.py"
