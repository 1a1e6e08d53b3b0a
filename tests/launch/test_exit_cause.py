import signal
from pathlib import Path

import pytest

from strive.cells.records import Status
from strive.launch import exit_cause
from strive.launch.exit_cause import exit_status, oom_kills


@pytest.mark.parametrize(
    ("returncode", "out_of_memory", "status", "words"),
    [
        (3, False, Status.error, "exit code 3"),
        (0, False, Status.error, "exit code 0"),
        (-signal.SIGKILL, False, Status.killed, "ended by SIGKILL"),
        (-signal.SIGKILL, True, Status.out_of_memory, "ran out of memory"),
        (-signal.SIGTERM, True, Status.killed, "ended by SIGTERM"),
        (-signal.SIGSEGV, True, Status.error, "ended by SIGSEGV"),
        (-signal.SIGABRT, False, Status.error, "ended by SIGABRT"),
        (-63, False, Status.error, "ended by signal 63"),
    ],
)
def test_a_signal_that_somebody_sent_kills_and_one_that_the_program_raised_is_an_error(
    returncode: int, out_of_memory: bool, status: Status, words: str
):
    got, cause = exit_status(returncode, out_of_memory=out_of_memory)
    assert got is status
    assert words in cause
    assert "\n" not in cause


def test_the_kernels_count_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "vmstat").write_text("pgfault 7\noom_kill 3\nzswpin 0\n")
    monkeypatch.setattr(exit_cause, "_VMSTAT", tmp_path / "vmstat")
    assert oom_kills() == 3


def test_a_kernel_that_does_not_say_counts_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exit_cause, "_VMSTAT", tmp_path / "nothing")
    monkeypatch.setattr(exit_cause, "_CGROUP", tmp_path / "nothing")
    assert oom_kills() == 0
