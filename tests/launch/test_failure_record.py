import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from support import MakeConfig

from allcnn.training_pack import run_cell
from strive.cells import records
from strive.cells.lease import owner_of, take_claim
from strive.cells.log_file import tail
from strive.cells.records import Status
from strive.cells.task import Task, task_of
from strive.errors import LeasedError, RecordError
from strive.launch.failure_record import write_failure


@pytest.fixture
def task(make_small: MakeConfig) -> Task:
    config = make_small()
    return task_of(config)


def path(task: Task) -> Path:
    return task.folder / "record.json"


def test_a_failure_is_a_record_like_any_other(task: Task, tmp_path: Path):
    (tmp_path / "log").write_text("one\ntwo\n")
    returned = write_failure(task, Status.killed, "ended by SIGKILL", tmp_path / "log", seen={"device": "a GPU"})
    record = records.read_record(path(task))
    assert record == returned
    assert record.status is Status.killed
    assert record.failure is not None
    assert record.failure.cause == "ended by SIGKILL"
    assert record.failure.traceback == "one\ntwo"
    assert record.provenance.device == "a GPU"
    assert record.provenance.code_hash
    assert record.provenance.packages["torch"]
    assert owner_of(task.folder) is None


def test_a_checkpoint_stays_for_the_next_try(task: Task, tmp_path: Path):
    task.folder.mkdir(parents=True)
    (task.folder / "checkpoint.pt").write_bytes(b"weights")
    write_failure(task, Status.killed, "ended", tmp_path / "nothing")
    assert (task.folder / "checkpoint.pt").read_bytes() == b"weights"


def test_the_record_says_which_code_was_launched(task: Task):
    frozen = dataclasses.replace(task, code="0123456789")
    assert write_failure(frozen, Status.timeout, "too long", "").provenance.code_hash == "0123456789"


def test_a_cell_with_a_living_owner_is_left_to_it(task: Task, tmp_path: Path):
    task.folder.mkdir(parents=True)
    with take_claim(task.folder, 60), pytest.raises(LeasedError):
        write_failure(task, Status.killed, "ended", tmp_path / "nothing")
    assert not path(task).exists()


def test_the_owner_that_died_says_where_and_since_when(task: Task):
    task.folder.mkdir(parents=True)
    code = "from pathlib import Path; from strive.cells.lease import take_claim"
    code += f"; take_claim(Path({str(task.folder)!r}), 60)"
    subprocess.run([sys.executable, "-c", code], check=True)
    owner = owner_of(task.folder)
    assert owner is not None
    provenance = write_failure(task, Status.killed, "ended", "").provenance
    assert (provenance.host, provenance.started) == (owner.host, owner.since)
    assert owner_of(task.folder) is None


def test_a_dead_owner_on_another_machine_is_shut_out_by_its_token(task: Task):
    task.folder.mkdir(parents=True)
    claim = take_claim(task.folder, 60)
    record = write_failure(task, Status.node_fail, "the node is gone", "", fence=claim.owner.token)
    assert records.read_record(path(task)) == record
    assert not claim.scratch.exists()


def test_a_finished_record_is_never_written_over(make_small: MakeConfig, task: Task):
    done = run_cell(make_small())
    content = path(task).read_bytes()
    assert write_failure(task, Status.killed, "ended", "") == done
    # One that is to be trained again is not lost to a failure of that either.
    again = dataclasses.replace(task, replaces=hashlib.sha256(content).hexdigest())
    assert write_failure(again, Status.killed, "ended", "").status is Status.killed
    assert path(task).read_bytes() == content


def test_a_damaged_record_is_left_alone(task: Task):
    task.folder.mkdir(parents=True)
    path(task).write_text("{")
    with pytest.raises(RecordError, match="not a whole JSON file"):
        write_failure(task, Status.killed, "ended", "")
    assert path(task).read_text() == "{"


def test_the_end_of_a_log_is_read_whatever_is_in_it(tmp_path: Path):
    log = tmp_path / "log"
    log.write_bytes(b"\n".join(b"%d \xff" % number for number in range(100_000)))
    assert tail(log, lines=2) == "99998 \ufffd\n99999 \ufffd"
    assert tail(log, offset=log.stat().st_size - 7) == "99999 \ufffd"
    assert tail(tmp_path / "nothing") == ""


def test_it_is_written_without_torch():
    code = "import sys, strive.launch.failure_record; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
