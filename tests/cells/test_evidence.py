import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from sklearn.datasets import load_digits
from support import MakeConfig, write_result

from allcnn.randomness import generator
from allcnn.training_pack import run_cell
from strive.app import in_use
from strive.cells import records
from strive.cells.evidence import Evidence, check_record, remark
from strive.cells.metrics import Better, is_at_chance
from strive.cells.records import Record, Status
from strive.config import identity

# 20 test images of 3 classes; the first 5 are wrong, and 8 are of the largest class.
LABELS = np.array([0, 1, 2, 0, 1] + [0] * 6 + [1] * 5 + [2] * 4)
GUESSES = np.concatenate([(LABELS[:5] + 1) % 3, LABELS[5:]])
LOGITS = (2.0 * np.eye(3)[GUESSES]).astype(np.float32)
# The label's logit is 2 above two others where it is right, else 0 with one of 2: -log of its share.
LOSS = math.log(math.e**2 + 2) - 2 * 15 / 20
LAST = {"step": 3, "lr": 0.1, "train_loss": 1.25, "train_error": 0.375, "val_loss": 1.5, "val_error": 0.4375}

Change = Callable[[Path, dict[str, Any]], None]


@pytest.fixture
def folder(tmp_path: Path, make_config: MakeConfig) -> Path:
    """A cell with all that is compared, and nothing that contradicts."""
    config = make_config("budget.epochs=3")
    cell = write_result(tmp_path, config, Status.done, 5 / 20, None)
    place = tmp_path / cell
    np.savez(place / "predictions.npz", labels=LABELS, logits=LOGITS)
    lines = [LAST | {"step": number} for number in (1, 2, 3)]
    (place / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    last = {name: LAST[name] for name in ("train_loss", "train_error", "val_loss", "val_error")}
    edit(place, result(**last, test_loss=LOSS, predictions_sha256=hashlib.sha256(LOGITS.tobytes()).hexdigest()))
    return place


def edit(folder: Path, change: Change) -> None:
    """Edit a record by hand, and whatever else lies there."""
    path = folder / "record.json"
    content = json.loads(path.read_text())
    change(folder, content)
    path.write_text(json.dumps(content))


def weighed(folder: Path) -> Evidence:
    return check_record(records.read_record(folder / "record.json"), folder)


def test_a_record_that_everything_beside_it_agrees_with_is_not_contradicted(folder: Path):
    found = weighed(folder)
    assert (found.contradictions, found.not_checked) == ((), ())
    assert found.chance == {"test_error": 1 - 8 / 20}


def result(**changes: Any) -> Change:
    def change(_: Path, content: dict[str, Any]) -> None:
        if sha256 := changes.pop("predictions_sha256", None):
            content["outputs"]["predictions"] = sha256
        content["metrics"].update(changes)

    return change


def lines(change: Callable[[list[str]], list[str]]) -> Change:
    def cut(folder: Path, _: dict[str, Any]) -> None:
        path = folder / "history.jsonl"
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))

    return cut


def arrays(**changes: Any) -> Change:
    return lambda folder, _: np.savez(folder / "predictions.npz", **({"labels": LABELS, "logits": LOGITS} | changes))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (result(test_error=0.2), "record.json says test_error 0.2, predictions.npz beside it gives 0.25"),
        (result(test_loss=0.5), "record.json says test_loss 0.5, predictions.npz beside it gives"),
        (result(test_loss=None), "record.json says test_loss null, predictions.npz beside it gives"),
        (result(val_error=0.4), "record.json says val_error 0.4, history.jsonl beside it 0.4375"),
        (result(val_error=None), "record.json says val_error null, history.jsonl beside it 0.4375"),
        (result(train_loss=1.0), "record.json says train_loss 1.0, history.jsonl beside it 1.25"),
        (result(train_error=0.0), "record.json says train_error 0.0, history.jsonl beside it 0.375"),
        (result(epochs=2), "record.json says done after 2 epochs, its config budget.epochs=3"),
        (result(epochs=2), "record.json says 2 epochs, history.jsonl beside it has 3 lines and ends with epoch 3"),
        (result(predictions_sha256="0" * 64), "does not hold the predictions that the record beside it speaks of"),
        (lines(lambda found: found[:2]), "history.jsonl beside it has 2 lines and ends with epoch 2"),
        (lines(lambda found: found[1:]), "history.jsonl beside it has 2 lines and ends with epoch 3"),
        (lines(lambda found: []), "history.jsonl beside it cannot be read (it is empty)"),
        (lines(lambda found: [*found[:2], found[2][:20]]), "history.jsonl beside it cannot be read ("),
        (lines(lambda found: [*found[:2], "[]\n"]), "history.jsonl beside it cannot be read (its last line is no step"),
        (lines(lambda found: [*found[:2], "[" * 100_000]), "history.jsonl beside it cannot be read ("),
        (arrays(labels=LABELS[::-1].copy()), "record.json says test_error 0.25, predictions.npz beside it gives"),
        (arrays(logits=LOGITS[::-1].copy()), "does not hold the predictions that the record beside it speaks of"),
        (arrays(logits=LOGITS * np.float32(math.nan)), "does not hold the predictions that the record beside it"),
        (arrays(labels=LABELS[:10], logits=LOGITS[:10]), "does not hold the predictions that the record beside it"),
        (lambda folder, _: (folder / "predictions.npz").write_bytes(b"PK"), "predictions.npz cannot be read: "),
    ],
)
def test_a_number_that_was_edited_is_named_with_what_contradicts_it(folder: Path, change: Change, why: str):
    edit(folder, change)
    assert why in weighed(folder).why


