"""Estimated duration of a plan, from the measured speed of cells that were trained before."""

import re
import socket
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median

from strive import app
from strive.cells import records
from strive.cells.records import Provenance, Record
from strive.config.platform_keys import CellConfig
from strive.errors import RecordError
from strive.format import counted
from strive.processes import processor
from strive.sweeps.plan import Planned

_SAMPLES = 8  # records to read for one net: their speeds differ little


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Hours that one device needs for all the work, one cell after the other."""

    device: str
    hours: float
    measured: int  # number of cells whose net was measured on the device
    guessed: int  # number of cells whose speed was derived from other nets' multiply-adds, or from cells that are done
    from_cells: int = 0  # number of done cells, where their seconds are all that is known
    threads: int = 0  # of one cell on a CPU
    here: bool = False  # whether it is a device of this machine

    @property
    def basis(self) -> str:
        """Return where it comes from, in words."""
        if self.from_cells:
            return f"as {counted(self.from_cells, 'done cell')} took"
        guess = f", {counted(self.guessed, 'cell')} guessed from their multiply-adds" if self.guessed else ""
        return f"measured{guess}"


def estimate_hours(cells: Sequence[Planned], runs: Path) -> list[Estimate]:
    """Return an estimate for each device with measurements of the cells' nets, starting with the most measured.

    If a net was not measured on a device, it is assumed to reach the median multiply-adds per second of
    the nets that were. Without records of any of these nets there is no estimate.
    """
    by_net: dict[str, list[Planned]] = defaultdict(list)
    for planned in cells:
        by_net[_speed_key(app.in_use().science(planned.config))].append(planned)
    here: set[str] = set()
    speeds = {key: _speeds(some[0].config, key, runs, here) for key, some in by_net.items()}
    devices = {device for known in speeds.values() for device in known}
    estimates = [replace(_estimate(device, by_net, speeds), here=device in here) for device in devices]
    # If a sweep was measured on a GPU and on a CPU, it is probably meant for the GPU.
    return sorted(estimates, key=lambda each: (-each.measured, not _is_gpu(each.device), each.device))


def estimate_from(done: Sequence[Record], number: int) -> list[Estimate]:
    """Return how long a number of cells takes if each takes as long as those that are done; [] if none is."""
    by_device: dict[str, list[Record]] = defaultdict(list)
    for record in done:
        by_device[device_of(record)].append(record)
    if not by_device or not number:
        return []
    device, records_there = max(by_device.items(), key=lambda each: len(each[1]))
    made = records_there[0].provenance
    return [
        Estimate(
            device=device,
            hours=fmean(record.provenance.seconds for record in records_there) * number / 3600,
            measured=0,
            guessed=number,
            from_cells=len(records_there),
            threads=_threads(made),
            here=_is_here(made),
        )
    ]


def device_of(record: Record) -> str:
    """Return the device on which a record's speed was measured; for CPUs this includes the number of threads."""
    made = record.provenance
    return f"{made.device}, {counted(made.threads, 'thread')}" if _threads(made) else made.device


def _threads(made: Provenance) -> int:
    return 0 if _is_gpu(made.device) else made.threads


def _is_here(made: Provenance) -> bool:
    # Containers and virtual machines of one name are many.
    return made.host == socket.gethostname() and (_is_gpu(made.device) or made.device == processor())


def _is_gpu(device: str) -> bool:
    return any(maker in device for maker in _GPU_MAKERS)


_GPU_MAKERS = ("NVIDIA", "Tesla", "GeForce", "Quadro", "RTX", "Instinct", "Radeon")


def _estimate(device: str, by_net: Mapping[str, list[Planned]], speeds: Mapping[str, dict[str, float]]) -> Estimate:
    rates = [speeds[key][device] * by_net[key][0].flops for key in by_net if device in speeds[key]]
    seconds, measured = 0.0, 0
    for key, cells in by_net.items():
        images = sum(planned.images_left for planned in cells)
        if device in speeds[key]:
            seconds += images / speeds[key][device]
            measured += len(cells)
        else:
            seconds += images * cells[0].flops / median(rates)
    total = sum(map(len, by_net.values()))
    threads = int(found[1]) if (found := re.search(r", (\d+) threads?$", device)) else 0
    return Estimate(device=device, hours=seconds / 3600, measured=measured, guessed=total - measured, threads=threads)


def _speeds(config: CellConfig, key: str, runs: Path, here: set[str]) -> dict[str, float]:
    """Return {device: training images per second} of this net, from the records of a few of its cells.

    here: gets the devices that are this machine's.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for record in _some_records(config, key, runs):
        rate = record.provenance.details.get("images_per_second")
        if isinstance(rate, int | float) and rate > 0:
            found[device_of(record)].append(rate)
            if _is_here(record.provenance):
                here.add(device_of(record))
    return {device: median(rates) for device, rates in found.items()}


def _some_records(config: CellConfig, key: str, runs: Path) -> Iterable[Record]:
    prefix = app.in_use().cell_name(config).partition("-")[0]
    taken = 0
    for path in runs.glob(f"{prefix}-*/record.json"):
        try:
            record = records.read_record(path)
        except (RecordError, FileNotFoundError):
            continue  # reported when this cell is planned
        if _speed_key(record.config) == key:
            yield record
            taken += 1
        if taken == _SAMPLES:
            return


def _speed_key(science: Mapping[str, object]) -> str:
    """Return the knobs that determine a cell's images per second, apart from the device."""
    parts = ("model.", "data.image_size", "data.name", "augment.", "precision", "budget.batch_size")
    return repr([(key, value) for key, value in science.items() if key.startswith(parts)])
