"""Sanity checks: agreement and scores of maps and of their controls.

This is the only function that scores a network's maps, and it always includes the controls: the same rule with fresh
weights, for a wrong class and for another image, a map that no network made, and noise (Adebayo et al., 2018;
Nie et al., 2018).

Shapes: n images, d draws of fresh weights, k images to show, h height, w width.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from allcnn.attribution import baselines, map_scores
from allcnn.attribution.attribute import attribute
from allcnn.attribution.relu_override import AttributionError
from allcnn.attribution.rules import Pooling, Rule
from allcnn.attribution.units import first_largest
from allcnn.config import ModelConfig
from allcnn.networks.build import GlobalMean

TRAINED, WRONG, OTHER, CONTRAST, NOISE = "trained", "wrong class", "other image", "contrast map", "noise"
AGREEMENT = ("spearman", "cosine")  # with the trained network's map of the same image and rule
SCORES = ("gini", "deletion", "insertion")


@dataclass(frozen=True, slots=True)
class ComparisonLine:
    """One kind of map under one rule."""

    rule: Rule
    what: str  # TRAINED, the layers with fresh weights, WRONG, OTHER, CONTRAST or NOISE
    shown: Tensor  # [k, 3, h, w], of the first draw
    values: dict[str, Tensor]  # float64 [d, n] for each of AGREEMENT and SCORES that was measured; NaN for zero maps
    zero_maps: int  # of d n

    def mean(self, measure: str) -> float | None:
        """Return the mean over draws and images; None if it was not measured, or all maps are zero."""
        values = self.values.get(measure)
        mean = math.nan if values is None else float(values.nanmean())
        return None if math.isnan(mean) else mean

    def sd(self, measure: str) -> float | None:
        """Return the standard deviation over draws of the mean over images; None for fewer than two draws."""
        values = self.values.get(measure)
        means = torch.empty(0) if values is None else _alive(values.nanmean(1))
        return float(means.std()) if len(means) > 1 else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The lines of a network, the same kinds for each rule, and what they are of."""

    lines: tuple[ComparisonLine, ...]
    layers: tuple[str, ...]  # from the top
    stages: tuple[str, ...]  # names of the lines with fresh weights, from one layer to all
    predicted: Tensor  # int64 [n]: the class whose maps they are
    wrong: Tensor  # int64 [n]

    def line(self, rule: Rule, what: str) -> ComparisonLine:
        """Return the line of that kind."""
        return next(line for line in self.lines if line.rule is rule and line.what == what)


def compare_maps(
    network: nn.Module,
    model: ModelConfig,
    images: Tensor,
    *,
    shown: Sequence[int] = (),
    draws: int = 5,
    steps: int = 16,
    baseline: Tensor | float = 0.0,
    pooling: Pooling = Pooling.switches,
    on_line: Callable[[int, int, str], object] | None = None,
) -> Comparison:
    """Measure the maps of the predicted class under all rules, and of all their controls.

    network: in eval mode, [n, 3, h, w] to logits [n, classes]; model: how it was built.
    images: two or more, as the network takes them, on its device; shown: which of their maps to keep.
    steps, baseline: of deletion and insertion. on_line: called before each line with the number done, the
    total, and the next line's name. Fresh weights, in `draws` draws, and noise are the same in each call.

    A map is of the class's score before the ReLU that these nets may have after the class convolution: where that
    is dead there is no map. Raises AttributionError for what cannot be attributed or reset.
    """
    below = without_class_relu(network)
    predicted, wrong = _classes(network, below, images)
    others = baselines.other_images(predicted)
    layers = baselines.layers_from_top(below, images)
    stages = {_stage(part, len(layers)): part for part in baselines.cascade(layers)}
    scorer = _Scorer(network, images, predicted, steps, baseline, list(shown))
    free = {CONTRAST: baselines.contrast_map(images), NOISE: baselines.noise_map(images, 0)}
    free_scores = {what: scorer.scores(maps) for what, maps in free.items()}
    kinds = (TRAINED, *stages, WRONG, OTHER, CONTRAST, NOISE)
    lines: list[ComparisonLine] = []

    def tell(rule: Rule, what: str) -> None:
        if on_line:
            on_line(len(lines), len(Rule) * len(kinds), f"{rule}, {what}")

    def fresh(rule: Rule, names: Sequence[str]) -> Iterator[Tensor]:
        for draw in range(draws):
            yield _maps(baselines.reset_layers(below, model, names, draw), images, rule, pooling, predicted)

    for rule in Rule:
        tell(rule, TRAINED)
        trained = _maps(below, images, rule, pooling, predicted)
        lines.append(scorer.line(rule, TRAINED, [trained], trained))
        for what, names in stages.items():
            tell(rule, what)
            # Within the cascade only the agreement with the trained map is measured, no scores.
            lines.append(scorer.line(rule, what, fresh(rule, names), trained, scored=len(names) == len(layers)))
        tell(rule, WRONG)
        lines.append(scorer.line(rule, WRONG, [_maps(below, images, rule, pooling, wrong)], trained))
        tell(rule, OTHER)
        lines.append(scorer.line(rule, OTHER, [trained[others]], trained))
        for what, maps in free.items():
            tell(rule, what)
            lines.append(scorer.line(rule, what, [maps], trained, known=free_scores[what]))
    return Comparison(tuple(lines), tuple(layers), tuple(stages), predicted.cpu(), wrong.cpu())


