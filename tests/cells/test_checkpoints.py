"""Two generations of a file or a folder, written through the lease."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from strive.cells.checkpoints import Checkpoints, generations, newest_time
from strive.cells.lease import Claim, take_claim


def as_file(path: Path, text: str) -> None:
    path.write_text(text)


def as_folder(path: Path, text: str) -> None:
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "state").write_text(text)


def read(path: Path) -> str:
    return (path / "deep" / "state" if path.is_dir() else path).read_text()


Write = Callable[[Path, str], None]
each_kind = pytest.mark.parametrize("write", [as_file, as_folder])


@pytest.fixture
def claim(tmp_path: Path) -> Claim:
    return take_claim(tmp_path, 60)


@pytest.fixture
def checkpoints(tmp_path: Path, claim: Claim) -> Checkpoints:
    return Checkpoints(tmp_path / "last.pt", 0, claim, lambda path: "", print)


@each_kind
@pytest.mark.parametrize("links", [True, False])
def test_the_checkpoint_before_the_last_is_kept_also_without_hard_links(
    checkpoints: Checkpoints, claim: Claim, monkeypatch: pytest.MonkeyPatch, write: Write, links: bool
):
    if not links:

        def refuse(source: Path, target: Path) -> None:
            raise OSError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    before = {path.name for path in claim.scratch.iterdir()}
    for text in ("one", "two", "three"):
        checkpoints.write(lambda path, text=text: write(path, text))
    assert list(map(read, generations(checkpoints.path))) == ["three", "two"]
    assert {path.name for path in claim.scratch.iterdir()} == before


@each_kind
def test_a_write_that_fails_leaves_both(checkpoints: Checkpoints, claim: Claim, write: Write):
    def full(path: Path) -> None:
        write(path, "three")
        raise OSError(28, "No space left on device")

    for text in ("one", "two"):
        checkpoints.write(lambda path, text=text: write(path, text))
    with pytest.raises(OSError, match="No space left"):
        checkpoints.write(full)
    assert list(map(read, generations(checkpoints.path))) == ["two", "one"]
    assert not list(claim.scratch.glob("last*"))


@each_kind
def test_who_has_lost_the_cell_cannot_write(checkpoints: Checkpoints, claim: Claim, write: Write):
    checkpoints.write(lambda path: write(path, "one"))

    def lose(path: Path) -> None:
        write(path, "two")
        claim.scratch.rename(claim.scratch.with_name("fenced"))

    with pytest.raises(FileNotFoundError):
        checkpoints.write(lose)
    last, previous = generations(checkpoints.path)
    assert read(last) == "one"
    assert not previous.exists()


def test_a_file_may_follow_a_folder(checkpoints: Checkpoints):
    for write, text in ((as_folder, "one"), (as_file, "two"), (as_folder, "three")):
        checkpoints.write(lambda path, write=write, text=text: write(path, text))
    assert list(map(read, generations(checkpoints.path))) == ["three", "two"]


def test_what_cannot_be_used_is_put_aside_under_names_of_its_own(
    tmp_path: Path, claim: Claim, capsys: pytest.CaptureFixture[str]
):
    checkpoints = Checkpoints(tmp_path / "last.pt", 0, claim, lambda path: f"{read(path)} is no good", print)
    for _ in range(2):
        for text in ("one", "two"):
            checkpoints.write(lambda path, text=text: as_file(path, text))
        assert checkpoints.newest() is None
    assert sorted(map(read, tmp_path.glob("last*-unused-*"))) == ["one", "one", "two", "two"]
    assert not any(path.exists() for path in generations(checkpoints.path))
    assert "cannot go on from last.pt, kept as last-unused-" in capsys.readouterr().out


def test_a_cell_can_go_on_from_what_strive_saved_or_the_app_but_not_from_a_log(tmp_path: Path):
    def write(name: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    for name in ("log.txt", "log-rank-1.txt", "train.log", "history.jsonl", ".hydra/config.yaml", "claim/a/owner.json"):
        write(name)
        assert newest_time(tmp_path) == 0, name
    for seconds, name in enumerate(
        ("checkpoint.pt", "strive-checkpoint/about.json", "out/last.ckpt", "retraining/x.pt")
    ):
        before = newest_time(tmp_path)
        write(name)
        os.utime(tmp_path / name, (4e9 + seconds, 4e9 + seconds))  # later than what was written now
        assert newest_time(tmp_path) > before, name
