import random
import re
from collections.abc import Callable

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf

from strive.cells.settings import Settings
from strive.config.identity import hash_of
from strive.config.platform_keys import NeedsConfig
from strive.errors import ConfigError
from strive.hydra_app.app import HydraApp
from strive.hydra_app.cell import Options
from strive.hydra_app.compose import HydraComposer
from strive.hydra_app.frozen import frozen

MakeComposer = Callable[..., HydraComposer]
INTERPOLATED = """\
twice: ${mul:2,${lr}}
name: run_${model.act}_${lr}
sub: ${model}
deep: ${oc.select:sub.width}
keys: ${oc.dict.keys:model}
"""


def test_a_cell_is_what_hydra_composes_whatever_is_overridden(make_composer: MakeComposer):
    composer = make_composer(INTERPOLATED)
    draw = random.Random(0)
    values = {
        "lr": ["0.1", "1e-1", "2", "inf"],
        "seed": ["0", "1", "-3", "17", "007", "1_000"],
        "model.width": ["8", "64", "null"],
        "model.act": ["gelu", "'relu'", "a b"],
        "layers": ["[1]", "[]", "[64,64]"],
        "opt": ["adam", "sgd"],
        "opt.lr": ["0.5"],
        "+extra": ["1", "text", "2.5", "[1,2]", "null"],
        "++more.deep": ["1", "'two'"],
        "++lr": ["0.3"],
        "+model.bias": ["true", "false"],
        "+opt.beta": ["0.9", "0.99"],
        "model": ["{width:3,depth:9}"],
    }
    for _ in range(40):
        keys = draw.sample(list(values), draw.randint(0, 6))
        overrides = [f"{key}={draw.choice(values[key])}".replace("a b", "'a b'") for key in keys]
        found = composer.unchecked(overrides)
        whole = composer._composed(overrides)  # by Hydra alone
        assert found.science == whole.science, overrides
        assert found.logistics == whole.logistics, overrides
        assert found.composed is not None
        assert whole.composed is not None
        assert frozen(found.composed()) == frozen(whole.composed()), overrides
        assert found.freeze is not None
        assert whole.freeze is not None
        assert found.freeze() == whole.freeze(), overrides
    assert composer._base(()).reusable


@pytest.mark.parametrize("key", ["seed", "+extra", "++extra", "++seed", "+model.new", "+one.two"])
def test_a_thousand_values_of_one_key_are_composed_a_few_times(make_composer: MakeComposer, key: str):
    composer, composed = make_composer(INTERPOLATED), list[object]()
    prepared = composer._prepared
    composer._prepared = lambda overrides: composed.append(overrides) or prepared(overrides)  # type: ignore[method-assign]
    cells = [composer.unchecked([f"{key}={number}"]) for number in range(1000)]
    assert len({hash_of(cell.science) for cell in cells}) == 1000
    assert [cell.science[key.lstrip("+")] for cell in cells] == list(range(1000))
    assert len(composed) <= 5


@pytest.mark.parametrize(("key", "text"), [("modle", "modle"), ("+seed", "already at 'seed'")])
def test_a_key_that_hydra_does_not_take_is_refused_for_all_values_after_one(make_composer: MakeComposer, key, text):
    composer, composed = make_composer(), list[object]()
    prepared = composer._prepared
    composer._prepared = lambda overrides: composed.append(overrides) or prepared(overrides)  # type: ignore[method-assign]
    for number in range(100):
        with pytest.raises(HydraException, match=text):
            composer.unchecked([f"{key}={number}"])
    assert len(composed) <= 3


def test_a_value_of_the_wrong_type_is_refused_for_itself_alone(make_composer: MakeComposer):
    composer = make_composer()
    with pytest.raises(HydraException):
        composer.unchecked(["+model=1"])
    with pytest.raises(HydraException):
        composer.unchecked(["+layers.x=1"])
    assert composer.unchecked(["+model.x=1"]).science["model.x"] == 1


def test_a_key_that_is_added_and_then_set_has_its_last_value_and_not_before_it_is_added(make_composer: MakeComposer):
    composer = make_composer()
    for number in (1, 2):
        assert composer.unchecked(["+extra=0", f"extra={number}"]).science["extra"] == number
        with pytest.raises(HydraException, match="extra"):
            composer.unchecked([f"extra={number}", "+extra=0"])


def test_values_that_were_set_for_one_cell_are_not_in_the_next(make_composer: MakeComposer):
    composer = make_composer(INTERPOLATED)
    before = composer.unchecked([]).science
    composer.unchecked(["model.width=3", "lr=7", "layers=[1,2,3]"])
    assert composer.unchecked([]).science == before


