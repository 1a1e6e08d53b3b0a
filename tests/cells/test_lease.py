import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from support import ROOT

from allcnn.config import Config
from strive import processes
from strive.cells import lease, records
from strive.cells.lease import Claim, LeaseMonitor, Owner, owner_of, surely_gone, take_claim
from strive.errors import LeasedError, LostLeaseError

HOLD = """
import sys, time
from pathlib import Path
from strive.cells.lease import take_claim
with take_claim(Path(sys.argv[1]), float(sys.argv[2])) as claim:
    claim.note(step=7)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def hold(tmp_path: Path):
    """Start processes that own the cell in a folder; end them after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path, lease: float = 60) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder), str(lease)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_free_cell_can_be_claimed_and_given_back(tmp_path: Path):
    assert owner_of(tmp_path) is None
    with take_claim(tmp_path, 60) as mine:
        owner = owner_of(tmp_path)
        assert owner is not None
        assert (owner.token, owner.pid, owner.job) == (mine.owner.token, os.getpid(), "")
        assert mine.scratch.is_dir()
    assert owner_of(tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_a_claimed_cell_is_refused_with_its_owners_name(tmp_path: Path, hold, monkeypatch: pytest.MonkeyPatch):
    process = hold(tmp_path)
    with pytest.raises(LeasedError, match=f"is being trained by process {process.pid} on ") as caught:
        take_claim(tmp_path, 60)
    assert caught.value.owner.pid == process.pid


def test_slurms_job_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    with take_claim(tmp_path, 60) as mine:
        assert (mine.owner.job, mine.owner.restart) == ("41", 0)
    for name, value in {"ARRAY_JOB_ID": "40", "ARRAY_TASK_ID": "3", "RESTART_COUNT": "2"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    with take_claim(tmp_path, 60) as mine:
        assert (mine.owner.job, mine.owner.restart) == ("40_3", 2)
        assert "SLURM job 40_3" in str(mine.owner)


def test_a_process_that_is_gone_from_this_machine_loses_its_claim_at_once(tmp_path: Path, hold):
    process = hold(tmp_path)
    process.kill()
    process.wait()
    owner = owner_of(tmp_path)
    assert owner is not None
    assert surely_gone(owner)
    assert LeaseMonitor().stale(tmp_path) == owner
    with take_claim(tmp_path, 60):
        pass


def test_a_zombie_counts_as_gone(tmp_path: Path, hold):
    process = hold(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    owner = owner_of(tmp_path)
    assert owner is not None
    assert surely_gone(owner)


def test_another_process_with_the_dead_ones_number_is_not_taken_for_it(tmp_path: Path):
    with take_claim(tmp_path, 60) as mine:
        assert not surely_gone(mine.owner)
        born_earlier = json.loads((mine.scratch / "owner.json").read_text()) | {"pid_started": "1"}
        assert surely_gone(Owner(**born_earlier))


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"boot": "another"}, {"boot": ""}])
def test_a_process_of_another_machine_is_never_surely_gone(tmp_path: Path, change: dict[str, str]):
    with take_claim(tmp_path, 60) as mine:
        content = json.loads((mine.scratch / "owner.json").read_text()) | {"pid": 2**22 + 1, "pid_started": "1"}
        assert surely_gone(Owner(**content))
        assert not surely_gone(Owner(**(content | change)))


def _pretend_elsewhere(folder: Path) -> None:
    (place,) = (folder / "claim").iterdir()
    content = json.loads((place / "owner.json").read_text()) | {"host": "elsewhere"}
    (place / "owner.json").write_text(json.dumps(content))


def test_an_owner_elsewhere_that_beats_is_never_stale_and_a_silent_one_is_after_its_lease(tmp_path: Path, hold):
    process = hold(tmp_path, lease=1)
    _pretend_elsewhere(tmp_path)
    watch, start = LeaseMonitor(), time.monotonic()
    while time.monotonic() - start < 2.5:
        assert watch.stale(tmp_path) is None
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGSTOP)
    stopped = time.monotonic()
    while (owner := watch.stale(tmp_path)) is None:
        assert time.monotonic() - stopped < 300
        time.sleep(0.05)
    assert owner.note == {"step": 7}
    # Another observer has not watched yet, whatever the clocks say.
    assert LeaseMonitor().stale(tmp_path) is None


def test_an_observer_compares_no_clocks(tmp_path: Path, hold, monkeypatch: pytest.MonkeyPatch):
    hold(tmp_path, lease=1)
    _pretend_elsewhere(tmp_path)
    (place,) = (tmp_path / "claim").iterdir()
    time.sleep(0.5)
    watch = LeaseMonitor()
    for skew in (-1e6, 1e6):
        monkeypatch.setattr(time, "time", lambda skew=skew: skew)
        os.utime(place / "owner.json", (0, 0))
        assert watch.stale(tmp_path) is None


def test_a_suspended_owner_that_wakes_up_can_write_nothing(tmp_path: Path):
    # The whole of it in this process: what the suspended one has in its hands is the folder's name.
    suspended = take_claim(tmp_path, 1)
    records.write_whole(tmp_path / "record.json", b"before", scratch=suspended.scratch)
    with take_claim(tmp_path, 60, fence=suspended.owner.token) as second:
        with pytest.raises(FileNotFoundError):
            records.write_whole(tmp_path / "record.json", b"late", scratch=suspended.scratch)
        with pytest.raises(LostLeaseError, match="has lost the cell"):
            suspended.check()
        suspended.release()
        owner = owner_of(tmp_path)
        assert owner is not None
        assert owner.token == second.owner.token
        second.check()
    assert (tmp_path / "record.json").read_bytes() == b"before"


