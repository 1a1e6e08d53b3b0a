"""Files of a cell in training, written through its lease: those that may be missing, and the record with all others."""

import errno
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from strive import signals
from strive.cells import records
from strive.cells.checkpoints import Checkpoints, generations, move, remove, remove_checkpoints
from strive.cells.history import HISTORY
from strive.cells.lease import Claim
from strive.cells.ledger import note_scoring
from strive.cells.records import Record

CONFIG = "config.yaml"
_PAUSES_SECONDS = (0.5, 4.0)  # before the next attempts to write a record
# Of a cell, and not of one training.
_OF_THE_CELL = re.compile(r"record(-\d+)?\.json|log\.txt|claim|retraining|history-\d+\.jsonl|\..*\.tmp")


class RunFiles:
    """The files of one training of a cell, in the cell's folder or, if they are to replace a result, in one inside."""

    def __init__(self, record: Path, folder: Path, claim: Claim, say: Callable[[str], None]) -> None:
        """Set the path of the record, the folder of all other files, and the lease."""
        self.folder = folder
        self._record, self._claim, self._say = record, claim, say
        self._missing = set[str]()  # could not be written at the last attempt

    def write(self, name: str, content: bytes) -> None:
        """Write a file that belongs to the record; raises OSError."""
        records.write_whole(self.folder / name, content, scratch=self._claim.scratch, durable=False)

    def publish(self, name: str, make: Callable[[], bytes]) -> None:
        """Write an optional file: an error is printed once and does not end the cell."""
        try:
            self.write(name, make())
        except Exception as error:
            self._claim.check()
            if name not in self._missing:
                self._missing.add(name)
                self._say(f"{name} could not be made ({error}); the cell goes on without it")
        else:
            self._missing.discard(name)

    def keep_earlier_history(self) -> None:
        """Rename the history of a training that this one does not continue."""
        path, number = self.folder / HISTORY, 1
        if not path.exists():
            return
        while (earlier := self.folder / f"history-{number}.jsonl").exists():
            number += 1
        move(path, earlier, self._claim.scratch)

    def put_record(
        self,
        record: Record,
        checkpoints: Checkpoints,
        write_files: Callable[[], object] = lambda: None,
        also: tuple[str, ...] = (),
    ) -> None:
        """Write the record, after the files that it implies, retrying if they cannot be written.

        checkpoints: those that led to it; with a result they are removed. write_files: writes the files. also: names
        of files that belong to a result beside the platform's own.

        Raises OSError if the last attempt fails.
        """
        for seconds in (*_PAUSES_SECONDS, None):
            try:
                self._put_in_place(record, checkpoints, write_files, also)
                break
            except OSError as error:
                self._claim.check()
                if seconds is None or signals.requested():
                    raise
                self._say(f"the record could not be written ({error}); tried again")
                if record.status.finished and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    checkpoints.remove_previous()
                time.sleep(seconds)

    def _put_in_place(
        self, record: Record, checkpoints: Checkpoints, write_files: Callable[[], object], also: tuple[str, ...]
    ) -> None:
        """Write the record, unless a failed retraining would replace a result."""
        cell = self._record.parent
        if self.folder != cell and not record.status.finished:
            return
        write_files()
        left = {path.name for path in generations(checkpoints.path)}
        # Files are moved only after all have been written, so that old and new ones are never mixed.
        ready = (lambda: self._replace(also, left)) if self.folder != cell else lambda: None
        records.write_record(cell.parent, record, scratch=self._claim.scratch, ready=ready)
        note_scoring(cell.parent, record)
        if record.status.finished:
            with suppress(OSError):  # the next process removes them
                remove_checkpoints(cell / checkpoints.path.name)
        if self.folder != cell:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _replace(self, also: tuple[str, ...], left: set[str]) -> None:
        """Replace the old training's files with the new ones, but for those in `left`."""
        cell = self._record.parent
        names = {path.name for path in self.folder.iterdir()} - left
        new = {name for name in names if "-unused-" not in name and not _OF_THE_CELL.fullmatch(name)}
        for name in sorted(new):
            move(self.folder / name, cell / name, self._claim.scratch)
        for name in {CONFIG, HISTORY, *also} - new:
            if (cell / name).exists():  # old pictures, for one, would not match the new numbers
                remove(cell / name)
