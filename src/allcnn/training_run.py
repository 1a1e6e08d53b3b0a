"""One process's training of a cell: its data, net, execution and pictures, within the cell's run."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import torch

from allcnn.checkpoints import usable_state
from allcnn.config import Config
from allcnn.data.listing import NO_FILES
from allcnn.data.splits import Splits
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
    write_state,
)
from strive import signals
from strive.app import in_use
from strive.cells.cell_run import CellRun
from strive.cells.checkpoints import FILE, Checkpoints
from strive.cells.predictions import largest_class_error
from strive.cells.records import PREDICTIONS, Record, Status, utc_now
from strive.config import identity
from strive.console import CONSOLE
from strive.errors import StoppedError

INPUTS, MISTAKES = "inputs.png", "mistakes.png"
EPOCHS = "epochs.jsonl"  # the history, as earlier versions called it
_OF_A_RESULT = ("weights.pt", PREDICTIONS, EPOCHS, INPUTS, MISTAKES)


class TrainingRun:
    """A cell that trains in this process. Leaving the context releases its lease."""

    def __init__(self, config: Config, *, replaces: str, fence: str) -> None:
        """Take the lease. replaces, fence: as for `allcnn.training_pack.run_cell`.

        Raises LeasedError while another process trains the cell.
        """
        self.config = config
        self.packed = 1  # most cells that trained at the same time, including this one
        self._stack = ExitStack()
        self.cell_run = self._stack.enter_context(
            CellRun.of(
                config,
                code=lambda: self.code,
                replaces=replaces,
                fence=fence,
                config_yaml=identity.to_yaml(config),
                known=self._known,
            )
        )
        self.cell = self.cell_run.cell

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

    def begin(
        self, execution: Execution, load: Callable[[Config, torch.device], Splits], *, flops: int = 0
    ) -> Record | None:
        """Prepare the training; return the record of the cell if that failed.

        flops: of a forward pass of one image, for the record.

        Raises the errors of `load`, such as ConfigError for images that cannot be read.
        """
        self.code = in_use().code_of(in_use().flat(self.config))
        self._start_over()
        self.num_train, self.on_disk, self.flops = 0, NO_FILES, flops
        self._training: Training | None = None
        self._outcome: Outcome | None = None
        self._fallback_said = ""
        self.cell_run.checkpoints = Checkpoints(
            self.cell_run.folder / FILE,
            self.config.trainer.checkpoint_minutes,
            self.cell_run.claim,
            self._why_unusable,
            self.cell_run.say,
        )
        self._resume()
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
        self.cell_run.claim.check()
        self.progress.step(step)
        self.cell_run.claim.note(**self.progress.numbers())
        # Printed once: if only an epoch's last batch falls back, the reason is cleared at the start of each epoch.
        if self.training.fallback not in ("", self._fallback_said):
            self._fallback_said = self.training.fallback
            self.cell_run.say(f"falls back to a slower path: {self._fallback_said}")
        if self.cell_run.checkpoints.is_due():
            self.keep()
        if signals.requested():
            raise StoppedError(self.cell_run.stopped_text(f"step {step}"))

    def on_epoch(self) -> None:
        """Publish the numbers of the epoch that has just ended."""
        line = self.training.history[-1]
        self.progress.epoch(line)
        values = asdict(line)
        self.cell_run.history.log(values.pop("epoch"), values)
        self.cell_run.logger.info("%s", line)

    def keep(self) -> None:
        """Write a checkpoint if anything was trained; if it cannot be written, training continues without it."""
        step = self.training.step
        if not step:
            return
        self.cell_run.checkpoints.keep(
            lambda path: write_state(path, self.training.snapshot() | self._marks(), scratch=path.parent),
            where=f"step {step}",
            goes_on=not self.training.finished,
        )

    def finish(self) -> Record:
        """Return the record of a fully trained cell, after writing its files."""
        try:
            outcome = self._outcome = self._scored()
            return self.cell_run.end(
                Status.diverged if outcome.diverged else Status.done,
                metrics=metrics_of(outcome),
                chance={"test_error": largest_class_error(self.splits.test.labels.numpy())},
                cause=f"{outcome.diverged} of {self.config.budget.epochs}" if outcome.diverged else "",
                outputs=outputs_of(outcome),
                write_files=lambda: self._write_files(outcome),
                also=_OF_A_RESULT,
            )
        except BaseException as error:
            if isinstance(error, OSError) and not self.training.diverged:
                self.keep()  # then the next process only has to write the files
            return self.fail(error)

    def fail(self, error: BaseException) -> Record:
        """Return the record of a failed cell, or raise the error if the cell did not cause it."""
        self._outcome = None
        return self.cell_run.fail(error)

    def _begin_training(self, splits: Splits) -> None:
        """Create the training, new or from the checkpoint, and its progress display."""
        config, run = self.config, self.cell_run
        self.splits = splits
        self.num_train, self.on_disk = len(splits.train), splits.on_disk
        self._check_images()
        run.fingerprint(IMAGES, splits.fingerprint)
        for line in splits.on_disk.left_out:
            run.say(f"left out of the images of {config.data.name}: {line}")
        run.publish_config()
        if count := config.tracker.images:
            run.files.publish(INPUTS, lambda: inputs_picture(config, splits, count))
        self._training = Training(config, splits, self.execution)
        if self.state is not None:
            self.training.restore(self.state)
            self._note_compilation(self.state)
        # Drops the lines after the checkpoint, because those epochs are trained again.
        run.resume_history("".join(map(history_line, self.training.history)).encode())
        how, step = "resumes" if self.state else "starts", self.training.step
        run.logger.info("%s from step %d on %s", how, step, self.execution)
        self.progress = CellProgress(config, len(splits.train), self.training.num_steps)
        run.checkpoints.start_clock()

    def _start_over(self) -> None:
        self.state: State | None = None  # what this process goes on from
        self.resumes, self.inexact, self.started = 0, list[str](), utc_now()

    def _resume(self) -> None:
        """Go on from the newest checkpoint that can be used, if there is one."""
        if self.cell_run.checkpoints.newest() is None:
            return
        state = self.state = self._read
        self.resumes, self.inexact, self.started = state["resumes"] + 1, state["inexact"], state["started"]
        self.cell_run.checkpoints.resumed(f"step {state['step']}")

    def _why_unusable(self, path: Path) -> str:
        try:
            self._read = usable_state(path, self.cell, self.code)
        except ValueError as error:
            return str(error)
        return ""

    def _check_images(self) -> None:
        if self.state is None or self.state["data_fingerprint"] == self.splits.fingerprint:
            return
        before, now = self.state["data_fingerprint"], self.splits.fingerprint
        self.cell_run.checkpoints.put_aside(f"it was trained on other images ({before}, these are {now})")
        self._start_over()

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

    def _scored(self) -> Outcome:
        """Score the test split, and report a divergence."""
        config, count = self.config, self.config.tracker.images
        outcome = self.training.outcome()
        if count:
            test = outcome.test
            self.cell_run.files.publish(
                MISTAKES, lambda: mistakes_picture(config, self.splits, test.logits, test.labels, count)
            )
        if outcome.diverged:
            self.cell_run.logger.info("diverged: %s", outcome.diverged)
            CONSOLE.print(f"{self.cell}: diverged: {outcome.diverged}")
        return outcome

    def _write_files(self, outcome: Outcome) -> None:
        """Write the files that the record implies; raises OSError."""
        write_arrays(self.cell_run.folder, outcome, scratch=self.cell_run.claim.scratch)
        (self.cell_run.folder / EPOCHS).unlink(missing_ok=True)  # of a training that an earlier version began

    def _known(self) -> dict[str, Any]:
        """Return the fields of the record's provenance that the platform does not know."""
        outcome = self._outcome
        seconds = outcome.train_seconds if outcome else 0.0
        images = len(outcome.history) * self.num_train if outcome else 0
        return {
            "device": device_name(self.execution.device),
            "threads": self.execution.threads,
            "seconds": seconds,
            "peak_memory_bytes": peak_memory_bytes(self.execution.device),
            "resumes": self.resumes,
            "inexact": self.inexact,
            "packages": {"torch": str(torch.__version__)},
            "started": self.started,
            "details": {
                "layout": LAYOUT,
                "compiled": self._compiled(),
                "bf16": self._bf16(self.execution),
                "engine": "graph" if self._is_graph() else "eager",
                "fast": self.execution.fast,
                "packed": self.packed,
                "fallback": self._training.fallback if self._training else "",
                "flops": self.flops,
                "images_per_second": images / seconds if seconds else 0.0,
                "data_stamp": self.on_disk.stamp,
                "data_found": self.on_disk.found,
                "data_left_out": "; ".join(self.on_disk.left_out),
            },
        }

    def _compiled(self) -> bool:
        return self._training.compiled if self._training else self.execution.compiled

    def _is_graph(self) -> bool:
        return self.execution.graph and not (self._training and self._training.not_graph)

    def _marks(self) -> State:
        return {
            "cell": self.cell,
            "code_hash": self.code.hash,
            "code_files": dict(self.code.files),
            "data_fingerprint": self.splits.fingerprint,
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
