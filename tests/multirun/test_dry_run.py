"""Output of a dry run before the sweeps that values are chosen from have been trained, and without the data."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from support import SMALL

from allcnn.training_pack import run_cell
from strive.errors import ConfigError
from strive.multirun.run_sweep import SweepRun
from strive.options import LocalOptions
from strive.sweeps.choice import MissingParentsError
from strive.sweeps.compose import Composer
from strive.sweeps.planner import Planner
from strive.sweeps.sweep_file import parse_sweep

CHOOSE = "{sweep: %s, by: val_error, per: [model.base]}"
SWEEPS = {
    "top": f"question: Which decay?\ngrid: {{seed: [7]}}\nchoose: {{optimizer.weight_decay: {CHOOSE % 'child'}}}\n",
    "child": "question: Which seed?\nfixed: {data.val_images: 400}\n"
    "grid: {model: [model_a, model_c], seed: [4, 5, 6]}\n"
    f"choose: {{optimizer.lr: {CHOOSE % 'rates'}}}\n",
    "rates": "question: Which rate?\nfixed: {data.val_images: 400, budget.epochs: 1}\n"
    "grid: {model: [model_a, model_c], optimizer.lr: [0.02, 0.3]}\n",
}
NO_IMAGES = ("data=cifar10", "data.root=nowhere")


class NoLauncher:
    """Trains nothing."""

    name = "local"
    options = LocalOptions()

    def train(self, launch: Any, waiting: Mapping[str, str]) -> dict[str, Any]:
        raise AssertionError

    def continue_after(self, jobs: Any, plan_folder: Path) -> None:
        raise AssertionError


@pytest.fixture
def dry(composer: Composer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Run a sweep of SWEEPS dry, and return the lines on stdout."""

    def run(name: str, *arguments: str, dry_run: bool = True, **options: Any) -> list[str]:
        def read(name: str) -> Any:
            return parse_sweep(name, SWEEPS[name])

        planner = Planner(composer, read, dry_run=dry_run)
        given = [*SMALL, f"runs={tmp_path / 'runs'}", *arguments]
        SweepRun(planner, NoLauncher(), dry_run=dry_run, **options).run(given, read(name))
        return capsys.readouterr().out.splitlines()

    return run


@pytest.mark.parametrize("parents", [False, True])
def test_the_plan_of_the_parents_comes_first_and_that_of_the_cells_that_wait_after_it(dry, tmp_path: Path, parents):
    lines = dry("child", parents=parents)
    assert "2 nets x 2 values of lr = 4 cells: 0 done already, 4 to train" in lines
    assert "2 nets x 3 seeds = 6 cells: 0 done already, 6 to train" in lines[lines.index("") :]
    (waiting,) = (line for line in lines if line.startswith("train (6)"))
    assert "optimizer.lr" in waiting
    assert "rates" in waiting
    assert any("hydra.sweeper.parents=true" in line for line in lines) is not parents
    assert "  model_a  seed=4" in lines, "there is no id before the rate is chosen"
    assert not (tmp_path / "runs").exists()


def test_parents_of_parents_are_in_the_plan_too(dry):
    titles = [line for line in dry("top") if line.endswith("?")]
    assert [title.partition("-")[0].partition(":")[0] for title in titles] == ["rates", "child", "top"]


def test_cells_whose_value_can_be_chosen_have_their_ids_while_others_wait(dry, composer: Composer, tmp_path: Path):
    given = [*SMALL, f"runs={tmp_path / 'runs'}"]
    parent = Planner(composer, lambda name: parse_sweep(name, SWEEPS[name])).plan(
        given, parse_sweep("rates", SWEEPS["rates"])
    )
    for planned in parent.cells[:2]:  # model_a's
        run_cell(planned.config)
    lines = dry("child")
    assert "2 nets x 3 seeds = 6 cells: 0 done already, 6 to train" in lines
    assert {line.split()[0] for line in lines if line.startswith(("train (3)", "  model_c  seed"))} == {
        "train",
        "model_c",
    }
    assert sum("model_a-digits" in line for line in lines[lines.index("") :]) == 3


def test_as_json_the_cells_that_wait_have_no_id_and_no_value_of_the_open_key(dry):
    parent, own = map(json.loads, dry("child", as_json=True))
    assert (parent["after"], own["after"]) == ([], ["rates"])
    assert all(cell["cell"] for cell in parent["cells"])
    assert own["counts"] == {"train": 6}
    for cell in own["cells"]:
        assert cell["cell"] is None
        assert "optimizer.lr" not in own["common"] | cell["values"]


def test_a_launch_before_its_parents_is_refused(dry):
    with pytest.raises(MissingParentsError):
        dry("child", dry_run=False)


def test_without_the_images_the_plan_says_once_what_is_missing_and_a_launch_is_refused(dry):
    lines = dry("child", *NO_IMAGES)
    assert "2 nets x 3 seeds = 6 cells: 0 done already, 6 to train" in lines
    assert " ".join(lines).count("nowhere") == 1
    with pytest.raises(ConfigError, match="nowhere"):
        dry("rates", *NO_IMAGES, dry_run=False)


def test_what_no_data_would_put_right_stays_an_error_of_the_plan(dry):
    with pytest.raises(ConfigError, match="val_images=1397 leaves no training images"):
        dry("rates", "data.val_images=1397")
