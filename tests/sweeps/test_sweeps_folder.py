import re
from fractions import Fraction
from functools import cache
from typing import Any

import pytest
import yaml
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from support import ROOT

from allcnn.config import Config, Source
from allcnn.data.output_size import output_size
from allcnn.networks.facts import check_network
from strive.app import in_use
from strive.config import identity
from strive.errors import ConfigError
from strive.hydra_app.typed_compose import TypedComposer
from strive.sweeps.arm_differences import arm_differences
from strive.sweeps.choice import chooser
from strive.sweeps.compose import Composer
from strive.sweeps.override_syntax import override
from strive.sweeps.sweep_file import Combination, Sweep, read_sweep

NAMES = sorted(path.stem for path in (ROOT / "sweeps").glob("*.yaml"))
NUM_CLASSES = {
    Source.cifar10: 10,
    Source.image_folder: 10,  # of CIFAR-10's images, in the one sweep that has it
    Source.cifar100: 100,
    Source.digits: 10,
    Source.imagenet: 1000,
}
PAPERS_LRS = {0.25, 0.1, 0.05, 0.01}

# bases x variants x ... x seeds
NUM_CELLS = {
    "grid": 3 * 4 * 2 * 5,
    "table3": 12 * 5,
    "table3_lr": 12 * 4 * 3,
    "table3_small": 12 * 3,
    "table3_small_lr": 12 * 3,
    "table3_small_exact": 12 * 12,
    "table3_small_exact_control": 3 * 2 * 12,
    "table3_small_exact_augmented": 12 * 2 * 5,
    "table3_small_exact_lr": 12 * 4 * 3,
    "table3_augmented": 12 * 5,
    "table3_augmented_lr": 12 * 4 * 3,
    "cifar100": 12 * 2 * 3,
    "large": 3,
    "large_lr": 4,
    "imagenet": 3,
    "open_choices": 23 * 3,
    "recipe": 7 * 20,
    "pooling_norm": 3 * 4 * 3,
    "pooling_norm_lr": 3 * 4 * 5 * 3,
    "smoke": 12,
    "pictures": 2,
    "residual": 2 * 2 * 3,
    "residual_lr": 6 * 2,
}


@cache
def sweep(name: str) -> Sweep:
    return read_sweep(name, yaml.safe_load((ROOT / "sweeps" / f"{name}.yaml").read_text()))


@cache
def composer() -> Composer:
    # One for all tests here: each choice of groups is composed once.
    ConfigStore.instance().store(name="schema", node=Config)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        return TypedComposer(loader, loader.load_configuration("config", [], RunMode.MULTIRUN))


@cache
def cells(name: str, command_line: tuple[str, ...] = ()) -> list[tuple[Combination, Config]]:
    found = sweep(name).combinations(command_line, composer().expand)
    return [(each, composer().compose(each.overrides)) for each in found]


def configs(name: str, *command_line: str) -> list[Config]:
    return [config for _, config in cells(name, command_line)]


def ids(name: str) -> set[str]:
    return {identity.cell_id(config) for config in configs(name)}


@pytest.mark.parametrize("name", NAMES)
def test_every_net_of_a_sweep_builds(name: str):
    nets = {f"{config.model} {output_size(config)}": config for config in configs(name)}
    for config in nets.values():
        num_classes = NUM_CLASSES[config.data.source]
        assert check_network(config.model, num_classes=num_classes, image_size=output_size(config))


@pytest.mark.parametrize("name", NAMES)
def test_no_cell_comes_twice_but_for_what_is_still_to_be_chosen(name: str):
    sweep(name).check([(combination.label, identity.cell_id(config)) for combination, config in cells(name)])


def test_the_sweeps_have_the_cells_that_their_questions_need():
    assert {name: len(configs(name)) for name in NAMES} == NUM_CELLS


