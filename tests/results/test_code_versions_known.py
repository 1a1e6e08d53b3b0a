from pathlib import Path

import pandas as pd
import pytest
from golden import Golden

from allcnn.app import APP
from strive.code import same_code
from strive.code.same_code import SameCodeRow, Side, compared
from strive.config import identity
from strive.results.code_versions import versions, versions_text
from strive.results.load import load_sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Golden:
    return Golden(tmp_path / "runs")


def cells(sweep: Golden) -> pd.DataFrame:
    return load_sweep(sweep.file, [sweep.write()]).cells


def vouch(monkeypatch: pytest.MonkeyPatch, frame: pd.DataFrame, *pairs: tuple[str, str], nets: list[str]) -> None:
    keys = [key for key in frame if key in identity.science_keys() - APP.absent().keys()]
    kinds = compared(frame[keys].to_dict("records"))
    rows = [
        SameCodeRow(
            old=Side(code_hash=old, commit=""), new=Side(code_hash=new, commit=""), date="", machine="", torch="",
            python="", same={net: ["bf16"] for net in nets}, different={}, compared=kinds,
        )
        for old, new in pairs
    ]  # fmt: skip
    monkeypatch.setattr(same_code, "rows_of", lambda path: rows)


def test_hashes_that_are_known_to_be_the_same_code_are_one_version(sweep: Golden, monkeypatch: pytest.MonkeyPatch):
    for seed, code in enumerate(("old", "old", "new")):
        sweep.cell({"seed": seed}, 10.0, code_hash=code)
    assert versions(cells(sweep)) == 2
    vouch(monkeypatch, cells(sweep), ("old", "new"), nets=["c all_cnn"])
    assert versions(cells(sweep)) == 1
    vouch(monkeypatch, cells(sweep), ("old", "new"), nets=["b strided"])
    assert versions(cells(sweep)) == 2


def test_cells_are_of_one_version_when_one_code_could_have_trained_them_all(
    sweep: Golden, monkeypatch: pytest.MonkeyPatch
):
    # The row does not speak for the base nets: theirs is the old code alone, with which the others agree.
    sweep.cell({"model.variant": "base"}, 10.0, code_hash="old")
    sweep.cell({"seed": 0}, 10.0, code_hash="new")
    sweep.cell({"seed": 1}, 10.0, code_hash="newer")
    pairs = (("old", "new"), ("new", "newer"))
    vouch(monkeypatch, cells(sweep), *pairs, nets=["c all_cnn"])
    assert versions(cells(sweep)) == 1
    sweep.cell({"model.variant": "base", "seed": 1}, 10.0, code_hash="new")
    vouch(monkeypatch, cells(sweep), *pairs, nets=["c all_cnn"])
    assert versions(cells(sweep)) == 3
    one, other = (cells(sweep).iloc[rows] for rows in ([0], [1, 2]))
    assert versions(one, other) == 1


def test_what_differs_is_named_where_the_records_say_it(sweep: Golden):
    sweep.cell({"seed": 0}, 10.0, code_hash="one", code_files={"mypkg/nets.py": "1", "mypkg/blocks.py": "1a"})
    sweep.cell({"seed": 1}, 10.0, code_hash="two", code_files={"mypkg/nets.py": "1", "mypkg/blocks.py": "2b"})
    assert versions_text(cells(sweep)) == "one (1 cell), two (1 cell); they differ in mypkg/blocks.py"
    sweep.cell({"seed": 2}, 10.0, code_hash="two")
    assert versions_text(cells(sweep).iloc[[0, 2]]) == "one (1 cell), two (1 cell)"
