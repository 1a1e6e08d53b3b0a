import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from allcnn.config import DataConfig, Source
from allcnn.data import image_folder
from allcnn.data.image_folder import list_images, read_image_folder
from strive.errors import ConfigError


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


class Tar:
    """A tar, made member by member."""

    def __init__(self, path, content):
        self.path, self._content = path, content
        with tarfile.open(path, "w"):
            pass

    def add(self, name, kind=tarfile.REGTYPE, target="", content=None):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        content = self._content if content is None else content
        info.size = len(content) if kind == tarfile.REGTYPE else 0
        with tarfile.open(self.path, "a") as tar:
            tar.addfile(info, io.BytesIO(content) if info.size else None)
        return self


@pytest.fixture
def tar(tmp_path, png, rng):
    """Hold one training and one test image of one class."""
    started = Tar(tmp_path / "a.tar", png(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)))
    return started.add("train/cat/0.png").add("test/cat/0.png")


def test_what_is_left_out_of_an_archive_is_counted_by_kind_with_an_example(tar):
    for name in (
        "../../train/cat/out.png",
        "train/cat/notes.txt",
        "train/cat/b.TXT",
        "train/cat/README",
        "train/.trash/0.png",
        "__MACOSX/train/cat/._0.png",
        "train/loose.png",
        "train/cat/more/0.png",
        "val/cat/0.png",
    ):
        tar.add(name)
    tar.add("train/cat/pipe.png", tarfile.FIFOTYPE).add("train/dog", tarfile.DIRTYPE)
    for _ in range(2):
        tar.add("test/cat", tarfile.DIRTYPE)
    listing = list_images(config(tar.path))
    assert listing.files == {"train": ("train/cat/0.png",), "test": ("test/cat/0.png",)}
    assert listing.on_disk.found == "1 train and 1 test images of 1 classes"
    assert listing.on_disk.left_out == (
        "class folders without an image: 1 (train/dog)",
        "files directly under train/, without a class: 1 (train/loose.png)",
        "files ending in .txt: 2 (such as train/cat/b.TXT)",
        "files in folders inside a class folder: 1 (train/cat/more/0.png)",
        "files outside train/CLASS/ and test/CLASS/: 1 (val/cat/0.png)",
        "files whose path leads upwards: 1 (../../train/cat/out.png)",
        "files without an ending: 1 (train/cat/README)",
        "hidden files: 2 (such as __MACOSX/train/cat/._0.png)",
        "neither files nor folders: 1 (train/cat/pipe.png)",
    )


def test_what_is_left_out_of_a_folder_is_counted_by_kind_with_an_example(image_root):
    cat, ant = image_root / "train" / "cat", image_root / "train" / "ant"
    for path in (cat / "Thumbs.db", cat / "a.jfif", ant / "b.JFIF", cat / ".DS_Store", image_root / "train" / "x.png"):
        path.write_bytes(b"x")
    for folder in (cat / "more", cat / "f.png", image_root / "train" / "dog", image_root / "val"):
        folder.mkdir()
    (image_root / "train" / ".trash").mkdir()
    os.mkfifo(cat / "pipe.png")
    (cat / "circle").symlink_to("..")
    (cat / "itself.txt").symlink_to("itself.txt")
    on_disk = list_images(config(image_root)).on_disk
    assert on_disk.found == "10 train and 6 test images of 2 classes"
    assert on_disk.left_out == (
        "class folders without an image: 1 (train/dog)",
        "files and folders beside train/ and test/: 1 (val)",
        "files directly under train/, without a class: 1 (train/x.png)",
        "files ending in .db: 1 (train/cat/Thumbs.db)",
        "files ending in .jfif: 2 (such as train/ant/b.JFIF)",
        "files ending in .txt: 1 (train/cat/itself.txt)",
        "folders inside a class folder: 3 (such as train/cat/circle)",
        "hidden files: 2 (such as train/.trash)",
        "neither files nor folders: 1 (train/cat/pipe.png)",
    )


def test_many_endings_are_counted_together(image_root):
    for number in range(20):
        (image_root / "train" / "cat" / f"a.{number:02}").write_bytes(b"x")
    lines = list_images(config(image_root)).on_disk.left_out
    assert len(lines) == 7
    assert "files with other endings: 14 (such as train/cat/a.06)" in lines


