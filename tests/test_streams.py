"""What a process shows may go nowhere; each test gives one a place to write to that does not take it."""

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

BEGIN = "import os, sys; from strive import streams; streams._PATIENCE_SECONDS = 0.01; streams.guard()\n"
# More than a pipe or a terminal holds.
MANY = "for number in range(30_000): print(number, 'Grüße', file=sys.stderr)\n"
BOTH = "print('result'); print('progress', file=sys.stderr)\n"
END = "sys.exit(7)\n"


def ran(
    program: str, *, encoding: str = "utf-8", shell: str = "exec {}", **streams: object
) -> "subprocess.CompletedProcess[bytes]":
    """Run the lines in a Python of their own, with a guard; shell: what redirects its streams."""
    command = shell.format(f"'{sys.executable}' -c \"$PROGRAM\"")
    environment = os.environ | {"PROGRAM": BEGIN + program + END, "PYTHONIOENCODING": encoding}
    return subprocess.run(["bash", "-c", command], env=environment, timeout=60, **streams)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize(
    "place", ["2>&1 | :", "2>/dev/full", ">/dev/full", "&>/dev/full", "2>&-", ">&-", "<&- >&- 2>&-"]
)
def test_whatever_becomes_of_stdout_and_stderr_a_process_ends_as_its_work_did(place: str):
    ended = ran(
        BOTH + MANY,
        shell=f"{{}} {place}; exit ${{{{PIPESTATUS[0]}}}}",
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert ended.returncode == 7


def test_results_that_were_lost_on_a_full_disk_are_named_once():
    ended = ran("print('one', flush=True); print('two', flush=True)\n", shell="{} >/dev/full", stderr=subprocess.PIPE)
    assert ended.stderr.decode().splitlines() == [
        "stdout cannot be written (No space left on device); what is there is not all"
    ]


def test_a_file_that_is_opened_where_stderr_was_closed_gets_no_message(tmp_path: Path):
    program = f"file = open({str(tmp_path / 'record')!r}, 'w'); os.write(2, b'from C'); print('x', file=sys.stderr)\n"
    assert ran(program, shell="{} 2>&-").returncode == 7
    assert (tmp_path / "record").read_text() == ""


def test_a_terminal_that_was_closed_is_no_error():
    ours, theirs = pty.openpty()
    os.close(ours)
    try:
        assert ran(MANY, stderr=theirs).returncode == 7
    finally:
        os.close(theirs)


def test_a_terminal_that_is_held_by_ctrl_s_does_not_hold_the_work():
    ours, theirs = pty.openpty()
    try:
        termios.tcflow(theirs, termios.TCOOFF)
        assert ran(MANY, stderr=theirs).returncode == 7
    finally:
        termios.tcflow(theirs, termios.TCOON)
        os.close(ours)
        os.close(theirs)


def test_a_terminal_whose_other_end_sleeps_does_not_hold_the_work():
    ours, theirs = pty.openpty()  # nobody reads `ours`
    try:
        assert ran(MANY, stderr=theirs).returncode == 7
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_pager_that_nobody_scrolls_misses_lines_and_gets_the_later_ones():
    reading, writing = os.pipe()
    # The process tells on stdout that it has written more than the pipe holds, and waits for it to be read.
    program = MANY + "print(flush=True); sys.stdin.readline(); print('later', file=sys.stderr)\n"
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-c", BEGIN + program]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=writing
    ) as process:
        os.close(writing)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        seen = os.read(reading, 1 << 20).decode()
        process.stdin.write(b"\n")
        process.stdin.close()
    assert seen.startswith("0 Grüße\n1 Grüße\n")
    assert "29999" not in seen
    assert os.read(reading, 1 << 20).decode().endswith("later\n")
    os.close(reading)


@pytest.mark.parametrize("blocking", [True, False])
def test_what_goes_to_stdout_waits_for_a_slow_reader(blocking: bool):
    program = MANY.replace("stderr", "stdout")
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)  # as some programs leave a pipe that they share
    with subprocess.Popen(
        [sys.executable, "-c", BEGIN + program], stdout=writing, env=os.environ | {"PYTHONIOENCODING": "utf-8"}
    ):
        os.close(writing)
        with open(reading, encoding="utf-8") as lines:
            assert [int(line.split()[0]) for line in lines] == list(range(30_000))


def test_what_an_encoding_lacks_is_spelled_out():
    ended = ran("print('Grüße'); print('日', file=sys.stderr)\n", encoding="ascii", capture_output=True)
    assert (ended.stdout, ended.stderr) == (b"Gr\\xfc\\xdfe\n", b"\\u65e5\n")


def test_the_console_survives_its_reader_and_a_terminal_one_column_wide():
    program = (
        "from strive.console import CONSOLE, OUTPUT\n"
        "for number in range(9): CONSOLE.print('progress'); OUTPUT.print('result')\n"
    )
    environment = os.environ | {"COLUMNS": "1"}
    command = f"'{sys.executable}' -c \"$PROGRAM\" 2>&1 | :; exit ${{PIPESTATUS[0]}}"
    assert subprocess.run(["bash", "-c", command], env=environment | {"PROGRAM": BEGIN + program + END}).returncode == 7


def test_a_process_that_was_given_other_streams_keeps_them(monkeypatch: pytest.MonkeyPatch):
    from strive import streams

    before = sys.stdout, sys.stderr
    assert before != (sys.__stdout__, sys.__stderr__)  # pytest's own
    streams.guard()
    assert (sys.stdout, sys.stderr) == before
