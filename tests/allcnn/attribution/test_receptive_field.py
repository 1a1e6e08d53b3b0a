import pytest
import torch
from torch import nn

from allcnn.attribution.receptive_field import WHOLE, Box, ReceptiveField, field_of
from allcnn.config import Family, HeadPadding, ModelConfig, PoolRounding, Variant
from allcnn.networks.build import SampledConv, build_network

# (size, jump, start) of the layers of C nets on images of 32, by the formula.
FIELDS = {
    "all_cnn": [(3, 1, -1), (5, 1, -2), (7, 2, -3), (11, 2, -5), (15, 2, -7), (19, 4, -9)] + [(27, 4, -9)] * 3,
    "convpool": [(3, 1, -1), (5, 1, -2), (7, 1, -3), (13, 2, -5), (17, 2, -7), (21, 2, -9)] + [(33, 4, -9)] * 3,
    "base": [(3, 1, -1), (5, 1, -2), (11, 2, -4), (15, 2, -6)] + [(27, 4, -6)] * 3,
    "strided": [(3, 1, -1), (5, 2, -2), (9, 2, -4), (13, 4, -6)] + [(21, 4, -6)] * 3,
}


def net(family=Family.paper, size=32, **knobs):
    model = ModelConfig(family=family, **{"width": 0.02} | knobs)
    return build_network(model, num_classes=3, image_size=size, seed=0).eval()


@pytest.mark.parametrize("variant", Variant)
def test_fields_of_the_c_nets_are_those_of_the_table(variant):
    network = net(variant=variant)
    for number, expected in enumerate(FIELDS[variant.value], start=1):
        assert field_of(network, f"conv{number}") == ReceptiveField(*expected)
        assert field_of(network, f"relu{number}") == ReceptiveField(*expected)
    assert field_of(network, "mean") == field_of(network, "") == WHOLE


def test_pools_of_the_convpool_net_see_what_the_table_says():
    network = net(variant=Variant.convpool)
    assert field_of(network, "pool1") == ReceptiveField(9, 2, -3)
    assert field_of(network, "pool2") == ReceptiveField(25, 4, -9)


def test_a_same_head_begins_one_place_of_its_map_earlier():
    assert field_of(net(head_padding=HeadPadding.same), "conv7") == ReceptiveField(27, 4, -13)


def test_padded_pools_begin_one_place_earlier():
    network = net(variant=Variant.base, pool_rounding=PoolRounding.pad)
    assert field_of(network, "pool1") == ReceptiveField(7, 2, -3)
    assert field_of(network, "conv5") == ReceptiveField(27, 4, -9)


def test_the_imagenet_net_sees_what_the_formula_says():
    network = net(Family.all_cnn_b_imagenet, size=224)
    assert (field_of(network, "conv6").size, field_of(network, "conv6").jump) == (67, 16)
    assert (field_of(network, "conv9").size, field_of(network, "conv9").jump) == (131, 32)


def test_a_box_is_what_lies_within_the_image():
    field = ReceptiveField(7, 2, -3)
    assert field.box(0, 5, 32, 32) == Box(0, 7, 4, 14)
    assert field.box(15, 15, 32, 32) == Box(27, 27, 32, 32)
    assert WHOLE.box(3, 4, 20, 30) == Box(0, 0, 20, 30)


def test_dilation_and_other_poolings_are_counted():
    network = nn.Sequential(nn.Conv2d(3, 2, 3, dilation=2, padding=2), nn.AvgPool2d(2), nn.MaxPool2d(3, 1, 1, 2))
    assert field_of(network, "0") == ReceptiveField(5, 1, -2)
    assert field_of(network, "1") == ReceptiveField(6, 2, -2)
    assert field_of(network, "2") == ReceptiveField(14, 2, -4)
    assert field_of(nn.Sequential(SampledConv(3, 2, 1, stride=2)), "0") == ReceptiveField(1, 2, 0)


def test_a_layer_that_stands_there_twice_is_counted_twice():
    pool = nn.MaxPool2d(2)
    network = nn.Sequential(nn.Conv2d(3, 3, 3), pool, nn.Conv2d(3, 3, 3), pool, nn.Conv2d(3, 3, 3))
    assert field_of(network, "4") == ReceptiveField(18, 4, 0)
    # Its activations are those of its first call, by whichever name.
    assert field_of(network, "1") == field_of(network, "3") == ReceptiveField(4, 2, 0)


class Skip(nn.Sequential):
    def forward(self, pictures):
        return pictures + pictures.flip(3)


class Shifted(nn.Conv2d):
    def forward(self, maps):
        return super().forward(maps).roll(9, 3)


def patched():
    network = nn.Sequential(nn.Conv2d(3, 3, 3))
    network.forward = lambda pictures: pictures
    return network


@pytest.mark.parametrize(
    "network",
    [
        Skip(nn.Conv2d(3, 3, 3)),
        nn.Sequential(Shifted(3, 3, 3)),
        nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 3))),
        nn.Sequential(nn.Conv2d(3, 3, 3, padding_mode="circular", padding=1)),
        nn.Sequential(nn.Conv2d(3, 3, (3, 5))),
        nn.Sequential(nn.Conv2d(3, 3, 3, padding="same")),
        nn.Sequential(nn.Upsample(scale_factor=2)),
        nn.Conv2d(3, 3, 3),
        patched(),
    ],
)
def test_what_is_not_known_has_no_field_in_closed_form(network):
    with torch.no_grad():
        network(torch.zeros(1, 3, 8, 8))
    assert field_of(network, "0") is None
