"""Maps per second of the three rules, ours and captum's, on the same units; and what a ranking costs.

python bench/attribution_speed.py [--rounds 5] [--only maps]

Both take the same network, images and units, in turns, and their results are compared.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from machine import machine
from torch import Tensor, nn

from allcnn.attribution import activations, attribute
from allcnn.attribution.rules import Rule
from allcnn.attribution.top_patches import rank
from allcnn.attribution.units import Units, choose_units
from allcnn.config import Init, ModelConfig
from allcnn.data.splits import ResidentSplit
from allcnn.networks.build import build_network

LOGITS = "logits"
LAYERS = ("conv1", "conv2", "conv3", "conv6", "conv9", LOGITS)
SIDE = 32

Maps = Callable[[], Tensor]  # [n, 3, h, w]


def network(width: float, device: torch.device) -> nn.Module:
    """Return all_cnn_c as it begins its training; without the last ReLU, which would stop most class scores."""
    model = ModelConfig(width=width, init=Init.he, class_relu=False)
    made = build_network(model, num_classes=10, image_size=SIDE, seed=0).eval()
    return made.to(device=device).to(memory_format=torch.channels_last)


def draw(count: int, device: torch.device) -> Tensor:
    """Return images [n, 3, h, w], in the layout of strive's own."""
    noise = torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return noise.to(device).contiguous(memory_format=torch.channels_last)


def ours(net: nn.Module, images: Tensor, layer: str, rule: Rule, units: Units) -> Maps:
    """Return what computes the maps by allcnn.attribution."""
    name = "" if layer == LOGITS else layer
    unit = {"channels": units.channels, "positions": units.positions}
    return lambda: attribute(net, images, rule=rule, layer=name, **unit).maps


def captums(net: nn.Module, images: Tensor, layer: str, rule: Rule, units: Units) -> Maps:
    """Return what computes the same maps by captum: the signed gradient, deconvolution, guided backpropagation."""
    try:
        from captum import attr
    except ImportError:
        raise SystemExit("error: captum is not installed: pip install -e '.[dev]'") from None
    leaf = images.clone().requires_grad_()
    if layer == LOGITS:
        engine = {Rule.backprop: attr.Saliency, Rule.deconvnet: attr.Deconvolution, Rule.guided: attr.GuidedBackprop}
        plain = {"abs": False} if rule is Rule.backprop else {}
        return lambda: engine[rule](net).attribute(leaf, target=units.channels, **plain)
    neuron = {
        Rule.backprop: attr.NeuronGradient,
        Rule.deconvnet: attr.NeuronDeconvolution,
        Rule.guided: attr.NeuronGuidedBackprop,
    }
    module = net.get_submodule(layer)
    return lambda: neuron[rule](net, module).attribute(leaf, neuron_selector=units.of)


def rate(maps: Maps, images: int, seconds: float, device: torch.device) -> float:
    """Return maps per second, over at least so many seconds and one call."""
    calls, started = 0, _now(device)
    while not calls or _now(device) - started < seconds:
        maps()
        calls += 1
    return calls * images / (_now(device) - started)


def compared(one: Tensor, other: Tensor) -> float:
    """Return the largest difference as a share of the largest value."""
    largest = float(other.abs().max())
    if not largest:
        raise SystemExit("error: captum's maps are zero, so there is nothing to compare")
    return float((one - other).abs().max()) / largest


def maps_table(options: argparse.Namespace, device: torch.device) -> str:
    """Return the table: a row for each layer, rule and batch size, medians over the rounds."""
    net, worst = network(options.width, device), 0.0
    lines = ["| layer | rule | batch | strive maps/s | captum maps/s | ratio |", "|---|---|---|---|---|---|"]
    for layer in options.layers:
        for batch in options.batches:
            images = draw(batch, device)
            units = choose_units(activations(net, images, "" if layer == LOGITS else layer).detach(), None, None)
            for rule in Rule:
                arms = [make(net, images, layer, rule, units) for make in (ours, captums)]
                worst = max(worst, compared(*(arm() for arm in arms)))  # and warms up
                rates = [[rate(arm, batch, options.seconds, device) for arm in arms] for _ in range(options.rounds)]
                lines.append(f"| {layer} | {rule.value} | {batch} | {_medians(rates)} |")
    return "\n".join(lines) + (
        f"\n\nMedians, n={options.rounds} rounds of {options.seconds:g} s; ratio: strive / captum, the median of the"
        f" rounds' ratios (and their range). model.width={options.width:g}. The maps differ by at most {worst:.1e} of"
        " the largest value."
    )


def ranking_table(options: argparse.Namespace, device: torch.device) -> str:
    """Return the table of ranking all layers over a split, next to a forward pass of the same batches."""
    net = network(options.width, device)
    pixels = np.random.default_rng(0).standard_normal((options.images, SIDE, SIDE, 3), dtype=np.float32)
    split = ResidentSplit(pixels, np.zeros(options.images, dtype=np.int64), device)
    layers = [name for name, module in net.named_children() if isinstance(module, nn.Conv2d)]

    @torch.no_grad()
    def forward() -> None:
        for images, _ in split.batches(torch.arange(len(split)).split(options.batch_size)):
            net(images)

    def ranking() -> None:
        rank(net, split, layers, top=options.top, batch_size=options.batch_size)

    seconds = []
    for number in range(options.rounds + 1):
        taken = [_seconds(each, device) for each in (forward, ranking)]
        if number:  # the first warms up
            seconds.append(taken)
    plain, ranked = (statistics.median(each) for each in zip(*seconds, strict=True))
    shares = [ours / theirs for theirs, ours in seconds]
    return (
        "| forward pass: s | ranking of all layers: s | ranking / forward |\n|---|---|---|\n"
        f"| {plain:.2f} | {ranked:.2f} | {statistics.median(shares):.3f} ({min(shares):.3f}-{max(shares):.3f}) |\n\n"
        f"Medians, n={options.rounds} rounds; {options.images} images in batches of {options.batch_size}, the"
        f" {options.top} first of every channel of {len(layers)} layers, model.width={options.width:g}."
    )


def _medians(rates: Sequence[Sequence[float]]) -> str:
    strive, captum = (statistics.median(each) for each in zip(*rates, strict=True))
    ratios = [ours / theirs for ours, theirs in rates]
    return f"{strive:.1f} | {captum:.1f} | {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    started = _now(device)
    work()
    return _now(device) - started


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", nargs="+", default=LAYERS, choices=LAYERS, metavar="LAYER", help=" ".join(LAYERS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 64], help="images in a batch (default: 1 64)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each kind, in turns (default: 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of one measurement, or one call (default: 1)")
    parser.add_argument("--width", type=float, default=1.0, help="multiplies the channels")
    parser.add_argument("--images", type=int, default=2000, help="that are ranked (default: 2000)")
    parser.add_argument("--batch-size", type=int, default=250, help="of the ranking (default: 250)")
    parser.add_argument("--top", type=int, default=10, help="places of the ranking (default: 10)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 takes every core")
    parser.add_argument("--only", choices=["maps", "ranking"], help="one table instead of both")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    options = _options(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", "Setting backward hooks on ReLU")  # captum, at every call
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tables = {"maps": maps_table, "ranking": ranking_table}
    for name in [options.only] if options.only else tables:
        print(tables[name](options, device), end="\n\n", flush=True)
    print(machine(torch.get_num_threads()))


if __name__ == "__main__":
    main()