def test_every_sweep_says_its_question_place_and_table():
    for name in NAMES:
        text = (ROOT / "sweeps" / f"{name}.yaml").read_text()
        assert text.startswith("# "), name
        assert "paper" in text.partition("question:")[0] or name in (
            "table3_augmented_lr",
            "large_lr",
            "pooling_norm_lr",
        )
        assert sweep(name).question.endswith("?"), name
        assert sweep(name).table is not None, name


def science(config: Config) -> dict[str, Any]:
    return in_use().science(config)


@pytest.mark.parametrize("name", NAMES)
def test_the_cells_in_one_place_of_the_table_differ_in_seed_alone(name: str):
    table = sweep(name).table
    assert table is not None
    places: dict[str, set[str]] = {}
    for combination, config in cells(name):
        flat = in_use().flat(config) | {"arm": combination.arm}
        place = repr([flat[key] for key in table.rows + table.columns])
        places.setdefault(place, set()).add(repr(science(config) | {"seed": 0}))
    assert {len(averaged) for averaged in places.values()} == {1}


@pytest.mark.parametrize("name", [name for name in NAMES if sweep(name).choose])
def test_every_choice_has_its_candidates_and_they_differ_in_seed_and_the_factor_alone(name: str):
    for spec in sweep(name).choose:
        parents = [(science(config), None) for parent in spec.sweeps for config in configs(parent)]
        choose = chooser(spec, parents)
        for config in configs(name):
            # No record yet: what is asked for is missing, not absent from the parents or mixed with others.
            with pytest.raises(ConfigError, match="have no result") as caught:
                choose(science(config))
            (counts,) = re.findall(r"where (\d+) of (\d+) cells", str(caught.value))
            wanted = {"large": "4", "pooling_norm": "15", "table3_small": "3", "residual": "3"}.get(name, "12")
            assert counts == (wanted, wanted)


def test_the_grid_is_the_union_of_the_tables_without_and_with_augmentation():
    assert ids("grid") == ids("table3") | ids("table3_augmented")


def test_the_control_of_the_small_study_trains_no_cell_of_its_own():
    assert ids("table3_small_exact_control") < ids("table3_small_exact")


def test_the_norm_that_is_max_pooling_shares_its_cells_with_table3_lr():
    assert len(ids("pooling_norm_lr") & ids("table3_lr")) == 3 * 4 * 3


def test_learning_rates_are_chosen_on_held_out_images_and_results_come_from_all_of_them():
    for name in NAMES:
        held_out = {config.data.val_images for config in configs(name)}
        most = 300 if name.startswith("residual") else 5000  # of digits there are few
        assert held_out == ({most} if name.endswith("_lr") else {0}), name
        assert all(str(spec.by) == "val_error" for spec in sweep(name).choose), name


def test_the_searches_try_the_papers_four_learning_rates():
    for name in ("table3_lr", "table3_augmented_lr", "large_lr", "pooling_norm_lr"):
        assert {config.optimizer.lr for config in configs(name)} >= PAPERS_LRS


