import dataclasses
import math

import pytest
from support import ROOT, MakeConfig

from allcnn.config import Config, idle_knobs
from strive.config.keys import knobs
from strive.errors import ConfigError


def test_the_baseline_is_the_papers_table_3(make_config: MakeConfig):
    config = make_config()
    assert (config.model.name, config.data.name, config.preprocess.kind, config.augment.kind) == (
        "all_cnn_c",
        "cifar10",
        "gcn_zca",
        "none",
    )
    assert config.data.val_images == 0
    assert (config.optimizer.momentum, config.optimizer.weight_decay) == (0.9, 0.001)
    assert (config.budget.epochs, config.budget.batch_size) == (350, 128)


def test_the_yaml_of_the_baseline_says_what_the_schema_says(make_config: MakeConfig):
    composed = dict((key, value) for key, _, value in knobs(make_config()))
    default = dict((key, value) for key, _, value in knobs(Config()))
    default["optimizer.drop_at"] = ["4/7", "5/7", "6/7"]
    del composed["runs"], default["runs"]
    assert composed == default


def test_every_knob_has_a_meaning_and_a_closed_choice_or_a_checked_range():
    for key, meaning, value in knobs(Config()):
        assert meaning.text, key
        if isinstance(value, int | float) and not isinstance(value, bool):
            assert meaning.legal, key


def test_every_group_of_conf_composes(make_config: MakeConfig):
    for group in ("model", "preprocess", "augment", "optimizer", "budget"):
        for path in sorted((ROOT / "conf" / group).glob("*.yaml")):
            built = ("augment.builder=mine:flip",) if (group, path.stem) == ("augment", "custom") else ()
            assert make_config(f"{group}={path.stem}", *built)
    for path in sorted((ROOT / "conf" / "data").glob("*.yaml")):
        named = ("data.name=mine",) if path.stem in ("image_folder", "arrays") else ()
        assert make_config(f"data={path.stem}", "data.root=somewhere", "preprocess=standardize", *named)


def test_the_glob_on_model_sees_exactly_the_papers_twelve_nets(make_config: MakeConfig):
    names = [path.stem for path in sorted((ROOT / "conf" / "model").glob("*.yaml"))]
    assert len(names) == 12
    assert [make_config(f"model={name}").model.name for name in names] == names


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget.epochs=-1", "budget.epochs must be 1 or more, got -1"),
        ("budget.batch_size=0", "budget.batch_size must be 1 or more, got 0"),
        ("optimizer.lr=0", "optimizer.lr must be finite and above 0, got 0.0"),
        ("optimizer.lr=inf", "optimizer.lr must be finite and above 0, got inf"),
        ("optimizer.lr=nan", "optimizer.lr must be finite and above 0, got nan"),
        ("optimizer.momentum=1", "optimizer.momentum must be in [0, 1), got 1.0"),
        ("optimizer.drop_at=[250/350,200/350]", "rising fractions"),
        ("optimizer.drop_at=[x]", "rising fractions"),
        ("optimizer.drop_at=[3/0]", "rising fractions"),
        ("model.width=0", "model.width must be above 0 and at most 100, got 0.0"),
        ("model.dropout_input=1", "model.dropout_input must be in [0, 0.99], got 1.0"),
        ("model.dropout_hidden=0.999", "model.dropout_hidden must be in [0, 0.99], got 0.999"),
        ("augment.shift_px=32", "augment.shift_px must be less than data.image_size=32, got 32"),
        ("model.pool_norm=-1", "model.pool_norm must be above 0 and at most 1e9, or inf, got -1.0"),
        ("seed=-1", "seed must be 0 or more, got -1"),
        ("label_smoothing=1", "label_smoothing must be in [0, 1), got 1.0"),
        ("augment.mixup=-0.1", "augment.mixup must be finite, 0 or more, got -0.1"),
        ("augment.cutout_px=32", "augment.cutout_px must be less than data.image_size=32, got 32"),
        ("augment=custom", "augment.builder must be package.module:function for augment=custom, got nothing"),
        ("optimizer.beta2=1", "optimizer.beta2 must be in [0, 1), got 1.0"),
        ("optimizer.step_epochs=0", "optimizer.step_epochs must be 1 or more, less than budget.epochs, got 0"),
        ("optimizer={schedule:step,step_epochs:350}", "must be less than budget.epochs=350"),
        ("optimizer.rise=0", "optimizer.rise must be above 0 and below 1, got 0.0"),
        ("data.val_images=-5", "data.val_images must be 0 or more"),
        ("data.name=mine", "data.name must be cifar10 for data=cifar10, got mine"),
        ("data.image_size=64", "data.image_size must be 32 for data=cifar10, got 64"),
        ("trainer.threads=-1", "trainer.threads must be 0 or more, got -1"),
        ("model.family=custom", "model.builder must be package.module:function"),
    ],
)
def test_a_wrong_value_is_refused_with_the_key_what_was_got_and_what_is_legal(
    make_config: MakeConfig, override: str, message: str
):
    with pytest.raises(ConfigError) as caught:
        make_config(override)
    assert message in str(caught.value)


