"""Checkpoints of a cell, written through its lease and checked before training resumes from one."""

import time
from collections.abc import Callable
from pathlib import Path

from allcnn.training import State, previous_checkpoint, read_checkpoint, write_checkpoint
from strive.cells.lease import Claim
from strive.code.hash import Code, changed_files


class Checkpoints:
    """The newest checkpoint in a folder, and the one before it."""

    def __init__(self, folder: Path, cell: str, code: Code, claim: Claim, say: Callable[[str], None]) -> None:
        """Set the folder and the lease for writing. say: prints a message for the user."""
        self.path = folder / "checkpoint.pt"
        self._cell, self._code, self._claim, self._say = cell, code, claim, say

    def newest(self) -> State | None:
        """Return the state to resume from: the last checkpoint, or the previous one if the last is damaged."""
        for path in filter(Path.exists, (self.path, previous_checkpoint(self.path))):
            state, reason = self._usable(path)
            if state is not None:
                return state
            self._put_aside(path, reason)
        return None

    def write(self, state: State) -> None:
        """Write a checkpoint; raises OSError."""
        write_checkpoint(self.path, state, scratch=self._claim.scratch)

    def remove_previous(self) -> None:
        """Free space on a full disk; the last checkpoint contains all progress."""
        previous_checkpoint(self.path).unlink(missing_ok=True)

    def put_aside(self, why: str) -> None:
        """Rename the existing checkpoints, because this cell cannot resume from them."""
        for path in filter(Path.exists, (self.path, previous_checkpoint(self.path))):
            self._put_aside(path, why)

    def _usable(self, path: Path) -> tuple[State | None, str]:
        """Return the state, or None and the reason why this cell cannot resume from it."""
        try:
            state = read_checkpoint(path)
        except ValueError as error:
            return None, str(error)
        if state is None:
            return None, "it is gone"
        reason = self._unusable(state)
        return (None, reason) if reason else (state, "")

    def _unusable(self, state: State) -> str | None:
        if state.get("cell") != self._cell:
            return f"it belongs to {state.get('cell')}"
        if state["code_hash"] != self._code.hash:
            changed = changed_files(state.get("code_files", {}), self._code.files)
            what = f": {changed} changed" if changed else ""
            return f"it was written by code {state['code_hash']}, this is {self._code.hash}{what}"
        return None

    def _put_aside(self, path: Path, why: str) -> None:
        aside = path.with_name(f"{path.stem}-unused-{int(time.time())}.pt")
        # Via the claim's folder: a process that has lost the cell must not move its new owner's files.
        path.rename(self._claim.scratch / aside.name)
        (self._claim.scratch / aside.name).rename(aside)
        self._say(f"cannot go on from {path.name}, kept as {aside.name}, because {why}")


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints that led to a record."""
    path = folder / "checkpoint.pt"
    path.unlink(missing_ok=True)
    previous_checkpoint(path).unlink(missing_ok=True)
