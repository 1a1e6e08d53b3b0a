import subprocess
import sys

import pytest
from support import MakeConfig

from allcnn.app import APP
from allcnn.config import Config
from strive.app import in_use
from strive.config.keys import knobs


def key(config: Config) -> str:
    return APP.pack_key(in_use().flat(config))


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=1"],
        ["optimizer.lr=0.1", "optimizer.momentum=0.5", "optimizer.weight_decay=0", "optimizer.drop_at=[]"],
        ["budget.epochs=7"],
        ["augment=flip_shift", "augment.shift_px=3", "augment.flip_probability=0.1"],
        ["runs=elsewhere", "tracker.project=mine", "needs.timeout_min=5", "trainer.progress=false"],
    ],
)
def test_cells_that_differ_in_values_of_a_step_share_a_pack(make_config: MakeConfig, overrides: list[str]):
    assert key(make_config(*overrides)) == key(make_config())


@pytest.mark.parametrize(
    "override",
    [
        "model=all_cnn_b", "model.width=0.5", "model.dropout_input=0", "model.class_relu=false",
        "data=cifar100", "data.val_images=5000", "data.root=other", "preprocess=standardize",
        "budget.batch_size=64", "precision=fp32", "augment=extreme",
        "trainer.device=cpu", "trainer.threads=2", "trainer.checkpoint_minutes=1", "trainer.compile=true",
    ],
)  # fmt: skip
def test_cells_that_differ_in_what_a_step_computes_do_not(make_config: MakeConfig, override: str):
    assert key(make_config(override)) != key(make_config())


def test_extreme_augmentation_is_alike_in_all_its_knobs(make_config: MakeConfig):
    extreme = key(make_config("augment=extreme"))
    assert extreme == key(make_config("augment=extreme", "seed=1", "optimizer.lr=0.1"))
    assert extreme != key(make_config("augment=extreme", "augment.canvas_px=100"))
    assert extreme != key(make_config("augment=extreme", "augment.contrast=0.1"))


def test_a_knob_that_nobody_thought_of_keeps_cells_apart(make_config: MakeConfig):
    config = make_config()
    shared = [name for name, _, _ in knobs(config) if f'"{name}": ' in key(config)]
    free = {name for name, _, _ in knobs(config)} - set(shared)
    assert {name.partition(".")[0] for name in free} == {
        "seed", "optimizer", "budget", "augment", "runs", "tracker", "needs", "trainer",
    }  # fmt: skip
    assert {name for name in free if name.startswith(("budget.", "trainer."))} == {"budget.epochs", "trainer.progress"}
    flat = in_use().flat(config)
    assert APP.pack_key(flat) != APP.pack_key(flat | {"model.of_a_later_version": 1})


def test_it_imports_no_torch():
    code = "import sys, allcnn.app, strive.launch.cell_queue; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
