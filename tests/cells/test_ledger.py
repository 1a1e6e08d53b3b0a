import subprocess
import sys
from pathlib import Path

import pytest

from strive.cells.ledger import (
    LEDGER,
    Kind,
    LedgerEntry,
    add_to_ledger,
    entry_id,
    read_ledger,
    scorings,
)


def entry(name: str) -> LedgerEntry:
    return LedgerEntry(id=entry_id(name), kind=Kind.comparison, what=name, metric="test_error", p_loss=0.1)


def names(runs: Path) -> list[str]:
    return [each.what for each in read_ledger(runs).values()]


def test_the_same_entry_is_one_however_often_it_is_added(tmp_path: Path):
    assert read_ledger(tmp_path) == {}
    assert add_to_ledger(tmp_path, [entry("a"), entry("b")]) == ""
    before = (tmp_path / LEDGER).read_bytes()
    assert add_to_ledger(tmp_path, [entry("b"), entry("a")]) == ""
    assert (tmp_path / LEDGER).read_bytes() == before
    assert add_to_ledger(tmp_path, [entry("c")]) == ""
    assert (tmp_path / LEDGER).read_bytes().startswith(before)
    assert names(tmp_path) == ["a", "b", "c"]
    assert all(each.at for each in read_ledger(tmp_path).values())


@pytest.mark.parametrize("damage", [b'{"id": "x", "ki', b"\xff\xfe\n", b"[" * 100_000 + b"\n", b"{}\n", b"\n\n"])
def test_a_damaged_line_costs_no_other(damage: bytes, tmp_path: Path):
    add_to_ledger(tmp_path, [entry("a")])
    with (tmp_path / LEDGER).open("ab") as file:
        file.write(damage)
    assert add_to_ledger(tmp_path, [entry("b")]) == ""
    assert names(tmp_path) == ["a", "b"]


def test_processes_that_add_at_once_lose_no_line(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from strive.cells.ledger import *\n"
        "for number in range(50):\n"
        "    name = f'{sys.argv[2]} {number}' if number % 2 else f'both {number}'\n"
        "    entry = LedgerEntry(id=entry_id(name), kind=Kind.comparison, what=name, metric='m')\n"
        "    add_to_ledger(Path(sys.argv[1]), [entry])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    running = [subprocess.Popen([*command, name]) for name in ("one", "two")]
    assert [each.wait() for each in running] == [0, 0]
    assert len(names(tmp_path)) == 25 + 25 + 25


def test_a_ledger_that_cannot_be_written_ends_nothing_and_says_why(tmp_path: Path):
    (tmp_path / LEDGER).mkdir()
    assert read_ledger(tmp_path) == {}
    assert "cannot be written (Is a directory)" in add_to_ledger(tmp_path, [entry("a")])
    assert "cannot be written (No such file" in add_to_ledger(tmp_path / "gone", [entry("a")])


def test_a_cell_is_a_scoring_if_a_metric_of_it_is_of_test_data():
    assert scorings("a", {"val_acc": 0.5, "steps": 3}) == []
    (one,) = scorings("a", {"test_acc": 0.5, "test_loss": None, "val_acc": 0.4})
    assert (one.kind, one.what, one.metric) == (Kind.scoring, "a", "test_acc")
    assert scorings("a", {"test_acc": 0.5, "val_acc": 0.1})[0].id == one.id
    assert scorings("a", {"test_acc": 0.6})[0].id != one.id