def test_labels_that_were_edited_so_that_the_error_is_the_same_give_another_hash(folder: Path):
    before = weighed(folder).labels_sha256
    # Two images that the net gets right change places with their labels and logits; the record's hash goes along.
    order = [*range(10), 11, 10, *range(12, 20)]
    arrays(labels=LABELS[order], logits=LOGITS[order])(folder, {})
    edit(folder, result(predictions_sha256=hashlib.sha256(LOGITS[order].tobytes()).hexdigest()))
    after = weighed(folder)
    assert after.contradictions == ()
    assert after.labels_sha256 != before


def test_what_is_not_there_is_not_checked(folder: Path):
    (folder / "predictions.npz").unlink()
    (folder / "history.jsonl").unlink()
    found = weighed(folder)
    assert (found.contradictions, found.not_checked, found.chance) == ((), ("epochs", "test_error"), {})


def test_predictions_of_more_bytes_than_wanted_are_left_unread(folder: Path):
    found = check_record(records.read_record(folder / "record.json"), folder, most_bytes=10)
    assert found.not_checked == ("test_error",)


def test_the_loss_is_torch_s_cross_entropy(tmp_path: Path, folder: Path):
    logits = np.random.default_rng(0).normal(0, 30, (20, 3)).astype(np.float32)
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(LABELS)).item()
    error = int((torch.from_numpy(logits).argmax(1).numpy() != LABELS).sum()) / 20
    arrays(logits=logits)(folder, {})
    sha256 = hashlib.sha256(logits.tobytes()).hexdigest()
    edit(folder, result(test_loss=loss, test_error=error, predictions_sha256=sha256))
    assert weighed(folder).contradictions == ()


def test_a_diverged_cell_has_predictions_that_are_no_numbers_and_no_contradiction(folder: Path):
    logits = LOGITS * np.float32(math.nan)
    arrays(logits=logits)(folder, {})
    lines(lambda found: [found[0], json.dumps(LAST | {"step": 2, "train_loss": None}) + "\n"])(folder, {})
    # What is no number counts as the largest, so class 0 is named each time.
    error = int((LABELS != 0).sum()) / 20
    sha256 = hashlib.sha256(logits.tobytes()).hexdigest()
    edit(folder, lambda _, content: content.update(status="diverged", cause="nan in epoch 2"))
    edit(folder, result(epochs=2, train_loss=None, test_loss=None, test_error=error, predictions_sha256=sha256))
    assert weighed(folder).contradictions == ()
    assert remark(records.read_record(folder / "record.json")) == "nan in epoch 2"


def test_what_a_cell_really_leaves_behind_is_not_contradicted(make_small: MakeConfig):
    config = make_small("data.val_images=100")
    record = run_cell(config)
    found = check_record(record, Path(config.runs) / record.cell)
    assert (found.contradictions, found.not_checked) == ((), ())
    # scikit-learn's own labels, of the 400 images that are tested on.
    order = torch.randperm(1797, generator=generator("digits split"))[-400:].numpy()
    chance = 1 - max(np.bincount(load_digits().target[order])) / 400
    assert record.chance == found.chance == {"test_error": chance}
    assert chance == pytest.approx(0.88)


@pytest.mark.parametrize(
    ("error", "chance", "dead"),
    [(0.88, 0.88, True), (0.895, 0.88, True), (0.8775, 0.88, False), (None, 0.88, False), (0.9, None, False)],
)
def test_a_net_is_dead_at_or_above_the_error_of_the_largest_class(error: float, chance: float, dead: bool):
    assert is_at_chance(error, chance, Better.lower) is dead


def test_a_record_from_before_chance_was_kept_is_read(folder: Path):
    edit(folder, lambda _, content: content["chance"].clear())
    record = records.read_record(folder / "record.json")
    assert record.chance == {}
    assert weighed(folder).chance == {"test_error": 1 - 8 / 20}


def test_a_failure_has_nothing_to_compare(folder: Path):
    record = records.read_record(folder / "record.json")
    failure = records.Failure(cause="boom", traceback="")
    failed: Record = replace(record, status=Status.error, metrics={}, outputs={}, failure=failure)
    assert check_record(failed, folder).contradictions == ()
    assert remark(failed) == ""


def test_many_hashes_are_the_hash_of_each(make_config: MakeConfig):
    configs = [
        in_use().science(make_config(*overrides))
        for overrides in (["seed=0"], ["seed=1", "optimizer.drop_at=[1/2,3/4]"], ["model.pool_norm=inf", "seed=2"])
    ]
    varying = [key for key in configs[0] if any(config[key] != configs[0][key] for config in configs)]
    common = {key: value for key, value in configs[0].items() if key not in varying}
    own = [{key: config[key] for key in varying} for config in configs]
    assert identity.hashes_of(common, own) == [identity.hash_of(config) for config in configs]
