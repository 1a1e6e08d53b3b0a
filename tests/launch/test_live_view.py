import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from support import MakeConfig, write_result

from allcnn import progress
from allcnn.training_pack import run_cell
from strive.cells import lease
from strive.cells.lease import take_claim
from strive.cells.records import Status
from strive.cells.task import CellOutcome
from strive.config import identity
from strive.format import duration, short_names, shortened
from strive.launch import live_view as module
from strive.launch.live_view import LiveView


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def console(width: int = 80, *, terminal: bool = True, height: int = 30) -> Console:
    return Console(
        file=io.StringIO(), width=width, height=height, force_terminal=terminal, highlight=False, markup=False,
        color_system=None,
    )  # fmt: skip


def shown(view: LiveView) -> list[str]:
    """Return the lines of the table as it stands."""
    plain = console(view._console.width)
    plain.print(view.frame())
    file = plain.file
    assert isinstance(file, io.StringIO)
    return file.getvalue().splitlines()


def written(view: LiveView) -> list[str]:
    file = view._console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue().splitlines()


def cells(root: Path, count: int, net: str = "strided_cnn_c") -> dict[str, Path]:
    numbers = itertools.product(("none", "flip_shift"), range(count // 2))
    names = [f"{net}-cifar10-{augment}-lr0.05-s{seed}-{seed:05d}{len(augment):05d}" for augment, seed in numbers]
    return {name: root / name for name in names}


def beat(folder: Path, step: int, *, host: str = "node1", job: str = "") -> None:
    """Let the owner of a cell say how far it is, of 1000 steps in 10 epochs."""
    claim = folder / "claim" / "token"
    claim.mkdir(parents=True, exist_ok=True)
    owner = {
        "token": "token", "host": host, "boot": "", "pid": 1, "pid_started": "", "job": job, "restart": 0,
        "lease_seconds": 60.0, "since": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    note = {"step": step, "steps": 1000, "epoch": step // 100 + 1, "epochs": 10, "images_per_second": 12345.6}
    (claim / "owner.json").write_text(json.dumps(owner))
    (claim / "beat.json").write_text(json.dumps({"beat": step, "note": note}))


def epoch(folder: Path, loss: float | None, val_error: float | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {"epoch": 1, "lr": 0.1, "train_loss": loss, "train_error": 0.5, "val_loss": None, "val_error": val_error}
    line = json.dumps(numbers)
    (folder / "history.jsonl").write_text(f"{line}\n{line}\n")


@pytest.mark.parametrize("width", [60, 80, 160])
def test_a_cell_in_training_is_one_line_that_fits(tmp_path: Path, clock: Clock, width: int):
    folders = cells(tmp_path, 6)
    view = LiveView(folders, 6, 0, "table3", console=console(width))
    for number, folder in enumerate(folders.values()):
        beat(folder, 300 + number)
        epoch(folder, 1.23456, 0.2345)
    clock.now += 10
    view.refresh({cell: number for number, cell in enumerate(folders)}, 0)
    lines = shown(view)
    assert max(map(len, lines)) <= width
    rows = [line for line in lines if "12,346" in line]
    assert len(rows) == 6
    for cell, row, number in zip(folders, rows, range(6), strict=True):
        assert cell[-10:] in row
        assert row.split()[1:] == ["4/10", "1.235", "23.45%", "12,346", str(number)]
    assert lines[0].split() == ["table3", "strided_cnn_c", "cifar10", "lr0.05"]


def test_minutes_left_come_from_what_was_seen_here(tmp_path: Path, clock: Clock):
    folders = cells(tmp_path, 2)
    view = LiveView(folders, 10, 4, "table3", console=console())
    first, second = folders
    # A resumed cell: its first 500 steps say nothing on how fast it is.
    beat(folders[first], 500)
    view.refresh([first], 5)
    clock.now += 10
    view.refresh([first], 5)
    clock.now += 600
    beat(folders[first], 600)
    view.refresh([first], 5)
    (row,) = [line for line in shown(view) if "7/10" in line]
    assert "40 min" in row
    view.ended(CellOutcome(cell=second, status=Status.done))
    # 1.1 cells in the 600 s since the first of them was seen to train, and 5.4 are left.
    counts = shown(view)[1]
    assert counts == f"5 of 10 done, 1 running, 5 waiting; 10 min so far, about {duration(5.4 * 600 / 1.1)} left"


def test_time_left_weighs_cells_by_their_work(tmp_path: Path, clock: Clock):
    folders = cells(tmp_path, 4)
    first, *others = folders
    view = LiveView(folders, 4, 0, "table3", console=console(), work={first: 1e9} | dict.fromkeys(others, 9e9))
    clock.now += 1
    beat(folders[first], 0)
    view.refresh([first], 3)
    clock.now += 100
    view.ended(CellOutcome(cell=first, status=Status.done))
    # One part of 28 took 100 s; the first cell is no measure of the number of cells.
    assert f"about {duration(27 * 100)} left" in shown(view)[1]


def test_the_start_of_workers_does_not_count_as_training(tmp_path: Path, clock: Clock):
    folders = cells(tmp_path, 2)
    view = LiveView(folders, 2, 0, "table3", console=console())
    clock.now += 60  # a slow disk
    for folder in folders.values():
        beat(folder, 0)
    view.refresh(list(folders), 0)
    assert "left" not in shown(view)[1]
    clock.now += 10
    for folder in folders.values():
        beat(folder, 10)
    view.refresh(list(folders), 0)
    # A hundredth of each in 10 s.
    assert f"about {duration(0.99 * 10 / 0.01)} left" in shown(view)[1]


def test_who_trains_a_cell_is_read_from_its_claim_where_the_caller_does_not_say(tmp_path: Path, clock: Clock):
    folders = cells(tmp_path, 2)
    one, other = folders
    beat(folders[one], 1, job="12_3")
    beat(folders[other], 1, host="node7")
    view = LiveView(folders, 2, 0, "table3", console=console())
    clock.now += 1
    view.refresh(list(folders), 0)
    assert [line.split()[-1] for line in shown(view)[-2:]] == ["12_3", "node7"]


def test_a_column_without_numbers_is_left_out(tmp_path: Path, clock: Clock):
    folders = cells(tmp_path, 2)
    for folder in folders.values():
        beat(folder, 1)
        epoch(folder, None, None)
    view = LiveView(folders, 2, 0, "table3", console=console())
    clock.now += 1
    view.refresh(list(folders), 0)
    lines = shown(view)
    assert "val" not in lines[2].split()
    assert "not finite" in lines[3]


def test_a_loss_has_a_small_curve_where_the_names_leave_room(tmp_path: Path, clock: Clock):
    folders = cells(tmp_path, 2)
    for folder in folders.values():
        beat(folder, 300)
        # Eight evenly spaced values fall by an eighth of the range each.
        lines = [{"step": step, "train_loss": 8 - step, "val_error": None} for step in range(8)]
        (folder / "history.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    for width, curve in ((120, True), (60, False)):
        view = LiveView(folders, 2, 0, "table3", console=console(width))
        clock.now += 10
        view.refresh(list(folders), 0)
        text = "\n".join(shown(view))
        assert ("█▇▆▅▄▃▂▁" in text) is curve
        assert all(cell[-10:] in text for cell in folders)


def test_more_cells_than_lines_are_counted(tmp_path: Path, clock: Clock):
    folders = cells(tmp_path, 40)
    view = LiveView(folders, 40, 0, "table3", console=console(height=20))
    clock.now += 1
    view.refresh(list(folders), 0, "2 jobs pending (Priority)")
    lines = shown(view)
    assert len(lines) < 20
    assert "2 jobs pending (Priority)" in lines
    named = sum(any(cell[-10:] in line for cell in folders) for line in lines)
    assert lines[-1] == f"and {40 - named} more"


def test_the_last_failures_stay_with_their_causes_and_brackets_are_no_markup(tmp_path: Path, clock: Clock):
    folders = cells(tmp_path, 12)
    view = LiveView(folders, 12, 0, "[red]table3", console=console())
    for number, cell in enumerate(folders):
        if number % 2:
            view.ended(CellOutcome(cell=cell, status=Status.error, cause=f"ValueError: [bold]shape {number}[/nothing]"))
    lines = shown(view)
    assert lines[0].startswith("[red]table3")
    assert "6 failed" in lines[1]
    assert [line for line in lines if "shape" in line] == [
        f"  ValueError: [bold]shape {number}[/nothing]" for number in (7, 9, 11)
    ]


def test_the_table_moves_on_a_terminal_and_its_last_state_stays(tmp_path: Path, clock: Clock):
    folders = cells(tmp_path, 2)
    one, other = folders
    with LiveView(folders, 2, 0, "table3", console=console()) as view:
        clock.now += 1
        view.refresh([one], 1)
        view.say("a line [that] stays")
        view.ended(CellOutcome(cell=one, status=Status.done))
        view.ended(CellOutcome(cell=other, status=Status.killed, cause="ended by SIGKILL"))
    text = "\n".join(written(view))
    assert "1 running" in text
    assert "a line [that] stays" in text
    last = text[text.rindex("table3") :]
    assert "1 of 2 done, 1 failed, 0 running" in last
    assert "ended by SIGKILL" in last


def test_without_a_terminal_each_cell_is_one_line(make_small: MakeConfig, tmp_path: Path, clock: Clock):
    config = make_small()
    record = run_cell(config)
    cell = identity.cell_id(config)
    folders = {cell: Path(config.runs) / cell} | cells(tmp_path, 2)
    _, failed, unread = folders
    with LiveView(folders, 40, 11, "table3", console=console(terminal=False)) as view:
        view.ended(CellOutcome(cell=cell, status=Status.done, log="log.txt"))
        view.ended(CellOutcome(cell=failed, status=Status.error, cause="ValueError: [x]", log="there/log.txt"))
        view.ended(CellOutcome(cell=unread, status=Status.done))
    seconds = duration(record.provenance.seconds)
    # Two epochs of so narrow a net may not leave chance: 48 of the 400 test images of digits are of the largest class.
    dead = (
        ": dead, not below the 88.00% of always naming the largest class"
        if record.metrics["test_error"] >= 0.88
        else ""
    )
    assert written(view) == [
        f"[12/40] {cell}: done, test error {100 * record.metrics['test_error']:.2f}%, {seconds}{dead}",
        f"[13/40] {failed}: error: ValueError: [x]; see there/log.txt",
        f"[14/40] {unread}: done",
    ]


def test_diverged_and_dead_cells_are_counted_apart_from_those_that_learned(
    make_config: MakeConfig, tmp_path: Path, clock: Clock
):
    chance = 352 / 400  # 48 of 400 images are of the largest class; the last net gets one more of them right
    folders = {
        write_result(tmp_path, make_config(f"seed={seed}"), status, error, chance): tmp_path
        for seed, (status, error) in enumerate(
            [(Status.done, 0.1), (Status.diverged, 0.9), (Status.done, chance), (Status.done, 351 / 400)]
        )
    }
    folders = {cell: tmp_path / cell for cell in folders}
    with LiveView(folders, 4, 0, "table3", console=console(terminal=False)) as view:
        for number, cell in enumerate(folders):
            view.ended(CellOutcome(cell=cell, status=Status.diverged if number == 1 else Status.done))
        clock.now += 100
        view.refresh([], 0)
    lines = written(view)
    assert lines[-1].startswith("3 of 4 done (1 dead), 1 diverged, 0 running, 0 waiting")
    assert lines[1].endswith(", 60 s: the training loss became nan in epoch 350 of 350")
    assert [line.endswith("dead, not below the 88.00% of always naming the largest class") for line in lines[:4]] == [
        False,
        False,
        True,
        False,
    ]


def test_without_a_terminal_progress_is_told_now_and_then(tmp_path: Path, clock: Clock):
    folders = cells(tmp_path, 2)
    with LiveView(folders, 2, 0, "table3", console=console(terminal=False)) as view:
        for _ in range(100):
            clock.now += 1
            view.refresh(list(folders)[:1], 1)
    assert [line.partition(";")[0] for line in written(view)] == ["0 of 2 done, 1 running, 1 waiting"] * 3


def test_cells_that_were_not_trained_are_counted_by_reason(tmp_path: Path, clock: Clock):
    folders = cells(tmp_path, 4)
    with LiveView(folders, 4, 0, "table3", console=console(terminal=False)) as view:
        for number, cell in enumerate(folders):
            view.ended(CellOutcome(cell=cell, status=None, cause="stopped" if number else "other code"))
    assert written(view) == ["1 cell not trained: other code", "3 cells not trained: stopped"]


def test_names_say_what_tells_cells_apart(tmp_path: Path):
    assert short_names(["something else", "more"])[0] == {"something else": "something else", "more": "more"}
    alone = "all_cnn_c-cifar10-none-lr1e-05-s0-0123456789"
    assert short_names([alone])[0] == {alone: alone}
    names, common = short_names(
        ["all_cnn_c-cifar10-none-lr1e-05-s0-0123456789", "all_cnn_c-cifar10-none-lr0.1-s1-abcdefabcd"]
    )
    assert list(names.values()) == ["lr1e-05-s0-0123456789", "lr0.1-s1-abcdefabcd"]
    assert common == "all_cnn_c cifar10 none"
    assert short_names([]) == ({}, "")


def test_a_long_name_loses_its_middle():
    assert shortened("strided_cnn_c-flip_shift-lr0.05-s0-0123456789", 30) == "strided_cnn_c-f…-s0-0123456789"
    assert shortened("short", 5) == "short"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (5.44, "5.4 s"), (62, "62 s"), (150, "2 min"), (7200, "2.0 h"), (5 * 86400, "5.0 d")],
)
def test_a_length_of_time_takes_few_characters(seconds: float | None, text: str):
    assert duration(seconds) == text


def test_messages_of_others_and_the_table_share_one_console():
    view = LiveView({}, total=0, done=0, title="t")
    # W&B's messages go to progress.CONSOLE; on another one they would be drawn over (Live draws its frame again below).
    assert view._console is progress.CONSOLE


def test_a_cell_whose_note_is_of_another_version_ends_no_launch(tmp_path: Path, clock: Clock):
    folder = tmp_path / "cell"
    folder.mkdir()
    with take_claim(folder, 60) as mine, LiveView({"cell": folder}, 1, 0, "t", console=console()) as view:
        lease._write_beat(mine.scratch, 1, {"images": 3})
        for _ in range(2):
            clock.now += 60
            view.refresh(["cell"], 0)
        view.ended(CellOutcome(cell="cell", status=Status.done))
    text = "\n".join(written(view))
    assert "1 of 1 done" in text
    assert text.count("cannot be shown (KeyError: 'step'); the work goes on") == 1
