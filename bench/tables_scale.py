"""Seconds and memory to read the records of a sweep, and to make its tables and report.

python bench/tables_scale.py [--cells 100 1000 10000 100000] [--sheet 1000]
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from machine import machine

from strive.app import in_use

# What the workers import is imported in them: the parent's memory counts as its children's peak.
if TYPE_CHECKING:
    from allcnn.config import Config

ROOT = Path(__file__).resolve().parents[1]
ANALYSIS = ROOT / "analysis"
RATES = (0.25, 0.1, 0.05, 0.01)
_SETTINGS = 12 * len(RATES)  # the paper's nets, each at each learning rate
_MEGABYTE = 1e6
_LAST = {"train_loss": 0.1234567, "train_error": 0.0123, "val_loss": None, "val_error": None}  # of the last epoch


def whole(cells: int) -> int:
    """Return the next number of cells that gives every net and learning rate equally many seeds."""
    return math.ceil(cells / _SETTINGS) * _SETTINGS


def read_row(cells: int, schema: int, repeats: int) -> str:
    """Return the table's line for so many records of a schema, one in a hundred a failure."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder, "runs")
        _worker("write", runs, cells=cells, failures=100, schema=schema)
        found = [_worker("read", runs, cells=cells) for _ in range(repeats)]
    seconds, processor, peak, plan = (statistics.median(each[key] for each in found) for key in found[0])
    return f"| {cells:,} | {schema} | {seconds:.2f} ({processor:.2f}) | {plan:.2f} | {peak / _MEGABYTE:.0f} |"


def read_table(numbers: Sequence[int], schemas: Sequence[int], repeats: int) -> str:
    """Measure, and return the table of reading."""
    head = "| records | schema | s (of a core) | of that plan.json: s | peak MB |\n|---|---|---|---|---|"
    rows = (read_row(whole(number), schema, repeats) for number in numbers for schema in schemas)
    return "\n".join((head, *rows))


