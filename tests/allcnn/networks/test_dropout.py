import math

import pytest
import torch
import torch._dynamo.testing
from torch import nn

from allcnn.config import ModelConfig
from allcnn.networks.build import build_network
from allcnn.networks.dropout import HashDropout, reseed
from allcnn.randomness import streams

SHAPE = (64, 32, 16, 16)


def mask(share=0.5, *, seed=0, step=0, shape=SHAPE):
    dropout = HashDropout(share)
    reseed(dropout, streams(seed, step, torch.device("cpu")))
    return dropout(torch.ones(shape)) != 0


def correlation(one, other):
    return torch.corrcoef(torch.stack([one.flatten().double(), other.flatten().double()]))[0, 1].item()


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.9])
def test_the_share_of_zeros_is_the_one_asked_for(share):
    kept = mask(share)
    deviation = math.sqrt(share * (1 - share) / kept.numel())
    assert abs(1 - kept.double().mean().item() - share) < 4 * deviation


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_neighbours_steps_and_seeds_are_independent(share):
    kept = mask(share)
    bound = 5 / math.sqrt(kept.numel())
    for axis in range(4):
        assert (
            abs(correlation(kept.narrow(axis, 1, kept.shape[axis] - 1), kept.narrow(axis, 0, kept.shape[axis] - 1)))
            < bound
        )
    assert abs(correlation(kept, mask(share, step=1))) < bound
    assert abs(correlation(kept, mask(share, seed=1))) < bound


def test_the_places_of_a_net_have_masks_of_their_own():
    net = nn.Sequential(HashDropout(0.5), HashDropout(0.5))
    reseed(net, streams(0, 0, torch.device("cpu")))
    first, second = net[0](torch.ones(SHAPE)) != 0, net[1](torch.ones(SHAPE)) != 0
    assert abs(correlation(first, second)) < 5 / math.sqrt(first.numel())


def test_survivors_are_scaled_so_that_the_mean_stays():
    dropped = HashDropout(0.2)(torch.ones(SHAPE))
    assert dropped.unique().tolist() == [0.0, 1.25]


def test_evaluation_and_a_share_of_zero_change_nothing():
    values = torch.randn(4, 3, 8, 8)
    assert torch.equal(HashDropout(0.5).eval()(values), values)
    assert torch.equal(HashDropout(0.0)(values), values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_layout_changes_neither_the_mask_nor_is_it_changed(dtype):
    values = torch.randn(6, 5, 7, 9).to(dtype)
    rows, pixels = values.contiguous(), values.contiguous(memory_format=torch.channels_last)
    dropout = HashDropout(0.5)
    assert torch.equal(dropout(rows), dropout(pixels))
    assert dropout(rows).is_contiguous()
    assert dropout(pixels).is_contiguous(memory_format=torch.channels_last)
    assert dropout(pixels).dtype is dtype


def test_images_of_a_smaller_batch_keep_their_masks():
    # Elements are numbered image by image, so a shorter batch is a prefix.
    assert torch.equal(mask(shape=(5, 3, 8, 8)), mask(shape=(8, 3, 8, 8))[:5])


def test_seed_and_step_decide_the_mask():
    assert torch.equal(mask(seed=3, step=7), mask(seed=3, step=7))
    assert not torch.equal(mask(seed=3, step=7), mask(seed=3, step=8))
    assert not torch.equal(mask(seed=3, step=7), mask(seed=4, step=7))


def test_gradients_pass_where_values_did():
    values = torch.randn(8, 4, 5, 5, requires_grad=True)
    dropped = HashDropout(0.5)(values)
    dropped.sum().backward()
    assert torch.equal(values.grad, torch.where(dropped == 0, 0.0, 2.0))


def test_a_dropped_value_is_zero_even_if_it_was_not_finite():
    assert HashDropout(0.5)(torch.full((4, 4, 4, 4), math.inf)).isnan().sum() == 0


def test_the_key_is_not_part_of_what_is_saved_but_moves_with_the_net():
    dropout = HashDropout(0.5)
    assert dropout.state_dict() == {}
    assert dropout.to("meta").key.is_meta


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch 2.11, inside its compiler
@pytest.mark.slow
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_compiled_net_draws_the_masks_of_the_plain_one_and_compiles_once(precision):
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("inductor")
    net = build_network(ModelConfig(width=0.05, class_relu=False), num_classes=10, image_size=32, seed=0).train()
    compiled = torch.compile(net, backend=counter)
    images = torch.randn(4, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
        for step in range(3):
            reseed(net, streams(0, step, torch.device("cpu")))
            # Compilation fuses operations, which moves the last bits: 8 of them in bf16.
            torch.testing.assert_close(compiled(images), net(images), rtol=0.02, atol=0.002)
    assert counter.frame_count == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch 2.11, inside its compiler
@pytest.mark.slow
def test_a_compiled_dropout_drops_the_same_elements_bit_for_bit():
    torch._dynamo.reset()
    dropout = HashDropout(0.3)
    compiled = torch.compile(dropout)
    for step, images in enumerate([8, 8, 8, 5]):
        reseed(dropout, streams(0, step, torch.device("cpu")))
        values = torch.randn(images, 6, 9, 9).contiguous(memory_format=torch.channels_last)
        assert torch.equal(compiled(values), dropout(values))
