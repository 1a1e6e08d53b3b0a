import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from allcnn.config import DeviceChoice, EngineChoice, TrainerConfig
from allcnn.training import choose_execution, device_name, enter_execution, peak_memory_bytes
from strive.errors import ConfigError
from strive.processes import own_source_first

CPU = torch.device("cpu")


def test_auto_takes_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    execution = choose_execution(TrainerConfig())
    assert (execution.device, execution.compiled) == (CPU, False)


def test_no_thread_count_means_every_core_this_process_may_use():
    assert choose_execution(TrainerConfig()).threads == len(os.sched_getaffinity(0))
    assert choose_execution(TrainerConfig(threads=3)).threads == 3


def test_entering_sets_the_thread_count():
    try:
        enter_execution(choose_execution(TrainerConfig(threads=2, device="cpu")))  # type: ignore[arg-type]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_the_processor_is_named_as_the_system_names_it():
    assert device_name(CPU)
    if Path("/proc/cpuinfo").exists() and "model name" in Path("/proc/cpuinfo").read_text():
        assert device_name(CPU) in Path("/proc/cpuinfo").read_text()


def test_peak_memory_is_in_bytes_and_sees_a_large_block():
    before = peak_memory_bytes(CPU)
    block = bytearray(os.urandom(1) * 600_000_000)
    assert peak_memory_bytes(CPU) >= max(before, len(block))


@pytest.mark.parametrize(
    ("trainer", "wanted"),
    [
        (TrainerConfig(), (True, True, False)),
        (TrainerConfig(compile=False), (True, False, False)),
        (TrainerConfig(engine=EngineChoice.eager), (False, False, False)),
        (TrainerConfig(engine=EngineChoice.eager, compile=True), (False, True, False)),
        (TrainerConfig(fast=True), (True, True, True)),
        (TrainerConfig(device=DeviceChoice.cpu, fast=True), (False, False, False)),
    ],
)
def test_on_a_gpu_a_step_is_a_compiled_graph_unless_the_config_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, trainer: TrainerConfig, wanted: tuple[bool, bool, bool]
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    execution = choose_execution(trainer)
    assert (execution.graph, execution.compiled, execution.fast) == wanted


def test_a_graph_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"trainer\.engine=graph needs a CUDA GPU.*legal here: auto, eager"):
        choose_execution(TrainerConfig(engine=EngineChoice.graph))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process's own peak")
def test_the_memory_of_the_process_that_started_this_one_is_not_counted():
    block = bytearray(os.urandom(1) * 1_500_000_000)
    code = "import torch; from allcnn.training import peak_memory_bytes; print(peak_memory_bytes(torch.device('cpu')))"
    environment = own_source_first(os.environ)
    child = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(child.stdout) < len(block)
