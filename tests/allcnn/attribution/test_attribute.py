import copy
import itertools

import dense
import pytest
import torch
from small_nets import SIZE, TWELVE, WAYS, convs, distance, images, small_net
from torch import nn

from allcnn.attribution import AttributionError, activations, attribute
from allcnn.attribution.attribute import _backward
from allcnn.attribution.crop_window import window_side
from allcnn.attribution.receptive_field import field_of
from allcnn.attribution.rules import Pooling, Rule
from allcnn.attribution.units import Units
from allcnn.config import Base, HeadPadding, PoolRounding, Variant

NETS = {
    "base": {"base": Base.c, "variant": Variant.base},
    "strided": {"base": Base.b, "variant": Variant.strided},
    "convpool": {"base": Base.b, "variant": Variant.convpool},
    "all_cnn": {"base": Base.c, "variant": Variant.all_cnn},
    "padded_pools": {"base": Base.a, "variant": Variant.base, "pool_rounding": PoolRounding.pad},
    "floored_pools": {"base": Base.a, "variant": Variant.convpool, "pool_rounding": PoolRounding.floor, "size": 15},
    "norm_2_pools": {"base": Base.a, "variant": Variant.convpool, "pool_norm": 2.0},
    "norm_1.5_pools": {"base": Base.c, "variant": Variant.base, "pool_norm": 1.5, "pool_rounding": PoolRounding.pad},
    "batch_norm": {"base": Base.a, "variant": Variant.base, "batch_norm": True},
    "same_head": {"base": Base.a, "variant": Variant.all_cnn, "head_padding": HeadPadding.same},
}
POOL_FREE = [(base, variant) for base, variant in TWELVE if variant in (Variant.strided, Variant.all_cnn)]


def by_hand(network, image, layer, unit, rule, pooling):
    layers = dense.layers_of(network, tuple(image.shape))
    values = dense.forward(layers, image.numpy())
    return torch.from_numpy(dense.attribution(layers, values, layer, unit, rule, pooling)).view(image.shape)


def units_of(answer):
    return [
        (channel, *position)
        for channel, position in zip(answer.units.channels.tolist(), answer.units.positions.tolist(), strict=True)
    ]


def from_the_unit(network, pictures, layer, rule, pooling, units):
    """Take the maps of given units (channel, row, column) over the whole image, without a window."""
    channels, field = torch.tensor([unit[0] for unit in units]), field_of(network, layer)
    positions = torch.tensor([unit[1:] for unit in units])
    with torch.enable_grad():
        return _backward(network, pictures, rule, pooling, layer, field, lambda made: Units(channels, positions)).maps


@pytest.mark.parametrize("name", NETS)
def test_maps_are_those_of_explicit_matrices(name):
    size = NETS[name].get("size", SIZE)
    network, pictures = small_net(**NETS[name]), images(size=size)
    layers = dense.layers_of(network, (3, size, size))
    values = [dense.forward(layers, image.numpy()) for image in pictures]
    assert values[0][-1] == pytest.approx(network(pictures)[0].tolist(), rel=1e-5)
    for layer, (rule, pooling) in itertools.product(convs(network)[2::3] + convs(network)[-1:], WAYS):
        answer = attribute(network, pictures, rule=rule, pooling=pooling, layer=layer)
        for seen, unit, made in zip(values, units_of(answer), answer.maps, strict=True):
            expected = dense.attribution(layers, seen, layer, unit, rule.value, pooling.value)
            assert distance(made.flatten(), torch.from_numpy(expected)) < 1e-12, (layer, rule, pooling)


@pytest.mark.parametrize("name", ["base", "strided", "all_cnn"])
def test_maps_of_logits_are_those_of_explicit_matrices(name):
    # 1e-6: the global mean is taken in float32.
    network, pictures = small_net(**NETS[name]), images()
    for rule, pooling in WAYS:
        answer = attribute(network, pictures, rule=rule, pooling=pooling, channels=[3, 1])
        expected = [
            by_hand(network, image, "mean", unit, rule, pooling)
            for image, unit in zip(pictures, units_of(answer), strict=True)
        ]
        assert distance(answer.maps, torch.stack(expected)) < 1e-6