@pytest.mark.parametrize("kind", ["tar", "gztar", "xztar"])
def test_hard_links_in_a_tar_are_the_images_that_they_are_in_the_folder(image_root, tmp_path, kind):
    for name in ("ant", "cat"):
        os.link(image_root / "train" / name / "0001.png", image_root / "train" / name / "linked.png")
    archive = shutil.make_archive(str(tmp_path / "packed"), kind, image_root)
    with tarfile.open(archive) as tar:
        assert sum(member.islnk() for member in tar) == 2
    assert list_images(config(archive)).on_disk.found == "12 train and 6 test images of 2 classes"
    assert_same(read_image_folder(config(archive)), read_image_folder(config(image_root)))


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_symbolic_links_within_an_archive_are_followed(image_root, tmp_path, kind):
    (image_root / "train" / "cat" / "link.png").symlink_to("../ant/second.png")
    (image_root / "train" / "ant" / "second.png").symlink_to("0001.png")
    archive = tmp_path / f"a.{kind}"
    files = sorted(path for path in image_root.rglob("*") if not path.is_dir())
    if kind == "tar":
        with tarfile.open(archive, "w") as tar:
            for path in files:
                tar.add(path, str(path.relative_to(image_root)))
    else:
        with zipfile.ZipFile(archive, "w") as packed:
            for path in files:
                info = zipfile.ZipInfo(str(path.relative_to(image_root)))
                info.external_attr = path.lstat().st_mode << 16
                packed.writestr(info, os.readlink(path) if path.is_symlink() else path.read_bytes())
    assert_same(read_image_folder(config(archive)), read_image_folder(config(image_root)))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("name", ["train/cat/1.png", "train/dog", "images/train"])
def test_a_link_to_what_is_not_in_the_archive_is_refused(tar, name, kind, tmp_path):
    tar.add(name, kind, str(tmp_path))
    with pytest.raises(ConfigError, match=rf"{name} is a link to {tmp_path}, which is no file in the archive"):
        list_images(config(tar.path))


def test_links_in_a_circle_are_refused(tar):
    tar.add("train/cat/1.png", tarfile.SYMTYPE, "2.png").add("train/cat/2.png", tarfile.SYMTYPE, "1.png")
    with pytest.raises(ConfigError, match=r"train/cat/1\.png is a link to 2\.png"):
        list_images(config(tar.path))


def test_of_one_name_twice_the_last_counts_and_a_link_keeps_what_it_was_made_of(tar, png):
    first, last = (png(np.full((32, 32, 3), value, dtype=np.uint8)) for value in (10, 200))
    tar.add("train/cat/1.png", content=first).add("train/cat/2.png", tarfile.LNKTYPE, "train/cat/1.png")
    tar.add("./train/cat/1.png", content=last)
    raw = read_image_folder(config(tar.path))
    rows = {name: row for row, name in enumerate(list_images(config(tar.path)).files["train"])}
    assert raw.train.images[rows["./train/cat/1.png"], 0, 0, 0] == 200
    assert raw.train.images[rows["train/cat/2.png"], 0, 0, 0] == 10
    (line,) = list_images(config(tar.path)).on_disk.left_out
    assert line == "files whose name comes again further on, and the last one counts: 1 (train/cat/1.png)"


@pytest.mark.parametrize("name", ["train/cat/0003.png", "train/dog"])
def test_a_link_to_nothing_is_refused_with_its_name(image_root, name):
    place = image_root / name
    place.unlink(missing_ok=True)
    place.symlink_to("../gone")
    with pytest.raises(ConfigError, match=rf"{name} is a link to \.\./gone, which cannot be read: No such file"):
        list_images(config(image_root))


def test_a_split_that_is_a_link_to_nothing_is_refused(image_root):
    shutil.rmtree(image_root / "test")
    (image_root / "test").symlink_to("gone")
    with pytest.raises(ConfigError, match=r"test is a link to gone, where no folder is"):
        list_images(config(image_root))


