from pathlib import Path

import pytest

from strive.cells.settings import Settings
from strive.cells.task import Task
from strive.config.platform_keys import Tracker, TrackerConfig
from strive.json_lines import from_line, to_line
from strive.trackers.file_session import FileSession
from strive.trackers.protocol import ShowRequest, UploadEvent, UploadEventKind
from strive.trackers.session import UploadSession, event_text, session_of, summary

RUNS = Path("runs")


def event(kind: UploadEventKind, cell: str = "", text: str = "", url: str = "") -> UploadEvent:
    return UploadEvent(kind=kind, cell=cell, text=text, url=url)


def test_requests_and_events_read_back_as_they_were_written():
    request = ShowRequest(cells=["a", "b"], plans=["p"])
    assert from_line(ShowRequest, to_line(request)) == request
    said = event(UploadEventKind.uploaded, "a", "done", "http://x/é\n")
    assert from_line(UploadEvent, to_line(said)) == said
    assert to_line(said).count(b"\n") == 1


def test_the_last_word_on_each_cell_counts():
    said = [
        event(UploadEventKind.retrying, "a", "429"),
        event(UploadEventKind.uploaded, "a"),
        event(UploadEventKind.done, "b"),
    ]
    assert summary(said, ["a", "b"], RUNS) == "W&B has all of 2 cells"
    assert summary([event(UploadEventKind.uploaded, "a")], ["a"], RUNS) == "W&B has all of 1 cell"


def test_what_is_not_there_is_counted_with_the_reason_and_the_command_for_later():
    said = [event(UploadEventKind.uploaded, "a"), event(UploadEventKind.failed, "b", "too many requests")]
    text = summary(said, ["a", "b", "c"], Path("my runs"))
    assert text == (
        "W&B: 2 of 3 cells not uploaded to their end (too many requests); later: strive sync --runs 'my runs'"
    )


def test_cells_that_have_not_ended_are_no_failure_of_w_and_b():
    text = summary([event(UploadEventKind.partly, "a", "3 epochs, stopped")], ["a"], RUNS)
    assert "(the cells have not ended)" in text
    assert "(there was no time for more)" in summary([], ["a"], RUNS)


def test_cells_that_another_process_shows_or_that_never_began_are_not_missed():
    said = [
        event(UploadEventKind.other_process, "a"),
        event(UploadEventKind.nothing, "b"),
        event(UploadEventKind.uploaded, "c"),
    ]
    assert summary(said, ["a", "b", "c"], RUNS) == "W&B has all of 1 cell"
    assert summary(said[:2], ["a", "b"], RUNS) == ""


def test_without_a_key_the_line_at_the_start_is_all_that_is_said():
    assert summary([event(UploadEventKind.offline, text="no key")], ["a"], RUNS) == ""
    assert "strive sync" in event_text(event(UploadEventKind.offline, text="no key"), first=False, lone=False)


def test_a_lone_cell_is_led_to_its_page_and_a_sweep_to_its_project_once():
    shown = event(UploadEventKind.shown, "a", url="https://w/e/p/runs/a")
    assert event_text(shown, first=True, lone=True) == "W&B: https://w/e/p/runs/a"
    assert event_text(shown, first=True, lone=False) == "W&B: https://w/e/p"
    assert event_text(event(UploadEventKind.shown, "b", url="https://w/e/p/runs/b"), first=False, lone=False) == ""


def task(kind: str | None) -> Task:
    tracker = TrackerConfig(kind=Tracker(kind)) if kind else TrackerConfig()
    return Task(cell="c", config={}, logistics={}, settings=Settings(runs="runs", tracker=tracker))


@pytest.mark.parametrize(
    ("kinds", "strict", "kind"),
    [
        (["none", "none"], True, Tracker.none),
        (["none", "auto"], True, Tracker.auto),
        (["auto", "wandb"], True, Tracker.wandb),
        (["wandb"], False, Tracker.auto),
        ([None], True, Tracker.auto),
        ([], True, Tracker.none),
    ],
)
def test_a_launch_is_as_strict_as_its_strictest_cell_but_for_a_job(
    tmp_path: Path, kinds: list[str | None], strict: bool, kind: Tracker
):
    tasks = [task(each) for each in kinds]
    (made,) = session_of(tasks, sweep="sweep", log=tmp_path / "log", say=print, strict=strict).parts
    assert isinstance(made, UploadSession)
    assert made.kind is kind


def test_each_kind_of_files_has_a_session_beside_that_of_w_and_b(tmp_path: Path):
    tasks = [task(kind) for kind in ("csv", "auto", "tensorboard", "csv")]
    upload, *files = session_of(tasks, sweep="sweep", log=tmp_path / "log", say=print).parts
    assert isinstance(upload, UploadSession)
    assert upload.kind is Tracker.auto
    assert [type(each) for each in files] == [FileSession] * 2


def test_nothing_is_started_and_nothing_said_for_tracker_none(tmp_path: Path):
    lines: list[str] = []
    with UploadSession(tmp_path, Tracker.none, log=tmp_path / "log", say=lines.append) as session:
        session.show(["a"])
    assert lines == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["offline", "dryrun", "disabled"])
def test_the_clients_own_switch_is_heeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str):
    monkeypatch.setenv("WANDB_MODE", mode)
    lines: list[str] = []
    with UploadSession(tmp_path, Tracker.auto, log=tmp_path / "log", say=lines.append):
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
        with UploadSession(tmp_path, Tracker.auto, log=tmp_path / "log", say=lines.append):
            pass
    assert [line.split(";")[0] for line in lines] == [
        f"W&B: WANDB_MODE={mode}" for mode in ("offline", "dryrun", "offline")
    ]
