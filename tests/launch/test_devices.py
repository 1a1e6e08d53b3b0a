import os
import subprocess

import pytest

from strive.launch import devices as module
from strive.launch.devices import Slot, listed_gpus, slots, visible_gpus

LISTED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb)
  MIG 1g.5gb      Device  0: (UUID: MIG-cccc)
  MIG 1g.5gb      Device  1: (UUID: MIG-dddd)
"""


@pytest.fixture(autouse=True)
def _eight_cores_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(module, "_torch_without_gpus", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_without_gpus_each_core_takes_a_cell_as_far_as_there_are_cells():
    assert slots(0, 100) == [Slot("", 1)] * 8
    assert slots(0, 3) == [Slot("", 2)] * 3
    assert slots(2, 100) == [Slot("", 4)] * 2
    assert slots(2, 100, threads=3) == [Slot("", 3)] * 2


def test_a_gpu_has_one_process_which_trains_its_cells_side_by_side(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    # 0: the process finds out how many at once are best.
    assert slots(0, 100) == [Slot("3", 4, room=0), Slot("1", 4, room=0)]
    assert slots(2, 3) == [Slot("3", 4, room=2), Slot("1", 4, room=2)]


def test_every_gpu_takes_a_cell_before_one_takes_two(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert [slot.gpu for slot in slots(2, 2)] == ["3", "1"]
    assert [slot.gpu for slot in slots(2, 1)] == ["3"]


def test_a_process_on_the_processor_trains_one_cell_at_a_time():
    assert {slot.room for each in range(3) for slot in slots(each, 100)} == {1}


def test_a_job_may_have_fewer_cores_than_the_machine():
    assert slots(0, 100, cores=2) == [Slot("", 1)] * 2


def test_the_processor_can_be_asked_for_where_there_are_gpus(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert slots(0, 2, device="cpu") == [Slot("", 4)] * 2


def test_more_slots_than_cores_still_have_a_thread_each():
    assert slots(20, 100) == [Slot("", 1)] * 20


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [
        ("0, 2", ["0", "2"]),
        ("GPU-aaaa,MIG-bbbb", ["GPU-aaaa", "MIG-bbbb"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1,-1,2", ["1"]),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(visible: str, gpus: list[str]):
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": visible}) == gpus


def test_gpus_are_named_by_uuid_and_a_divided_one_by_its_parts():
    assert listed_gpus(LISTED) == ["GPU-aaaa", "MIG-cccc", "MIG-dddd"]


def test_installed_gpus_are_found_where_nobody_chose(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        subprocess, "run", lambda command, **options: subprocess.CompletedProcess(command, 0, LISTED, "")
    )
    assert visible_gpus({}) == ["GPU-aaaa", "MIG-cccc", "MIG-dddd"]


def test_a_torch_without_cuda_has_no_gpus(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_torch_without_gpus", lambda: True)
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "0"}) == []


def test_a_machine_without_nvidia_smi_has_no_gpus(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    assert visible_gpus({}) == []
