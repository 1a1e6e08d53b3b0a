"""One cell from its config to its record. The command line, a sweep and the tests all call `run_cell`."""

import hashlib
import json
import logging
import math
import platform
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf

from strive import __version__, identity, records
from strive.code_hash import code_hash
from strive.config import Config, ConfigError
from strive.data import Splits, check_data, load_splits, output_size
from strive.networks import builder_file, check_network
from strive.progress import CONSOLE, CellProgress
from strive.records import Failure, Provenance, Record, Result, Status
from strive.training import (
    LAYOUT,
    EpochLine,
    Execution,
    Outcome,
    State,
    choose_execution,
    device_name,
    enter_execution,
    peak_memory_bytes,
    read_checkpoint,
    train_cell,
    write_checkpoint,
)

LOG = logging.getLogger("strive.cell")
_Snapshot = Callable[[], State]


def check_cell(config: Config) -> int:
    """Return the number of the net's parameters, or raise ConfigError for what cannot train.

    Builds the net on the meta device and looks whether the data is there; trains nothing.
    """
    facts = check_data(config)
    return check_network(config.model, num_classes=facts.num_classes, image_size=output_size(config))


def finished_record(config: Config) -> Record | None:
    """Return the cell's record if there is nothing left to train.

    Raises records.RecordError if a file is there that cannot be trusted.
    """
    try:
        record = records.read_record(records.record_path(Path(config.runs), identity.cell_id(config)))
    except FileNotFoundError:
        return None
    return record if record.status.finished else None


def run_cell(config: Config) -> Record:
    """Train a cell, or go on where it was stopped, and write its record; a done cell is left alone.

    What goes wrong in training becomes a record with status `error` or `out_of_memory`.

    Raises ConfigError or RecordError for what a user must put right first.
    """
    earlier = finished_record(config)
    path = records.record_path(Path(config.runs), identity.cell_id(config))
    if earlier is not None:
        CONSOLE.print(f"{earlier.cell}: {earlier.status.value} already, nothing to train")
        print(path)
        return earlier
    check_cell(config)
    execution = choose_execution(config.trainer)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _log_file(path.with_name("log.txt")):
        record = _train(config, execution, path.parent)
    records.write_record(Path(config.runs), record)
    if record.status.finished:
        path.with_name("checkpoint.pt").unlink(missing_ok=True)
    CONSOLE.print(summary(record))
    print(path)
    return record


def summary(record: Record) -> str:
    """Return one line on how a cell ended."""
    if record.failure is not None:
        return f"{record.cell}: {record.status.value}: {record.failure.cause}"
    assert record.result is not None
    return f"{record.cell}: {record.status.value}, test error {100 * record.result.test_error:.2f}%"


def _train(config: Config, execution: Execution, folder: Path) -> Record:
    sitting = _Sitting(config, execution, folder)
    try:
        splits = _splits(config, execution.device)
        outcome = sitting.train(splits)
        result = _result(outcome)
        _write_arrays(folder, outcome)
    except torch.OutOfMemoryError as error:
        return sitting.failed(Status.out_of_memory, error)
    except (ConfigError, records.RecordError):
        raise
    except Exception as error:
        return sitting.failed(Status.error, error)
    return sitting.record(Status.diverged if outcome.diverged else Status.done, result, None, outcome.train_seconds)


