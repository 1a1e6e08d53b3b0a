import itertools
import os
import subprocess
import sys

import pytest
import torch
from support import ROOT
from torch import nn

from allcnn.config import Base, DropoutAfter, Family, HeadPadding, Init, ModelConfig, PoolRounding, StridedB, Variant
from allcnn.networks.build import SampledConv, build_network, count_parameters
from allcnn.networks.dropout import HashDropout, reseed
from allcnn.networks.facts import check_network
from allcnn.randomness import streams
from strive.errors import ConfigError

GRID = list(itertools.product(Base, Variant))

# Convolutions with biases, Tables 1 and 2; base and Strided share theirs, so do ConvPool and All-CNN.
PARAMETERS = {
    (Base.a, False): (839_242, 856_612),
    (Base.a, True): (1_254_250, 1_271_620),
    (Base.b, False): (885_610, 902_980),
    (Base.b, True): (1_300_618, 1_317_988),
    (Base.c, False): (954_730, 972_100),
    (Base.c, True): (1_369_738, 1_387_108),
}


def built(seed=0, num_classes=10, image_size=32, **knobs):
    model = ModelConfig(**({"width": 0.1} | knobs))
    return build_network(model, num_classes=num_classes, image_size=image_size, seed=seed)


def images(count=2, size=32):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(5))


def logits(training=False, **knobs):
    network = built(**knobs).train(training)
    reseed(network, streams(0, 0, torch.device("cpu")))
    with torch.no_grad():
        return network(images())


@pytest.mark.parametrize(("base", "variant"), GRID)
def test_the_12_nets_have_as_many_parameters_as_their_tables_say(base, variant):
    model = ModelConfig(base=base, variant=variant)
    ten, hundred = PARAMETERS[base, variant in (Variant.convpool, Variant.all_cnn)]
    assert check_network(model, num_classes=10, image_size=32).parameters == ten
    assert check_network(model, num_classes=100, image_size=32).parameters == hundred
    assert count_parameters(built(base=base, variant=variant, width=1.0)) == ten


def test_large_all_cnn_has_77_million_parameters():
    widths = [3] + [320] * 3 + [640] * 3 + [960] * 3 + [1280] * 3 + [1600] * 3 + [1920]
    by_hand = sum(4 * fan * out + out for fan, out in itertools.pairwise(widths))
    by_hand += 1920 * 1920 + 1920 + 1920 * 10 + 10
    assert by_hand == 77_455_690
    assert check_network(ModelConfig(family=Family.large_all_cnn), num_classes=10, image_size=126).parameters == by_hand


def test_the_imagenet_net_has_fewer_than_10_million_parameters():
    model = ModelConfig(family=Family.all_cnn_b_imagenet)
    assert check_network(model, num_classes=1000, image_size=224).parameters == 9_372_840


@pytest.mark.parametrize(("base", "variant"), GRID)
def test_images_become_float32_logits_even_under_autocast(base, variant):
    network = built(base=base, variant=variant, num_classes=7)
    with torch.autocast("cpu", torch.bfloat16):
        answer = network(images())
    assert answer.shape == (2, 7)
    assert answer.dtype is torch.float32


def test_the_global_average_is_taken_in_float32():
    network = built()
    maps = torch.full((1, 4, 6, 6), 1.0, dtype=torch.bfloat16)
    maps[0, :, 0, 0] = 1.0078125  # the next number of bf16
    assert network.mean(maps)[0, 0].item() == pytest.approx(1 + 0.0078125 / 36, abs=1e-7)


def test_parts_bear_the_numbers_of_the_paper():
    names = [name for name, _ in built().named_children()]
    assert [name for name in names if name.startswith("conv")] == [f"conv{number}" for number in range(1, 10)]
    assert names[:3] == ["dropout0", "conv1", "relu1"]
    assert names[-2:] == ["relu9", "mean"]


