from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import DictConfig

from strive.config.identity import hash_of
from strive.hydra_app.compose import HydraComposer

MakeComposer = Callable[..., HydraComposer]
LEAVES = """\
out: ${hydra:runtime.output_dir}/x
when: ${now:%Y-%m-%d}
root: ${oc.env:PROJECT_ROOT}
data: ${root}/data
host: ${oc.env:HOST_NAME}
rate: ${oc.decode:${oc.env:RATE}}
choice: ${hydra:runtime.choices.opt}
workers: 4
paths: {log: logs, all: [a, "${now:%Y}"]}
nested: ${oc.select:paths.missing,${now:%H}}
sub: ${paths}
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROJECT_ROOT", "/home/me/project")
    monkeypatch.setenv("HOST_NAME", "node7")
    monkeypatch.setenv("RATE", "0.1")


def test_time_output_folder_and_paths_of_the_environment_decide_no_number(make_composer: MakeComposer):
    cell = make_composer(LEAVES).unchecked([])
    assert set(cell.logistics) == {"out", "when", "root", "data", "paths.all[1]", "nested", "sub.all[1]"}
    assert cell.reasons["root"] == "it comes from the path in ${oc.env:PROJECT_ROOT}"
    assert cell.reasons["data"] == "it comes from the path in ${oc.env:PROJECT_ROOT}"


def test_every_other_variable_of_the_environment_is_science(
    make_composer: MakeComposer, monkeypatch: pytest.MonkeyPatch
):
    before = make_composer(LEAVES).unchecked([])
    assert before.science["rate"] == 0.1
    assert before.science["choice"] == "adam"
    monkeypatch.setenv("RATE", "0.5")
    assert hash_of(make_composer(LEAVES).unchecked([]).science) != hash_of(before.science)


def test_another_root_and_another_day_are_the_same_cell(make_composer: MakeComposer, monkeypatch: pytest.MonkeyPatch):
    before = hash_of(make_composer(LEAVES).unchecked([]).science)
    monkeypatch.setenv("PROJECT_ROOT", "/scratch/elsewhere")
    assert hash_of(make_composer(LEAVES).unchecked([]).science) == before


def test_a_default_path_is_as_good_as_the_variable_that_is_not_set(
    make_composer: MakeComposer, monkeypatch: pytest.MonkeyPatch
):
    leaves = "data: ${oc.env:DATA_ROOT,/data}/cifar\nrate: ${oc.env:RATE,0.2}\n"
    monkeypatch.delenv("DATA_ROOT", raising=False)
    without = make_composer(leaves).unchecked([])
    monkeypatch.setenv("DATA_ROOT", "/scratch/data")
    assert set(without.logistics) == {"data"}
    assert hash_of(make_composer(leaves).unchecked([]).science) == hash_of(without.science)


def test_what_is_declared_decides_no_number(make_composer: MakeComposer):
    cell = make_composer(LEAVES, logistics=["workers", "paths", "ho*"]).unchecked([])
    assert {"workers", "paths.log", "paths.all[0]", "host"} <= set(cell.logistics)
    assert cell.reasons["workers"] == "declared: workers"


def test_a_value_that_cannot_be_resolved_yet_is_its_own_text(make_composer: MakeComposer):
    cell = make_composer("later: ${my_resolver:3}\nlacks: ???\n").unchecked([])
    assert cell.science["later"] == "${my_resolver:3}"
    assert cell.science["lacks"] == "???"


def test_plain_leaves_are_traced_to_nothing(make_master: Callable[..., tuple[Any, DictConfig]]):
    from strive.hydra_app.leaves import leaves

    _, master = make_master()
    assert [key for key, leaf in leaves(master).items() if leaf.calls] == []
