import json

import pytest
from support import MakeConfig

from allcnn.config import Config
from strive.app import in_use
from strive.config import identity
from strive.config.identity import cell_id, differences, science_keys
from strive.config.keys import knobs


def test_an_id_reads_net_data_augment_lr_seed_and_ten_hex_digits(make_config: MakeConfig):
    readable, _, digits = cell_id(make_config("augment=flip_shift")).rpartition("-")
    assert readable == "all_cnn_c-cifar10-flip_shift-lr0.05-s0"
    assert len(digits) == 10
    assert int(digits, 16) >= 0


def test_an_explicit_default_gives_the_same_id(make_config: MakeConfig):
    assert cell_id(make_config()) == cell_id(make_config("seed=0", "optimizer.lr=5e-2", "model.width=1"))


def test_the_same_schedule_in_other_words_gives_the_same_id(make_config: MakeConfig):
    assert cell_id(make_config()) == cell_id(make_config("optimizer.drop_at=[4/7,5/7,6/7]"))


OTHER_VALUES = {
    "optimizer.drop_at": "[1/2]",
    "data.source": "cifar100",
    "data.name": "other",
    "model.builder": "a.b:c",
    "model.kwargs": "{depth: 3}",
}


@pytest.mark.parametrize("key", sorted(science_keys()))
def test_every_science_key_changes_the_id(key: str):
    # On the flat config: here it does not matter whether the combination could train.
    flat = in_use().flat(Config())
    changed = flat | {key: OTHER_VALUES.get(key, f"not {flat[key]}")}
    assert identity.hash_of(flat) != identity.hash_of(changed)


def test_a_key_that_came_later_is_part_of_an_id_only_beyond_its_default(make_config: MakeConfig):
    later = {key for key, meaning, _ in knobs(Config()) if meaning.absent}
    assert {"optimizer.kind", "augment.mixup", "label_smoothing"} <= later
    plain, other = make_config(), make_config("label_smoothing=0.1")
    assert later <= in_use().flat(plain).keys()
    assert not later & in_use().science(plain).keys()
    assert later & in_use().science(other).keys() == {"label_smoothing"}
    assert cell_id(plain) != cell_id(other)
    # However a config comes to it, from itself or from its keys, the identity is one.
    for config in (plain, other):
        again = in_use().config_of(in_use().flat(config))
        assert in_use().science(again) == in_use().science(config)
        assert later <= identity.deciding(config).keys()
    assert differences(in_use().science(plain), in_use().science(other)) == {"label_smoothing": (None, 0.1)}


def test_no_logistics_key_changes_the_id():
    logistics = {key for key, meaning, _ in knobs(Config()) if not meaning.science}
    assert logistics == {
        "data.root",
        "data.download",
        "runs",
        "trainer.device",
        "trainer.threads",
        "trainer.workers",
        "trainer.checkpoint_minutes",
        "trainer.engine",
        "trainer.compile",
        "trainer.fast",
        "trainer.lease_seconds",
        "trainer.progress",
        "tracker.kind",
        "tracker.project",
        "tracker.entity",
        "tracker.images",
        "tracker.weights",
        "needs.timeout_min",
        "needs.mem_gb",
        "needs.gres",
        "needs.cpus",
        "needs.gpus",
        "needs.partition",
        "needs.constraint",
        "needs.qos",
    }
    assert not any(map(identity.decides, logistics))
    assert not logistics & in_use().science(Config()).keys()


def test_a_config_comes_back_from_its_flat_form(make_config: MakeConfig):
    for overrides in (
        ("model=model_a", "model.pool_norm=2", "optimizer.drop_at=[1/2]", "optimizer.lr=1e-3", "augment=flip_shift"),
        ("model=extra/custom", "model.builder=a.b:c", "+model.kwargs={depth: 3, names: [x, y]}", "trainer.threads=1"),
        ("model=convpool_cnn_c", "needs.gres='gpu:1'", "trainer.device=cpu", "precision=fp32"),
    ):
        config = make_config(*overrides)
        assert in_use().config_of(json.loads(json.dumps(in_use().flat(config)))) == config
    newer = in_use().flat(config) | {"trainer.of_a_later_version": 1}
    assert in_use().config_of(newer) == config


def test_a_changed_default_gives_a_new_id(monkeypatch: pytest.MonkeyPatch, make_config: MakeConfig):
    before = cell_id(make_config())
    config = make_config()
    config.optimizer.momentum = 0.8
    assert cell_id(config) != before


def test_a_change_of_schema_gives_a_new_id(monkeypatch: pytest.MonkeyPatch):
    before = cell_id(Config())
    monkeypatch.setattr(identity, "SCHEMA", identity.SCHEMA + 1)
    assert cell_id(Config()) != before


def test_differences_names_the_keys_that_make_two_ids_differ(make_config: MakeConfig):
    a, b = make_config(), make_config("seed=3", "augment=flip_shift", "trainer.threads=1")
    assert differences(in_use().science(a), in_use().science(b)) == {
        "augment.kind": ("none", "flip_shift"),
        "seed": (0, 3),
    }


def test_cells_without_differences_have_one_id(make_config: MakeConfig):
    a, b = make_config("trainer.device=cpu"), make_config("runs=elsewhere")
    assert differences(in_use().science(a), in_use().science(b)) == {}
    assert cell_id(a) == cell_id(b)


def test_a_flat_config_is_plain_json(make_config: MakeConfig):
    flat = in_use().flat(make_config("model=model_a"))
    assert json.loads(json.dumps(flat, allow_nan=False)) == flat
    assert flat["model.pool_norm"] == "inf"


def test_two_spellings_of_one_number_give_one_id(make_config: MakeConfig):
    cells = [make_config(f"optimizer.weight_decay={zero}") for zero in ("0", "0.0", "-0.0")]
    assert len({cell_id(config) for config in cells}) == 1


def test_the_arguments_of_a_builder_may_hold_any_number(make_config: MakeConfig):
    custom = ("model=extra/custom", "model.builder=a:b")
    ids = {cell_id(make_config(*custom, f"+model.kwargs={{x: [{value}]}}")) for value in ("1", "inf", "nan")}
    assert len(ids) == 3