def test_a_strided_convolution_is_the_plain_one_seen_at_every_second_pixel():
    plain, strided = built(variant=Variant.base).eval(), built(variant=Variant.strided).eval()
    maps = plain.relu1(plain.conv1(images()))
    assert strided.conv2.stride == (2, 2)
    torch.testing.assert_close(strided.conv2(maps), plain.conv2(maps)[:, :, ::2, ::2])


def test_the_seed_alone_decides_the_weights():
    torch.manual_seed(1)
    one = built(seed=3).state_dict()
    torch.manual_seed(2)
    other = built(seed=3).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["conv1.weight"], built(seed=4).state_dict()["conv1.weight"])


def test_building_and_checking_leave_torchs_global_generator_alone():
    before = torch.get_rng_state()
    built()
    check_network(ModelConfig(), num_classes=10, image_size=32)
    assert torch.equal(torch.get_rng_state(), before)


def test_nets_that_share_a_layer_share_its_initial_weights():
    base, all_cnn = built(variant=Variant.base), built(variant=Variant.all_cnn)
    assert torch.equal(base.conv1.weight, all_cnn.conv1.weight)


def test_a_relu_on_the_class_convolution_makes_logits_non_negative():
    assert (logits(class_relu=True) >= 0).all()
    assert (logits(class_relu=False) < 0).any()


OPEN_CHOICES = [
    ({"width": 0.2}, {}),
    ({"class_relu": False}, {}),
    ({"head_padding": HeadPadding.same}, {}),
    ({"pool_rounding": PoolRounding.pad}, {"variant": Variant.base}),
    ({"pool_rounding": PoolRounding.floor}, {"variant": Variant.convpool}),
    ({"pool_norm": 2.0}, {"variant": Variant.base}),
    ({"strided_b": StridedB.conv5x5}, {"variant": Variant.strided, "base": Base.b}),
    ({"init": Init.he}, {"init": Init.xavier_caffe}),
    ({"init": Init.torch_default}, {"init": Init.gaussian}),
    ({"init_std": 0.06}, {"init": Init.gaussian}),
    ({"dropout_input": 0.0}, {}),
    ({"dropout_hidden": 0.4}, {}),
    ({"dropout_after": DropoutAfter.pool_or_added_conv}, {"variant": Variant.strided}),
    ({"batch_norm": True}, {}),
]


@pytest.mark.parametrize(("knob", "net"), OPEN_CHOICES, ids=lambda knobs: "-".join(knobs) or "paper")
def test_each_open_choice_reaches_the_logits(knob, net):
    assert torch.equal(logits(training=True, **net), logits(training=True, **net))
    assert not torch.equal(logits(training=True, **net), logits(training=True, **(net | knob)))


@pytest.mark.parametrize(
    ("family", "size", "knob"),
    [
        (Family.large_all_cnn, 126, {"leaky_slope": 0.1}),
        (Family.large_all_cnn, 126, {"dropout_input": 0.0}),
        (Family.all_cnn_b_imagenet, 224, {"class_relu": False}),
        (Family.all_cnn_b_imagenet, 224, {"dropout_input": 0.0}),
        (Family.all_cnn_b_imagenet, 224, {"dropout_hidden": 0.1}),
    ],
)
def test_each_choice_of_the_larger_nets_reaches_the_logits(family, size, knob):
    def answer(**knobs):
        network = built(family=family, init=Init.he, width=0.05, image_size=size, **knobs)
        reseed(network, streams(0, 0, torch.device("cpu")))
        return network(images(1, size))

    assert not torch.equal(answer(), answer(**knob))


def test_batch_norm_stands_between_convolution_and_relu_but_not_after_the_last():
    names = [name for name, _ in built(batch_norm=True).named_children()]
    assert names[1:4] == ["conv1", "norm1", "relu1"]
    assert names[-3:] == ["conv9", "relu9", "mean"]


def test_every_parameter_of_every_net_gets_a_gradient():
    for base, variant in GRID:
        network = built(base=base, variant=variant, class_relu=False)
        reseed(network, streams(0, 0, torch.device("cpu")))
        network(images(8)).square().sum().backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


