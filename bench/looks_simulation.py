"""Wrong verdicts, coverage and cost of looking at a table several times, by simulation through strive.statistics.looks.

    python bench/looks_simulation.py              # minutes of a core; prints three Markdown tables, progress on stderr
    python bench/looks_simulation.py --sweeps 1000 --looks 3 5 10

Each simulated sweep has nine lines over three shared baselines, and a margin of 0.5. The exit code is 1 if a wrong
verdict is more frequent than the level allows, or if the design saves less than --least of the cells; with few sweeps
chance alone can do that.
"""

import argparse
import itertools
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from machine import machine

from strive.look_design import LookDesign
from strive.statistics.looks import interval, replay

LINES, BASELINES, MARGIN = 9, 3, 0.5
BASELINE_OF = np.arange(LINES) % BASELINES
SHAPES = (0.0, 0.25, 0.5)
# True losses of an ablation: spread evenly over gains, small and large losses; or most of them near the margin.
EVEN = np.linspace(-0.5, 4, LINES)
NEAR = np.array([-0.5, -0.2, 0.0, 0.0, 0.2, 0.8, 1.5, 2.5, 4.0])
SDS = (0.3, 0.5, 1.0)  # of a cell over seeds; differences have sqrt(2) of it
CHUNK = 2000  # sweeps at once

Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """Differences of simulated sweeps at each look, arrays [sweeps, lines, K]."""

    means: Numbers
    sds: Numbers
    usable: Flags


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a design made of simulated sweeps; arrays [sweeps, lines]."""

    no_loss: Flags
    loss: Flags
    look: npt.NDArray[np.int64]  # the last one that the line was trained for

    def wrong(self, losses: Numbers) -> tuple[Flags, Flags]:
        """Return which lines have a wrong verdict of no loss, and of a loss."""
        return self.no_loss & (losses >= MARGIN), self.loss & (losses <= MARGIN)

    def right(self, losses: Numbers) -> Flags:
        """Return which lines have the right verdict."""
        return (self.no_loss & (losses < MARGIN)) | (self.loss & (losses > MARGIN))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=20_000, help="simulated for each row (default: %(default)s)")
    parser.add_argument("--looks", type=int, nargs="+", default=[5, 8, 12, 20], help="seeds (default: 5 8 12 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default: %(default)s)")
    parser.add_argument("--least", type=float, default=0.2, help="share of cells to be saved (default: %(default)s)")
    args = parser.parse_args()
    begun, design = time.monotonic(), LookDesign(looks=tuple(args.looks))
    print(f"Looks at {list(design.looks)} seeds, {args.sweeps} sweeps a row; ± are three standard errors.\n")
    level_holds = errors(design, args.sweeps, args.seed)
    saves = savings(design, args.sweeps, args.seed, args.least)
    assumptions(design, args.sweeps, args.seed)
    print(f"\n{machine(1)}\nTime: {(time.monotonic() - begun) / 60:.1f} minutes")
    sys.exit(0 if level_holds and saves else 1)


def errors(design: LookDesign, sweeps: int, seed: int) -> bool:
    """Print how often verdicts are wrong and intervals hold; return whether the level holds."""
    print("| true losses | test | ruled out, wrongly | shown, wrongly | any wrong verdict | all intervals hold |")
    print("|---|---|--:|--:|--:|--:|")
    far = np.array([MARGIN] * 3 + [-4.0] * 3 + [5.0] * 3)
    half, passed = design.alpha / 2, True
    for name, losses in (("all at the margin", np.full(LINES, MARGIN)), ("three at the margin, six far off", far)):
        for shape in (*SHAPES, None):
            own = design if shape is None else replace(design, shape=shape)
            wrong, held = [], []
            for seen in _sweeps(losses, 1.0, design.looks, sweeps, seed):
                found = _looked(own, seen) if shape is not None else _tested_again(own, seen)
                wrong.append(np.array(found.wrong(losses)).any(-1))
                held.append(_hold(own, found, seen, losses))
            families = np.concatenate(wrong, axis=-1)
            shares = [*families.mean(-1).tolist(), float(families.any(0).mean())]
            if shape is not None:
                passed &= max(shares[:2]) <= half + 3 * math.sqrt(half * (1 - half) / sweeps)
                shares.append(float(np.concatenate(held).mean()))
            test = "plain test at every look" if shape is None else f"looks, shape {shape:g}"
            cells = [_share(share, sweeps) for share in shares] + [""] * (4 - len(shares))
            print(f"| {name} | {test} | {' | '.join(cells)} |")
            _progress(f"{name}, {test}")
    print(f"\nNo design with looks has more than {half:g} + 3 standard errors of either: {_answer(passed)}\n")
    return passed


def savings(design: LookDesign, sweeps: int, seed: int, least: float) -> bool:
    """Print the cells that the designs train; return whether the given one saves enough with evenly spread losses."""
    most = (LINES + BASELINES) * design.looks[-1]
    print(f"Even: true losses {_listed(EVEN)}. Near: {_listed(NEAR)}. With all seeds a sweep has {most} cells.\n")
    print(
        "| losses | sd | shape | futility | cells | right verdicts | sweeps with a wrong one | fewer cells than all"
        " | fixed seeds for as many right ones | fewer cells than these |\n|---|--:|--:|---|--:|--:|--:|--:|--:|--:|"
    )
    every = [(replace(design, shape=shape), futility) for shape in SHAPES for futility in (True, False)]
    passed = True
    for (name, losses, designs), sd in itertools.product(
        (("even", EVEN, every), ("near", NEAR, [(design, True)])), SDS
    ):
        fixed = _shares_of_fixed(losses, sd, design, sweeps, seed)
        for own, futility in designs:
            found = [
                _left_alone(own, seen) if futility else _looked(own, seen)
                for seen in _sweeps(losses, sd, design.looks, sweeps, seed)
            ]
            cells = float(np.mean(np.concatenate([_cells(own, each) for each in found])))
            right = float(np.concatenate([each.right(losses) for each in found]).mean())
            wrong = float(np.concatenate([np.array(each.wrong(losses)).any((0, -1)) for each in found]).mean())
            seeds = float(np.interp(right, *fixed))
            saved = 1 - cells / (seeds * (LINES + BASELINES))
            passed &= saved >= least or not futility or own != design or name != "even"
            print(
                f"| {name} | {sd:g} | {own.shape:g} | {'yes' if futility else 'no'} | {cells:.0f} | {right:.3f}"
                f" | {wrong:.3f} | {1 - cells / most:.0%} | {seeds:.1f} | {saved:.0%} |"
            )
            _progress(f"{name}, sd {sd:g}, shape {own.shape:g}, futility {futility}")
    print(f"\nEven, shape {design.shape:g}, futility: {least:.0%} or more fewer than these: {_answer(passed)}\n")
    return passed


def assumptions(design: LookDesign, sweeps: int, seed: int) -> None:
    """Print how many lines get a wrong verdict where differences are far from normal."""
    print(f"Nine lines with a mean loss of the margin or more, shape {design.shape:g}; shares of the lines.\n")
    print("| differences | rule | not worse, wrongly | worse, wrongly |\n|---|---|--:|--:|")
    random, size = np.random.default_rng(seed), (sweeps // 4, LINES, design.looks[-1])
    level = random.uniform(0, 1, (size[0], LINES, 1))  # where the baseline lies between two steps of the metric
    rounded = [np.round(level + mean + random.normal(0, 0.2, size)) for mean in (MARGIN, 0.0)]
    ties = _seen(rounded[0] - rounded[1], design.looks)
    rows = [
        ("normal", "", _seen(MARGIN + random.normal(0, 1, size), design.looks)),
        ("heavy tails on both sides (t, 3 df)", "", _seen(MARGIN + random.standard_t(3, size), design.looks)),
        ("exponential, losses far out", "", _seen(MARGIN - 1 + random.exponential(1, size), design.looks)),
        ("0.1 spread, one seed in ten loses 5 more", "", _seen(_rare(random, size, 0.1, 5.0), design.looks)),
        ("0.2 spread, metric in steps of 1", "none", ties),
        ("the same", "silent below half a step", replace(ties, usable=ties.usable & (ties.sds >= 0.5))),
    ]
    dies = random.uniform(size=size) < 0.05
    dead = _seen(np.where(dies, 80.0, random.normal(0, 0.5, size)), design.looks)
    alive = np.stack([~dies[..., :n].any(-1) for n in design.looks], axis=-1)
    rows += [
        ("one seed in 20 dies", "none", dead),
        ("the same", "no verdict with a dead pair", replace(dead, usable=alive)),
    ]
    for name, rule, seen in rows:
        found = _looked(design, seen)
        shares = [_share(float(side.mean()), side.size) for side in (found.no_loss, found.loss)]
        print(f"| {name} | {rule} | {shares[0]} | {'' if seen.means.mean() > 1 else shares[1]} |")
    _progress("assumptions")


def _sweeps(losses: Numbers, sd: float, looks: tuple[int, ...], sweeps: int, seed: int) -> Iterator[Seen]:
    random = np.random.default_rng(seed)
    for begin in range(0, sweeps, CHUNK):
        size = min(CHUNK, sweeps - begin)
        cells = sd * random.standard_normal((size, LINES + BASELINES, looks[-1]))
        yield _seen(losses[:, None] + cells[:, :LINES] - cells[:, LINES + BASELINE_OF], looks)


def _seen(differences: Numbers, looks: tuple[int, ...]) -> Seen:
    means = np.stack([differences[..., :n].mean(-1) for n in looks], axis=-1)
    sds = np.stack([differences[..., :n].std(-1, ddof=1) for n in looks], axis=-1)
    return Seen(means=means, sds=np.maximum(sds, 1e-9), usable=sds > 1e-9)


def _rare(random: np.random.Generator, size: tuple[int, ...], share: float, loss: float) -> Numbers:
    """Return differences with a mean loss of the margin, of which a share loses that much more than the rest."""
    return MARGIN - share * loss + random.normal(0, 0.1, size) + loss * (random.uniform(size=size) < share)


def _looked(design: LookDesign, seen: Seen) -> Found:
    """Return the verdicts of a sweep in which each line goes on until it is decided."""
    decisions = replay(design, seen.means, seen.sds, seen.usable, MARGIN)
    look = np.where(decisions.look >= 0, decisions.look, len(design.looks) - 1)
    return Found(no_loss=decisions.no_loss, loss=decisions.loss, look=look)


def _left_alone(design: LookDesign, seen: Seen) -> Found:
    """Return the verdicts of a sweep in which a line goes on until it is decided or futile."""
    usable, look = np.zeros_like(seen.usable), np.zeros(seen.means.shape[:-1], dtype=np.int64)
    goes_on = np.ones(look.shape, dtype=bool)
    for k in range(len(design.looks)):
        usable[..., k], look[goes_on] = goes_on & seen.usable[..., k], k
        decisions = replay(design, seen.means, seen.sds, usable, MARGIN)
        goes_on &= (decisions.look < 0) & ~decisions.futile
    return Found(no_loss=decisions.no_loss, loss=decisions.loss, look=look)


def _tested_again(design: LookDesign, seen: Seen) -> Found:
    """Return the verdicts of the fixed design's test at every look, of which the first one counts."""
    found = np.zeros((2, *seen.means.shape[:-1]), dtype=bool)
    for k, n in enumerate(design.looks):
        at = slice(k, k + 1)
        fixed = LookDesign(looks=(n,), alpha=design.alpha)
        decisions = replay(fixed, seen.means[..., at], seen.sds[..., at], seen.usable[..., at], MARGIN)
        found |= np.array([decisions.no_loss, decisions.loss]) & ~found.any(0)
    return Found(no_loss=found[0], loss=found[1], look=np.full(found.shape[1:], len(design.looks) - 1))


