from pathlib import Path

import pytest
import yaml
from golden import Golden
from support import ROOT

from strive.cells.metrics import Better
from strive.errors import ConfigError
from strive.results.conditions import Condition, make_conditions
from strive.results.load import load_sweep
from strive.results.table_choice import declared_table
from strive.sweeps.audit import sweep_files
from strive.sweeps.criterion import Criterion
from strive.sweeps.table_spec import TableSpec


@pytest.fixture
def sweep(tmp_path: Path) -> Golden:
    return Golden(tmp_path / "runs", file="", name="multirun-1a2b3c4d")


def table_of(sweep: Golden, sweeps: Path | None = None) -> TableSpec:
    return declared_table(load_sweep(sweep.name or sweep.file, [sweep.write()]), sweeps)


def test_a_sweep_has_the_table_of_its_file(tmp_path: Path):
    sweep = Golden(tmp_path / "runs", file="table3")
    sweep.cell({"model.base": "a"}, 10.0)
    sweep.cell({"model.base": "b"}, 10.0)
    found = table_of(sweep)
    assert sweep_files() == ROOT / "sweeps"
    assert (found.rows, found.baseline, found.paper) == (
        ("model.base", "model.variant"),
        {"model.variant": "base"},
        "table3",
    )


def test_a_multirun_without_a_file_gets_a_row_for_each_value_that_varies_but_the_seed(sweep: Golden):
    for base in ("a", "b"):
        for variant in ("base", "strided"):
            for seed in (0, 1):
                sweep.cell({"model.base": base, "model.variant": variant, "seed": seed}, 10.0)
    found = table_of(sweep)
    assert (found.rows, found.columns) == (("model.base", "model.variant"), ())
    assert found.baseline == {"model.variant": "base"}


def test_what_moves_with_another_knob_is_no_row_of_its_own(sweep: Golden):
    for decay, lr in ((0.001, 0.1), (0.01, 0.2)):
        sweep.cell({"optimizer.weight_decay": decay, "optimizer.lr": lr}, 10.0)
    assert len(table_of(sweep).rows) == 1


def test_a_multirun_over_learning_rates_selects_by_validation_error_where_there_is_one(sweep: Golden):
    for lr in (0.1, 0.2):
        sweep.cell({"optimizer.lr": lr, "data.val_images": 5000}, 10.0, val_error=9.0)
    found = table_of(sweep)
    assert (found.rows, found.select) == ((), {"optimizer.lr": Criterion("val_error", Better.lower)})


def test_a_multirun_over_learning_rates_without_validation_selects_nothing(sweep: Golden):
    for lr in (0.1, 0.2):
        sweep.cell({"optimizer.lr": lr}, 10.0)
    found = table_of(sweep)
    assert (found.rows, found.select) == (("optimizer.lr",), {})


def test_a_knob_that_the_command_line_varied_becomes_a_row(tmp_path: Path):
    sweep = Golden(tmp_path / "runs", file="table3", name="table3-1a2b3c4d")
    for decay in (0.001, 0.01):
        sweep.cell({"optimizer.weight_decay": decay}, 10.0)
    assert table_of(sweep).rows == ("model.base", "model.variant", "optimizer.weight_decay")


def test_a_sweep_whose_file_is_gone_has_the_table_of_a_multirun(tmp_path: Path):
    sweep = Golden(tmp_path / "runs", file="gone")
    for base in ("a", "b"):
        sweep.cell({"model.base": base}, 10.0)
    assert table_of(sweep).rows == ("model.base",)


MINE = """\
question: Which width?
grid: {model.width: [0.5, 1], model.pool_norm: [1, .inf]}
table: {rows: [model.width], columns: [model.pool_norm], baseline: {model.pool_norm: {1: .inf}}, margin: 0.25}
"""


def mine(tmp_path: Path, now: str = "") -> TableSpec:
    """The table of a plan of the file above, where the checkout's file of that name says `now`."""
    (tmp_path / "sweeps").mkdir()
    if now:
        (tmp_path / "sweeps" / "mine.yaml").write_text(now)
    sweep = Golden(tmp_path / "runs", file="mine", text=MINE)
    for width in (0.5, 1.0):
        for norm in (1.0, "inf"):
            sweep.cell({"model.variant": "base", "model.width": width, "model.pool_norm": norm}, 10.0)
    return table_of(sweep, tmp_path / "sweeps")


