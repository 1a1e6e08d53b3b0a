import os
import subprocess

import pytest

from strive.errors import ConfigError
from strive.launch import devices as module
from strive.launch.devices import Slot, listed_gpus, slots, visible_gpus
from strive.options import CellOptions, LocalOptions, SlurmOptions

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


def shared_out(num_cells: int = 100, *, side_by_side: bool = False, cores: int = 0, **given: int) -> list[Slot]:
    return slots(CellOptions.of(given), num_cells, side_by_side=side_by_side, cores=cores)


def test_without_gpus_each_core_takes_a_cell_as_far_as_there_are_cells():
    assert shared_out() == [Slot(None, 1)] * 8
    assert shared_out(3) == [Slot(None, 2)] * 3
    assert slots(CellOptions(), 100, side_by_side=True, threads=3) == [Slot(None, 3)] * 8


def test_without_gpus_cells_take_the_cores_that_they_were_given():
    assert shared_out(cpus_per_cell=4) == [Slot(None, 4)] * 2
    assert shared_out(1, cpus_per_cell=1) == [Slot(None, 1)]
    assert shared_out(cpus_per_cell=3) == [Slot(None, 3)] * 2
    with pytest.raises(ConfigError, match=r"cpus_per_cell=9, .* 8 cores"):
        shared_out(cpus_per_cell=9)


def test_a_gpu_has_one_process_where_that_trains_cells_side_by_side(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    # 0: the process finds out how many at once are best.
    assert shared_out(side_by_side=True) == [Slot("3", 4, room=0), Slot("1", 4, room=0)]
    assert shared_out(3, side_by_side=True, cells_per_gpu=2) == [Slot("3", 4, room=2), Slot("1", 4, room=2)]


def test_a_gpu_has_a_process_for_each_cell_of_any_other_app(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert shared_out() == [Slot("3", 4), Slot("1", 4)]
    assert shared_out(3, cells_per_gpu=2, cpus_per_cell=1) == [Slot("3", 1), Slot("1", 1), Slot("3", 1)]


def test_a_cell_may_have_several_gpus(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1,0,2,5")
    assert [slot.gpus for slot in shared_out(gpus_per_cell=2)] == ["3,1", "0,2"]
    with pytest.raises(ConfigError, match=r"6 GPUs .* 5 GPUs"):
        shared_out(gpus_per_cell=6)
    with pytest.raises(ConfigError, match=r"cells_per_gpu=2 is for cells with one GPU"):
        shared_out(gpus_per_cell=2, cells_per_gpu=2)


def test_the_processes_of_a_cell_share_what_it_has(monkeypatch: pytest.MonkeyPatch):
    assert shared_out(processes_per_cell=2) == [Slot(None, 1)] * 4
    assert shared_out(1, processes_per_cell=2) == [Slot(None, 4)]
    assert shared_out(processes_per_cell=2, cpus_per_cell=4) == [Slot(None, 2)] * 2
    assert shared_out(processes_per_cell=20) == [Slot(None, 1)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1,0,2")
    assert shared_out(processes_per_cell=2) == [Slot("3,1", 2), Slot("0,2", 2)], "a GPU for each, both see both"
    assert shared_out(processes_per_cell=2, gpus_per_cell=1, cpus_per_cell=2)[0] == Slot("3", 1)
    with pytest.raises(ConfigError, match=r"a cell has 5 GPUs .* 4 GPUs"):
        shared_out(processes_per_cell=5)


def test_every_gpu_takes_a_cell_before_one_takes_two(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    for side_by_side in (True, False):
        assert [slot.gpus for slot in shared_out(2, side_by_side=side_by_side, cells_per_gpu=2)] == ["3", "1"]
        assert [slot.gpus for slot in shared_out(1, side_by_side=side_by_side, cells_per_gpu=2)] == ["3"]


def test_a_process_on_the_processor_trains_one_cell_at_a_time():
    assert {slot.room for each in range(3) for slot in shared_out(side_by_side=True, cells_per_gpu=each)} == {1}


def test_a_job_may_have_fewer_cores_than_the_machine():
    assert shared_out(cores=2) == [Slot(None, 1)] * 2


def test_a_cell_that_is_to_have_no_gpu_sees_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert slots(CellOptions(), 2, side_by_side=True, device="cpu") == [Slot("", 4)] * 2
    assert shared_out(2, gpus_per_cell=0) == [Slot("", 4)] * 2


@pytest.mark.parametrize("kind", [LocalOptions, SlurmOptions])
def test_a_key_of_an_earlier_version_names_the_new_one(kind: type[CellOptions]):
    with pytest.raises(ConfigError, match=r"cells_per_device=0 .*cells_per_gpu.*cpus_per_cell"):
        kind.of({"cells_per_device": 0})
    with pytest.raises(ConfigError, match=r"cpus_per_task=4 .*cpus_per_cell"):
        kind.of({"cpus_per_task": 4})


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


def test_who_has_counted_the_gpus_is_said_and_pytorch_only_where_it_is_there(monkeypatch: pytest.MonkeyPatch):
    for named, listed, torch, text in (
        ("", None, False, "CUDA_VISIBLE_DEVICES='' names 0 GPUs"),
        ("0", None, False, "CUDA_VISIBLE_DEVICES='0' names 1 GPU"),
        (None, [], False, "nvidia-smi lists 0 GPUs"),
        (None, ["GPU-a"], False, "nvidia-smi lists 1 GPU "),
        (None, ["GPU-a"], True, "PyTorch"),
    ):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if named is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
        monkeypatch.setattr(module, "_installed_gpus", lambda listed=listed: listed)
        monkeypatch.setattr(module, "_torch_without_gpus", lambda torch=torch: torch)
        with pytest.raises(ConfigError) as caught:
            shared_out(gpus_per_cell=2)
        assert text in str(caught.value)
        assert ("PyTorch" in str(caught.value)) is torch
