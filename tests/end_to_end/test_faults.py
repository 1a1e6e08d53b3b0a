"""Disks that are full or read-only, for real: a small file system in memory."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import SMALL, CommandLine

# Of a checkpoint that a small disk has room for once.
CELL = (*SMALL, "model.width=0.125")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk with room for one checkpoint of the small cell and not much more."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=260k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"mounting a small disk needs root: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def record(runs: Path) -> dict[str, object]:
    (path,) = runs.glob("*/record.json")
    return json.loads(path.read_text())


def test_a_full_disk_loses_nothing_and_room_lets_the_same_command_finish(
    strive: CommandLine, small_disk: Path, tmp_path: Path
):
    runs = small_disk / "runs"
    command = (*CELL, "trainer.checkpoint_minutes=0", f"runs={runs}")
    full = strive(*command)
    assert full.returncode in (1, 2)
    assert "No space left on device" in full.stderr
    assert "Traceback" not in full.stderr
    (folder,) = runs.glob("all_cnn_c-*")
    assert (folder / "checkpoint.pt").exists()
    remount(small_disk, "size=20m")
    again = strive(*command)
    assert again.returncode == 0, again.stderr
    assert "resumes from step" in again.stderr
    assert strive(*CELL, f"runs={tmp_path / 'whole'}").returncode == 0
    whole = record(tmp_path / "whole")
    assert [record(runs)[part] for part in ("metrics", "outputs")] == [whole[part] for part in ("metrics", "outputs")]


def test_a_full_disk_stops_a_sweep_with_one_line_and_the_same_command_finishes_it(
    strive: CommandLine, small_disk: Path
):
    runs = small_disk / "runs"
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 256 * 1024)
    full = strive("-m", *CELL, "seed=0,1", f"runs={runs}")
    assert full.returncode in (1, 2)
    assert "No space left on device" in full.stderr
    assert "Traceback" not in full.stderr
    filler.unlink()
    remount(small_disk, "size=20m")
    again = strive("-m", *CELL, "seed=0,1", f"runs={runs}")
    assert again.returncode == 0, again.stderr
    assert len(list(runs.glob("*/record.json"))) == 2


def test_a_read_only_runs_folder_is_refused_before_anything_trains(strive: CommandLine, small_disk: Path):
    remount(small_disk, "ro")
    for multirun in ((), ("-m",)):
        done = strive(*multirun, *CELL, f"runs={small_disk / 'runs'}")
        assert done.returncode == 2
        assert f"{small_disk} cannot be written to" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_runs_folder_that_was_moved_is_as_good_as_before(strive: CommandLine, tmp_path: Path):
    assert strive("-m", *SMALL, "seed=0,1", "runs=here").returncode == 0
    (tmp_path / "here").rename(tmp_path / "there")
    done = strive("-m", *SMALL, "seed=0,1,2", "runs=there")
    assert done.returncode == 0, done.stderr
    assert "3 cells: 2 done already, 1 to train" in done.stderr
    assert not (tmp_path / "here").exists()
