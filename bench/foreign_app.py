"""Cost of strive for somebody else's Hydra app: at import, at the start, for each cell, and to plan many cells.

python bench/foreign_app.py [--parts import start cells plan] [--cells 40] [--rounds 3]

The app is made in a temporary folder, and uses no torch. It is compared with Hydra's basic launcher,
hydra-joblib-launcher and hydra-submitit-launcher in the same run, as far as these are installed.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from machine import machine

ROOT = Path(__file__).resolve().parents[1]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

SCRIPT = """\
import hydra

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    return cfg.optimizer.lr * cfg.seed

if __name__ == "__main__":
    main()
"""
# About what a training script has: groups, 40 keys, some that follow others, one that is a path.
CONF = {
    "config": """\
defaults: [model: small, optimizer: adam, schedule: cosine, data: digits, _self_]
seed: 0
epochs: 20
name: bench
output: ${hydra:runtime.output_dir}
trainer: {precision: 32, devices: 1, clip: 1.0, log_every: 10, val_every: 1, patience: 5, ema: 0.0, label: '${name}'}
""",
    "model/small": "{name: small, width: 64, depth: 4, dropout: 0.1, norm: layer, act: gelu, heads: [1, 2]}",
    "model/large": "{name: large, width: 256, depth: 8, dropout: 0.1, norm: layer, act: gelu, heads: [4, 8]}",
    "optimizer/adam": "{name: adam, lr: 0.001, betas: [0.9, 0.999], eps: 1e-8, decay: 0.01, amsgrad: false}",
    "schedule/cosine": "{name: cosine, peak: '${optimizer.lr}', floor: 0.0, warmup: 100, steps: '${epochs}'}",
    "data/digits": """\
{name: digits, root: data, batch_size: 128, workers: 2, split: 0.1, shuffle: true, mean: [0.5], std: [0.25], size: 8,
 augment: {flip: true, shift: 2, noise: 0.0}}
""",
}
STRIVE = ("hydra/sweeper=strive", "hydra/launcher=strive_local", "hydra.sweeper.tracker.kind=none")
# As users have it: with compiled modules kept, and lines that are as long as they are.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
ENVIRONMENT |= {"COLUMNS": "200"}


@dataclass(frozen=True, kw_only=True, slots=True)
class LauncherArm:
    """One way to run the cells."""

    name: str
    overrides: tuple[str, ...]
    one_cell: str  # what happens for one of its cells
    plugin: str = ""  # the module that has to be installed
    stored: bool = False  # the launch stores the cells, and `strive work` runs them


ARMS = (
    LauncherArm(
        name="Hydra's basic launcher", overrides=(), one_cell="a call in the launching process, after all others"
    ),
    LauncherArm(
        name="hydra-joblib-launcher",
        overrides=("hydra/launcher=joblib", f"hydra.launcher.n_jobs={CORES}"),
        one_cell="a call in one of as many kept processes as there are cores",
        plugin="hydra_plugins.hydra_joblib_launcher",
    ),
    LauncherArm(
        name="hydra-submitit-launcher, local",
        overrides=("hydra/launcher=submitit_local",),
        one_cell="a process of its own; all are started at once",
        plugin="hydra_plugins.hydra_submitit_launcher",
    ),
    LauncherArm(
        name="strive, kept workers",
        overrides=(*STRIVE, "hydra.launcher.fresh_process=false"),
        one_cell="planned, frozen, leased, run by one of as many kept processes as there are cores, recorded",
    ),
    LauncherArm(
        name="strive, stored, then strive work",
        overrides=(*STRIVE, "hydra.launcher.detach=true"),
        one_cell="as with fresh processes, in the second of two commands",
        stored=True,
    ),
    LauncherArm(
        name="strive, fresh processes",
        overrides=STRIVE,
        one_cell="the same in a process of its own, as many at once as there are cores",
    ),
)  # fmt: skip


def write_app(folder: Path) -> None:
    """Write the script and its conf/."""
    (folder / "train.py").write_text(SCRIPT)
    for name, text in CONF.items():
        path = folder / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def seconds(
    arguments: Sequence[str],
    *,
    before: Sequence[str] = (),
    check: Callable[[Path, str], object],
    stored: bool = False,
) -> float:
    """Return the seconds of `python train.py -m ARGUMENTS` in a new folder.

    before: arguments of a command that is run there first and not timed. check: gets folder and output.
    stored: the seconds of `strive work` are added, which runs the cells.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_app(folder)
        if before:
            _timed(folder, ["train.py", "-m", *before])
        taken, output = _timed(folder, ["train.py", "-m", *arguments])
        if stored:
            (plan,) = folder.glob("runs/sweeps/*")
            taken += _timed(folder, ["-m", "strive", "work", plan.name])[0]
        check(folder, output)
    return taken


