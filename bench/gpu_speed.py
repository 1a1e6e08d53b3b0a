"""Images per second of training on one CUDA GPU: strive's steps as CUDA graphs, K cells side by side, and a plain loop.

python bench/gpu_speed.py [--nets all_cnn_c ... | all] [--cells 1 2 3 4] [--fast] [--compile on off]
python bench/gpu_speed.py --device cpu --nets all_cnn_c --cells 1 2 --width 0.05 --steps 2 --rounds 1     # a smoke run

Unverified on a GPU until `make gpu-check` has run on one. Random images unless --data names real ones.
"""

import argparse
import gc
import json
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import roofline
import torch
from gpu_arms import Arm, ArmSettings, PlainArm, Setup, StriveArm, now, random_splits, real_splits
from machine import facts, machine

from allcnn.config import DataConfig
from allcnn.networks import spec
from allcnn.training import enter_execution


@dataclass(kw_only=True)
class SpeedRow:
    """What was measured of one net in one way. Rates and times are medians over the rounds."""

    net: str
    way: ArmSettings
    rounds: int = 0
    images_per_second: float | None = None  # of all cells together
    slowest: float | None = None  # images per second of the slowest round
    fastest: float | None = None
    step_us: float | None = None  # of one cell: the time of a step of all, divided by their number
    tflops: float | None = None  # of the net as it is written, whatever is computed
    roofline: float | None = None  # share of the roofline's speed, of the net as it is written
    roofline_computed: float | None = None  # the same of what is computed, for strided_cnn_b
    start_seconds: float | None = None  # to build, compile, capture and train a first epoch
    fallback: str = ""  # why a faster way was not taken
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class GpuPeak:
    """What a GPU can do at best."""

    peak: float = roofline.PEAK  # FLOP/s
    bandwidth: float = roofline.BANDWIDTH  # bytes/s


def measure(net: str, ways: Sequence[ArmSettings], setup: Setup, gpu_peak: GpuPeak, rounds: int) -> list[SpeedRow]:
    """Return a row for each way; they take turns, an epoch each. What raises becomes a row that says so."""
    # Else torch counts the nets compiled before, and goes on without compiling when there are many.
    torch.compiler.reset()
    rows, arms = [SpeedRow(net=net, way=way) for way in ways], dict[int, Arm]()
    for place, row in enumerate(rows):
        started = now(setup.device)

        def start(place: int = place, way: ArmSettings = row.way) -> None:
            arm = (StriveArm if way.loop == "strive" else PlainArm)(net, way, setup)
            arm.epoch()  # captures, and the plain loop compiles
            arms[place] = arm

        _try(row, start)
        if place in arms:
            row.start_seconds, row.fallback = round(now(setup.device) - started, 1), arms[place].fallback
    seconds: dict[int, list[float]] = {place: [] for place in arms}
    for _ in range(rounds):
        for place, arm in arms.items():

            def epoch(arm: Arm = arm, done: list[float] = seconds[place]) -> None:
                done.append(arm.epoch())

            _try(rows[place], epoch)
    for place, each in seconds.items():
        if each and not rows[place].error:
            _fill(rows[place], each, setup, gpu_peak)
    arms.clear()
    gc.collect()  # graphs and what they read from refer to each other
    if setup.device.type == "cuda":
        torch.cuda.empty_cache()
    return rows


def _try(row: SpeedRow, work: Callable[[], object]) -> None:
    try:
        work()
    except Exception as error:  # whatever a GPU, a compiler or a driver may raise
        row.error = f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"


def _fill(row: SpeedRow, seconds: Sequence[float], setup: Setup, gpu_peak: GpuPeak) -> None:
    layers = spec.layers(replace(roofline.NETS[row.net], width=setup.width), roofline.CLASSES)
    work, computed = roofline.step_cost(layers), roofline.step_cost(roofline.rewritten(layers))
    images, median = row.way.cells * len(setup.splits.train), statistics.median(seconds)
    step = median / setup.steps / row.way.cells
    row.rounds, row.step_us = len(seconds), 1e6 * step
    row.images_per_second, row.slowest, row.fastest = images / median, images / max(seconds), images / min(seconds)
    row.tflops = work.flops / work.batch * row.images_per_second / 1e12
    row.roofline = work.seconds(gpu_peak.peak, gpu_peak.bandwidth) / step
    if computed != work and row.way.loop == "strive":
        row.roofline_computed = computed.seconds(gpu_peak.peak, gpu_peak.bandwidth) / step


def table(rows: Iterable[SpeedRow]) -> str:
    """Return the rows in Markdown."""
    return "\n".join(
        (
            "| net | loop | cells | images/s | (range) | us/step of a cell | TFLOP/s | of the roofline | start s |",
            "|---|---|---|---|---|---|---|---|---|",
            *map(_line, rows),
        )
    )