def test_what_depends_on_a_value_follows_it(make_composer: MakeComposer):
    science = make_composer(INTERPOLATED).unchecked(["lr=0.5", "model.width=3"]).science
    assert (science["twice"], science["name"], science["sub.width"], science["opt.lr"]) == (1.0, "run_relu_0.5", 3, 0.5)


def test_spellings_of_a_number_are_one_cell_and_types_are_three(make_composer: MakeComposer):
    composer = make_composer()
    digits = [hash_of(composer.unchecked([f"lr={text}"]).science) for text in ("0.1", "1e-1", "0.10")]
    assert len(set(digits)) == 1
    digits = [hash_of(composer.unchecked([f"lr={text}"]).science) for text in ("1", "1.0", "true")]
    assert len(set(digits)) == 3


def test_lists_and_empty_mappings_are_part_of_the_identity(make_composer: MakeComposer):
    science = make_composer().unchecked([]).science
    assert science["layers"] == [64, 64]
    assert science["empty"] == {}


def test_a_value_that_changes_by_itself_is_refused_until_it_is_declared(make_composer: MakeComposer):
    with pytest.raises(ConfigError, match=r"run_id is .*hydra\.sweeper\.logistics=\[run_id\]"):
        make_composer("run_id: ${count:}\n").unchecked([])
    cell = make_composer("run_id: ${count:}\n", logistics=["run_id"]).unchecked([])
    assert "run_id" in cell.logistics


def test_the_place_of_a_cell_in_the_launch_is_no_seed(make_composer: MakeComposer):
    with pytest.raises(ConfigError, match=r"own_seed comes from \$\{hydra:job\.num\}"):
        make_composer("own_seed: ${hydra:job.num}\n").unchecked([])


def test_an_unknown_key_is_hydras_error(make_composer: MakeComposer):
    with pytest.raises(HydraException, match="modle"):
        make_composer().unchecked(["modle.width=3"])


def test_a_key_whose_absence_is_declared_renames_nothing(make_composer: MakeComposer):
    before = hash_of(make_composer().unchecked([]).science)
    composer = make_composer("dropout: 0\n", absent={"dropout": 0})
    assert hash_of(composer.unchecked([]).science) == before
    assert hash_of(composer.unchecked(["dropout=0.5"]).science) != before


def test_a_key_whose_absence_is_declared_decides_with_every_other_value():
    app = HydraApp()
    app._options = Options(settings=Settings(runs="runs"), absent={"dropout": 0})
    assert app.decides("dropout")
    assert app.config_of({"dropout": 0, "lr": 1}).science == {"lr": 1}
    assert app.config_of({"dropout": 0.5, "lr": 1}).science == {"dropout": 0.5, "lr": 1}


def test_a_frozen_config_is_the_config(make_composer: MakeComposer):
    composed = make_composer(INTERPOLATED).unchecked(["lr=0.5"]).composed
    assert composed is not None
    assert OmegaConf.to_container(composed())["lr"] == 0.5


def test_needs_go_to_the_job_and_not_into_the_cell(make_composer: MakeComposer):
    composer = make_composer(INTERPOLATED)
    cell = composer.unchecked(["lr=1", "+needs.gres='gpu:2'", "needs.partition=big", "needs.cpus=4"])
    plain = composer.unchecked(["lr=1"])
    assert cell.settings.needs == NeedsConfig(gres="gpu:2", partition="big", cpus=4)
    assert plain.settings.needs == NeedsConfig()
    assert (cell.science, cell.logistics) == (plain.science, plain.logistics)
    assert cell.composed is not None
    assert plain.composed is not None
    assert frozen(cell.composed()) == frozen(plain.composed())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("needs.gpu=1", "there is no key needs.gpu; legal: needs.timeout_min, needs.mem_gb, needs.gres, needs.cpus"),
        ("needs={gres: 'gpu:1'}", "there is no key needs; legal: needs.timeout_min"),
        ("needs.cpus=many", "needs.cpus: Value 'many' of type 'str' could not be converted to Integer"),
        ("needs.mem_gb=-1", "needs.mem_gb must be 0 or more, got -1.0"),
    ],
)
def test_a_need_that_there_is_not_is_refused(make_composer: MakeComposer, override: str, message: str):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        make_composer().unchecked([override])


def test_an_app_that_has_needs_of_its_own_keeps_them(make_composer: MakeComposer):
    cell = make_composer("needs: {cpus: 3}\n").unchecked(["needs.cpus=4"])
    assert cell.science["needs.cpus"] == 4
    assert cell.settings.needs == NeedsConfig()