def test_imagenet_is_the_papers_setting():
    (config, *_) = configs("imagenet")
    images = 1_281_167
    steps = config.budget.epochs * -(-images // config.budget.batch_size)
    assert (config.optimizer.lr, config.optimizer.weight_decay, config.budget.batch_size) == (0.01, 0.0005, 64)
    # 450,000 steps in the paper, as near as whole epochs come, and drops every 200,000.
    assert abs(steps - 450_000) < images / 64 / 2
    assert [round(Fraction(share) * steps, -3) for share in config.optimizer.drop_at] == [200_000, 400_000]
    # Decoded at 256, seen at 224.
    assert config.augment.shift_px == (256 - 224) // 2


def test_each_open_choice_differs_from_its_baseline_in_that_choice_alone():
    design = sweep("open_choices").design
    assert design is not None
    points = {(each.arm, each.point): config for each, config in cells("open_choices")}
    for each in arm_differences(design, points):
        assert [len(each.set), len(each.chosen), len(each.following)] == [1, 0, 0], each.arm


def test_the_open_choices_are_those_of_the_page():
    page = (ROOT / "docs" / "open_choices.md").read_text().partition("\n## ")[0]
    keys = {key for row in re.findall(r"^\| (`.*?`) \|", page, flags=re.M) for key in re.findall(r"`([\w.]+)`", row)}
    by_arm = {each.arm: in_use().flat(config) for each, config in cells("open_choices") if config.seed == 0}
    moved = {key for flat in by_arm.values() for key in identity.differences(by_arm["none"], flat)}
    # Answered by pooling_norm and large, or the size of a choice that is already there.
    elsewhere = {"model.pool_norm", "model.leaky_slope", "model.init_std"}
    assert keys - moved == elsewhere


def test_a_sweep_on_other_images_asks_its_parents_for_the_same_images():
    (spec,) = sweep("large").choose
    # The seed is this sweep's own factor: what is chosen there must not depend on it.
    asked = sweep("large").for_parents(("data=digits", "model.width=0.01", "seed=7"))
    assert asked == ("data=digits", "model.width=0.01")
    parents = [(science(config), None) for config in configs("large_lr", *asked)]
    with pytest.raises(ConfigError, match="4 of 4 cells have no result"):
        chooser(spec, parents)(science(configs("large", "data=digits", "model.width=0.01", "seed=7")[0]))
    with pytest.raises(ConfigError, match="which has no such cell"):
        chooser(spec, parents)(science(configs("large")[0]))


def test_a_chosen_value_can_be_put_into_its_cell():
    (combination, _), *_ = cells("table3")
    assert composer().compose([*combination.overrides, override("optimizer.lr", 0.01)]).optimizer.lr == 0.01


def yaml_blocks() -> list[dict[str, object]]:
    page = (ROOT / "docs" / "sweeps.md").read_text()
    return [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page, flags=re.S)]


def test_the_example_of_the_page_has_the_cells_that_the_page_says():
    read = read_sweep("sums", yaml_blocks()[0])
    found = read.combinations((), composer().expand)
    left_out = [
        (each.label, reason) for each in found if (reason := read.excluded(composer().unchecked(each.overrides)))
    ]
    labels = {label for label, _ in left_out}
    kept = [(each.label, composer().compose(each.overrides)) for each in found if each.label not in labels]
    read.check([(label, identity.cell_id(config)) for label, config in kept], left_out)
    assert (len(found), len(left_out), len(kept)) == (18, 3, 15)
    # With more seeds only the new ones are other cells.
    more = read.combinations(("seed=range(0,5)",), composer().expand)
    assert {each.overrides for each in found} < {each.overrides for each in more}
    assert len(more) == 30


@pytest.mark.parametrize("fragment", yaml_blocks()[1:], ids=lambda fragment: next(iter(fragment)))
def test_every_fragment_of_the_page_is_legal(fragment: dict[str, object]):
    arms = {} if "components" in fragment else {"arms": {"baseline": None}}
    found = read_sweep("fragment", {"question": "Is it?"} | arms | fragment)
    for combination in found.combinations((), composer().expand):
        config = composer().unchecked(combination.overrides)
        assert found.excluded(config) or composer().compose(combination.overrides)


def test_the_page_lists_every_sweep_with_its_number_of_cells():
    page = (ROOT / "docs" / "sweeps.md").read_text().partition("## The sweeps here")[2]
    listed: dict[str, int] = {}
    for names, counts in re.findall(r"^\| (`.*`) \| .* \| ([\d, ]+) \|$", page, flags=re.M):
        listed |= dict(zip(re.findall(r"`(\w+)`", names), map(int, counts.split(",")), strict=True))
    assert listed == NUM_CELLS


def test_every_key_of_a_file_is_in_the_page():
    page = (ROOT / "docs" / "sweeps.md").read_text()
    for key in (
        "question",
        "fixed",
        "grid",
        "zip",
        "arms",
        "components",
        "design",
        "cells",
        "exclude",
        "choose",
        "table",
    ):
        assert f"| `{key}` |" in page, key
