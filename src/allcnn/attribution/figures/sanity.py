"""Figure of the sanity checks: maps next to their controls, and the scores of both."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from allcnn.attribution.deprocess import as_pixels, map_picture
from allcnn.attribution.figure import FigureContent, FigureRow, Picture, Tile
from allcnn.attribution.figures import map_space, source, split_of
from allcnn.attribution.rules import Pooling, Rule
from allcnn.attribution.sanity_checks import (
    AGREEMENT,
    CONTRAST,
    NOISE,
    OTHER,
    SCORES,
    TRAINED,
    WRONG,
    Comparison,
    ComparisonLine,
    compare_maps,
    difference,
)
from allcnn.attribution.trained_cell import TrainedCell
from allcnn.data.splits import Split
from strive.errors import ConfigError

_BASELINE = 0.0  # of preprocessed images: the training images' mean


@dataclass(frozen=True, kw_only=True, slots=True)
class SanityOptions:
    """Options of the sanity figure; raises ConfigError if they give no comparison."""

    images: int = 4  # shown
    score_images: int = 96  # that the numbers are means over
    seeds: int = 5  # draws of fresh weights
    steps: int = 16  # of deletion and insertion
    split: str = "test"
    pooling: Pooling = Pooling.switches

    def __post_init__(self) -> None:
        least = {"images": 1, "score_images": 2, "seeds": 1, "steps": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name} must be {low} or more, got {getattr(self, name)}")
        if self.images > self.score_images:
            raise ConfigError(f"images={self.images} must be at most score_images={self.score_images}")
        if self.split not in ("train", "val", "test"):
            raise ConfigError(f"split must be one of train, val, test, got {self.split!r}")


def make(cell: TrainedCell, options: SanityOptions, say: Callable[[str], object]) -> FigureContent:
    """Return the figure: for each image and rule the map of the predicted class, next to its controls.

    The images are spread evenly over the split, whether the network is right about them or not. The same cell
    and options give the same figure. Raises ConfigError for a split of one image.
    """
    split = split_of(cell, options.split)
    rows = _spread(len(split), min(options.score_images, len(split)))
    if len(rows) < 2:
        raise ConfigError(f"split={options.split} has {len(split)} images; 2 or more are needed")
    shown = _spread(len(rows), min(options.images, len(rows)))
    images = torch.cat([images for images, _ in split.batches(rows.split(250))])
    found = compare_maps(
        cell.network,
        cell.config.model,
        images,
        shown=shown.tolist(),
        draws=options.seeds,
        steps=options.steps,
        baseline=_BASELINE,
        pooling=options.pooling,
        on_line=lambda done, total, what: say(f"sanity: {done} of {total} lines done; {what}"),
    )
    pictures = as_pixels(images[shown].cpu(), cell.config, cell.splits)
    names = _named(cell, options, found, split, rows, shown)
    return FigureContent(
        name="sanity",
        title=f"{cell.name}: maps beside their controls",
        caption=_caption(cell, found, options, len(rows)),
        columns=("image", *(_heading(what, found) for what in _kinds(found))),
        rows=_rows(found, shown.tolist(), pictures, names),
        table=tuple(_table(found)),
        numbers=tuple(_numbers(line, len(rows)) for line in found.lines),
        facts=_facts(found, options, rows, shown, split),
    )


_NAMES = {OTHER: "other image (the floor)", CONTRAST: "contrast, no network"}


def _spread(count: int, chosen: int) -> Tensor:
    """Return so many evenly spaced indices of 0 to count - 1: a split may be sorted by class."""
    return torch.arange(chosen) * count // max(1, chosen)


def _kinds(found: Comparison) -> tuple[str, ...]:
    """Return the lines that have a column; the map of another image has none, it is only a floor for the numbers."""
    return (TRAINED, *found.stages, WRONG, CONTRAST, NOISE)


def _heading(what: str, found: Comparison) -> str:
    if what in found.stages:
        return f"fresh weights: {what}"
    return {TRAINED: "trained", WRONG: "wrong class", CONTRAST: "no network: contrast", NOISE: "noise"}[what]


def _named(
    cell: TrainedCell, options: SanityOptions, found: Comparison, split: Split, rows: Tensor, shown: Tensor
) -> list[str]:
    """Return for each image shown its class and the predicted one."""
    names = cell.splits.class_names
    of_shown = (split.labels[rows[shown]], found.predicted[shown], found.wrong[shown])
    return [
        f"{options.split} image {row} ({names[label]}); predicted: {names[predicted]}; wrong class: {names[wrong]}"
        for row, label, predicted, wrong in zip(
            rows[shown].tolist(), *(each.tolist() for each in of_shown), strict=True
        )
    ]


def _rows(found: Comparison, shown: list[int], pictures: Picture, names: list[str]) -> tuple[FigureRow, ...]:
    rows = []
    for place, (image, name) in enumerate(zip(shown, names, strict=True)):
        for rule in Rule:
            first = rule is Rule.backprop
            maps = [_tile(found.line(rule, what), place, image) for what in _kinds(found)]
            tiles = (Tile(pictures[place] if first else None), *maps)
            rows.append(FigureRow(rule.value, tiles, heading=name if first else ""))
    return tuple(rows)


def _tile(line: ComparisonLine, place: int, image: int) -> Tile:
    """Return the map of an image, captioned with its agreement with the trained network's map."""
    cosine = float(line.values["cosine"][0, image])
    caption = "" if line.what == TRAINED else f"{cosine:+.2f}"
    return Tile(map_picture(line.shown[place]), "zero map" if math.isnan(cosine) else caption)


