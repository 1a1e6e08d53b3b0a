import subprocess
import sys

import pytest

PROGRAM = """
import os, signal
from strive import signals
signals.listen()
os.kill(os.getpid(), signal.{})
print(signals.requested())
"""


def told(name: str, *before: str) -> str:
    """Send a process that listens this signal; return what it takes for the reason to stop."""
    command = [*before, sys.executable, "-c", PROGRAM.format(name)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_a_signal_that_others_send_before_an_end_is_a_reason_to_stop(name: str):
    assert told(name) == name


def test_under_nohup_a_terminal_that_is_closed_stops_nothing():
    assert told("SIGHUP", "nohup") == ""
