import json
from pathlib import Path

import pytest
import torch
from study_records import study_record
from support import MakeConfig, MakePlan

from allcnn.app import APP
from allcnn.config import Config
from allcnn.training_pack import run_cell
from strive.app import CellFacts, in_use
from strive.cells import records
from strive.cells.task import task_of
from strive.code.hash import Code
from strive.config import identity
from strive.errors import ConfigError, RecordError
from strive.launch.launch_folder import write_launch
from strive.sweeps import planner
from strive.sweeps.audit import audit_plan
from strive.sweeps.choice import MissingParentsError
from strive.sweeps.plan import Action, Plan, Retrain, StoredPlan, write_plan


def test_cells_keep_their_order_and_a_repeated_one_comes_once(make_plan: MakePlan):
    plan = make_plan("seed=1,0,1", "optimizer.lr=0.05,5e-2")
    assert [planned.config.seed for planned in plan.cells] == [1, 0]


def test_every_wrong_cell_is_listed_with_its_overrides(make_plan: MakePlan, tmp_path: Path):
    with pytest.raises(ConfigError) as caught:
        make_plan("seed=0,-1", "data.val_images=0,1397", "budget.epochs=2,0")
    text = str(caught.value)
    assert text.startswith("7 of 8 cells cannot train; nothing was started")
    assert "seed must be 0 or more, got -1" in text
    assert "budget.epochs must be 1 or more, got 0" in text
    assert "data.val_images=1397 leaves no training images" in text
    assert "data.val_images=1397 budget.epochs=2" in text
    assert not (tmp_path / "runs").exists()


def test_a_cell_that_hydra_cannot_compose_is_listed_with_the_others(make_plan: MakePlan):
    with pytest.raises(ConfigError) as caught:
        make_plan("model=model_a,resnet", "seed=-1")
    assert "there is no model=resnet" in str(caught.value)
    assert "seed must be 0 or more" in str(caught.value)


def test_the_same_net_on_the_same_data_is_built_once(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch):
    built: list[Config] = []
    original = planner.check_cell
    monkeypatch.setattr(planner, "check_cell", lambda config: built.append(config) or original(config))
    make_plan("seed=0,1", "optimizer.lr=0.1,0.2")
    assert len(built) == 1
    make_plan("model=model_a,model_b", "preprocess=standardize,gcn_zca")
    assert len(built) == 5


def test_a_device_that_is_not_there_is_refused(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"trainer\.device=cuda, but torch sees no CUDA GPU"):
        make_plan("trainer.device=cuda")


@pytest.mark.parametrize("key", ["runs", "data.root"])
def test_a_grid_over_what_is_not_in_the_id_is_refused(make_plan: MakePlan, key: str, tmp_path: Path):
    with pytest.raises(ConfigError, match="give one and the same cell all_cnn_c-digits"):
        make_plan(f"{key}={tmp_path}/one,{tmp_path}/two")


def test_a_fault_of_the_program_is_not_taken_for_the_users(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch):
    def broken(config: Config) -> CellFacts:
        raise RuntimeError("bug")

    monkeypatch.setattr(planner, "check_cell", broken)
    with pytest.raises(RuntimeError, match="bug"):
        make_plan()


def test_checking_a_grid_leaves_torchs_generator_alone(make_plan: MakePlan):
    before = torch.get_rng_state()
    make_plan("model=model_a,all_cnn_c")
    assert torch.get_rng_state().equal(before)


def test_a_damaged_record_stops_the_plan_and_is_named(make_plan: MakePlan, make_small: MakeConfig):
    record = run_cell(make_small())
    path = records.record_path(Path(make_small().runs), record.cell)
    path.write_text("{")
    with pytest.raises(ConfigError, match="not a whole JSON file"):
        make_plan("seed=0,1")
    assert path.read_text() == "{"


def test_done_cells_of_other_code_are_named_and_left_unless_asked(
    make_plan: MakePlan, make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch
):
    record = run_cell(make_small())
    assert make_plan().notes == []
    monkeypatch.setattr(APP, "code_of", lambda flat, files=None: Code("0123456789", {}))
    plan = make_plan("seed=0,1")
    assert [planned.action for planned in plan.cells] == [Action.done, Action.train]
    assert record.provenance.code_hash in plan.notes[0]
    assert record.cell in plan.notes[1]
    (retrained,) = make_plan(retrain=Retrain.stale).cells
    assert retrained.action is Action.retrain
    assert retrained.replaces == records.file_hash(records.record_path(Path(make_small().runs), record.cell))


def test_a_plan_has_the_files_name_and_a_changed_sweep_another(make_plan: MakePlan):
    sweeps: dict[str, dict[str, object]] = {"mine": {"question": "Which seed?", "grid": {"seed": [0, 1]}}}
    # The fixture's own overrides make it a changed sweep.
    name = make_plan(sweeps=sweeps).sweep
    assert name.startswith("mine-")
    assert make_plan("trainer.lease_seconds=5", sweeps=sweeps).sweep == name
    assert make_plan("optimizer.lr=0.1", sweeps=sweeps).sweep != name
    assert make_plan().sweep.startswith("multirun-")


