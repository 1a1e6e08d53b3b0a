"""Tables, figures and the answer of sweeps with a design, from records written by hand."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from golden import Golden
from handmade import texts
from scipy import stats  # type: ignore[import-untyped]

from strive.cells.ledger import Kind, LedgerEntry, add_to_ledger, read_ledger
from strive.cli.main import main
from strive.figures.effects import effect_plot
from strive.results.load import load_sweep
from strive.sweeps.sweep_file import read_sweep
from strive.tables.as_json import answer_json
from strive.tables.cited_numbers import collisions, numbers_of
from strive.tables.entries import p_text
from strive.tables.render import tidy_csv
from strive.tables.summary import SweepSummary, compared, summarise_sweep
from strive.tables.table import Table

COMPONENTS: dict[str, Any] = {
    "dropout": {"with": {"model.dropout_hidden": 0.4}, "without": {"model.dropout_hidden": 0}},
    "he": {"with": {"model.init": "he"}, "without": {"model.init": "gaussian"}},
    "width": {"with": {"model.width": 0.5}, "without": {"model.width": 1}},
}
KEYS = {"dropout": "d", "he": "h", "width": "w"}
Error = Callable[[frozenset[str], int], float]  # of the initials of the components that are there, and the seed


def made(
    tmp_path: Path,
    design: Any,
    error: Error,
    *,
    seeds: int = 3,
    components: Mapping[str, Any] = COMPONENTS,
    more: Mapping[str, Any] | None = None,
    points: tuple[Mapping[str, Any], ...] = ({},),
    skip: tuple[str, int] = ("", 0),
) -> SweepSummary:
    content = {"question": "Which parts?", "components": dict(components), "design": design} | dict(more or {})
    arms = read_sweep("golden", content | {"grid": {"seed": [0]}}).design.arms  # type: ignore[union-attr]
    sweep = Golden(tmp_path / "runs", text=yaml.safe_dump(content, sort_keys=False))
    for number, point in enumerate(points):
        for name, arm in arms.items():
            there = frozenset(component[0] for component, level in arm.levels.items() if level != "without")
            for seed in range(seeds):
                values = {**arm.values, **point, "seed": seed}
                own = None if skip == (name, seed) else error(there, seed) + 10 * number
                sweep.cell(values, own, arm=name)
    return summarise_sweep(load_sweep("golden", [sweep.write()]))


def table(summary: SweepSummary, name: str) -> Table:
    return next(each for each in summary.tables if each.name == name)


def column(found: Table, title: str) -> list[str]:
    (index,) = [number for number, each in enumerate(found.columns) if each.title.partition(",")[0] == title]
    return [row.entries[index].text for row in found.rows]


def noisy(there: frozenset[str], seed: int) -> float:
    """Dropout -4, he -1, width 0.5 (no matter of the others), and dropout with he another -2."""
    wobble = [0.02, -0.05, 0.03, 0.04][(seed + 3 * len(there) + ord(min(there, default="a"))) % 4]
    both = 2 if {"d", "h"} <= there else 0
    return 20 + seed + wobble - 4 * ("d" in there) - ("h" in there) + 0.5 * ("w" in there) - both


def test_leave_one_out_sorts_its_differences_from_all_by_size(tmp_path: Path):
    summary = made(tmp_path, "leave_one_out", noisy)
    found = table(summary, "differences")
    assert found.columns[0].title == "cells of"
    assert column(found, "cells of") == ["without dropout", "without he", "without width"]
    assert set(column(found, "baseline")) == {"all"}
    assert [float(text) for text in column(found, "difference")] == pytest.approx([6, 3, -0.5], abs=0.15)
    assert found.caption.startswith("leave_one_out of 3 components, sorted by size. ")
    assert "shown to be worse: without dropout, without he" in summary.answer
    assert not summary.components


def test_the_steps_of_a_ladder_stay_in_their_order_each_against_the_one_before(tmp_path: Path):
    summary = made(tmp_path, "cumulative", noisy)
    found = table(summary, "differences")
    assert list(zip(column(found, "cells of"), column(found, "baseline"), strict=True)) == [
        ("+ dropout", "none"),
        ("+ he", "+ dropout"),
        ("+ width", "+ he"),
    ]
    assert [float(text) for text in column(found, "difference")] == pytest.approx([-4, -3, 0.5], abs=0.15)
    assert found.caption.startswith("cumulative of 3 components: each step against the one before. ")
    assert "Compared with the step before" in summary.answer
    shown = [text for text in texts(effect_plot(summary)[0]) if text.startswith("Each step against the one before")]
    assert shown == ["Each step against the one before, from 'none': 21.01%, n = 3"]


def test_a_component_with_its_own_reference_is_compared_there(tmp_path: Path):
    rounding = {"with": {"model.pool_rounding": "pad"}, "reference": {"model.variant": "base"}}
    components = {"he": COMPONENTS["he"], "rounding": rounding}
    summary = made(tmp_path, "one_at_a_time", lambda there, seed: 20 + seed - len(there), components=components)
    found = table(summary, "differences")
    assert dict(zip(column(found, "cells of"), column(found, "baseline"), strict=True)) == {
        "he": "none",
        "rounding": "none (model.variant=base)",
    }


def test_the_file_s_margin_gives_verdicts_on_the_design_s_arms(tmp_path: Path):
    summary = made(tmp_path, "leave_one_out", noisy, more={"table": {"margin": 1.0}})
    found = table(summary, "differences")
    assert column(found, "verdict") == ["worse", "worse", "not worse"]


def test_a_grid_beside_the_components_has_the_design_at_each_of_its_points(tmp_path: Path):
    points = ({"optimizer.lr": 0.05}, {"optimizer.lr": 0.01})
    summary = made(tmp_path, "leave_one_out", noisy, points=points)
    found = table(summary, "differences")
    assert len(found.rows) == 6
    labels = column(found, "cells of")
    assert labels == [f"lr {lr}, without {name}" for lr in ("0.05", "0.01") for name in ("dropout", "he", "width")]
    assert [row.rule for row in found.rows] == [False, False, False, True, False, False]


def test_a_factorial_has_its_effects_sorted_by_size_and_the_analysis_of_variance(tmp_path: Path):
    summary = made(tmp_path, "factorial", noisy)
    assert [each.name for each in summary.tables] == ["errors", "components", "effects", "levels"]
    found = table(summary, "components")
    # Half of what one changes in the other is a quarter of 4: -2 with both is -1 on each main effect, -1 as x.
    expected = {"dropout": -5, "he": -2, "dropout x he": -1, "width": 0.5}
    labels = column(found, "effect")
    assert labels[:4] == list(expected)
    assert [float(text) for text in column(found, "difference")[:4]] == pytest.approx(list(expected.values()), abs=0.1)
    assert column(table(summary, "effects"), "effect")[:3] == ["dropout", "he", "width"]
    levels = table(summary, "levels")
    assert list(zip(column(levels, "factor"), column(levels, "value"), strict=True))[:2] == [
        ("dropout", "without"),
        ("dropout", "with"),
    ]
    assert summary.answer.startswith("Effects shown to differ from 0: dropout (-5.0")
    assert summary.answer.endswith("; undecided: 3 of 7 effects.")
    (figure,) = effect_plot(summary)
    marks = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "o"]
    assert [line.get_markerfacecolor() == "white" for line in marks] == [False] * 4 + [True] * 3
    assert marks[0].get_xdata()[0] == pytest.approx(-5, abs=0.1)


def test_the_arm_without_any_component_is_no_none_in_a_sentence(tmp_path: Path):
    summary = made(tmp_path, "one_at_a_time", lambda there, seed: 20.0 + seed * (1 + len(there)))
    assert summary.answer.startswith("Compared with 'none': ")


@pytest.mark.parametrize(("seeds", "state"), [(3, "decided"), (1, "undecided")])
def test_for_a_program_a_factorial_is_decided_when_the_effect_of_each_component_is(
    tmp_path: Path, seeds: int, state: str
):
    found = answer_json(made(tmp_path, "factorial", noisy, seeds=seeds), "table", None)
    assert (found["design"], found["state"]) == ("factorial", state)
    names = ["dropout", "he", "dropout x he", "width"]
    assert [each["effect"] for each in found["effects"]][:4] == names
    assert found["effects"][0]["estimate"] == pytest.approx(-5, abs=0.1)
    assert found["undecided"] == ([] if state == "decided" else ["dropout", "he", "width"])


def test_a_fraction_prints_the_aliases_and_the_resolution_beside_its_effects(tmp_path: Path):
    summary = made(tmp_path, {"fractional_factorial": {"resolution": "III"}}, noisy)
    found = table(summary, "components")
    assert dict(zip(column(found, "effect"), column(found, "aliases"), strict=True)) == {
        "dropout": "he x width",
        "he": "dropout x width",
        "width": "dropout x he",
    }
    assert "2^(3-1) of resolution III" in found.caption
    # In this half the effect of width has that of dropout with he added: 0.5 - 1.
    differences = dict(zip(column(found, "effect"), column(found, "difference"), strict=True))
    assert float(differences["width"]) == pytest.approx(-0.5, abs=0.1)
    assert "each added to its aliases: " in summary.answer
    looked = [entry for ref, entry in compared(summary).items() if ref.startswith("effect of ")]
    assert {entry.what for entry in looked} == {"effect of dropout", "effect of he", "effect of width"}
    assert all(min(entry.p_loss or 0.5, entry.p_no_loss or 0.5) < 0.001 for entry in looked)
    assert not [each for each in summary.tables if each.name == "effects"]
    assert any("width = dropout x he" in text for text in texts(effect_plot(summary)[0]))


def test_alternatives_are_levels_of_the_analysis_of_variance(tmp_path: Path):
    init = {
        "with": {"he": {"model.init": "he"}, "torch": {"model.init": "torch_default"}},
        "without": {"model.init": "gaussian"},
    }
    components = {"init": init, "dropout": COMPONENTS["dropout"]}
    summary = made(tmp_path, "factorial", noisy, components=components)
    assert not summary.components
    levels = table(summary, "levels")
    assert column(levels, "value") == ["without", "he", "torch", "without", "with"]


def test_one_hole_takes_the_effects_and_is_said(tmp_path: Path):
    summary = made(tmp_path, "factorial", noisy, skip=("dropout + he", 1))
    assert not summary.components
    assert "No effects of the components: they need every cell, and 1 of 8 arms has no mean." in summary.notes


def test_one_seed_has_effects_without_intervals(tmp_path: Path):
    summary = made(tmp_path, "factorial", noisy, seeds=1)
    found = table(summary, "components")
    assert set(column(found, "simultaneous interval")) == {"-"}
    assert "there is no spread to compare effects with" in found.caption
    assert summary.answer.startswith("All 7 effects are undecided")


def test_a_grid_beside_a_factorial_has_effects_at_each_of_its_points(tmp_path: Path):
    points = ({"optimizer.lr": 0.05}, {"optimizer.lr": 0.01})
    summary = made(tmp_path, "factorial", noisy, points=points)
    assert len(summary.components) == 2
    assert len(table(summary, "components").rows) == 14
    assert column(table(summary, "effects"), "effect")[:4] == ["dropout", "he", "width", "lr"]


def test_over_the_ledger_effects_are_corrected_for_every_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    made(tmp_path, "factorial", noisy)
    runs = str(tmp_path / "runs")

    def answered(*arguments: str) -> dict[str, Any]:
        main(["answer", "golden", "--runs", runs, "--json", *arguments])
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    alone = answered()
    m = alone["looked_at"]["comparisons"] + 100
    others = [
        LedgerEntry(id=str(number), kind=Kind.comparison, what="another", metric="m", p_no_loss=0.5, p_loss=0.5)
        for number in range(100)
    ]
    add_to_ledger(tmp_path / "runs", others)
    found = answered("--over-ledger")
    assert (found["corrected_for"], found["looked_at"]["comparisons"]) == ("ledger", m)
    before, after = ({each["effect"]: each for each in one["effects"]} for one in (alone, found))
    assert before.keys() == after.keys()
    assert before["width"]["decided"]
    # Bonferroni over m in place of the 7 effects; the residual of 8 arms and 3 seeds has 14 degrees of freedom.
    ratio = stats.t.isf(0.025 / m, 14) / stats.t.isf(0.025 / 7, 14)
    for effect, each in after.items():
        low, high = before[effect]["interval"]
        assert each["interval"][1] - each["interval"][0] == pytest.approx(ratio * (high - low))
        assert each["p"] >= before[effect]["p"]
        assert each["decided"] == (each["p"] <= 0.05)
        if not each["interval"][0] <= 0 <= each["interval"][1]:
            assert each["decided"]
    # Half of an effect's p counts on its own side.
    entry = next(each for each in read_ledger(tmp_path / "runs").values() if each.what == "effect of width")
    t = before["width"]["estimate"] / ((before["width"]["interval"][1] - before["width"]["interval"][0]) / 2)
    assert entry.p_loss == pytest.approx(stats.t.sf(t * stats.t.isf(0.025 / 7, 14), 14))
    assert entry.p_no_loss == pytest.approx(1 - (entry.p_loss or 0))


def test_effects_are_in_the_csv_and_in_the_numbers_of_a_text(tmp_path: Path):
    summary = made(tmp_path, {"fractional_factorial": {"resolution": "III"}}, noisy)
    (place,) = summary.components
    rows = {row["label"]: row for row in csv.DictReader(io.StringIO(tidy_csv(summary)))}
    arms = len(summary.conditions)
    assert [label for label in rows][arms:] == [f"effect of {each.label}" for each in place.effects]
    numbers = numbers_of(summary)
    for each in place.effects:
        row, key = rows[f"effect of {each.label}"], f"golden/effect_of_{each.label}/test_error"
        assert float(row["difference_mean"]) == each.found.estimate
        assert (row["aliases"], row["n"], row["mean"]) == (each.aliases, "", "")
        low, high = each.found.simultaneous
        assert (float(row["simultaneous_low"]), float(row["simultaneous_high"])) == (low, high)
        assert numbers[f"{key}/diff"].text == f"{each.found.estimate:+.2f}"
        assert numbers[f"{key}/diff_high"].text == f"{high:+.2f}"
        assert numbers[f"{key}/p"].text == p_text(each.p or 0.0)
        assert numbers[f"{key}/aliases"].text == each.aliases
    assert not collisions(numbers.values())
