import json
from pathlib import Path

import pytest

from strive.trackers.upload_state import NAME, UploadState, checksum, read_upload_state, write_upload_state

STATE = UploadState(server="http://s", entity="e", project="p", id="cell", url="http://s/e/p/runs/cell", sha256="ab")


def test_a_receipt_reads_back_as_it_was_written(tmp_path: Path):
    write_upload_state(tmp_path, STATE)
    assert read_upload_state(tmp_path) == STATE


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"server": 1}', "\x00"])
def test_a_damaged_receipt_is_as_none_so_that_the_server_is_asked(tmp_path: Path, text: str):
    (tmp_path / NAME).write_text(text)
    assert read_upload_state(tmp_path) is None
    write_upload_state(tmp_path, STATE)
    content = json.loads((tmp_path / NAME).read_text())
    (tmp_path / NAME).write_text(json.dumps(content | {"epochs": "all"}))
    assert read_upload_state(tmp_path) is None


def test_epochs_contradict_only_where_both_have_them():
    state = UploadState(server="", entity="", project="", id="", url="", epochs=[checksum("a"), checksum("b")])
    assert not state.contradicts([])
    assert not state.contradicts(["a"])
    assert not state.contradicts(["a", "b", "c"])
    assert state.contradicts(["a", "c"])
    assert state.contradicts(["b"])


def test_a_checksum_is_the_crc_32_of_its_line():
    # The check value of CRC-32/ISO-HDLC: crc("123456789") = cbf43926.
    assert checksum("123456789") == "cbf43926"