def test_a_sweep_files_cells_are_those_of_its_grid_arms_and_exclusions(make_plan: MakePlan):
    content: dict[str, object] = {
        "question": "Does the initialisation matter?",
        "grid": {"seed": "range(0,2)"},
        "arms": {"gaussian": {}, "he": {"model.init": "he"}},
        "cells": [{"model": "model_a", "seed": 7}],
        "exclude": [{"when": {"model.init": "he", "seed": 1}, "reason": "seen enough"}],
    }
    plan = make_plan(sweeps={"mine": content})
    assert plan.question == "Does the initialisation matter?"
    assert [(each.arm, each.config.model.init.value, each.config.seed) for each in plan.cells] == [
        ("gaussian", "gaussian", 0),
        ("gaussian", "gaussian", 1),
        ("he", "he", 0),
        ("", "gaussian", 7),
    ]
    ((label, reason),) = plan.excluded
    assert "seed=1" in label
    assert reason == "seen enough"


def test_two_arms_that_are_one_cell_are_refused(make_plan: MakePlan):
    content: dict[str, object] = {
        "question": "?",
        "arms": {"default": {}, "the same": {"optimizer.momentum": 0.9}},
    }
    with pytest.raises(ConfigError, match="are one cell, all_cnn_c-digits"):
        make_plan(sweeps={"mine": content})


def _parents() -> dict[str, dict[str, object]]:
    choose = {"optimizer.lr": {"sweep": "lr", "by": "val_error", "per": ["model.base"]}}
    return {
        "child": {"question": "?", "fixed": {"data.val_images": 0}, "grid": {"seed": [5]}, "choose": choose},
        "lr": {"question": "?", "fixed": {"data.val_images": 400}, "grid": {"optimizer.lr": [0.02, 0.3]}},
    }


def _train(plan: Plan) -> None:
    for planned in plan.cells:
        run_cell(planned.config)


def _rewrite(config: Config, val_error: float) -> None:
    path = records.record_path(Path(config.runs), identity.cell_id(config))
    content = json.loads(path.read_text())
    content["metrics"]["val_error"] = val_error
    path.write_text(json.dumps(content))


def test_a_value_comes_from_the_parents_records_and_a_missing_parent_is_an_error(make_plan: MakePlan):
    sweeps = _parents()
    with pytest.raises(ConfigError, match=r"-m sweeps=lr(.|\n)*hydra\.sweeper\.parents=true"):
        make_plan(sweeps=sweeps)
    parent = make_plan(sweeps={"lr": sweeps["lr"]})
    _train(parent)
    for planned, error in zip(parent.cells, (0.5, 0.25), strict=True):
        _rewrite(planned.config, error)
    plan = make_plan(sweeps=sweeps)
    assert [planned.config.optimizer.lr for planned in plan.cells] == [0.3]
    (chosen,) = plan.choices
    assert (chosen.key, chosen.value, chosen.per, chosen.sweeps) == ("optimizer.lr", 0.3, {"model.base": "c"}, ["lr"])
    # What the command line says needs no parent.
    assert make_plan("optimizer.lr=0.7", sweeps=sweeps).cells[0].config.optimizer.lr == 0.7


def test_a_plan_says_when_new_parent_records_change_a_choice(make_plan: MakePlan):
    sweeps = _parents()
    parent = make_plan(sweeps={"lr": sweeps["lr"]})
    _train(parent)
    for planned, error in zip(parent.cells, (0.5, 0.25), strict=True):
        _rewrite(planned.config, error)
    first = make_plan(sweeps=sweeps)
    assert first.notes == []
    write_plan(first)
    assert make_plan(sweeps=sweeps).notes == []
    _rewrite(parent.cells[1].config, 0.75)
    (note,) = make_plan(sweeps=sweeps).notes
    assert "optimizer.lr for model.base=c was 0.3 in the last plan and is 0.02 now" in note


def test_a_key_that_came_later_is_chosen_planned_and_read_like_any_other(make_plan: MakePlan):
    optimizers = {"optimizer": ["sgd_paper", "adamw"]}
    choose = {"augment.mixup": {"sweep": "mix", "by": "val_error", "per": ["optimizer.kind"]}}
    sweeps: dict[str, dict[str, object]] = {
        "child": {"question": "?", "fixed": {"data.val_images": 0}, "grid": optimizers, "choose": choose},
        "mix": {"question": "?", "fixed": {"data.val_images": 400}, "grid": optimizers | {"augment.mixup": [0, 0.2]}},
    }
    parents = make_plan(sweeps={"mix": sweeps["mix"]}).cells
    for planned, error in zip(parents, (0.1, 0.2, 0.2, 0.1), strict=True):
        record = study_record(planned.config, val_error=error, test_error=error)
        records.write_record(Path(planned.config.runs), record)
    plan = make_plan(sweeps=sweeps)
    found = [(each.config.optimizer.kind.value, each.config.augment.mixup) for each in plan.cells]
    assert found == [("sgd", 0.0), ("adamw", 0.2)]
    write_plan(plan)
    stored = StoredPlan.read(plan.folder)
    assert stored.decides("optimizer.kind")
    for planned, each in zip(plan.cells, stored.cells, strict=True):
        assert stored.science(each) == in_use().science(planned.config)
    assert not audit_plan(stored, plan.sweep, [Path(plan.cells[0].config.runs)]).cells


