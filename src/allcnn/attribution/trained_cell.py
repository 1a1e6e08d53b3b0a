"""A trained network with its data, loaded from a cell's folder or from a file of weights."""

import difflib
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from allcnn.config import Config
from allcnn.data.augment import eval_view
from allcnn.data.output_size import output_size
from allcnn.data.splits import Split, Splits, load_splits
from allcnn.networks.build import build_network
from allcnn.networks.facts import check_network
from allcnn.result import WEIGHTS, weights_hash
from allcnn.same_images import IMAGES
from allcnn.training import choose_execution
from strive.cells.metrics import result_text
from strive.cells.records import Record, Status, read_record
from strive.cells.reproduce import config_again
from strive.errors import ConfigError

_MOST_LINES = 4  # of the message about weights that do not fit


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedCell:
    """A network in eval mode on its device, and the splits of its data, as the network is scored on them."""

    name: str  # the cell's id, or the name of the file of weights
    folder: Path  # its figures go there
    config: Config
    network: nn.Module
    splits: Splits
    weights_sha256: str  # of the weights in the order of the state dict, as in a record
    test_error: float | None = None  # of the cell's record, share in [0, 1]; None for a file of weights

    @property
    def device(self) -> torch.device:
        """Where the network and the images are."""
        return next(self.network.parameters()).device

    @property
    def image_size(self) -> int:
        """Height and width of what the network sees, in pixels."""
        return output_size(self.config)


def load_cell(record_path: Path, *, device: str = "auto", overrides: Mapping[str, str] | None = None) -> TrainedCell:
    """Return the network of a record's cell, with its data.

    device: auto, cpu or cuda. overrides: {key: value} of data.* and trainer.*; the images may have moved.

    Raises ConfigError for a cell without weights, weights or images that are not those of the record, or a wrong
    override; RecordError for a file that is no record.
    """
    record, weights = read_record(record_path), record_path.with_name("weights.pt")
    _check_trained(record, weights)
    given = {"trainer.threads": "0", "trainer.device": device} | dict(overrides or {})
    config = config_again(record, record_path.parent.parent, given)
    state, sha256 = _read_state(weights)
    made, images = record.outputs[WEIGHTS], record.data.get(IMAGES, "")
    if sha256 != made:
        raise ConfigError(
            f"{weights}: these are not the weights of the record in the same folder"
            f" (sha256 {sha256[:10]}..., the record's {made[:10]}...);"
            f" put the cell's own there, or take them for themselves: weights={weights} and the model and data"
        )
    network, splits = _loaded(config, state, weights)
    if splits.fingerprint != images:
        raise ConfigError(
            f"data.root={config.data.root}: these are not the images of {record.cell} (fingerprint"
            f" {splits.fingerprint}, the record's {images});"
            " name with data.root=DIR where the images that it was trained on lie now"
        )
    return TrainedCell(
        name=record.cell,
        folder=record_path.parent / "pictures",
        config=config,
        network=network,
        splits=splits,
        weights_sha256=sha256,
        test_error=record.metrics["test_error"],
    )


def load_weights(config: Config, weights: Path) -> TrainedCell:
    """Return the network that a config builds, with the weights of a file and the config's data.

    weights: what torch.save(network.state_dict(), FILE) writes. Raises ConfigError for another file, or one that
    does not fit the network.
    """
    state, sha256 = _read_state(weights)
    network, splits = _loaded(config, state, weights)
    return TrainedCell(
        name=weights.name,
        folder=weights.parent / f"{weights.stem}-pictures",
        config=config,
        network=network,
        splits=splits,
        weights_sha256=sha256,
    )


def convolutions(network: nn.Module) -> list[str]:
    """Return the names of the network's convolutions, in its own order."""
    return [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]


def unit_layer(network: nn.Module, layer: str) -> str:
    """Return the module whose outputs are the units of a layer: normN after convN if there is one.

    Raises ConfigError for a layer that the network does not have.
    """
    names = [name for name, _ in network.named_modules() if name]
    if layer not in names:
        layers = convolutions(network) or names
        close = difflib.get_close_matches(layer, names, n=3)
        meant = f"; is {' or '.join(close)} meant?" if close else ""
        raise ConfigError(f"layer={layer}: the net has no such layer{meant}\n  it has {', '.join(layers)}")
    norm = f"norm{layer.removeprefix('conv')}"
    return norm if layer.startswith("conv") and norm in names else layer


class _EvalSplit:
    """A split with its images as the network is scored on them, at the size that it sees."""

    def __init__(self, split: Split, config: Config) -> None:
        self.labels = split.labels
        self._split, self._config = split, config

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, index_batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in self._split.batches(index_batches):
            yield eval_view(images, self._config.augment, self._config.data.image_size), labels


def _check_trained(record: Record, weights: Path) -> None:
    if record.failure is not None:
        cause = record.failure.cause
        raise ConfigError(
            f"{record.cell} has no trained net: {record.status.value}: {cause}\n"
            "  train it with the command that it was launched with; what failed is tried again"
        )
    if record.status is Status.diverged:
        raise ConfigError(
            f"{record.cell} diverged ({result_text(record.metrics)}): its net has learned nothing to"
            " look at; take a cell that is done"
        )
    if not weights.is_file():
        raise ConfigError(
            f"{record.cell} has a record, but {weights} is not there: records are published without weights.\n"
            f"  train it again, and look there: strive reproduce {weights.parent}; then cell={record.cell}"
            f" runs={weights.parent.parent / 'reproduced'}"
        )


def _read_state(path: Path) -> tuple[dict[str, Tensor], str]:
    """Return the state dict of a file and its hash."""
    wanted = "it must hold a state dict, as torch.save(network.state_dict(), FILE) writes it"
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigError(f"weights={path}: there is no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"weights={path} is a folder; name the file of weights in it") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError):
        # torch's own message advises to load the file without weights_only, which would run code in it.
        raise ConfigError(f"weights={path} cannot be read; {wanted}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        nested = [key for key, value in state.items() if isinstance(value, dict)] if isinstance(state, dict) else []
        hint = f"; this one holds one below {', '.join(map(str, nested))}" if nested else ""
        raise ConfigError(f"weights={path}: {wanted}{hint}")
    return state, weights_hash({str(name): tensor for name, tensor in state.items()})


def _loaded(config: Config, state: Mapping[str, Tensor], weights: Path) -> tuple[nn.Module, Splits]:
    """Return the network in eval mode on its device, and the splits."""
    device = choose_execution(config.trainer).device
    splits = load_splits(config, device)
    size = output_size(config)
    check_network(config.model, num_classes=splits.num_classes, image_size=size)
    network = build_network(config.model, num_classes=splits.num_classes, image_size=size, seed=config.seed)
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        wrong = [f"  {line.strip()}" for line in str(error).splitlines()[1:]]
        more = [f"  and {len(wrong) - _MOST_LINES} more"] if len(wrong) > _MOST_LINES else []
        lines = "\n".join([*wrong[:_MOST_LINES], *more])
        raise ConfigError(
            f"weights={weights} do not fit model={config.model.name} with {splits.num_classes} classes;"
            f" give the model and the data that they were trained with\n{lines}"
        ) from None
    network.requires_grad_(False).eval().to(device).to(memory_format=torch.channels_last)
    return network, replace(
        splits,
        train=_EvalSplit(splits.train, config),
        val=_EvalSplit(splits.val, config) if splits.val is not None else None,
        test=_EvalSplit(splits.test, config),
    )
