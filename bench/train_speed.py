"""Images per second of strive and of a plain PyTorch loop, on the same images, taken in turns.

python bench/train_speed.py --data DIR-OR-ARCHIVE [--nets all_cnn_c ... | all] [--pairs]
python bench/train_speed.py --data DIR-OR-ARCHIVE --widths 0.125 0.25 0.5 1 --threads 1
"""

import argparse
import hashlib
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import plain_loop
import torch
from machine import machine

from allcnn.config import (
    Augment,
    AugmentConfig,
    Base,
    BudgetConfig,
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    Precision,
    Preprocess,
    PreprocessConfig,
    Source,
    TrainerConfig,
    Variant,
    checked,
)
from allcnn.data.cache import cache_folder
from allcnn.data.splits import load_splits
from allcnn.training import Bf16, Training, bf16_of, choose_execution, enter_execution, make_executor, train_epoch

ARMS = {
    "strive": "strive bf16",
    "strive_fp32": "strive fp32",
    "plain": "plain fp32",
    "plain_bf16": "plain bf16 channels_last",
    "bare": "bare net fp32",
}
CURVE_SEEDS, PAIR_SEEDS = (0, 1, 2), (0, 1)
_PAIRS = (
    "Two processes at the same time, and the images of both while both trained: strive's with one thread each, as a"
    " sweep starts its workers; plain loops with every core's thread or --threads each, and two loader processes each. "
)
_NETS = {ModelConfig(base=base, variant=variant).name: (base, variant) for base in Base for variant in Variant}


class _EnoughError(Exception):
    """The worker has trained as many steps as it was asked for."""


def measure_strive(
    *, data: Path, net: str, width: float, steps: int, warmup: int, lr: float, threads: int, seed: int,
    precision: Precision = Precision.bf16, compile: bool = False, clock: plain_loop.Clock | None = None
) -> tuple[float, list[float]]:  # fmt: skip
    """Do with strive what `plain_loop.measure` does, and return the same; compile: `trainer.compile`."""
    trainer = TrainerConfig(threads=threads, compile=compile or None)
    config = replace(_config(data, net, width, lr, trainer, seed), precision=precision)
    execution = choose_execution(config.trainer)
    enter_execution(execution)
    training, executor = Training(config, load_splits(config, execution.device), execution), make_executor(execution)
    size, count = config.budget.batch_size, len(training.splits.train)
    sums, sizes = list[torch.Tensor](), list[int]()
    clock = clock or plain_loop.Clock(warmup)

    def on_step(training: Training) -> None:
        sizes.append(min(size, count - (training.place - 1) * size))
        sums.append(training.sums["loss"].clone())  # of the epoch so far; read at the end, so that no GPU waits
        clock.tick(sizes[-1])
        if training.step == warmup + steps:
            raise _EnoughError

    try:
        while True:
            train_epoch([training], executor, on_step)
    except _EnoughError:
        return clock.images_per_second(), _step_losses(sums, sizes, training.steps_per_epoch)


def _config(data: Path, net: str, width: float, lr: float, trainer: TrainerConfig, seed: int) -> Config:
    base, variant = _NETS[net]
    return checked(
        Config(
            model=ModelConfig(base=base, variant=variant, width=width),
            data=DataConfig(source=Source.image_folder, name="bench", root=str(data)),
            # The plain loop's; once the images are in memory, no preprocessing is faster than another.
            preprocess=PreprocessConfig(kind=Preprocess.standardize),
            augment=AugmentConfig(kind=Augment.flip_shift),
            optimizer=OptimizerConfig(lr=lr, drop_at=[]),
            budget=BudgetConfig(batch_size=plain_loop.BATCH),
            trainer=trainer,
            seed=seed,
        )
    )


def _step_losses(sums: list[torch.Tensor], sizes: list[int], steps_per_epoch: int) -> list[float]:
    """Return each step's mean loss, from the sums over the images of an epoch up to each step."""
    totals = torch.stack(sums).tolist()
    before = [0.0 if step % steps_per_epoch == 0 else totals[step - 1] for step in range(len(totals))]
    return [(total - earlier) / size for total, earlier, size in zip(totals, before, sizes, strict=True)]


