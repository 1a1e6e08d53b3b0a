"""Cells that train while nobody looks: the reader of a pipe is gone, the terminal was closed."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, SMALL

RUN = (sys.executable, str(ROOT / "src" / "run.py"))
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
# Some seconds of training after the first checkpoint.
LONG = (*SMALL, "budget.epochs=60", "trainer.checkpoint_minutes=0", "data.val_images=0")


@pytest.mark.parametrize("multirun", [(), ("-m",)], ids=["single", "sweep"])
@pytest.mark.parametrize("place", ["2>&1 | :", "> /dev/full 2>&1"])
def test_a_cell_is_trained_whatever_becomes_of_what_it_shows(multirun: tuple[str, ...], place: str, tmp_path: Path):
    line = f'"$@" {place}; exit "${{PIPESTATUS[0]}}"'
    command = ("bash", "-c", line, "bash", *RUN, *multirun, *SMALL, f"runs={tmp_path}")
    ended = subprocess.run(command, env=ENVIRONMENT, cwd=tmp_path, timeout=300, check=False)
    (record,) = tmp_path.glob("*/record.json")
    assert json.loads(record.read_text())["status"] == "done"
    assert ended.returncode == 0


@pytest.mark.parametrize("multirun", [(), ("-m",)], ids=["single", "sweep"])
def test_closing_the_terminal_leaves_a_checkpoint_after_the_step(multirun: tuple[str, ...], tmp_path: Path):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        (*RUN, *multirun, *LONG, f"runs={tmp_path}"),
        env=ENVIRONMENT,
        cwd=tmp_path,
        preexec_fn=lambda: os.login_tty(theirs),
    )
    os.close(theirs)
    shown = b""
    while not list(tmp_path.glob("*/checkpoint.pt")):
        assert process.poll() is None, shown
        shown += os.read(ours, 1 << 16)
    os.close(ours)  # the kernel sends SIGHUP to the foreground processes of the terminal, and writing raises EIO
    assert process.wait(300) == 130
    (folder,) = tmp_path.glob("all_cnn_c-*")
    assert (folder / "checkpoint.pt").exists()
    assert not (folder / "record.json").exists()
    assert not (folder / "claim").exists()
    # The workers of a sweep are asked by their launcher, or see it end first.
    who = ("SIGTERM", "the end of its launcher") if multirun else ("SIGHUP",)
    assert any(f"stopped by {each} after step" in (folder / "log.txt").read_text() for each in who)
