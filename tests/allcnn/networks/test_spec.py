import itertools

import pytest

from allcnn.config import Base, DropoutAfter, Family, HeadPadding, ModelConfig, PoolRounding, StridedB, Variant
from allcnn.networks.spec import Conv, Dropout, Pool, layers, sides

GRID = list(itertools.product(Base, Variant))
POOLED = [pair for pair in GRID if pair[1] in (Variant.base, Variant.convpool)]
LARGE = ModelConfig(family=Family.large_all_cnn)
IMAGENET = ModelConfig(family=Family.all_cnn_b_imagenet)


def distinct(values):
    return [value for value, _ in itertools.groupby(values)]


def convs(model, num_classes=10):
    return [layer for layer in layers(model, num_classes) if isinstance(layer, Conv)]


def shapes(model):
    return [(conv.kernel, conv.channels, conv.stride) for conv in convs(model)]


@pytest.mark.parametrize(("base", "variant"), GRID)
@pytest.mark.parametrize("rounding", [PoolRounding.ceil, PoolRounding.pad])
def test_every_net_of_the_paper_ends_in_a_6x6_map(base, variant, rounding):
    model = ModelConfig(base=base, variant=variant, pool_rounding=rounding)
    assert distinct([32, *sides(layers(model, 10), 32)]) == [32, 16, 8, 6]


@pytest.mark.parametrize(("base", "variant"), POOLED)
def test_rounding_down_gives_the_sizes_that_the_paper_excludes(base, variant):
    model = ModelConfig(base=base, variant=variant, pool_rounding=PoolRounding.floor)
    assert distinct(sides(layers(model, 10), 32)) == [32, 15, 7, 5]


@pytest.mark.parametrize(("base", "variant"), GRID)
def test_same_padding_in_the_head_keeps_8x8(base, variant):
    model = ModelConfig(base=base, variant=variant, head_padding=HeadPadding.same)
    assert sides(layers(model, 10), 32)[-1] == 8


def test_the_derived_nets_of_c_are_those_of_table_2():
    head = [(3, 192, 1), (1, 192, 1), (1, 10, 1)]
    wide, wider = (3, 96, 1), (3, 192, 1)
    strided, all_cnn = ModelConfig(variant=Variant.strided), ModelConfig(variant=Variant.all_cnn)
    convpool = ModelConfig(variant=Variant.convpool)
    assert shapes(strided) == [wide, (3, 96, 2), wider, (3, 192, 2), *head]
    assert shapes(convpool) == [wide] * 3 + [wider] * 3 + head
    assert shapes(all_cnn) == [wide, wide, (3, 96, 2), wider, wider, (3, 192, 2), *head]


def test_the_added_layers_of_a_and_b_are_3x3():
    for base, variant in itertools.product((Base.a, Base.b), (Variant.convpool, Variant.all_cnn)):
        stride = 2 if variant is Variant.all_cnn else 1
        own = shapes(ModelConfig(base=base, variant=Variant.base))
        added = shapes(ModelConfig(base=base, variant=variant))
        per_block = len(own[:-3]) // 2
        first, second = own[:per_block], own[per_block : 2 * per_block]
        assert added == [*first, (3, 96, stride), *second, (3, 192, stride), *own[-3:]]


def test_strided_b_strides_the_1x1_unless_told_to_stride_the_5x5():
    b = {"base": Base.b, "variant": Variant.strided}
    assert shapes(ModelConfig(**b))[:2] == [(5, 96, 1), (1, 96, 2)]
    assert shapes(ModelConfig(**b, strided_b=StridedB.conv5x5))[:2] == [(5, 96, 2), (1, 96, 1)]
    # The knob is about B alone.
    assert shapes(ModelConfig(base=Base.a, variant=Variant.strided, strided_b=StridedB.conv5x5))[0] == (5, 96, 2)


@pytest.mark.parametrize(("base", "variant"), GRID)
def test_dropout_acts_on_the_input_and_after_each_layer_that_halves_the_map(base, variant):
    spec = layers(ModelConfig(base=base, variant=variant), 10)
    halves = [index for index, layer in enumerate(spec) if isinstance(layer, Pool) or getattr(layer, "stride", 1) == 2]
    assert spec[0] == Dropout(0.2)
    assert [spec[index + 1] for index in halves] == [Dropout(0.5), Dropout(0.5)]
    assert sum(isinstance(layer, Dropout) for layer in spec) == 3


@pytest.mark.parametrize("base", Base)
def test_strided_nets_have_no_hidden_dropout_if_only_an_added_conv_counts_as_replacement(base):
    knob = {"base": base, "dropout_after": DropoutAfter.pool_or_added_conv}
    spec = layers(ModelConfig(variant=Variant.strided, **knob), 10)
    assert [layer for layer in spec if isinstance(layer, Dropout)] == [Dropout(0.2)]
    all_cnn = layers(ModelConfig(variant=Variant.all_cnn, **knob), 10)
    assert sum(isinstance(layer, Dropout) for layer in all_cnn) == 3


def test_width_scales_every_layer_but_the_class_convolution():
    thin = convs(ModelConfig(width=0.25), num_classes=100)
    assert [conv.channels for conv in thin] == [24] * 3 + [48] * 5 + [100]
    assert {conv.channels for conv in convs(ModelConfig(width=0.001), num_classes=7)[:-1]} == {1}


@pytest.mark.parametrize(
    "model", [ModelConfig(batch_norm=True), ModelConfig(family=Family.large_all_cnn, batch_norm=True)]
)
def test_batch_norm_acts_on_every_layer_but_the_class_convolution(model):
    *body, last = convs(model)
    assert all(conv.batch_norm for conv in body)
    assert not last.batch_norm


def test_large_all_cnn_takes_126x126_to_exactly_one_unit():
    # Computed by hand for valid 2x2 convolutions, each third one with stride 2.
    by_hand = [126, 125, 124, 62, 61, 60, 30, 29, 28, 14, 13, 12, 6, 5, 4, 2, 1]
    assert distinct(sides(layers(LARGE, 10), 126)) == by_hand
    assert min(sides(layers(LARGE, 10), 125)) < 1


def test_large_all_cnn_drops_more_with_depth_and_leaks_below_zero():
    shares = [layer.share for layer in layers(LARGE, 10) if isinstance(layer, Dropout)]
    assert shares == [0.2, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.5]
    *body, last = convs(ModelConfig(family=Family.large_all_cnn, leaky_slope=0.1))
    assert {conv.slope for conv in body} == {0.1}
    assert not last.relu


def test_the_imagenet_net_has_the_sizes_of_the_appendix():
    assert distinct(sides(layers(IMAGENET, 1000), 224)) == [224, 54, 27, 23, 12, 6]


def test_the_imagenet_net_drops_after_its_ninth_convolution():
    spec = layers(ModelConfig(family=Family.all_cnn_b_imagenet, dropout_hidden=0.4), 1000)
    place = spec.index(Dropout(0.4))
    assert sum(isinstance(layer, Conv) for layer in spec[:place]) == 9
