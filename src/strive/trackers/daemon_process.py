"""Handle of the process that shows cells on W&B, for its parent. Imports neither W&B nor torch."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from strive import app
from strive.json_lines import from_line, to_line
from strive.processes import own_source_first
from strive.trackers.protocol import ShowRequest, UploadEvent, UploadEventKind

# Its telemetry would hold up the end where a firewall swallows packets.
_QUIET = {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": os.environ.get("WANDB_ERROR_REPORTING", "false")}
_FOLDERS = ("TMPDIR", "WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR")


class DaemonProcess:
    """A child process: requests go in, events come out."""

    def __init__(
        self,
        runs: Path,
        *,
        log: Path,
        on_event: Callable[[UploadEvent], object],
        overrides: Mapping[str, str] | None = None,
    ) -> None:
        """Start it.

        runs: folder of the cells. log: gets what W&B's client prints, if anything, in the end. on_event: called in
        another thread. overrides: entity and project, where they are not the cells' own. Raises OSError.
        """
        self.events: list[UploadEvent] = []
        self._on_event = on_event
        self._answered = threading.Event()
        self._last = time.monotonic()
        # Whatever W&B's client keeps while it sends: not in the cell's folder, where all of it is already.
        self._scratch = tempfile.TemporaryDirectory(prefix="strive-wandb-", ignore_cleanup_errors=True)
        scratch = self._scratch.name
        self._log, self._said = log, Path(scratch) / "said.txt"
        program = [sys.executable, "-P", "-m", "strive.trackers.daemon"]
        with self._said.open("wb") as file:
            # In a session of its own: a Ctrl-C is for the cells, which then have something more to show.
            self._process = subprocess.Popen(
                [*program, str(runs.absolute()), scratch, json.dumps(dict(overrides or {}))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=own_source_first(os.environ, app.sources()) | _QUIET | dict.fromkeys(_FOLDERS, scratch),
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests = self._process.stdin
        self._reader = threading.Thread(target=self._listen, args=(self._process.stdout,), name="events", daemon=True)
        self._reader.start()

    def show(self, *, cells: Iterable[str] = (), plans: Sequence[str] = ()) -> None:
        """Have these shown from now on."""
        with suppress(OSError, ValueError):  # it has ended, or its stdin is closed
            self._requests.write(to_line(ShowRequest(cells=list(cells), plans=list(plans))).decode())
            self._requests.flush()

    def wait_for_server(self, seconds: float) -> UploadEvent | None:
        """Return its first event about the server, or None if there was none in time."""
        self._answered.wait(seconds)
        return next((event for event in self.events if event.kind in _ON_SERVER), None)

    def leave(self) -> None:
        """Close its stdin: it sends what is there and ends."""
        with suppress(OSError):
            self._requests.close()
        self._last = time.monotonic()

    @property
    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    @property
    def silent_seconds(self) -> float:
        """Seconds since its last event."""
        return time.monotonic() - self._last

    def kill(self) -> None:
        """End it at once; what W&B has then, W&B is asked next time. W&B's helper process leaves by itself."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(timeout=5)
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        with suppress(OSError):
            self._keep_log()
        self._scratch.cleanup()

    def _keep_log(self) -> None:
        """Append what W&B's client printed, if anything, to the log; not into a folder that does not exist."""
        said = self._said.read_bytes()
        if said and self._log.parent.is_dir():
            with self._log.open("ab") as log:
                log.write(said)

    def _listen(self, lines: IO[str]) -> None:
        with suppress(ValueError):  # closed meanwhile
            for line in lines:
                event = from_line(UploadEvent, line)
                self._last = time.monotonic()
                self._on_event(event)
                self.events.append(event)
                if event.kind in _ON_SERVER:
                    self._answered.set()
        self._answered.set()


_ON_SERVER = (UploadEventKind.online, UploadEventKind.offline, UploadEventKind.retrying)