@pytest.mark.parametrize("pooling", Pooling)
@pytest.mark.parametrize("rule", Rule)
def test_the_oracle_tells_a_wrong_rule_a_wrong_weight_and_a_wrong_padding(rule, pooling):
    network, pictures = small_net(**NETS["base"]), images(1)
    answer = attribute(network, pictures, rule=rule, pooling=pooling, layer="conv5")
    (unit,) = units_of(answer)

    def off(other, rule=rule, pooling=pooling):
        return distance(answer.maps[0], by_hand(other, pictures[0], "conv5", unit, rule, pooling))

    assert off(network) < 1e-12
    assert all(off(network, rule=other) > 0.1 for other in set(Rule) - {rule})
    assert all(off(network, pooling=other) > 0.1 for other in set(Pooling) - {pooling})
    other = copy.deepcopy(network)
    place = other.conv3.weight.abs().flatten().argmax()
    with torch.no_grad():
        other.conv3.weight.flatten()[place] *= 1.001
    assert off(other) > 1e-7
    assert off(small_net(**NETS["base"] | {"pool_rounding": PoolRounding.pad})) > 0.1


@pytest.mark.parametrize("name", ["base", "convpool", "all_cnn"])
def test_backprop_is_the_slope_of_the_activation(name):
    network, pictures = small_net(**NETS[name]), images(1)
    layer = convs(network)[5]
    answer = attribute(network, pictures, rule="backprop", layer=layer)
    (unit,) = units_of(answer)
    step = 1e-6
    steepest = answer.maps.flatten().abs().topk(10).indices
    for place in steepest.tolist():
        moved = pictures.repeat(2, 1, 1, 1)
        moved[0].view(-1)[place] += step
        moved[1].view(-1)[place] -= step
        above, below = activations(network, moved, layer)[:, *unit].tolist()
        assert (above - below) / (2 * step) == pytest.approx(answer.maps.flatten()[place].item(), rel=1e-5)


@pytest.mark.parametrize(("base", "variant"), POOL_FREE)
def test_a_pool_free_deconvnet_ignores_the_image_and_every_bias_bit_for_bit(base, variant):
    network, (one, two) = small_net(base, variant), images().split(1)
    other = copy.deepcopy(network)
    with torch.no_grad():
        for name, value in other.named_parameters():
            if name.endswith("bias"):
                value.add_(1)
    layer = convs(network)[-3]

    def made(rule, network, image):
        return attribute(network, image, rule=rule, layer=layer, channels=2, positions=[[0, 0]]).maps

    deconvnet = made("deconvnet", network, one)
    assert deconvnet.abs().max() > 0
    assert torch.equal(deconvnet, made("deconvnet", network, two))
    assert torch.equal(deconvnet, made("deconvnet", other, one))
    for rule in ("backprop", "guided"):
        assert distance(made(rule, network, two), made(rule, network, one)) > 1e-3
        assert distance(made(rule, other, one), made(rule, network, one)) > 1e-3


@pytest.mark.parametrize(("base", "variant"), [(Base.c, Variant.base), (Base.b, Variant.convpool)])
def test_pooling_makes_a_deconvnet_depend_on_the_image_only_through_its_switches(base, variant):
    network, (one, two) = small_net(base, variant), images().split(1)

    def made(pooling, image):
        unit = {"channels": 1, "positions": [[0, 0]]}
        return attribute(network, image, rule="deconvnet", pooling=pooling, layer="conv6", **unit).maps

    assert made("switchless", one).abs().max() > 0
    assert torch.equal(made("switchless", one), made("switchless", two))
    assert distance(made("switches", one), made("switches", two)) > 0.1


