import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from support import ROOT, MakeConfig

from strive.app import in_use
from strive.cells.lease import take_claim
from strive.config import identity
from strive.errors import RecordError
from strive.trackers.cell_files import read_cell_files

REST = {"train_error": 0.5, "val_loss": None, "val_error": None}
LINES = [json.dumps({"step": n, "lr": 0.1, "train_loss": 2 / n} | REST) for n in (1, 2)]


def begun(folder: Path, config: str = "seed: 3\ntracker:\n  project: p\n", lines: list[str] = LINES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(config)
    (folder / "history.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


def test_a_cell_that_has_not_begun_leaves_no_trail(tmp_path: Path):
    assert read_cell_files(tmp_path / "nowhere") is None
    (tmp_path / "log.txt").write_text("starts")
    assert read_cell_files(tmp_path) is None


def test_a_cell_in_training_has_an_owner_and_one_that_was_left_has_none(tmp_path: Path):
    folder = begun(tmp_path / "cell")
    with take_claim(folder, 60):
        files = read_cell_files(folder)
        assert files is not None
        assert files.owner is not None
        assert (files.state, files.owner.pid) == ("training", os.getpid())
    files = read_cell_files(folder)
    assert files is not None
    assert (files.state, files.owner) == ("stopped", None)


def test_a_cell_whose_process_is_gone_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = begun(tmp_path / "cell")
    with take_claim(folder, 60):
        monkeypatch.setattr("strive.cells.state.surely_gone", lambda owner: owner.pid == os.getpid())
        files = read_cell_files(folder)
    assert files is not None
    assert (files.state, files.owner) == ("stopped", None)


@pytest.mark.parametrize("moment", [-1, 1])
def test_the_record_ends_a_cell_if_it_is_of_the_training_that_goes_on(tmp_path: Path, moment: int):
    # Its process writes the record, and gives the claim back a moment later; a retraining begins after the record.
    recorded = sorted(ROOT.glob("results/table3_small/*/record.json"))[0]
    folder = begun(tmp_path / recorded.parent.name)
    shutil.copy(recorded, folder)
    with take_claim(folder, 60) as claim:
        claimed = (claim.scratch / "owner.json").stat().st_mtime_ns
        os.utime(folder / "record.json", ns=(claimed + moment, claimed + moment))
        files = read_cell_files(folder)
    assert files is not None
    assert files.state == ("done" if moment > 0 else "training")
    assert (files.record is None, files.owner is None) == (moment < 0, moment > 0)


def test_the_config_is_flat_as_a_record_has_it(tmp_path: Path, make_config: MakeConfig):
    config = make_config("model=extra/custom", "model.builder=a.b:c", "+model.kwargs.depth=3")
    files = read_cell_files(begun(tmp_path / "cell", identity.to_yaml(config)))
    assert files is not None
    assert files.config == in_use().flat(config)


def test_rows_leave_out_what_has_no_value_and_start_where_asked(tmp_path: Path):
    files = read_cell_files(begun(tmp_path / "cell"))
    assert files is not None
    assert files.rows(1) == [{"epoch": 2, "lr": 0.1, "train_loss": 1.0, "train_error": 0.5}]
    assert len(files.rows(0)) == 2
    assert files.rows(2) == []


@pytest.mark.parametrize("damage", ["{", "[]", "\x00"])
def test_epochs_end_where_damage_begins(tmp_path: Path, damage: str):
    files = read_cell_files(begun(tmp_path / "cell", lines=[LINES[0], damage, LINES[1]]))
    assert files is not None
    assert files.epochs == LINES[:1]


@pytest.mark.parametrize("config", ["", "[1]", "a: [", "\x00"])
def test_a_damaged_config_is_as_none(tmp_path: Path, config: str):
    assert read_cell_files(begun(tmp_path / "cell", config)) is None


def test_while_a_result_is_replaced_the_new_training_is_the_trail(tmp_path: Path):
    folder = begun(tmp_path / "cell")
    begun(folder / "retraining", lines=LINES[:1])
    with take_claim(folder, 60):
        files = read_cell_files(folder)
    assert files is not None
    assert (files.cell, files.epochs, files.folder) == ("cell", LINES[:1], folder / "retraining")
    later = read_cell_files(folder)
    assert later is not None
    assert later.epochs == LINES


def test_a_record_that_cannot_be_trusted_is_named(tmp_path: Path):
    folder = begun(tmp_path / "cell")
    (folder / "record.json").write_text("{")
    with pytest.raises(RecordError, match=r"cell/record\.json"):
        read_cell_files(folder)
    (folder / "record.json").write_bytes(b"\xff")
    with pytest.raises(RecordError, match=r"cell/record\.json"):
        read_cell_files(folder)


def test_trails_of_the_same_files_are_equal(tmp_path: Path):
    folder = begun(tmp_path / "cell")
    first, second = read_cell_files(folder), read_cell_files(folder)
    assert first is not None
    assert second == replace(first)
