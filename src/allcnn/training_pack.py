"""The study's trainer: runs one cell from its config to its record, or a pack of several side by side."""

import ctypes
import gc
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path

import torch

from allcnn.config import Config
from allcnn.data.splits import Splits, load_splits
from allcnn.same_images import other_images
from allcnn.training import (
    LAYOUT,
    EagerExecutor,
    Executor,
    Training,
    cells_at_once,
    choose_execution,
    device_name,
    make_executor,
    train_epoch,
)
from allcnn.training_run import TrainingRun
from strive import signals
from strive.app import Trainer, in_use
from strive.cells import records
from strive.cells.cell_run import result_to_keep
from strive.cells.check import check_cell
from strive.cells.checkpoints import FILE, remove_checkpoints
from strive.cells.records import Record
from strive.config import identity
from strive.console import CONSOLE
from strive.errors import NoRoomError, first_line, is_out_of_memory


def run_cell(config: Config, *, replaces: str = "", fence: str = "") -> Record:
    """Train a cell, or resume it if it was stopped, and write its record; a finished cell is not trained again.

    An error in training becomes a record with status `error` or `out_of_memory`.

    replaces: sha256 of the record file to train again; any other finished record is kept.
    fence: the token of a claim on the cell whose process is gone (lease.LeaseMonitor): it may be replaced.

    Raises ConfigError or RecordError for a user's mistake, LeasedError while another process trains the
    cell, StoppedError after a checkpoint if a signal requested a stop, and LostLeaseError if another
    process took over the cell.
    """
    ended: list[Record | BaseException] = []
    pack = TrainingPack(lambda cell, outcome: ended.append(outcome), room=1)
    pack.add(config, replaces=replaces, fence=fence)
    while len(pack):
        pack.run_epoch()
    (outcome,) = ended
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


class TrainingPack:
    """Cells that train together in this process, one epoch at a time.

    They share the device and the data set. Each has its own claim, checkpoints and record, and ends separately.
    """

    def __init__(self, on_ended: Callable[[str, Record | BaseException], object], *, room: int = 0) -> None:
        """Create an empty pack.

        on_ended: called once for each added cell with its id, and its record or what `run_cell` would raise.
        room: maximal number of cells; 0 chooses the fastest number, measured as soon as there are two or more
        cells. The other cells end with NoRoomError.
        """
        self.room = room
        self._on_ended = on_ended
        self._runs: list[TrainingRun] = []
        self._executor: Executor = EagerExecutor()
        self.measured = 1  # the largest number of cells that was timed

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, config: Config, *, replaces: str = "", fence: str = "") -> None:
        """Add a cell, which trains from the next epoch on. replaces, fence: as for run_cell."""
        try:
            begun = self._begun(config, replaces, fence)
        except BaseException as error:
            self._on_ended(identity.cell_id(config), error)
            return
        if isinstance(begun, TrainingRun):
            self._runs.append(begun)
        else:
            self._on_ended(begun.cell, begun)

    def run_epoch(self) -> None:
        """Train all cells to the end of their epoch, and end those that are finished."""
        for run in [run for run in self._runs if run.training.finished]:
            self._end(run, None)  # training is complete, but its record could not be written
        if not self._runs:
            return
        try:
            self._calibrate()
        except BaseException as error:
            fault = self._shared_fault(error)
            for run in list(self._runs):
                self._end(run, fault)
            return
        runs = {id(run.training): run for run in self._runs}
        for run in self._runs:
            run.packed = max(run.packed, len(runs))
        errors = self._trained(runs)
        for key, run in runs.items():
            try:
                if key not in errors:
                    run.on_epoch()
            except BaseException as error:
                errors[key] = error
            if key in errors or run.training.finished:
                self._end(run, errors.get(key))

    def _trained(self, runs: dict[int, TrainingRun]) -> dict[int, BaseException]:
        """Train an epoch; return {cell: the error that ended it}."""
        errors: dict[int, BaseException] = {}

        def on_step(training: Training) -> None:
            stepped = [id(training)]
            if signals.requested():
                # Cells that have finished their epoch and wait for another one must stop, too.
                stepped += runs
            for key in stepped:
                if key in errors:
                    continue
                try:
                    runs[key].on_step()
                except BaseException as error:
                    errors[key] = error
            # A stopped cell is still computed until the epoch ends; its results are discarded.
            if len(errors) == len(runs):
                raise _NobodyLeftError

        try:
            train_epoch([run.training for run in runs.values()], self._executor, on_step)
        except _NobodyLeftError:
            pass
        except BaseException as error:
            shared = self._shared_fault(error) if len(runs) > 1 else error
            return dict.fromkeys(runs, shared) | errors
        return errors

    def _shared_fault(self, error: BaseException) -> BaseException:
        """Return the exception to raise in every packed cell when the faulty one is unknown."""
        if not isinstance(error, Exception | SystemExit):
            return error
        room = len(self) - 1 if is_out_of_memory(error) else 1
        why = f"{type(error).__name__}: {first_line(error)}"
        spoilt = torch.cuda.is_initialized() and not is_out_of_memory(error)
        return NoRoomError(room, f"{why}, with {len(self)} cells side by side", spoilt=spoilt)

    def _calibrate(self) -> None:
        if self.room or len(self) <= self.measured:
            return
        self.measured = len(self)
        best = cells_at_once([run.training for run in self._runs], self._executor)
        if best == len(self):
            return  # more cells might be faster still
        self.room = best
        for run in self._runs[best:]:
            run.keep()
            self._end(run, NoRoomError(best, f"{best} cells at once are the fastest here"))

    def _begun(self, config: Config, replaces: str, fence: str) -> TrainingRun | Record:
        science = in_use().science(config)
        earlier = result_to_keep(Path(config.runs), identity.cell_id(config), science, replaces=replaces)
        if earlier is not None:
            return _left_alone(config, earlier)
        facts = check_cell(config)
        execution = choose_execution(config.trainer)
        with ExitStack() as stack:
            run = stack.enter_context(TrainingRun(config, replaces=replaces, fence=fence))
            if run.cell_run.earlier is not None:  # another process has just finished it
                return _left_alone(config, run.cell_run.earlier)
            failed = run.begin(execution, _splits, flops=facts.flops)
            if failed is None:
                if not self._runs:
                    self._executor = make_executor(run.execution)
                stack.pop_all()
                return run
        return run.cell_run.report()

    def _end(self, run: TrainingRun, error: BaseException | None) -> None:
        self._runs.remove(run)
        outcome: Record | BaseException
        try:
            with run:
                if error is None:
                    run.finish()
                else:
                    run.fail(error)
            outcome = run.cell_run.report()
        except BaseException as raised:
            outcome = raised
        if not self._runs:
            self._executor = EagerExecutor()  # frees the memory of CUDA graphs
        self._on_ended(run.cell, outcome)


