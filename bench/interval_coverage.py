"""Coverage of intervals, and how often tests reject what is true, by simulation through strive.statistics.

    python bench/interval_coverage.py            # minutes of a core; prints three Markdown tables
    python bench/interval_coverage.py --sweeps 200

Normal errors with known means. Every number is a share of simulated sweeps, with three standard errors of its own.
"""

import argparse
import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from strive.statistics.factorial import factorial_effects
from strive.statistics.inference import difference, judge, simultaneous, summarise

SEEDS = (3, 5, 10, 20)
LINES, BASELINES, MARGIN = 9, 3, 0.5
# Standard deviations over seeds of the 3 x 4 nets in results/table3_small: the largest is 13 times the smallest.
UNEVEN = (0.60, 1.02, 0.26, 2.86, 0.50, 0.21, 0.60, 0.54, 0.30, 1.17, 0.36, 1.21)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=2000, help="simulated for each number (default: %(default)s)")
    sweeps = parser.parse_args().sweeps
    print("| n | further values in the prediction interval | in the interval of the mean |")
    print("|--:|--:|--:|")
    for n in SEEDS:
        print(f"| {n} | {' | '.join(_share(hits) for hits in _further(n, 10 * sweeps))} |")
    print(f"\n{LINES} nets that all lose exactly the margin, over {BASELINES} baselines:\n")
    print("| n | all simultaneous intervals hold | all intervals of a line alone hold | any wrong verdict |")
    print("|--:|--:|--:|--:|")
    for n in SEEDS:
        print(f"| {n} | {' | '.join(_share(hits) for hits in _joint(n, sweeps))} |")
    print("\n3 x 4 nets without any effect, seeds as blocks; share of effects rejected at 5%:\n")
    print("| n | spread | p | p, any spread |")
    print("|--:|---|--:|--:|")
    for n, (name, sds) in itertools.product((3, 5), (("equal", (1.0,) * 12), ("as in table3_small", UNEVEN))):
        print(f"| {n} | {name} | {' | '.join(_share(hits) for hits in _rejected(n, sds, sweeps // 2))} |")


def _share(hits: Sequence[bool]) -> str:
    share = float(np.mean(hits))
    return f"{share:.3f} ± {3 * math.sqrt(share * (1 - share) / len(hits)):.3f}"


def _further(n: int, draws: int) -> tuple[list[bool], list[bool]]:
    """Return for each draw whether a further value lies in the prediction interval, and in that of the mean."""
    in_prediction, in_mean = [], []
    for *values, further in np.random.default_rng(n).normal(size=(draws, n + 1)).tolist():
        found = summarise(values)
        in_prediction.append(_holds(found.next_low, found.next_high, further))
        in_mean.append(_holds(found.low, found.high, further))
    return in_prediction, in_mean


def _joint(n: int, sweeps: int) -> tuple[list[bool], list[bool], list[bool]]:
    """Return for each sweep whether all simultaneous, and all plain, intervals hold, and whether a verdict is wrong."""
    random = np.random.default_rng(n)
    together, alone, wrong = [], [], []
    for _ in range(sweeps):
        baselines = random.normal(0, 1, (BASELINES, n)).tolist()
        lines = random.normal(MARGIN, 1, (LINES, n)).tolist()
        found = [
            difference(dict(enumerate(own)), dict(enumerate(baselines[line % BASELINES])))
            for line, own in enumerate(lines)
        ]
        together.append(all(_holds(*interval, MARGIN) for interval in simultaneous(found) if interval))
        alone.append(all(_holds(each.low, each.high, MARGIN) for each in found))
        wrong.append(any(each.verdict.value != "undecided" for each in judge(found, MARGIN)))
    return together, alone, wrong


def _rejected(n: int, sds: Sequence[float], sweeps: int) -> tuple[list[bool], list[bool]]:
    """Return for each sweep and effect whether the analysis rejects it, and whether it does so for any spread."""
    random = np.random.default_rng(n)
    keys = [(base, variant, seed) for base in range(3) for variant in range(4) for seed in range(n)]
    frame = pd.DataFrame(keys, columns=["base", "variant", "seed"])
    even, uneven = [], []
    for _ in range(sweeps):
        shared = random.normal(0, 0.3, n)
        frame["error"] = (30 + shared + np.array(sds)[:, None] * random.normal(size=(12, n))).ravel()
        effects = factorial_effects(frame, "error", ["base", "variant"]).effects
        even += [each.p <= 0.05 for each in effects]
        uneven += [each.p_unequal is not None and each.p_unequal <= 0.05 for each in effects]
    return even, uneven


def _holds(low: float | None, high: float | None, value: float) -> bool:
    assert low is not None
    assert high is not None
    return low <= value <= high


if __name__ == "__main__":
    main()