class _Sitting:
    """One process's work on a cell: what it resumes, keeps on disk, and knows of itself."""

    def __init__(self, config: Config, execution: Execution, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.cell = identity.cell_id(config)
        self.code = code_hash(builder_file(config.model))
        self.started = _now()
        self.resumes, self.inexact = 0, list[str]()
        self.fingerprint, self.num_train = "", 0
        self.state = self._checkpoint()
        self.execution = self._resumed_execution(execution)
        enter_execution(self.execution)

    def train(self, splits: Splits) -> Outcome:
        config, state = self.config, self.state
        self.fingerprint, self.num_train = splits.fingerprint, len(splits.train)
        _write_text(self.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.structured(config)))
        lines = [EpochLine(**line) for line in state["history"]] if state else []
        # Epochs after the checkpoint are trained again, so their lines go.
        _write_text(self.folder / "epochs.jsonl", "".join(map(_json_line, lines)))
        LOG.info(
            "%s from step %d on %s",
            "resumes" if state else "starts",
            state["step"] if state else 0,
            self.execution,
        )
        steps = math.ceil(len(splits.train) / config.budget.batch_size) * config.budget.epochs
        last_write = time.monotonic()

        with CellProgress(config, len(splits.train), steps) as progress:

            def on_step(step: int, snapshot: _Snapshot) -> None:
                nonlocal last_write
                progress.step(step)
                if time.monotonic() - last_write >= 60 * config.trainer.checkpoint_minutes:
                    write_checkpoint(self.folder / "checkpoint.pt", snapshot() | self._marks())
                    last_write = time.monotonic()

            def on_epoch(line: EpochLine) -> None:
                progress.epoch(line)
                with (self.folder / "epochs.jsonl").open("a", encoding="utf-8") as file:
                    file.write(_json_line(line))
                LOG.info("%s", line)

            outcome = train_cell(config, splits, self.execution, state=state, on_step=on_step, on_epoch=on_epoch)
        if outcome.diverged:
            LOG.info("diverged: %s", outcome.diverged)
            CONSOLE.print(f"{self.cell}: diverged: {outcome.diverged}")
        return outcome

    def record(self, status: Status, result: Result | None, failure: Failure | None, seconds: float) -> Record:
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
                compiled=self.execution.compiled,
                train_seconds=seconds,
                images_per_second=images / seconds if seconds else 0.0,
                peak_memory_bytes=peak_memory_bytes(self.execution.device),
                resumes=self.resumes,
                inexact=self.inexact,
                torch=str(torch.__version__),
                python=platform.python_version(),
                strive=__version__,
                code_hash=self.code,
                data_fingerprint=self.fingerprint,
                started=self.started,
                finished=_now(),
            ),
        )

    def failed(self, status: Status, error: BaseException) -> Record:
        LOG.exception("%s", status.value)
        cause = f"{type(error).__name__}: {str(error) or 'no message'}".splitlines()[0]
        return self.record(status, None, Failure(cause=cause, traceback=traceback.format_exc()), 0.0)

    def _checkpoint(self) -> State | None:
        path = self.folder / "checkpoint.pt"
        try:
            state = read_checkpoint(path)
        except ValueError as error:
            self._from_the_start(path, str(error))
            return None
        if state is None:
            return None
        if (reason := self._unusable(state)) is not None:
            self._from_the_start(path, reason)
            return None
        self.resumes, self.inexact, self.started = state["resumes"] + 1, state["inexact"], state["started"]
        CONSOLE.print(f"{self.cell}: resumes from step {state['step']}")
        return state

    def _unusable(self, state: State) -> str | None:
        if state.get("cell") != self.cell:
            return f"it belongs to {state.get('cell')}"
        if state["code_hash"] != self.code:
            return f"it was written by code {state['code_hash']}, this is {self.code}"
        return None

    def _from_the_start(self, path: Path, why: str) -> None:
        aside = path.with_name(f"checkpoint-unused-{int(time.time())}.pt")
        path.rename(aside)
        message = f"{self.cell}: trains from the start; the checkpoint is kept as {aside.name}, because {why}"
        LOG.warning("%s", message)
        CONSOLE.print(message)

    def _resumed_execution(self, wanted: Execution) -> Execution:
        """Keep what decides the last bits as the checkpoint has it; note what cannot be kept."""
        if self.state is None:
            return wanted
        for what, here in self._surroundings(wanted.device).items():
            if self.state[what] != here:
                self.inexact.append(f"{what} changed from {self.state[what]} to {here} at step {self.state['step']}")
        return Execution(wanted.device, self.state["threads"], self.state["compiled"])

    def _marks(self) -> State:
        return {
            "cell": self.cell,
            "code_hash": self.code,
            "threads": self.execution.threads,
            "compiled": self.execution.compiled,
            "resumes": self.resumes,
            "inexact": self.inexact,
            "started": self.started,
            **self._surroundings(self.execution.device),
        }

    @staticmethod
    def _surroundings(device: torch.device) -> dict[str, str]:
        return {"device": device_name(device), "torch": str(torch.__version__), "layout": LAYOUT}


def _result(outcome: Outcome) -> Result:
    last = outcome.history[-1]
    return Result(
        epochs=len(outcome.history),
        steps=outcome.steps,
        parameters=outcome.num_parameters,
        train_loss=_finite(last.train_loss),
        train_error=last.train_error,
        val_loss=_finite(last.val_loss),
        val_error=last.val_error,
        test_loss=_finite(outcome.test.loss),
        test_error=outcome.test.error,
        predictions_sha256=hashlib.sha256(outcome.test.logits.numpy().tobytes()).hexdigest(),
        weights_sha256=_weights_hash(outcome),
    )


def _weights_hash(outcome: Outcome) -> str:
    digest = hashlib.sha256()
    for name, tensor in outcome.weights.items():
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _write_arrays(folder: Path, outcome: Outcome) -> None:
    """Write predictions and weights; before the record, which says that they are whole."""
    write_checkpoint(folder / "weights.pt", outcome.weights)
    temporary = folder / ".predictions.tmp.npz"
    np.savez(temporary, labels=outcome.test.labels.numpy(), logits=outcome.test.logits.numpy())
    temporary.replace(folder / "predictions.npz")


def _write_text(path: Path, text: str) -> None:
    records.write_whole(path, text.encode())


def _json_line(line: EpochLine) -> str:
    numbers = {name: _finite(value) if isinstance(value, float) else value for name, value in asdict(line).items()}
    return json.dumps(numbers, allow_nan=False) + "\n"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# The cells of a sweep in one process share their images: the last two data sets stay loaded.
_LOADED: dict[str, Splits] = {}


def _splits(config: Config, device: torch.device) -> Splits:
    parts = (asdict(config.data), asdict(config.preprocess), config.trainer.workers, str(device))
    key = repr(parts)
    if key not in _LOADED:
        while len(_LOADED) >= 2:
            del _LOADED[next(iter(_LOADED))]
        _LOADED[key] = load_splits(config, device)
    return _LOADED[key]


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        handler.close()
