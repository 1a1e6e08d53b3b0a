"""When a tracker is shown what, with a tracker and a clock of the test's own."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from strive.errors import NoKeyError, NotUploadedError, SilentError
from strive.trackers import mirror
from strive.trackers.cell_files import CellFiles
from strive.trackers.mirror import Mirror
from strive.trackers.tracker import CellTracker, Shown


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    mine = Clock()
    monkeypatch.setattr(mirror, "time", mine)
    return mine


class Notes(CellTracker):
    """A tracker that remembers what it was given, and raises what a test asks for."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.plans: list[tuple[str, int]] = []  # each time a plan was shown: after how many cells
        self.fails: dict[str, Exception] = {}
        self.answers: dict[str, Shown] = {}

    def show(self, files: CellFiles, *, last: bool) -> Shown:
        self.seen.append(files.cell)
        if files.cell in self.fails:
            raise self.fails[files.cell]
        return self.answers.get(files.cell, Shown.whole)

    def show_plan(self, folder: Path, *, last: bool) -> Shown:
        self.plans.append((folder.name, len(self.seen)))
        return Shown.whole


def cell(runs: Path, name: str, lines: int = 1) -> Path:
    folder = runs / name
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text("seed: 3\n")
    (folder / "history.jsonl").write_text('{"step": 1}\n' * lines)
    os.utime(folder / "history.jsonl", ns=(lines, lines))  # two writes within one tick of the clock are two
    return folder


Made = tuple[Mirror, Notes, list[str], list[tuple[str, Shown]]]


@pytest.fixture
def made(clock: Clock, tmp_path: Path) -> Made:
    tracker, problems, shown = Notes(), list[str](), list[tuple[str, Shown]]()

    def on_shown(folder: Path) -> None:
        shown.append((folder.name, mine.how(folder)))

    plan = tmp_path / "sweeps" / "one"
    mine = Mirror(lambda: tracker, [plan], on_shown=on_shown, on_problem=problems.append)
    return mine, tracker, problems, shown


def test_a_cell_is_shown_when_its_files_have_changed(made: Made, tmp_path: Path):
    mine, tracker, _, shown = made
    mine.add([cell(tmp_path, "a"), cell(tmp_path, "b")])
    mine.look()
    mine.look()
    cell(tmp_path, "b", lines=2)
    mine.look()
    assert tracker.seen == ["a", "b", "b"]
    assert shown == [("one", Shown.whole), ("a", Shown.whole), ("b", Shown.whole)]


def test_a_cell_that_fails_costs_no_other_and_is_tried_again_after_half_a_minute_and_at_the_end(
    made: Made, clock: Clock, tmp_path: Path
):
    mine, tracker, problems, shown = made
    tracker.fails["a"] = NotUploadedError("boom")
    mine.add([cell(tmp_path, "a"), cell(tmp_path, "b")])
    for seconds in (0, 1, 28, 2):
        clock.now += seconds
        mine.look()
    assert tracker.seen == ["a", "b", "a"]
    assert (problems, shown) == (["a: boom"], [("one", Shown.whole), ("b", Shown.whole)])
    mine.close()
    mine.look()
    assert mine.has_ended
    assert dict(shown) == {"one": Shown.whole, "a": Shown.failed, "b": Shown.whole}
    assert problems == ["a: boom"]


@pytest.mark.parametrize("after", [10, 40])
@pytest.mark.parametrize("error", [SilentError("no answer"), OSError("no answer")])
def test_a_server_that_is_gone_is_asked_each_half_minute_and_once_more_at_the_end_if_that_is_over(
    made: Made, clock: Clock, tmp_path: Path, after: int, error: Exception
):
    mine, tracker, problems, _ = made
    tracker.fails["a"] = error
    mine.add([cell(tmp_path, "a"), cell(tmp_path, "b")])
    for _ in range(3):
        mine.look()
    assert tracker.seen == ["a"]
    clock.now += after
    mine.close()
    mine.look()
    assert tracker.seen == ["a"] * (1 if after < 30 else 2)
    assert mine.has_ended
    assert mine.counts == {Shown.waiting: 2}
    assert problems == ["no answer"]
    assert list(mine.problems.values()) == problems


def test_a_problem_that_is_over_is_no_longer_one(made: Made, clock: Clock, tmp_path: Path):
    mine, tracker, problems, _ = made
    tracker.fails["a"] = SilentError("no answer")
    mine.add([cell(tmp_path, "a")])
    mine.look()
    del tracker.fails["a"]
    clock.now += 31
    mine.look()
    assert (problems, mine.problems, mine.counts) == (["no answer"], {}, {Shown.whole: 1})


def test_that_a_server_is_back_is_told_although_the_cell_is_where_it_was(made: Made, clock: Clock, tmp_path: Path):
    mine, tracker, _, shown = made
    tracker.answers["a"] = Shown.partly
    mine.add([cell(tmp_path, "a")])
    mine.look()
    tracker.fails["a"] = SilentError("no answer")
    cell(tmp_path, "a", lines=2)
    mine.look()
    assert mine.problems
    del tracker.fails["a"]
    clock.now += 31
    mine.look()
    assert shown[1:] == [("a", Shown.partly)] * 2


def test_what_waits_is_looked_at_again_although_its_files_are_the_same(made: Made, tmp_path: Path):
    mine, tracker, _, _ = made
    tracker.answers["a"] = Shown.waiting
    mine.add([cell(tmp_path, "a")])
    mine.look()
    mine.close()
    mine.look()
    assert not mine.has_ended
    tracker.answers["a"] = Shown.elsewhere
    mine.look()
    assert tracker.seen == ["a"] * 3
    assert mine.has_ended


def test_plans_come_first_and_at_the_end_last(made: Made, tmp_path: Path):
    mine, tracker, _, _ = made
    mine.add([cell(tmp_path, "a")])
    mine.look()
    mine.close()
    assert mine.lacks_plans
    mine.look()
    assert (tracker.seen, tracker.plans) == (["a", "a"], [("one", 0), ("one", 2)])
    assert not mine.lacks_plans
    assert mine.counts.total() == 1


def test_without_a_key_there_is_nothing_to_try_again(clock: Clock):
    def make() -> CellTracker:
        raise NoKeyError("no key")

    with pytest.raises(NoKeyError):
        Mirror(make, [], on_shown=print, on_problem=print).look()


@pytest.mark.parametrize("make", [lambda: 1 / 0, lambda: (_ for _ in ()).throw(OSError("disk is full"))])
def test_a_tracker_that_cannot_be_made_is_made_again_later(
    clock: Clock, tmp_path: Path, make: Callable[[], CellTracker]
):
    makes, problems = [make, Notes], list[str]()
    mine = Mirror(lambda: makes.pop(0)(), [], on_shown=lambda folder: None, on_problem=problems.append)
    mine.add([cell(tmp_path, "a")])
    mine.look()
    mine.look()
    assert len(problems) == 1
    clock.now += 31
    mine.look()
    assert mine.counts == {Shown.whole: 1}
