"""Scores of a map, and measures of agreement of two maps.

None of these says whether a map is right: by deletion and insertion a map that no network made may do as well as
guided backpropagation. Publish them together with their controls, as `sanity_checks.compare_maps` does.

Each image's map gets one number, float64; a map of zeros gets NaN, since 0 would be a score.

Shapes: n images, h height, w width.
"""

from functools import partial

import torch
from torch import Tensor, nn

_PIXELS_PER_BATCH = 250 * 32 * 32


def strength(maps: Tensor) -> Tensor:
    """Return how strong each pixel of [n, 3, h, w] is: its |map| summed over the channels, float64 [n, h w]."""
    return maps.double().abs().sum(1).flatten(1)


def gini(maps: Tensor) -> Tensor:
    """Return [n]: how few pixels hold the strength of each map [n, 3, h, w].

    With N pixels of strengths c_1 <= ... <= c_N: 1 - 2 sum_k c_k / sum(c) (N - k + 1/2) / N (Hurley and
    Rickard, 2009, table I): 0 where all are alike, 1 - 1/N where one has all.
    """
    ordered = strength(maps).sort(1).values
    count = ordered.shape[1]
    places = torch.arange(1, count + 1, device=maps.device, dtype=torch.float64)
    shares = ordered / ordered.sum(1, keepdim=True)  # 0/0 is NaN
    return 1 - 2 * (shares * (count - places + 0.5)).sum(1) / count


def spearman(maps: Tensor, others: Tensor) -> Tensor:
    """Return [n]: the rank correlation of the strengths of two maps' pixels; equal ones share their mean rank.

    Signs do not count (Adebayo et al., 2018, rank |map|). NaN where all pixels of a map are equally strong.
    """
    own, other = (_centred(_ranks(strength(each))) for each in (maps, others))
    return _cosine(own, other)


def signed_cosine(maps: Tensor, others: Tensor) -> Tensor:
    """Return [n]: the cosine of the angle between two maps, all channels together, with their signs."""
    return _cosine(maps.double().flatten(1), others.double().flatten(1))


def area(
    network: nn.Module,
    images: Tensor,
    maps: Tensor,
    channels: Tensor,
    *,
    inserted: bool,
    steps: int,
    baseline: Tensor | float = 0.0,
) -> Tensor:
    """Return [n]: how likely a class is on average while the pixels change, the strongest of the map first.

    The area under the softmax probability of class `channels` [n] over the share of pixels changed, in `steps` equal
    steps, by the trapezoid rule (Petsiuk et al., 2018, section 3.3). Equally strong pixels go row by row from the
    top left.
    inserted: False for `deletion`, where the baseline replaces the image, True for `insertion`, where the image
    replaces the baseline. (Petsiuk et al. begin that with a blurred image.)

    images, maps: [n, 3, h, w]; baseline: in the images' units, and of a shape that expands to theirs. For
    preprocessed images 0 is the training images' mean: of each channel, or under whitening of the whole image.
    """
    strengths = strength(maps)
    # The first argsort says which pixel comes at each place, the second at which place each pixel comes.
    places = strengths.argsort(dim=1, descending=True, stable=True).argsort(1)
    places = places.view(len(images), 1, *images.shape[2:])
    pixels = places[0].numel()
    counts = [round(step * pixels / steps) for step in range(steps + 1)]
    ground = torch.as_tensor(baseline, dtype=images.dtype, device=images.device).expand_as(images)
    below, above = (ground, images) if inserted else (images, ground)
    curves = []
    for rows in torch.arange(len(images)).split(max(1, _PIXELS_PER_BATCH // (pixels * (steps + 1)))):
        changed = [torch.where(places[rows] < count, above[rows], below[rows]) for count in counts]
        curves.append(_probabilities(network, changed, channels[rows]))
    shares = torch.tensor(counts, dtype=torch.float64, device=images.device) / pixels
    areas = torch.trapezoid(torch.cat(curves), shares, dim=1)
    return torch.where(strengths.any(1), areas, torch.nan)


deletion = partial(area, inserted=False)  # low where the map finds what counts
insertion = partial(area, inserted=True)  # high where it does


def batches(images: Tensor) -> tuple[Tensor, ...]:
    """Return images [n, 3, h, w] in parts that a network takes without much memory."""
    parts: tuple[Tensor, ...] = images.split(max(1, _PIXELS_PER_BATCH // images[0, 0].numel()))
    return parts


@torch.no_grad()
def _probabilities(network: nn.Module, changed: list[Tensor], channels: Tensor) -> Tensor:
    """Return the softmax probability of each image's class, float64 [b, steps + 1]; changed: so many [b, 3, h, w]."""
    logits = torch.cat([network(part) for part in batches(torch.cat(changed))])
    classes = channels.to(logits.device).repeat(len(changed))
    chosen = logits.double().softmax(1)[torch.arange(len(logits)), classes]
    return chosen.view(len(changed), -1).T


def _ranks(values: Tensor) -> Tensor:
    """Return for each value of [n, m] its place among its row, from 1; equal ones share the mean of theirs."""
    ordered = values.sort(1).values
    below = torch.searchsorted(ordered, values.contiguous())
    up_to = torch.searchsorted(ordered, values.contiguous(), right=True)
    return (below + up_to + 1).double() / 2


def _centred(values: Tensor) -> Tensor:
    return values - values.mean(1, keepdim=True)


def _cosine(own: Tensor, other: Tensor) -> Tensor:
    cosine: Tensor = (own * other).sum(1) / (own.norm(dim=1) * other.norm(dim=1))  # 0/0 is NaN
    return cosine
