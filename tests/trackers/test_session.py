from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from strive.cells.settings import Settings
from strive.cells.task import Task
from strive.config.platform_keys import Tracker, TrackerConfig
from strive.errors import ConfigError
from strive.trackers.mirror_process import summary
from strive.trackers.session import Session, session_of
from strive.trackers.tracker import Shown

RUNS = Path("my runs")


def ended(*shown: Shown, problem: str = "", lacks_plans: bool = False) -> Any:
    problems = {"": problem} if problem else {}
    return SimpleNamespace(counts=Counter(shown), problems=problems, lacks_plans=lacks_plans)


def test_what_was_there_and_what_was_uploaded_is_all_there():
    assert summary(ended(Shown.whole, Shown.already), RUNS) == "W&B has all of 2 cells"
    assert summary(ended(Shown.whole), RUNS) == "W&B has all of 1 cell"


def test_a_table_for_which_there_was_no_time_is_missed():
    assert "not the sweep's table" in summary(ended(Shown.whole, lacks_plans=True), RUNS)


def test_what_is_not_there_is_counted_with_the_reason_and_the_command_for_later():
    text = summary(ended(Shown.whole, Shown.failed, Shown.waiting, problem="too many requests"), RUNS)
    assert text == (
        "W&B: 2 of 3 cells not uploaded to their end (too many requests); later: strive sync --runs 'my runs'"
    )


def test_cells_that_have_not_ended_are_no_failure_of_w_and_b():
    assert "(the cells have not ended)" in summary(ended(Shown.partly), RUNS)
    assert "(there was no time for more)" in summary(ended(Shown.partly, Shown.waiting), RUNS)


def test_cells_that_another_process_shows_or_that_never_began_are_not_missed():
    assert summary(ended(Shown.elsewhere, Shown.nothing, Shown.whole), RUNS) == "W&B has all of 1 cell"
    assert summary(ended(Shown.elsewhere, Shown.nothing), RUNS) == ""


def task(kind: str | None) -> Task:
    tracker = TrackerConfig(kind=Tracker(kind)) if kind else TrackerConfig()
    return Task(cell=f"cell-{kind}", config={}, logistics={}, settings=Settings(runs="runs", tracker=tracker))


@pytest.mark.parametrize(
    ("kinds", "strict", "kind"),
    [
        (["none", "none"], True, Tracker.none),
        (["none", "auto"], True, Tracker.auto),
        (["auto", "wandb"], True, Tracker.wandb),
        (["auto", "wandb"], False, Tracker.auto),
        (["wandb"], False, Tracker.auto),
        ([None], True, Tracker.auto),
        ([], True, Tracker.none),
        (["csv", "none", "csv"], True, Tracker.csv),
    ],
)
def test_a_launch_is_as_strict_as_its_strictest_cell_but_for_a_job(
    tmp_path: Path, kinds: list[str | None], strict: bool, kind: Tracker
):
    tasks = [task(each) for each in kinds]
    assert session_of(tasks, sweep="sweep", log=tmp_path / "log", say=print, strict=strict).kind is kind


def test_two_trackers_in_one_launch_are_refused_by_their_names(tmp_path: Path):
    with pytest.raises(ConfigError, match="csv, wandb"):
        session_of([task("csv"), task("wandb")], sweep="sweep", log=tmp_path / "log", say=print)


def session(runs: Path, kind: Tracker, lines: list[str]) -> Session:
    return Session(kind, runs, runs, log=runs / "log", say=lines.append)


def test_nothing_is_started_and_nothing_said_for_tracker_none(tmp_path: Path):
    lines: list[str] = []
    with session(tmp_path, Tracker.none, lines) as shown:
        shown.show(["a"])
    assert lines == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["offline", "dryrun", "disabled"])
def test_the_clients_own_switch_is_heeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str):
    monkeypatch.setenv("WANDB_MODE", mode)
    lines: list[str] = []
    with session(tmp_path, Tracker.auto, lines):
        pass
    assert len(lines) == (mode != "disabled")
    assert list(tmp_path.iterdir()) == []


def test_why_w_and_b_is_not_used_is_said_by_the_first_launch_into_a_folder_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "sweeps").mkdir()
    lines: list[str] = []
    for mode in ("offline", "offline", "dryrun", "dryrun", "offline"):
        monkeypatch.setenv("WANDB_MODE", mode)
        with session(tmp_path, Tracker.auto, lines):
            pass
    assert [line.split(";")[0] for line in lines] == [
        f"W&B: WANDB_MODE={mode}" for mode in ("offline", "dryrun", "offline")
    ]
    assert all("strive sync" in line for line in lines)