def test_guided_is_backprop_where_everything_is_positive():
    network = small_net(Base.c, Variant.base)
    with torch.no_grad():
        for value in network.parameters():
            value.abs_()
    pictures = images().abs()
    maps = [attribute(network, pictures, rule=rule, layer="conv7", channels=0).maps for rule in Rule]
    assert maps[0].abs().max() > 0
    assert all(torch.equal(each, maps[0]) for each in maps)


@pytest.mark.parametrize(("base", "variant"), TWELVE)
def test_at_conv1_all_rules_give_the_filter(base, variant):
    network, pictures = small_net(base, variant), images(1)
    side = network.conv1.kernel_size[0] // 2
    for rule, pooling in WAYS:
        unit = {"channels": 3, "positions": [[3, 4]]}
        made = attribute(network, pictures, rule=rule, pooling=pooling, layer="conv1", **unit).maps[0]
        top, left = (place * network.conv1.stride[0] - side for place in (3, 4))
        field = made[:, top : top + 2 * side + 1, left : left + 2 * side + 1]
        assert torch.equal(field, network.conv1.weight[3])
        field.zero_()
        assert not made.any()


@pytest.mark.parametrize(("base", "variant"), TWELVE)
def test_all_nets_of_the_paper_have_maps_at_every_layer(base, variant):
    network, pictures = small_net(base, variant, class_relu=True), images(dtype=torch.float32)
    network = network.float()
    for layer in ["", *dict(network.named_children())]:
        made = activations(network, pictures, layer)
        for rule, pooling in WAYS:
            answer = attribute(network, pictures, rule=rule, pooling=pooling, layer=layer)
            assert answer.maps.shape == pictures.shape
            assert answer.maps.isfinite().all()
            assert answer.values.tolist() == pytest.approx(made.flatten(1).amax(1).tolist(), rel=1e-4, abs=1e-6)
            # Only a unit that a ReLU has set to zero sends nothing back.
            assert (answer.maps.flatten(1).any(1) | (answer.values == 0)).all(), (layer, rule, pooling)


def windowed_cases():
    roundings = {variant: list(PoolRounding) for variant in (Variant.base, Variant.convpool)}
    for base, variant in TWELVE:
        for rounding, padding in itertools.product(roundings.get(variant, [PoolRounding.ceil]), HeadPadding):
            yield pytest.param(
                {"base": base, "variant": variant, "pool_rounding": rounding, "head_padding": padding},
                id=f"{variant.value}_{base.value}-{rounding.value}-{padding.value}",
            )


@pytest.mark.parametrize("knobs", list(windowed_cases()))
def test_a_window_gives_the_map_of_the_whole_image_at_every_place_along_both_axes(knobs):
    size = 48
    network, picture = small_net(**knobs, size=size, width=0.01), images(1, size=size).abs()
    with torch.no_grad():
        for value in network.parameters():
            value.abs_()  # so that no unit is dead
    windowed = [layer for layer in convs(network) if window_side(field_of(network, layer), picture)]
    assert len(windowed) >= 5
    for layer in windowed:
        count = activations(network, picture, layer).shape[2]
        units = [(0, row, (7 * row + 3) % count) for row in range(count)]
        pictures = picture.expand(count, -1, -1, -1)
        given = {"channels": [0] * count, "positions": [unit[1:] for unit in units]}
        made = attribute(network, pictures, rule="guided", layer=layer, **given).maps
        whole = from_the_unit(network, pictures, layer, Rule.guided, Pooling.switches, units)
        assert all(distance(*pair) < 1e-12 for pair in zip(made, whole, strict=True)), layer


