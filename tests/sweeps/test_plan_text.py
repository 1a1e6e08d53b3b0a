import dataclasses
from pathlib import Path

import pytest
from rich.console import Console
from support import MakeConfig, MakePlan, write_result

from allcnn.cells import run_cell
from strive.cells import records
from strive.cells.records import Status
from strive.cells.task import CellOutcome
from strive.sweeps.estimate import Estimate
from strive.sweeps.plan import Action, Chosen, Plan
from strive.sweeps.plan_text import counts_line, failure_lines, plan_lines, remark_lines
from strive.sweeps.terminal_table import terminal_table


@pytest.fixture
def plan(make_plan: MakePlan) -> Plan:
    """Four cells: one to train, one done, one that failed, one elsewhere."""
    plan = make_plan("model=convpool_cnn_c,all_cnn_a", "augment=none,flip_shift")
    actions = (Action.train, Action.done, Action.retry, Action.wait)
    reasons = ("no record", "done", "error: RuntimeError: [red]no[/red]; from the start", "SLURM job 12_3")
    cells = [
        dataclasses.replace(planned, action=action, reason=reason)
        for planned, action, reason in zip(plan.cells, actions, reasons, strict=True)
    ]
    return dataclasses.replace(plan, cells=cells, question="Which?")


def test_a_plan_names_every_cell_with_what_is_done_and_why(plan: Plan):
    chosen = Chosen(
        key="optimizer.lr",
        sweeps=["table3_lr"],
        per={"model.base": "a"},
        by="val_error",
        value=0.05,
        why="val error 9%",
    )
    plan = dataclasses.replace(plan, excluded=[("seed=3", "seen enough")], choices=[chosen], notes=["a note"])
    lines = list(plan_lines(plan, [Estimate(device="NVIDIA H200", hours=2.5, measured=1, guessed=1)]))
    assert lines[0].endswith(": Which?")
    for planned in plan.cells:
        assert f"  {planned.cell}  {planned.reason}" in lines
    assert [line for line in lines if line.startswith(("train (", "retry (", "done (", "wait for"))] == [
        "train (1)",
        "retry (1)",
        "wait for, trained elsewhere (1)",
        "done (1)",
    ]
    assert "excluded: seed=3: seen enough" in lines
    assert "chosen from table3_lr: optimizer.lr=0.05 for model.base=a: val error 9%" in lines
    assert "a note" in lines
    assert lines[-1] == "time: 2.5 h of one NVIDIA H200 (measured, 1 cells guessed from their multiply-adds)"


def test_a_plan_without_a_measured_speed_says_so(plan: Plan):
    assert "time: not known" in list(plan_lines(plan, []))[-1]


def test_the_counts_say_what_is_to_do(plan: Plan, make_plan: MakePlan):
    assert counts_line(plan) == "4 cells: 1 done already, 1 to train, 1 to retry, 1 elsewhere"
    done = [dataclasses.replace(planned, action=Action.done) for planned in plan.cells]
    assert counts_line(dataclasses.replace(plan, cells=done)) == "4 cells: 4 done already, nothing to train"


def test_diverged_cells_are_counted_apart_from_done_ones(plan: Plan):
    done, diverged = (
        dataclasses.replace(planned, action=Action.done, reason=reason)
        for planned, reason in zip(plan.cells[:2], ("done", "diverged: the training loss was not finite"), strict=True)
    )
    counted = counts_line(dataclasses.replace(plan, cells=[done, diverged]))
    assert counted == "2 cells: 1 done already, 1 diverged already, nothing to train"


def test_the_end_of_a_run_names_what_diverged_and_what_never_left_chance(make_config: MakeConfig, tmp_path: Path):
    ends = [(Status.done, 0.1), (Status.diverged, 0.9), (Status.done, 0.9)]
    cells = [
        write_result(tmp_path, make_config(f"seed={seed}"), status, error, 0.9)
        for seed, (status, error) in enumerate(ends)
    ]
    finished = {cell: records.read_record(records.record_path(tmp_path, cell)) for cell in cells}
    assert remark_lines(finished) == [
        "of 3 cells with a result 1 diverged and 1 dead:",
        f"  {cells[1]}: diverged: the training loss became nan in epoch 350 of 350",
        f"  {cells[2]}: done: dead, not below the 90.00% of always naming the largest class",
    ]
    assert remark_lines({cells[0]: finished[cells[0]]}) == []


def test_every_cell_without_a_result_is_named_with_its_cause_and_log(plan: Plan):
    record = run_cell(plan.cells[1].config)
    ended = {
        plan.cells[0].cell: CellOutcome(
            cell=plan.cells[0].cell, status=Status.killed, cause="by SIGKILL", log="a/log.txt"
        ),
        plan.cells[2].cell: CellOutcome(cell=plan.cells[2].cell, status=None, cause="stopped before it ended"),
    }
    lines = failure_lines(plan.cells, {plan.cells[1].cell: record}, ended)
    assert lines == [
        f"{plan.cells[0].cell}: killed: by SIGKILL\n    a/log.txt",
        f"{plan.cells[2].cell}: stopped before it ended",
        f"{plan.cells[3].cell}: wait: SLURM job 12_3",
    ]


def test_a_retraining_that_failed_is_named_though_there_is_a_result(plan: Plan):
    cell = plan.cells[1].cell
    finished = {cell: run_cell(plan.cells[1].config)}
    ended = {cell: CellOutcome(cell=cell, status=Status.killed, cause="by SIGKILL")}
    assert failure_lines(plan.cells[1:2], finished, ended) == [
        f"{cell}: killed: by SIGKILL; its earlier result is kept"
    ]
    ended = {cell: CellOutcome(cell=cell, status=Status.diverged)}
    assert failure_lines(plan.cells[1:2], finished, ended) == []


def test_the_table_has_a_column_for_each_knob_that_varies(make_plan: MakePlan):
    plan = make_plan("optimizer.weight_decay=0.001,0.01", "model=model_a", "model.pool_norm=2,inf")
    console = Console(width=100, record=True, markup=False)
    console.print(terminal_table(plan.cells, {}))
    lines = console.export_text().splitlines()
    (header,) = (line.split() for line in lines if line.split()[:1] == ["net"])
    assert header[:3] == ["net", "pool_norm", "weight_decay"]
    rows = sorted(line.split()[1:3] for line in lines if "model_a" in line)
    assert rows == [["2.0", "0.001"], ["2.0", "0.01"], ["inf", "0.001"], ["inf", "0.01"]]


def test_the_table_fits_on_a_terminal_of_80_columns(plan: Plan):
    console = Console(width=80, record=True, markup=False)
    console.print(terminal_table(plan.cells, {}))
    lines = console.export_text().splitlines()
    assert "data digits  lr 0.05  seed 0" in lines[0]
    (header,) = (line for line in lines if line.split()[:1] == ["net"])
    assert header.split() == ["net", "augment", "parameters", "test", "error", "seconds", "status"]
    assert sum(line.split()[:2] == ["convpool_cnn_c", "flip_shift"] for line in lines if line.strip()) == 1
    assert not any("…" in line for line in lines)
