import json
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

from strive.app import in_use
from strive.cells.evidence import check_record, remark
from strive.cells.history import read_history
from strive.cells.records import Status, read_record
from strive.cells.schema1 import is_logistics
from strive.config import identity
from strive.errors import RecordError

COMMITTED = sorted(ROOT.glob("results/table3_small/*/record.json"))[0]


def edited(tmp_path: Path, **parts: Any) -> Path:
    """Write a committed record with other values; a mapping changes the values of its part."""
    content = json.loads(COMMITTED.read_text())
    for name, value in parts.items():
        content[name] = content[name] | value if isinstance(value, dict) and content.get(name) else value
    path = tmp_path / str(content["cell"]) / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    return path


def test_a_record_is_read_with_all_that_it_says():
    old, record = json.loads(COMMITTED.read_text()), read_record(COMMITTED)
    assert record.flat == old["config"]
    assert record.result == old["result"]
    made = {**record.provenance.details, "seconds": record.provenance.seconds, "host": record.provenance.host}
    for name in ("host", "layout", "compiled", "images_per_second"):
        assert made[name] == old["provenance"][name]
    assert made["seconds"] == old["provenance"]["train_seconds"]
    assert record.provenance.packages == {"torch": old["provenance"]["torch"]}
    assert record.data == {"images": old["provenance"]["data_fingerprint"]}


def test_its_logistics_are_those_of_its_schema(make_config):
    flat = in_use().flat(make_config())
    assert {key for key in flat if not is_logistics(key)} == identity.science_keys()
    assert "data.root" in read_record(COMMITTED).logistics


def test_its_id_is_checked_by_the_rule_of_its_schema(tmp_path: Path):
    assert read_record(edited(tmp_path / "a", config={"trainer.of_another_version": 1})).status is Status.done
    with pytest.raises(RecordError, match="its config belongs to a cell whose id ends in"):
        read_record(edited(tmp_path / "b", config={"optimizer.lr": 0.7}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"result": {"test_error": 7.3}}, "result.test_error must be float <= 1.0, got 7.3"),
        ({"result": {"epochs": 2.5}}, "result.epochs must be int, got 2.5"),
        ({"provenance": {"inexact": "no"}}, "provenance.inexact must be array, got 'no'"),
        ({"result": None}, "status done does not fit"),
        ({"failure": {"cause": "", "traceback": ""}}, "status done does not fit"),
        ({"status": "error"}, "status error does not fit"),
        ({"extra": 1}, "has an unknown field extra"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(tmp_path: Path, change: dict[str, Any], message: str):
    with pytest.raises(RecordError) as caught:
        read_record(edited(tmp_path, **change))
    assert message in str(caught.value)


def test_a_diverged_cell_says_why(tmp_path: Path):
    path = edited(tmp_path, status="diverged", result={"train_loss": None})
    epochs = json.loads(path.read_text())["result"]["epochs"]
    assert remark(read_record(path)) == f"the training loss was not finite in epoch {epochs} of {epochs}"


def test_what_chance_gives_makes_a_dead_net(tmp_path: Path):
    record = read_record(edited(tmp_path, provenance={"chance_error": 0.0}))
    assert remark(record) == "dead, not below the 0.00% of always naming the largest class"


def test_its_history_is_checked_like_a_new_one():
    record = read_record(COMMITTED)
    evidence = check_record(record, COMMITTED.parent)
    assert evidence.contradictions == ()
    steps = read_history(COMMITTED.parent)
    assert [each["step"] for each in steps] == list(range(1, int(record.metrics["epochs"] or 0) + 1))
