import dataclasses
from pathlib import Path

import pytest
from rich.console import Console
from support import MakeConfig, MakePlan, write_result

from allcnn.training_pack import run_cell
from strive.cells import records
from strive.cells.records import Status
from strive.cells.task import CellOutcome
from strive.format import without_common
from strive.sweeps.estimate import Estimate
from strive.sweeps.plan import Action, Plan, StoredChoice
from strive.sweeps.plan_text import counts_lines, failure_lines, hours_lines, plan_lines, remark_lines
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
    chosen = StoredChoice(
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
    assert lines[2] == "time: 2.5 h of one NVIDIA H200 (measured, 1 cell guessed from their multiply-adds)"
    for planned in plan.cells:
        net, *_, digits = planned.cell.split("-")
        (line,) = (line for line in lines if line.endswith(digits))
        assert line.split()[:2] == [net, f"augment={planned.config.augment.kind}"]
    assert [line for line in lines if not line.startswith("  ") and " (1)" in line] == [
        "train (1): no record",
        f"retry (1): {plan.cells[2].reason}",
        "wait for, trained elsewhere (1): SLURM job 12_3",
        "done (1)",
    ]
    assert "excluded: seed=3: seen enough" in lines
    assert "chosen from table3_lr: optimizer.lr=0.05 for model.base=a: val error 9%" in lines
    assert lines[-1] == "a note"


def test_a_large_plan_counts_its_cells_by_reason_and_lists_each_only_when_asked(make_plan: MakePlan):
    few, many = make_plan("seed=range(0,29)"), make_plan("seed=range(0,15)", "optimizer.lr=0.1,0.2")
    assert sum(planned.cell in line for planned in few.cells for line in plan_lines(few, [])) == 29
    lines = list(plan_lines(many, []))
    assert lines[0] == "15 seeds x 2 values of lr = 30 cells: 0 done already, 30 to train"
    assert "train (30): no record" in lines
    assert not any(planned.cell in line for planned in many.cells for line in lines)
    assert any("hydra.sweeper.verbose=true" in line for line in lines)
    everything = list(plan_lines(many, [], verbose=True))
    assert sum(planned.cell in line for planned in many.cells for line in everything) == 30


@pytest.mark.parametrize(
    ("arguments", "sweeps", "product"),
    [
        (("seed=0,1", "optimizer.lr=0.1,0.2,0.3"), None, "2 seeds x 3 values of lr"),
        (("optimizer.lr=0.1,0.2,0.3", "seed=0,1"), None, "3 values of lr x 2 seeds"),
        (("model=model_a,model_b", "augment=none,flip_shift"), None, "2 nets x 2 values of augment"),
        ((), {"zip": [{"optimizer.lr": [0.1, 0.2], "budget.epochs": [1, 2]}], "grid": {"seed": [0, 1]}},
         "2 values of lr x 2 seeds"),
        (("optimizer.lr=0.1,0.2", "model.width=0.1,0.2,0.5", "seed=0,1"), None,
         "2 values of lr x 3 of width x 2 seeds"),
        ((), {"arms": {"a": {"seed": 3}, "b": {"seed": 4}}, "grid": {"optimizer.lr": [0.1, 0.2]}},
         "2 arms x 2 values of lr"),
    ],
)  # fmt: skip
def test_the_first_line_says_what_the_cells_are_the_product_of(make_plan: MakePlan, arguments, sweeps, product):
    plan = make_plan(*arguments, sweeps={"mine": {"question": "?", **sweeps}} if sweeps else None)
    first = "".join(counts_lines(plan))
    assert first.startswith(f"{product} = ")
    assert f" = {len(plan.cells)} cells: 0 done already" in first


def test_cells_that_are_no_product_are_only_counted(make_plan: MakePlan):
    grid = {"seed": [0, 1], "optimizer.lr": [0.1, 0.2]}
    exclude = [{"when": {"seed": 0, "optimizer.lr": 0.2}, "reason": "seen"}]
    left_out = make_plan(sweeps={"mine": {"question": "?", "grid": grid, "exclude": exclude}})
    assert list(counts_lines(left_out)) == [
        "2 seeds x 2 values of lr, 1 excluded = 3 cells: 0 done already, 3 to train"
    ]
    odd = dataclasses.replace(left_out, excluded=[])
    assert list(counts_lines(odd)) == ["3 cells: 0 done already, 3 to train"]


def test_a_plan_fits_80_columns_whatever_varies(make_plan: MakePlan):
    more = ("optimizer.lr=0.1,0.123456789", "optimizer.weight_decay=0.001,0.00123456", "augment=none,flip_shift")
    plan = make_plan("model=convpool_cnn_c,all_cnn_a", *more, "label_smoothing=0.123456,0.2")
    failed = [
        dataclasses.replace(planned, action=Action.retry, reason="error: " + 20 * "long ") for planned in plan.cells
    ]
    for cells in (plan.cells[:20], failed[:20], plan.cells):
        lines = [line for line in plan_lines(dataclasses.replace(plan, cells=cells), []) if "time:" not in line]
        assert max(map(len, lines)) <= 80
    text = "\n".join(plan_lines(dataclasses.replace(plan, cells=plan.cells[:20]), []))
    assert all(planned.cell.rpartition("-")[2] in text for planned in plan.cells[:20])


def test_a_plan_says_how_long_it_takes_here_and_on_what_was_measured(plan: Plan):
    here = Estimate(device="some CPU, 1 thread", hours=6.0, measured=1, guessed=0, threads=1, here=True)
    assert list(hours_lines(plan, [here])) == ["time: 6.0 h of one some CPU, 1 thread (measured)"]
    # Two cells of one thread at a time take half as long, and so does one of two.
    for threads, hours in ((1, "3.0"), (2, "6.0")):
        (line,) = hours_lines(plan, [dataclasses.replace(here, threads=threads)], at_once=2)
        assert line == f"time: about {hours} h on this machine (measured)"
    # Cells of other numbers of threads that were measured here give this machine no second time.
    both = [dataclasses.replace(here, threads=2), here]
    there = dataclasses.replace(here, device="other CPU, 1 thread", here=False)
    assert list(hours_lines(plan, [*both, there], at_once=2)) == [
        "time: about 6.0 h on this machine (measured)",
        "time: 6.0 h of one other CPU, 1 thread (measured)",
    ]


def test_a_plan_without_a_measured_speed_says_so(plan: Plan):
    assert any("time: not known" in line for line in plan_lines(plan, []))


def test_the_counts_say_what_is_to_do(plan: Plan, make_plan: MakePlan):
    assert list(counts_lines(plan))[-1] == "4 cells: 1 done already, 1 to train, 1 to retry, 1 elsewhere"
    done = [dataclasses.replace(planned, action=Action.done) for planned in plan.cells]
    assert list(counts_lines(dataclasses.replace(plan, cells=done)))[-1].endswith(
        "4 cells: 4 done already, nothing to train"
    )
    one = dataclasses.replace(plan, cells=done[:1])
    assert list(counts_lines(one)) == ["1 cell: 1 done already, nothing to train"]


def test_diverged_cells_are_counted_apart_from_done_ones(plan: Plan):
    done, diverged = (
        dataclasses.replace(planned, action=Action.done, reason=reason)
        for planned, reason in zip(plan.cells[:2], ("done", "diverged: the training loss was not finite"), strict=True)
    )
    lines = list(counts_lines(dataclasses.replace(plan, cells=[done, diverged])))
    assert lines == ["2 values of augment =", "2 cells: 1 done already, 1 diverged already, nothing to train"]


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


def test_the_table_shortens_what_texts_have_in_common(make_plan: MakePlan):
    long = "x" * 30
    plan = make_plan("seed=0,1")
    names = [f"/data/sets/{long}/{name}.npz" for name in ("first", "second")]
    cells = [dataclasses.replace(planned, arm=name) for planned, name in zip(plan.cells, names, strict=True)]
    console = Console(width=80, record=True, markup=False)
    console.print(terminal_table(cells, {}))
    text = console.export_text()
    for value in ("…first…", "…second…"):
        assert text.count(value) == 1
    assert text.count("no result") == 2
    assert long not in text


@pytest.mark.parametrize(
    ("texts", "short"),
    [
        (["/a/b/run-1.pt", "/a/b/run-22.pt"], ["…1…", "…22…"]),
        (["model_a_long_name", "model_b"], ["…a_long_name", "…b"]),
        (["aaaaaaaaaaaaa", "aaaaaaaaaaaab"], ["aaaaaaaaaaaaa", "aaaaaaaaaaaab"]),
        (["same long text", "same long text"], ["same long text"] * 2),
        (["a/a/a/a/a/a", "a/a/a"], ["…a/a/a/a", "…a"]),
        (["short", "shirt"], ["short", "shirt"]),
    ],
)
def test_texts_without_what_they_have_in_common_differ_as_before(texts: list[str], short: list[str]):
    found = without_common(texts, 10)
    assert found == short
    assert len(set(found)) == len(set(texts))


def test_a_long_value_goes_on_in_a_second_line_rather_than_end_in_dots(make_plan: MakePlan):
    plan = make_plan("seed=0,1")
    cells = [dataclasses.replace(each, arm=f"{'abcdefghij' * 4}{number}") for number, each in enumerate(plan.cells)]
    console = Console(width=60, record=True, markup=False)
    console.print(terminal_table(cells, {}))
    text = console.export_text()
    assert "…" not in text
    assert text.count("j0 ") == text.count("j1 ") == 1


def test_the_table_fits_on_a_terminal_of_80_columns(plan: Plan):
    console = Console(width=80, record=True, markup=False)
    console.print(terminal_table(plan.cells, {}))
    lines = console.export_text().splitlines()
    assert "data digits  lr 0.05  seed 0" in lines[0]
    (header,) = (line for line in lines if line.split()[:1] == ["net"])
    assert header.split() == ["net", "augment", "parameters", "test", "error", "seconds", "status"]
    assert sum(line.split()[:2] == ["convpool_cnn_c", "flip_shift"] for line in lines if line.strip()) == 1
    assert not any("…" in line for line in lines)
