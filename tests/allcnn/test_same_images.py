import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from PIL import Image
from study_records import made, study_record
from support import MakeConfig, MakePlan

from allcnn import same_images
from allcnn.config import Config
from allcnn.data import imagenet as list_of_imagenet
from allcnn.data.splits import load_splits
from allcnn.same_images import other_images
from allcnn.training_pack import run_cell
from strive.cells.records import Record
from strive.errors import ConfigError
from strive.sweeps.plan import Action, Retrain, StoredPlan, write_plan


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 2 x 8 training and 2 x 2 test images, files that are all of one size."""
    monkeypatch.setenv("STRIVE_CACHE", str(tmp_path / "cache"))
    return draw(tmp_path / "images", seed=0)


def draw(root: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    for split, count in (("train", 8), ("test", 2)):
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{number}.bmp")
    return root


def folder(make_small: MakeConfig, root: Path, *more: str) -> Config:
    return make_small("data=image_folder", "data.name=mine", f"data.root={root}", "budget.epochs=1", *more)


def trained(config: Config) -> Record:
    """Return the record that a training of now would leave, as far as images go."""
    splits = load_splits(config, torch.device("cpu"))
    record = study_record(config, images=splits.fingerprint, provenance={"data_stamp": splits.on_disk.stamp})
    return replace(record, metrics={}, outputs={})


def test_files_that_were_not_touched_are_the_same_without_a_look_into_them(
    root: Path, make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch
):
    config = folder(make_small, root)
    record = trained(config)
    monkeypatch.setattr(same_images, "current_fingerprint", None)
    assert other_images(config, record) == ""


def test_images_replaced_in_place_are_named_though_size_and_time_of_each_file_are_kept(
    root: Path, make_small: MakeConfig
):
    config = folder(make_small, root)
    record = trained(config)
    before = {path: path.stat() for path in root.rglob("*.bmp")}
    draw(root, seed=1)
    for path, status in before.items():
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert path.stat().st_size == status.st_size
    now = trained(config).data["images"]
    assert other_images(config, record) == (
        f"it was trained on other images, with fingerprint {record.data['images']},"
        f" than data.root={root} holds now, {now}"
    )


def test_a_copy_with_other_times_in_another_place_is_the_same(root: Path, make_small: MakeConfig, tmp_path: Path):
    record = trained(folder(make_small, root))
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
    assert other_images(folder(make_small, tmp_path / "copy"), record) == ""
    packed = shutil.make_archive(str(tmp_path / "packed"), "gztar", root)
    assert other_images(folder(make_small, Path(packed)), record) == ""


def test_an_archive_replaced_in_place_is_named(root: Path, make_small: MakeConfig, tmp_path: Path):
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), "tar", root))
    config = folder(make_small, packed)
    record = trained(config)
    shutil.make_archive(str(tmp_path / "packed"), "tar", draw(tmp_path / "other", seed=1))
    assert "was trained on other images" in str(other_images(config, record))


@pytest.mark.parametrize("change", ["one more", "one less", "renamed to another class"])
def test_another_number_or_other_labels_are_other_images(change: str, root: Path, make_small: MakeConfig):
    config = folder(make_small, root)
    record = trained(config)
    first = root / "train" / "cat" / "0.bmp"
    match change:
        case "one more":
            shutil.copy(first, first.with_name("9.bmp"))
        case "one less":
            first.unlink()
        case _:
            first.rename(root / "train" / "dog" / "9.bmp")
    assert "was trained on other images" in str(other_images(config, record))


def test_a_record_from_before_stamps_is_compared_by_its_fingerprint(root: Path, make_small: MakeConfig):
    config = folder(make_small, root)
    record = trained(config)
    old = replace(record, provenance=made(record.provenance, data_stamp=""))
    assert other_images(config, old) == ""
    draw(root, seed=1)
    assert "was trained on other images" in str(other_images(config, old))


def test_where_no_images_are_nothing_is_compared(root: Path, make_small: MakeConfig, tmp_path: Path):
    record = trained(folder(make_small, root))
    assert other_images(folder(make_small, tmp_path / "nowhere"), record) is None
    (root / "train" / "cat" / "0.bmp").write_bytes(b"broken")
    assert other_images(folder(make_small, root), record) is None


def test_replaced_images_are_named_before_anything_trains(
    root: Path, make_small: MakeConfig, make_plan: MakePlan, capfd: pytest.CaptureFixture[str]
):
    settings = ("data=image_folder", "data.name=mine", f"data.root={root}", "budget.epochs=1", "budget.batch_size=8")
    config = make_small(*settings)
    (root / "train" / "cat" / "notes.txt").write_text("mine")
    record = run_cell(config)
    assert record.provenance.details["data_found"] == "16 train and 4 test images of 2 classes"
    assert record.provenance.details["data_left_out"] == "files ending in .txt: 1 (train/cat/notes.txt)"
    capfd.readouterr()
    run_cell(config)
    assert "other images" not in capfd.readouterr().err

    plan = make_plan(*settings, "seed=0,1")
    assert plan.notes == []
    assert plan.images == [
        "images of mine: 16 train and 4 test images of 2 classes",
        "  left out: files ending in .txt: 1 (train/cat/notes.txt)",
    ]
    write_plan(plan)
    assert StoredPlan.read(plan.folder).images == plan.images

    draw(root, seed=1)
    run_cell(config)
    said = capfd.readouterr().err
    assert "done already, nothing to train\n  it was trained on other images, with fingerprint" in said
    assert "other images need another data.name" in said
    run_cell(make_small(*settings, "data.root=gone"))
    assert f"its images came from data.root={root}; other images need another data.name" in capfd.readouterr().err
    plan = make_plan(*settings, "seed=0,1")
    assert [planned.action for planned in plan.cells] == [Action.done, Action.train]
    assert plan.notes[0].startswith("1 done cell: it was trained on other images, with fingerprint")
    assert plan.notes[1] == f"  {record.cell}"
    again, _ = make_plan(*settings, "seed=0,1", retrain=Retrain.stale).cells
    assert (again.action, again.reason) == (Action.retrain, again.other_images)


@pytest.fixture
def imagenet(root: Path, make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Make the folder one of ImageNet's form, which is listed anew each time, as by another process."""
    (root / "test").rename(root / "val")
    monkeypatch.setattr(list_of_imagenet, "_list_root", list_of_imagenet._list_root.__wrapped__)
    return make_small("data=imagenet", f"data.root={root}", "data.image_size=32", "trainer.workers=0")


