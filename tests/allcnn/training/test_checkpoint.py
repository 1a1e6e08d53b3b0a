import pickle
from pathlib import Path

import pytest
import torch

from allcnn.training import read_checkpoint, write_state


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path):
    state = {"step": 3, "weights": {"a": torch.arange(4.0)}, "history": [[1, 0.5, None]]}
    write_state(tmp_path / "checkpoint.pt", state)
    back = read_checkpoint(tmp_path / "checkpoint.pt")
    assert back is not None
    assert back["weights"]["a"].equal(state["weights"]["a"])  # type: ignore[index]
    assert (back["step"], back["history"]) == (3, [[1, 0.5, None]])
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_no_checkpoint_is_none(tmp_path: Path):
    assert read_checkpoint(tmp_path / "checkpoint.pt") is None


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_truncated_checkpoint_is_named_as_damaged(tmp_path: Path, share: float):
    path = tmp_path / "checkpoint.pt"
    write_state(path, {"weights": torch.arange(10_000.0)})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged"):
        read_checkpoint(path)


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("went-off"),))


def test_a_checkpoint_never_runs_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name, save in {
        "pickle": lambda file: pickle.dump(Bomb(), file),
        "torch": lambda f: torch.save(Bomb(), f),
    }.items():
        path = tmp_path / name
        with path.open("wb") as file:
            save(file)
        with pytest.raises(ValueError, match="is damaged"):
            read_checkpoint(path)
    assert not Path("went-off").exists()


def test_a_write_that_fails_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, scratch = tmp_path / "checkpoint.pt", tmp_path / "scratch"
    scratch.mkdir()
    write_state(path, {"step": 1}, scratch=scratch)

    def full(state: object, file: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        write_state(path, {"step": 2}, scratch=scratch)
    assert read_checkpoint(path) == {"step": 1}
    assert not list(scratch.iterdir())


def test_who_has_lost_the_scratch_folder_cannot_write(tmp_path: Path):
    path, scratch = tmp_path / "checkpoint.pt", tmp_path / "scratch"
    scratch.mkdir()
    write_state(path, {"step": 1}, scratch=scratch)
    scratch.rename(tmp_path / "fenced")
    with pytest.raises(FileNotFoundError):
        write_state(path, {"step": 2}, scratch=scratch)
    assert read_checkpoint(path) == {"step": 1}
