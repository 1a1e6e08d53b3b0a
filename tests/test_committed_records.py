import pytest
from support import ROOT

from allcnn.app import APP
from strive.cells.records import read_record
from strive.code.same_code import is_stale

RECORDS = [read_record(path) for path in sorted((ROOT / "results").glob("*/*/record.json"))]
# Strided-CNN-B without batch normalisation changed in its last bits; no record of it is committed.


def test_there_are_committed_records():
    assert len(RECORDS) >= 74, "and more as studies go on"


def test_the_code_of_today_trains_the_numbers_of_the_committed_records():
    made = {record.provenance.code_hash for record in RECORDS}
    now = APP.code_of({}).hash
    stale = [record.cell for record in RECORDS if is_stale(record.provenance.code_hash, now, record.config)]
    if stale:
        pytest.fail(
            f"{len(stale)} of {len(RECORDS)} committed records are of other code ({', '.join(made)}) than this ({now}):"
            " the files that decide numbers have changed. Commit, then run\n"
            "  .venv/bin/python tools/same_code.py --write f888b26\n"
            "which trains both versions (minutes) and writes strive/code/same_code.json; commit that. If it says that"
            " numbers have moved, the records are to be trained again, or the change is to be taken back.",
            pytrace=False,
        )
