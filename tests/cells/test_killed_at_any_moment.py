"""A cell that is killed before any of its operations on files, and then resumed: in the end it is as if nothing was."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Each try is a process of its own, forked from one that has imported everything; it is killed before its n-th operation
# on a file below the folder, and the cell is run again. The last try is not killed, and prints how many there were.
PROGRAM = """
import json, os, shutil, signal, sys
import strive
from pathlib import Path
from strive.cells import open_cell, saved_state, surroundings

runs, saved = Path(sys.argv[1]) / "runs", Path(sys.argv[1]) / "saved"
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "shutil.rmtree"}
left = [0]

def count(event, arguments):
    if left[0] and event in EVENTS and str(runs) in str(arguments):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)

def train(config):
    start, total = 0, 0.0
    if path := strive.load():
        start, total = json.loads((path / "state.json").read_text())
    assert start >= int(saved.read_text()), "what was saved once is lost"
    for step in range(start, config["steps"]):
        total += config["lr"] / (step + 1)
        strive.log(step + 1, total=total)
        strive.log(step + 1, square=total * total)

        def write(path):
            path.mkdir()
            (path / "state.json").write_text(json.dumps([step + 1, total]))

        strive.save(write)
        saved.write_text(str(step + 1))
    return {"total": total}

def run(folder, kill):
    child = os.fork()
    if not child:
        left[0] = kill
        strive.run_cell(train, {"steps": 2, "lr": 0.1}, runs=folder, checkpoint_minutes=0)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0

def files(folder):
    (cell,) = folder.glob("train-*")
    record = strive.read_records(folder)[0]
    names = {path.name for path in cell.iterdir() if not path.name.startswith((".claim-", ".gone-", "history-"))}
    return record.metrics, record.outputs, (cell / "history.jsonl").read_text(), names, record.provenance.inexact

saved.write_text("0")
assert run(runs / "whole", 0)
whole, kill, resumed = files(runs / "whole"), 0, 0
while True:
    kill += 1
    folder = runs / str(kill)
    saved.write_text("0")
    if run(folder, kill):
        break
    assert run(folder, 0), kill
    assert files(folder) == whole, (kill, files(folder), whole)
    resumed += strive.read_records(folder)[0].provenance.resumes
    shutil.rmtree(folder)
print(kill, resumed)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_cell_killed_before_any_operation_on_a_file_resumes_to_the_same_history_and_record(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    kills, resumed = map(int, done.stdout.splitlines()[-1].split())
    assert kills > 50
    assert resumed > 20
