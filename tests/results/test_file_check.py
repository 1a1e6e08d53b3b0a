from collections.abc import Sequence
from pathlib import Path

import pytest
from golden import Golden

from strive.cells.metrics import Better
from strive.results.file_check import file_check
from strive.results.load import load_sweep
from strive.sweeps.choice import best_of
from strive.sweeps.criterion import Criterion
from strive.sweeps.plan import StoredChoice

FILE = """
question: Which arm?
fixed: {budget.epochs: 2}
grid: {seed: "range(0,2)"}
arms:
  plain: {}
  slow: {optimizer.lr: 0.01}
  fast: {optimizer.lr: 0.1}
"""
ARMS = {"plain": 0.05, "slow": 0.01, "fast": 0.1}


def planned(sweeps: Path, text: str, arms: dict[str, float], seeds: Sequence[int] = (0, 1), kept: str = "") -> Golden:
    sweeps.mkdir(exist_ok=True)
    (sweeps / "golden.yaml").write_text(text)
    sweep = Golden(sweeps.parent / "runs", **({"text": kept} if kept else {}))
    for arm, rate in arms.items():
        for seed in seeds:
            sweep.cell({"optimizer.lr": rate, "seed": seed, "budget.epochs": 2}, 10.0, arm=arm)
    return sweep


def problems(sweep: Golden, sweeps: Path) -> list[str]:
    return list(file_check(load_sweep("golden", [sweep.write()]), sweeps).contradictions)


def test_a_plan_that_its_sweep_file_declares_has_no_problem(tmp_path: Path):
    assert problems(planned(tmp_path / "sweeps", FILE, ARMS), tmp_path / "sweeps") == []


@pytest.mark.parametrize(
    ("arms", "seeds", "wanted"),
    [
        (
            {"plain": 0.05, "slow": 0.1, "fast": 0.01},
            (0, 1),
            [
                "sweeps/golden.yaml says optimizer.lr=0.01 of arm slow, plan.json 0.1 of 2 cells",
                "sweeps/golden.yaml says optimizer.lr=0.1 of arm fast, plan.json 0.01 of 2 cells",
            ],
        ),
        ({"plain": 0.05, "slow": 0.01}, (0, 1), ["sweeps/golden.yaml has arm fast, of which plan.json has no cell"]),
        (
            ARMS | {"own": 0.2},
            (0, 1),
            ["plan.json has 2 cells of arm own, sweeps/golden.yaml has no such arm"],
        ),
        (ARMS, (0,), ["seed: plan.json has 0 and sweeps/golden.yaml 0, 1"]),
        (ARMS, (0, 1, 2), ["seed: plan.json has 0, 1, 2 and sweeps/golden.yaml 0, 1"]),
    ],
)
def test_where_plan_and_file_differ_both_are_named(
    arms: dict[str, float], seeds: Sequence[int], wanted: list[str], tmp_path: Path
):
    assert problems(planned(tmp_path / "sweeps", FILE, arms, seeds), tmp_path / "sweeps") == wanted


def test_a_sweep_file_that_was_edited_after_the_plan_is_named_with_the_difference(tmp_path: Path):
    edited = FILE.replace("range(0,2)", "range(0,5)").replace("0.01", "0.02").replace("Which", "What")
    assert problems(planned(tmp_path / "sweeps", edited, ARMS, kept=FILE), tmp_path / "sweeps") == [
        "sweeps/golden.yaml has changed since the plan: grid: seed was range(0,2), is range(0,5); arms: slow was"
        " {'optimizer.lr': 0.01}, is {'optimizer.lr': 0.02}"
    ]


@pytest.mark.parametrize(("value", "mean"), [(0.05, 9.0), (0.1, 9.0), (0.05, 8.0)])
def test_a_value_is_chosen_again_from_the_records_that_chose_it(value: float, mean: float, tmp_path: Path):
    sweeps = tmp_path / "sweeps"
    rates = Golden(tmp_path / "runs", file="rates")
    for rate, error in ((0.05, 9.0), (0.1, 12.0)):
        rates.cell({"optimizer.lr": rate, "data.val_images": 100}, 1.0, val_error=error)
    rates.write()
    choice = best_of(Criterion("val_error", Better.lower), [(0.05, [mean / 100]), (0.1, [0.12])], [])
    chosen = StoredChoice(key="optimizer.lr", sweeps=["rates"], per={}, by="val_error", value=value, why=choice.why)
    sweeps.mkdir()
    (sweeps / "golden.yaml").write_text(
        "question: Which?\ngrid: {seed: [0]}\nchoose: {optimizer.lr: {sweep: rates, by: val_error, per: []}}\n"
    )
    sweep = Golden(tmp_path / "runs", choices=[chosen])
    sweep.cell({"optimizer.lr": value, "seed": 0}, 10.0)
    found = problems(sweep, sweeps)
    if (value, mean) == (0.05, 9.0):
        assert found == []
    else:
        (problem,) = found
        assert problem.startswith(f"plan.json says optimizer.lr={value} for all cells (val error {mean:.2f}% ")
        assert "but the records of rates say 0.05 (val error 9.00% (1 seed), beats 0.1: 12.00%)" in problem
