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


WORK = """
import os, signal, threading, time
from strive import signals
from strive.errors import Stopped
signals.listen()
try:
    with signals.raising(lambda: Stopped()):
        {}
        time.sleep(60)
except Stopped:
    print(signals.requested())
"""


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGTERM)", "SIGTERM"),
        (
            "threading.Thread(target=signals.request, args=['the end of its launcher']).start()",
            "the end of its launcher",
        ),
    ],
)
def test_work_that_does_not_read_the_request_is_interrupted(request_: str, reason: str):
    done = subprocess.run([sys.executable, "-c", WORK.format(request_)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == reason