def test_names_that_are_not_utf_8_are_read_and_shown_with_escapes(image_root, tmp_path):
    shutil.copy(image_root / "train" / "cat" / "0001.png", os.fsencode(image_root / "train" / "cat") + b"/\xff.png")
    os.mkdir(os.fsencode(image_root) + b"/\xfe")
    listing = list_images(config(image_root))
    assert listing.files["train"][-1] == "train/cat/\udcff.png"
    assert listing.on_disk.left_out == ("files and folders beside train/ and test/: 1 (\\xfe)",)
    archive = shutil.make_archive(str(tmp_path / "packed"), "tar", image_root)
    for _ in range(2):
        assert_same(read_image_folder(config(archive)), read_image_folder(config(image_root)))
    os.truncate(os.fsencode(image_root / "train" / "cat") + b"/\xff.png", 20)
    with pytest.raises(ConfigError, match=r"train/cat/\\xff\.png in .* is not a readable image"):
        read_image_folder(config(image_root))


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


def test_a_class_whose_files_have_another_ending_is_said_to_be_left_out(image_root):
    for file in (image_root / "test" / "ant").iterdir():
        file.rename(file.with_suffix(".jfif"))
    with pytest.raises(
        ConfigError, match=r"only one has ant\. What is left out: .*files ending in \.jfif: 3 \(such as"
    ):
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


def test_an_archive_that_cannot_be_read_from_its_beginning_says_why(tmp_path, image_root):
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", image_root)).read_bytes()
    gzipped = Path(shutil.make_archive(str(tmp_path / "packed"), "gztar", image_root)).read_bytes()
    cases = {
        "a.zip": (b"", "is empty, 0 bytes"),
        "b.zip": (packed[:-30], "begins as a zip does, but has not its end"),
        "c.tar.gz": (b"<!DOCTYPE html>", "begins with b'<!DOCTYPE html>'"),
        "d.tar.gz": (gzipped[:200], "is compressed, but is no .tar or is damaged"),
    }
    for name, (content, said) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=f"{name} .*{said}"):
            list_images(config(tmp_path / name))


@pytest.mark.parametrize("kind", ["tar", "gztar", "xztar"])
def test_a_truncated_archive_is_refused(image_root, tmp_path, kind):
    archive = shutil.make_archive(str(tmp_path / "packed"), kind, image_root)
    os.truncate(archive, os.path.getsize(archive) // 2)
    with pytest.raises(ConfigError, match="is not a readable archive"):
        list_images(config(archive))


def test_a_tar_that_ends_with_a_member_is_refused(tar):
    whole = tar.path.read_bytes()
    with tarfile.open(tar.path) as opened:
        *_, last = opened.getmembers()
        end = last.offset_data + (last.size + 511) // 512 * 512
    for length in (last.offset, last.offset + 100, last.offset_data + 10, end):
        tar.path.write_bytes(whole[:length])
        with pytest.raises(ConfigError, match="is not a readable archive: "):
            list_images(config(tar.path))
    tar.path.write_bytes(whole[: end + 512])  # a single block of zeros is an end mark, too
    assert list_images(config(tar.path)).on_disk.found == "1 train and 1 test images of 1 classes"


def test_a_tar_with_a_damaged_header_is_refused(tar):
    with tarfile.open(tar.path) as opened:
        second = opened.getmembers()[1].offset
    content = bytearray(tar.path.read_bytes())
    content[second + 5] ^= 1
    tar.path.write_bytes(content)
    with pytest.raises(ConfigError, match="is not a readable archive: it is damaged: bad checksum"):
        list_images(config(tar.path))


def test_two_tars_one_behind_the_other_are_refused(tar):
    tar.path.write_bytes(2 * tar.path.read_bytes())
    with pytest.raises(ConfigError, match="it goes on behind its end mark"):
        list_images(config(tar.path))


def test_a_gzipped_tar_with_a_wrong_checksum_is_refused(image_root, tmp_path):
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), "gztar", image_root))
    content = bytearray(archive.read_bytes())
    content[-8] ^= 1  # of the CRC that the format ends with
    archive.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read: CRC check failed"):
        list_images(config(archive))