def difference(line: ComparisonLine, other: ComparisonLine, measure: str) -> tuple[float, float] | None:
    """Return the mean of line - other over images and draws, and its standard error; pairs are of one image.

    The error is that of the images and, where there are several, of the draws. None where one line was not measured
    or fewer than two images are left.
    """
    if measure not in line.values or measure not in other.values:
        return None
    pairs = line.values[measure] - other.values[measure]  # [d, n]; a single draw is held against each of the other's
    images, draws = (_alive(pairs.nanmean(axis)) for axis in (0, 1))
    if len(images) < 2:
        return None
    variance = images.var() / len(images) + (draws.var() / len(draws) if len(draws) > 1 else 0.0)
    return float(pairs.nanmean()), math.sqrt(float(variance))


def without_class_relu(network: nn.Module) -> nn.Module:
    """Return the network, made of the same parts, without the ReLU after its class convolution, if it has one.

    Its outputs are then the class maps' averages before that ReLU.
    """
    if type(network) is not nn.Sequential or len(network) < 3:
        return network
    parts = list(network.named_children())
    pattern = (nn.Conv2d, nn.ReLU, GlobalMean)
    if not all(isinstance(part, kind) for (_, part), kind in zip(parts[-3:], pattern, strict=True)):
        return network
    return nn.Sequential(OrderedDict([*parts[:-2], parts[-1]])).train(network.training)


class _Scorer:
    """Measures maps on the same network, images and classes."""

    def __init__(
        self,
        network: nn.Module,
        images: Tensor,
        predicted: Tensor,
        steps: int,
        baseline: Tensor | float,
        shown: list[int],
    ) -> None:
        self._network, self._images, self._predicted = network, images, predicted
        self._steps, self._baseline, self._shown = steps, baseline, shown

    def scores(self, maps: Tensor) -> dict[str, Tensor]:
        """Return each of SCORES [n] for maps [n, 3, h, w], whose network need not be the one that they score on."""
        given = (self._network, self._images, maps, self._predicted)
        return {
            "gini": map_scores.gini(maps),
            "deletion": map_scores.deletion(*given, steps=self._steps, baseline=self._baseline),
            "insertion": map_scores.insertion(*given, steps=self._steps, baseline=self._baseline),
        }

    def line(
        self,
        rule: Rule,
        what: str,
        draws: Iterable[Tensor],
        trained: Tensor,
        *,
        scored: bool = True,
        known: dict[str, Tensor] | None = None,
    ) -> ComparisonLine:
        """Measure draws of maps, each [n, 3, h, w], one at a time; `known` are scores that were computed before.

        Raises AttributionError for maps that are not finite.
        """
        parts, shown, zeros = [], None, 0
        for maps in draws:
            if not bool(maps.isfinite().all()):
                raise AttributionError(f"{rule}, {what}: maps hold numbers that are not finite; has the net diverged?")
            part = {"spearman": map_scores.spearman(maps, trained), "cosine": map_scores.signed_cosine(maps, trained)}
            if scored:
                part |= known or self.scores(maps)
            parts.append(part)
            zeros += int((~maps.flatten(1).any(1)).sum())
            shown = maps[self._shown].cpu() if shown is None else shown
        assert shown is not None, "draws is 1 or more"
        values = {measure: torch.stack([part[measure] for part in parts]).cpu() for measure in parts[0]}
        return ComparisonLine(rule, what, shown, values, zeros)


def _classes(network: nn.Module, below: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the predicted class [n] and a wrong one."""
    with torch.no_grad():
        logits, before = (torch.cat([net(part) for part in map_scores.batches(images)]) for net in (network, below))
    if logits.dim() != 2 or not bool(before.isfinite().all()):
        raise AttributionError(f"the network must return finite logits [n, classes], got {list(logits.shape)}")
    predicted = first_largest(logits)
    # After a ReLU many classes are equally unlikely.
    return predicted, baselines.wrong_class(before, predicted)


def _maps(network: nn.Module, images: Tensor, rule: Rule, pooling: Pooling, channels: Tensor) -> Tensor:
    """Return the signed maps [n, 3, h, w] of the network's outputs, one channel for each image."""
    batches = map_scores.batches(images)
    chosen = channels.split(len(batches[0]))
    return torch.cat(
        [
            attribute(network, part, rule=rule, channels=of_part, pooling=pooling).maps
            for part, of_part in zip(batches, chosen, strict=True)
        ]
    )


def _stage(names: Sequence[str], count: int) -> str:
    if len(names) == count:
        return f"all {count} layers" if count > 1 else names[0]
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


def _alive(values: Tensor) -> Tensor:
    return values[~values.isnan()]
