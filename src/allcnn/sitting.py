"""One process's work on a cell: what it resumes, what it keeps on disk, what it knows of itself."""

import logging
import platform
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from allcnn.config import Config
from allcnn.data import NO_FILES, Splits
from allcnn.progress import CellProgress
from allcnn.result import epoch_line
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
    previous_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from strive import __version__, signals
from strive.cells import records
from strive.cells.lease import Claim
from strive.cells.predictions import largest_class_error
from strive.cells.records import Failure, Provenance, Record, Result, Status
from strive.code.hash import changed_files, code_of
from strive.config import identity
from strive.console import CONSOLE


class Sitting:
    """One process's work on a cell: what it resumes, keeps on disk, and knows of itself."""

    def __init__(self, config: Config, execution: Execution, folder: Path, claim: Claim) -> None:
        self.config, self.folder, self.claim = config, folder, claim
        self.cell = identity.cell_id(config)
        self.log = cell_log(self.cell)
        self.packed = 1  # most cells that trained side by side with this one, itself counted
        self.code = code_of(config.model.builder)
        self.started = _now()
        self.resumes, self.inexact = 0, list[str]()
        self.fingerprint, self.num_train, self.on_disk = "", 0, NO_FILES
        self._training: Training | None = None
        self._missing = set[str]()  # files beside the record that could not be written when they were last to be
        self._kept, self._no_checkpoint = 0, ""  # step of the checkpoint on disk; why there is none of a later one
        self.state = self._checkpoint()
        self.execution = self._resumed_execution(execution)
        enter_execution(self.execution)

    @property
    def training(self) -> Training:
        """The cell's training, from `begin` on."""
        assert self._training is not None
        return self._training

    def begin(self, splits: Splits) -> None:
        """Make the training, from the start or from the checkpoint, and what shows how far it is."""
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
        # Epochs after the checkpoint are trained again, so their lines go.
        self._publish("epochs.jsonl", self._epochs_text)
        how, step = "resumes" if self.state else "starts", self.training.step
        self.log.info("%s from step %d on %s", how, step, self.execution)
        self.progress = CellProgress(config, len(splits.train), self.training.num_steps)
        self._last_write, self._told = time.monotonic(), ""

    def on_step(self) -> None:
        """Show how far the cell is, and write a checkpoint where one is due.

        Raises StoppedError, with a checkpoint, when a signal asked to stop, LostClaimError, and what
        comes of the checkpoint.
        """
        step = self.training.step
        self.claim.check()
        self.progress.step(step)
        self.claim.note(**self.progress.numbers())
        # Once: where only the epoch's last batch is slow, each epoch begins without a reason.
        if self.training.fallback not in ("", self._told):
            self._told = self.training.fallback
            self._say(f"trains the slower way: {self._told}")
        due = time.monotonic() - self._last_write >= 60 * self.config.trainer.checkpoint_minutes
        if due or signals.requested():
            self.keep()
            self._last_write = time.monotonic()
        if signals.requested():
            raise signals.StoppedError(
                f"{self.cell}: stopped by {signals.requested()} after step {step}{self._not_kept()}"
            )

    def on_epoch(self) -> None:
        """Publish the numbers of the epoch that has just ended."""
        line = self.training.history[-1]
        self.progress.epoch(line)
        self._publish("epochs.jsonl", self._epochs_text)
        self.log.info("%s", line)

    def keep(self) -> None:
        """Write a checkpoint of what was trained, if anything was; a disk that does not take it costs no more."""
        step = self.training.step
        if not step:
            return
        try:
            content = self.training.snapshot() | self._marks()
            write_checkpoint(self.folder / "checkpoint.pt", content, scratch=self.claim.scratch)
        except OSError as error:
            self.claim.check()
            first, self._no_checkpoint = not self._no_checkpoint, str(error)
            kept = "an earlier one is kept" if self._kept else "there is none yet"
            goes_on = not signals.requested() and not self.training.finished
            if first or not goes_on:  # not every few minutes until there is room
                self._say(
                    f"the checkpoint could not be written ({error}); {kept}{', training goes on' if goes_on else ''}"
                )
        else:
            self._kept, self._no_checkpoint = step, ""

    def complete(self) -> None:
        """Write what a record promises beside it; raises OSError."""
        self._write("config.yaml", self._config_text)
        self._write("epochs.jsonl", self._epochs_text)

    def finish(self) -> Outcome:
        """Score the test split and say how it went."""
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

    def record(self, status: Status, result: Result | None, failure: Failure | None, seconds: float) -> Record:
        """Return the record of this cell as it stands now."""
        images = result.epochs * self.num_train if result else 0
        return Record(
            schema=records.SCHEMA,
            cell=self.cell,
            status=status,
            config=identity.flat(self.config),
            result=result,
            failure=failure,
            provenance=Provenance(
                host=socket.gethostname(),
                device=device_name(self.execution.device),
                threads=self.execution.threads,
                layout=LAYOUT,
                compiled=self._compiled(),
                bf16=self._bf16(self.execution),
                engine="graph"
                if self.execution.graph and not (self._training and self._training.not_graph)
                else "eager",
                fast=self.execution.fast,
                packed=self.packed,
                fallback=self._training.fallback if self._training else "",
                train_seconds=seconds,
                images_per_second=images / seconds if seconds else 0.0,
                peak_memory_bytes=peak_memory_bytes(self.execution.device),
                resumes=self.resumes,
                inexact=self.inexact,
                torch=str(torch.__version__),
                python=platform.python_version(),
                strive=__version__,
                code_hash=self.code.hash,
                code_files=dict(self.code.files),
                data_fingerprint=self.fingerprint,
                data_stamp=self.on_disk.stamp,
                data_found=self.on_disk.found,
                data_left_out=list(self.on_disk.left_out),
                chance_error=largest_class_error(self.splits.test.labels.numpy()) if result else None,
                started=self.started,
                finished=_now(),
            ),
        )

    def failed(self, status: Status, error: BaseException) -> Record:
        """Return the record of a cell without a result, and log the stack trace."""
        self.log.error("%s", status.value, exc_info=error)
        cause = f"{type(error).__name__}: {str(error) or 'no message'}".splitlines()[0]
        return self.record(
            status, None, Failure(cause=cause, traceback="".join(traceback.format_exception(error))), 0.0
        )

    def _publish(self, name: str, make: Callable[[], bytes]) -> None:
        """Write a file beside the record. Nothing that goes wrong there is worth the cell: it is said once."""
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

    def _epochs_text(self) -> bytes:
        # All of them each time: an appended line could come from a process that has lost the cell.
        return "".join(map(epoch_line, self.training.history)).encode()

    def _not_kept(self) -> str:
        """Return what to add where a process leaves without a checkpoint of its last step; "" where there is one."""
        if not self._no_checkpoint:
            return ""
        return f", but kept is {f'step {self._kept}' if self._kept else 'nothing'} ({self._no_checkpoint})"

    def _checkpoint(self) -> State | None:
        """Return the state to go on from: of the last checkpoint, or of the one before if that is damaged."""
        path = self.folder / "checkpoint.pt"
        for place in filter(Path.exists, (path, previous_checkpoint(path))):
            state, reason = self._usable(place)
            if state is None:
                self._put_aside(place, reason)
                continue
            self.resumes, self.inexact, self.started = state["resumes"] + 1, state["inexact"], state["started"]
            self._kept = state["step"]
            self._say(f"resumes from step {state['step']}")
            return state
        return None

    def _usable(self, path: Path) -> tuple[State | None, str]:
        """Return the state, or None and why this cell cannot go on from it."""
        try:
            state = read_checkpoint(path)
        except ValueError as error:
            return None, str(error)
        if state is None:
            return None, "it is gone"
        reason = self._unusable(state)
        return (None, reason) if reason else (state, "")

    def _unusable(self, state: State) -> str | None:
        if state.get("cell") != self.cell:
            return f"it belongs to {state.get('cell')}"
        if state["code_hash"] != self.code.hash:
            changed = changed_files(state.get("code_files", {}), self.code.files)
            what = f": {changed} changed" if changed else ""
            return f"it was written by code {state['code_hash']}, this is {self.code.hash}{what}"
        return None

    def _check_images(self) -> None:
        if self.state is None or self.state["data_fingerprint"] == self.fingerprint:
            return
        before = self.state["data_fingerprint"]
        path = self.folder / "checkpoint.pt"
        for place in (path, previous_checkpoint(path)):
            if place.exists():
                self._put_aside(place, f"it was trained on other images ({before}, these are {self.fingerprint})")
        self.state, self.resumes, self.inexact, self.started, self._kept = None, 0, [], _now(), 0

    def _put_aside(self, path: Path, why: str) -> None:
        aside = path.with_name(f"{path.stem}-unused-{int(time.time())}.pt")
        # By way of the claim's folder: who has lost the cell must not move what its new owner has written.
        path.rename(self.claim.scratch / aside.name)
        (self.claim.scratch / aside.name).rename(aside)
        self._say(f"cannot go on from {path.name}, kept as {aside.name}, because {why}")

    def _say(self, message: str) -> None:
        self.log.warning("%s", message)
        CONSOLE.print(f"{self.cell}: {message}")

    def _resumed_execution(self, wanted: Execution) -> Execution:
        """Keep what decides the last bits as the checkpoint has it; note what cannot be kept."""
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

    def _compiled(self) -> bool:
        return self._training.compiled if self._training else self.execution.compiled

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
        return how.value if how else ""  # a checkpoint holds plain values only

    def _surroundings(self, execution: Execution) -> dict[str, str]:
        return {
            "bf16": self._bf16(execution),
            "device": device_name(execution.device),
            "torch": str(torch.__version__),
            "layout": LAYOUT,
            "trainer.fast": str(execution.fast).lower(),
        }


def cell_log(cell: str) -> logging.Logger:
    """Return what writes to the cell's log.txt; several cells may train in one process."""
    return logging.getLogger(f"strive.cell.{cell}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