def _table(found: Comparison) -> Iterator[tuple[str, ...]]:
    """Yield the lines of the table on the page."""
    yield ("rule", "map", "cosine", "rank correlation", "Gini", "deletion (low)", "insertion (high)")
    for rule in Rule:
        for number, what in enumerate((TRAINED, *found.stages, WRONG, OTHER, CONTRAST, NOISE)):
            line = found.line(rule, what)
            name = f"fresh weights: {what}" if what in found.stages else _NAMES.get(what, what)
            measures = [_text(line, "cosine"), _text(line, "spearman"), _text(line, "gini")]
            measures += [_text(line, measure, 3) for measure in ("deletion", "insertion")]
            yield ("" if number else rule.value, name, *measures)


def _numbers(line: ComparisonLine, images: int) -> dict[str, Any]:
    """Return a line of the table: means over images and draws, and the standard deviations of the draws' means."""
    draws = len(line.values["cosine"])
    numbers: dict[str, Any] = {"rule": line.rule.value, "what": line.what}
    for measure in (*AGREEMENT, *SCORES):
        numbers |= {measure: line.mean(measure), f"{measure}_sd": line.sd(measure)}
    return numbers | {"draws": draws, "n": images * draws - line.zero_maps, "zero_maps": line.zero_maps}


def _facts(found: Comparison, options: SanityOptions, rows: Tensor, shown: Tensor, split: Split) -> dict[str, Any]:
    return {
        "options": asdict(options),
        "images": rows.tolist(),
        "shown": rows[shown].tolist(),
        "classes": split.labels[rows].tolist(),
        "predicted": found.predicted.tolist(),
        "wrong": found.wrong.tolist(),
        "layers_from_top": list(found.layers),
        "baseline": _BASELINE,
        "zero_maps": sum(line.zero_maps for line in found.lines),
    }


def _caption(cell: TrainedCell, found: Comparison, options: SanityOptions, count: int) -> str:
    return "\n".join(
        [_what_is_seen(cell, found, options, count), *(_finding(found, rule) for rule in Rule), _sources()]
    )


