import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from omegaconf.errors import ValidationError
from support import MakeConfig

from allcnn.training_pack import run_cell
from strive.cells import records
from strive.cells.find_record import find_record
from strive.cells.records import Failure, Record, Status
from strive.cells.reproduce import config_again, differing, known_differences, other_differences, verdict
from strive.config import identity
from strive.errors import ConfigError, RecordError, UsageError


@pytest.fixture
def trained(make_small: MakeConfig) -> Path:
    """The record of a small cell that was trained."""
    config = make_small("budget.epochs=1")
    record = run_cell(config)
    return records.record_path(Path(config.runs), record.cell)


def changed(path: Path, part: str, **values: Any) -> Path:
    content = json.loads(path.read_text())
    content[part] |= values
    path.write_text(json.dumps(content))
    return path


def failed(path: Path, cause: str = "RuntimeError: no") -> Path:
    content = json.loads(path.read_text())
    content |= {"status": "error", "metrics": {}, "outputs": {}, "failure": {"cause": cause, "traceback": ""}}
    path.write_text(json.dumps(content))
    return path


def reproduce(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "strive", "reproduce", *arguments],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


# --- the command


def test_a_cell_that_is_trained_again_is_identical_and_nothing_is_overwritten(trained: Path, tmp_path: Path):
    before = {path: path.read_bytes() for path in trained.parent.iterdir()}
    done = reproduce(trained.parent.name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "identical: all 11 numbers of the result agree to the last bit" in done.stdout
    assert "nothing else differs" in done.stdout
    assert {path: path.read_bytes() for path in trained.parent.iterdir()} == before
    again = tmp_path / "runs" / "reproduced" / trained.parent.name / "record.json"
    assert records.read_record(again).result == records.read_record(trained).result

    # Once more: trained anew, the earlier reproduction is kept.
    done = reproduce(trained.parent.name[-10:], "--runs", str(tmp_path / "runs"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert again.with_name("record-1.json").exists()


def test_other_numbers_are_told_field_by_field_with_what_else_differs(trained: Path, tmp_path: Path):
    error = records.read_record(trained).metrics["test_error"]
    changed(trained, "metrics", test_error=error / 2)
    changed(trained, "outputs", weights="0" * 64)
    changed(trained, "provenance", code_hash="0123456789", packages={"torch": "1.0"})
    done = reproduce(str(trained.parent), cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "not as it was, so the last bits may differ:\n  code_hash: 0123456789, here " in done.stderr
    assert "different: 2 of 11 numbers of the result" in done.stdout
    assert f"test_error: {error / 2}, now {error} (+{error / 2:.3g}, 1 of it)" in done.stdout
    assert "weights_sha256: 0000000000..., now " in done.stdout
    assert "what else differs:\n  code_hash: 0123456789, now " in done.stdout
    assert "  torch: 1.0, now " in done.stdout

    # What was trained is compared again without training.
    stamp = (tmp_path / "runs" / "reproduced" / trained.parent.name / "record.json").stat().st_mtime_ns
    kept = reproduce(str(trained.parent), "--keep", cwd=tmp_path)
    assert (kept.returncode, kept.stdout) == (1, done.stdout.partition("\n")[2])
    assert (tmp_path / "runs" / "reproduced" / trained.parent.name / "record.json").stat().st_mtime_ns == stamp


def test_what_cannot_be_compared_is_an_error_without_a_stack_trace(trained: Path, tmp_path: Path):
    cell = trained.parent.name
    cases = [
        (["nothing"], f"there is no cell nothing in runs; it has 1:\n  {cell}"),
        (["all", "--runs", "empty"], "there is no record in empty"),
        ([cell, "optimizer.lr=0.5"], "optimizer.lr=0.5 would make it another cell"),
        ([cell, "trainer.threads=many"], "trainer.threads is: CPU threads"),
        ([cell, "other-cell"], "other-cell is no KEY=VALUE; one cell at a time"),
        ([cell, "--into", "runs"], "--into=runs is where the record lies"),
    ]
    (tmp_path / "empty").mkdir()
    for arguments, message in cases:
        done = reproduce(*arguments, cwd=tmp_path)
        assert done.returncode == 2, done.stdout
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    failed(trained, "RuntimeError: \x1b[2Jno")
    done = reproduce(cell, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{cell} has no result to compare with: error: RuntimeError: \\x1b[2Jno" in done.stderr
    assert not (tmp_path / "runs" / "reproduced").exists()


# --- its parts


def test_a_cell_is_found_by_its_id_the_ids_start_its_digits_or_its_folder(tmp_path: Path):
    runs = tmp_path / "runs"
    for cell in ("all_cnn_a-s0-0123456789", "all_cnn_a-s1-abcdef0123", "all_cnn_a-s1-abcdef01234"):
        records.record_path(runs, cell).parent.mkdir(parents=True)
        records.record_path(runs, cell).touch()
    (runs / "no_record-9999999999").mkdir()
    first = records.record_path(runs, "all_cnn_a-s0-0123456789")
    for name in ("all_cnn_a-s0-0123456789", "all_cnn_a-s0", "0123456789", str(first.parent), str(first)):
        assert find_record([runs], name) == first
    assert find_record([runs], "all_cnn_a-s1-abcdef0123").parent.name == "all_cnn_a-s1-abcdef0123"
    with pytest.raises(UsageError, match=r"all_cnn is the start of 3 cells in .*:\n  all_cnn_a-s0-0123456789\n"):
        find_record([runs], "all_cnn")
    with pytest.raises(UsageError, match="no cell no_record"):
        find_record([runs], "no_record")


def test_threads_and_compilation_are_those_of_the_record(trained: Path, tmp_path: Path):
    record = records.read_record(changed(trained, "provenance", threads=7, details={"compiled": True}))
    config = config_again(record, tmp_path / "into", {})
    assert (config.trainer.threads, config.trainer.compile) == (7, True)
    assert config.trainer.device.value == "cpu", "it trained on this machine's processor"
    assert config.runs == str(tmp_path / "into")
    assert identity.cell_id(config) == record.cell
    elsewhere = replace(record, provenance=replace(record.provenance, device="another"))
    assert config_again(elsewhere, tmp_path, {}).trainer.device.value == "auto"


def test_logistics_can_be_set_and_nothing_else(trained: Path, tmp_path: Path):
    record = records.read_record(trained)
    config = config_again(record, tmp_path, {"data.root": "/images", "trainer.threads": "3", "data.download": "true"})
    assert (config.data.root, config.trainer.threads, config.data.download) == ("/images", 3, True)
    with pytest.raises(ConfigError, match="seed=1 would make it another cell"):
        config_again(record, tmp_path, {"seed": "1"})
    with pytest.raises(ConfigError, match=r"there is no key trainer\.thread; here data\.root, .*trainer\.progress"):
        config_again(record, tmp_path, {"trainer.thread": "1"})
    with pytest.raises(ConfigError, match=r"trainer\.threads must be 0 or more"):
        config_again(record, tmp_path, {"trainer.threads": "-1"})
    with pytest.raises(ValidationError):
        config_again(record, tmp_path, {"trainer.device": "tpu"})


def test_what_differs_before_training_is_foreseen(trained: Path, tmp_path: Path):
    record = records.read_record(trained)
    config = config_again(record, tmp_path, {})
    assert known_differences(record, config) == []
    config.trainer.threads = 5
    assert known_differences(record, config) == ["  threads: 1, here 5"]


def test_every_number_of_a_result_is_compared(trained: Path):
    record = records.read_record(trained)
    assert differing(record, record) == {}
    for name in record.metrics:
        assert list(differing(record, replace(record, metrics=record.metrics | {name: -1.0}))) == [name]
    for name in record.outputs:
        assert list(differing(record, replace(record, outputs=record.outputs | {name: "x"}))) == [f"{name}_sha256"]


def test_what_says_nothing_about_the_numbers_is_not_held_against_them(trained: Path):
    record = records.read_record(trained)
    later = replace(record, provenance=replace(record.provenance, finished="later", seconds=9.0, resumes=1))
    assert other_differences(record, later) == {}
    inexact = replace(record, provenance=replace(record.provenance, inexact=["device changed"]))
    assert other_differences(record, inexact) == {"inexact": ([], ["device changed"])}


def second(trained: Path, tmp_path: Path, **changes: Any) -> Path:
    record = replace(records.read_record(trained), **changes)
    return records.write_record(tmp_path / "again", record)


def test_predictions_are_compared_where_both_are_there(trained: Path, tmp_path: Path):
    outputs = records.read_record(trained).outputs | {"predictions": "0" * 64}
    again = second(trained, tmp_path, outputs=outputs)
    same, lines = verdict(trained, again)
    assert not same
    assert not any("test images" in line for line in lines)
    logits = np.load(trained.with_name("predictions.npz"))["logits"]
    others = logits.copy()
    others[:3] = -logits[:3]
    np.savez(again.with_name("predictions.npz"), logits=others)
    largest = 2 * np.abs(logits[:3]).max()
    _, lines = verdict(trained, again)
    assert f"  3 of {len(logits)} test images get another class; largest difference of a logit: {largest:.3g}" in lines


def test_another_status_is_different_even_with_the_same_numbers(trained: Path, tmp_path: Path):
    same, lines = verdict(trained, second(trained, tmp_path, status=Status.diverged))
    assert not same
    assert "  status: done, now diverged" in lines
    failure = Failure(cause="RuntimeError: boom", traceback="")
    same, lines = verdict(
        trained, second(trained, tmp_path, status=Status.error, metrics={}, outputs={}, failure=failure)
    )
    assert not same
    assert lines[0] == "different: it was done, and now ended as error: RuntimeError: boom"


def test_a_record_of_another_schema_is_refused_as_everywhere(trained: Path, tmp_path: Path):
    content = json.loads(trained.read_text()) | {"schema": 99}
    trained.write_text(json.dumps(content))
    with pytest.raises(RecordError, match="schema 99"):
        verdict(trained, trained)


def test_a_record_whose_config_has_another_id_in_this_version_is_refused(trained: Path, tmp_path: Path):
    record: Record = replace(records.read_record(trained), cell="all_cnn_c-digits-none-lr0.05-s0-0000000000")
    with pytest.raises(RecordError, match="in this version of strive its config is that of"):
        config_again(record, tmp_path, {})
