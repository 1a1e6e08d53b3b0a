import json
from pathlib import Path

import pytest

from strive.trackers.upload_state import NAME, UploadState, read_upload_state, write_upload_state

STATE = UploadState(server="http://s", entity="e", project="p", id="cell", url="http://s/e/p/runs/cell", content="ab")


def test_an_upload_state_reads_back_as_it_was_written(tmp_path: Path):
    write_upload_state(tmp_path, STATE)
    assert read_upload_state(tmp_path) == STATE


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"server": 1}', "\x00"])
def test_a_damaged_one_is_as_none_so_that_the_server_is_asked(tmp_path: Path, text: str):
    (tmp_path / NAME).write_text(text)
    assert read_upload_state(tmp_path) is None
    write_upload_state(tmp_path, STATE)
    content = json.loads((tmp_path / NAME).read_text())
    (tmp_path / NAME).write_text(json.dumps(content | {"content": 1}))
    assert read_upload_state(tmp_path) is None


def test_one_of_an_earlier_version_still_says_which_w_and_b_run_it_is(tmp_path: Path):
    write_upload_state(tmp_path, STATE)
    content = json.loads((tmp_path / NAME).read_text())
    earlier = {key: value for key, value in content.items() if key != "content"}
    (tmp_path / NAME).write_text(json.dumps(earlier | {"epochs": ["0a"], "tags": ["c"], "sha256": "ab"}))
    read = read_upload_state(tmp_path)
    assert read is not None
    assert (read.id, read.content) == (STATE.id, "")
