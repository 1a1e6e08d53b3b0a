import json
import math
from pathlib import Path

import numpy as np
import pytest

from strive.results.learning_curves import Curve, mean_curve, read_curve

LINES = [
    {"step": 1, "lr": 0.05, "train_loss": 2.25, "train_error": 0.75, "val_loss": 2.0, "val_error": 0.625},
    {"step": 2, "lr": 0.005, "train_loss": None, "train_error": 0.5, "val_loss": None, "val_error": None},
]


def written(folder: Path, content: bytes) -> Path:
    (folder / "history.jsonl").write_bytes(content)
    return folder


def text_of(*lines: object) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def at(number: int, curve: Curve) -> dict[str, float]:
    return {name: float(values[number]) for name, values in curve.items()}


def test_a_step_has_the_numbers_of_its_line(tmp_path: Path):
    found = at(0, read_curve(written(tmp_path, text_of(*LINES))))
    assert list(found.items()) == list(LINES[0].items())


def test_what_was_not_held_out_or_not_finite_is_nan(tmp_path: Path):
    second = at(1, read_curve(written(tmp_path, text_of(*LINES))))
    assert [second[name] for name in ("step", "lr", "train_error")] == [2, 0.005, 0.5]
    assert all(math.isnan(second[name]) for name in ("train_loss", "val_loss", "val_error"))


def test_wherever_a_file_is_cut_off_the_whole_lines_before_are_read(tmp_path: Path):
    content = text_of(*LINES)
    first = content.index(b"\n")
    for length in range(len(content) + 1):
        # A line that lacks its newline alone is whole.
        wanted = int(length >= first) + int(length >= len(content) - 1)
        assert len(read_curve(written(tmp_path, content[:length]))["step"]) == wanted


def test_a_cell_without_the_file_has_no_steps(tmp_path: Path):
    found = read_curve(tmp_path / "never")
    assert list(found) == ["step"]
    assert found["step"].shape == (0,)
    assert found["step"].dtype == float


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"3",
        b"null",
        b"",
        b"\xff\xfe",
        b'{"train_loss": 3}',
        json.dumps(LINES[0] | {"step": -1}).encode(),
        json.dumps(LINES[0] | {"step": 1.5}).encode(),
        json.dumps(LINES[0] | {"step": None}).encode(),
        json.dumps(LINES[0] | {"train_error": "0.5"}).encode(),
        json.dumps(LINES[0] | {"train_error": [0.5]}).encode(),
        json.dumps(LINES[0] | {"train_loss": math.nan}).encode(),
        json.dumps(LINES[0] | {"train_loss": math.inf}).encode(),
        json.dumps(LINES[0] | {"train_loss": 10**400}).encode(),
    ],
)
def test_a_line_that_is_no_step_is_left_out(tmp_path: Path, line: bytes):
    found = read_curve(written(tmp_path, line + b"\n" + text_of(LINES[1])))
    assert found["step"].tolist() == [2]


def curve(*errors: float, first: int = 1) -> Curve:
    return {"step": np.arange(first, first + len(errors), dtype=float), "train_error": np.array(errors)}


def test_a_mean_curve_is_the_mean_over_cells_at_each_step():
    found = mean_curve([curve(0.5, 0.25), curve(0.75, 0.75)], "train_error")
    assert {name: values.tolist() for name, values in found.items()} == {"step": [1, 2], "train_error": [0.625, 0.5]}


def test_where_one_cell_has_no_number_there_is_no_mean():
    first, second = mean_curve([curve(0.5, math.nan), curve(0.75, 0.75)], "train_error")["train_error"]
    assert first == 0.625
    assert math.isnan(second)


@pytest.mark.parametrize("curves", [[], [curve(0.5, 0.25), curve(0.5)], [curve(0.5), curve(0.5, first=2)]])
def test_cells_with_other_steps_have_no_mean_curve(curves: list[Curve]):
    assert mean_curve(curves, "train_error") == {}


def test_steps_that_log_other_names_have_all_columns(tmp_path: Path):
    found = read_curve(written(tmp_path, text_of({"step": 0, "bleu": 0.5}, {"step": 10, "val_loss": 1})))
    assert list(found) == ["step", "bleu", "val_loss"]
    assert np.isnan(found["bleu"]).tolist() == [False, True]


def test_a_history_of_schema_1_has_the_epoch_as_its_step(tmp_path: Path):
    (tmp_path / "epochs.jsonl").write_text('{"epoch": 1, "lr": 0.1, "train_loss": 2.5}\n')
    assert at(0, read_curve(tmp_path)) == {"step": 1, "lr": 0.1, "train_loss": 2.5}