def test_a_window_of_a_layer_that_sees_little_is_what_the_network_gets(monkeypatch):
    network, sizes, forward = small_net(Base.c, Variant.all_cnn), [], nn.Conv2d.forward

    def watched(module, pictures):
        if module is network.conv1:
            sizes.append(tuple(pictures.shape[2:]))
        return forward(module, pictures)

    monkeypatch.setattr(nn.Conv2d, "forward", watched)
    attribute(network, images(), rule="guided", layer="conv3", channels=0, positions=[[3, 3], [0, 5]])
    assert sizes == [(8, 8)]  # conv3 sees 7x7
    attribute(network, images(), rule="guided", layer="conv3", channels=0)
    assert sizes == [(8, 8), (12, 12), (8, 8)]  # first of all to find where


def test_each_image_has_its_own_unit_and_its_own_map():
    network, pictures = small_net(Base.b, Variant.convpool), images(4)
    given = {"rule": "deconvnet", "layer": "conv5"}
    channels, positions = [1, 0, 7, 1], [[0, 0], [5, 5], [3, 2], [5, 0]]
    together = attribute(network, pictures, channels=channels, positions=positions, **given)
    for place in range(4):
        alone = attribute(
            network, pictures[[place]], channels=channels[place], positions=positions[place : place + 1], **given
        )
        assert distance(together.maps[[place]], alone.maps) < 1e-12
    made = activations(network, pictures, "conv5")
    expected = [made[place, channels[place], *positions[place]].item() for place in range(4)]
    assert together.values.tolist() == pytest.approx(expected, rel=1e-12)


def test_maps_are_signed():
    made = attribute(small_net(Base.c, Variant.all_cnn), images(), rule="guided", layer="conv3").maps
    assert made.min() < 0 < made.max()


def snapshot(network):
    return (
        {name: (value.clone(), value.requires_grad, value.grad) for name, value in network.named_parameters()},
        {name: value.clone() for name, value in network.named_buffers()},
        [
            (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            for module in network.modules()
        ],
    )


def assert_same(before, after):
    assert before[2] == after[2]
    assert all(torch.equal(before[1][name], after[1][name]) for name in before[1])
    for name, (value, asks, grad) in before[0].items():
        assert torch.equal(value, after[0][name][0])
        assert asks == after[0][name][1]
        assert grad is None
        assert after[0][name][2] is None


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("layer", ["", "conv3"])
def test_network_and_images_are_left_as_they_were(broken, layer):
    network, pictures = small_net(Base.c, Variant.base, batch_norm=True), images()
    network.conv2.weight.requires_grad_(False)
    network.relu1 = nn.Sigmoid() if broken else nn.ReLU(inplace=True)
    network.eval()
    before, kept = snapshot(network), pictures.clone()
    if broken:
        with pytest.raises(AttributionError, match="sigmoid in relu1"):
            attribute(network, pictures, rule="guided", layer=layer)
    else:
        attribute(network, pictures, rule="guided", layer=layer)
    assert_same(before, snapshot(network))
    assert torch.equal(pictures, kept)
    assert not pictures.requires_grad
    assert pictures.grad is None
    # No rule is left behind: autograd has its own ReLU again.
    leaf = torch.tensor([1.0, -1.0], requires_grad=True)
    assert leaf.relu().grad_fn.name() == "ReluBackward0"


def test_a_net_that_begins_in_place_leaves_the_images_alone():
    network = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 2, 3).double()).eval()
    pictures = images()
    kept = pictures.clone()
    made = attribute(network, pictures, rule="guided", layer="1").maps
    assert made.abs().max() > 0
    assert torch.equal(pictures, kept)


def test_callers_may_ask_within_no_grad():
    network, pictures = small_net(Base.c, Variant.all_cnn), images()
    with torch.no_grad():
        made = attribute(network, pictures, rule="guided", layer="conv7").maps
    assert torch.equal(made, attribute(network, pictures, rule="guided", layer="conv7").maps)
    assert not made.requires_grad


