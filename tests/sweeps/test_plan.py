import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import MakeConfig

from allcnn.config import Config
from allcnn.training import write_state
from allcnn.training_pack import run_cell
from strive.cells import records
from strive.cells.lease import take_claim
from strive.code.hash import Code
from strive.config import identity
from strive.config.keys import knobs
from strive.sweeps.plan import Action, Planned, Retrain, decide_action, names_in, plan_name

Look = Callable[..., Planned]


@pytest.fixture
def look() -> Look:
    def look(config: Config, retrain: Retrain = Retrain.failed, **more: Any) -> Planned:
        arguments: dict[str, Any] = {"code": "here", "queued": {}, "folders": names_in(Path(config.runs))} | more
        now = Code(arguments["code"], {})
        return decide_action(config, retrain=retrain, code_now=lambda files: now, **arguments)

    return look


def folder(config: Config) -> Path:
    path = Path(config.runs) / identity.cell_id(config)
    path.mkdir(parents=True, exist_ok=True)
    return path


def failed(config: Config, status: str = "error", cause: str = "RuntimeError: no") -> None:
    run_cell(config)
    path = folder(config) / "record.json"
    content = json.loads(path.read_text())
    content |= {"status": status, "metrics": {}, "outputs": {}, "failure": {"cause": cause, "traceback": ""}}
    path.write_text(json.dumps(content))


def checkpoint(config: Config, epochs: int) -> None:
    write_state(folder(config) / "checkpoint.pt", {})
    (folder(config) / "history.jsonl").write_text("{}\n" * epochs)


def test_a_cell_that_was_never_begun_is_trained(look: Look, make_small: MakeConfig):
    planned = look(make_small("budget.epochs=9"))
    assert (planned.action, planned.reason, planned.epochs_left) == (Action.train, "no record", 9)


def test_a_result_is_done_and_a_diverged_one_too(look: Look, make_small: MakeConfig):
    config = make_small()
    code = run_cell(config).provenance.code_hash
    assert look(config, code=code).action is Action.done
    diverged = make_small("optimizer.lr=1e30", "model.class_relu=false")
    run_cell(diverged)
    for retrain in (Retrain.none, Retrain.failed):
        assert look(diverged, retrain).action is Action.done
        assert look(diverged, retrain).reason.startswith("diverged: the training loss became ")


def test_a_checkpoint_is_resumed_and_only_the_rest_counts(look: Look, make_small: MakeConfig):
    config = make_small("budget.epochs=9")
    checkpoint(config, 4)
    planned = look(config)
    assert (planned.action, planned.reason, planned.epochs_left) == (Action.resume, "from epoch 4 of 9", 5)


def test_the_checkpoint_before_the_last_counts_too(look: Look, make_small: MakeConfig):
    config = make_small()
    checkpoint(config, 1)
    (folder(config) / "checkpoint.pt").rename(folder(config) / "checkpoint-previous.pt")
    assert look(config).action is Action.resume


def test_a_failed_cell_is_tried_again_with_its_cause_unless_retrain_is_none(look: Look, make_small: MakeConfig):
    config = make_small()
    failed(config)
    planned = look(config)
    assert planned.action is Action.retry
    assert planned.reason == "error: RuntimeError: no; from the start"
    left = look(config, Retrain.none)
    assert (left.action, left.reason) == (Action.leave, "error: RuntimeError: no")
    checkpoint(config, 1)
    assert look(config).reason == "error: RuntimeError: no; from epoch 1 of 2"


def test_each_kind_of_retraining_includes_the_one_before(look: Look, make_small: MakeConfig):
    config = make_small()
    code = run_cell(config).provenance.code_hash
    name = records.file_hash(folder(config) / "record.json")
    for retrain, other_code, same_code in (
        (Retrain.none, Action.done, Action.done),
        (Retrain.failed, Action.done, Action.done),
        (Retrain.stale, Action.retrain, Action.done),
        (Retrain.all, Action.retrain, Action.retrain),
    ):
        assert look(config, retrain).action is other_code
        assert look(config, retrain, code=code).action is same_code
    stale = look(config, Retrain.stale)
    assert (stale.stale, stale.replaces) == (code, name)
    assert stale.reason.startswith(f"code {code}, now here (")


