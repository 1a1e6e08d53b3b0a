"""A disk that takes some files and not others: what it costs a cell, and what comes once there is room."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import MakeConfig

from allcnn import training_pack
from allcnn.config import Config
from allcnn.training import read_checkpoint
from allcnn.training_pack import run_cell
from strive import signals
from strive.cells import records, run_files
from strive.cells.checkpoints import generations
from strive.cells.records import Status
from strive.config import identity
from strive.errors import StoppedError

Refuse = Callable[[Callable[[Path], bool]], None]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Let the disk have no room for the files of which the function given says so."""
    write_whole, refused = records.write_whole, [lambda path: False]

    def write(path: Path, *arguments: Any, **options: Any) -> None:
        if refused[0](path):
            raise OSError(errno.ENOSPC, "No space left on device")
        write_whole(path, *arguments, **options)

    monkeypatch.setattr(records, "write_whole", write)
    monkeypatch.setattr(run_files, "_PAUSES_SECONDS", (0.0, 0.0))
    return lambda function: refused.__setitem__(0, function)


def folder(config: Config) -> Path:
    return Path(config.runs) / identity.cell_id(config)


def test_while_a_disk_is_full_what_lies_beside_the_record_costs_the_cell_nothing_and_is_there_in_the_end(
    make_small: MakeConfig, refuse: Refuse, capfd: pytest.CaptureFixture[str]
):
    config = make_small("tracker.images=4")
    # There is room as soon as the weights are written.
    refuse(lambda path: path.suffix in (".png", ".yaml", ".jsonl") and not (folder(config) / "weights.pt").exists())
    assert run_cell(config).status is Status.done
    said = capfd.readouterr().err
    for name in ("config.yaml", "history.jsonl", "inputs.png", "mistakes.png"):
        assert said.count(f"{name} could not be made ([Errno 28] No space left on device); the cell goes on") == 1
    assert len((folder(config) / "history.jsonl").read_text().splitlines()) == config.budget.epochs
    assert (folder(config) / "config.yaml").read_text() == identity.to_yaml(config)


@pytest.mark.parametrize("place", ["/dev/full", "/proc/none"])
def test_a_log_that_cannot_be_written_costs_the_cell_nothing(
    place: str, make_small: MakeConfig, capfd: pytest.CaptureFixture[str]
):
    config = make_small()
    folder(config).mkdir(parents=True)
    (folder(config) / "log.txt").symlink_to(place)
    assert run_cell(config).status is Status.done
    assert capfd.readouterr().err.count("log.txt could not be written") == 1


def test_a_result_for_which_there_is_no_room_is_kept_and_the_same_command_only_writes_it(
    make_small: MakeConfig, refuse: Refuse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = make_small()
    refuse(lambda path: path.name in ("weights.pt", "predictions.npz"))
    failed = run_cell(config)
    assert failed.failure is not None
    assert "No space left on device" in failed.failure.cause
    state = read_checkpoint(folder(config) / "checkpoint.pt")
    assert state is not None
    assert len(state["history"]) == config.budget.epochs
    refuse(lambda path: False)
    with monkeypatch.context() as patched:
        patched.setattr(training_pack, "train_epoch", pytest.fail)  # nothing is trained again
        finished = run_cell(config)
    whole = run_cell(make_small(f"runs={tmp_path / 'whole'}"))
    assert finished.result == whole.result
    assert finished.provenance.resumes == 1
    assert not (folder(config) / "checkpoint.pt").exists()


def test_the_checkpoint_before_the_last_makes_room_for_the_result(make_small: MakeConfig, refuse: Refuse):
    config = make_small("trainer.checkpoint_minutes=0")
    _, before = generations(folder(config) / "checkpoint.pt")
    refuse(lambda path: path.name == "predictions.npz" and before.exists())
    assert run_cell(config).status is Status.done


def test_a_record_is_tried_again_for_a_moment_and_keeps_one_earlier_one(make_small: MakeConfig, refuse: Refuse):
    config = make_small()
    refuse(lambda path: path.name == "weights.pt")
    assert run_cell(config).status is Status.error
    tries: list[Path] = []
    refuse(lambda path: path.name == "record.json" and len(tries) < 2 and not tries.append(path))
    assert run_cell(config).status is Status.done
    assert len(tries) == 2
    assert [path.name for path in folder(config).glob("record-*.json")] == ["record-1.json"]


def test_a_retraining_whose_record_finds_no_room_leaves_every_file_of_the_result(
    make_small: MakeConfig, refuse: Refuse
):
    config = make_small()
    run_cell(config)
    path = folder(config) / "record.json"
    (folder(config) / "weights.pt").write_bytes(b"of the result")
    refuse(lambda path: path.name == "record.json")
    assert run_cell(config, replaces=records.file_hash(path)).status is Status.error
    assert (folder(config) / "weights.pt").read_bytes() == b"of the result"
    refuse(lambda path: False)
    again = run_cell(config, replaces=records.file_hash(path))
    assert again.status is Status.done
    assert (folder(config) / "weights.pt").read_bytes() != b"of the result"


def test_who_stops_without_room_for_a_checkpoint_is_told_what_is_kept(make_small: MakeConfig, refuse: Refuse):
    config = make_small()
    refuse(lambda path: path.name == "checkpoint.pt")
    signals.request("SIGTERM")
    try:
        with pytest.raises(StoppedError, match=r"after step 1, but kept is nothing \(.*No space left on device\)"):
            run_cell(config)
    finally:
        signals.forget()