def _shares_of_fixed(
    losses: Numbers, sd: float, design: LookDesign, sweeps: int, seed: int
) -> tuple[list[float], list[int]]:
    """Return the shares of right verdicts of fixed designs, ascending, and their seeds."""
    seeds = range(2, design.looks[-1] + 1)
    shares: list[list[float]] = [[] for _ in seeds]
    for seen in _sweeps(losses, sd, tuple(seeds), min(sweeps, 5000), seed):
        for k, n in enumerate(seeds):
            at = slice(k, k + 1)
            own = Seen(means=seen.means[..., at], sds=seen.sds[..., at], usable=seen.usable[..., at])
            found = _looked(LookDesign(looks=(n,), alpha=design.alpha), own)
            shares[k].append(float(found.right(losses).mean()))
    return np.maximum.accumulate([float(np.mean(each)) for each in shares]).tolist(), list(seeds)


def _cells(design: LookDesign, found: Found) -> npt.NDArray[np.int64]:
    """Return the cells of each sweep: a baseline is trained as long as one of its lines needs it."""
    seeds = np.array(design.looks)[found.look]
    baselines = [seeds[:, baseline == BASELINE_OF].max(-1) for baseline in range(BASELINES)]
    total: npt.NDArray[np.int64] = seeds.sum(-1) + np.sum(baselines, axis=0)
    return total


def _hold(design: LookDesign, found: Found, seen: Seen, losses: Numbers) -> Flags:
    """Return whether all simultaneous intervals of a sweep, each at its last look, hold the true losses."""
    at = found.look[..., None]
    means, sds = (np.take_along_axis(each, at, -1)[..., 0] for each in (seen.means, seen.sds))
    # Of a mean of 0 and an sd of 1, the upper end is half the width in sds.
    halves = [interval(design, look, 0.0, 1.0, design.alpha / 2 / LINES)[1] for look in range(len(design.looks))]
    hold: Flags = np.all(np.abs(means - losses) <= np.array(halves)[found.look] * sds, axis=-1)
    return hold


def _share(share: float, number: int) -> str:
    return f"{share:.4f} ± {3 * math.sqrt(share * (1 - share) / number):.4f}"


def _listed(losses: Numbers) -> str:
    return ", ".join(f"{loss:.2g}" for loss in losses)


def _answer(passed: bool) -> str:
    return "yes" if passed else "NO"


def _progress(what: str) -> None:
    print(f"done: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
