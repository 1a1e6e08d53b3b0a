"""Check and time training on a CUDA GPU in one go: `make gpu-check`, in 3 minutes, no network, no data set.

python bench/gpu_check.py [--out results] [--minutes 2.7]
python bench/gpu_check.py --device cpu --smoke --out DIR     # the same parts, tiny, without a GPU

Writes gpu_check.json and gpu_check.md to --out, again after each part. A part that raises is reported and the
others run; a part that would take too long is skipped and listed; one that hangs ends the program 15 s after --minutes.

exit code: 0 if all checks that were begun passed, 1 if one failed, a part raised or hung, or there was no time for any
check, 2 without a GPU.
"""

import argparse
import gc
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

STARTED = time.monotonic()  # before torch is imported: importing it counts as part of the minutes

try:
    import gpu_correctness as correctness
    import roofline
    import torch
    from gpu_arms import ArmSettings, Setup, executor, random_splits
    from gpu_report import CheckReport, CheckResult
    from gpu_speed import GpuPeak, measure
    from machine import facts

    from allcnn.config import DataConfig
    from allcnn.training import Training, cells_at_once, enter_execution
except ModuleNotFoundError as missing:
    raise SystemExit(
        f"error: {missing.name} is not installed for {sys.executable}. `make .venv/ready` installs all that is needed,"
        " docs/gpu.md says how without network; the project's src/ must be in PYTHONPATH, as in `make gpu-check`"
    ) from None

FULL = "all_cnn_c"  # timed side by side
TIMED = ("model_c", "strided_cnn_c", "convpool_cnn_c", FULL)  # one cell of each; bench/gpu_speed.py times all nets
GRACE_SECONDS = 15  # beyond --minutes, for a part that takes longer than it may
POOLED = "model_c"  # max-pooling's gradient is another kernel


@dataclass(frozen=True, kw_only=True)
class CheckScale:
    """How large everything is."""

    width: float
    check_images: int  # of an epoch of the checks; the last batch is smaller
    steps: int  # of an epoch that is timed
    rounds: int
    most_cells: int  # side by side
    compiled: bool  # whether anything is compiled
    patience: float  # of the seconds that a part may take


REAL = CheckScale(
    width=1.0, check_images=10 * roofline.BATCH + 80, steps=390, rounds=3, most_cells=4, compiled=True, patience=1.0
)  # fmt: skip
TINY = CheckScale(
    width=0.03, check_images=roofline.BATCH + 40, steps=1, rounds=1, most_cells=2, compiled=False, patience=0.0
)  # fmt: skip


@dataclass(frozen=True)
class CheckPart:
    """One piece of the work."""

    name: str
    seconds: float  # it is not begun with less time than this
    work: Callable[[], None]


def checks(scale: CheckScale) -> Iterator[tuple[correctness.Check, str, bool, float]]:
    """Yield (check, net, compiled, seconds that it may take), the quick and most informative ones first."""
    bits = (
        correctness.graph_is_eager,
        correctness.packed_is_lone,
        correctness.resume_in_another_pack,
        correctness.rerun_is_the_same,
    )
    yield correctness.gpu_is_cpu, FULL, False, 20
    yield correctness.net_is_as_written, "strided_cnn_b", False, 10
    for check in bits:
        yield check, FULL, False, 10
    for net in (POOLED, "strided_cnn_b"):
        yield correctness.graph_is_eager, net, False, 10
    yield correctness.rerun_is_the_same, POOLED, False, 10
    yield correctness.memory, FULL, False, 15
    if scale.compiled:
        yield correctness.compiled_learns_the_same, FULL, True, 45
        yield correctness.packed_is_lone, FULL, True, 30


def timings(scale: CheckScale) -> Iterator[tuple[str, list[ArmSettings], float]]:
    """Yield (net, ways that take turns, seconds that they may take)."""
    alone, plain = ArmSettings(compiled=scale.compiled), ArmSettings(loop="plain", compiled=False)
    packed = [ArmSettings(cells=cells, compiled=scale.compiled) for cells in range(2, scale.most_cells + 1)]
    yield FULL, [alone, *packed, plain], 45
    for net in TIMED[:-1]:
        yield net, [alone, plain], 20