def test_a_cell_that_another_process_trains_is_waited_for(look: Look, make_small: MakeConfig):
    config = make_small()
    with take_claim(folder(config), 60):
        planned = look(config)
        assert planned.action is Action.wait
        assert f"trained by process {os.getpid()} on " in planned.reason
    assert look(config).action is Action.train


def test_a_cell_whose_process_is_gone_is_not(look: Look, make_small: MakeConfig):
    config = make_small()
    code = "import sys, pathlib; from strive.cells.lease import take_claim; take_claim(pathlib.Path(sys.argv[1]), 60)"
    subprocess.run([sys.executable, "-c", code, str(folder(config))], check=True)
    assert (folder(config) / "claim").exists()
    assert look(config).action is Action.train


def test_a_cell_that_a_slurm_job_has_is_waited_for_but_a_result_counts_more(look: Look, make_small: MakeConfig):
    config = make_small()
    queued = {identity.cell_id(config): "12_3"}
    planned = look(config, queued=queued)
    assert (planned.action, planned.reason, planned.job) == (Action.wait, "SLURM job 12_3", "12_3")
    run_cell(config)
    assert look(config, queued=queued).action is Action.done


def test_what_is_not_in_the_runs_folder_costs_no_look_at_the_disk(
    look: Look, make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch
):
    config = make_small()
    folders = names_in(Path(config.runs))

    def forbidden(path: object, *more: object) -> None:
        raise AssertionError(path)

    monkeypatch.setattr(Path, "read_text", forbidden)
    monkeypatch.setattr(Path, "exists", forbidden)
    monkeypatch.setattr(os, "scandir", forbidden)
    assert look(config, folders=folders).action is Action.train


# Names


@pytest.mark.parametrize(
    "overrides",
    [
        ("tracker=none",),
        ("tracker=none,auto",),
        ("+trainer=cluster",),
        ("trainer={threads:2,device:cpu}", "needs={mem_gb:8}"),
        ("data={root:'/there',download:true}",),
        ("~tracker", "++trainer.threads=3", "runs=there"),
        ("hydra.sweeper.dry_run=true", "hydra/launcher=slurm", "hydra={sweeper:{parents:true}}"),
    ],
    ids=" ".join,
)
def test_an_override_that_changes_no_science_key_changes_no_name(overrides: tuple[str, ...]):
    assert plan_name(overrides, "table3") == "table3"
    assert (
        plan_name(("seed=0,1", *overrides), "")
        == plan_name((*overrides, "seed=0,1"), "")
        == plan_name(("seed=0,1",), "")
    )


def test_every_group_without_a_science_key_is_known_by_its_knobs():
    groups = {key.partition(".")[0]: False for key, _, _ in knobs(Config()) if "." in key}
    groups |= {key.partition(".")[0]: True for key, meaning, _ in knobs(Config()) if "." in key and meaning.science}
    assert {group: plan_name((f"{group}=option",), "table3") != "table3" for group in groups} == groups


def test_a_name_knows_a_mapping_by_its_science_keys_and_of_a_key_its_last_word():
    name = plan_name(("data.val_images=400",), "table3")
    assert plan_name(("data={root:'/there',val_images:400}",), "table3") == name != "table3"
    assert plan_name(("optimizer.lr=0.2", "optimizer.lr=0.1"), "") == plan_name(
        ("optimizer={lr:0.2}", "optimizer.lr=0.1"), ""
    )
    assert plan_name(("optimizer.lr=0.2", "optimizer.lr=0.1"), "") != plan_name(
        ("optimizer.lr=0.1", "optimizer.lr=0.2"), ""
    )
