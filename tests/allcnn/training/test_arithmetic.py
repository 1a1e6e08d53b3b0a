import copy
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from support import MakeConfig, needs_native_bf16, train_cell
from test_train import BASE, CPU, few
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from allcnn.config import Base, Config, ModelConfig, Precision, Variant
from allcnn.data.splits import load_splits
from allcnn.networks.build import build_network
from allcnn.training import Bf16, bf16_of
from allcnn.training.arithmetic import SWITCH, _has_native, autocast
from strive.errors import ConfigError

HERE = torch.device("cpu")
EITHER = [pytest.param("native", marks=needs_native_bf16), "rounded"]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def round_to_bf16(value: Tensor) -> Tensor:
    return value.to(torch.bfloat16).double()


def last_places(got: Tensor, exact: Tensor) -> Tensor:
    """Return how far bf16 values are from exact ones, in units of the last place that bf16 has: 8 significant bits."""
    unit = torch.exp2(torch.floor(torch.log2(exact.abs().clamp(min=2.0**-126))) - 7)
    return (got.double() - exact).abs() / unit


PRODUCTS: dict[str, tuple[Callable[..., Tensor], list[Tensor]]] = {
    "conv2d": (lambda x, w, b: F.conv2d(x, w, b, padding=1), [drawn(2, 5, 9, 9), drawn(4, 5, 3, 3), drawn(4)]),
    "conv1x1": (lambda x, w: F.conv2d(x, w, stride=2), [drawn(2, 8, 6, 6), drawn(4, 8, 1, 1)]),
    "transposed": (lambda x, w: F.conv_transpose2d(x, w), [drawn(2, 5, 4, 4), drawn(5, 4, 3, 3)]),
    "linear": (F.linear, [drawn(6, 20), drawn(7, 20), drawn(7)]),
    "matmul": (lambda a, b: a @ b, [drawn(6, 20), drawn(20, 7)]),
    "bmm": (torch.bmm, [drawn(3, 4, 9), drawn(3, 9, 2)]),
    "einsum": (lambda a, b: torch.einsum("ik,kj->ij", a, b), [drawn(6, 20), drawn(20, 7)]),
}


@pytest.mark.parametrize("kernels", EITHER)
@pytest.mark.parametrize("name", PRODUCTS)
def test_bf16_rounds_factors_and_sums_and_nothing_in_between(monkeypatch: pytest.MonkeyPatch, kernels: str, name: str):
    monkeypatch.setenv(SWITCH, kernels)
    function, factors = PRODUCTS[name]
    leaves = [factor.clone().requires_grad_() for factor in factors]
    with autocast(Precision.bf16, HERE):
        got = function(*leaves)
    assert got.dtype == torch.bfloat16
    # The definition, in float64, whose own rounding does not matter here.
    exact_leaves = [round_to_bf16(factor).requires_grad_() for factor in factors]
    exact = function(*exact_leaves)
    # Half a unit is rounding; a sum in float32 can fall on the other side of the middle.
    assert last_places(got, exact).max() <= 0.51
    toward = drawn(*got.shape, seed=1).to(torch.bfloat16)
    gradients = torch.autograd.grad(got, leaves, toward)
    for gradient, wanted in zip(gradients, torch.autograd.grad(exact, exact_leaves, toward.double()), strict=True):
        assert gradient.dtype == torch.float32
        assert gradient.equal(gradient.to(torch.bfloat16).float())
        assert last_places(gradient, wanted).max() <= 0.51


def test_where_a_net_switches_autocast_off_it_computes_in_float32(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SWITCH, "rounded")
    images, weights = drawn(2, 5, 9, 9), drawn(4, 5, 3, 3)
    with autocast(Precision.bf16, HERE), torch.autocast("cpu", enabled=False):
        assert F.conv2d(images, weights).equal(torch.conv2d(images, weights))


def test_float64_stays_float64_as_under_autocast(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SWITCH, "rounded")
    a, b = drawn(6, 20).double(), drawn(20, 7).double()
    wanted = a @ b
    with autocast(Precision.bf16, HERE):
        assert (a @ b).equal(wanted)


def test_fp32_is_float32_whatever_the_switch_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SWITCH, "rounded")
    assert bf16_of(Precision.fp32, HERE) is None
    with autocast(Precision.fp32, HERE):
        assert F.linear(drawn(6, 20), drawn(7, 20)).equal(drawn(6, 20) @ drawn(7, 20).T)


def test_a_wrong_switch_is_refused_with_what_is_legal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SWITCH, "fast")
    with pytest.raises(ConfigError, match="STRIVE_BF16=fast in the environment: legal are native, rounded"):
        bf16_of(Precision.bf16, HERE)


