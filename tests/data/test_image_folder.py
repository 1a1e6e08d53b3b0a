import io
import os
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from strive.config import ConfigError, DataConfig, Source
from strive.data import image_folder
from strive.data.image_folder import list_images, read_image_folder


def config(root, image_size=32):
    return DataConfig(source=Source.image_folder, name="mine", root=str(root), image_size=image_size)


def assert_same(raw, other):
    assert raw.class_names == other.class_names
    for split in ("train", "test"):
        np.testing.assert_array_equal(getattr(raw, split).images, getattr(other, split).images)
        np.testing.assert_array_equal(getattr(raw, split).labels, getattr(other, split).labels)


def test_classes_and_files_are_sorted_by_name(image_root):
    raw = read_image_folder(config(image_root))
    assert raw.class_names == ("ant", "cat")
    assert raw.train.labels.tolist() == [0] * 5 + [1] * 5
    assert raw.test.labels.tolist() == [0] * 3 + [1] * 3
    with Image.open(image_root / "train" / "cat" / "0002.png") as image:
        np.testing.assert_array_equal(raw.train.images[7], np.asarray(image))


@pytest.mark.parametrize("below_a_top_folder", [False, True])
@pytest.mark.parametrize("kind", ["tar", "gztar", "xztar", "zip"])
def test_an_archive_gives_the_arrays_of_the_folder(image_root, tmp_path, kind, below_a_top_folder):
    where = {"root_dir": tmp_path, "base_dir": "images"} if below_a_top_folder else {"root_dir": image_root}
    archive = shutil.make_archive(str(tmp_path / "packed"), kind, **where)
    assert_same(read_image_folder(config(archive)), read_image_folder(config(image_root)))


def test_nothing_is_unpacked(image_root, tmp_path, cache):
    archive = shutil.make_archive(str(tmp_path / "packed"), "xztar", image_root)
    shutil.rmtree(image_root)
    read_image_folder(config(archive))
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".png"]


def test_links_and_odd_members_of_a_tar_are_left_alone(tmp_path, png, rng):
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)))
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as tar:
        for name in (
            "train/cat/0.png",
            "test/cat/0.png",
            "../../train/cat/out.png/x",
            "train/cat/notes.txt",
            "train/.trash/0.png",
        ):
            info = tarfile.TarInfo(name)
            info.size = secret.stat().st_size
            tar.addfile(info, io.BytesIO(secret.read_bytes()))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            info = tarfile.TarInfo(f"train/cat/link{kind.decode()}.png")
            info.type, info.linkname = kind, str(secret)
            tar.addfile(info)
    assert list_images(config(archive)).files == {"train": ("train/cat/0.png",), "test": ("test/cat/0.png",)}


def test_the_second_reading_decodes_nothing(image_root, monkeypatch):
    first = read_image_folder(config(image_root))
    monkeypatch.setattr(image_folder, "decode_square", None)
    assert_same(read_image_folder(config(image_root)), first)


def test_a_changed_file_is_read_again(image_root, rng, png):
    before = read_image_folder(config(image_root)).train.images[0].copy()
    file = image_root / "train" / "ant" / "0000.png"
    file.write_bytes(png(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)))
    os.utime(file, ns=(1, 1))
    assert (read_image_folder(config(image_root)).train.images[0] != before).any()


def test_images_take_the_asked_size(image_root):
    assert read_image_folder(config(image_root, image_size=16)).train.images.shape == (10, 16, 16, 3)
    assert read_image_folder(config(image_root)).train.images.shape == (10, 32, 32, 3)


def test_an_unreadable_image_is_named_and_nothing_is_cached(image_root, cache):
    (image_root / "train" / "cat" / "0003.png").write_bytes(b"oops")
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"train/cat/0003\.png in .* is not a readable image"):
            read_image_folder(config(image_root))
    assert not list(cache.glob("images/*/*.npy"))


def test_classes_of_train_and_test_must_agree(image_root):
    shutil.rmtree(image_root / "test" / "ant")
    with pytest.raises(ConfigError, match="must have the same classes; only one has ant"):
        list_images(config(image_root))


def test_an_empty_split_is_an_error(image_root):
    shutil.rmtree(image_root / "test")
    with pytest.raises(ConfigError, match="has no images under test/"):
        list_images(config(image_root))


def test_a_missing_root_names_the_folder_and_the_ways_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        list_images(config("nowhere"))
    assert f"does not exist ({tmp_path / 'nowhere'})" in str(caught.value)
    assert "data=image_folder data.root=DIR data.name=NAME" in str(caught.value)
    assert "data.download=true" in str(caught.value)


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(ConfigError, match="neither a folder nor"):
        list_images(config(tmp_path / "a.txt"))


def test_a_truncated_archive_is_refused(image_root, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "packed"), "xztar", image_root)
    with open(archive, "rb+") as file:
        file.truncate(os.path.getsize(archive) // 2)
    with pytest.raises(ConfigError, match="is not a readable archive"):
        read_image_folder(config(archive))


def test_the_real_images_read_as_pil_reads_them(real_archive, tmp_path):
    """The archive's first few hundred train and test images, re-packed."""
    small, kept = tmp_path / "small.tar", {}
    with tarfile.open(real_archive) as tar, tarfile.open(small, "w") as out:
        for member in tar:
            split = member.name.split("/")[0]
            if not member.isfile() or not member.name.endswith(("00.jpg", "50.jpg")):
                continue
            kept[member.name] = tar.extractfile(member).read()
            out.addfile(member, io.BytesIO(kept[member.name]))
            assert split in ("train", "test")
    raw = read_image_folder(config(small))
    assert len(raw.train.labels) == 1000
    assert len(raw.test.labels) == 200
    assert raw.class_names[:3] == ("airplane", "automobile", "bird")
    assert len(raw.class_names) == 10
    with Image.open(io.BytesIO(kept["train/frog/0150.jpg"])) as image:
        expected = np.asarray(image.convert("RGB"))
    row = sorted(name for name in kept if name.startswith("train")).index("train/frog/0150.jpg")
    np.testing.assert_array_equal(raw.train.images[row], expected)
    assert raw.class_names[raw.train.labels[row]] == "frog"
