"""One process's run of a cell: training with its lease, checkpoints, history and record."""

import errno
import os
import platform
import shutil
import socket
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import torch

from allcnn.checkpoints import Checkpoints, remove_checkpoints
from allcnn.config import Config
from allcnn.data import NO_FILES, Splits
from allcnn.progress import CellProgress
from allcnn.result import history_line, metrics_of, outputs_of, write_arrays
from allcnn.same_images import IMAGES
from allcnn.sample_images import inputs_picture, mistakes_picture
from allcnn.training import (
    LAYOUT,
    Execution,
    Outcome,
    State,
    Training,
    bf16_of,
    device_name,
    enter_execution,
    peak_memory_bytes,
)
from strive import __version__, signals
from strive.cells import records
from strive.cells.history import HISTORY
from strive.cells.lease import Claim, owner_of, surely_dead, take_claim
from strive.cells.log_file import log_file
from strive.cells.predictions import largest_class_error
from strive.cells.records import Failure, Provenance, Record, Status
from strive.cells.schema1 import EPOCHS
from strive.code.hash import code_of
from strive.config import identity
from strive.console import CONSOLE
from strive.errors import LostLeaseError, NoRoomError, StoppedError

_PAUSES_SECONDS = (0.5, 4.0)  # before the next attempts to write a record