class _NobodyLeftError(Exception):
    """All cells of a pack have ended before the end of their epoch."""


def _left_alone(config: Config, earlier: Record) -> Record:
    """Print that a cell has its result, and return that."""
    CONSOLE.print(f"{earlier.cell}: {earlier.status.value} already, nothing to train{_other_images(config, earlier)}")
    path = records.record_path(Path(config.runs), earlier.cell)
    # They remain if the process was killed right after it wrote the record.
    remove_checkpoints(path.with_name(FILE))
    print(path)
    return earlier


def _other_images(config: Config, record: Record) -> str:
    why, before = other_images(config, record), record.logistics.get("data.root")
    if why is None and before != config.data.root:
        why = f"its images came from data.root={before}"
    return f"\n  {why}; other images need another data.name" if why else ""


# Cells in one process share their images: the last two data sets stay loaded.
_LOADED: dict[str, Splits] = {}


def _splits(config: Config, device: torch.device) -> Splits:
    parts = (asdict(config.data), asdict(config.preprocess), config.trainer.workers, str(device))
    key = repr(parts)
    if key not in _LOADED:
        while len(_LOADED) >= 2:
            del _LOADED[next(iter(_LOADED))]
        _LOADED[key] = load_splits(config, device)
    return _LOADED[key]


class CellTrainer(Trainer):
    """What trains the study's cells in this process; they share images and compiled code."""

    run_cell = staticmethod(run_cell)
    pack = staticmethod(TrainingPack)

    def seen(self, config: Config) -> dict[str, str | int]:
        """Return device, threads, layout and torch, for the record of a cell whose process may die."""
        return {
            "device": device_name(choose_execution(config.trainer).device),
            "threads": config.trainer.threads,
            "layout": LAYOUT,
            "torch": str(torch.__version__),
        }

    def no_gpu(self, gpu: str) -> str:
        """Return why this process cannot use its GPU, "" if it can."""
        if torch.cuda.is_available():
            return ""
        return f"torch {torch.__version__} cannot use GPU {gpu}; trainer.device=cpu trains without GPUs"

    def is_spoilt(self, *, alone: bool) -> bool:
        """Return whether this process must not train on after a cell's error. alone: no other cell trained in it."""
        if not torch.cuda.is_initialized():
            return False
        if alone:
            return True
        # After some errors every later call on the GPU fails in this process; after others the remaining cells of
        # the pack can continue.
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            return True
        return False

    def free_memory(self) -> None:
        """Release the memory of the last cell's net, for other processes."""
        if torch.cuda.is_initialized():
            gc.collect()
            # Fails after some errors, which the next cell reports.
            with suppress(RuntimeError):
                torch.cuda.empty_cache()
        # Some C libraries lack it. Then the process keeps all memory that a cell has freed (training.device).
        with suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