def test_a_write_that_was_begun_before_the_takeover_and_ends_after_it_fails(tmp_path: Path):
    suspended = take_claim(tmp_path, 1)
    others: list[Claim] = []

    def slow(file: object) -> None:
        others.append(take_claim(tmp_path, 60, fence=suspended.owner.token))

    with pytest.raises(FileNotFoundError):
        records.write_whole(tmp_path / "record.json", slow, scratch=suspended.scratch)
    assert not (tmp_path / "record.json").exists()
    others[0].release()


def test_the_fence_shuts_out_the_named_owner_and_no_later_one(tmp_path: Path):
    first = take_claim(tmp_path, 60)
    second = take_claim(tmp_path, 60, fence=first.owner.token)
    with pytest.raises(LeasedError):
        take_claim(tmp_path, 60, fence=first.owner.token)
    second.check()


def test_the_beat_goes_on_and_carries_the_note(tmp_path: Path):
    with take_claim(tmp_path, 1) as mine:
        mine.note(step=3, steps=10)
        seen = set()
        end = time.monotonic() + 20
        while len(seen) < 3 and time.monotonic() < end:
            owner = owner_of(tmp_path)
            assert owner is not None
            seen.add(owner.beat)
            time.sleep(0.05)
        assert len(seen) >= 3
        assert owner is not None
        assert owner.note == {"step": 3, "steps": 10}


def test_on_a_full_disk_the_beat_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mine = take_claim(tmp_path, 60)
    before = owner_of(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)  # of a new file; what is there has its blocks
        lease._write_beat(mine.scratch, 7, {"step": 3})
    after = owner_of(tmp_path)
    mine.release()
    assert before is not None
    assert after is not None
    assert (before.beat, after.beat, after.note) == (0, 7, {"step": 3})


def _contend(folder: str, start: object, won: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    for _ in range(200):
        try:
            mine = take_claim(Path(folder), 60)
        except LeasedError:
            continue
        inside = Path(folder) / "inside"
        inside.mkdir()  # fails if another one is inside
        inside.rmdir()
        mine.release()
        with won.get_lock():  # type: ignore[attr-defined]
            won.value += 1  # type: ignore[attr-defined]


def test_of_many_that_contend_one_at_a_time_gets_in(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    start, won = context.Event(), context.Value("i", 0)
    processes = [context.Process(target=_contend, args=(str(tmp_path), start, won)) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert won.value > 0
    assert not [path.name for path in tmp_path.iterdir()]


def test_of_many_that_find_a_dead_owner_one_gets_the_cell(tmp_path: Path, hold):
    for _ in range(20):
        dead = hold(tmp_path)
        dead.kill()
        dead.wait()
        got: list[Claim] = []
        barrier = threading.Barrier(8)

        def contend(got: list[Claim] = got, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            with suppress(LeasedError):
                got.append(take_claim(tmp_path, 60))

        threads = [threading.Thread(target=contend) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1
        got[0].release()


def test_the_module_loads_without_torch():
    code = "import sys, strive.cells.lease, strive.signals, strive.cells.task; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_rename_that_a_network_file_system_repeats_is_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rename = os.rename

    def twice(source: Path, target: Path) -> None:
        rename(source, target)
        if Path(target).name == "claim":
            raise OSError(39, "Directory not empty")  # what the second attempt of the same call sees

    monkeypatch.setattr(lease.os, "rename", twice)
    with take_claim(tmp_path, 60) as mine:
        mine.check()


def test_a_process_of_another_user_that_proc_hides_is_not_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with take_claim(tmp_path, 60) as mine:
        # As hidepid does: the process is there, what /proc says of it is not.
        monkeypatch.setattr(processes, "start_time", lambda pid: None)
        assert not surely_gone(mine.owner)


@pytest.mark.parametrize("damage", ["empty", "missing", "list", "other keys"])
def test_a_damaged_claim_is_taken_over_after_a_lease_of_silence_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
):
    monkeypatch.setattr(lease, "_UNKNOWN_LEASE_SECONDS", 0.5)
    left = take_claim(tmp_path, 60)
    path = left.scratch / "owner.json"
    if damage == "missing":
        path.unlink()
    else:
        path.write_text({"empty": "", "list": "[]", "other keys": "{}"}[damage])
    with pytest.raises(LeasedError, match="damaged"):
        take_claim(tmp_path, 60)
    watch = LeaseMonitor()
    end = time.monotonic() + 20
    while (owner := watch.stale(tmp_path)) is None:
        assert time.monotonic() < end
        time.sleep(0.05)
    with take_claim(tmp_path, 60, fence=owner.token):
        pass


def test_a_damaged_beat_is_no_beat(tmp_path: Path):
    with take_claim(tmp_path, 60) as mine:
        for content in ("", "[]", "{}", "null"):
            (mine.scratch / "beat.json").write_text(content)
            owner = owner_of(tmp_path)
            assert owner is not None
            assert owner.beat == 0


def test_a_lease_outlives_what_nfs_clients_remember_of_a_folder_by_default():
    acdirmax = 60  # seconds, man 5 nfs
    assert Config().trainer.lease_seconds > acdirmax
    assert lease._unknown("token").lease_seconds == Config().trainer.lease_seconds
    text = (ROOT / "docs" / "failures.md").read_text()
    assert f"`trainer.lease_seconds` ({Config().trainer.lease_seconds:g})" in text
