import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.backends import cudnn, mkldnn

from allcnn.attribution import AttributionError, attribute
from allcnn.attribution.pool_switches import pooled_twin
from allcnn.attribution.receptive_field import Box, field_of
from allcnn.attribution.receptive_field_probe import LayerFields, fields, probed_fields
from allcnn.config import Base, Family, HeadPadding, ModelConfig, PoolRounding, StridedB, Variant
from allcnn.networks.build import build_network

POOLED = (Variant.base, Variant.convpool)
STRIDED = (Variant.strided, Variant.all_cnn)


def paper_net(**choices: Any) -> nn.Sequential:
    net = build_network(ModelConfig(**({"width": 0.005} | choices)), num_classes=2, image_size=32, seed=3).eval()
    assert isinstance(net, nn.Sequential)
    return net


def seen_layers(net: nn.Sequential) -> list[str]:
    return [name for name, _ in net.named_children() if name.startswith(("conv", "pool", "switches", "mean"))]


def check(net: nn.Sequential, size: int, layers: list[str]) -> None:
    """Compare what is computed with what the probe finds, and with the formula of `fields`."""
    for layer in layers:
        found = probed_fields(net, layer, size)
        assert fields(net, layer, size) == found
        field = field_of(net, layer)
        assert field is not None
        for row, column in itertools.product((0, len(found.rows) // 2, -1), repeat=2):
            row, column = row % len(found.rows), column % len(found.columns)
            assert field.box(row, column, size, size) == found.box(row, column)


@pytest.mark.parametrize("size", [32, 29])
@pytest.mark.parametrize("variant", Variant)
@pytest.mark.parametrize("base", Base)
def test_what_is_computed_is_what_the_probe_finds_in_every_layer_of_the_12_nets(
    base: Base, variant: Variant, size: int
) -> None:
    net = paper_net(base=base, variant=variant)
    check(net, size, seen_layers(net))


@pytest.mark.parametrize("size", [32, 29])
@pytest.mark.parametrize(
    "choices",
    [
        *({"variant": each, "pool_rounding": how} for each in POOLED for how in PoolRounding),
        *({"variant": each, "head_padding": HeadPadding.same} for each in Variant),
        *({"variant": Variant.strided, "base": Base.b, "strided_b": how} for how in StridedB),
        {"variant": Variant.base, "batch_norm": True},
    ],
)
def test_it_is_so_under_every_choice_of_padding_rounding_and_stride(choices: dict[str, Any], size: int) -> None:
    net = paper_net(**choices)
    check(net, size, seen_layers(net)[-3:])


@pytest.mark.parametrize("size", [32, 29])
@pytest.mark.parametrize("variant", STRIDED)
@pytest.mark.parametrize("base", Base)
def test_it_is_so_where_strides_gave_way_to_pooling(base: Base, variant: Variant, size: int) -> None:
    twin = pooled_twin(paper_net(base=base, variant=variant))
    assert isinstance(twin, nn.Sequential)
    check(twin, size, [name for name in seen_layers(twin) if name.startswith("switches")] + seen_layers(twin)[-2:])


# Sizes of the fields away from the border: attribution.md, section 4; the last of the 12 nets see 27, 21 and 33.
@pytest.mark.parametrize(
    ("variant", "sizes"),
    [
        (Variant.all_cnn, {1: 3, 2: 5, 3: 7, 4: 11, 5: 15, 6: 19, 7: 27, 9: 27}),
        (Variant.convpool, {1: 3, 2: 5, 3: 7, 4: 13, 5: 17, 6: 21, 7: 33, 9: 33}),
        (Variant.strided, {1: 3, 2: 5, 3: 9, 4: 13, 5: 21, 7: 21}),
    ],
)
def test_fields_away_from_the_border_have_the_known_sizes(variant: Variant, sizes: dict[int, int]) -> None:
    net = paper_net(variant=variant)
    found = {number: fields(net, f"conv{number}", 64).size for number in sizes}
    assert found == {number: (side, side) for number, side in sizes.items()}


def test_a_wrong_padding_is_caught() -> None:
    net = paper_net()
    found = probed_fields(net, "conv6", 32)
    padded = net.get_submodule("conv4")
    assert isinstance(padded, nn.Conv2d)
    padded.padding = (2, 2)
    assert fields(net, "conv6", 32) != found
    assert fields(net, "conv6", 32) == probed_fields(net, "conv6", 32)


def test_pixels_that_a_pooling_leaves_out_are_in_no_field_behind_it() -> None:
    # Of 32 pixels 3x3/2 pooling that rounds down sees 31; the formula of `fields` knows of no such end.
    net = nn.Sequential(nn.MaxPool2d(3, 2), nn.Conv2d(3, 2, 3, padding=1)).eval()
    found = fields(net, "1", 32)
    assert found == probed_fields(net, "1", 32)
    assert found.rows[-1] == (26, 31)
    field = field_of(net, "1")
    assert field is not None
    assert field.box(14, 14, 32, 32).bottom == 32


def test_a_layer_without_a_map_sees_all_that_the_last_maps_see() -> None:
    for layer in ("mean", ""):
        found = fields(paper_net(), layer, 32)
        assert found == LayerFields(((0, 32),), ((0, 32),))
        assert found.box() == Box(0, 0, 32, 32)
        assert probed_fields(paper_net(), layer, 32) == found


def test_without_a_position_the_box_is_that_of_all_units() -> None:
    found = LayerFields(((0, 3), (2, 5)), ((1, 4), (3, 6)))
    assert found.box() == Box(0, 1, 5, 6)
    assert found.box(1, 0) == Box(2, 1, 5, 4)


class Graph(nn.Module):
    """A 3x3 and a dilated convolution side by side over a rectangular one: no sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Conv2d(3, 2, (1, 5), padding=(0, 2))
        self.near = nn.Conv2d(2, 2, 3, padding=1)
        self.far = nn.Conv2d(2, 2, 3, padding=2, dilation=2)

    def forward(self, images: Tensor) -> Tensor:
        low = torch.relu(self.low(images))
        return self.near(low) + self.far(low)


def test_any_graph_can_be_probed() -> None:
    # Along the rows the dilated branch sees y - 2, y and y + 2; along the columns 2 more for the 1x5 below it.
    found = fields(Graph().eval(), "", 11)
    # Row 1 sees no row below 0: its outermost are 1 - 1 of the 3x3 and 1 + 2 of the dilated one.
    assert found.rows == tuple((max(0, y - 2), min(11, y + 3)) for y in range(11))
    assert found.columns == tuple((max(0, x - 4), min(11, x + 5)) for x in range(11))


def test_a_dilated_sequence_has_no_pixel_too_many_at_the_border() -> None:
    # Unit 1 would see rows -1, 1 and 3: row 0 is none of them.
    net = nn.Sequential(nn.Conv2d(3, 1, 3, padding=2, dilation=2)).eval()
    assert fields(net, "0", 9).rows[:3] == ((0, 3), (1, 4), (0, 5))


def test_large_images_are_probed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = probed_fields(paper_net(), "conv3", 32)
    monkeypatch.setattr("allcnn.attribution.receptive_field_probe._PIXELS_PER_BATCH", 5 * 32 * 32)
    assert probed_fields(paper_net(), "conv3", 32) == whole


def test_a_sequence_with_a_forward_of_its_own_is_probed() -> None:
    class Wrapped(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images.flip(2))

    net = Wrapped(nn.Conv2d(3, 1, 2, stride=2)).eval()
    assert fields(net, "0", 6).rows == ((4, 6), (2, 4), (0, 2))


def test_a_pooling_may_stand_there_twice() -> None:
    pool = nn.MaxPool2d(2, 2)
    net = nn.Sequential(nn.Conv2d(3, 2, 3), pool, nn.Conv2d(2, 2, 3), pool).eval()
    for layer in ("1", "2", "3", ""):
        assert fields(net, layer, 12) == probed_fields(net, layer, 12)
    # Of what is called twice it is the first call's.
    assert fields(net, "3", 12) == fields(net, "1", 12)
    assert [fields(net, layer, 12).size[0] for layer in ("1", "")] == [3 + 1, 4 + 2 * 2 + 2]


class Residual(nn.Module):
    """A convolution, and beside it a branch that drops NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return images + torch.nan_to_num(self.conv(images))


@pytest.mark.parametrize("wrap", [False, True])
def test_p_norm_pooling_drops_nan_and_is_computed_or_refused(wrap: bool) -> None:
    net: nn.Module = paper_net(variant=Variant.base, pool_norm=2.0)
    assert fields(net, "conv3", 32) == fields(paper_net(variant=Variant.base), "conv3", 32)
    net = nn.Sequential(net).eval() if wrap else net
    with pytest.raises(AttributionError, match=r"conv3: a unit does not become NaN .* p-norm pooling"):
        (fields if wrap else probed_fields)(net, "0.conv3" if wrap else "conv3", 32)


def test_a_branch_that_drops_nan_is_not_overlooked() -> None:
    with pytest.raises(AttributionError, match="a unit that depends on pixel 0 or one of the next does not become NaN"):
        fields(Residual().eval(), "", 8)


def test_units_below_that_see_nothing_are_no_part_of_a_field() -> None:
    # The 1x1 convolution adds a border of units without a pixel, as padding of the 3x3 one would.
    net = nn.Sequential(nn.Conv2d(3, 1, 1, padding=1), nn.Conv2d(1, 1, 3)).eval()
    assert fields(net, "1", 8).rows == tuple((max(0, y - 1), min(8, y + 2)) for y in range(8))
    assert fields(net, "1", 8) == probed_fields(net, "1", 8)


@pytest.mark.parametrize("closed", [False, True])
def test_a_unit_that_sees_nothing_is_refused(closed: bool) -> None:
    net = nn.Sequential(nn.Conv2d(3, 1, 1, padding=1)).eval()
    with pytest.raises(AttributionError, match=r"layer=0: .*see.* no pixel"):
        (fields if closed else probed_fields)(net, "0", 8)


@pytest.mark.parametrize("probe", [fields, probed_fields])
def test_layers_that_are_not_there_and_nets_in_training_are_refused(probe: Any) -> None:
    with pytest.raises(AttributionError, match="layer=conv77: the network has no such module; it has dropout0, conv1"):
        probe(paper_net(), "conv77", 32)
    with pytest.raises(AttributionError, match="must be in eval mode"):
        probe(paper_net().train(), "conv1", 32)


def test_the_probe_leaves_torch_as_it_was() -> None:
    state, before = torch.get_rng_state(), (mkldnn.enabled, cudnn.enabled)
    probed_fields(paper_net(), "conv1", 8)
    assert (mkldnn.enabled, cudnn.enabled) == before
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("rule", ["backprop", "deconvnet", "guided"])
@pytest.mark.parametrize("layer", ["conv3", "conv5"])
@pytest.mark.parametrize("variant", [Variant.all_cnn, Variant.convpool])
def test_a_map_is_zero_outside_of_its_box_and_fills_it(variant: Variant, layer: str, rule: str) -> None:
    net = paper_net(variant=variant, width=0.1)
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    made = attribute(net, images, rule=rule, layer=layer)
    seen = fields(net, layer, 32)
    lost = 0.0
    for signal, (row, column) in zip(made.maps, made.units.positions.tolist(), strict=True):
        top, left, bottom, right = seen.box(row, column)
        assert float(signal.abs().max()) > 0
        assert float(without(signal, top, left, bottom, right).abs().max()) == 0
        lost = max(lost, float(without(signal, top + 1, left, bottom, right).abs().max() / signal.abs().max()))
    assert lost > 0.01


def without(signal: Tensor, top: int, left: int, bottom: int, right: int) -> Tensor:
    rest = signal.clone()
    rest[:, top:bottom, left:right] = 0
    return rest


def test_the_imagenet_net_is_known_too() -> None:
    net = paper_net(family=Family.all_cnn_b_imagenet)
    # 11 pixels in steps of 4, then a 1x1 and a 3x3/2 convolution: 11 + 2 * 4 in steps of 8.
    assert fields(net, "conv3", 64).size == (19, 19)
    assert fields(net, "conv3", 64) == probed_fields(net, "conv3", 64)
