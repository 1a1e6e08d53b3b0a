import os

import numpy as np
import pytest
from golden import Golden, MakeGolden

from strive.cells import checked_record
from strive.cells.evidence import Evidence, check_record
from strive.cells.records import Record
from strive.results.record_row import read_row, read_rows


@pytest.fixture
def sweep(golden: MakeGolden) -> Golden:
    """Two results and a failure."""
    made: Golden = golden()
    made.cell({"seed": 0}, 5.0, val_error=6.0, inexact=["another torch", "ä"])
    made.cell({"seed": 1}, 90.0, status="diverged")
    made.cell({"seed": 2}, status="error", cause="no \udcff luck")
    return made


def test_rows_come_in_the_order_asked_for_with_text_that_can_be_written(sweep: Golden) -> None:
    cells = sorted(name for name in os.listdir(sweep.runs) if "-s" in name)
    found = read_rows(sweep.runs, [cells[2], "nothing", *cells[:2]]).columns
    assert found["status"].tolist() == ["error", "missing", "done", "diverged"]
    assert found["inexact"].tolist() == ["", "", "another torch; ä", ""]
    assert found["cause"][0] == "no ? luck"
    assert np.isnan(found["val_error"]).tolist() == [True, True, False, True]


def test_a_name_that_leads_out_of_the_folder_is_not_looked_for(sweep: Golden) -> None:
    (cell,) = (name for name in os.listdir(sweep.runs) if "-s0-" in name)
    (sweep.runs / "inside").mkdir()
    assert read_rows(sweep.runs / "inside", [f"../{cell}"]).columns["status"].tolist() == ["missing"]


def test_a_record_that_is_replaced_while_it_is_read_is_read_again(
    sweep: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder,) = sweep.runs.glob("*-s0-*")
    seen = []

    def checking(record: Record, place: str, *, most_bytes: float) -> Evidence:
        seen.append(record)
        if len(seen) > 1:
            return check_record(record, place, most_bytes=most_bytes)
        sweep.cell({"seed": 0}, 8.0)
        return Evidence(contradictions=("of the record before",))

    monkeypatch.setattr(checked_record, "check_record", checking)
    assert read_row(folder / "record.json").values["test_error"] == 0.08
