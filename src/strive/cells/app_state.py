"""State of a training that an app's function saves and loads: where it goes on, and whether it does so exactly."""

import os
import platform
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from strive import __version__
from strive.cells.history_writer import HistoryWriter
from strive.cells.lease import Claim
from strive.cells.records import utc_now
from strive.cells.saved_state import SavedState, read_saved_state, state_path, write_saved_state
from strive.cells.surroundings import surroundings
from strive.code.hash import Code, changed_files_text
from strive.errors import ContractError, first_line, is_out_of_memory, os_error_text

_PROBE_BYTES = 1 << 20


class AppState:
    """What a process of a cell goes on from, and what it leaves for the next one."""

    def __init__(
        self,
        cell: str,
        claim: Claim,
        history: HistoryWriter,
        code: Code | Callable[[], Code],
        known: Callable[[], Mapping[str, Any]],
    ) -> None:
        """Begin from the start. code, known: as for CellRun."""
        self.data: dict[str, str] = {}  # {name: fingerprint}
        self._cell, self._claim, self._history, self._code, self._known = cell, claim, history, code, known
        self._resumed: SavedState | None = None
        self._started, self._since = utc_now(), time.monotonic()

    def write(self, folder: Path, write: Callable[[Path], object]) -> None:
        """Make the folder of a checkpoint, with what the function `write` makes of the path that it is given.

        Raises OSError for a fault of the disk, ContractError for one of the function.
        """
        try:
            write_saved_state(folder, write, self._history.content(), self._saved)
        except ContractError:
            raise
        except Exception as error:
            self._claim.check()
            if is_out_of_memory(error) or (isinstance(error, OSError) and os_error_text(error) is not None):
                raise
            # Libraries word a full disk in their own way; torch says how many bytes it expected.
            _raise_if_full(folder.parent)
            raise ContractError(
                f"the function given to strive.save raised {type(error).__name__}: {first_line(error)}; it must write"
                " what the cell is to go on from, as one file or one folder, to the path that it is given"
            ) from error

    def why_unusable(self, folder: Path) -> str:
        """Return why the cell cannot resume from a checkpoint, "" if it can."""
        try:
            saved = read_saved_state(folder)
        except ValueError as error:
            return str(error)
        if saved.cell != self._cell:
            return f"it belongs to {saved.cell}"
        if changed := self._changed_code(saved):
            return f"it was written by code {saved.code_hash}, this is {self._code_now().hash}: {changed} changed"
        for name, text in self.data.items():
            if saved.data.get(name, text) != text:
                return f"it was trained on other data ({name}: {saved.data[name]}, this is {text})"
        return ""

    def resume(self, folder: Path) -> Path:
        """Go on from a usable checkpoint, and return the path of what the function wrote."""
        saved = self._resumed = read_saved_state(folder)
        self._started = saved.started
        return state_path(folder)

    def provenance(self) -> dict[str, Any]:
        """Return the fields of a record's provenance."""
        code = self._code_now()
        found = surroundings() | {
            "host": socket.gethostname(),
            "seconds": self._seconds(),
            "resumes": self._resumes(),
            "inexact": self._inexact(),
            "python": platform.python_version(),
            "strive": __version__,
            "code_hash": code.hash,
            "code_files": dict(code.files),
            "started": self._started,
            "finished": utc_now(),
        }
        return found | dict(self._known())

    def _saved(self, files: dict[str, str]) -> SavedState:
        code = self._code_now()
        return SavedState(
            cell=self._cell,
            code_hash=code.hash,
            code_files=dict(code.files),
            step=self._history.step,
            resumes=self._resumes(),
            inexact=self._inexact(),
            started=self._started,
            seconds=self._seconds(),
            surroundings=self._comparable(),
            data=self.data,
            files=files,
        )

    def _resumes(self) -> int:
        return self._resumed.resumes + 1 if self._resumed else 0

    def _seconds(self) -> float:
        return time.monotonic() - self._since + (self._resumed.seconds if self._resumed else 0.0)

    def _inexact(self) -> list[str]:
        """Return why the numbers may differ from those of an uninterrupted cell.

        Asked as late as possible: what a function imports, and where it computes, shows in the course of it.
        """
        saved = self._resumed
        if saved is None:
            return []
        here = self._comparable()
        changes = [(what, before, here.get(what, before)) for what, before in saved.surroundings.items()]
        changes += [(f"data {name}", before, self.data.get(name, before)) for name, before in saved.data.items()]
        where = "" if saved.step is None else f" at step {saved.step}"
        lines = [
            f"{what} changed from {before} to {after}{where}" for what, before, after in changes if before != after
        ]
        code = self._changed_code(saved)
        return [*saved.inexact, *lines, *([f"code changed{where}: {code}"] if code else [])]

    def _comparable(self) -> dict[str, str]:
        """Return {what: value} of the surroundings that the last bits may depend on."""
        here = surroundings() | dict(self._known())
        mine = {"python": platform.python_version(), "device": str(here["device"]), "threads": str(here["threads"])}
        packages: dict[str, str] = here["packages"]
        return mine | packages

    def _code_now(self) -> Code:
        return self._code if isinstance(self._code, Code) else self._code()

    def _changed_code(self, saved: SavedState) -> str:
        """Return the files that have changed since a checkpoint, of those that are known already; more may follow."""
        code = self._code_now()
        both = saved.code_files.keys() & code.files.keys()
        before, after = ({name: files[name] for name in both} for files in (saved.code_files, code.files))
        if isinstance(self._code, Code) and saved.code_hash != code.hash:
            return changed_files_text(saved.code_files, code.files) or "its use of other files"
        return changed_files_text(before, after)


def _raise_if_full(folder: Path) -> None:
    """Raise OSError if the disk takes no file of a few blocks."""
    probe = folder / "probe"
    try:
        with probe.open("wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    finally:
        probe.unlink(missing_ok=True)
