"""The nets as data: lists of layers, after the paper's Tables 1 and 2 and its appendix.

Nothing here computes: `build` turns a list into modules. The paper leaves some choices open;
each is a knob of `ModelConfig`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from allcnn.config import Base, DropoutAfter, Family, HeadPadding, ModelConfig, PoolRounding, StridedB, Variant

IMAGE_CHANNELS = 3


@dataclass(frozen=True, slots=True)
class Conv:
    """A square convolution with biases, then batch normalisation and ReLU where asked."""

    kernel: int
    channels: int  # that come out
    stride: int = 1
    padding: int = 0  # zeros on each side
    relu: bool = True
    slope: float = 0.0  # of the ReLU below zero
    batch_norm: bool = False


@dataclass(frozen=True, slots=True)
class Pool:
    """3x3 pooling with stride 2, the only pooling of the paper."""

    norm: float  # p of the p-norm; inf is the maximum
    rounding: PoolRounding


@dataclass(frozen=True, slots=True)
class Dropout:
    """Dropout; a share of 0 stays in the list, so that the other dropouts keep their masks."""

    share: float


Layer = Conv | Pool | Dropout

# Table 1: the convolutions of each of the two blocks before the head.
KERNELS = {Base.a: (5,), Base.b: (5, 1), Base.c: (3, 3)}


def layers(model: ModelConfig, num_classes: int) -> list[Layer]:
    """Return the net's layers in order; a global average follows the last one.

    The last is the class convolution. `model.width` scales the channels of all others, which
    are also the ones that `model.batch_norm` acts on.
    """
    match model.family:
        case Family.paper:
            body, class_relu = _paper_net(model), model.class_relu
        case Family.large_all_cnn:
            body, class_relu = _large_all_cnn(model), False
        case Family.all_cnn_b_imagenet:
            body, class_relu = _all_cnn_b_imagenet(model), model.class_relu
        case Family.custom:
            raise AssertionError("a custom net has no list of layers")
    return [*(_adjusted(layer, model) for layer in body), Conv(1, num_classes, relu=class_relu)]


def sides(spec: Sequence[Layer], image_size: int) -> list[int]:
    """Return the height (= width) of the map after each layer; below 1 if the image is too small."""
    side, after = image_size, []
    for layer in spec:
        side = _side_after(layer, side)
        after.append(side)
    return after


def _side_after(layer: Layer, side: int) -> int:
    match layer:
        case Conv():
            return (side + 2 * layer.padding - layer.kernel) // layer.stride + 1
        case Pool(rounding=PoolRounding.ceil):
            return -((3 - side) // 2) + 1
        case Pool(rounding=PoolRounding.pad):
            return (side - 1) // 2 + 1
        case Pool():
            return (side - 3) // 2 + 1
        case Dropout():
            return side


def _adjusted(layer: Layer, model: ModelConfig) -> Layer:
    if not isinstance(layer, Conv):
        return layer
    return replace(layer, channels=max(1, round(model.width * layer.channels)), batch_norm=model.batch_norm)


def _paper_net(model: ModelConfig) -> list[Layer]:
    """Tables 1 and 2: two blocks that halve the map, then a head that all 12 nets share."""
    # Only a valid convolution here gives the 6x6 map of Table 1: 32 -> 16 -> 8 -> 6.
    head_padding = 0 if model.head_padding is HeadPadding.valid else 1
    return [
        Dropout(model.dropout_input),
        *_block(model, 96),
        *_block(model, 192),
        Conv(3, 192, padding=head_padding),
        Conv(1, 192),
    ]


def _block(model: ModelConfig, channels: int) -> list[Layer]:
    """One row group of Table 2: convolutions that keep the size, then what halves it."""
    convs = [Conv(kernel, channels, padding=kernel // 2) for kernel in KERNELS[model.base]]
    pool = Pool(model.pool_norm, model.pool_rounding)
    dropout = Dropout(model.dropout_hidden)
    match model.variant:
        case Variant.base:
            return [*convs, pool, dropout]
        case Variant.strided:
            return _strided_block(model, convs)
        case Variant.convpool:
            return [*convs, Conv(3, channels, padding=1), pool, dropout]
        case Variant.all_cnn:
            return [*convs, Conv(3, channels, stride=2, padding=1), dropout]


def _strided_block(model: ModelConfig, convs: list[Conv]) -> list[Layer]:
    """The pool is gone, and a convolution before it takes its stride.

    The paper strides "the convolutional layer that preceded it": in B the 1x1, which then
    throws away three quarters of what the 5x5 computed.
    """
    strides_5x5 = model.base is Base.b and model.strided_b is StridedB.conv5x5
    taken = 0 if strides_5x5 else len(convs) - 1
    before, strided, after = convs[:taken], replace(convs[taken], stride=2), convs[taken + 1 :]
    if model.dropout_after is DropoutAfter.pool_or_added_conv:
        return [*before, strided, *after]
    return [*before, strided, Dropout(model.dropout_hidden), *after]


def _large_all_cnn(model: ModelConfig) -> list[Layer]:
    """Appendix: five blocks of three 2x2 convolutions; 126x126 images end in a 1x1 map.

    Its dropout grows with depth, from 10% in the second block to 50% on the last two layers.
    """
    slope = model.leaky_slope
    net: list[Layer] = [Dropout(model.dropout_input)]
    for channels, share in ((320, 0.0), (640, 0.1), (960, 0.2), (1280, 0.3), (1600, 0.4)):
        conv = Conv(2, channels, slope=slope)
        net += [conv, conv, Dropout(share), replace(conv, stride=2)]
    return [*net, Conv(2, 1920, slope=slope), Dropout(0.5), Conv(1, 1920, slope=slope), Dropout(0.5)]


def _all_cnn_b_imagenet(model: ModelConfig) -> list[Layer]:
    """Appendix: All-CNN-B for 224x224 images, sizes 54, 27, 23, 12 and a 6x6 map at the end."""
    return [
        Dropout(model.dropout_input),
        Conv(11, 96, stride=4),
        Conv(1, 96),
        Conv(3, 96, stride=2, padding=1),
        Conv(5, 256),
        Conv(1, 256),
        Conv(3, 256, stride=2, padding=1),
        Conv(3, 384, padding=1),
        Conv(1, 384),
        Conv(3, 384, stride=2, padding=1),
        Dropout(model.dropout_hidden),
        Conv(3, 1024, padding=1),
        Conv(1, 1024),
    ]