@pytest.mark.parametrize(
    ("knobs", "least", "typed"),
    # The head's 3x3 needs a map of 3: so 5 and 9 before strides of 2 with padding, 6 and 12 before pooling.
    [
        ({}, 9, "model=all_cnn_c"),
        ({"variant": Variant.base}, 12, "model=model_c"),
        ({"family": Family.large_all_cnn}, 126, "model=extra/large_all_cnn"),
    ],
)
def test_an_image_that_is_too_small_is_refused_with_the_smallest_that_fits(knobs, least, typed):
    model = ModelConfig(**knobs)
    assert check_network(model, num_classes=10, image_size=least).parameters > 0
    with pytest.raises(ConfigError) as caught:
        check_network(model, num_classes=10, image_size=least - 1)
    assert f"{typed} needs images of at least {least}x{least} pixels, got {least - 1}x{least - 1}" in str(caught.value)
    assert "data.image_size" in str(caught.value)


# Custom builders

BUILDERS = """
import torch
from support import ROOT
from torch import nn

def plain(num_classes, image_size, hidden=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size**2, hidden), nn.Linear(hidden, num_classes))

def dropping(num_classes, image_size):
    shared = nn.Dropout(0.3)
    inner = nn.Sequential(nn.Dropout(0.1), nn.Dropout2d(0.2), shared)
    return nn.Sequential(shared, nn.Flatten(), nn.Linear(3 * image_size**2, num_classes), inner, shared)

def half(num_classes, image_size):
    return plain(num_classes, image_size).bfloat16()

def reads_values(num_classes, image_size):
    hidden = int(torch.ones(4).sum().item())
    return plain(num_classes, image_size, hidden)

def no_module(num_classes, image_size):
    return [1]

def no_tensor(num_classes, image_size):
    class Pair(nn.Module):
        def forward(self, images):
            return images, images
    return Pair()

def other_shape(num_classes, image_size):
    return plain(num_classes + 1, image_size)

def other_size(num_classes, image_size):
    return plain(num_classes, image_size + 1)

def fails(num_classes, image_size):
    raise KeyError("colour")

def late(num_classes, image_size):
    import my_parts
    return my_parts.part(num_classes, image_size)

number = 3
"""


