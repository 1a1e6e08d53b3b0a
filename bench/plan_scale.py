"""Seconds to plan 100, 1,000 and 10,000 cells, and to report their status; compared with Hydra's own composition.

python bench/plan_scale.py [--cells 100 1000 10000]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from machine import machine

from strive.app import in_use

ROOT = Path(__file__).resolve().parents[1]
CELL = ("data=digits", "preprocess=standardize", "budget=smoke")
WIDTHS = tuple(round(0.05 * step, 2) for step in range(1, 9))
_NETS = 12 * len(WIDTHS)  # all of the paper's, in each of these widths


def seeds(cells: int) -> list[str]:
    """Return a grid of so many cells that share one net."""
    return [*CELL, f"seed=range(0,{cells})"]


def nets(cells: int) -> list[str]:
    """Return a grid of about so many cells that share 96 nets."""
    widths = ",".join(map(str, WIDTHS))
    return [*CELL, "model=glob(*)", f"model.width={widths}", f"seed=range(0,{max(1, round(cells / _NETS))})"]


def plan_seconds(grid: Sequence[str]) -> tuple[int, float]:
    """Return how many cells the grid has, and the seconds from the start of the command to its end."""
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, str(ROOT / "src" / "run.py"), "-m", *grid, f"runs={runs}"]
        seconds, output = _timed([*command, "hydra.sweeper.dry_run=true"])
    counts = next(line for line in output.splitlines() if " cells: " in line)
    return int(counts.partition(" ")[0]), seconds


def status_seconds(cells: int, repeats: int) -> float:
    """Return the median seconds of `strive status` on so many records, of which one in a hundred is a failure."""
    with tempfile.TemporaryDirectory() as runs:
        _write_records(Path(runs), cells)
        command = [sys.executable, "-m", "strive", "status", "bench", "--runs", runs]
        times = []
        for _ in range(repeats):
            seconds, output = _timed(command, codes=(0, 1))
            if f"{cells} cells: " not in output:
                raise SystemExit(f"error: strive status did not see {cells} cells:\n{output}")
            times.append(seconds)
    return statistics.median(times)


def compose_seconds(cells: int) -> float:
    """Return the seconds in which Hydra itself composes one cell of the grid, the mean of so many."""
    done = subprocess.run(
        [sys.executable, __file__, "--worker", str(cells)], stdout=subprocess.PIPE, text=True, check=True
    )
    return float(json.loads(done.stdout))


def _timed(command: Sequence[str], codes: Sequence[int] = (0,)) -> tuple[float, str]:
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"})
    seconds = time.perf_counter() - started
    if done.returncode not in codes:
        raise SystemExit(f"error: {' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return seconds, done.stdout


def _write_records(runs: Path, cells: int) -> None:
    """Write valid records of untrained cells, and their plan."""
    import msgspec

    from allcnn.config import Config, checked
    from strive.cells import records
    from strive.cells.records import Failure, Provenance, Record, Status
    from strive.config import identity
    from strive.sweeps.plan import Action, Plan, Planned, write_plan

    now = "2026-01-01T00:00:00+00:00"
    provenance = Provenance(
        host="bench", device="none", threads=1, seconds=1.0, peak_memory_bytes=0, resumes=0, inexact=[], python="",
        strive="", code_hash="0" * 10, started=now, finished=now,
        details={"layout": "channels_last", "compiled": False, "images_per_second": 1.0},
    )  # fmt: skip
    metrics: dict[str, float | None] = {
        "epochs": 350, "steps": 1, "parameters": 1, "train_loss": 1.0, "train_error": 0.5, "val_loss": None,
        "val_error": None, "test_loss": 1.0, "test_error": 0.5,
    }  # fmt: skip
    failure = Failure(cause="RuntimeError: no", traceback="line\n" * 30)
    planned = []
    for seed in range(cells):
        config = checked(Config(seed=seed, runs=str(runs)))
        failed = seed % 100 == 99
        flat = in_use().flat(config)
        science = in_use().science(config)
        record = Record(
            schema=records.SCHEMA,
            cell=identity.cell_id(config),
            status=Status.error if failed else Status.done,
            config=science,
            logistics={key: value for key, value in flat.items() if key not in science},
            metrics={} if failed else metrics,
            data={"images": "0" * 16},
            outputs={} if failed else {"predictions": "0" * 64, "weights": f"{seed:064d}"},
            failure=failure if failed else None,
            provenance=provenance,
        )
        path = records.record_path(runs, record.cell)
        path.parent.mkdir()
        # Not write_record, which waits for the disk each time.
        path.write_text(json.dumps(msgspec.to_builtins(record), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        planned.append(Planned(cell=record.cell, arm="", config=config, action=Action.train, reason="", code=""))
    write_plan(Plan(sweep="bench", file="bench", changes=[], question="", runs=runs, code="", cells=planned))


def _compose(cells: int) -> None:
    """Compose cells as BasicSweeper does to check a batch, in a process of its own; print the mean seconds."""
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    from allcnn.config import Config

    ConfigStore.instance().store(name="schema", node=Config)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", list(CELL), run_mode=RunMode.MULTIRUN)
        started = time.perf_counter()
        for seed in range(cells):
            loader.load_sweep_config(master, [*CELL, f"seed={seed}"])
        print(json.dumps((time.perf_counter() - started) / cells))


def table(numbers: Sequence[int], repeats: int, hydra_cells: int) -> str:
    """Measure, and return the table."""
    hydra = compose_seconds(hydra_cells)
    lines = [
        f"| cells | plan, one net: s | plan, {_NETS} nets: s (cells) | Hydra's composition: s | status: s |",
        "|---|---|---|---|---|",
    ]
    for number in numbers:
        _, one_net = plan_seconds(seeds(number))
        count, many_nets = plan_seconds(nets(number))
        status = status_seconds(number, repeats)
        lines.append(f"| {number} | {one_net:.1f} | {many_nets:.1f} ({count}) | {hydra * number:.1f} | {status:.2f} |")
    return "\n".join(
        (
            *lines,
            "",
            "plan: the whole of `python src/run.py -m GRID hydra.sweeper.dry_run=true`, which composes and checks every"
            " cell, builds each distinct net, looks for records, and prints the plan; once.",
            f"Hydra's composition: {1000 * hydra:.1f} ms a cell (the mean of {hydra_cells}) times the cells; that much"
            " Hydra's own sweeper takes to check a grid, and as much again when its cells start. Nothing else of a plan"
            " is in it.",
            f"status: the whole of `strive status NAME` on as many records; the median of {repeats}.",
        )
    )


def main() -> None:
    """Print the table, or be the worker that composes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[100, 1000, 10_000], help="sizes of the grids")
    parser.add_argument("--repeats", type=int, default=3, help="how often `strive status` is timed")
    parser.add_argument("--hydra-cells", type=int, default=50, help="cells that Hydra composes")
    parser.add_argument("--worker", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if min(*options.cells, options.repeats, options.hydra_cells) < 1:
        parser.error("--cells, --repeats and --hydra-cells must be at least 1")
    if options.worker:
        _compose(options.worker)
        return
    print(table(options.cells, options.repeats, options.hydra_cells))
    print(f"\n{machine(0)}")


if __name__ == "__main__":
    main()
