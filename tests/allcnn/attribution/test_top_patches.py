import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from allcnn.attribution import AttributionError, activations
from allcnn.attribution.receptive_field_probe import LayerFields, fields
from allcnn.attribution.top_patches import COLUMNS, TopPatches, rank, read_ranking, write_ranking
from allcnn.config import Base, ModelConfig, Variant
from allcnn.networks.build import build_network

ABOUT = {"weights_sha256": "ab", "split": "test", "top": 3}


class Images:
    """A split of given images."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.labels = torch.zeros(len(images), dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, index_batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in index_batches:
            yield self.images[rows].contiguous(memory_format=torch.channels_last), self.labels[rows]


def noise(count: int, side: int = 12) -> Images:
    values = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Images((values * 4).round() / 4)


def paper_net(**choices: Any) -> nn.Module:
    """Return a net of sixteenths: on quarters all of its sums are exact in float64, in whatever order they are made."""
    model = ModelConfig(**({"base": Base.c, "variant": Variant.all_cnn, "width": 0.05} | choices))
    net = build_network(model, num_classes=4, image_size=16, seed=3).double().eval()
    for parameter in net.parameters():
        parameter.data.mul_(16).round_().div_(16)
    return net


def ones() -> nn.Sequential:
    """Return a net whose conv1 is the sum over the colours, and conv2 that again."""
    net = nn.Sequential()
    net.add_module("conv1", nn.Conv2d(3, 1, 1, bias=False))
    net.add_module("relu1", nn.ReLU(inplace=True))
    net.add_module("conv2", nn.Conv2d(1, 1, 1, bias=False))
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    return net.double().eval()


def brute_force(net: nn.Module, images: Tensor, layer: str, top: int) -> list[list[tuple[float, int, list[int]]]]:
    """Return for each channel (value, image, position), found one by one in Python."""
    best: dict[int, list[tuple[float, int, list[int]]]] = {}
    for number, image in enumerate(images):
        with torch.no_grad():
            made = activations(net, image[None], layer)[0]
        for channel, of_channel in enumerate(made):
            wide = of_channel.shape[-1] if of_channel.dim() else 1
            flat = of_channel.reshape(-1).tolist()
            place = flat.index(max(flat))
            position = [place // wide, place % wide] if of_channel.dim() else []
            best.setdefault(channel, []).append((max(flat), number, position))
    return [sorted(found, key=lambda each: (-each[0], each[1]))[:top] for found in best.values()]


def listed(top: TopPatches) -> list[list[tuple[float, int, list[int]]]]:
    parts = (top.values.tolist(), top.images.tolist(), top.positions.tolist())
    return [list(zip(*channel, strict=True)) for channel in zip(*parts, strict=True)]


def same(one: dict[str, TopPatches], other: dict[str, TopPatches]) -> bool:
    return list(one) == list(other) and all(
        torch.equal(mine, theirs) and mine.dtype == theirs.dtype
        for layer in one
        for mine, theirs in zip(one[layer], other[layer], strict=True)
    )


@pytest.mark.parametrize("layer", ["conv1", "conv3", "relu5", "conv9", "mean", ""])
def test_the_ranking_is_what_brute_force_finds(layer: str) -> None:
    net, split = paper_net(), noise(23)
    found = listed(rank(net, split, [layer], top=4, batch_size=5)[layer])
    assert found == brute_force(net, split.images, layer, 4)
    assert sum(abs(value) for channel in found for value, _, _ in channel) > 0
    assert layer == "conv1" or len({image for channel in found for _, image, _ in channel}) > 1


def test_all_layers_at_once_are_each_alone_whatever_the_batch_size() -> None:
    net, split = paper_net(base=Base.b, variant=Variant.strided), noise(17)
    layers = ["conv1", "conv2", "conv5", "relu6", "mean"]
    together = rank(net, split, layers, top=5, batch_size=17)
    assert all(float(top.values.abs().sum()) > 0 for top in together.values())
    for size in (1, 4, 16, 100):
        assert same(together, rank(net, split, layers, top=5, batch_size=size))
    for layer in layers:
        assert same({layer: together[layer]}, rank(net, split, [layer], top=5, batch_size=3))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_of_equal_activations_the_lower_image_leads_and_in_it_the_first_position(size: int) -> None:
    images = torch.zeros(5, 3, 2, 3, dtype=torch.float64)
    images[1, 0] = torch.tensor([[0, 1, 7], [7, 0, 7]])
    images[3, 1] = torch.tensor([[0, 0, 0], [0, 7, 0]])
    images[4, 2, 0, 0] = 8
    top = rank(ones(), Images(images), ["conv1"], top=4, batch_size=size)["conv1"]
    assert top.values.tolist() == [[8, 7, 7, 0]]
    assert top.images.tolist() == [[4, 1, 3, 0]]
    assert top.positions.tolist() == [[[0, 0], [0, 2], [1, 1], [0, 0]]]


def test_activations_below_zero_are_ranked_though_the_relu_behind_is_in_place() -> None:
    images = torch.full((2, 3, 1, 1), -2.0, dtype=torch.float64)
    images[1] = -1
    top = rank(ones(), Images(images), ["conv1"], top=2)["conv1"]
    assert top.values.tolist() == [[-3, -6]]


def test_a_split_smaller_than_top_gives_all_its_images() -> None:
    top = rank(ones(), noise(3), ["conv1"], top=9, batch_size=2)["conv1"]
    assert [list(each.shape) for each in top] == [[1, 3], [1, 3], [1, 3, 2]]
    assert sorted(top.images[0].tolist()) == [0, 1, 2]


def test_float32_activations_come_as_the_same_numbers_in_float64() -> None:
    net, split = ones().float(), Images(noise(3).images.float())
    top = rank(net, split, ["conv1"], top=1)["conv1"]
    largest = max(activations(net, split.images, "conv1").amax((1, 2, 3)).tolist())
    assert top.values.dtype == torch.float64
    assert top.values.item() == largest


def test_progress_counts_the_images_done() -> None:
    told: list[int] = []
    rank(ones(), noise(5), ["conv1"], top=1, batch_size=2, on_batch=told.append)
    assert told == [2, 4, 5]


def test_what_lies_behind_the_last_layer_is_not_computed() -> None:
    class Never(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            raise AssertionError

    net = ones()
    net.add_module("never", Never())
    assert list(rank(net.eval(), noise(2), ["conv2", "conv1"], top=1)) == ["conv2", "conv1"]


def test_of_a_module_that_is_called_twice_it_is_the_first_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1, bias=False, dtype=torch.float64)
            nn.init.constant_(self.conv.weight, 2)

        def forward(self, maps: Tensor) -> Tensor:
            return self.conv(self.conv(maps))

    images = torch.ones(1, 3, 1, 1, dtype=torch.float64)
    top = rank(Twice().eval(), Images(images), ["conv", ""], top=1)
    assert (top["conv"].values[0].item(), top[""].values[0].item()) == (6, 36)


def test_nan_is_refused_with_the_image_it_comes_from() -> None:
    split = noise(5)
    split.images[3, 0, 2, 2] = math.nan
    with pytest.raises(AttributionError, match=r"layer=conv2 is NaN in image 3, .* did not diverge"):
        rank(ones(), split, ["conv2"], top=1, batch_size=2)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["conv1", "conv7"], "layer=conv7: the network has no such module; it has conv1, relu1, conv2, spare"),
        (["conv1", "spare"], "layer=spare is not called in the forward pass"),
        ([], "there must be 1 or more of each"),
    ],
)
def test_layers_that_cannot_be_ranked_are_refused(layers: list[str], message: str) -> None:
    class Skips(nn.Sequential):
        def forward(self, maps: Tensor) -> Tensor:
            return self.conv2(self.relu1(self.conv1(maps)))

    net = Skips()
    for name, module in ones().named_children():
        net.add_module(name, module)
    net.add_module("spare", nn.ReLU())
    with pytest.raises(AttributionError, match=message):
        rank(net.eval(), noise(2), layers, top=1)


def test_a_network_in_training_mode_is_refused() -> None:
    with pytest.raises(AttributionError, match="must be in eval mode"):
        rank(ones().train(), noise(2), ["conv1"], top=1)


def ranked(top: int = 3) -> tuple[dict[str, TopPatches], dict[str, LayerFields]]:
    net = paper_net()
    layers = ["conv1", "conv3", "mean"]
    return rank(net, noise(6), layers, top=top), {layer: fields(net, layer, 12) for layer in layers}


def test_a_ranking_is_read_as_it_was_written(tmp_path: Path) -> None:
    tops, seen = ranked()
    odd = [math.inf, 5e-324, 0.1 + 0.2, -0.0, 1 / 3, -math.inf]
    tops["conv1"].values[0] = torch.tensor(odd[:3], dtype=torch.float64)
    tops["conv3"].values[0] = torch.tensor(odd[3:], dtype=torch.float64)
    path = tmp_path / "figures" / "ranking.csv"
    write_ranking(path, tops, seen, ABOUT)
    found = read_ranking(path, ABOUT)
    assert found is not None
    assert same(found, tops)
    assert [each.shape[2] for each in (found["conv1"].positions, found["mean"].positions)] == [2, 0]


def test_every_line_of_the_file_says_what_the_unit_sees(tmp_path: Path) -> None:
    tops, seen = ranked()
    write_ranking(tmp_path / "r.csv", tops, seen, ABOUT)
    first, _, body = (tmp_path / "r.csv").read_text().partition("\n")
    assert ABOUT.items() <= json.loads(first.removeprefix("# ")).items()
    lines = list(csv.DictReader(io.StringIO(body)))
    assert tuple(lines[0]) == COLUMNS
    assert len(lines) == sum(top.values.numel() for top in tops.values())
    for line in lines:
        side = {"conv1": 3, "conv3": 7, "mean": 12}[line["layer"]]
        assert int(line["bottom"]) - int(line["top"]) <= side
        if line["layer"] == "conv1":
            # A 3x3 convolution with one pixel of padding.
            row = int(line["row"])
            assert (int(line["top"]), int(line["bottom"])) == (max(0, row - 1), min(12, row + 2))
        if line["layer"] == "mean":
            assert (line["row"], line["column"]) == ("", "")
            assert [line[edge] for edge in ("top", "left", "bottom", "right")] == ["0", "0", "12", "12"]


def test_names_of_layers_may_hold_anything(tmp_path: Path) -> None:
    tops, seen = ranked()
    name = '=a,"b\n# ü'
    write_ranking(tmp_path / "r.csv", {name: tops["conv1"]}, {name: seen["conv1"]}, ABOUT)
    found = read_ranking(tmp_path / "r.csv", ABOUT)
    assert found is not None
    assert same(found, {name: tops["conv1"]})


def test_a_file_about_something_else_is_no_ranking(tmp_path: Path) -> None:
    tops, seen = ranked()
    assert read_ranking(tmp_path / "r.csv", ABOUT) is None
    write_ranking(tmp_path / "r.csv", tops, seen, ABOUT)
    for about in (ABOUT | {"split": "val"}, ABOUT | {"gcn_scale": 55.0}, {"top": 3}, ABOUT | {"top": 4}):
        assert read_ranking(tmp_path / "r.csv", about) is None


def test_a_longer_ranking_will_do_and_is_cut(tmp_path: Path) -> None:
    tops, seen = ranked(top=5)
    write_ranking(tmp_path / "r.csv", tops, seen, ABOUT | {"top": 5})
    found = read_ranking(tmp_path / "r.csv", ABOUT)
    assert found is not None
    assert same(found, ranked(top=3)[0])


def test_a_split_smaller_than_top_is_not_ranked_again(tmp_path: Path) -> None:
    tops, seen = ranked(top=100)
    write_ranking(tmp_path / "r.csv", tops, seen, ABOUT | {"top": 100})
    assert read_ranking(tmp_path / "r.csv", ABOUT | {"top": 100}) is not None


@pytest.mark.parametrize(
    "damage",
    [lambda text: text[:-40], lambda text: text.replace(",0,0,", ",0,1,", 1), lambda text: text[5:], lambda text: ""],
)
def test_a_damaged_file_is_to_be_deleted(tmp_path: Path, damage: Any) -> None:
    tops, seen = ranked()
    path = tmp_path / "r.csv"
    write_ranking(path, tops, seen, ABOUT)
    text = path.read_text()
    path.write_text(damage(text))
    assert path.read_text() != text
    with pytest.raises(AttributionError, match=r"r\.csv: .*; delete it, and it is made again"):
        read_ranking(path, ABOUT)


def test_damage_in_a_file_about_something_else_does_not_matter(tmp_path: Path) -> None:
    tops, seen = ranked()
    path = tmp_path / "r.csv"
    write_ranking(path, tops, seen, ABOUT)
    path.write_text(path.read_text()[:-40])
    assert read_ranking(path, ABOUT | {"split": "val"}) is None


def test_a_ranking_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    tops, seen = ranked()
    del seen["mean"]
    with pytest.raises(KeyError):
        write_ranking(tmp_path / "r.csv", tops, seen, ABOUT)
    assert list(tmp_path.iterdir()) == []