def unpacked(data: Path) -> Path:
    """Return a folder with the images of `data`: itself, or what an archive was unpacked to, once."""
    if data.is_dir():
        return data
    status = data.stat()
    stamp = hashlib.sha256(f"{data}/{status.st_size}/{status.st_mtime_ns}".encode()).hexdigest()[:16]
    folder = cache_folder() / "bench" / stamp
    if not folder.exists():
        print(f"unpacking {data} to {folder}, once", file=sys.stderr)
        fresh = folder.with_name(f".{stamp}.{uuid4().hex}")
        fresh.mkdir(parents=True)
        try:
            _unpack(data, fresh)
            os.rename(fresh, folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    for top in (folder, *folder.iterdir()):
        if (top / "train").is_dir():
            return top
    raise SystemExit(f"error: {data} holds no train/CLASS/FILE")


def _unpack(archive: Path, folder: Path) -> None:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(folder)
    else:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")


def measured(arm: str, options: argparse.Namespace, net: str, **changes: object) -> tuple[float, list[float]]:
    """Return images per second and the losses of one arm, measured in a process of its own."""
    answer = _answer(_started(arm, options, net, **changes), arm, net)
    return answer["images_per_second"], answer["losses"]


def _started(arm: str, options: argparse.Namespace, net: str, **changes: object) -> subprocess.Popen[str]:
    names = ("width", "steps", "warmup", "lr", "threads")
    data = options.data if arm.startswith("strive") else options.folder
    values = {"data": data, "seed": 0, **{name: getattr(options, name) for name in names}, **changes}
    command = [sys.executable, __file__, "--worker", arm, "--nets", net]
    command += [f"--{name}={value}" for name, value in values.items()] + ["--compile"] * options.compile
    print(f"{net}: {arm}", file=sys.stderr)
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _answer(process: subprocess.Popen[str], arm: str, net: str) -> dict[str, Any]:
    printed, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"error: {arm} failed on {net}, see above")
    answer: dict[str, Any] = json.loads(printed)
    return answer


def measured_pair(arm: str, options: argparse.Namespace, net: str) -> float:
    """Return the images per second of two processes together, while both of them train."""
    # One thread for each of our workers, as a sweep gives them.
    threads = 1 if arm.startswith("strive") else options.threads
    pair = [_started(arm, options, net, seed=seed, threads=threads) for seed in PAIR_SEEDS]
    try:
        marks = [_answer(process, arm, net)["marks"] for process in pair]
    finally:
        for process in pair:
            process.kill()
    first, last = max(each[0][0] for each in marks), min(each[-1][0] for each in marks)
    if last <= first:
        raise SystemExit(f"error: the two processes of {arm} did not train at the same time on {net}: raise --steps")
    images = [_images_until(last, each) - _images_until(first, each) for each in marks]
    return sum(images) / float(last - first)


def _images_until(moment: float, marks: list[tuple[float, int]]) -> float:
    """Return how many images were done at a moment between two readings of the clock."""
    times, images = zip(*marks, strict=True)
    return float(np.interp(moment, times, images))


