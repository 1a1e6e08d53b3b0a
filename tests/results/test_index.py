import json
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import Golden

from strive.results import index
from strive.results.index import index_path, records_in
from strive.results.record_row import Columns, read_row

MakeGolden = Callable[..., Golden]


@pytest.fixture(autouse=True)
def _keen(monkeypatch: pytest.MonkeyPatch) -> None:
    """One record, as old as the last tick of the clock, is worth a file."""
    monkeypatch.setattr(index, "_WORTH", 1)
    monkeypatch.setattr(index, "_TICK_NS", 0)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The cells whose records were read, not taken from the index."""
    found: list[str] = []

    def read(path: Path) -> dict[str, Any]:
        found.append(path.parent.name)
        return read_row(path)

    monkeypatch.setattr(index, "read_row", read)
    return found


@pytest.fixture
def sweep(golden: MakeGolden) -> Golden:
    """Two results and a failure."""
    made: Golden = golden()
    made.cell({"seed": 0}, 5.0, val_error=6.0, inexact=["another torch", "ä"])
    made.cell({"seed": 1}, 90.0, status="diverged")
    made.cell({"seed": 2}, status="error", cause="no luck")
    return made


def _names(runs: Path) -> list[str]:
    return sorted(os.listdir(runs))


def _same(a: Columns, b: Columns) -> bool:
    if list(a) != list(b):
        return False
    return all(a[name].dtype == b[name].dtype and _equal(a[name], b[name]) for name in a)


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype == object:
        return [(type(value), value) for value in a] == [(type(value), value) for value in b]
    return np.array_equal(a, b, equal_nan=True)


def _statuses(runs: Path, cells: Sequence[str]) -> list[str]:
    return list(records_in(runs, cells)["status"])


def test_a_record_is_read_once(sweep: Golden, reads: list[str]) -> None:
    cells = _names(sweep.runs)

    first = records_in(sweep.runs, cells)
    assert reads == cells
    again = records_in(sweep.runs, cells)

    assert reads == cells
    assert _same(first, again)
    assert first["inexact"].tolist() == ["another torch; ä", "", ""]
    dead = "all class outputs were zero on every training image of epoch 350 of 350"
    assert first["cause"].tolist() == ["", dead, "no luck"]
    assert again["val_error"].tolist() == [0.06, pytest.approx(np.nan, nan_ok=True), pytest.approx(np.nan, nan_ok=True)]


def test_rows_come_in_the_order_asked_for(sweep: Golden) -> None:
    cells = _names(sweep.runs)
    records_in(sweep.runs, cells)
    assert _statuses(sweep.runs, [cells[2], "nothing", cells[0]]) == ["error", "missing", "done"]


def test_a_new_record_alone_is_read(sweep: Golden, reads: list[str]) -> None:
    records_in(sweep.runs, _names(sweep.runs))
    reads.clear()
    folder = sweep.cell({"seed": 3}, 7.0)
    assert _statuses(sweep.runs, _names(sweep.runs)).count("done") == 2
    assert reads == [folder.name]


def test_a_retrained_cell_is_noticed(sweep: Golden, reads: list[str]) -> None:
    cells = _names(sweep.runs)
    records_in(sweep.runs, cells)
    reads.clear()
    sweep.cell({"seed": 2}, 8.0)
    assert _statuses(sweep.runs, cells) == ["done", "diverged", "done"]
    assert reads == [cells[2]]
    assert _statuses(sweep.runs, cells) == ["done", "diverged", "done"]
    assert reads == [cells[2]]


def test_an_edit_of_the_same_size_and_time_is_noticed(sweep: Golden) -> None:
    cells = _names(sweep.runs)
    records_in(sweep.runs, cells)
    path = sweep.runs / cells[0] / "record.json"
    before = path.stat()
    path.write_text(path.read_text().replace('"test_error": 0.05', '"test_error": 0.04'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    assert records_in(sweep.runs, cells)["test_error"][0] == 0.04


def test_a_record_that_is_gone_is_missing(sweep: Golden) -> None:
    cells = _names(sweep.runs)
    records_in(sweep.runs, cells)
    (sweep.runs / cells[0] / "record.json").unlink()
    assert _statuses(sweep.runs, cells) == ["missing", "diverged", "error"]


def test_a_record_of_this_moment_is_not_kept(sweep: Golden, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # Another write within the same tick of the clock, of the same size, might have the same stamp.
    monkeypatch.setattr(index, "_TICK_NS", 3600 * 10**9)
    cells = _names(sweep.runs)
    records_in(sweep.runs, cells)
    assert not index_path(sweep.runs).exists()
    records_in(sweep.runs, cells)
    assert reads == [*cells, *cells]


def test_a_record_that_changes_while_it_is_read_is_read_again(sweep: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = _names(sweep.runs)[2]
    reads = []

    def read(path: Path) -> dict[str, Any]:
        reads.append(read_row(path)["status"])
        if len(reads) == 1:
            sweep.cell({"seed": 2}, 8.0)
        return read_row(path) if len(reads) > 1 else {"status": reads[0]}

    monkeypatch.setattr(index, "read_row", read)
    assert _statuses(sweep.runs, [cell]) == ["done"]
    assert reads == ["error", "done"]


def test_a_damaged_record_is_never_kept(sweep: Golden) -> None:
    cells = _names(sweep.runs)
    path = sweep.runs / cells[0] / "record.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert _statuses(sweep.runs, cells) == ["unreadable", "diverged", "error"]
    # Its message names the path as it was given.
    (sweep.runs.parent / "link").symlink_to(sweep.runs)
    causes = records_in(sweep.runs.parent / "link", cells)["cause"]
    assert causes[0].startswith(f"{sweep.runs.parent / 'link' / cells[0] / 'record.json'}: not a whole JSON file")
    path.write_bytes(whole)
    assert _statuses(sweep.runs, cells) == ["done", "diverged", "error"]


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        lambda content: b"",
        lambda content: b"\0" * len(content),
        lambda content: content + b"\0",
        lambda content: content[32:],
        *(lambda content, tenth=tenth: _flip(content, len(content) * tenth // 10) for tenth in range(10)),
    ],
)
def test_a_damaged_index_changes_no_number(damage: Any, sweep: Golden, reads: list[str]) -> None:
    cells = _names(sweep.runs)
    first = records_in(sweep.runs, cells)
    path = index_path(sweep.runs)
    path.write_bytes(damage(path.read_bytes()))
    reads.clear()
    assert _same(records_in(sweep.runs, cells), first)
    assert reads == cells
    assert _same(records_in(sweep.runs, cells), first)
    assert reads == cells


def test_an_index_without_its_file_is_made_again(sweep: Golden, reads: list[str]) -> None:
    cells = _names(sweep.runs)
    first = records_in(sweep.runs, cells)
    index_path(sweep.runs).unlink()
    reads.clear()
    assert _same(records_in(sweep.runs, cells), first)
    assert reads == cells
    assert index_path(sweep.runs).exists()


def test_an_index_of_other_source_is_not_believed(
    sweep: Golden, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = _names(sweep.runs)
    monkeypatch.setattr(index, "_source", lambda: b"before")
    records_in(sweep.runs, cells)
    monkeypatch.setattr(index, "_source", lambda: b"after")
    records_in(sweep.runs, cells)
    assert reads == [*cells, *cells]


@pytest.mark.parametrize("cache", ["file", "file/below", "missing"])
def test_a_cache_that_cannot_be_written_is_no_error(
    cache: str, sweep: Golden, reads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    # As root every folder can be written, so "missing" is one that mkdir refuses.
    monkeypatch.setenv("STRIVE_CACHE", "/proc/1/nowhere" if cache == "missing" else str(tmp_path / cache))
    cells = _names(sweep.runs)
    for _ in range(2):
        assert _statuses(sweep.runs, cells) == ["done", "diverged", "error"]
    assert reads == [*cells, *cells]


def test_a_folder_in_the_place_of_the_index_is_no_error(sweep: Golden) -> None:
    index_path(sweep.runs).mkdir(parents=True)
    assert _statuses(sweep.runs, _names(sweep.runs)) == ["done", "diverged", "error"]
    assert list(index_path(sweep.runs).parent.iterdir()) == [index_path(sweep.runs)]


def test_few_new_records_do_not_write_the_file_again(sweep: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_WORTH", 4)
    records_in(sweep.runs, _names(sweep.runs))
    assert not index_path(sweep.runs).exists()
    sweep.cell({"seed": 3}, 7.0)
    records_in(sweep.runs, _names(sweep.runs))
    assert index_path(sweep.runs).exists()


def test_the_index_keeps_what_was_not_asked_for_and_forgets_what_is_gone(sweep: Golden, reads: list[str]) -> None:
    cells = _names(sweep.runs)
    records_in(sweep.runs, cells[:2])
    (sweep.runs / cells[0]).rename(sweep.runs.parent / cells[0])
    records_in(sweep.runs, cells[2:])
    assert reads == cells
    assert index._read(index_path(sweep.runs))["cell"].tolist() == cells[1:]
    assert _statuses(sweep.runs, cells) == ["missing", "diverged", "error"]
    assert reads == cells


def test_one_folder_under_two_names_has_one_index(sweep: Golden, reads: list[str], tmp_path: Path) -> None:
    cells = _names(sweep.runs)
    (tmp_path / "link").symlink_to(sweep.runs)
    records_in(sweep.runs, cells)
    records_in(tmp_path / "link", cells)
    assert reads == cells


def test_two_folders_with_one_cell_have_two_indexes(tmp_path: Path) -> None:
    mine, theirs = Golden(tmp_path / "a/runs"), Golden(tmp_path / "b/runs")
    (cell,) = {sweep.cell({}, error).name for sweep, error in ((mine, 5.0), (theirs, 6.0))}
    for _ in range(2):
        assert records_in(mine.runs, [cell])["test_error"].tolist() == [0.05]
        assert records_in(theirs.runs, [cell])["test_error"].tolist() == [0.06]


def test_readers_at_the_same_time_see_whole_indexes(golden: MakeGolden) -> None:
    made = golden()
    for seed in range(8):
        made.cell({"seed": seed}, float(seed))
    cells = [name for seed in range(8) for name in _names(made.runs) if f"-s{seed}-" in name]
    wrong = []
    begin = threading.Barrier(4)

    def read(own: Sequence[str]) -> None:
        begin.wait()
        for _ in range(5):
            found = records_in(made.runs, own)["test_error"]
            expected = [cells.index(cell) / 100 for cell in own]
            if found.tolist() != expected:
                wrong.append(found.tolist())
            index_path(made.runs).unlink(missing_ok=True)

    threads = [threading.Thread(target=read, args=(cells[start : start + 5],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert [path for path in index_path(made.runs).parent.iterdir() if path.suffix == ".tmp"] == []


def test_the_index_holds_no_pickle_and_no_path_of_the_folder(sweep: Golden) -> None:
    records_in(sweep.runs, _names(sweep.runs))
    content = index_path(sweep.runs).read_bytes()
    assert content[32:38] == b"ARROW1"
    assert os.fsencode(sweep.runs) not in content


def test_a_record_checked_by_hand_is_what_the_index_says(sweep: Golden) -> None:
    cells = _names(sweep.runs)
    for _ in range(2):
        columns = records_in(sweep.runs, cells)
    content = json.loads((sweep.runs / cells[0] / "record.json").read_text())
    for part in ("result", "provenance"):
        for name, value in content[part].items():
            if isinstance(value, dict):
                continue  # no column
            found = columns[name][0]
            if value is None and np.isnan(found):
                continue
            assert found == ("; ".join(value) if isinstance(value, list) else value), name
