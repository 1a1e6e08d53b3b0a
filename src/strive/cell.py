"""One cell from its config to its record. The command line, a sweep and the tests all call `run_cell`."""

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from strive import identity, records, stop
from strive.artifacts import result_of, write_arrays
from strive.claim import Claim, ClaimedError, LostClaimError, Silence, owner_of, surely_dead, take_claim
from strive.config import Config, ConfigError
from strive.data import Splits, check_data, load_splits, output_size
from strive.networks import check_network
from strive.progress import CONSOLE
from strive.records import Record, Status
from strive.sitting import LOG, Sitting
from strive.training import Execution, choose_execution, previous_checkpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class CellFacts:
    """What is known of a cell before it is trained."""

    num_train: int  # training images in an epoch
    flops: int  # of the net's forward pass of one image; a multiply-add is two


def check_cell(config: Config) -> CellFacts:
    """Return how much there is to train, or raise ConfigError for what cannot train.

    Builds the net on the meta device, looks for the data, the device and the runs folder; trains nothing.
    """
    choose_execution(config.trainer)
    _check_runs(Path(config.runs))
    facts = check_data(config)
    network = check_network(config.model, num_classes=facts.num_classes, image_size=output_size(config))
    return CellFacts(num_train=facts.num_train, flops=network.flops)


def finished_record(config: Config) -> Record | None:
    """Return the cell's record if there is nothing left to train.

    Raises records.RecordError if a file is there that cannot be trusted.
    """
    record = records.record_of(config)
    return record if record is not None and record.status.finished else None


def run_cell(config: Config, *, replaces: str = "", fence: str = "") -> Record:
    """Train a cell, or go on where it was stopped, and write its record; a done cell is left alone.

    What goes wrong in training becomes a record with status `error` or `out_of_memory`.

    replaces: sha256 of the record file to train again; any other finished record is left alone.
    fence: the token of a dead process's claim on the cell (claim.Silence); it is shut out.

    Raises ConfigError or RecordError for what a user must put right first, ClaimedError while
    another process trains the cell, StoppedError when a signal asked to stop, with a checkpoint,
    and LostClaimError when another process took the cell over.
    """
    path = records.record_path(Path(config.runs), identity.cell_id(config))
    if (earlier := _left_alone(config, path, replaces)) is not None:
        return earlier
    check_cell(config)
    execution = choose_execution(config.trainer)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _log_file(path.with_name("log.txt")), _claimed(path.parent, config, fence) as claim:
        # Another process may have finished it a moment ago.
        if (earlier := _left_alone(config, path, replaces)) is not None:
            return earlier
        folder = path.with_name(records.RETRAINING) if path.exists() and replaces else path.parent
        folder.mkdir(exist_ok=True)
        record = _train(config, execution, folder, claim)
        try:
            _publish(record, config, folder, claim)
        except OSError:
            claim.check()
            raise
    CONSOLE.print(summary(record))
    print(path)
    return record


def run_when_free(config: Config) -> Record:
    """Run the cell; while another process trains it, wait until that one ends or is found dead."""
    silence, fence, told = Silence(), "", ""
    while True:
        try:
            return run_cell(config, fence=fence)
        except ClaimedError as error:
            if error.owner.token != told:
                told = error.owner.token
                CONSOLE.print(
                    f"{error}; waits until it ends, or has given no sign of life for"
                    f" {error.owner.lease_seconds:g} s (Ctrl-C leaves it alone)"
                )
            folder = Path(config.runs) / identity.cell_id(config)
            while (owner := owner_of(folder)) is not None:
                if (dead := silence.stale(folder)) is not None:
                    fence = dead.token
                    break
                if stop.requested():
                    raise stop.StoppedError(f"stopped by {stop.requested()}; {owner} goes on") from None
                time.sleep(1)


