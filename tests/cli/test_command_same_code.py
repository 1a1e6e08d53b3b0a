import argparse
from pathlib import Path

import pytest
from study_records import study_record

from allcnn.config import Config, checked
from strive.cells import records
from strive.cli import same_code
from strive.code.same_code import noted


@pytest.fixture
def again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs folder whose one cell was trained again, by other code and with the same numbers."""
    runs, config = tmp_path / "runs", checked(Config())
    first = records.write_record(runs, study_record(config, provenance={"code_hash": "old"}))
    new = records.write_record(runs / "reproduced", study_record(config, provenance={"code_hash": "new"}))
    monkeypatch.setattr(same_code, "train_again", lambda options: (first, new))
    return runs


def test_code_that_gives_the_same_numbers_is_noted_once(again: Path, capsys: pytest.CaptureFixture[str]):
    assert same_code.run(argparse.Namespace()) == 0
    assert f"noted in {again}/same_code.json: code old and new train the same numbers" in capsys.readouterr().out
    (note,) = noted(again)
    assert (note.old, note.new) == ("old", "new")
    assert same_code.run(argparse.Namespace()) == 0
    assert "nothing to note: code old and new are known to be the same" in capsys.readouterr().out
    assert noted(again) == (note,)


def test_other_numbers_are_listed_and_noted_nowhere(again: Path, capsys: pytest.CaptureFixture[str]):
    other = study_record(checked(Config()), provenance={"code_hash": "new"}, test_error=0.1)
    records.write_record(again / "reproduced", other)
    assert same_code.run(argparse.Namespace()) == 1
    assert "test_error: 0.9, now 0.1" in capsys.readouterr().out
    assert not (again / "same_code.json").exists()