class CellRun:
    """A cell that this process has leased. Leaving the context releases the lease."""

    def __init__(self, config: Config, *, replaces: str, fence: str) -> None:
        """Take the lease. replaces, fence: as for `allcnn.cells.run_cell`.

        Raises LeasedError while another process trains the cell.
        """
        self.config, self.cell, self._replaces = config, identity.cell_id(config), replaces
        self._path = records.record_path(Path(config.runs), self.cell)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self.packed = 1  # most cells that trained at the same time, including this one
        self._stack = ExitStack()
        with ExitStack() as stack:
            self.log = stack.enter_context(log_file(self.cell, self._path.with_name("log.txt")))
            self.claim = stack.enter_context(self._claimed(fence))
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        """Return the run."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the lease."""
        self._stack.close()

    @property
    def training(self) -> Training:
        """Return the cell's training, which exists after `begin`."""
        assert self._training is not None
        return self._training

    def begin(self, execution: Execution, load: Callable[[Config, torch.device], Splits]) -> Record | None:
        """Prepare the training; return the record of the cell if that failed.

        Raises the errors of `load`, such as ConfigError for images that cannot be read.
        """
        self.folder = self._path.parent
        if self._path.exists() and self._replaces:
            self.folder = self._path.with_name(records.RETRAINING)
            self.folder.mkdir(exist_ok=True)
        self.code = code_of(self.config.model.builder)
        self.started = _now()
        self.resumes, self.inexact = 0, list[str]()
        self.fingerprint, self.num_train, self.on_disk = "", 0, NO_FILES
        self._training: Training | None = None
        self._missing = set[str]()  # files that could not be written at the last attempt
        self._kept, self._no_checkpoint = 0, ""  # step of the checkpoint on disk; why a later one could not be written
        self._last_write, self._fallback_said = time.monotonic(), ""
        self._checkpoints = Checkpoints(self.folder, self.cell, self.code, self.claim, self._say)
        self.state = self._newest_state()
        self.execution = self._resumed_execution(execution)
        enter_execution(self.execution)
        splits = load(self.config, execution.device)
        try:
            self._begin_training(splits)
            self._stack.enter_context(self.progress)
        except BaseException as error:
            return self.fail(error)
        return None

    def on_step(self) -> None:
        """Show the cell's progress, and write a checkpoint if one is due.

        Raises StoppedError, after a checkpoint, if a signal requested a stop, and LostLeaseError.
        """
        step = self.training.step
        self.claim.check()
        self.progress.step(step)
        self.claim.note(**self.progress.numbers())
        # Printed once: if only an epoch's last batch falls back, the reason is cleared at the start of each epoch.
        if self.training.fallback not in ("", self._fallback_said):
            self._fallback_said = self.training.fallback
            self._say(f"falls back to a slower path: {self._fallback_said}")
        due = time.monotonic() - self._last_write >= 60 * self.config.trainer.checkpoint_minutes
        if due or signals.requested():
            self.keep()
            self._last_write = time.monotonic()
        if signals.requested():
            raise StoppedError(f"{self.cell}: stopped by {signals.requested()} after step {step}{self._not_kept()}")

    def on_epoch(self) -> None:
        """Publish the numbers of the epoch that has just ended."""
        line = self.training.history[-1]
        self.progress.epoch(line)
        self._publish(HISTORY, self._history_text)
        self.log.info("%s", line)

    def keep(self) -> None:
        """Write a checkpoint if anything was trained; if it cannot be written, training continues without it."""
        step = self.training.step
        if not step:
            return
        try:
            self._checkpoints.write(self.training.snapshot() | self._marks())
        except OSError as error:
            self.claim.check()
            first, self._no_checkpoint = not self._no_checkpoint, str(error)
            kept = "an earlier one is kept" if self._kept else "there is none yet"
            goes_on = not signals.requested() and not self.training.finished
            if first or not goes_on:  # print it once, not every few minutes
                self._say(
                    f"the checkpoint could not be written ({error}); {kept}{', training goes on' if goes_on else ''}"
                )
        else:
            self._kept, self._no_checkpoint = step, ""

    def finish(self) -> Record:
        """Return the record of a fully trained cell, after writing its files."""
        try:
            outcome = self._outcome()
            status = Status.diverged if outcome.diverged else Status.done
            record = self._record(status, outcome, None)
            return self._published(record, outcome)
        except BaseException as error:
            if isinstance(error, OSError) and not self.training.diverged:
                self.keep()  # then the next process only has to write the files
            return self.fail(error)

    def fail(self, error: BaseException) -> Record:
        """Return the record of a failed cell, or raise the error if the cell did not cause it."""
        if isinstance(error, StoppedError | LostLeaseError | NoRoomError):
            self.log.warning("%s", error)
            raise error
        if not isinstance(error, Exception | SystemExit):  # a user's net may call sys.exit
            raise error
        self.claim.check()
        status = Status.out_of_memory if out_of_memory(error) else Status.error
        return self._published(self._failed(status, error))

    def _begin_training(self, splits: Splits) -> None:
        """Create the training, new or from the checkpoint, and its progress display."""
        config = self.config
        self.splits = splits
        self.fingerprint, self.num_train, self.on_disk = splits.fingerprint, len(splits.train), splits.on_disk
        self._check_images()
        for line in splits.on_disk.left_out:
            self._say(f"left out of the images of {config.data.name}: {line}")
        self._publish("config.yaml", self._config_text)
        if count := config.tracker.images:
            self._publish("inputs.png", lambda: inputs_picture(config, splits, count))
        self._training = Training(config, splits, self.execution)
        if self.state is not None:
            self.training.restore(self.state)
            self._note_compilation(self.state)
        # Drops the lines after the checkpoint, because those epochs are trained again.
        self._publish(HISTORY, self._history_text)
        how, step = "resumes" if self.state else "starts", self.training.step
        self.log.info("%s from step %d on %s", how, step, self.execution)
        self.progress = CellProgress(config, len(splits.train), self.training.num_steps)
        self._last_write = time.monotonic()

    def _newest_state(self) -> State | None:
        """Return the state to resume from, if there is one."""
        state = self._checkpoints.newest()
        if state is not None:
            self.resumes, self.inexact, self.started = state["resumes"] + 1, state["inexact"], state["started"]
            self._kept = state["step"]
            self._say(f"resumes from step {state['step']}")
        return state

    def _check_images(self) -> None:
        if self.state is None or self.state["data_fingerprint"] == self.fingerprint:
            return
        before = self.state["data_fingerprint"]
        self._checkpoints.put_aside(f"it was trained on other images ({before}, these are {self.fingerprint})")
        self.state, self.resumes, self.inexact, self.started, self._kept = None, 0, [], _now(), 0

    def _resumed_execution(self, wanted: Execution) -> Execution:
        """Keep the checkpoint's settings that affect the last bits; list the changed ones in `inexact`."""
        if self.state is None:
            return wanted
        for what, here in self._surroundings(wanted).items():
            if self.state.get(what, here) != here:
                self.inexact.append(f"{what} changed from {self.state[what]} to {here} at step {self.state['step']}")
        same_device = self.state["device"] == device_name(wanted.device)
        compiled = self.state["compiled"] if same_device else wanted.compiled
        return replace(wanted, threads=self.state["threads"], compiled=compiled)

    def _note_compilation(self, state: State) -> None:
        before, now = state["compiled"], self.training.compiled
        if before != now:
            self.inexact.append(f"torch.compile changed from {before} to {now} at step {state['step']}")

    def _outcome(self) -> Outcome:
        """Score the test split, and report a divergence."""
        config, count = self.config, self.config.tracker.images
        outcome = self.training.outcome()
        if count:
            test = outcome.test
            self._publish(
                "mistakes.png", lambda: mistakes_picture(config, self.splits, test.logits, test.labels, count)
            )
        if outcome.diverged:
            self.log.info("diverged: %s", outcome.diverged)
            CONSOLE.print(f"{self.cell}: diverged: {outcome.diverged}")
        return outcome

    def _record(self, status: Status, outcome: Outcome | None, failure: Failure | None) -> Record:
        """Return the record of this cell."""
        flat = identity.flat(self.config)
        science = identity.science(flat)
        return Record(
            schema=records.SCHEMA,
            cell=self.cell,
            status=status,
            config=science,
            logistics={key: value for key, value in flat.items() if key not in science},
            metrics=metrics_of(outcome) if outcome else {},
            chance={"test_error": largest_class_error(self.splits.test.labels.numpy())} if outcome else {},
            cause=f"{outcome.diverged} of {self.config.budget.epochs}" if outcome and outcome.diverged else "",
            data={IMAGES: self.fingerprint} if self.fingerprint else {},
            outputs=outputs_of(outcome) if outcome else {},
            failure=failure,
            provenance=self._provenance(outcome),
        )

    def _provenance(self, outcome: Outcome | None) -> Provenance:
        seconds = outcome.train_seconds if outcome else 0.0
        images = len(outcome.history) * self.num_train if outcome else 0
        return Provenance(
            host=socket.gethostname(),
            device=device_name(self.execution.device),
            threads=self.execution.threads,
            seconds=seconds,
            peak_memory_bytes=peak_memory_bytes(self.execution.device),
            resumes=self.resumes,
            inexact=self.inexact,
            python=platform.python_version(),
            strive=__version__,
            packages={"torch": str(torch.__version__)},
            code_hash=self.code.hash,
            code_files=dict(self.code.files),
            started=self.started,
            finished=_now(),
            details={
                "layout": LAYOUT,
                "compiled": self._compiled(),
                "bf16": self._bf16(self.execution),
                "engine": "graph" if self._is_graph() else "eager",
                "fast": self.execution.fast,
                "packed": self.packed,
                "fallback": self._training.fallback if self._training else "",
                "images_per_second": images / seconds if seconds else 0.0,
                "data_stamp": self.on_disk.stamp,
                "data_found": self.on_disk.found,
                "data_left_out": "; ".join(self.on_disk.left_out),
            },
        )

    def _failed(self, status: Status, error: BaseException) -> Record:
        """Return the record of a cell without a result, and log the stack trace."""
        self.log.error("%s", status.value, exc_info=error)
        cause = f"{type(error).__name__}: {str(error) or 'no message'}".splitlines()[0]
        return self._record(status, None, Failure(cause=cause, traceback="".join(traceback.format_exception(error))))

    def _published(self, record: Record, outcome: Outcome | None = None) -> Record:
        """Write the record and the files of its result, retrying if they cannot be written.

        Raises OSError if the last attempt fails.
        """
        for seconds in (*_PAUSES_SECONDS, None):
            try:
                self._put_in_place(record, outcome)
                break
            except OSError as error:
                self.claim.check()
                if seconds is None or signals.requested():
                    raise
                self.log.warning("the record could not be written (%s); tried again", error)
                if outcome is not None and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    self._checkpoints.remove_previous()
                time.sleep(seconds)
        return record

    def _put_in_place(self, record: Record, outcome: Outcome | None) -> None:
        """Write the record, unless a failed retraining would replace a result."""
        cell, folder = self._path.parent, self.folder
        if folder != cell and not record.status.finished:
            return
        if outcome is not None:
            write_arrays(folder, outcome, scratch=self.claim.scratch)
            self._complete()
        # Files are moved only after all have been written, so that old and new ones are never mixed.
        ready = self._replace if folder != cell else lambda: None
        records.write_record(Path(self.config.runs), record, scratch=self.claim.scratch, ready=ready)
        if record.status.finished:
            with suppress(OSError):  # the next process removes them
                remove_checkpoints(cell)
        if folder != cell:
            shutil.rmtree(folder, ignore_errors=True)

    def _replace(self) -> None:
        """Replace the old training's files with the new ones."""
        cell, folder, scratch = self._path.parent, self.folder, self.claim.scratch
        for name in ("weights.pt", "predictions.npz", HISTORY, "config.yaml"):
            # Via the claim's folder, so that a process that has lost the cell cannot move files.
            os.replace(folder / name, scratch / name)
            os.replace(scratch / name, cell / name)
        (cell / EPOCHS).unlink(missing_ok=True)  # of a record of schema 1
        for name in ("inputs.png", "mistakes.png"):
            # Old pictures would not match the new numbers, so they are removed even if there are no new ones.
            (cell / name).unlink(missing_ok=True)
            if (folder / name).exists():
                os.replace(folder / name, scratch / name)
                os.replace(scratch / name, cell / name)

    def _claimed(self, fence: str) -> Claim:
        folder = self._path.parent
        before = owner_of(folder)
        claim = take_claim(folder, self.config.trainer.lease_seconds, fence=fence)
        if before is not None and before.token != claim.owner.token:
            why = "its process is gone" if surely_dead(before) else f"no heartbeat for {before.lease_seconds:g} s"
            self.log.warning("takes the cell over from %s: %s", before, why)
            CONSOLE.print(f"{folder.name}: takes over from {before}: {why}")
        return claim

    def _complete(self) -> None:
        """Write the files that belong to a record; raises OSError."""
        self._write("config.yaml", self._config_text)
        self._write(HISTORY, self._history_text)
        (self.folder / EPOCHS).unlink(missing_ok=True)  # of a training that an earlier version began

    def _publish(self, name: str, make: Callable[[], bytes]) -> None:
        """Write an optional file: an error is printed once and does not end the cell."""
        try:
            self._write(name, make)
        except Exception as error:
            self.claim.check()
            if name not in self._missing:
                self._missing.add(name)
                self._say(f"{name} could not be made ({error}); the cell goes on without it")
        else:
            self._missing.discard(name)

    def _write(self, name: str, make: Callable[[], bytes]) -> None:
        records.write_whole(self.folder / name, make(), scratch=self.claim.scratch, durable=False)

    def _config_text(self) -> bytes:
        return identity.to_yaml(self.config).encode()

    def _history_text(self) -> bytes:
        # The whole file each time, because an appended line could come from a process that has lost the cell.
        return "".join(map(history_line, self.training.history)).encode()

    def _not_kept(self) -> str:
        """Return the end of a message if the last step has no checkpoint, else ""."""
        if not self._no_checkpoint:
            return ""
        return f", but kept is {f'step {self._kept}' if self._kept else 'nothing'} ({self._no_checkpoint})"

    def _say(self, message: str) -> None:
        self.log.warning("%s", message)
        CONSOLE.print(f"{self.cell}: {message}")

    def _compiled(self) -> bool:
        return self._training.compiled if self._training else self.execution.compiled

    def _is_graph(self) -> bool:
        return self.execution.graph and not (self._training and self._training.not_graph)

    def _marks(self) -> State:
        return {
            "cell": self.cell,
            "code_hash": self.code.hash,
            "code_files": dict(self.code.files),
            "data_fingerprint": self.fingerprint,
            "threads": self.execution.threads,
            "compiled": self._compiled(),
            "resumes": self.resumes,
            "inexact": self.inexact,
            "started": self.started,
            **self._surroundings(self.execution),
        }

    def _bf16(self, execution: Execution) -> str:
        how = bf16_of(self.config.precision, execution.device)
        return how.value if how else ""  # checkpoints hold only plain values

    def _surroundings(self, execution: Execution) -> dict[str, str]:
        return {
            "bf16": self._bf16(execution),
            "device": device_name(execution.device),
            "torch": str(torch.__version__),
            "layout": LAYOUT,
            "trainer.fast": str(execution.fast).lower(),
        }


def out_of_memory(error: BaseException) -> bool:
    """Return whether the error means that memory ran out."""
    # torch's allocator for the CPU raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
