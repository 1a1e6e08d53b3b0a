"""What one process does with one cell, from its claim to its record."""

import errno
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

import torch

from allcnn.config import Config
from allcnn.data import Splits
from allcnn.result import result_of, write_arrays
from allcnn.sitting import Sitting, cell_log
from allcnn.training import Execution, Outcome, Training, previous_checkpoint
from strive import signals
from strive.cells import records
from strive.cells.lease import Claim, LostClaimError, owner_of, surely_dead, take_claim
from strive.cells.records import Record, Status
from strive.config import identity
from strive.console import CONSOLE
from strive.errors import NoRoomError

_PAUSES_SECONDS = (0.5, 4.0)  # before a disk that did not take a record is asked again


class Attempt:
    """A cell that this process has claimed. Leaving the context gives the claim back."""

    def __init__(self, config: Config, *, replaces: str, fence: str) -> None:
        """Take the claim. replaces, fence: as for `allcnn.cells.run_cell`.

        Raises ClaimedError while another process trains the cell.
        """
        self.config, self.cell, self._replaces = config, identity.cell_id(config), replaces
        self._path = records.record_path(Path(config.runs), self.cell)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._stack = ExitStack()
        with ExitStack() as stack:
            self.log = stack.enter_context(_log_file(self.cell, self._path.with_name("log.txt")))
            self._claim = stack.enter_context(self._claimed(fence))
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        """Return the attempt."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the claim back."""
        self._stack.close()

    @property
    def training(self) -> Training:
        """The cell's training, from `begin` on."""
        return self.sitting.training

    def begin(self, execution: Execution, load: Callable[[Config, torch.device], Splits]) -> Record | None:
        """Make the training ready; return the record of the cell if that already failed.

        Raises what `load` raises: images that cannot be read are for the user to put right.
        """
        self._folder = self._path.parent
        if self._path.exists() and self._replaces:
            self._folder = self._path.with_name(records.RETRAINING)
            self._folder.mkdir(exist_ok=True)
        self.sitting = Sitting(self.config, execution, self._folder, self._claim)
        splits = load(self.config, execution.device)
        try:
            self.sitting.begin(splits)
            self._stack.enter_context(self.sitting.progress)
        except BaseException as error:
            return self.fail(error)
        return None

    def finish(self) -> Record:
        """Return the record of a cell that was trained to its end, with its files in their place."""
        try:
            outcome = self.sitting.finish()
            status = Status.diverged if outcome.diverged else Status.done
            record = self.sitting.record(status, result_of(outcome), None, outcome.train_seconds)
            return self._published(record, outcome)
        except BaseException as error:
            if isinstance(error, OSError) and not self.training.diverged:
                self.sitting.keep()  # the next process has nothing to train, then, only to write
            return self.fail(error)

    def fail(self, error: BaseException) -> Record:
        """Return the record of a cell that failed, or raise the error if it says nothing of the cell."""
        if isinstance(error, signals.StoppedError | LostClaimError | NoRoomError):
            self.log.warning("%s", error)
            raise error
        if not isinstance(error, Exception | SystemExit):  # a user's net may call sys.exit
            raise error
        self._claim.check()
        status = Status.out_of_memory if out_of_memory(error) else Status.error
        return self._published(self.sitting.failed(status, error))

    def _published(self, record: Record, outcome: Outcome | None = None) -> Record:
        """Put the record in its place, with the files of its result; a disk that does not take them is asked again.

        Raises OSError when it still does not.
        """
        for seconds in (*_PAUSES_SECONDS, None):
            try:
                self._publish(record, outcome)
                break
            except OSError as error:
                self._claim.check()
                if seconds is None or signals.requested():
                    raise
                self.log.warning("the record could not be written (%s); tried again", error)
                if outcome is not None and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    # What was trained lies in the last one, too.
                    previous_checkpoint(self._folder / "checkpoint.pt").unlink(missing_ok=True)
                time.sleep(seconds)
        return record

    def _publish(self, record: Record, outcome: Outcome | None) -> None:
        """Put the record in its place; one that failed to replace a result stays beside it."""
        cell, folder = self._path.parent, self._folder
        if folder != cell and not record.status.finished:
            return
        if outcome is not None:
            write_arrays(folder, outcome, scratch=self._claim.scratch)
            self.sitting.complete()
        # What replaces a result moves when there is room for all of it: old and new are never mixed.
        ready = self._replace if folder != cell else lambda: None
        records.write_record(Path(self.config.runs), record, scratch=self._claim.scratch, ready=ready)
        if record.status.finished:
            with suppress(OSError):  # whoever comes next removes them
                remove_checkpoints(cell)
        if folder != cell:
            shutil.rmtree(folder, ignore_errors=True)

    def _replace(self) -> None:
        """Put what was trained again in the place of the old training's files."""
        cell, folder, scratch = self._path.parent, self._folder, self._claim.scratch
        for name in ("weights.pt", "predictions.npz", "epochs.jsonl", "config.yaml"):
            # By way of the claim's folder, as everything that belongs to the cell.
            os.replace(folder / name, scratch / name)
            os.replace(scratch / name, cell / name)
        for name in ("inputs.png", "mistakes.png"):
            # Of the new training or none: those of the old one would stand beside the new numbers.
            (cell / name).unlink(missing_ok=True)
            if (folder / name).exists():
                os.replace(folder / name, scratch / name)
                os.replace(scratch / name, cell / name)

    def _claimed(self, fence: str) -> Claim:
        folder = self._path.parent
        before = owner_of(folder)
        claim = take_claim(folder, self.config.trainer.lease_seconds, fence=fence)
        if before is not None and before.token != claim.owner.token:
            why = "its process is gone" if surely_dead(before) else f"no sign of life for {before.lease_seconds:g} s"
            self.log.warning("takes the cell over from %s: %s", before, why)
            CONSOLE.print(f"{folder.name}: takes over from {before}: {why}")
        return claim


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints that led to a record."""
    path = folder / "checkpoint.pt"
    path.unlink(missing_ok=True)
    previous_checkpoint(path).unlink(missing_ok=True)


def out_of_memory(error: BaseException) -> bool:
    """Return whether the error says that memory ran out."""
    # torch's allocator for the CPU raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


class _LogFile(logging.Handler):
    """Appends to log.txt. It is for people: a disk that does not take a line costs that line, and is said once."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._told = path, False

    def emit(self, record: logging.LogRecord) -> None:
        """Append a line."""
        try:
            with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(self.format(record) + "\n")
        except Exception as error:  # as in logging's own handlers
            if not self._told:
                self._told = True
                CONSOLE.print(
                    f"{self._path.parent.name}: log.txt could not be written ({error}); lines are missing there"
                )


@contextmanager
def _log_file(cell: str, path: Path) -> Iterator[logging.Logger]:
    log = cell_log(cell)
    handler = _LogFile(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield log
    finally:
        log.removeHandler(handler)
        handler.close()
