"""Ranking of the patches that activate a layer's channels most (paper, figure 3), and its file.

Shapes: n images of a split, b of a batch, c channels of a layer, h' and w' of its maps, k = min(top, n) patches.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from allcnn.attribution.activations import check_input, checked_output, layer_text
from allcnn.attribution.receptive_field_probe import LayerFields
from allcnn.attribution.relu_override import AttributionError
from allcnn.attribution.units import first_largest
from allcnn.data.splits import Split
from strive.cells.records import write_whole

COLUMNS = ("layer", "channel", "place", "image", "row", "column", "value", "top", "left", "bottom", "right")
_FORMAT = 1  # raise it when a change here changes what a file means


class TopPatches(NamedTuple):
    """For each channel of a layer its k largest activations, each of another image; the largest first. On the CPU."""

    values: Tensor  # float64 [c, k], the net's own numbers
    images: Tensor  # int64 [c, k], rows of the split
    positions: Tensor  # int64 [c, k, 2], row and column in the layer's map; [c, k, 0] where the layer has no map


@torch.no_grad()  # not inference_mode, whose tensors could not be used where a signal is sent back
def rank(
    network: nn.Module,
    split: Split,
    layers: Sequence[str],
    *,
    top: int,
    batch_size: int = 250,
    on_batch: Callable[[int], object] | None = None,
) -> dict[str, TopPatches]:
    """Return the patches of each channel of the layers, from one forward pass over the split.

    An image enters with its largest activation alone. Of equal activations that of the lower image comes
    first, within an image that of the lower row, then column. The batch size decides nothing but the last bits
    that the convolutions themselves give: in float32, activations closer than that may change places with it.

    network: in eval mode, where the split's images are; layers: names of modules, "" is its output.
    on_batch: called with the number of images done so far.

    Raises AttributionError for layers that are not there or not called, and for activations that are NaN.
    """
    if top < 1 or not len(split) or not layers:
        raise AttributionError(f"top={top}, {len(layers)} layers, {len(split)} images: there must be 1 or more of each")
    running = {layer: _RunningTop(layer, top) for layer in layers}
    done = 0
    for images, _ in split.batches(torch.arange(len(split)).split(batch_size)):
        if not done:
            for layer in running:
                check_input(network, images, layer)
        _pass(network, images, running, first_image=done)
        done += len(images)
        if on_batch is not None:
            on_batch(done)
    return {layer: each.top() for layer, each in running.items()}


def write_ranking(
    path: Path, tops: Mapping[str, TopPatches], fields: Mapping[str, LayerFields], about: Mapping[str, Any]
) -> None:
    """Write the ranking as CSV, whole or not at all.

    Its first line is "# " and JSON: `about`, and the format and sha256 of what follows. Values are written such
    that they are read back to the bit. fields: of each layer, see `probe.fields`; their boxes are of the image as
    the network takes it. about: what the ranking depends on, and "top", how many patches were asked for.
    """
    rows = io.StringIO(newline="")
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(COLUMNS)
    for layer, top in tops.items():
        writer.writerows(_lines(layer, top, fields[layer]))
    body = rows.getvalue().encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, f"# {_header(about, body)}\n".encode() + body)


def read_ranking(path: Path, about: Mapping[str, Any]) -> dict[str, TopPatches] | None:
    """Return the ranking that `write_ranking` wrote; None where there is none, or one about something else.

    about: as it was written; of "top" the file may hold more, which is cut off.

    Raises AttributionError for a file that was damaged since.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    head, _, body = content.partition(b"\n")
    try:
        found = json.loads(head.decode().removeprefix("# "))
        digest = found.pop("sha256")
    except (ValueError, AttributeError, KeyError, TypeError):
        raise _damaged(path) from None
    wanted = json.loads(_header(about, body))
    own = wanted.pop("sha256")
    enough = found.pop("top", 0) >= wanted.pop("top", 0)
    if found != wanted or not enough:
        return None
    if own != digest:
        raise _damaged(path)
    return {layer: _cut(top, about.get("top")) for layer, top in _tops(body.decode())}