class GpuCheck:
    """The parts of a check in order, within a time limit."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.scale, self.options = TINY if options.smoke else REAL, options
        self.device, self.limit = torch.device(options.device), 60 * options.minutes
        self.report = CheckReport(options.out, where=facts(1), smoke=options.smoke, limit_seconds=self.limit)

    def setup(self, images: int) -> Setup:
        """Return random images on the device."""
        splits = random_splits(images, self.device)
        return Setup(device=self.device, splits=splits, data=DataConfig(), width=self.scale.width)

    def parts(self) -> Iterator[CheckPart]:
        """Yield the checks, then what is timed."""
        setup = self.setup(self.scale.check_images)
        for check, net, compiled, seconds in checks(self.scale):
            name = f"{check.__name__}, {net}{', compiled' if compiled else ''}"

            def one(check: correctness.Check = check, net: str = net, compiled: bool = compiled) -> None:
                self.report.checks.append(_checked(check, net, setup, compiled))

            yield CheckPart(name, seconds, one)
        setup = self.setup(self.scale.steps * roofline.BATCH)
        self.report.legend_of(setup, GpuPeak(), self.scale.rounds)
        for net, ways, seconds in timings(self.scale):

            def timed(net: str = net, ways: list[ArmSettings] = ways, setup: Setup = setup) -> None:
                self.report.rows += measure(net, ways, setup, GpuPeak(), self.scale.rounds)

            yield CheckPart(f"speed, {net}", seconds, timed)

        def calibrated(setup: Setup = setup) -> None:
            self.report.calibrated[FULL] = self._cells_at_once(FULL, setup)

        yield CheckPart(f"calibration, {FULL}", 20, calibrated)

    def all(self) -> None:
        """Run the parts that fit in the time."""
        # Before anything else: cuBLAS reads its environment once.
        enter_execution(self.setup(1).execution())
        watch = threading.Timer(max(0, self.limit - elapsed()) + GRACE_SECONDS, self._give_up)
        watch.daemon = True
        watch.start()
        for part in self.parts():
            left, wanted = self.limit - elapsed(), self.scale.patience * part.seconds
            if left < wanted:
                self.report.skipped.append(f"{part.name}: {left:.0f} s were left, it may take {wanted:.0f}")
            else:
                print(f"{elapsed():4.0f} s  {part.name}", file=sys.stderr, flush=True)
                self.report.at = part.name
                self._do(part)
            self.report.write(elapsed())
        watch.cancel()
        self.report.write(elapsed(), complete=True)

    def _cells_at_once(self, net: str, setup: Setup) -> int:
        """Return how many cells a sweep would train side by side."""
        execution = setup.execution(compiled=self.scale.compiled)
        enter_execution(execution)
        seeds = range(self.scale.most_cells)
        trainings = [Training(setup.cell(net, seed=seed), setup.splits, execution) for seed in seeds]
        return cells_at_once(trainings, executor(execution))

    def _do(self, part: CheckPart) -> None:
        try:
            part.work()
            gc.collect()  # graphs and what they read from refer to each other
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        except Exception:  # after some errors no call on the GPU succeeds: each part then says so
            self.report.errors.append(f"{part.name}: {traceback.format_exc().strip()}")

    def _give_up(self) -> None:
        """Exit from a part that hangs (a compiler, or a GPU that does not answer); the results so far are on disk."""
        self.report.errors.append(f"{self.report.at}: still running after {elapsed():.0f} s; stopped")
        self.report.write(elapsed())
        print(self.report.errors[-1], file=sys.stderr, flush=True)
        os._exit(1)


def _checked(check: correctness.Check, net: str, setup: Setup, compiled: bool) -> CheckResult:
    started = elapsed()
    says = (check.__doc__ or "").partition("\n")[0]
    try:
        finding = check(net, setup, compiled)
    except Exception as error:  # whatever a GPU, a compiler or a driver may raise
        note = f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"
        finding = correctness.Finding(passed=False, note=note, trace=traceback.format_exc())
    return CheckResult(check.__name__, says, net, compiled, elapsed() - started, finding)


def elapsed() -> float:
    """Return seconds since this program began."""
    return time.monotonic() - STARTED


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    parser.add_argument("--minutes", type=float, default=2.7, help="no part is begun that may not end in these")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu only with --smoke")
    parser.add_argument("--smoke", action="store_true", help="tiny nets and few steps, to try this program")
    options = parser.parse_args(arguments)
    if options.device == "cpu" and not options.smoke:
        parser.error("--device cpu needs --smoke: full-size nets would take hours")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA GPU here; --device cpu --smoke tries the program without one")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, print the report, and return 1 if a check failed."""
    run = GpuCheck(_options(arguments))
    run.all()
    print(run.report.markdown(elapsed(), complete=True))
    return int(run.report.failed)


if __name__ == "__main__":
    sys.exit(main())
