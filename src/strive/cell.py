"""One cell from its config to its record. The command line, a sweep and the tests all call `run_cell`."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch

from strive import identity, records
from strive.artifacts import result_of, write_arrays
from strive.config import Config, ConfigError
from strive.data import Splits, check_data, load_splits, output_size
from strive.networks import check_network
from strive.progress import CONSOLE
from strive.records import Record, Status
from strive.sitting import LOG, Sitting
from strive.training import Execution, choose_execution


def check_cell(config: Config) -> int:
    """Return the number of the net's parameters, or raise ConfigError for what cannot train.

    Builds the net on the meta device, looks for the data, the device and the runs folder; trains nothing.
    """
    choose_execution(config.trainer)
    _check_runs(Path(config.runs))
    facts = check_data(config)
    return check_network(config.model, num_classes=facts.num_classes, image_size=output_size(config))


def finished_record(config: Config) -> Record | None:
    """Return the cell's record if there is nothing left to train.

    Raises records.RecordError if a file is there that cannot be trusted.
    """
    try:
        record = records.read_record(records.record_path(Path(config.runs), identity.cell_id(config)))
    except (FileNotFoundError, NotADirectoryError):
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
        CONSOLE.print(
            f"{earlier.cell}: {earlier.status.value} already, nothing to train{_other_images(config, earlier)}"
        )
        # Left there if the process was killed right after it wrote the record.
        path.with_name("checkpoint.pt").unlink(missing_ok=True)
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
    sitting = Sitting(config, execution, folder)
    # Images that cannot be read are for the user to put right, not a result of the cell.
    splits = _splits(config, execution.device)
    try:
        outcome = sitting.train(splits)
        result = result_of(outcome)
        write_arrays(folder, outcome)
    except Exception as error:
        return sitting.failed(Status.out_of_memory if _out_of_memory(error) else Status.error, error)
    return sitting.record(Status.diverged if outcome.diverged else Status.done, result, None, outcome.train_seconds)


def _out_of_memory(error: Exception) -> bool:
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
