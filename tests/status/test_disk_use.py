"""Room that the kinds of files in a runs folder take, and `strive prune`."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from planned_runs import Runs
from support import ROOT

from strive.cells.lease import take_claim
from strive.cells.records import Status
from strive.format import size_text
from strive.status.disk_use import DiskKind, bytes_of, disk_use


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_345, "12 kB"), (999_600, "1.0 MB"), (2_500_000_000, "2.5 GB")],
)
def test_sizes_are_in_units_of_a_thousand(size: int, text: str):
    assert size_text(size) == text


def kinds(runs: Path, *, unplanned: bool = False) -> dict[str, DiskKind]:
    return {str(use.path.relative_to(runs)): use.kind for use in disk_use(runs, unplanned=unplanned)}


def checkpoint(folder: Path, name: str = "checkpoint.pt") -> Path:
    (folder / name).write_bytes(b"x" * 1000)
    return folder / name


def test_a_checkpoint_may_go_once_its_cell_has_a_result_and_nobody_trains_it(make_runs: Callable[..., Runs]):
    runs = make_runs(4)
    runs.ends(0)
    runs.ends(1, Status.error)
    runs.ends(2)
    left = [checkpoint(runs.cell(number)) for number in range(4)]
    aside = checkpoint(runs.cell(3), "checkpoint-unused-1790000000.pt")
    with take_claim(runs.cell(2), 60):
        found = kinds(runs.folder)
    names = [str(path.relative_to(runs.folder)) for path in (*left, aside)]
    old, open_ = DiskKind.old_checkpoints, DiskKind.checkpoints
    assert [found[name] for name in names] == [old, open_, open_, open_, old]


def test_a_launch_may_go_that_has_ended_and_is_not_the_newest(make_runs: Callable[..., Runs], gone: int):
    runs = make_runs(3)
    ended, at_work, newest = (runs.launched([0], pid=pid) for pid in (gone, os.getpid(), gone))
    # Of another machine nobody here sees whether it is alive; its cell has no result.
    unseen = runs.launched([1], pid=gone, host="another-machine")
    last = runs.launched([2], pid=gone)
    found = kinds(runs.folder)
    launches = [found[str(path.relative_to(runs.folder))] for path in (ended, at_work, newest, unseen, last)]
    assert launches == [
        DiskKind.old_launches,
        DiskKind.launches,
        DiskKind.old_launches,
        DiskKind.launches,
        DiskKind.launches,
    ]
    with take_claim(runs.cell(0), 60):  # as `strive work` does
        assert DiskKind.old_launches not in kinds(runs.folder).values()
    runs.ends(1)
    assert kinds(runs.folder)[str(unseen.relative_to(runs.folder))] is DiskKind.old_launches


def test_a_copy_of_code_may_go_that_no_launch_names(make_runs: Callable[..., Runs], gone: int):
    runs = make_runs(2)
    used, unused = (runs.folder / "sweeps" / f"code-{digit * 12}" for digit in "ab")
    for copy in (used, unused):
        (copy / "src").mkdir(parents=True)
        (copy / "src" / "code.py").write_text("pass")
    launch = runs.launched([0], pid=gone)
    (launch / "job.sh").write_text(f"PYTHONPATH={used}/src")
    found = kinds(runs.folder)
    assert (found[f"sweeps/{used.name}"], found[f"sweeps/{unused.name}"]) == (DiskKind.copies, DiskKind.old_copies)


def test_a_file_with_a_link_elsewhere_frees_nothing(make_runs: Callable[..., Runs]):
    runs = make_runs(1)
    copies = [runs.folder / "sweeps" / f"code-{digit * 12}" for digit in "ab"]
    for copy in copies:
        copy.mkdir()
    (copies[0] / "code.py").write_text("x" * 100)
    os.link(copies[0] / "code.py", copies[1] / "code.py")
    old = [use for use in disk_use(runs.folder) if use.kind is DiskKind.old_copies]
    assert [bytes_of([use]) for use in old] == [0, 0]
    assert bytes_of(old) == 100


def test_scratch_files_may_go_after_a_day(make_runs: Callable[..., Runs]):
    runs = make_runs(1)
    young, old = (runs.cell(0) / f".record.json.{name}.tmp" for name in ("young", "old"))
    for path in (young, old):
        path.touch()
    os.utime(old, (time.time() - 90_000,) * 2)
    found = kinds(runs.folder)
    assert found[str(old.relative_to(runs.folder))] is DiskKind.scratch
    assert found[str(young.relative_to(runs.folder))] is not DiskKind.scratch


def test_results_of_no_plan_are_told_apart_on_request_unless_a_plan_cannot_be_read(make_runs: Callable[..., Runs]):
    runs = make_runs(2)
    runs.ends(0)
    other = Runs(runs.folder, 5, "larger")
    lone = other.ends(4).parent.name
    (runs.folder / "sweeps" / "larger" / "plan.json").unlink()
    assert lone not in kinds(runs.folder)
    assert [name for name, kind in kinds(runs.folder, unplanned=True).items() if kind is DiskKind.unplanned] == [lone]
    (runs.folder / "sweeps" / "larger" / "plan.json").write_text("{")
    assert DiskKind.unplanned not in kinds(runs.folder, unplanned=True).values()


def prune(runs: Runs, *arguments: str) -> str:
    command = [sys.executable, "-m", "strive", "prune", "--runs", str(runs.folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT / "src")})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_prune_removes_nothing_without_yes_and_no_result_without_being_asked(make_runs: Callable[..., Runs]):
    runs = make_runs(1)
    record, leftover = runs.ends(0), checkpoint(runs.cell(0))
    lone = Runs(runs.folder, 2, "larger").ends(1)
    (runs.folder / "sweeps" / "larger" / "plan.json").unlink()
    said = prune(runs)
    assert "1.0 kB may go" in said
    assert "nothing was removed; --yes removes it" in said
    assert str(leftover) in prune(runs, "--list")
    assert leftover.exists()
    assert "removed 1 of 1" in prune(runs, "--yes")
    assert (leftover.exists(), record.exists(), lone.exists()) == (False, True, True)
    assert "may go" in prune(runs, "--unplanned")
    assert lone.exists()
    prune(runs, "--unplanned", "--yes")
    assert (record.exists(), lone.exists()) == (True, False)
