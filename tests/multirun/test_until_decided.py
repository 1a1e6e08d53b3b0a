"""A sweep that adds seeds until it is decided, with a launcher that writes records instead of training."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from study_records import study_record
from support import SMALL

from strive.app import in_use
from strive.cells import records
from strive.cells.records import Failure, Record, Status, parse_record
from strive.cells.task import CellOutcome
from strive.cli.main import main
from strive.errors import CellsFailedError, ConfigError
from strive.launch.launch_folder import Launch
from strive.multirun.run_sweep import SweepRun
from strive.multirun.until_decided import UntilDecided
from strive.options import CellOptions, LocalOptions, SlurmOptions
from strive.results.load import load_sweep
from strive.sweeps.compose import Composer
from strive.sweeps.plan import Retrain
from strive.sweeps.planner import Planner
from strive.sweeps.sweep_file import Sweep, parse_sweep
from strive.tables.summary import summarise_sweep

TEXT = """
question: Does pooling matter?
fixed: {model.base: c}
grid: {model.variant: [base, strided, convpool, all_cnn], seed: "range(0,8)"}
seeds: {looks: [3, 5, 8]}
table: {rows: [model.variant], columns: [], baseline: {model.variant: base}, margin: 0.5}
"""
BASE = [10.0, 10.6, 9.4, 10.2, 9.8, 10.4, 9.6, 10.1]
STEPS = {
    "base": [0.0] * 8,
    "strided": [4.0, 4.1, 3.9, 4.0, 4.1, 3.9, 4.0, 4.1],  # a loss at the first look
    "convpool": [0.1, -0.3, 0.2, 0.0, 0.1, -0.1, 0.0, 0.2],  # no loss, not at the first look
    "all_cnn": [1.5, -0.5, 0.9, 0.2, 1.2, -0.1, 0.8, 0.1],  # at no look
}


def error_of(variant: str, seed: int) -> float | None:
    return BASE[seed % 8] + STEPS[variant][seed % 8]


class Killed(BaseException):
    """The end of a process."""


class Writer:
    """A launcher that writes the records of its cells at once."""

    name = "local"

    def __init__(self, options: CellOptions, error: Callable[[str, int], float | None] = error_of) -> None:
        self.options, self.error = options, error
        self.looks: list[list[tuple[str, int]]] = []  # cells of each launch
        self.kill_after = 10**6  # cells, over all launches
        self.continued: list[Sequence[str]] = []

    def train(self, launch: Launch, waiting: Mapping[str, str]) -> dict[str, CellOutcome]:
        self.looks.append([])
        return {task.cell: self._train(task) for task in launch.tasks}

    def _train(self, task: Any) -> CellOutcome:
        variant, seed = task.config["model.variant"], task.config["seed"]
        if isinstance(self.options, SlurmOptions) and self.options.detach:
            self.looks[-1].append((variant, seed))
            return CellOutcome(cell=task.cell, status=None, job="12_0")
        if sum(map(len, self.looks)) >= self.kill_after:
            raise Killed
        self.looks[-1].append((variant, seed))
        error = self.error(variant, seed)
        status = Status.error if error is None else Status.diverged if error == math.inf else Status.done
        failure = None if error is not None else Failure(cause="no luck", traceback="")
        outputs = {"predictions": "0" * 64, "weights": hashlib.sha256(task.cell.encode()).hexdigest()}
        record = study_record(
            in_use().config_of(task.flat), status, failure=failure, outputs=outputs, epochs=2,
            test_error=min(error or 0, 90) / 100,
            provenance={"seconds": 3600.0, "finished": "2100-01-01T00:00:00+00:00"},
        )  # fmt: skip
        records.write_record(task.folder.parent, record)
        return CellOutcome(cell=task.cell, status=status, cause="" if error is not None else "no luck")

    def continue_after(self, jobs: Sequence[str], plan_folder: Path) -> None:
        self.continued.append(jobs)


@pytest.fixture
def launch(composer: Composer, tmp_path: Path) -> Callable[..., Writer]:
    """Start the command with a sweep file's text; return its launcher."""

    def run(text: str = TEXT, *arguments: str, writer: Writer | None = None, **options: Any) -> Writer:
        retrain = options.pop("retrain", Retrain.failed)
        until = options.pop("until", True)
        writer = writer or Writer(LocalOptions())
        sweep_run = SweepRun(Planner(composer, no_other, retrain=retrain), writer, **options)
        sweep = parse_sweep("golden", text)
        given = [*SMALL, f"runs={tmp_path / 'runs'}", *arguments]
        (UntilDecided(sweep_run) if until else sweep_run).run(given, sweep)
        return writer

    return run