class _RunningTop:
    """The largest activations of a layer in the images so far."""

    def __init__(self, layer: str, top: int) -> None:
        self.layer, self._top = layer, top
        self._values: Tensor | None = None  # [c, up to top], as are the images; falling
        self._images: Tensor
        self._positions: Tensor  # [c, up to top, 2 or 0]

    def add(self, made: Tensor, first_image: int) -> None:
        """Take in the activations [b, c, h', w'] or [b, c] of the images from `first_image` on.

        Raises AttributionError if an activation is NaN.
        """
        peaks = made.amax((2, 3)) if made.dim() == 4 else made  # [b, c]
        if bool(peaks.isnan().any()):
            image = first_image + int(peaks.isnan().any(1).int().argmax())
            raise AttributionError(
                f"{layer_text(self.layer)} is NaN in image {image}, so that its activations have no order;"
                " the weights or the image hold NaN or infinite numbers: take those of a cell that did not diverge"
            )
        if self._values is None:
            self._values = peaks.new_empty(made.shape[1], 0)
            self._images = torch.empty(made.shape[1], 0, dtype=torch.int64, device=made.device)
            self._positions = self._images.new_empty(made.shape[1], 0, made.dim() - 2)
        before, (channels, count) = self._values.shape[1], peaks.T.shape
        # A stable sort, and earlier ones come first: of equal activations the lower image number leads.
        values, order = torch.cat([self._values, peaks.T], 1).sort(dim=1, descending=True, stable=True)
        self._values, order = values[:, : self._top], order[:, : self._top]
        fresh = torch.arange(first_image, first_image + count, device=made.device).expand(channels, -1)
        self._images = torch.cat([self._images, fresh], 1).gather(1, order)
        unknown = self._positions.new_empty(channels, count, made.dim() - 2)
        width = order.unsqueeze(2).expand(-1, -1, made.dim() - 2)
        self._positions = torch.cat([self._positions, unknown], 1).gather(1, width)
        if made.dim() == 4:
            entered, places = (order >= before).nonzero(as_tuple=True)
            at = first_largest(made[order[entered, places] - before, entered].flatten(1))
            self._positions[entered, places] = torch.stack([at // made.shape[3], at % made.shape[3]], 1)

    def top(self) -> TopPatches:
        assert self._values is not None
        return TopPatches(self._values.double().cpu(), self._images.cpu(), self._positions.cpu())


def _pass(network: nn.Module, images: Tensor, running: Mapping[str, _RunningTop], first_image: int) -> None:
    """Run the network forward, as far as the layers ask for it."""
    waiting = dict(running)

    def watch(layer: str) -> Callable[[nn.Module, Any, Any], None]:
        def seen(module: nn.Module, args: object, made: object) -> None:
            # If a module is called several times, the first call counts, as in `activations`.
            if layer not in waiting:
                return
            # At once, because an in-place ReLU after the layer overwrites its output.
            waiting.pop(layer).add(checked_output(made, layer, len(images)), first_image)
            if not waiting:
                raise _Finished

        return seen

    with ExitStack() as stack:
        for layer in running:
            handle = network.get_submodule(layer).register_forward_hook(watch(layer))
            stack.callback(handle.remove)
        try:
            network(images)
        except _Finished:
            return
    raise AttributionError(f"{layer_text(next(iter(waiting)))} is not called in the forward pass")


class _Finished(Exception):
    """Stops the forward pass when all layers have been recorded."""


def _header(about: Mapping[str, Any], body: bytes) -> str:
    return json.dumps({**about, "format": _FORMAT, "sha256": hashlib.sha256(body).hexdigest()}, sort_keys=True)


def _lines(layer: str, top: TopPatches, fields: LayerFields) -> Iterator[tuple[object, ...]]:
    numbers = zip(top.values.tolist(), top.images.tolist(), top.positions.tolist(), strict=True)
    for channel, (values, images, positions) in enumerate(numbers):
        for place, (value, image, position) in enumerate(zip(values, images, positions, strict=True)):
            row, column = position or (None, None)
            yield layer, channel, place, image, row, column, repr(value), *fields.box(row, column)


def _tops(body: str) -> Iterator[tuple[str, TopPatches]]:
    found: dict[str, list[dict[str, str]]] = {}
    for line in csv.DictReader(io.StringIO(body, newline="")):
        found.setdefault(line["layer"], []).append(line)
    for layer, lines in found.items():
        shape = (1 + int(lines[-1]["channel"]), 1 + int(lines[-1]["place"]))
        positions = [[int(line["row"]), int(line["column"])] if line["row"] else [] for line in lines]
        yield (
            layer,
            TopPatches(
                torch.tensor([float(line["value"]) for line in lines], dtype=torch.float64).view(shape),
                torch.tensor([int(line["image"]) for line in lines]).view(shape),
                torch.tensor(positions, dtype=torch.int64).view(*shape, len(positions[0])),
            ),
        )


def _cut(top: TopPatches, count: int | None) -> TopPatches:
    return TopPatches(*(each[:, :count] for each in top))


def _damaged(path: Path) -> AttributionError:
    return AttributionError(f"{path}: not the ranking that was written there; delete it, and it is made again")