def _line(row: SpeedRow) -> str:
    head = f"| {row.net} | {row.way} | {row.way.cells} |"
    if row.images_per_second is None or row.roofline is None:
        return f"{head} {row.error or 'not measured'} | | | | | |"
    share = f"{100 * row.roofline:.1f}%"
    if row.roofline_computed is not None:
        share += f" ({100 * row.roofline_computed:.1f}% of what is computed)"
    note = f" ({row.fallback})" if row.fallback else ""
    return (
        f"{head} {row.images_per_second:,.0f} | {row.slowest:,.0f}-{row.fastest:,.0f} | {row.step_us:,.1f}"
        f" | {row.tflops:,.1f} | {share} | {row.start_seconds}{note} |"
    )


def legend(setup: Setup, gpu_peak: GpuPeak, rounds: int) -> str:
    """Return what the table's columns mean."""
    return (
        f"Medians of epochs of {setup.steps} steps of {roofline.BATCH} images with flips and shifts, n={rounds} in"
        f" turns; model.width={setup.width:g}. cells: side by side; images/s is of all of them. TFLOP/s and the"
        f" roofline are of the net as the paper has it (bench/roofline.py), at {gpu_peak.peak / 1e12:g} TFLOP/s and"
        f" {gpu_peak.bandwidth / 1e12:g} TB/s. start: building, compiling, capturing and a first epoch; in brackets why"
        " a faster way was not taken. Only a net's first compiled row finds the compiler's cache empty. plain: a loop"
        " in the usual way, bf16 autocast, channels_last, images on the device (bench/gpu_loop.py)."
    )


def _ways(options: argparse.Namespace) -> Iterator[ArmSettings]:
    for compiled in options.compile:
        for fast in (False, True) if options.fast else (False,):
            for cells in options.cells:
                yield ArmSettings(cells=cells, compiled=compiled == "on", fast=fast)
    for compiled in options.compile if options.plain_compile else ["off"]:
        yield ArmSettings(loop="plain", compiled=compiled == "on")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=["all"], choices=["all", *roofline.NETS], metavar="NET")
    parser.add_argument("--cells", nargs="+", type=int, default=[1, 2, 3, 4], metavar="K", help="side by side")
    parser.add_argument("--fast", action="store_true", help="trainer.fast=true, too")
    parser.add_argument("--compile", nargs="+", choices=["on", "off"], help="default: on; off with --device cpu")
    parser.add_argument("--plain-compile", action="store_true", help="--compile holds for the plain loop, too")
    parser.add_argument("--data", type=Path, help="folder or archive: train/CLASS/FILE, 32x32 images")
    parser.add_argument("--steps", type=int, default=390, help="of an epoch on random images (default: 390)")
    parser.add_argument("--rounds", type=int, default=3, help="epochs of each that are timed, in turns (default: 3)")
    parser.add_argument("--width", type=float, default=1.0, help="multiplies the channels")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: to try this program, slow")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--json", type=Path, help="append the lines of JSON to this file, too")
    roofline.add_ceilings(parser)
    options = parser.parse_args(arguments)
    if min(options.cells) < 1 or options.steps < 1 or options.rounds < 1:
        parser.error("--cells, --steps and --rounds must be at least 1")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA GPU here; --device cpu tries the program without one")
    options.compile = options.compile or ["on" if options.device == "cuda" else "off"]
    if "all" in options.nets:
        options.nets = list(roofline.NETS)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line of JSON for each row as it is measured, then the table."""
    options = _options(arguments)
    device, splits, data = torch.device(options.device), None, DataConfig()
    if options.data:
        splits, data = real_splits(options.data, device)
    splits = splits or random_splits(options.steps * roofline.BATCH, device)
    setup = Setup(device=device, splits=splits, data=data, width=options.width, threads=options.threads)
    gpu_peak = GpuPeak(peak=options.peak, bandwidth=options.bandwidth)
    # Before anything else: cuBLAS reads its environment once.
    enter_execution(setup.execution())
    rows, where = list[SpeedRow](), facts(options.threads)
    for net in options.nets:
        measured = measure(net, list(_ways(options)), setup, gpu_peak, options.rounds)
        lines = "".join(json.dumps(asdict(row) | {"where": where}) + "\n" for row in measured)
        print(lines, end="", file=sys.stderr, flush=True)
        if options.json:
            with options.json.open("a") as file:
                file.write(lines)
        rows += measured
    print(f"{table(rows)}\n\n{legend(setup, gpu_peak, options.rounds)}\n\n{machine(options.threads)}")


if __name__ == "__main__":
    main()