def test_a_tar_whose_last_member_is_a_zip_is_a_tar(tar, tmp_path):
    with zipfile.ZipFile(tmp_path / "inner.zip", "w") as inner:
        inner.writestr("train/dog/0.png", b"x")
    tar.add("inner.zip", content=(tmp_path / "inner.zip").read_bytes())
    assert zipfile.is_zipfile(tar.path)
    assert list_images(config(tar.path)).files["train"] == ("train/cat/0.png",)


def test_an_archive_may_have_the_other_kinds_ending(image_root, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "packed"), "gztar", image_root)
    os.rename(archive, tmp_path / "packed.zip")
    assert_same(read_image_folder(config(tmp_path / "packed.zip")), read_image_folder(config(image_root)))
    shutil.move(image_root, tmp_path / "folder.zip")
    assert list_images(config(tmp_path / "folder.zip")).on_disk.found == "10 train and 6 test images of 2 classes"


def zipped(path, image_root, **options):
    """Pack the images; `rename` gives each one's name, from SPLIT/CLASS/FILE."""
    rename = options.pop("rename", str)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(image_root.rglob("*.png")):
            with archive.open(rename(str(file.relative_to(image_root))), "w", **options) as member:
                member.write(file.read_bytes())
    return path


@pytest.mark.parametrize(
    "rename",
    [lambda name: name.replace("/", "\\"), lambda name: "images\\" + name.replace("/", "\\"), lambda name: f"/{name}"],
    ids=["backslashes", "backslashes and a top folder", "absolute"],
)
def test_a_zip_with_names_against_the_rules_is_read(image_root, tmp_path, rename):
    archive = zipped(tmp_path / "a.zip", image_root, rename=rename)
    assert_same(read_image_folder(config(archive)), read_image_folder(config(image_root)))


def test_a_zip_in_zip64_format_is_read(image_root, tmp_path):
    archive = zipped(tmp_path / "a.zip", image_root, force_zip64=True)
    assert_same(read_image_folder(config(archive)), read_image_folder(config(image_root)))


def test_a_zip_in_a_zip_is_named_where_there_are_no_images(image_root, tmp_path):
    inner = zipped(tmp_path / "inner.zip", image_root)
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as outer:
        outer.write(inner, "inner.zip")
    with pytest.raises(ConfigError, match=r"no images under train/.*What is left out: .*: 1 \(inner\.zip\)"):
        list_images(config(tmp_path / "outer.zip"))


def test_a_zip_that_cannot_be_unpacked_is_refused_when_it_is_listed(image_root, tmp_path):
    whole = zipped(tmp_path / "whole.zip", image_root).read_bytes()
    start = whole.index(b"PK\1\2")  # the first entry of the directory
    cases = {
        "encrypted": ([(6, 1), (start + 8, 1)], "it is encrypted; pack it without a password"),
        "deflate64": ([(8, 9), (start + 10, 9)], r"packed by method 9 \(deflate64\); pack it with deflate"),
        "damaged": ([(start - 2, whole[start - 2] ^ 1)], "Bad CRC-32"),
    }
    for case, (changes, said) in cases.items():
        content = bytearray(whole)
        for place, value in changes:
            content[place] = value
        (tmp_path / f"{case}.zip").write_bytes(content)
        with pytest.raises(ConfigError, match=rf"{case}\.zip: .* cannot be read: .*{said}"):
            list_images(config(tmp_path / f"{case}.zip"))


def test_an_archive_that_may_not_be_read_is_refused(image_root, tmp_path, monkeypatch):
    archive = shutil.make_archive(str(tmp_path / "packed"), "tar", image_root)

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tarfile, "is_tarfile", refused)  # who runs the tests may be root, who may read all
    with pytest.raises(ConfigError, match=r"packed\.tar cannot be read: Permission denied"):
        list_images(config(archive))


def test_files_that_change_while_they_are_read_are_refused(image_root, monkeypatch, cache):
    genuine = image_folder._decode

    def slow(*arguments):
        arrays = genuine(*arguments)
        os.utime(image_root / "train" / "cat" / "0002.png", ns=(1, 1))
        return arrays

    monkeypatch.setattr(image_folder, "_decode", slow)
    with pytest.raises(ConfigError, match="changed while they were read; start again"):
        read_image_folder(config(image_root))
    assert not list(cache.glob("images/*/*.npy"))


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
