"""A project on W&B: its W&B runs of cells and plans, their files and histories."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strive.errors import ServerError
from strive.trackers.server import asked, connect, host

if TYPE_CHECKING:
    from wandb.apis.public import Run

TRAIN, PLAN = "train", "plan"  # job types of the W&B runs that count
PLAN_FILE = "plan.json"


class Project:
    """A project on a server that has taken the key."""

    def __init__(self, entity: str, name: str) -> None:
        """Ask the server once. entity: "" is WANDB_ENTITY, or else the key's own.

        Raises SilentError where nobody answers, or the key is refused; ServerError for what else is wrong.
        """
        self.host = host()
        self._api = connect(self.host)
        with asked(self.host):
            self.entity = entity or str(self._api.settings["entity"] or self._api.default_entity or "")
        if not self.entity:
            raise ServerError(f"the key for {self.host} has no entity of its own; say --source wandb:ENTITY/{name}")
        self.name = name

    def __str__(self) -> str:
        return f"wandb:{self.entity}/{self.name}"

    def runs(self, show: Callable[[int, int], None]) -> "list[Run]":
        """Return the W&B runs of cells and plans, the oldest first. show: called with how many of how many there are.

        Raises SilentError, and ServerError if there is no such project.
        """
        found: list[Run] = []
        condition = {"jobType": {"$in": [TRAIN, PLAN]}}
        with asked(self.host), _no_folders():
            # Not lazy: one request for 50 of them, records and all, not one for each.
            runs = self._api.runs(f"{self.entity}/{self.name}", filters=condition, order="+created_at", lazy=False)
            try:
                for run in runs:
                    found.append(run)
                    show(len(found), len(runs))
            except ValueError as error:
                if "Could not find project" in str(error):
                    raise ServerError(self._unknown()) from None
                raise
        return found

    def plan(self, run: "Run") -> bytes:
        """Return the plan that a W&B run holds; empty if its upload has not come so far."""
        with asked(self.host), tempfile.TemporaryDirectory() as folder:
            for file in run.files(names=[PLAN_FILE]):
                file.download(root=folder, replace=True).close()
                return (Path(folder) / PLAN_FILE).read_bytes()
        return b""

    def history(self, run: "Run") -> list[dict[str, Any]]:
        """Return every row of a W&B run's history."""
        count = run.historyLineCount or 0
        with asked(self.host):
            rows: Any = run.history(samples=max(count, 1), pandas=False)
            # One request, where a scan takes three; but a server may give a sample all the same.
            return rows if len(rows) >= count else list(run.scan_history())

    def _unknown(self) -> str:
        names: list[str] = []
        with suppress(Exception):  # the list is but a help
            names = sorted(str(each.name) for each in self._api.projects(self.entity))
        legal = f"{self.entity} has {', '.join(names)}" if names else f"{self.entity} has none that this key can read"
        return f"there is no project {self} on {self.host}; {legal}"


@contextmanager
def _no_folders() -> Iterator[None]:
    """Keep off the disk the empty folders that the client makes, one for each W&B run that it lists."""
    before = os.environ.get("WANDB_DIR")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WANDB_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["WANDB_DIR"]
            if before is not None:
                os.environ["WANDB_DIR"] = before