def no_other(name: str) -> Sweep:
    raise ConfigError(name)


def verdicts(runs: Path) -> dict[str, str]:
    lines = summarise_sweep(load_sweep(next((runs / "sweeps").iterdir()).name, [runs])).conditions
    return {
        str(each.key["model.variant"]): f"{each.judgement.verdict}, {each.look.at}"
        for each in lines
        if each.judgement is not None and each.look is not None
    }


def seeds(cells: Sequence[tuple[str, int]]) -> dict[str, list[int]]:
    return {name: [seed for variant, seed in cells if variant == name] for name in dict.fromkeys(n for n, _ in cells)}


FIRST = {"base": [0, 1, 2], "strided": [0, 1, 2], "convpool": [0, 1, 2], "all_cnn": [0, 1, 2]}
LOOKS = [FIRST, {"base": [3, 4], "convpool": [3, 4], "all_cnn": [3, 4]}, {"base": [5, 6, 7], "convpool": [5, 6, 7]}]
DECIDED = {
    "strided": "worse, look 1 of 3, n = 3",
    "convpool": "not worse, look 3 of 3, n = 8",
    "all_cnn": "undecided, look 2 of 3, n = 5",
}


def test_each_look_trains_the_next_seeds_of_undecided_lines_and_of_their_baselines(launch, tmp_path, capsys):
    assert [seeds(look) for look in launch().looks] == LOOKS
    assert verdicts(tmp_path / "runs") == DECIDED
    said = capsys.readouterr()
    assert "ConvPool against variant base: look 1 of 3, n = 3: undecided: waits for seeds: it has 3 of" in said.err
    assert "20 more cells of the sweep are not needed so far" in said.err
    assert "variant ALL-CNN against variant base: look 2 of 3, n = 5: undecided, left alone" in said.out
    assert launch().looks == []


@pytest.mark.parametrize("cells", [1, 5, 12, 13, 20])
def test_a_sweep_that_is_killed_after_any_cell_goes_on_to_the_same_verdicts(launch, tmp_path, cells):
    writer = Writer(LocalOptions())
    writer.kill_after = cells
    with pytest.raises(Killed):
        launch(writer=writer)
    again = launch()
    assert verdicts(tmp_path / "runs") == DECIDED
    trained = [cell for look in (*writer.looks, *again.looks) for cell in look]
    assert sorted(trained) == sorted((name, seed) for look in LOOKS for name, some in look.items() for seed in some)


def test_without_until_every_cell_trains_and_tables_judge_by_looks_all_the_same(launch, tmp_path, capsys):
    writer = launch(until=False)
    assert len(writer.looks[0]) == 32
    # Its later seeds are there, so the line that would have been left alone is looked at with them.
    assert verdicts(tmp_path / "runs") == DECIDED | {"all_cnn": "undecided, look 3 of 3, n = 8"}
    launch(until=False, dry_run=True)
    assert "variant Strided against variant base: look 1 of 3, n = 3: worse" in capsys.readouterr().out


def test_a_dry_run_says_where_lines_stand_and_what_the_next_look_costs_and_writes_nothing(launch, tmp_path, capsys):
    assert launch(dry_run=True).looks == []
    assert not (tmp_path / "runs").exists()
    said = capsys.readouterr().out
    assert "12 cells: 0 done already, 12 to train" in said
    assert "variant Strided against variant base: no look yet" in said
    writer = Writer(LocalOptions())
    writer.kill_after = 12
    with pytest.raises(Killed):
        launch(writer=writer)
    launch(dry_run=True)
    said = capsys.readouterr().out
    assert "18 cells: 12 done already, 6 to train" in said
    assert "time: 3 min of one CPU" in said
    assert "variant Strided against variant base: look 1 of 3, n = 3: worse" in said


def test_a_line_whose_cell_has_failed_gets_no_further_look_and_the_others_do(launch, tmp_path):
    def failing(variant: str, seed: int) -> float | None:
        return None if (variant, seed) == ("convpool", 1) else error_of(variant, seed)

    writer = Writer(LocalOptions(), failing)
    with pytest.raises(CellsFailedError, match="1 of 16 cells"):
        launch(writer=writer)
    assert [seeds(look) for look in writer.looks] == [FIRST, {"base": [3, 4], "all_cnn": [3, 4]}]
    assert verdicts(tmp_path / "runs") == {key: DECIDED[key] for key in ("strided", "all_cnn")}
    launch()  # tries it again, and has luck
    assert verdicts(tmp_path / "runs") == DECIDED


