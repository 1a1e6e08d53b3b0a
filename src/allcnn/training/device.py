"""Device, threads and kernels of a cell: settings that may change the last bits and are kept by a resume."""

import ctypes
import os
import platform
import sys
from dataclasses import dataclass

import torch

from allcnn.config import DeviceChoice, EngineChoice, TrainerConfig
from strive.errors import ConfigError
from strive.processes import process_peak_bytes, processor, usable_cores

LAYOUT = "channels_last"


@dataclass(frozen=True, slots=True)
class Execution:
    """A device, its CPU threads, and its faster ways to take a step."""

    device: torch.device
    threads: int
    compiled: bool  # torch.compile runs
    graph: bool = False  # a step is one CUDA graph
    fast: bool = False  # kernels may differ from run to run


def choose_execution(trainer: TrainerConfig) -> Execution:
    """Return what trainer.* asks for on this machine; raise ConfigError if this machine does not have it."""
    has_gpu = torch.cuda.is_available()
    if trainer.device is DeviceChoice.cuda and not has_gpu:
        raise ConfigError("trainer.device=cuda, but torch sees no CUDA GPU here; legal here: auto, cpu")
    use_gpu = has_gpu and trainer.device is not DeviceChoice.cpu
    threads = trainer.threads or usable_cores()
    if trainer.engine is EngineChoice.graph and not use_gpu:
        raise ConfigError(
            f"trainer.engine=graph needs a CUDA GPU, got trainer.device={trainer.device.value} and"
            f" {'a' if has_gpu else 'no'} GPU; legal here: auto, eager"
        )
    graph = use_gpu and trainer.engine is not EngineChoice.eager
    return Execution(
        torch.device("cuda" if use_gpu else "cpu"),
        threads,
        compiled=graph if trainer.compile is None else trainer.compile,
        graph=graph,
        fast=use_gpu and trainer.fast,
    )


def enter_execution(execution: Execution) -> None:
    """Set this process up: threads, memory allocator, deterministic kernels."""
    torch.set_num_threads(execution.threads)
    if execution.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(execution.device)
        # precision=fp32 means float32; bf16 does not go this way.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        # Read by cuBLAS at its first use.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # The benchmark chooses by noisy timing, among deterministic kernels too.
        torch.backends.cudnn.benchmark = execution.fast
        torch.use_deterministic_algorithms(not execution.fast)
        # Meant to detect reads of uninitialised memory; costs one more kernel for each new tensor.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    else:
        _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Tell glibc to reuse large blocks: by default each step maps and unmaps its activations.

    bench/train_speed.py measures the gain.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # malloc.h
    libc.mallopt(mmap_threshold, 2**31 - 1)
    libc.mallopt(trim_threshold, 2**31 - 1)
    libc.mallopt(top_pad, 2**26)


def device_name(device: torch.device) -> str:
    """Return the GPU's or the processor's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def peak_memory_bytes(device: torch.device) -> int:
    """Return the most memory in use so far: the GPU allocator's, or the process's."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else process_peak_bytes()