def _what_is_seen(cell: TrainedCell, found: Comparison, options: SanityOptions, count: int) -> str:
    zeros = sum(line.zero_maps for line in found.lines)
    lost = f" {zeros} maps are zero everywhere and are left out of every number." if zeros else ""
    return (
        "What to look for: a map that shows what the net has learned cannot stay the same when layers get fresh random"
        " weights, from the top down, or when the class that the net holds for the least likely is asked for. If it"
        " does, it is a map of the image. Contrast is the image minus its median: no net made it, and it looks like an"
        f" explanation.\n{source(cell)} {map_space(cell)} They are of the class that the trained net predicts,"
        " before any ReLU behind the class convolution; each is scaled by its own largest value. Below each: its signed"
        " cosine with the trained net's map in the same row (1: the same, 0: nothing in common).\n"
        f"The table: means over {count} {options.split} images, with fresh weights also over {options.seeds} draws,"
        " whose standard deviation is behind the \N{PLUS-MINUS SIGN}. Cosine and rank correlation (of absolute values)"
        " are with the trained net's map of the same image; the floor is that with the map of another image, taken for"
        " another class, or with noise. Deletion and insertion replace pixels by the training images' mean in"
        f" {options.steps} steps.{lost}"
    )


def _finding(found: Comparison, rule: Rule) -> str:
    """Return the conclusion from the numbers about one rule."""
    wrong, bottom = (found.line(rule, what) for what in (WRONG, found.stages[-1]))
    # Maps for different classes may be opposed: then even no agreement is above the other image's.
    floors = [found.line(rule, what) for what in (OTHER, NOISE)]
    agreement = (
        f"{rule}: with fresh weights in {bottom.what} the agreement with the trained net's map is"
        f" {_kept(bottom, floors, 'part of the map needs nothing that was learned')}; for the wrong class"
        f" {_kept(wrong, floors, 'part of the map is the same whatever class is asked for')}."
    )
    return " ".join([agreement, *(_scored(found, rule, measure) for measure in ("deletion", "insertion"))])


def _scored(found: Comparison, rule: Rule, measure: str) -> str:
    """Say which controls the trained network's maps are better than in a score, and which not."""
    named = {found.stages[-1]: "fresh weights", WRONG: WRONG, CONTRAST: "contrast", NOISE: NOISE}
    trained, better = found.line(rule, TRAINED), {"deletion": -1, "insertion": 1}[measure]
    groups: dict[bool, list[str]] = {True: [], False: []}
    for what, name in named.items():
        groups[_sign(trained, found.line(rule, what), measure) == better].append(name)
    above, rest = (", ".join(groups[each]) for each in (True, False))
    verdict = f"better than {above or 'none of its controls'}" + (f", not than {rest}" if above and rest else "")
    return f"{measure.capitalize()}: {verdict}."


def _kept(line: ComparisonLine, floors: Sequence[ComparisonLine], meaning: str) -> str:
    """Say whether a control's maps are more like the trained network's than another image's maps and noise are."""
    names = {"cosine": "cosine", "spearman": "rank"}
    signs = {name: {_sign(line, floor, measure) for floor in floors} for measure, name in names.items()}
    if any(None in each for each in signs.values()):
        return "too few maps to tell"
    above = [name for name, each in signs.items() if each == {1}]
    if above == ["rank"]:
        return "above the floor in rank alone, so the same pixels are strong, but not with the same signs"
    return f"above the floor in {' and '.join(above)}, so {meaning}" if above else "not above the floor"


def _sign(line: ComparisonLine, other: ComparisonLine, measure: str) -> int | None:
    """Return 1 or -1 where the mean of a line lies above or below another's by over two standard errors, 0 else."""
    found = difference(line, other, measure)
    if found is None:
        return None
    mean, error = found
    return (mean > 2 * error) - (mean < -2 * error)


def _text(line: ComparisonLine, measure: str, digits: int = 2) -> str:
    mean, sd = line.mean(measure), line.sd(measure)
    if mean is None:
        return "\N{EN DASH}"
    return f"{mean:.{digits}f}" + ("" if sd is None else f"\N{PLUS-MINUS SIGN}{sd:.{digits}f}")


def _sources() -> str:
    return (
        "Above and better: by over two standard errors of the difference, paired by image. A score that is not better"
        " than those of its controls says nothing for the map. After Adebayo et al. 2018"
        " (Sanity checks for saliency maps) and Nie, Zhang and Patel 2018 (A theoretical explanation for perplexing"
        " behaviors of backpropagation-based visualizations); scores after Petsiuk, Das and Saenko 2018 (RISE), Gini"
        " index after Hurley and Rickard 2009."
    )