def _timed(folder: Path, arguments: Sequence[str]) -> tuple[float, str]:
    command = [sys.executable, *arguments]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=ENVIRONMENT)
    taken = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"error: python {' '.join(command[1:])} ended with {done.returncode}:\n{done.stderr}")
    return taken, done.stdout


def in_turns(arms: Sequence[LauncherArm], cells: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each arm's whole command in each round; the arms take turns."""
    taken: dict[str, list[float]] = {arm.name: [] for arm in arms}
    for number in range(rounds):
        for arm in arms:
            arguments, check = [*arm.overrides, f"seed=range(0,{cells})"], _all_ran(arm, cells)
            taken[arm.name].append(seconds(arguments, check=check, stored=arm.stored))
            print(
                f"round {number + 1} of {rounds}: {cells} cells: {arm.name}: {taken[arm.name][-1]:.2f} s",
                file=sys.stderr,
            )
    return taken


def _all_ran(arm: LauncherArm, cells: int) -> Callable[[Path, str], None]:
    def check(folder: Path, output: str) -> None:
        pattern = "runs/*/record.json" if arm.overrides[: len(STRIVE)] == STRIVE else "multirun/*/*/*/train.log"
        ran = len(list(folder.glob(pattern)))
        if ran != cells:
            raise SystemExit(f"error: {arm.name} ran {ran} of {cells} cells:\n{output}")

    return check


# -- the tables


def import_table(rounds: int) -> str:
    """Return what the plug-ins cost every Hydra app, by Hydra's own timer, in fresh processes."""
    program = """\
import json
from hydra.core.plugins import Plugins
print(json.dumps(Plugins.instance().get_stats().modules_import_time))
"""
    found = [
        json.loads(
            subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True, env=ENVIRONMENT).stdout
        )
        for _ in range(rounds + 1)
    ]
    found = found[1:]  # the first compiled them
    bundled = [sum(took for name, took in each.items() if name.startswith("hydra._internal.")) for each in found]
    rows = {"Hydra's own, bundled": bundled}
    rows |= {name: [each[name] for each in found] for name in found[0] if name.startswith("hydra_plugins.")}
    lines = ["| plug-in | n | median ms | smallest | largest |", "|---|---|---|---|---|"]
    lines += [f"| {name} | {rounds} | {_spread([1000 * each for each in took], 1)} |" for name, took in rows.items()]
    return "\n".join((*lines, "", "By Hydra's timer (`Plugins.get_stats()`), which includes what a plug-in imports."))