def _publish(record: Record, config: Config, folder: Path, claim: Claim) -> None:
    """Put the record in its place; one that failed to replace a result stays beside it."""
    cell = folder.parent if folder.name == records.RETRAINING else folder
    if folder != cell and not record.status.finished:
        return
    if folder != cell:
        for name in ("weights.pt", "predictions.npz", "epochs.jsonl", "config.yaml"):
            # By way of the claim's folder, as everything that belongs to the cell.
            os.replace(folder / name, claim.scratch / name)
            os.replace(claim.scratch / name, cell / name)
        for name in ("inputs.png", "mistakes.png"):
            # Of the new training or none: those of the old one would stand beside the new numbers.
            (cell / name).unlink(missing_ok=True)
            if (folder / name).exists():
                os.replace(folder / name, claim.scratch / name)
                os.replace(claim.scratch / name, cell / name)
    records.write_record(Path(config.runs), record, scratch=claim.scratch)
    if record.status.finished:
        _remove_checkpoints(cell)
    if folder != cell:
        shutil.rmtree(folder, ignore_errors=True)


def _left_alone(config: Config, path: Path, replaces: str) -> Record | None:
    earlier = finished_record(config)
    if earlier is None or (replaces and records.file_hash(path) == replaces):
        return None
    CONSOLE.print(f"{earlier.cell}: {earlier.status.value} already, nothing to train{_other_images(config, earlier)}")
    # Left there if the process was killed right after it wrote the record.
    _remove_checkpoints(path.parent)
    print(path)
    return earlier


def _remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints that led to a record."""
    path = folder / "checkpoint.pt"
    path.unlink(missing_ok=True)
    previous_checkpoint(path).unlink(missing_ok=True)


def _claimed(folder: Path, config: Config, fence: str) -> Claim:
    before = owner_of(folder)
    claim = take_claim(folder, config.trainer.lease_seconds, fence=fence)
    if before is not None and before.token != claim.owner.token:
        why = "its process is gone" if surely_dead(before) else f"no sign of life for {before.lease_seconds:g} s"
        LOG.warning("takes the cell over from %s: %s", before, why)
        CONSOLE.print(f"{folder.name}: takes over from {before}: {why}")
    return claim


def summary(record: Record) -> str:
    """Return one line on how a cell ended."""
    if record.failure is not None:
        return f"{record.cell}: {record.status.value}: {record.failure.cause}"
    assert record.result is not None
    return f"{record.cell}: {record.status.value}, test error {100 * record.result.test_error:.2f}%"


def _train(config: Config, execution: Execution, folder: Path, claim: Claim) -> Record:
    sitting = Sitting(config, execution, folder, claim)
    # Images that cannot be read are for the user to put right, not a result of the cell.
    splits = _splits(config, execution.device)
    try:
        outcome = sitting.train(splits)
        result = result_of(outcome)
        write_arrays(folder, outcome, scratch=claim.scratch)
    except (stop.StoppedError, LostClaimError) as error:
        LOG.warning("%s", error)
        raise
    except (Exception, SystemExit) as error:  # a user's net may call sys.exit
        claim.check()
        return sitting.failed(Status.out_of_memory if _out_of_memory(error) else Status.error, error)
    return sitting.record(Status.diverged if outcome.diverged else Status.done, result, None, outcome.train_seconds)


def _out_of_memory(error: BaseException) -> bool:
    # torch's allocator for the CPU raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _other_images(config: Config, record: Record) -> str:
    """Return a warning where the record's images came from elsewhere: the id knows a data set by its name."""
    before = record.config.get("data.root")
    if before == config.data.root:
        return ""
    return f"\n  its images came from data.root={before}; other images need another data.name"


def _check_runs(runs: Path) -> None:
    place = next(path for path in (runs.absolute(), *runs.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        what = "cannot be written to" if place.is_dir() else "is not a folder"
        raise ConfigError(f"runs={runs}: {place} {what}; name a folder that records can be written to")


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
