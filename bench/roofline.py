"""Roofline of the paper's 12 nets: FLOPs and bytes of a training step, and the least time a GPU needs for it.

python bench/roofline.py [--peak 790e12] [--bandwidth 4.3e12]

A multiply-add is two FLOPs. A step is forward, the gradient by the activations (none for the images) and the gradient
by the weights, then SGD. Activations are bf16; weights, gradients and momentum float32. Bytes are those of a step in
which every convolution reads its input and weights and writes its output once: biases, ReLUs and dropout cost
nothing.

Shapes: n images of a batch, h height (= width) of a map.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from allcnn.config import Base, ModelConfig, Variant
from allcnn.networks import spec
from allcnn.networks.spec import Conv, Layer, Pool

# What one H200 does on random numbers, not its datasheet: a bf16 matrix product of side 8192 (datasheet: 990), and a
# copy within its memory, bytes read plus bytes written (datasheet: 4.8).
PEAK, BANDWIDTH = 790e12, 4.3e12  # FLOP/s, bytes/s
BATCH, IMAGES, EPOCHS, CELLS = 128, 50_000, 350, 40  # the paper's run; 2 augmentations x 4 learning rates x 5 seeds
IMAGE_SIZE, IMAGE_CHANNELS, CLASSES = 32, 3, 10
NETS = {model.name: model for model in (ModelConfig(base=base, variant=kind) for base in Base for kind in Variant)}

_HALF, _FULL = 2, 4  # bytes of a bf16 and of a float32


@dataclass(frozen=True, slots=True)
class Operation:
    """One pass over memory, with the arithmetic done on the way."""

    flops: int
    bytes: int
    forward: bool = False


@dataclass(frozen=True, slots=True)
class StepCost:
    """The operations of one training step of a batch."""

    batch: int
    parameters: int
    operations: tuple[Operation, ...]

    @property
    def forward_flops(self) -> int:
        """Of the forward pass alone."""
        return sum(operation.flops for operation in self.operations if operation.forward)

    @property
    def flops(self) -> int:
        """Of the whole step."""
        return sum(operation.flops for operation in self.operations)

    @property
    def bytes(self) -> int:
        """Read and written in the whole step."""
        return sum(operation.bytes for operation in self.operations)

    def seconds(self, peak: float = PEAK, bandwidth: float = BANDWIDTH) -> float:
        """Return the roofline of the step: each operation takes as long as its arithmetic or its bytes."""
        return sum(max(each.flops / peak, each.bytes / bandwidth) for each in self.operations)


def step_cost(layers: Sequence[Layer], batch: int = BATCH) -> StepCost:
    """Return what a step on a batch of CIFAR-sized images has to do."""
    side, channels, parameters, operations = IMAGE_SIZE, IMAGE_CHANNELS, 0, list[Operation]()
    for layer, after in zip(layers, spec.sides(layers, IMAGE_SIZE), strict=True):
        before_bytes = _HALF * batch * side**2 * channels
        if isinstance(layer, Conv):
            operations += _convolution(layer, channels, before_bytes, batch * after**2, first=not operations)
            parameters += layer.channels * (channels * layer.kernel**2 + 1)
            channels = layer.channels
        elif isinstance(layer, Pool):
            after_bytes = _HALF * batch * after**2 * channels
            # One byte for each maximum says where it came from; the way back reads and writes the same.
            operations += [Operation(0, before_bytes + after_bytes + after_bytes // _HALF)] * 2
        side = after
    # SGD reads weight, gradient and momentum, and writes weight and momentum.
    return StepCost(batch, parameters, (*operations, Operation(0, 5 * _FULL * parameters)))


def rewritten(layers: Sequence[Layer]) -> list[Layer]:
    """Return Strided-CNN-B's layers as they may be computed: a 1x1 convolution's stride moves to the one before it.

    The 1x1 convolution reads only the pixels that the other then computes, so the net is the same. Other nets stay.
    """
    made = list(layers)
    for place, (layer, following) in enumerate(itertools.pairwise(layers)):
        if isinstance(layer, Conv) and isinstance(following, Conv) and following.kernel == 1 and following.stride > 1:
            made[place] = replace(layer, stride=layer.stride * following.stride)
            made[place + 1] = replace(following, stride=1)
    return made


def _convolution(conv: Conv, channels: int, before: int, pixels: int, *, first: bool) -> Iterator[Operation]:
    """Yield the passes of a convolution: `before` bytes come in, `pixels` pixels of the whole batch come out."""
    after, weights = _HALF * pixels * conv.channels, conv.channels * channels * conv.kernel**2
    flops = 2 * pixels * weights
    yield Operation(flops, before + _HALF * weights + after, forward=True)
    if not first:
        # The input is read once more, for the ReLU that made it.
        yield Operation(flops, after + _HALF * weights + 2 * before)
    yield Operation(flops, before + after + _FULL * weights)


def table(peak: float = PEAK, bandwidth: float = BANDWIDTH) -> str:
    """Return the table: a row for each net, and one for Strided-CNN-B as it may be computed."""
    lines = [
        "| net | parameters, M | forward MFLOP/image | step GFLOP/image | MB/image | PFLOP/run"
        " | roofline us/step | s/run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    steps, total = EPOCHS * -(-IMAGES // BATCH), 0.0
    rows = {name: spec.layers(model, CLASSES) for name, model in NETS.items()}
    rows["strided_cnn_b, rewritten"] = rewritten(rows["strided_cnn_b"])
    for name, layers in rows.items():
        step = step_cost(layers)
        seconds = step.seconds(peak, bandwidth)
        total += steps * seconds * (name in NETS)
        lines.append(
            f"| {name} | {step.parameters / 1e6:.3f} | {step.forward_flops / BATCH / 1e6:.1f}"
            f" | {step.flops / BATCH / 1e9:.3f} | {step.bytes / BATCH / 1e6:.2f}"
            f" | {step.flops / BATCH * IMAGES * EPOCHS / 1e15:.2f} | {seconds * 1e6:.0f} | {steps * seconds:.1f} |"
        )
    return "\n".join(lines) + (
        f"\n\n{peak / 1e12:g} TFLOP/s and {bandwidth / 1e12:g} TB/s. Batches of {BATCH}; a run is {EPOCHS} epochs of"
        f" {IMAGES:,} images. The 12 nets as written, each trained {CELLS} times: {CELLS * total / 3600:.2f} h."
    )


def add_ceilings(parser: argparse.ArgumentParser) -> None:
    """Add the options for another GPU than the H200."""
    parser.add_argument("--peak", type=float, default=PEAK, help=f"FLOP/s of a bf16 matrix product (default: {PEAK:g})")
    parser.add_argument("--bandwidth", type=float, default=BANDWIDTH, help=f"bytes/s (default: {BANDWIDTH:g})")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_ceilings(parser)
    options = parser.parse_args(arguments)
    print(table(options.peak, options.bandwidth))


if __name__ == "__main__":
    main()