@pytest.mark.parametrize(
    ("processor", "wanted"),
    [
        ({}, Bf16.rounded),  # neither
        ({"_is_avx2_supported"}, Bf16.rounded),  # AMD Zen 3, most laptops
        ({"_is_avx2_supported", "_is_avx512_supported", "onednn"}, Bf16.rounded),  # Skylake: oneDNN's word, in software
        ({"_is_avx2_supported", "_is_avx512_bf16_supported", "onednn"}, Bf16.native),  # AMD Zen 4
        ({"_is_avx2_supported", "_is_amx_tile_supported", "onednn"}, Bf16.native),
        ({"_is_avx2_supported", "_is_amx_tile_supported"}, Bf16.rounded),  # a torch without oneDNN
        ({"onednn"}, Bf16.native),  # ARM with bf16
    ],
)
def test_a_processor_is_asked_for_its_instructions_not_tried(
    monkeypatch: pytest.MonkeyPatch, processor: set[str], wanted: Bf16
):
    monkeypatch.delenv(SWITCH, raising=False)
    names = ("_is_avx2_supported", "_is_avx512_supported", "_is_avx512_bf16_supported", "_is_amx_tile_supported")
    for name in names:
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name in processor)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: "onednn" in processor)
    _has_native.cache_clear()
    try:
        assert bf16_of(Precision.bf16, HERE) is wanted
    finally:
        _has_native.cache_clear()


@pytest.mark.parametrize(("capability", "wanted"), [((7, 5), Bf16.rounded), ((8, 0), Bf16.native)])
def test_a_gpu_below_compute_capability_8_rounds(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], wanted: Bf16
):
    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    _has_native.cache_clear()
    try:
        assert bf16_of(Precision.bf16, torch.device("cuda")) is wanted
    finally:
        _has_native.cache_clear()


class Rechecked(nn.Module):
    """A net of a user's that computes its first layer again in its backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 10, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = checkpoint(self.first, images, use_reentrant=False)
        return self.second(maps.relu()).mean((2, 3))


def test_what_is_computed_again_in_the_backward_pass_is_computed_the_same_way(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SWITCH, "rounded")
    torch.manual_seed(0)
    net, images = Rechecked(), drawn(4, 3, 12, 12)
    gradients = []
    for again in (True, False):
        with autocast(Precision.bf16, HERE):
            logits = net(images) if again else net.second(net.first(images).relu()).mean((2, 3))
        gradients.append(torch.autograd.grad(logits.float().square().sum(), list(net.parameters())))
    assert all(map(torch.equal, *gradients))


def gradients_of(net: nn.Module, images: Tensor) -> Tensor:
    """Return the gradients of all parameters as one vector."""
    with autocast(Precision.bf16, HERE):
        logits = net(images)
    loss = F.cross_entropy(logits, torch.arange(len(images)) % 10)
    return torch.cat([each.flatten() for each in torch.autograd.grad(loss, list(net.parameters()))])


@needs_native_bf16
@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("variant", Variant)
def test_rounded_kernels_agree_with_native_ones_as_two_native_ones_do(
    monkeypatch: pytest.MonkeyPatch, variant: Variant, batch_norm: bool
):
    model = ModelConfig(base=Base.b, variant=variant, width=0.25, batch_norm=batch_norm)
    net = build_network(model, num_classes=10, image_size=32, seed=0).train()
    net = net.to(memory_format=torch.channels_last)
    images = drawn(16, 3, 32, 32).contiguous(memory_format=torch.channels_last)

    def found(kernels: str) -> Tensor:
        monkeypatch.setenv(SWITCH, kernels)
        return gradients_of(copy.deepcopy(net), images)

    native, rounded = found("native"), found("rounded")
    with torch.backends.mkldnn.flags(enabled=False):
        other = found("native")
    # Another kernel sums in another order, which moves some results to the neighbouring bf16 number.
    assert (rounded - native).norm() <= 1.5 * (other - native).norm()


@needs_native_bf16
def test_training_curves_of_both_ways_differ_less_than_those_of_two_seeds(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch
):
    losses: dict[str, list[float]] = {}
    for kernels in Bf16:
        monkeypatch.setenv(SWITCH, kernels)
        for seed in (0, 1, 2):
            config: Config = make_small(*BASE, "precision=bf16", "model.init=he", f"seed={seed}", "budget.epochs=3")
            outcome = train_cell(config, few(load_splits(config, CPU.device)), CPU)
            losses.setdefault(kernels, []).append(outcome.history[-1].train_loss)
    native, rounded = losses[Bf16.native], losses[Bf16.rounded]
    between_seeds = min(abs(a - b) for a, b in pairwise(sorted(native)))
    assert max(abs(a - b) for a, b in zip(native, rounded, strict=True)) < between_seeds
