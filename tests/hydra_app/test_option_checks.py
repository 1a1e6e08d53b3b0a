import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strive.cells.settings import Settings
from strive.config.identity import hash_of
from strive.errors import ConfigError
from strive.hydra_app.cell import Options
from strive.hydra_app.compose import HydraComposer
from strive.hydra_app.option_checks import check_code, check_named, code_files

MakeComposer = Callable[..., HydraComposer]
TYPED = frozenset({"hydra.sweeper.logistics", "hydra.sweeper.absent"})


@pytest.fixture
def checked(make_composer: MakeComposer) -> Callable[..., list[str]]:
    def check(more: str = "", **options: Any) -> list[str]:
        given: dict[str, Any] = {"settings": Settings(runs="runs"), "typed": TYPED} | options
        composer = make_composer(more, **{key: given[key] for key in ("logistics", "absent") if key in given})
        return check_named(Options(**given), [composer.unchecked([])], ["opt"])

    return check


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": "sed"}, "hydra.sweeper.seed: sed names no key of these cells; did you mean seed?"),
        ({"seed": "opt"}, "hydra.sweeper.seed: opt names no key of these cells; did you mean opt.name or opt.lr?"),
        ({"seed": "draw"}, "hydra.sweeper.seed: draw names no key of these cells; their keys: opt.name, opt.lr, lr"),
        ({"logistics": ["lr", "modle.*"]}, "hydra.sweeper.logistics: modle.* names no key"),
        ({"absent": {"model.with": 3}}, "model.with names no key of these cells; did you mean model.width or"),
        ({"resume_overrides": ["sed=1"]}, "hydra.launcher.resume_overrides: there is no key sed\n  did you mean"),
        ({"resume_overrides": ["lr=1,2"]}, "lr=1,2 sets no value; legal are KEY=VALUE and +KEY=VALUE"),
        ({"resume_overrides": ["opt=sgd"]}, "opt=sgd sets no value"),
        ({"resume_overrides": ["lr"]}, "it is no KEY=VALUE"),
    ],
    ids=str,
)
def test_an_option_that_names_nothing_is_refused_with_what_is_there(
    checked: Callable[..., list[str]], options: dict[str, Any], message: str
):
    with pytest.raises(ConfigError, match=re.escape(message)):
        checked(**options)


def test_options_that_name_something_say_nothing(checked: Callable[..., list[str]]):
    named = {
        "seed": "lr",
        "logistics": ["model", "opt.*"],
        "absent": {"seed": 0},
        "resume_overrides": ["lr=1", "+x={checkpoint}"],
    }
    assert checked(**named) == []


def test_a_list_in_the_apps_own_config_may_name_what_a_sweep_lacks(checked: Callable[..., list[str]]):
    assert checked(logistics=["logger.*"], typed=frozenset()) == [
        "hydra.sweeper.logistics: logger.* names no key of these cells"
    ]


def test_cells_that_are_done_with_a_key_are_named_when_its_absence_is_declared(
    make_composer: MakeComposer, checked: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    cell = make_composer("dropout: 0\n").unchecked([])
    done = tmp_path / "runs" / f"{cell.name}-{hash_of(cell.science)}"
    done.mkdir(parents=True)
    (done / "record.json").touch()
    (note,) = checked("dropout: 0\n", absent={"dropout": 0})
    assert note.startswith("hydra.sweeper.absent={dropout: 0}: 1 of these cells are done with the key")
    assert done.name in note


def test_files_that_decide_numbers_must_be_there(tmp_path: Path):
    (tmp_path / "data" / "deep").mkdir(parents=True)
    for name in ("data/a.yaml", "data/deep/b.yaml"):
        (tmp_path / name).touch()
    assert [path.name for path in code_files(["data/**"], str(tmp_path))] == ["a.yaml", "b.yaml"]
    assert code_files([str(tmp_path / "data" / "a.yaml")], "/") == [tmp_path / "data" / "a.yaml"]
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.code: missing\.py names no file"):
        check_code(["missing.py"], str(tmp_path))
    with pytest.raises(ConfigError, match=r"data is a folder; data/\*\* are its files"):
        check_code(["data"], str(tmp_path))