def start_table(arms: Sequence[LauncherArm], rounds: int) -> str:
    """Return the seconds of commands with one cell, and of those that run nothing."""
    one = ["seed=0"]
    commands = {arm.name: ([*arm.overrides, *one], (), _all_ran(arm, 1)) for arm in arms if not arm.stored} | {
        "strive, dry run": ([*STRIVE, *one, "hydra.sweeper.dry_run=true"], (), _says("1 cell")),
        "strive, the cell is done already": ([*STRIVE, *one], [*STRIVE, *one], _says("")),
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, (arguments, before, check) in commands.items():
            taken[name].append(seconds(arguments, before=before, check=check))
    plain = taken[arms[0].name]
    lines = [
        f"| one cell | n | median s | smallest | largest | s more than {arms[0].name} |",
        "|---|---|---|---|---|---|",
    ]
    for name, times in taken.items():
        more = statistics.median(mine - base for mine, base in zip(times, plain, strict=True))
        lines.append(f"| {name} | {rounds} | {_spread(times)} | {more:+.2f} |")
    return "\n".join(
        (*lines, "", "Whole commands, from the start of Python to its end; the difference is taken within rounds.")
    )


def _says(words: str) -> Callable[[Path, str], None]:
    def check(folder: Path, output: str) -> None:
        if words not in output:
            raise SystemExit(f"error: no {words!r} in:\n{output}")

    return check


def cells_table(arms: Sequence[LauncherArm], cells: int, rounds: int) -> str:
    """Return the seconds a cell of each arm, and their ratios to that of fresh processes here."""
    one, many = in_turns(arms, 1, rounds), in_turns(arms, cells, rounds)
    ours = statistics.median(many[arms[-1].name])
    lines = [
        f"| arm | n | {cells} cells: median s | smallest | largest | s a cell | s each further cell |"
        f" times {arms[-1].name} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm in arms:
        times = many[arm.name]
        median = statistics.median(times)
        further = (median - statistics.median(one[arm.name])) / (cells - 1)
        lines.append(
            f"| {arm.name} | {rounds} | {_spread(times)} | {median / cells:.3f} | {further:.3f} | {median / ours:.2f} |"
        )
    text = "Whole commands; the arms take turns. Further: the difference to a command with one cell. What one cell is:"
    return "\n".join((*lines, "", text, "", *(f"- {arm.name}: {arm.one_cell}." for arm in arms)))


def _spread(times: Sequence[float], digits: int = 2) -> str:
    return " | ".join(f"{each:.{digits}f}" for each in (statistics.median(times), min(times), max(times)))


def plan_table(cells: int) -> str:
    """Return the seconds to plan so many cells, with and without a swept key that another one follows."""
    grids = {
        "no other key follows a swept one": ["model.dropout=0.0,0.1,0.2,0.3,0.4"],
        "another key follows a swept one": ["optimizer.lr=0.1,0.03,0.01,0.003,0.001"],
        "the same, and a group is swept": ["optimizer.lr=0.1,0.03,0.01,0.003,0.001", "model=small,large"],
    }
    lines = [f"| plan of {cells:,} cells | s | ms a cell |", "|---|---|---|"]
    for name, factors in grids.items():
        seeds = cells // (10 if len(factors) > 1 else 5)
        grid = [*factors, f"seed=range(0,{seeds})", "hydra.sweeper.dry_run=true"]
        taken = seconds([*STRIVE, *grid], check=_says(f"{cells} cells"))
        lines.append(f"| {name} | {taken:.1f} | {1000 * taken / cells:.2f} |")
    text = "The whole of `python train.py -m GRID hydra.sweeper.dry_run=true`, once; the app has about 40 keys."
    return "\n".join(
        (*lines, "", text, f"Hydra itself composes one cell in {1000 * compose_seconds(30):.0f} ms (mean of 30).")
    )


def compose_seconds(cells: int) -> float:
    """Return the seconds in which Hydra composes one cell, the mean of so many."""
    program = f"""\
import time
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
import os
with initialize_config_dir(os.path.abspath("conf"), version_base="1.3"):
    loader = GlobalHydra.instance().config_loader()
    master = loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN)
    started = time.perf_counter()
    for seed in range({cells}):
        loader.load_sweep_config(master, [f"seed={{seed}}"])
    print((time.perf_counter() - started) / {cells})
"""
    with tempfile.TemporaryDirectory() as name:
        write_app(Path(name))
        done = subprocess.run([sys.executable, "-c", program], cwd=name, stdout=subprocess.PIPE, check=True)
    return float(done.stdout)


def installed() -> list[LauncherArm]:
    """Return the arms whose plug-in is there, and say which is not."""
    found = []
    for arm in ARMS:
        if arm.plugin and importlib.util.find_spec(arm.plugin) is None:
            package = arm.plugin.rpartition(".")[2].replace("_", "-")
            print(f"{package} is not installed (pip install {package}): its arm is left out")
        else:
            found.append(arm)
    return found


def versions() -> str:
    """Return the versions of Hydra and its launchers."""
    found = []
    for package in ("hydra-core", "omegaconf", "hydra-joblib-launcher", "hydra-submitit-launcher"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("import", "start", "cells", "plan")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts, help="what to measure")
    parser.add_argument("--cells", type=int, default=40, help="cells of a sweep that is run")
    parser.add_argument("--rounds", type=int, default=3, help="how often each arm is timed")
    parser.add_argument("--imports", type=int, default=20, help="fresh processes in which the plug-ins are imported")
    parser.add_argument(
        "--planned", type=int, default=10_000, help="cells of a sweep that is planned, a multiple of 10"
    )
    options = parser.parse_args()
    if options.cells < 2 or min(options.rounds, options.imports) < 1 or options.planned < 10 or options.planned % 10:
        parser.error("--cells must be at least 2, --rounds and --imports at least 1, --planned a multiple of 10")
    if "import" in options.parts:
        print(f"{import_table(options.imports)}\n")
    arms = installed() if {"start", "cells"} & set(options.parts) else []
    if "start" in options.parts:
        print(f"{start_table(arms, options.rounds)}\n")
    if "cells" in options.parts:
        print(f"{cells_table(arms, options.cells, options.rounds)}\n")
    if "plan" in options.parts:
        print(f"{plan_table(options.planned)}\n")
    print(f"Hydra: {versions()}")
    print(machine(0))
    print(f"Busy cores at the end (load of the last minute): {os.getloadavg()[0]:.1f} of {CORES}")


if __name__ == "__main__":
    main()
