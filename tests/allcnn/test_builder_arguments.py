"""Arguments of a user's builder through a plan: one training has one id, and each argument is a key like any other."""

import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from study_records import study_record
from support import SMALL, MakeConfig, MakePlan

from allcnn.builder_arguments import as_called, filled_in
from allcnn.config import Config
from strive.app import in_use
from strive.cells import records
from strive.cells.records import as_recorded
from strive.cells.reproduce import config_again
from strive.config import identity
from strive.errors import ConfigError
from strive.status.cell_status import StatusReader
from strive.sweeps.plan import Action, Plan, StoredPlan, write_plan
from strive.sweeps.plan_text import plan_lines
from strive.sweeps.terminal_table import terminal_table

BUILDER = """\
from torch import nn

def net(num_classes: int, image_size: int, channels: int = 4, p: float = 0) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, channels, image_size), nn.Flatten(), nn.Linear(channels, num_classes))

def shaped(num_classes, image_size, sizes=(3, 5), p: float = float("inf")): ...
"""
CUSTOM = ("model=extra/custom", "model.builder=argument_nets:net", "model.width=1")
FIXED = {"model": "extra/custom", "model.builder": "argument_nets:net"}
DEFAULTS = {"channels": 4, "p": 0.0}


@pytest.fixture(autouse=True)
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "argument_nets.py").write_text(BUILDER)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("argument_nets", None)


@pytest.fixture
def planned(make_plan: MakePlan) -> Callable[..., Plan]:
    def plan(**sections: Any) -> Plan:
        return make_plan(CUSTOM[2], sweeps={"mine": {"question": "Does it matter?", "fixed": FIXED, **sections}})

    return plan


def kwargs(plan: Plan) -> list[dict[str, Any]]:
    return [each.config.model.kwargs for each in plan.cells]


def _write(config: Config, test_error: float = 0.5) -> None:
    record = study_record(config, test_error=test_error)
    records.write_record(Path(config.runs), record)


@pytest.mark.parametrize(
    "spelt", ["+model.kwargs.channels=4", "+model.kwargs.p=0,0.0", "+model.kwargs={p: 0}", "seed=0"]
)
def test_one_training_is_one_cell_however_its_arguments_are_given(make_plan: MakePlan, spelt: str):
    plain, given = make_plan(*CUSTOM), make_plan(*CUSTOM, spelt)
    assert [each.cell for each in given.cells] == [each.cell for each in plain.cells]
    assert kwargs(given) == [DEFAULTS]


def test_a_single_cell_and_a_sweep_agree_on_the_id(make_plan: MakePlan, make_config: MakeConfig):
    (cell,) = make_plan(*CUSTOM, "+model.kwargs.p=1").cells
    alone = as_recorded(make_config(*SMALL, *CUSTOM, "+model.kwargs.p=1.0"))
    assert identity.cell_id(alone) == cell.cell
    # What a worker, or reproduce, makes of the frozen config.
    assert identity.cell_id(in_use().config_of(in_use().flat(cell.config))) == cell.cell


def test_two_spellings_of_one_argument_are_twins_in_a_sweep_file(planned: Callable[..., Plan]):
    with pytest.raises(ConfigError, match="'arm none' and 'arm zero' are one cell"):
        planned(arms={"none": {}, "zero": {"model.kwargs.p": 0}})


@pytest.mark.parametrize(("given", "got"), [("p=a", "p='a'"), ("channels=4.5", "channels=4.5"), ("p=null", "p=None")])
def test_an_argument_that_does_not_fit_is_refused_before_anything_trains(make_plan: MakePlan, given: str, got: str):
    with pytest.raises(ConfigError, match=rf"model\.builder=argument_nets:net: it takes .*, got {got}"):
        make_plan(*CUSTOM, f"+model.kwargs.{given}")


def test_nets_without_a_builder_keep_their_ids(make_config: MakeConfig):
    config = make_config()
    assert filled_in(config) is config
    assert as_recorded(config) is config


def test_a_record_from_before_arguments_were_filled_in_counts_as_done(make_plan: MakePlan, make_config: MakeConfig):
    old = make_config(*SMALL, *CUSTOM)
    assert old.model.kwargs == {}
    _write(old)
    (cell,) = make_plan(*CUSTOM).cells
    assert (cell.cell, cell.action) == (identity.cell_id(old), Action.done)
    # Other arguments are another cell, and a record of the full name counts before the old one.
    assert make_plan(*CUSTOM, "+model.kwargs.p=1").cells[0].action is Action.train
    _write(filled_in(old))
    assert make_plan(*CUSTOM).cells[0].cell == identity.cell_id(filled_in(old)) != identity.cell_id(old)


def test_an_older_record_is_reproduced_as_the_cell_that_it_is(make_config: MakeConfig, tmp_path: Path):
    for config in (old := make_config(*SMALL, *CUSTOM), filled_in(old)):
        _write(config)
        record = records.record_of(config)
        assert record is not None
        assert identity.cell_id(config_again(record, tmp_path / "again", {})) == record.cell


def test_the_plan_says_what_tells_the_cells_of_one_net_apart(make_plan: MakePlan):
    plan = make_plan(*CUSTOM, "+model.kwargs.channels=3,5")
    lines = [line for line in plan_lines(plan, []) if "net-digits" in line]
    assert lines == [f"  channels={channels}  {cell.cell}" for cell, channels in zip(plan.cells, (3, 5), strict=True)]


