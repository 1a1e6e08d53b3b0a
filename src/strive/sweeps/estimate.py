"""How long a plan takes, from the measured speed of cells that were trained before."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from strive import app
from strive.cells import records
from strive.cells.records import Record
from strive.config import identity
from strive.config.platform_keys import CellConfig
from strive.errors import RecordError
from strive.format import counted

_SAMPLES = 8  # records read for one net: their speeds differ by little


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What one cell has left to do."""

    config: CellConfig
    images: int  # training images times epochs left
    flops: int  # of the net's forward pass of one image


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Hours of one device for all the work, one cell after the other."""

    device: str
    hours: float
    measured: int  # cells whose net was measured on the device
    guessed: int  # cells whose speed was taken from other nets, by multiply-adds


def estimate_hours(works: Sequence[Work], runs: Path) -> list[Estimate]:
    """Return an estimate for each device on which a net of the plan was measured, the best known first.

    A net that was not measured on a device is taken to do as many multiply-adds per second there as
    the median of those that were. With no record of these nets there is no estimate.
    """
    by_net: dict[str, list[Work]] = defaultdict(list)
    for work in works:
        by_net[_speed_key(identity.flat(work.config))].append(work)
    speeds = {key: _speeds(some[0].config, key, runs) for key, some in by_net.items()}
    devices = {device for known in speeds.values() for device in known}
    estimates = [_estimate(device, by_net, speeds) for device in devices]
    # A sweep that was measured on a GPU as well as on a processor is meant for the GPU.
    return sorted(estimates, key=lambda each: (-each.measured, not _is_gpu(each.device), each.device))


def device_of(record: Record) -> str:
    """Return the device that a record's speed belongs to; on processors the threads are part of it."""
    made = record.provenance
    return made.device if _is_gpu(made.device) else f"{made.device}, {counted(made.threads, 'thread')}"


def _is_gpu(device: str) -> bool:
    return any(maker in device for maker in _GPU_MAKERS)


_GPU_MAKERS = ("NVIDIA", "Tesla", "GeForce", "Quadro", "RTX", "Instinct", "Radeon")


def _estimate(device: str, by_net: Mapping[str, list[Work]], speeds: Mapping[str, dict[str, float]]) -> Estimate:
    rates = [speeds[key][device] * by_net[key][0].flops for key in by_net if device in speeds[key]]
    seconds, measured = 0.0, 0
    for key, works in by_net.items():
        images = sum(work.images for work in works)
        if device in speeds[key]:
            seconds += images / speeds[key][device]
            measured += len(works)
        else:
            seconds += images * works[0].flops / median(rates)
    total = sum(map(len, by_net.values()))
    return Estimate(device=device, hours=seconds / 3600, measured=measured, guessed=total - measured)


def _speeds(config: CellConfig, key: str, runs: Path) -> dict[str, float]:
    """Return {device: training images per second} of this net, from the records of a few of its cells."""
    found: dict[str, list[float]] = defaultdict(list)
    for record in _some_records(config, key, runs):
        if record.provenance.images_per_second > 0:
            found[device_of(record)].append(record.provenance.images_per_second)
    return {device: median(rates) for device, rates in found.items()}


def _some_records(config: CellConfig, key: str, runs: Path) -> Iterable[Record]:
    prefix = app.current().speed_group(config)
    taken = 0
    for path in runs.glob(f"{prefix}*/record.json"):
        try:
            record = records.read_record(path)
        except (RecordError, FileNotFoundError):
            continue  # whoever plans this cell hears of it
        if _speed_key(record.config) == key:
            yield record
            taken += 1
        if taken == _SAMPLES:
            return


def _speed_key(flat: Mapping[str, object]) -> str:
    """Return what decides a cell's images per second, apart from the device."""
    parts = ("model.", "data.image_size", "data.name", "augment.", "precision", "budget.batch_size")
    return repr([(key, value) for key, value in flat.items() if key.startswith(parts)])