@pytest.fixture
def custom(tmp_path, monkeypatch):
    (tmp_path / "my_nets.py").write_text(BUILDERS)
    (tmp_path / "my_parts.py").write_text("from my_nets import plain as part\n")
    (tmp_path / "my_broken.py").write_text("1 / 0\n")
    (tmp_path / "my_needy.py").write_text("import no_such_library\n")
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").write_text("")
    (tmp_path / "my_package" / "nets.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.chdir(tmp_path)
    yield lambda builder, **kwargs: ModelConfig(family=Family.custom, builder=builder, kwargs=kwargs)
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


def custom_built(model, seed=0):
    return build_network(model, num_classes=5, image_size=8, seed=seed)


def test_a_builder_in_the_current_directory_is_found_and_called_with_its_kwargs(custom):
    model = custom("my_nets:plain", hidden=6)
    # 192 inputs, 6 hidden units, 5 classes, with biases.
    facts = check_network(model, num_classes=5, image_size=8)
    assert facts.parameters == 192 * 6 + 6 + 6 * 5 + 5
    assert facts.flops == 2 * (192 * 6 + 6 * 5)
    assert custom_built(model)(images(2, 8)).shape == (2, 5)


def test_the_search_path_is_left_as_it_was(custom):
    before = list(sys.path)
    custom_built(custom("my_nets:plain"))
    assert sys.path == before


def test_a_builder_may_import_from_the_current_directory_when_called(custom):
    assert check_network(custom("my_nets:late"), num_classes=5, image_size=8).parameters > 0


def test_the_seed_decides_what_a_builder_draws_and_nothing_else(custom):
    before = torch.get_rng_state()
    one, same, other = (custom_built(custom("my_nets:plain"), seed)[1].weight for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_outputs_of_a_custom_net_are_float32(custom):
    assert custom_built(custom("my_nets:half"))(images(2, 8).bfloat16()).dtype is torch.float32


def test_plain_dropout_of_a_custom_net_becomes_resumable_in_every_place(custom):
    network = custom_built(custom("my_nets:dropping"))
    assert not any(type(module) is nn.Dropout for module in network.modules())
    assert isinstance(network[0], HashDropout)
    assert network[0].share == 0.3
    assert network[0] is network[4] is network[3][2]
    assert network[3][0].share == 0.1
    assert isinstance(network[3][1], nn.Dropout2d)


def test_a_builder_that_reads_values_passes_the_check(custom):
    assert check_network(custom("my_nets:reads_values"), num_classes=5, image_size=8).parameters > 0


@pytest.mark.parametrize(
    ("builder", "kwargs", "message"),
    [
        ("my_missing:plain", {}, "there is no module my_missing, neither in the current directory"),
        ("my_package.missing:plain", {}, "there is no module my_package.missing"),
        ("my_broken:plain", {}, "importing my_broken raised ZeroDivisionError"),
        ("my_needy:plain", {}, "importing my_needy raised ModuleNotFoundError"),
        ("my_nets:missing", {}, "has no function missing; it has dropping, fails"),
        ("my_nets:number", {}, "has no function number"),
        (
            "my_nets:plain",
            {"depth": 3},
            "got an unexpected keyword argument 'depth'; it takes (num_classes, image_size",
        ),
        ("my_nets:plain", {"num_classes": 3}, "model.kwargs must not hold num_classes"),
        ("my_nets:no_module", {}, "must return a torch.nn.Module, got list"),
        ("my_nets:no_tensor", {}, "must map images [1, 3, 8, 8] to logits [1, 5]"),
        ("my_nets:other_shape", {}, "one column for each class), got [1, 6]"),
        ("my_nets:other_size", {}, "the net failed on images [1, 3, 8, 8]: RuntimeError"),
        ("my_nets:fails", {}, "raised KeyError: 'colour'"),
    ],
)
def test_a_wrong_builder_is_told_by_the_name_that_was_typed(custom, builder, kwargs, message):
    with pytest.raises(ConfigError) as caught:
        check_network(custom(builder, **kwargs), num_classes=5, image_size=8)
    assert str(caught.value).startswith(f"model.builder={builder}: ")
    assert message in str(caught.value)


def test_a_sampled_1x1_convolution_is_the_convolution_with_stride():
    sampled = SampledConv(16, 32, 1, stride=2).double()
    plain = nn.Conv2d(16, 32, 1, stride=2).double()
    plain.load_state_dict(sampled.state_dict())
    image = torch.randn(3, 16, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gradients, outputs = [], []
    for conv in (sampled, plain):
        maps = image.clone().requires_grad_()
        outputs.append(conv(maps))
        outputs[-1].square().sum().backward()
        gradients.append([maps.grad, conv.weight.grad, conv.bias.grad])
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_the_strided_1x1_convolutions_of_b_are_the_sampled_ones():
    net = built(base=Base.b, variant=Variant.strided)
    strides = {name: module.stride for name, module in net.named_modules() if type(module) is SampledConv}
    assert strides == {"conv2": (2, 2), "conv4": (2, 2)}


@pytest.mark.slow
def test_a_narrow_strided_net_trains_with_two_threads_and_an_odd_batch():
    # torch's own 1x1 convolution with stride aborts here; in a process of its own, because it would end this one.
    code = (
        "import torch; from allcnn.config import *; from allcnn.networks.build import build_network\n"
        "torch.set_num_threads(2)\n"
        "model = ModelConfig(base=Base.b, variant=Variant.strided, width=0.125)\n"
        "net = build_network(model, num_classes=10, image_size=32, seed=0).to(memory_format=torch.channels_last)\n"
        "for step in range(30):\n"
        "    images = torch.randn(53, 3, 32, 32).contiguous(memory_format=torch.channels_last)\n"
        "    net(images).sum().backward()\n"
    )
    # Its threads sleep while they wait for each other: on a busy machine they would spin for minutes.
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "src", env=os.environ | {"OMP_WAIT_POLICY": "passive"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