def test_a_frozen_cell_gives_its_builder_the_tuples_and_the_infinity_that_json_has_not(make_config: MakeConfig):
    config = as_recorded(make_config(*SMALL, *CUSTOM, "model.builder=argument_nets:shaped"))
    assert config.model.kwargs == {"sizes": (3, 5), "p": math.inf}
    frozen = in_use().config_of(json.loads(json.dumps(in_use().flat(config))))
    assert frozen.model.kwargs == {"sizes": [3, 5], "p": "inf"}
    assert as_called(frozen).model.kwargs == config.model.kwargs
    assert identity.cell_id(frozen) == identity.cell_id(as_called(frozen)) == identity.cell_id(config)


def test_the_terminals_table_has_a_column_for_each_argument_that_varies(make_plan: MakePlan):
    plan = make_plan(*CUSTOM, "+model.kwargs.channels=3,5")
    titles = [str(column.header) for column in terminal_table(plan.cells, {}).columns]
    assert titles == ["net", "channels", "parameters", "test error", "seconds", "status"]


def test_a_plan_is_read_without_the_users_code(make_plan: MakePlan, tmp_path: Path):
    plan = make_plan(*CUSTOM, "+model.kwargs.channels=4,6")
    write_plan(plan)
    (tmp_path / "argument_nets.py").unlink()
    del sys.modules["argument_nets"]
    stored = StoredPlan.read(plan.folder)
    assert [each.cell for each in StatusReader(plan.runs).look(stored)] == [each.cell for each in plan.cells]
    assert stored.varying == ["model.kwargs.channels"]
    assert "argument_nets" not in sys.modules


def test_arguments_are_factors_in_every_section(planned: Callable[..., Plan]):
    assert kwargs(planned(grid={"model.kwargs.channels": [3, 5]})) == [DEFAULTS | {"channels": n} for n in (3, 5)]
    block = {"model.kwargs.channels": [3, 5], "model.kwargs.p": [0, 1]}
    assert kwargs(planned(zip=[block])) == [{"channels": 3, "p": 0.0}, {"channels": 5, "p": 1.0}]
    assert kwargs(planned(arms={"a": {}, "b": {"model.kwargs.p": 1}})) == [DEFAULTS, DEFAULTS | {"p": 1.0}]
    assert kwargs(planned(cells=[{"model.kwargs.channels": "range(2,4)"}])) == [
        DEFAULTS | {"channels": n} for n in (2, 3)
    ]


@pytest.mark.parametrize(
    "when",
    [
        {"model.kwargs.p": 0, "model.kwargs.channels": 3},  # the default of one that no cell gives
        {"model.kwargs.channels": [2, 3]},
        {"model.kwargs": {"channels": 3}},
    ],
)
def test_an_exclusion_names_arguments(planned: Callable[..., Plan], when: dict[str, Any]):
    plan = planned(grid={"model.kwargs.channels": [3, 5]}, exclude=[{"when": when, "reason": "too narrow"}])
    assert kwargs(plan) == [DEFAULTS | {"channels": 5}]


@pytest.mark.parametrize("when", [{"model.kwargs.chanels": 3}, {"model.kwargs.p": False}, {"model.kwargs.p": "0"}])
def test_an_exclusion_of_an_argument_that_no_cell_has_is_an_error(planned: Callable[..., Plan], when: dict[str, Any]):
    with pytest.raises(ConfigError, match="leaves no cell out"):
        planned(grid={"model.kwargs.channels": [3, 5]}, exclude=[{"when": when, "reason": "too narrow"}])


def test_a_table_that_names_an_argument_which_no_cell_has_is_refused(planned: Callable[..., Plan]):
    grid = {"model.kwargs.channels": [3, 5]}
    planned(grid=grid, table={"rows": ["model.kwargs.channels"], "columns": ["model.kwargs.p"]})
    with pytest.raises(
        ConfigError, match=r"table: no cell has model\.kwargs\.q; arguments here: model\.kwargs\.channels"
    ):
        planned(grid=grid, table={"rows": ["model.kwargs.q"], "columns": []})


def test_an_argument_is_chosen_from_another_sweep_and_for_the_value_of_another(
    make_plan: MakePlan, make_config: MakeConfig
):
    grid = {"model.kwargs.channels": [3, 5], "model.kwargs.p": [0, 1]}
    choose = {"model.kwargs.channels": {"sweep": "parent", "by": "test_error", "per": ["model.kwargs.p"]}}
    head = {"question": "Does it matter?", "fixed": FIXED}
    sweeps = {
        "child": {**head, "grid": {"model.kwargs.p": [0, 1], "seed": [7]}, "choose": choose},
        "parent": {**head, "grid": grid},
    }
    errors = {(3, 0.0): 0.1, (5, 0.0): 0.2, (3, 1.0): 0.4, (5, 1.0): 0.3}
    for cell in make_plan(CUSTOM[2], sweeps={"parent": sweeps["parent"]}).cells:
        _write(cell.config, errors[cell.config.model.kwargs["channels"], cell.config.model.kwargs["p"]])
    plan = make_plan(CUSTOM[2], sweeps=sweeps)
    assert kwargs(plan) == [{"channels": 3, "p": 0.0}, {"channels": 5, "p": 1.0}]
    assert [each.per for each in plan.choices] == [{"model.kwargs.p": 0.0}, {"model.kwargs.p": 1.0}]
