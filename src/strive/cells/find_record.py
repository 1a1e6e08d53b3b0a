"""Search for a cell's record in one or several runs folders. Imports no torch."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from strive.cells import records
from strive.cells.records import Record
from strive.errors import RecordError, UsageError


def find_record(folders: Sequence[Path], name: str) -> Path:
    """Return the path of a cell's record, given its id, the id's start or last ten digits, or its folder.

    Raises UsageError if no record or more than one cell matches, RecordError for two different results of the cell.
    """
    if (path := record_at(name)) is not None:
        return path
    cells = {path.parent.name for folder in folders for path in folder.glob("*/record.json")}
    if not cells:
        raise UsageError(f"there is no record in {_listed_folders(folders)}; give another runs folder")
    found = one_result(matching(name, cells, _listed_folders(folders)), folders)
    assert found is not None
    return found


def record_at(name: str) -> Path | None:
    """Return the path of the record that a path names, itself or by its folder; None if it names none."""
    for place in (Path(name), Path(name) / "record.json"):
        if place.name == "record.json" and place.is_file():
            return place.resolve()
    return None


def matching(name: str, cells: Iterable[str], where: str) -> str:
    """Return the one of these cells with an id that is `name`, starts or ends so. where: the folders that have them.

    Raises UsageError if no cell or more than one matches.
    """
    cells = sorted(cells)
    if name in cells:
        return name
    matches = [cell for cell in cells if cell.startswith(name) or cell.endswith(f"-{name}")]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UsageError(f"{name} is the start of {len(matches)} cells in {where}; say more of one:{_listed(matches)}")
    raise UsageError(f"there is no cell {name} in {where}; it has {len(cells)}:{_listed(cells)}")


def one_result(cell: str, folders: Sequence[Path]) -> Path | None:
    """Return the path of a cell's record in the first folder that has its result, else of its first record.

    None where no folder has one. Raises RecordError, which names both, for two folders with different results.
    """
    found = [path for path in (records.record_path(folder, cell) for folder in folders) if path.exists()]
    if len(found) < 2:
        return next(iter(found), None)
    results = {path: record for path in found if (record := records.read_record(path)).status.finished}
    first, *others = [*results] or found
    for other in others if results else ():
        if not same_result(results[first], results[other]):
            raise RecordError(different_results(first, other))
    return first


def same_result(one: Record, other: Record) -> bool:
    """Return whether two records have the same numbers; where and when they were computed does not count."""
    return (one.status, one.metrics, one.outputs) == (other.status, other.metrics, other.outputs)


def different_results(first: object, second: object) -> str:
    """Return the message for two records of one cell with different results."""
    return f"{first} and {second} are different results of one cell; read one of the folders, or move one record away"


def _listed(cells: Sequence[str], most: int = 20) -> str:
    more = [f"and {len(cells) - most} more"] if len(cells) > most else []
    return "".join(f"\n  {line}" for line in (*cells[:most], *more))


def _listed_folders(folders: Sequence[Path]) -> str:
    return ", ".join(map(str, folders))
