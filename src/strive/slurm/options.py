"""Knobs of hydra.launcher for hydra/launcher=slurm."""

from dataclasses import dataclass, field
from typing import Any

from strive.errors import ConfigError
from strive.launch.retries import Retries


@dataclass
class SlurmOptions:
    """Knobs of hydra.launcher for hydra/launcher=slurm. What is empty or 0 is left to the cluster's defaults."""

    partition: str = ""  # sbatch --partition
    account: str = ""  # sbatch --account
    qos: str = ""  # sbatch --qos
    constraint: str = ""  # sbatch --constraint: features that a node must have
    gres: str = ""  # sbatch --gres, such as gpu:1; a cell's needs.gres goes before it
    timeout_min: int = 60  # time limit of a job in minutes; a cell's needs.timeout_min goes before it
    mem_gb: float = 0.0  # memory of a job; a cell's needs.mem_gb goes before it
    cpus_per_task: int = 1  # cores of a job, shared by the cells that it trains side by side
    name: str = "strive"  # what squeue shows
    setup: list[str] = field(default_factory=list)  # shell lines before Python starts, such as `module load cuda`
    additional_parameters: dict[str, Any] = field(default_factory=dict)  # further options of sbatch: {nice: 100}
    array_parallelism: int = 256  # jobs of one array that run at once
    cells_per_job: int = 1  # cells that share an allocation, one after the other or side by side
    cells_per_device: int = 0  # side by side on each GPU, 0: as many as are fastest; or processes, 0: one on each core
    signal_delay_s: int = 90  # seconds before the time limit at which cells write checkpoints and the job is requeued
    max_array_size: int = 0  # jobs in one array; 0 asks the cluster
    poll_seconds: float = 5.0  # between two looks at the records and the queue
    detach: bool = False  # submit and return; the same command later waits, or finishes what is missing
    snapshot: bool = True  # jobs train with the code as it was at submission, not as it is when they start
    retries: Retries = field(default_factory=Retries)  # how often one launch tries a cell again

    def check(self) -> None:
        """Raise ConfigError for values that mean nothing."""
        at_least = {
            "timeout_min": 1, "mem_gb": 0, "cpus_per_task": 1, "array_parallelism": 1, "cells_per_job": 1,
            "cells_per_device": 0, "signal_delay_s": 5, "max_array_size": 0, "poll_seconds": 0.1,
        }  # fmt: skip
        errors = [
            f"hydra.launcher.{name} must be {least} or more, got {getattr(self, name)}"
            for name, least in at_least.items()
            if not getattr(self, name) >= least
        ]
        if self.signal_delay_s >= 60 * self.timeout_min:
            errors.append(
                f"hydra.launcher.signal_delay_s must be less than the time limit of {60 * self.timeout_min} s"
                f" (hydra.launcher.timeout_min={self.timeout_min}), got {self.signal_delay_s}"
            )
        if errors:
            raise ConfigError("\n".join(errors))
