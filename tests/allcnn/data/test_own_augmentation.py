"""augment=custom: a user's own augmentation, from its builder to a cell's id and numbers."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support import MakeConfig, MakePlan, plainly

from allcnn import randomness
from allcnn.app import APP
from allcnn.config import Augment, AugmentConfig, Config
from allcnn.data.own_augmentation import check_augmentation, own_augmentation
from allcnn.data.splits import load_splits
from allcnn.training import EagerExecutor, Execution, GraphExecutor, Outcome, Training, train_epoch
from strive.app import in_use
from strive.cells.records import as_recorded
from strive.config import identity
from strive.errors import ConfigError
from strive.sweeps.plan import StoredPlan, write_plan
from strive.sweeps.plan_text import plan_lines

CODE = """
import torch

def noise(strength: float = 0.1, names=("n",)):
    def apply(images, draw):
        for name in names:
            images = images + strength * draw(name)[:, None, None, None]
        return images
    return apply

def torchs_noise():
    return lambda images, draw: images + torch.randn_like(images)

def crop():
    return lambda images, draw: images[:, :, 1:]

def half():
    return lambda images, draw: images.bfloat16()

def fails():
    return lambda images, draw: images + draw.no

def nothing():
    return None
"""
ON = ("augment=custom", "augment.builder=my_augment:noise")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "my_augment.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("my_augment", None)


def custom(name: str, **kwargs: object) -> AugmentConfig:
    return AugmentConfig(kind=Augment.custom, builder=f"my_augment:{name}", kwargs=kwargs)


def test_it_draws_from_streams_of_its_own_by_name():
    own = own_augmentation(custom("noise", strength=0.5, names=["a", "b"]), seed=0)
    assert own is not None
    streams = randomness.streams(4, 2, CPU)
    a, b = (randomness.uniform(streams(f"custom {name}"), 8) for name in "ab")
    found = own(torch.zeros(8, 3, 4, 4), streams)
    torch.testing.assert_close(found[:, 0, 0, 0], 0.5 * a + 0.5 * b)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("crop", "must map images torch.float32 [2, 3, 8, 8] to images of that type and shape, got torch.float32"),
        ("half", "got torch.bfloat16 [2, 3, 8, 8]"),
        ("nothing", "must return a function of (images, draw), got NoneType"),
        ("fails", "raised AttributeError"),
        ("lacking", "has no function lacking; it has crop, fails"),
    ],
)
def test_one_that_cannot_be_used_is_refused_before_anything_trains(name: str, message: str):
    with pytest.raises(ConfigError) as caught:
        check_augmentation(custom(name), 8)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"augment.builder=my_augment:{name}: ")


def test_arguments_are_filled_in_typed_and_part_of_the_id(make_config: MakeConfig):
    more: list[tuple[str, ...]] = [(), ("+augment.kwargs.strength=1e-1",), ("+augment.kwargs.strength=1",)]
    plain, same, other = (as_recorded(make_config(*ON, *each)) for each in more)
    assert plain.augment.kwargs == {"strength": 0.1, "names": ("n",)}
    assert identity.cell_id(plain) == identity.cell_id(same) != identity.cell_id(other)
    with pytest.raises(ConfigError, match=r"augment\.builder=my_augment:noise: it takes strength"):
        make_config(*ON, "+augment.kwargs.strength=loud")


def test_an_argument_that_varies_is_a_key_of_the_plan_and_of_its_lines(make_plan: MakePlan):
    plan = make_plan(*ON, "+augment.kwargs.strength=0.1,0.3")
    lines = [line for line in plan_lines(plan, []) if line.startswith("  ")]
    assert [line.split()[0] for line in lines] == ["strength=0.1", "strength=0.3"]
    write_plan(plan)
    stored = StoredPlan.read(plan.folder)
    assert stored.varying == ["augment.kwargs.strength"]
    assert [stored.science(each) for each in stored.cells] == [in_use().science(each.config) for each in plan.cells]


def test_its_file_is_part_of_the_code_that_trains_the_cell(make_config: MakeConfig):
    with_own, without = (APP.code_of(in_use().flat(each)) for each in (make_config(*ON), make_config()))
    assert with_own.hash != without.hash
    assert set(with_own.files) - set(without.files) == {"my_augment.py"}


def trained(config: Config, *, graph: bool = False) -> tuple[Training, Outcome]:
    cell = Training(config, load_splits(config, CPU), Execution(CPU, threads=1, compiled=False))
    executor = GraphExecutor(plainly) if graph else EagerExecutor()
    train_epoch([cell], executor, lambda training: None)
    return cell, cell.outcome()


@pytest.mark.parametrize("name", ["noise", "torchs_noise"])
def test_it_trains_the_same_numbers_again_and_others_than_without(make_small: MakeConfig, name: str):
    short = ("budget.epochs=1", "budget.batch_size=1397", "precision=fp32")
    config = make_small(*short, "augment=custom", f"augment.builder=my_augment:{name}")
    cell, one = trained(config, graph=True)
    assert "augment.builder's function" in cell.fallback
    _, again = trained(config)
    _, without = trained(make_small(*short))
    assert again.test.logits.equal(one.test.logits)
    assert not again.test.logits.equal(without.test.logits)