def test_all_wrong_values_are_listed_at_once(make_config: MakeConfig):
    with pytest.raises(ConfigError) as caught:
        make_config("seed=-1", "budget.epochs=0", "optimizer.lr=-2")
    assert len(str(caught.value).splitlines()) == 3


def test_the_jpeg_copies_cannot_be_called_cifar10(make_config: MakeConfig):
    with pytest.raises(ConfigError, match=r"must be a name of your own for data=image_folder"):
        make_config("data=image_folder", "data.root=x", "data.name=cifar10")


@pytest.mark.parametrize(
    "override",
    [
        "model.pool_norm=2",
        "model.strided_b=conv5x5",
        "model.dropout_after=pool_or_added_conv",
        "model.leaky_slope=0.1",
        "augment.shift_px=4",
        "optimizer.drop_factor=0.5",
        "optimizer.beta1=0.5",
        "optimizer.end_factor=0.5",
        "+augment.kwargs.a=1",
    ],
)
def test_a_knob_that_the_cell_ignores_cannot_be_moved(make_config: MakeConfig, override: str):
    # Two ids for one training would make an ablation compare a cell with itself.
    with pytest.raises(ConfigError, match="has no effect here"):
        make_config(override, "optimizer.drop_at=[]")


def test_the_same_knob_can_be_moved_where_it_acts(make_config: MakeConfig):
    assert make_config("model=model_a", "model.pool_norm=2").model.pool_norm == 2
    assert make_config("model=strided_cnn_b", "model.strided_b=conv5x5").model.strided_b == "conv5x5"
    assert make_config("augment=flip_shift", "augment.shift_px=4").augment.shift_px == 4
    assert make_config("model.init_std=0.1").model.init_std == 0.1
    with pytest.raises(ConfigError, match=r"model\.init_std=0\.1 has no effect here"):
        make_config("model.init=he", "model.init_std=0.1")


def test_without_weight_decay_it_cannot_matter_what_decays(make_config: MakeConfig):
    with pytest.raises(ConfigError, match=r"optimizer\.decay_biases=False has no effect here"):
        make_config("optimizer.weight_decay=0", "optimizer.decay_biases=false")


def test_a_folder_of_images_needs_a_name(make_config: MakeConfig):
    # The id knows a data set by its name: two folders of one name would share their cells.
    with pytest.raises(ConfigError, match=r"data\.name must be a name of your own"):
        make_config("data=image_folder", "data.root=x")


def test_idle_knobs_are_knobs():
    known = {key for key, _, _ in knobs(Config())}
    assert set(idle_knobs(Config())) < known


def test_an_infinite_pool_norm_is_legal_from_the_command_line(make_config: MakeConfig):
    assert make_config("model=model_c", "model.pool_norm=inf").model.pool_norm == math.inf


def test_a_config_group_has_no_knob_without_a_meaning():
    for group in dataclasses.fields(Config):
        if group.name == "sweeps":
            continue  # no knob: no cell carries it
        value = getattr(Config(), group.name)
        for item in dataclasses.fields(value) if dataclasses.is_dataclass(value) else [group]:
            assert "meaning" in item.metadata