def test_a_line_whose_cell_has_diverged_ends_there_and_gets_no_more_seeds(launch, tmp_path, capsys):
    def diverging(variant: str, seed: int) -> float | None:
        return math.inf if (variant, seed) == ("convpool", 3) else error_of(variant, seed)

    writer = Writer(LocalOptions(), diverging)
    launch(writer=writer)
    assert [seeds(look) for look in writer.looks] == LOOKS[:2]
    assert "look 2 of 3, n = 5: undecided: nothing is tested, as 1 of 5 pairs died (seed 3 diverged)" in (
        capsys.readouterr().out
    )
    assert launch().looks == []


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("[3, 5, 8]", "[3, 4, 5, 8]", "looks were [3, 5, 8] and are [3, 4, 5, 8]"),
        ("[3, 5, 8]", "[3, 5]", "looks were [3, 5, 8] and are [3, 5]"),
        ("looks: [3, 5, 8]", "looks: [3, 5, 8], alpha: 0.1", "alpha was 0.05 and is 0.1"),
        ("margin: 0.5", "margin: 1", "margin was 0.5 and is 1.0"),
        ("range(0,8)", "range(1,9)", "seeds were [0, 1, 2, 3, 4, 5, 6, 7] and are [1,"),
        (", all_cnn]", "]", "line variant ALL-CNN is gone"),
        ("fixed: {", "fixed: {optimizer.lr: 0.01, ", "line variant Strided has other cells"),
    ],
)
def test_what_is_fixed_at_the_first_look_cannot_change_after_it(launch, tmp_path, capsys, before, after, message):
    writer = Writer(LocalOptions())
    writer.kill_after = 12
    with pytest.raises(Killed):
        launch(writer=writer)
    changed = TEXT.replace(before, after)
    assert changed != TEXT
    with pytest.raises(ConfigError) as caught:
        launch(changed)
    assert message in str(caught.value)
    assert "sweep file of another name" in str(caught.value)
    capsys.readouterr()
    launch(changed, dry_run=True)
    assert message in capsys.readouterr().out
    # A launch of all cells trains them, and no table has a verdict.
    launch(changed, until=False)
    assert "tables give no verdict: since the first look, " in capsys.readouterr().err
    summary = summarise_sweep(load_sweep(next((tmp_path / "runs" / "sweeps").iterdir()).name, [tmp_path / "runs"]))
    assert "without a verdict" in summary.answer or "contradict" in summary.answer
    assert any(message in problem for problem in summary.problems)
    assert not any(condition.decided for condition in summary.conditions)


def test_looks_may_change_before_the_first_one(launch, tmp_path):
    writer = Writer(LocalOptions())
    writer.kill_after = 5
    with pytest.raises(Killed):
        launch(writer=writer)
    launch(TEXT.replace("margin: 0.5", "margin: 1"))
    fixed = json.loads(next((tmp_path / "runs" / "sweeps").glob("*/looks.json")).read_text())
    # The five cells were done when the looks were fixed anew.
    assert (fixed["margin"], fixed["done_before"]) == (1, 5)


def test_the_resolution_of_the_metric_is_fixed_at_the_first_look(launch, tmp_path):
    launch()
    fixed = json.loads(next((tmp_path / "runs" / "sweeps").glob("*/looks.json")).read_text())
    assert fixed["resolution"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (TEXT, ("seed=0,1",), "the last of looks [3, 5, 8] needs 8 seeds, and the sweep has 2"),
        (TEXT.replace("seeds: {looks: [3, 5, 8]}", ""), (), "needs a sweep file that says when to look"),
        (
            TEXT.replace("baseline: {model.variant: base}", "baseline: {model.variant: {strided: base}}"),
            (),
            "variant ConvPool has no baseline in the table",
        ),
        (
            TEXT.replace("[base, ", "[").replace("table", "cells: [{model.variant: base, seed: 'range(0,7)'}]\ntable"),
            (),
            "variant base has no cell with seed=7",
        ),
        (
            f"{TEXT}exclude: [{{when: {{model.variant: strided, seed: 4}}, reason: it diverged}}]\n",
            (),
            "variant Strided has no cell with seed=4",
        ),
        (TEXT.replace("margin: 0.5", "margin: 0.5, pair: [optimizer.lr]"), (), "pair of the table must contain seed"),
    ],
)
def test_cells_that_do_not_go_with_the_looks_are_refused(launch, tmp_path, text, arguments, message):
    with pytest.raises(ConfigError) as caught:
        launch(text, *arguments)
    assert message in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_retraining_all_is_refused_and_stale_cells_are_trained_before_their_look(launch, tmp_path):
    with pytest.raises(ConfigError, match="retrain=all"):
        launch(retrain=Retrain.all)
    launch()
    # The records of this launcher say another code than this one's, so each look trains its cells once more.
    again = launch(retrain=Retrain.stale)
    assert [seeds(look) for look in again.looks] == [FIRST]