@pytest.mark.parametrize(
    ("change", "given", "message"),
    [
        ({}, {"layer": "conv99"}, "no such module; it has dropout0, conv1"),
        ({}, {"rule": "lrp"}, "backprop, deconvnet, guided"),
        ({}, {"pooling": "max"}, "switches, switchless"),
        ({"training": "conv2"}, {}, "conv2 is in training mode"),
        ({"shape": (3, SIZE, SIZE)}, {}, r"images must be \[n, channels, h, w\] of floats"),
        ({"dtype": torch.uint8}, {}, "torch.uint8"),
        ({}, {"layer": "conv3", "channels": 0, "positions": [[6, 0], [0, 0]]}, r"positions must be in \[0, \[6, 6\]\)"),
        ({}, {"layer": "conv3", "channels": 0, "positions": [[5, 0], [-1, 0]]}, r"got \[\[5, 0\], \[-1, 0\]\]"),
        ({}, {"layer": "conv3", "channels": 4, "positions": [[5, 0], [0, 0]]}, r"channels must be in \[0, 4\)"),
        ({}, {"layer": "conv3", "channels": 0, "positions": [[5, 0]]}, r"positions must be of shape \[2, 2\]"),
        ({}, {"layer": "conv3", "channels": 99}, r"channels must be in \[0, 4\), got \[99, 99\]"),
    ],
)
def test_a_wrong_question_is_answered_with_what_is_legal(change, given, message):
    network, pictures = small_net(Base.c, Variant.all_cnn), images()
    if "training" in change:
        network.get_submodule(change["training"]).train()
    if "shape" in change:
        pictures = pictures.reshape(-1)[: 3 * SIZE * SIZE].reshape(change["shape"])
    pictures = pictures.to(change.get("dtype", pictures.dtype))
    with pytest.raises(AttributionError, match=message):
        attribute(network, pictures, **{"rule": "guided"} | given)


def test_a_layer_that_is_no_map_of_each_image_is_refused():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(0), nn.Linear(4 * 10 * 10 * 2, 2)).double().eval()
    with pytest.raises(AttributionError, match=r"layer=2 must return \[n, c, h, w\] or \[n, c\] for n = 2"):
        attribute(network.double(), images(), rule="guided", layer="2")


def test_a_layer_that_the_forward_pass_leaves_out_is_refused():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Conv2d(3, 2, 3).double(), nn.Conv2d(3, 2, 3).double()

        def forward(self, pictures):
            return self.used(pictures)

    with pytest.raises(AttributionError, match="layer=unused is not called"):
        attribute(Net().eval(), images(), rule="guided", layer="unused")


def test_an_output_that_ignores_the_image_is_refused():
    class Net(nn.Module):
        def forward(self, pictures):
            return pictures.new_ones(len(pictures), 3)

    with pytest.raises(AttributionError, match="does not depend on the image"):
        attribute(Net().eval(), images(), rule="guided")


class Watched(nn.Module):
    """A net that is no plain sequence: each of its calls is watched."""

    def __init__(self, network):
        super().__init__()
        self.inner = network

    def forward(self, pictures):
        return self.inner(pictures)


@pytest.mark.parametrize("name", NETS)
def test_a_sequence_of_known_modules_gives_what_it_gives_where_each_call_is_watched(name):
    network, pictures = small_net(**NETS[name]), images(size=NETS[name].get("size", SIZE))
    last = convs(network)[-1]
    for rule, pooling in WAYS:
        known = attribute(network, pictures, rule=rule, pooling=pooling, layer=last)
        watched = attribute(Watched(network).eval(), pictures, rule=rule, pooling=pooling, layer=f"inner.{last}")
        assert known.maps.norm() > 0
        assert torch.equal(known.maps, watched.maps), (rule, pooling)
        assert torch.equal(known.values, watched.values)


def hooked_child(network):
    network.relu2.register_forward_hook(lambda module, given, made: made.sigmoid())


def hooked_before_a_child(network):
    network.conv2.register_forward_pre_hook(lambda module, given: (given[0].sigmoid(),))


def hooked_itself(network):
    network.register_forward_pre_hook(lambda module, given: (given[0].sigmoid(),))


