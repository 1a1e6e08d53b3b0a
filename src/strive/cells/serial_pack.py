"""A pack (app.Pack) that trains its cells one by one."""

from collections.abc import Callable
from typing import Any

from strive.config import identity


class SerialPack:
    """At most one cell, which runs to its end at the next `run_epoch`."""

    room = measured = 1

    def __init__(self, run: Callable[[Any, str, str], Any], on_ended: Callable[[str, Any], object]) -> None:
        """Create an empty pack. run: runs a cell; it gets the config, replaces and fence, as for app.Pack.add."""
        self._run, self._on_ended = run, on_ended
        self._waiting: list[tuple[Any, str, str]] = []

    def __len__(self) -> int:
        """Return 1 if a cell waits to be run."""
        return len(self._waiting)

    def add(self, config: Any, *, replaces: str = "", fence: str = "") -> None:
        """Take a cell."""
        self._waiting.append((config, replaces, fence))

    def run_epoch(self) -> None:
        """Run the cell."""
        while self._waiting:
            config, replaces, fence = self._waiting[0]
            try:
                outcome = self._run(config, replaces, fence)
            except BaseException as error:
                outcome = error
            del self._waiting[0]
            self._on_ended(identity.cell_id(config), outcome)