def speed_table(options: argparse.Namespace) -> str:
    """Return the table: a row for each net, medians over the rounds; with --pairs of two processes each."""
    one, two = ("2 x ", " together") if options.pairs else ("", "")
    first, *others = options.arms
    heads = [f"{one}{ARMS[arm]} images/s{two}" + " | ratio" * (arm != first) for arm in options.arms]
    lines = [f"| net{', width' * bool(options.widths)} | {' | '.join(heads)} |", "|---" * (2 * len(heads)) + "|"]
    for net, width in itertools.product(options.nets, options.widths or [options.width]):
        rates: dict[str, list[float]] = {arm: [] for arm in options.arms}
        for _ in range(options.rounds):
            for arm in options.arms:
                rates[arm].append(
                    measured_pair(arm, options, net) if options.pairs else measured(arm, options, net, width=width)[0]
                )
        row = [f"{net}, {width:g}" if options.widths else net, f"{statistics.median(rates[first]):.0f}"]
        for arm in others:
            row += [f"{statistics.median(rates[arm]):.0f}", _ratio(rates[first], rates[arm])]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def _ratio(strive: list[float], plain: list[float]) -> str:
    ratios = [ours / theirs for ours, theirs in zip(strive, plain, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def curve_table(options: argparse.Namespace, net: str) -> str:
    """Return the table of one net's losses: a row for each block of steps, mean and range over the seeds."""
    ours = options.arms[0]
    curves: dict[str, list[list[float]]] = {ours: [], "plain": []}
    for seed in CURVE_SEEDS:
        for arm, found in curves.items():
            _, losses = measured(arm, options, net, seed=seed, warmup=1, steps=options.curve_steps - 1)
            found.append(plain_loop.block_means(losses, options.curves))
    lines = [f"| {net}: steps | {ARMS[ours]} loss | plain fp32 loss |", "|---|---|---|"]
    for block, values in enumerate(zip(*curves[ours], *curves["plain"], strict=True)):
        first, last = block * options.curves + 1, min((block + 1) * options.curves, options.curve_steps)
        seeds = len(CURVE_SEEDS)
        lines.append(f"| {first}-{last} | {_mean(values[:seeds])} | {_mean(values[seeds:])} |")
    return "\n".join(lines)


def _mean(losses: tuple[float, ...]) -> str:
    return f"{statistics.fmean(losses):.4f} ({min(losses):.4f}-{max(losses):.4f})"


def _work(options: argparse.Namespace) -> None:
    names = ("data", "width", "steps", "warmup", "lr", "threads", "seed")
    clock = plain_loop.Clock(options.warmup)
    values = {"net": options.nets[0], "clock": clock, **{name: getattr(options, name) for name in names}}
    if options.worker.startswith("strive"):
        precision = Precision.bf16 if options.worker == "strive" else Precision.fp32
        rate, losses = measure_strive(**values, precision=precision, compile=options.compile)
    else:
        # As many threads as strive takes by itself, which need not be torch's choice.
        values["threads"] = values["threads"] or (
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        )
        fast = options.worker == "plain_bf16"
        if options.worker == "bare":
            del values["data"]
            rate, losses = plain_loop.measure_bare(**values)
        else:
            rate, losses = plain_loop.measure(**values, bf16=fast, channels_last=fast)
    print(json.dumps({"images_per_second": rate, "losses": losses, "marks": clock.marks}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder or archive: train/CLASS/FILE, 32x32 images")
    parser.add_argument("--nets", nargs="+", default=["all_cnn_c"], choices=["all", *_NETS], metavar="NET")
    parser.add_argument("--steps", type=int, default=30, help=f"timed steps, {plain_loop.WINDOW} or more")
    parser.add_argument("--warmup", type=int, default=5, help="steps before the clock starts, 1 or more")
    parser.add_argument("--rounds", type=int, default=3, help="times that each of the three is measured, in turns")
    parser.add_argument("--width", type=float, default=1.0, help="multiplies the channels")
    parser.add_argument(
        "--widths", type=float, nargs="+", metavar="W", default=[],
        help="a row for each of these widths: strive in float32 beside the bare net, which has no data to read",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 takes every core")
    parser.add_argument("--lr", type=float, default=0.05, help="learning rate")
    parser.add_argument(
        "--precision", type=Precision, choices=list(Precision), default=Precision.bf16, help="of strive's first column"
    )
    parser.add_argument("--compile", action="store_true", help="strive with trainer.compile=true")
    parser.add_argument("--pairs", action="store_true", help="two processes of each at the same time, and their sum")
    parser.add_argument("--curves", type=int, metavar="N", default=0, help="also print the mean loss of each N steps")
    parser.add_argument("--curve-steps", type=int, default=400, help="steps of each loss curve")
    parser.add_argument("--worker", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps < plain_loop.WINDOW or options.warmup < 1 or options.rounds < 1:
        parser.error(f"--steps must be at least {plain_loop.WINDOW}, --warmup and --rounds at least 1")
    if options.curves < 0 or options.curve_steps <= plain_loop.WINDOW:
        parser.error(f"--curves must be at least 0 and --curve-steps more than {plain_loop.WINDOW}")
    if options.widths and (options.pairs or options.curves):
        parser.error("--widths has a table of its own: leave --pairs and --curves out")
    if not options.data.exists():
        parser.error(f"--data={options.data} does not exist")
    if "all" in options.nets:
        options.nets = list(_NETS)
    options.arms = (
        ["strive", "strive_fp32", "plain"] if options.precision is Precision.bf16 else ["strive_fp32", "plain"]
    )
    if options.widths:
        options.arms = ["strive_fp32", "bare"]
    elif options.precision is Precision.bf16 and bf16_of(Precision.bf16, _device()) is Bf16.native:
        # Without native kernels torch's own bf16 is many times slower than float32.
        options.arms.append("plain_bf16")
    return options


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def main() -> None:
    """Print the tables, or be the worker that measures one arm."""
    options = _options()
    if options.worker:
        _work(options)
        return
    options.data = options.data.absolute()
    options.folder = options.data if options.widths else unpacked(options.data)  # for the plain loops alone
    print(speed_table(options))
    pairs = _PAIRS if options.pairs else ""
    print(
        f"\n{pairs}Medians, n={options.rounds} rounds; ratio: the first column / this one, the median of the"
        f" rounds' ratios (and their range). {options.steps} steps of {plain_loop.BATCH} images after {options.warmup}"
        f" not counted{'' if options.widths else f', model.width={options.width:g}'}.\n\n{machine(options.threads)}"
    )
    if options.curves:
        for net in options.nets:
            print(f"\n{curve_table(options, net)}")
        print(f"\nMean loss, nats per image: mean of seeds {', '.join(map(str, CURVE_SEEDS))} (and their range).")


if __name__ == "__main__":
    main()