def sheet_table(cells: int, epochs: int, repeats: int) -> str:
    """Measure, and return the table of what analysis/ makes of one sweep, each command as a user starts it."""
    lines = ["| command | s (of a core) | peak MB | written MB |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder, "runs")
        _worker("write", runs, cells=cells, failures=0, epochs=epochs)
        for script, name in (
            ("make_tables.py", "tables"),
            ("make_figures.py", "figures"),
            ("make_report.py", "r.html"),
        ):
            out = Path(folder, name)
            command = [sys.executable, str(ANALYSIS / script), "bench", f"--runs={runs}", f"--out={out}"]
            found = [_timed(command) for _ in range(repeats)]
            seconds, processor, peak = (statistics.median(column) for column in zip(*found, strict=True))
            files = [path for path in (out, *out.rglob("*")) if path.is_file()]
            size = sum(path.stat().st_size for path in files) / _MEGABYTE
            lines.append(f"| {script} | {seconds:.1f} ({processor:.1f}) | {peak / _MEGABYTE:.0f} | {size:.1f} |")
    return "\n".join(lines)


def _worker(task: str, runs: Path, **arguments: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--worker", json.dumps([task, str(runs), arguments])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"error: the records could not be {task if task == 'read' else 'written'}, see above")
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def _timed(command: Sequence[str]) -> tuple[float, float, float]:
    """Return a command's seconds, its seconds of a core, and its peak memory in bytes."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if os.waitstatus_to_exitcode(status):
            output.seek(0)
            raise SystemExit(f"error: {' '.join(command)} failed:\n{output.read().decode()}")
    return seconds, usage.ru_utime + usage.ru_stime, _bytes(usage.ru_maxrss)


def _bytes(maxrss: int) -> int:
    return maxrss if sys.platform == "darwin" else maxrss * 1024


# The workers, each a process of its own


def _work(task: str, runs: Path, arguments: dict[str, int]) -> dict[str, float]:
    from strive import app

    app.use("allcnn.app")
    if task == "write":
        _write_sweep(runs, **arguments)
        return {}
    return _read(runs, **arguments)


def _read(runs: Path, cells: int) -> dict[str, float]:
    """Read the sweep as analysis/ does. The start of Python and the imports are not counted."""
    import resource

    sys.path.insert(0, str(ANALYSIS))
    from strive.results.load import load_sweep
    from strive.sweeps.plan import StoredPlan, sweep_folder

    started, processor = time.perf_counter(), time.process_time()
    found = load_sweep("bench", [runs]).cells
    seconds, processor = time.perf_counter() - started, time.process_time() - processor
    peak = _bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    statuses = found["status"].value_counts().to_dict()
    if (
        len(found) != cells
        or set(statuses) - {"done", "error"}
        or found["test_error"].isna().sum() != statuses["error"]
    ):
        raise SystemExit(f"error: of {cells} records {statuses} were read")
    started = time.perf_counter()
    StoredPlan.read(sweep_folder(runs, "bench"))
    return {"seconds": seconds, "processor": processor, "peak": peak, "plan": time.perf_counter() - started}


def _settings() -> Iterator["Config"]:
    """Yield the baseline cell in each of the paper's nets and learning rates."""
    from allcnn.config import Base, Config, ModelConfig, OptimizerConfig, Variant, checked

    for base in Base:
        for variant in Variant:
            for rate in RATES:
                model, optimizer = ModelConfig(base=base, variant=variant), OptimizerConfig(lr=rate)
                yield checked(Config(model=model, optimizer=optimizer))


def _write_sweep(runs: Path, cells: int, failures: int, epochs: int = 0, schema: int = 2) -> None:
    """Write records of untrained cells, and their plan.

    Every `failures`-th is a failure; 0: none. epochs: lines of history.jsonl; 0: no such file.
    """
    from dataclasses import replace

    import numpy as np

    from strive.config import identity
    from strive.sweeps.plan import Action, Plan, Planned, write_plan

    random = np.random.default_rng(0)
    planned: list[Planned] = []
    for number, setting in enumerate(_settings()):
        for seed in range(cells // _SETTINGS):
            config = replace(setting, seed=seed, runs=str(runs))
            cell = identity.cell_id(config)
            error = round(0.1 + 0.002 * number + 0.002 * random.standard_normal(), 4)
            failed = failures and len(planned) % failures == failures - 1
            record = _record(cell, config, None if failed else error, random.bytes(32).hex())
            folder = runs / cell
            folder.mkdir(parents=True)
            # Not write_record, which waits for the disk each time.
            content = json.dumps(record if schema == 2 else _as_schema1(record), indent=2)
            (folder / "record.json").write_text(f"{content}\n", encoding="utf-8")
            if epochs:
                (folder / "history.jsonl").write_text(_curve(epochs, error), encoding="utf-8")
            planned.append(Planned(cell=cell, arm="", config=config, action=Action.train, reason="", code=""))
    write_plan(
        Plan(sweep="bench", file="bench", changes=[], question="Is it fast?", runs=runs, code="", cells=planned)
    )  # fmt: skip


def _record(cell: str, config: Any, error: float | None, digest: str) -> dict[str, Any]:
    """Return a record as JSON has it; no error: of a failure."""

    now = "2026-01-01T00:00:00+00:00"
    metrics = {
        "epochs": 350, "steps": 136850, "parameters": 1369738, "test_loss": 0.3456789, "test_error": error,
    } | _LAST  # fmt: skip
    provenance = {
        "host": "bench", "device": "none", "threads": 1, "seconds": 1234.5, "peak_memory_bytes": 1234567890,
        "resumes": 0, "inexact": [], "packages": {"torch": "2"}, "python": "3", "strive": "0", "code_hash": "0" * 10,
        "started": now, "finished": now,
        "details": {"layout": "channels_last", "compiled": False, "images_per_second": 9876.5},
    }  # fmt: skip
    failed, flat, science = error is None, in_use().flat(config), in_use().science(config)
    return {
        "schema": 2,
        "cell": cell,
        "status": "error" if failed else "done",
        "config": science,
        "logistics": {key: value for key, value in flat.items() if key not in science},
        "metrics": {} if failed else metrics,
        "data": {"images": "0" * 16},
        "outputs": {} if failed else {"predictions": digest, "weights": digest[::-1]},
        "failure": {"cause": "RuntimeError: no", "traceback": "line\n" * 30} if failed else None,
        "provenance": provenance,
    }


def _as_schema1(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record of `_record` as the first version wrote it."""
    made, outputs, failed = record["provenance"], record["outputs"], record["failure"] is not None
    kept = {name: value for name, value in made.items() if name not in ("seconds", "packages", "details")}
    more = {"train_seconds": made["seconds"], "torch": "2", "data_fingerprint": record["data"]["images"]}
    hashes = {f"{name}_sha256": digest for name, digest in outputs.items()}
    return {
        "schema": 1,
        "cell": record["cell"],
        "status": record["status"],
        "config": record["config"] | record["logistics"],
        "result": None if failed else record["metrics"] | hashes,
        "failure": record["failure"],
        "provenance": kept | made["details"] | more,
    }


def _curve(epochs: int, error: float) -> str:
    """Return history.jsonl with so many lines."""
    shares = [error + 0.8 / (epoch + 1) for epoch in range(epochs)]
    lines = [
        {"step": epoch, "lr": 0.05, "train_loss": share, "train_error": share, "val_loss": None, "val_error": None}
        for epoch, share in enumerate(shares, 1)
    ]
    lines[-1] |= _LAST  # or the record contradicts its history, and no number of it is shown
    return "".join(json.dumps(line) + "\n" for line in lines)


_NOTES = (
    "Every record is read and checked, in a new process; the median of {repeats}, with plan.json and the frame of all"
    " cells, without the start of Python and the imports (about 1 s). In brackets the seconds of a core: on a machine"
    " with other work the difference is waiting. The records have just been written, so most come from memory, not from"
    " the disk. Peak: resident memory of the process."
)
_SHEET_NOTES = "One sweep of {cells} cells with {epochs} epochs each, every command whole, from its start to its end."


def main() -> None:
    """Print the tables, or be a worker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cells", type=int, nargs="*", default=[100, 1000, 10_000, 100_000], help="sizes of the sweeps that are read"
    )
    parser.add_argument(
        "--schemas", type=int, nargs="+", choices=(1, 2), default=[2, 1], help="versions of the records that are read"
    )
    parser.add_argument("--sheet", type=int, default=1000, help="cells of the sweep with a report; 0: none")
    parser.add_argument("--epochs", type=int, default=350, help="length of its learning curves")
    parser.add_argument("--repeats", type=int, default=3, help="how often each is timed; the median counts")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        task, runs, arguments = json.loads(options.worker)
        print(json.dumps(_work(task, Path(runs), arguments)))
        return
    if min([*options.cells, options.epochs, options.repeats]) < 1 or options.sheet < 0:
        parser.error("--cells, --epochs and --repeats must be at least 1, --sheet at least 0")
    if options.cells:
        print(read_table(options.cells, options.schemas, options.repeats))
        print(f"\n{_NOTES.format(repeats=options.repeats)}\n")
    if options.sheet:
        cells = whole(options.sheet)
        print(sheet_table(cells, options.epochs, options.repeats))
        print(f"\n{_SHEET_NOTES.format(cells=cells, epochs=options.epochs)}\n")
    print(machine(0))


if __name__ == "__main__":
    main()
