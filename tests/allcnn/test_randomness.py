import math

import pytest
import torch

from allcnn import randomness
from allcnn.randomness import bits, drawn, enumerated, generator, integers, key, keys, number, threshold, uniform

CPU = torch.device("cpu")


def draw(seed: int, purpose: str, step: int, shape: tuple[int, ...] = (1_000_000,)) -> torch.Tensor:
    return bits(key(seed, purpose, step), enumerated(shape, CPU))


def test_numbers_depend_on_every_part_and_nothing_else():
    assert number(0, "order", 1) == number(0, "order", 1)
    others = {number(1, "order", 1), number(0, "flip", 1), number(0, "order", 2), number(0, "order", 1)}
    assert len(others) == 4
    assert all(0 <= value < 2**63 for value in others)


def test_a_generator_draws_the_same_permutation_each_time():
    first, second = (torch.randperm(50, generator=generator(0, "order", 3)) for _ in range(2))
    assert first.equal(second)


def test_torchs_global_generator_is_left_alone():
    before = torch.get_rng_state()
    draw(0, "dropout0", 1)
    torch.randperm(5, generator=generator(0))
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.9])
def test_the_threshold_takes_its_share_of_the_elements(share: float):
    count = 1_000_000
    taken = (draw(0, "dropout0", 0) < threshold(share)).float().mean().item()
    assert abs(taken - share) < 5 * math.sqrt(share * (1 - share) / count)


def test_uniform_numbers_fill_their_range_evenly():
    values = uniform(key(0, "scale", 0), 1_000_000)
    assert values.dtype == torch.float32
    assert 0 <= values.min() < values.max() < 1
    counts = torch.histc(values, 100, 0, 1)
    # Chi-square with 99 degrees of freedom: mean 99, standard deviation 14.
    assert 99 - 5 * 14 < ((counts - 10_000) ** 2 / 10_000).sum() < 99 + 5 * 14


def test_integers_are_uniform_from_zero_up_to_high():
    counts = torch.bincount(integers(key(0, "shift_x", 0), 1_100_000, 11), minlength=11)
    assert len(counts) == 11
    # 10 degrees of freedom: mean 10, standard deviation 4.5.
    assert ((counts - 100_000) ** 2 / 100_000).sum() < 10 + 5 * 4.5


@pytest.mark.parametrize("lag", [1, 2, 3, 96, 256, 8192])
def test_neighbouring_elements_are_not_correlated(lag: int):
    ones = (draw(0, "dropout0", 0) < 0).float() - 0.5
    assert abs((ones[lag:] * ones[:-lag]).mean().item() * 4) < 5e-3


def test_steps_seeds_and_purposes_are_not_correlated():
    base = (draw(0, "dropout0", 0) < 0).float() - 0.5
    for other in (draw(0, "dropout0", 1), draw(1, "dropout0", 0), draw(0, "dropout1", 0)):
        assert abs((base * ((other < 0).float() - 0.5)).mean().item() * 4) < 5e-3


def test_four_dimensions_are_numbered_alike_in_every_memory_layout():
    numbers = enumerated((2, 3, 4, 5), CPU)
    assert numbers.is_contiguous(memory_format=torch.channels_last)
    assert numbers.contiguous().flatten().equal(enumerated((120,), CPU))


def test_the_hash_is_this_one_on_every_machine():
    # A change here changes every number of every cell: worked out with Python's integers.
    def by_hand(element: int, stream: int) -> int:
        mixed = (element * 0x9E3779B9 & 0xFFFFFFFF) ^ (stream & 0xFFFFFFFF)
        mixed = (mixed ^ mixed >> 16) * 0x7FEB352D & 0xFFFFFFFF
        mixed = (mixed ^ mixed >> 15) * 0x846CA68B & 0xFFFFFFFF
        return mixed - 2**32 if mixed >= 2**31 else mixed

    stream = key(7, "flip", 123)
    assert bits(stream, enumerated((100,), CPU)).tolist() == [by_hand(i, int(stream)) for i in range(100)]


def test_bits_leave_the_numbered_elements_as_they_are():
    elements = enumerated((10,), CPU)
    before = elements.clone()
    bits(key(0, "flip", 0), elements)
    assert elements.equal(before)
    assert randomness.enumerated((10,), CPU) is elements


def test_the_keys_of_many_steps_are_those_of_each():
    steps = range(95, 105)
    assert keys(3, "shift_x", steps).tolist() == [int(key(3, "shift_x", step)) for step in steps]


def test_bits_drawn_before_give_the_numbers_that_the_key_gives():
    table = drawn(keys(3, "shift_x", range(4)), 16)
    for step in range(4):
        stream = key(3, "shift_x", step)
        for count in (16, 5):
            assert integers(table[step], count, 11).equal(integers(stream, count, 11))
            assert uniform(table[step], count).equal(uniform(stream, count))