def test_imagenets_files_are_the_same_by_their_names_and_sizes(imagenet: Config, root: Path):
    record = trained(imagenet)
    some = root / "train" / "cat" / "0.bmp"
    os.utime(some, ns=(1, 1))
    assert trained(imagenet).provenance.details["data_stamp"] != record.provenance.details["data_stamp"]
    assert other_images(imagenet, record) == ""
    with some.open("ab") as file:
        file.write(b"\0")
    assert "was trained on other images" in str(other_images(imagenet, record))
    old = replace(record, provenance=made(record.provenance, data_stamp=""))
    assert other_images(imagenet, old) is None  # its fingerprint was of the names alone


def test_what_is_left_out_of_imagenet_is_counted_and_a_link_to_nothing_refused(imagenet: Config, root: Path):
    (root / "devkit").mkdir()
    (root / "train" / "cat" / "a.tar").write_bytes(b"x")
    splits = load_splits(imagenet, torch.device("cpu"))
    assert splits.on_disk.found == "16 train and 4 val images of 2 classes"
    assert splits.on_disk.left_out == (
        "files and folders beside train/ and val/: 1 (devkit)",
        "files ending in .tar: 1 (train/cat/a.tar)",
    )
    (root / "val" / "dog" / "9.JPEG").symlink_to("../gone")
    with pytest.raises(ConfigError, match=r"val/dog/9\.JPEG is a link to \.\./gone, which cannot be read"):
        trained(imagenet)