def with_own_statistics(network):
    network.relu2 = nn.BatchNorm2d(network.conv2.out_channels, track_running_stats=False, dtype=torch.float64).eval()


@pytest.mark.parametrize("layer", ["conv3", "conv9"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (hooked_child, "sigmoid"),
        (hooked_before_a_child, "sigmoid"),
        (hooked_itself, "sigmoid"),
        (with_own_statistics, "the image's own statistics"),
    ],
)
def test_what_a_user_changed_in_a_plain_sequence_is_not_passed_over(change, message, layer):
    network, pictures = small_net(**NETS["all_cnn"]), images()
    change(network)
    with pytest.raises(AttributionError, match=message):
        attribute(network, pictures, rule="guided", layer=layer)


def test_a_hook_on_all_modules_is_not_passed_over():
    network, pictures = small_net(**NETS["all_cnn"]), images()
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, given, made: made.sigmoid() if isinstance(module, nn.ReLU) else None
    )
    try:
        with pytest.raises(AttributionError, match="sigmoid"):
            attribute(network, pictures, rule="guided", layer="conv3")
    finally:
        handle.remove()


def test_a_hook_that_lets_every_pixel_in_is_seen_in_the_values():
    network, pictures = small_net(**NETS["all_cnn"]), images()
    network.conv1.register_forward_pre_hook(lambda module, given: (given[0] - given[0].mean((1, 2, 3), keepdim=True),))
    answer = attribute(network, pictures, rule="backprop", layer="conv2")
    assert answer.values.tolist() == activations(network, pictures, "conv2").amax((1, 2, 3)).tolist()
    # The mean brings a share of the signal to pixels that the convolutions do not see.
    assert all(bool((each != 0).all()) for each in answer.maps)


def test_an_empty_batch_is_refused():
    with pytest.raises(AttributionError, match="empty batch"):
        attribute(small_net(**NETS["all_cnn"]), images()[:0], rule="guided")


def test_a_leaky_relu_in_a_plain_sequence_is_refused():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.1), nn.Conv2d(4, 2, 3)).eval()
    with pytest.raises(AttributionError, match="leaky_relu"):
        attribute(network.double(), images(), rule="guided", layer="2")


def test_a_max_pooling_of_torch_in_a_plain_sequence_has_its_switchless_way_back():
    # Each of the 2x2 places of the one window gets what comes back: the deconvolution of a 1 by a 1x1 filter of 2.
    network = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.MaxPool2d(2)).eval()
    nn.init.constant_(network[0].weight, 2.0)
    pictures = torch.rand(1, 3, 2, 2)
    made = attribute(network, pictures, rule="deconvnet", pooling="switchless")
    assert torch.equal(made.maps, torch.full((1, 3, 2, 2), 2.0))


@pytest.mark.parametrize("layer", ["conv1", ""])  # within a window, and without one
def test_images_that_are_not_finite_are_refused_with_how_many_values_are(layer):
    network, pictures = small_net(**NETS["all_cnn"]), images()
    pictures[1, 0, 2, 3:5] = torch.nan
    pictures[0, 1, 0, 0], pictures[0, 2, 0, 0] = torch.inf, -torch.inf
    told = rf"images must be finite: 4 of {pictures.numel():,} values are NaN or infinite"
    with pytest.raises(AttributionError, match=told):
        attribute(network, pictures, rule="guided", layer=layer)


def test_finite_images_whose_sum_is_not_are_no_error():
    pictures = torch.zeros(1, 3, 4, 4)
    pictures[0, 0, 0, :2] = torch.finfo(torch.float32).max
    assert pictures.sum().isinf()
    network = nn.Sequential(nn.AvgPool2d(1)).eval()
    made = attribute(network, pictures, rule="backprop")
    assert made.maps.nonzero().tolist() == [[0, 0, 0, 0]]  # a 1 at the first of the largest pixels
