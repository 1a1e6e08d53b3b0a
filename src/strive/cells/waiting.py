"""Trains a cell once no other process does."""

import time
from collections.abc import Callable
from pathlib import Path

from strive import signals
from strive.cells.lease import LeaseMonitor
from strive.cells.records import Record
from strive.console import CONSOLE
from strive.errors import LeasedError, StoppedError


def run_when_free(folder: Path, train: Callable[[str], Record]) -> Record:
    """Train a cell; while another process trains it, wait until that process ends or is gone.

    folder: the cell's. train: gets the fence (`lease.LeaseMonitor`), raises LeasedError while another process trains
    the cell. Raises StoppedError if a signal ends the wait.
    """
    leases, fence, announced = LeaseMonitor(), "", ""
    while True:
        try:
            return train(fence)
        except LeasedError as error:
            if error.owner.token != announced:
                announced = error.owner.token
                CONSOLE.print(
                    f"{error}; waits until it ends, or has sent no heartbeat for"
                    f" {error.owner.lease_seconds:g} s (Ctrl-C leaves it alone)"
                )
            while (free := leases.fence(folder)) is None:
                if signals.requested():
                    raise StoppedError(f"stopped by {signals.requested()}; {error.owner} goes on") from None
                time.sleep(1)
            fence = free
