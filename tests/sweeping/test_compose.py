from pathlib import Path

import pytest
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from support import MakeConfig

from strive.complaint import complaint
from strive.config import ConfigError
from strive.sweeping.compose import Composer

CELLS = (
    (),
    ("model=model_a", "optimizer.lr=1e-1", "seed=3"),
    ("seed=3", "model=model_a", "optimizer.lr=1", "precision=fp32"),
    ("augment=flip_shift", "augment.shift_px=4", "optimizer.drop_at=[1/2, 3/4]"),
    ("model=convpool_cnn_b", "model.pool_norm=inf", "model.width=1"),
    ("model.base=a", "model.variant=strided", "optimizer.drop_at=[]"),
    ("model=extra/custom", "model.builder=a.b:c", "+model.kwargs.depth=3", "+model.kwargs.names=[x,y]"),
    ("data=image_folder", "data.name=mine", "data.root='a folder, with a comma'"),
    ("needs.gres='gpu:1'", "trainer.threads=2", "trainer.device=cpu"),
    ("optimizer.lr=0.1", "optimizer.lr=0.2"),
)


@pytest.mark.parametrize("overrides", CELLS, ids=" ".join)
def test_a_cell_is_what_hydra_composes(composer: Composer, make_config: MakeConfig, tmp_path: Path, overrides):
    # make_config asks Hydra for the whole cell each time.
    assert composer.compose((f"runs={tmp_path / 'runs'}", *overrides)) == make_config(*overrides)


def test_each_choice_of_groups_is_composed_once(composer: Composer, monkeypatch: pytest.MonkeyPatch):
    loaded: list[object] = []
    original = composer._load
    monkeypatch.setattr(composer, "_load", lambda overrides: loaded.append(overrides) or original(overrides))
    for net in ("model_a", "model_b"):
        for seed in range(20):
            composer.compose((f"model={net}", f"seed={seed}", "budget.epochs=3"))
    assert loaded == [("model=model_a",), ("model=model_b",)]


def test_two_cells_share_nothing_that_one_could_change(composer: Composer):
    one, other = composer.compose(("seed=1",)), composer.compose(("seed=2",))
    assert one.optimizer is not other.optimizer
    one.optimizer.drop_at.append("9/10")
    assert composer.compose(("seed=3",)).optimizer.drop_at == ["4/7", "5/7", "6/7"]


@pytest.mark.parametrize("overrides", [("seed=1", "runs='${data.name}-runs'"), ("data.root='${oc.env:HOME}'",)])
def test_interpolation_is_left_to_hydra(composer: Composer, overrides: tuple[str, ...]):
    config = composer.compose(overrides)
    assert "${" not in f"{config}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lrr=1", "there is no key optimizer.lrr"),
        ("optimizer.lr=high", "optimizer.lr: "),
        ("seed=1.5", "seed: "),
        ("precision=fp16", "one of bf16, fp32"),
        ("model=resnet", "Could not find 'model/resnet'"),
        ("budget.epochs=0", "budget.epochs must be 1 or more, got 0"),
    ],
)
def test_a_wrong_override_is_told_as_for_a_single_cell(
    composer: Composer, make_config: MakeConfig, override: str, message: str
):
    errors = (ConfigError, HydraException, OmegaConfBaseException)
    texts = []
    for compose in (lambda: composer.compose((override,)), lambda: make_config(override)):
        with pytest.raises(errors) as caught:
            compose()
        texts.append(complaint(caught.value))
    assert texts[0] == texts[1]
    assert message in str(texts[0])


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("seed=3", ["seed=3"]),
        ("seed=0,1", ["seed=0", "seed=1"]),
        ("seed=range(0,3)", ["seed=0", "seed=1", "seed=2"]),
        ("model=glob(model_*)", ["model=model_a", "model=model_b", "model=model_c"]),
        ("optimizer.drop_at=[1/2],[]", ["optimizer.drop_at=[1/2]", "optimizer.drop_at=[]"]),
        ("+model.kwargs.depth=1,2", ["+model.kwargs.depth=1", "+model.kwargs.depth=2"]),
    ],
)
def test_what_sweeps_is_expanded(composer: Composer, text: str, expanded: list[str]):
    assert composer.expand(text) == expanded
