"""A trained cell, and a file of weights, as what is looked at."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from allcnn.attribution.trained_cell import convolutions, load_cell, load_weights, unit_layer
from strive.cells.records import read_record
from strive.errors import ConfigError

ONE_THREAD = {"trainer.threads": "1"}


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_cell_is_its_trained_net_with_its_images(digits_cell: Path):
    cell = load_cell(digits_cell / "record.json", device="cpu", overrides=ONE_THREAD)
    record = read_record(digits_cell / "record.json")
    assert (cell.name, cell.folder) == (record.cell, digits_cell / "pictures")
    assert (cell.weights_sha256, cell.test_error) == (record.outputs["weights"], record.metrics["test_error"])
    assert not cell.network.training
    assert (cell.image_size, str(cell.device)) == (32, "cpu")
    ((images, labels),) = cell.splits.test.batches([torch.arange(400)])
    with torch.no_grad():
        logits = cell.network(images)
    stored = np.load(digits_cell / "predictions.npz")
    assert np.array_equal(labels, stored["labels"])
    largest = np.abs(stored["logits"]).max()
    assert largest > 0
    np.testing.assert_allclose(logits, stored["logits"], atol=0.05 * largest)  # trained in bf16, which has 8 bits


def test_a_file_of_weights_is_the_same_net_as_the_cell(digits_cell: Path):
    cell = load_cell(digits_cell / "record.json", device="cpu", overrides=ONE_THREAD)
    again = load_weights(cell.config, digits_cell / "weights.pt")
    assert (again.name, again.folder) == ("weights.pt", digits_cell / "weights-pictures")
    assert (again.weights_sha256, again.test_error) == (cell.weights_sha256, None)
    ((images, _),) = cell.splits.test.batches([torch.arange(8)])
    with torch.no_grad():
        assert again.network(images).equal(cell.network(images))


def test_a_cell_without_a_net_to_look_at_is_told(own_cell: Path):
    path = own_cell / "record.json"
    text = path.read_text()
    rewritten(path, lambda content: content.update(status="diverged"))
    with pytest.raises(ConfigError, match=r"diverged \(test error \d+\.\d\d%\)(.|\n)*take a cell that is done"):
        load_cell(path)
    failure = {"cause": "RuntimeError: no", "traceback": ""}
    rewritten(path, lambda content: content.update(status="error", metrics={}, outputs={}, chance={}, failure=failure))
    with pytest.raises(ConfigError, match=r"has no trained net: error: RuntimeError: no\n  train it"):
        load_cell(path)
    path.write_text(text)
    (own_cell / "weights.pt").unlink()
    with pytest.raises(ConfigError, match=r"weights.pt is not there: records are published without.*\n.*reproduce"):
        load_cell(path)


def test_images_and_weights_must_be_those_of_the_record(own_cell: Path):
    path, weights = own_cell / "record.json", own_cell / "weights.pt"
    with pytest.raises(ConfigError, match=r"model\.width=1 would make it another cell"):
        load_cell(path, overrides={"model.width": "1"})
    rewritten(path, lambda content: content["data"].update(images="0123456789abcdef"))
    with pytest.raises(ConfigError, match=r"data.root=data: these are not the images .*0123456789abcdef.*root=DIR"):
        load_cell(path, overrides=ONE_THREAD)
    state = torch.load(weights, weights_only=True)
    state["conv3.weight"][0, 0, 0, 0] += 1e-3
    torch.save(state, weights)
    with pytest.raises(ConfigError, match="these are not the weights of the record in the same folder"):
        load_cell(path)


def lacks_a_tensor(state: dict[str, Tensor]) -> object:
    return {name: tensor for name, tensor in state.items() if name != "conv3.bias"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: {"epoch": 3, "state": state}, r"must hold a state dict.*this one holds one below state"),
        (lambda state: [*state.values()], "must hold a state dict"),
        (lacks_a_tensor, r"do not fit model=all_cnn_c with 10 classes(.|\n)*conv3\.bias"),
        (None, "cannot be read; it must hold a state dict"),
    ],
)
def test_a_file_that_is_no_state_dict_of_the_net_is_told(
    own_cell: Path, change: Callable[[Any], object] | None, told: str
):
    weights = own_cell / "weights.pt"
    config = load_cell(own_cell / "record.json", overrides=ONE_THREAD).config
    if change is None:
        weights.write_bytes(b"not torch's")
    else:
        torch.save(change(torch.load(weights, weights_only=True)), weights)
    with pytest.raises(ConfigError, match=told):
        load_weights(config, weights)


def test_weights_that_are_not_there_are_told(own_cell: Path):
    config = load_cell(own_cell / "record.json", overrides=ONE_THREAD).config
    with pytest.raises(ConfigError, match=r"gone\.pt: there is no such file"):
        load_weights(config, own_cell / "gone.pt")
    with pytest.raises(ConfigError, match="is a folder"):
        load_weights(config, own_cell)


def test_a_unit_is_taken_behind_its_batch_normalisation():
    network = nn.Sequential()
    for name, module in {"conv1": nn.Conv2d(3, 2, 1), "norm1": nn.BatchNorm2d(2), "conv2": nn.Conv2d(2, 2, 1)}.items():
        network.add_module(name, module)
    assert [unit_layer(network, layer) for layer in ("conv1", "norm1", "conv2")] == ["norm1", "norm1", "conv2"]
    assert convolutions(network) == ["conv1", "conv2"]
    with pytest.raises(ConfigError, match=r"layer=conv3: .*is conv2 or conv1 meant\?\n  it has conv1, conv2$"):
        unit_layer(network, "conv3")