def test_a_stored_plan_gives_back_every_cells_config_without_composing(make_plan: MakePlan):
    plan = make_plan("seed=0,1", "optimizer.lr=0.1,0.2", "model=model_a,all_cnn_c")
    write_plan(plan)
    stored = StoredPlan.read(plan.folder)
    assert [each.cell for each in stored.cells] == [planned.cell for planned in plan.cells]
    for planned, each in zip(plan.cells, stored.cells, strict=True):
        assert stored.config(each) == in_use().flat(planned.config)
    assert set(stored.cells[0].factors) == {"seed", "optimizer.lr", "model.base", "model.variant"}


def test_a_plan_keeps_the_text_of_its_sweep_file(make_plan: MakePlan):
    text = "question: Which rate?\ngrid: {optimizer.lr: [0.1]}  # so typed\ntable: {rows: [], columns: []}\n"
    plan = make_plan(sweeps={"mine": text})
    write_plan(plan)
    assert StoredPlan.read(plan.folder).text == text


def test_a_plan_from_before_it_kept_the_text_is_still_read(make_plan: MakePlan):
    plan = make_plan()
    path = write_plan(plan)
    content = json.loads(path.read_text())
    del content["text"]
    path.write_text(json.dumps(content | {"schema": 2}))
    stored = StoredPlan.read(plan.folder)
    assert (stored.text, [cell.cell for cell in stored.cells]) == ("", [planned.cell for planned in plan.cells])


@pytest.mark.parametrize("content", ["", "{}", '{"schema": 99}', "[]"])
def test_a_damaged_plan_is_named(make_plan: MakePlan, content: str):
    plan = make_plan()
    path = write_plan(plan)
    path.write_text(content)
    with pytest.raises(RecordError, match=r"plan\.json: not a plan of this version"):
        StoredPlan.read(plan.folder)


def test_a_parent_that_chooses_itself_is_resolved_first_and_a_circle_is_refused(make_plan: MakePlan):
    sweeps = _parents()
    choose = {"optimizer.momentum": {"sweep": "child", "by": "val_error", "per": ["model.base"]}}
    top: dict[str, object] = {
        "question": "?",
        "fixed": {"data.val_images": 400},
        "grid": {"seed": [9]},
        "choose": choose,
    }
    sweeps["child"]["fixed"] = {"data.val_images": 400}
    sweeps = {"top": top, **sweeps}
    with pytest.raises(MissingParentsError, match="sweeps=lr"):
        make_plan(sweeps=sweeps)
    parent = make_plan(sweeps={"lr": sweeps["lr"]})
    _train(parent)
    for planned, error in zip(parent.cells, (0.5, 0.25), strict=True):
        _rewrite(planned.config, error)
    with pytest.raises(MissingParentsError, match="sweeps=child"):
        make_plan(sweeps=sweeps)
    child = make_plan(sweeps={name: sweeps[name] for name in ("child", "lr")})
    assert [planned.config.optimizer.lr for planned in child.cells] == [0.3]
    _train(child)
    assert make_plan(sweeps=sweeps).choices[0].value == 0.9
    sweeps["lr"]["choose"] = {"optimizer.weight_decay": {"sweep": "top", "by": "val_error", "per": ["model.base"]}}
    with pytest.raises(ConfigError, match="choose in a circle: top from child from lr from top"):
        make_plan(sweeps=sweeps)


def test_an_interrupted_retraining_of_all_goes_on_and_a_finished_one_starts_anew(make_plan: MakePlan):
    _train(make_plan("seed=0,1"))
    plan = make_plan("seed=0,1", retrain=Retrain.all)
    assert [planned.action for planned in plan.cells] == [Action.retrain] * 2
    write_launch(plan.folder, [task_of(planned.config, replaces=planned.replaces) for planned in plan.cells], "local")
    run_cell(plan.cells[0].config, replaces=plan.cells[0].replaces)
    again = make_plan("seed=0,1", retrain=Retrain.all)
    assert [planned.action for planned in again.cells] == [Action.done, Action.retrain]
    run_cell(plan.cells[1].config, replaces=plan.cells[1].replaces)
    anew = make_plan("seed=0,1", retrain=Retrain.all)
    assert [planned.action for planned in anew.cells] == [Action.retrain] * 2