def test_the_table_of_a_file_that_lies_elsewhere_travels_in_its_plan(tmp_path: Path):
    found = mine(tmp_path)
    assert (found.rows, found.columns, found.margin) == (("model.width",), ("model.pool_norm",), 0.25)
    assert found.baseline == {"model.pool_norm": {1.0: "inf"}}


def test_a_table_that_was_corrected_in_the_file_needs_no_new_plan(tmp_path: Path):
    found = mine(tmp_path, MINE.replace("margin: 0.25", "margin: 1").replace("Which width?", "Which?  # better said"))
    assert (found.columns, found.margin) == (("model.pool_norm",), 1)


def test_a_file_of_the_same_name_that_declares_other_cells_lays_nothing_out(tmp_path: Path):
    other = "question: Which net?\ngrid: {model.base: [a, b]}\ntable: {rows: [], columns: [], margin: 1}\n"
    assert mine(tmp_path, other).margin == 0.25


def test_a_plan_whose_text_is_no_sweep_file_is_refused(tmp_path: Path):
    sweep = Golden(tmp_path / "runs", file="mine", text="{")
    sweep.cell({}, 10.0)
    with pytest.raises(ConfigError, match=r"^mine\.yaml, as the plan has it: not a YAML file"):
        table_of(sweep)


def arguments(tmp_path: Path, **table: object) -> tuple[TableSpec, list[Condition]]:
    """The table of a sweep over channels and p of a user's builder, and its conditions; error 10 + channels + p."""
    text = f"question: Is it?\ngrid: {{seed: [0]}}\n{yaml.safe_dump({'table': table})}" if table else ""
    sweep = Golden(tmp_path / "runs", file="mine" if table else "", name="mine", text=text)
    for channels in (4, 6):
        for p in (0.0, 1.0):
            for seed in (0, 1, 2):
                kwargs = {"channels": channels, "p": p, "sizes": [channels]}
                net = {"model.family": "custom", "model.builder": "nets:net", "model.kwargs": kwargs, "seed": seed}
                sweep.cell(net, 10 + channels + p + seed * seed * channels / 10)
    loaded = load_sweep("mine", [sweep.write()])
    found = declared_table(loaded, tmp_path / "sweeps")
    return found, make_conditions(loaded, found, mix=False)


def test_a_multirun_over_arguments_of_a_builder_has_a_row_for_each(tmp_path: Path):
    found, conditions = arguments(tmp_path)
    assert set(found.rows) == {"model.kwargs.channels", "model.kwargs.p"}
    assert [condition.label for condition in conditions] == [
        "channels 4, p 0",
        "channels 4, p 1",
        "channels 6, p 0",
        "channels 6, p 1",
    ]


@pytest.mark.parametrize(
    "baseline",
    [
        {"model.kwargs.channels": 4},
        {"model.kwargs.channels": {6: 4}},
        {"model.kwargs.channels": 4, "model.kwargs.p": 0},  # 0.0 in the cells: their builder takes a float
    ],
)
def test_a_baseline_is_an_argument_of_a_builder_in_whatever_spelling(tmp_path: Path, baseline: dict[str, object]):
    rows = ["model.kwargs.channels", "model.kwargs.p"]
    _, conditions = arguments(tmp_path, rows=rows, columns=[], baseline=baseline)
    by_label = {condition.label: condition for condition in conditions}
    assert by_label["channels 6, p 0"].baseline == "channels 4, p 0"
    found = by_label["channels 6, p 0"].difference
    # Means over seeds 0, 1, 2 of 10 + channels + seed² channels / 10: 16 + 5/3 x 0.6 and 14 + 5/3 x 0.4.
    assert found is not None
    assert found.mean == pytest.approx(2 + 5 / 3 * 0.2)


def test_a_baseline_may_be_a_list(tmp_path: Path):
    table = {"rows": ["model.kwargs.sizes"], "columns": ["model.kwargs.p"], "baseline": {"model.kwargs.sizes": [4]}}
    found, conditions = arguments(tmp_path, **table)
    # As the cells have it.
    assert found.baseline == {"model.kwargs.sizes": "[4]"}
    assert {condition.key["model.kwargs.sizes"] for condition in conditions} == {"[4]", "[6]"}


@pytest.mark.parametrize("content", ["table: {rows: 3}", "{", "- 3"])
def test_a_faulty_file_is_refused_with_its_name(tmp_path: Path, content: str):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text(content)
    sweep = Golden(tmp_path / "runs", file="mine")
    sweep.cell({}, 10.0)
    with pytest.raises(ConfigError, match=r"sweeps/mine\.yaml"):
        table_of(sweep, tmp_path / "sweeps")
