"""Trackers that write files: what stands in them is what lies on disk."""

import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest
from foreign import Foreign

from strive.cells.history import HISTORY, step_line
from strive.cells.records import Status
from strive.config.platform_keys import Tracker
from strive.trackers.cell_files import step_name
from strive.trackers.session import Session

LOSSES = {2: [3.0, 2.0, 1.5], 4: [2.5, 1.0]}


@pytest.fixture
def sweep(tmp_path: Path) -> Foreign:
    """Two cells with histories, of which one is done."""
    sweep = Foreign(tmp_path / "runs", start={"file": "train.py", "module": "", "argv": []})
    for heads, losses in LOSSES.items():
        done = {"val_loss": losses[-1]} if heads == 2 else None
        folder = sweep.cell({"heads": heads}, done, history=[{"loss": loss} for loss in losses])
        config = json.loads(json.dumps({"heads": heads, "optimizer": {"name": "adamw"}}))
        (folder / "config.yaml").write_text(json.dumps(config))
    sweep.write()
    return sweep


def cells(sweep: Foreign) -> list[str]:
    return sorted(path.parent.name for path in sweep.runs.glob(f"*/{HISTORY}"))


def folder(sweep: Foreign) -> Path:
    return sweep.runs / "sweeps" / sweep.name


def session(sweep: Foreign, kind: Tracker, said: list[str]):
    return Session(kind, sweep.runs, folder(sweep), log=folder(sweep) / "log", say=said.append)


def test_a_csv_file_has_a_row_for_each_step_and_a_result_once(sweep: Foreign):
    said: list[str] = []
    with session(sweep, Tracker.csv, said) as shown:
        shown.show(cells(sweep))
    table = pd.read_csv(folder(sweep) / "history.csv")
    assert said == []
    for heads, losses in LOSSES.items():
        own = table[table["heads"] == heads]
        assert list(own[step_name()]) == [10 * number for number in range(1, len(losses) + 1)]
        assert list(own["loss"]) == losses
    assert list(table["result.val_loss"].dropna()) == [1.5]
    assert set(table[table["heads"] == 2]["status"]) == {"done"}


def events(place: Path) -> dict[str, list[tuple[int, float]]]:
    """Return {tag: [(step, value)]} as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(place))
    read.Reload()
    return {tag: [(each.step, each.value) for each in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_tensorboard_reads_each_step_once_and_the_result_whatever_was_written_before(sweep: Foreign):
    said: list[str] = []
    done, open_ = sorted(cells(sweep), key=lambda cell: not (sweep.runs / cell / "record.json").exists())
    for _ in range(2):  # a second launch begins the files again
        with session(sweep, Tracker.tensorboard, said) as shown:
            shown.show([done, open_])
    place = folder(sweep) / "tensorboard"
    assert events(place / done) == {"loss": [(10, 3.0), (20, 2.0), (30, 1.5)], "result/val_loss": [(30, 1.5)]}
    assert events(place / open_) == {"loss": [(10, 2.5), (20, 1.0)]}
    assert said == []


def test_tensorboard_has_the_new_numbers_of_a_history_that_was_cut_by_a_resume(sweep: Foreign):
    from strive.trackers.cell_files import read_cell_files
    from strive.trackers.tensorboard_files import TensorBoardFiles

    (open_,) = (cell for cell in cells(sweep) if not (sweep.runs / cell / "record.json").exists())
    tracker = TensorBoardFiles(folder(sweep))

    def show(losses: list[float]) -> None:
        lines = [step_line(10 * number, {"loss": loss}) for number, loss in enumerate(losses, 1)]
        (sweep.runs / open_ / HISTORY).write_text("".join(lines))
        files = read_cell_files(sweep.runs / open_)
        assert files is not None
        tracker.show(files, last=False)

    show([2.5, 1.0])
    show([2.5, 0.75, 0.5])
    tracker.close()
    assert events(folder(sweep) / "tensorboard" / open_) == {"loss": [(10, 2.5), (20, 0.75), (30, 0.5)]}


@pytest.mark.parametrize("kind", [Tracker.csv, Tracker.tensorboard])
def test_files_that_cannot_be_written_are_one_line(sweep: Foreign, kind: Tracker):
    for name in ("history.csv", "tensorboard"):
        path = folder(sweep) / name
        path.mkdir() if name == "history.csv" else path.write_text("a file")
    said: list[str] = []
    with session(sweep, kind, said) as shown:
        shown.show(cells(sweep))
    (line,) = said
    assert line.startswith(f"tracker={kind.value}: ")


def test_a_process_that_is_killed_is_started_again_and_shows_everything(sweep: Foreign):
    said: list[str] = []
    first, second = cells(sweep)
    before = children()
    with session(sweep, Tracker.csv, said) as shown:
        shown.show([first])
        (process,) = children() - before
        os.kill(process, signal.SIGKILL)
        os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
        shown.show([second])
    assert ["restarting" in line for line in said] == [True]
    assert set(pd.read_csv(folder(sweep) / "history.csv")["cell"]) == {first, second}


def children() -> set[int]:
    return {int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


def test_a_failed_cell_has_its_status_and_no_result(sweep: Foreign):
    sweep.cell({"heads": 8}, status=Status.error)
    sweep.write()
    with session(sweep, Tracker.csv, []) as shown:
        shown.show([path.name for path in sweep.runs.glob("char_lm-*")])
    table = pd.read_csv(folder(sweep) / "history.csv")
    (row,) = table[table["heads"] == 8].to_dict("records")
    assert row["status"] == "error"
    assert pd.isna(row["result.val_loss"])
