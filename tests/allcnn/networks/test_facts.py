import itertools

import pytest
import torch
from support import CommandLine
from torch.utils.flop_counter import FlopCounterMode

from allcnn.config import Base, Family, HeadPadding, ModelConfig, PoolRounding, StridedB, Variant
from allcnn.networks.build import _assemble, count_parameters
from allcnn.networks.facts import check_network
from allcnn.networks.spec import layers

GRID = [ModelConfig(base=base, variant=variant) for base, variant in itertools.product(Base, Variant)]
OTHERS = [
    ModelConfig(width=0.1, batch_norm=True),
    ModelConfig(variant=Variant.base, pool_rounding=PoolRounding.floor, head_padding=HeadPadding.same),
    ModelConfig(variant=Variant.convpool, pool_rounding=PoolRounding.pad, pool_norm=2),
    ModelConfig(base=Base.b, variant=Variant.strided, strided_b=StridedB.conv5x5),
    ModelConfig(family=Family.large_all_cnn, width=0.1),
    ModelConfig(family=Family.all_cnn_b_imagenet, width=0.1, batch_norm=True),
]


@pytest.mark.parametrize("model", [*GRID, *OTHERS])
def test_parameters_and_flops_are_what_torch_counts_in_the_net_itself(model: ModelConfig):
    size = {Family.paper: 33, Family.large_all_cnn: 126}.get(model.family, 224)
    facts = check_network(model, num_classes=7, image_size=size)
    with torch.device("meta"):
        network, image = _assemble(layers(model, 7)).eval(), torch.zeros(1, 3, size, size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    assert (facts.parameters, facts.flops) == (count_parameters(network), counter.get_total_flops())


# Importing torch takes longer than a plan.
def test_the_studys_nets_are_planned_without_torch(strive: CommandLine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    done = strive("-m", "model=glob(*)", "data=digits", "seed=0,1", "hydra.sweeper.dry_run=true")
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "allcnn.networks.facts" in imported
    assert not imported & {"torch", "pandas", "scipy", "matplotlib", "wandb"}