def test_hours_end_a_sweep_between_two_looks(launch, capsys):
    # Each cell takes an hour: 12 for the first look, which cannot be known before one was trained.
    with pytest.raises(ConfigError, match="cannot be checked: no cell of this sweep was trained"):
        launch(max_gpu_hours=20)
    writer = Writer(LocalOptions())
    writer.kill_after = 1
    with pytest.raises(Killed):
        launch(writer=writer)
    first = launch(max_gpu_hours=12)
    assert len(first.looks) == 1
    assert "stopped before the next look: the next look takes" in capsys.readouterr().err
    assert [seeds(look) for look in launch(max_gpu_hours=100).looks] == LOOKS[1:]


def test_a_detached_launch_on_slurm_continues_itself_after_the_jobs_of_a_look(launch):
    writer = launch(writer=Writer(SlurmOptions(detach=True)))
    assert [seeds(look) for look in writer.looks] == [FIRST]
    assert writer.continued == [["12_0"]]


def test_a_detached_launch_here_leaves_the_cells_of_one_look_to_strive_work(launch, capsys):
    launch(writer=Writer(LocalOptions(detach=True), lambda variant, seed: None))
    assert "nothing was trained; to train: strive work golden-" in capsys.readouterr().err


def test_status_says_where_the_lines_stand_and_lists_the_cells_of_the_next_look_alone(launch, tmp_path, capsys):
    writer = Writer(LocalOptions())
    writer.kill_after = 12
    with pytest.raises(Killed):
        launch(writer=writer)
    name = next((tmp_path / "runs" / "sweeps").iterdir()).name
    for file in (tmp_path / "runs" / "sweeps" / name).glob("*/launch.json"):
        file.unlink()  # of a process that has ended
    capsys.readouterr()
    assert main(["status", name, "--runs", str(tmp_path / "runs")]) == 1
    said = capsys.readouterr().out
    assert "18 cells: 12 done, 6 missing" in said
    assert "variant Strided against variant base: look 1 of 3, n = 3: worse" in said
    assert "14 more cells of the sweep are not needed so far" in said
    assert "hydra.sweeper.until=decided" in said
    launch()
    capsys.readouterr()
    assert main(["status", name, "--runs", str(tmp_path / "runs")]) == 0
    assert "24 cells: 24 done" in capsys.readouterr().out


def test_status_reads_each_record_of_a_sweep_with_looks_once(launch, tmp_path, monkeypatch):
    launch()
    read: Counter[str] = Counter()

    def counted(content: bytes, path: str | Path) -> Record:
        read[Path(path).parent.name] += 1
        return parse_record(content, path)

    for module in ("strive.cells.checked_record", "strive.cells.records"):
        monkeypatch.setattr(f"{module}.parse_record", counted)
    name = next((tmp_path / "runs" / "sweeps").iterdir()).name
    assert main(["status", name, "--runs", str(tmp_path / "runs")]) == 0
    assert len(read) == 24
    assert set(read.values()) == {1}


def test_a_design_is_looked_at_line_by_line(launch, tmp_path):
    text = """
question: Which parts matter?
fixed: {model.base: c}
components:
  strides: {with: {model.variant: convpool}, without: {model.variant: strided}}
  rate: {with: {optimizer.lr: 0.05}, without: {optimizer.lr: 0.01}}
design: leave_one_out
grid: {seed: "range(0,5)"}
seeds: {looks: [3, 5]}
table: {margin: 0.5}
"""
    launch(text)
    summary = summarise_sweep(load_sweep(next((tmp_path / "runs" / "sweeps").iterdir()).name, [tmp_path / "runs"]))
    found = {each.label: each.look.verdict.partition(",")[0] for each in summary.conditions if each.look is not None}
    # The launcher's errors depend on the net alone: without its part they lose 4 points, and nothing.
    assert found == {"without strides": "worse", "without rate": "undecided: silent: the sd of the differences"}
