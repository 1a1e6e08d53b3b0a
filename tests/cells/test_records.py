import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from study_records import study_record
from support import ROOT

from allcnn.config import Config
from strive.cells import records
from strive.cells.records import Failure, Provenance, Record, Status, make_folder, read_record, write_record
from strive.config import identity
from strive.errors import ConfigError, RecordError


def record(status: Status = Status.done, **more: Any) -> Record:
    return study_record(Config(), status, **more)


def altered(path: Path, **changes: object) -> Path:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


def test_a_record_is_read_as_it_was_written(tmp_path: Path):
    path = write_record(tmp_path, record())
    assert path == tmp_path / record().cell / "record.json"
    assert read_record(path) == record()


def test_a_failure_is_a_record_too(tmp_path: Path):
    failed = record(Status.error, failure=Failure(cause="ValueError: no", traceback="..."))
    assert read_record(write_record(tmp_path, failed)) == failed


def test_an_earlier_record_is_kept_beside_the_new_one(tmp_path: Path):
    for cause in ("first", "second"):
        write_record(tmp_path, record(Status.error, failure=Failure(cause=cause, traceback="")))
    path = write_record(tmp_path, record())
    assert read_record(path).status is Status.done
    assert sorted(file.name for file in path.parent.iterdir()) == ["record-1.json", "record-2.json", "record.json"]
    assert json.loads(path.with_name("record-2.json").read_text())["failure"]["cause"] == "second"


def test_a_write_that_fails_leaves_the_old_record_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_record(tmp_path, record())

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_record(tmp_path, record(test_error=0.5))
    assert read_record(path) == record()
    assert not list(path.parent.glob(".*"))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_record_is_refused(tmp_path: Path, share: float):
    path = write_record(tmp_path, record())
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(RecordError, match=r"record\.json: not a whole JSON file"):
        read_record(path)


def test_a_file_that_is_no_record_is_refused(tmp_path: Path):
    path = tmp_path / "record.json"
    path.write_text("[1, 2]")
    with pytest.raises(RecordError, match="not a record"):
        read_record(path)


def test_a_record_of_another_schema_is_refused(tmp_path: Path):
    path = altered(write_record(tmp_path, record()), schema=0)
    with pytest.raises(RecordError, match="schema 0, this version reads schemas 1 and 2"):
        read_record(path)


def test_a_record_in_another_cells_folder_is_refused(tmp_path: Path):
    path = write_record(tmp_path, record())
    moved = path.parent.rename(tmp_path / "model_a-cifar10-none-lr0.05-s0-0000000000") / "record.json"
    with pytest.raises(RecordError, match="but lies in model_a"):
        read_record(moved)


def test_a_record_whose_config_was_edited_is_refused(tmp_path: Path):
    path = write_record(tmp_path, record())
    config = record().config | {"optimizer.lr": 0.1}
    with pytest.raises(RecordError, match="its config belongs to a cell whose id ends in"):
        read_record(altered(path, config=config))


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("metrics", "test_error", "0.1", "metrics.test_error must be int or float or null, got '0.1'"),
        ("metrics", "epochs", True, "metrics.epochs must be int or float or null, got True"),
        ("metrics", "test_error", float("nan"), "NaN is not a number of JSON"),
        ("chance", "test_error", None, "chance.test_error must be float, got None"),
        ("outputs", "weights", 1, "outputs.weights must be str, got 1"),
        ("provenance", "details", {"layout": []}, "provenance.details.layout must be "),
        ("provenance", "inexact", "no", "provenance.inexact must be array, got 'no'"),
    ],
)
def test_a_value_of_another_type_is_never_read_as_a_number(
    tmp_path: Path, part: str, field: str, value: object, message: str
):
    path = write_record(tmp_path, record())
    content = json.loads(path.read_text())
    content[part][field] = value
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError) as caught:
        read_record(path)
    assert message in str(caught.value)


def test_a_lacking_or_unknown_field_is_refused(tmp_path: Path):
    path = write_record(tmp_path, record())
    with pytest.raises(RecordError, match="Record has an unknown field extra"):
        read_record(altered(path, extra=1))


def test_a_result_without_its_status_is_refused(tmp_path: Path):
    path = altered(write_record(tmp_path, record()), status="error")
    with pytest.raises(RecordError, match="status error does not fit"):
        read_record(path)


def test_every_field_of_a_record_is_in_its_documentation():
    text = (ROOT / "docs" / "record.md").read_text()
    for part in (Record, Failure, Provenance):
        for name in part.__struct_fields__:
            assert f"`{name}`" in text, name


@pytest.mark.parametrize("module", ["strive.cells.records", "strive.code.hash", "allcnn.config"])
def test_what_analysis_reads_needs_no_torch(module: str):
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT / "src").returncode == 0


def test_a_record_without_a_science_key_is_refused_and_other_logistics_keys_are_read(tmp_path: Path):
    path = write_record(tmp_path, record())
    own = record().logistics
    other = {key: value for key, value in own.items() if key != "trainer.progress"} | {"trainer.new": 1}
    assert read_record(altered(path, logistics=other)).logistics == other
    lacking = {key: value for key, value in record().config.items() if key != "optimizer.lr"}
    with pytest.raises(RecordError, match="its config belongs to a cell whose id ends in"):
        read_record(altered(path, config=lacking))


def test_a_key_in_both_parts_is_refused(tmp_path: Path):
    path = write_record(tmp_path, record())
    with pytest.raises(RecordError, match="seed is in config and in logistics"):
        read_record(altered(path, logistics={"seed": 0}))


def test_a_metric_that_no_float_holds_is_refused(tmp_path: Path):
    path = write_record(tmp_path, record(test_loss=0.125))
    path.write_text(path.read_text().replace("0.125", "1e999"))
    with pytest.raises(RecordError, match=r"metrics\.test_loss must be a finite number or null, got inf"):
        read_record(path)
    path.write_text(path.read_text().replace("1e999", "1" + 400 * "0"))
    with pytest.raises(RecordError, match=r"metrics\.test_loss must be"):
        read_record(path)


def test_a_record_of_another_app_needs_nothing_of_the_study(tmp_path: Path):
    config = {"lr": 0.1, "layers": [64, 64], "optimizer": "adamw"}
    cell = f"char_lm-{identity.hash_of(config)}"
    written = replace(
        record(), cell=cell, config=config, logistics={"workers": 2}, metrics={"val_loss": 1.5, "bleu": None},
        outputs={}, data={}, chance={"val_loss": 4.2},
    )  # fmt: skip
    assert read_record(write_record(tmp_path, written)) == written
    assert records.record_in(tmp_path, cell, config) == written
    assert written.result == {"val_loss": 1.5, "bleu": None}
    assert written.flat == config | {"workers": 2}


def test_a_status_of_another_type_is_refused(tmp_path: Path):
    with pytest.raises(RecordError, match="status must be one of done, "):
        read_record(altered(write_record(tmp_path, record()), status=[]))


def test_a_folder_where_there_can_be_none_is_a_users_mistake():
    with pytest.raises(ConfigError, match="/proc/of-nobody: no folder can be made there; give another one"):
        make_folder(Path("/proc/of-nobody"))
