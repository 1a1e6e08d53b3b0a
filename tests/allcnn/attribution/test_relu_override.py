"""Every spelling of a ReLU obeys the rule, and whatever else bends the signal is refused by name."""

import pytest
import torch
import torch.nn.functional as F
from small_nets import distance, images, small_net
from torch import nn

from allcnn.attribution import AttributionError, attribute
from allcnn.attribution.rules import Pooling, Rule
from allcnn.config import Base, Variant

UNIT = {"layer": "after", "channels": [1, 3], "positions": [[2, 2], [4, 3]]}


class Between(nn.Module):
    """Two convolutions, and between them what is tested."""

    def __init__(self, middle, seed=0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.before, self.after = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1)
        self.middle = middle

    def forward(self, pictures):
        return self.after(self.middle(self.before(pictures)))


def maps(middle, rule, **more):
    network = Between(middle).double().eval()
    return attribute(network, images(size=8), rule=rule, **UNIT | more).maps


def expected(rule, passed=lambda f, r: True):
    """Go back by hand; passed: where else the signal must not be stopped."""
    network = Between(nn.ReLU()).double()
    leaf = images(size=8).requires_grad_()
    f = network.before(leaf)
    hidden = f.detach().relu().requires_grad_()
    made = network.after(hidden)
    start = sum(
        made[place, channel, *position]
        for place, (channel, position) in enumerate(zip(UNIT["channels"], UNIT["positions"], strict=True))
    )
    (r,) = torch.autograd.grad(start, hidden)
    mask = {"backprop": f > 0, "deconvnet": r > 0, "guided": (f > 0) & (r > 0)}[rule]
    return torch.autograd.grad(f, leaf, torch.where(mask, r, 0.0))[0]


def zeros_first(x):
    return torch.maximum(torch.zeros(()).to(x), x)


def written_into_a_part(x):
    made = x.clone()
    made[:, :4] = F.relu(x[:, :4])
    made[:, 4:].relu_()
    return made


def scaled_in_parts(x):
    made = x.clone()
    made[:, :4].mul_(2.0).sub_(1.0)
    made[:, 4:] += 1
    made[:, :4].add_(1.0).div_(2.0)
    made[:, 4:] -= 1
    return made.relu()


SPELLINGS = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU inplace": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu inplace": lambda x: F.relu(x, inplace=True),
    "F.relu positional inplace": lambda x: F.relu(x, True),
    "F.relu by keyword": lambda x: F.relu(input=x),
    "F.relu_": lambda x: F.relu_(x),
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "x.relu": lambda x: x.relu(),
    "x.relu_": lambda x: x.relu_(),
    "x.clamp(0)": lambda x: x.clamp(0),
    "x.clamp(min=0.0)": lambda x: x.clamp(min=0.0),
    "x.clamp(min=tensor)": lambda x: x.clamp(min=torch.zeros(()).to(x)),
    "x.clamp_(min=0)": lambda x: x.clamp_(min=0),
    "torch.clamp": lambda x: torch.clamp(x, min=0),
    "torch.clip": lambda x: torch.clip(x, 0, None),
    "torch.clamp_min": lambda x: torch.clamp_min(x, 0),
    "x.clamp_min_": lambda x: x.clamp_min_(0),
    "nn.Threshold": nn.Threshold(0, 0),
    "F.threshold": lambda x: F.threshold(x, 0, 0),
    "F.threshold inplace": lambda x: F.threshold(x, 0.0, 0.0, True),
    "torch.threshold": lambda x: torch.threshold(x, threshold=0, value=0),
    "torch.maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "torch.maximum, zero first": zeros_first,
    "x.maximum": lambda x: x.maximum(x.new_zeros(())),
    "torch.max": lambda x: torch.max(x, other=torch.zeros(1).to(x)),
    "torch.fmax": lambda x: torch.fmax(x, torch.zeros_like(x)),
    "torch.ops.aten.relu": torch.ops.aten.relu,
    "torch.ops.aten.relu.default": torch.ops.aten.relu.default,
    "in two parts": lambda x: torch.cat([F.relu(part) for part in x.chunk(2, 1)], 1),
    "written into a part": written_into_a_part,
    "linear in parts, in place": scaled_in_parts,
    "nested": nn.Sequential(nn.Sequential(nn.Identity(), nn.ReLU())),
    "with a dropout that is off": nn.Sequential(nn.ReLU(), nn.Dropout(0.5)),
    "twice": nn.Sequential(*[nn.ReLU()] * 2),
}


def test_the_rules_differ_where_the_spellings_are_tried():
    answers = [expected(rule) for rule in Rule]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert distance(answers[one], answers[other]) > 0.1


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_relu_obeys_the_rule(spelling, rule):
    assert distance(maps(SPELLINGS[spelling], rule), expected(rule)) < 1e-12


@pytest.mark.parametrize("rule", Rule)
def test_a_compiled_relu_obeys_the_rule(rule):
    compiled = torch.compile(torch.relu, backend="eager")
    assert distance(maps(compiled, rule), expected(rule)) < 1e-12


@pytest.mark.parametrize("rule", Rule)
def test_a_compiled_network_obeys_the_rule_before_and_after_its_first_call(rule):
    network = torch.compile(Between(nn.ReLU()).double().eval(), backend="eager")
    unit = UNIT | {"layer": "_orig_mod.after"}
    first = attribute(network, images(size=8), rule=rule, **unit).maps
    network(images(size=8))
    again = attribute(network, images(size=8), rule=rule, **unit).maps
    assert distance(first, expected(rule)) < 1e-12
    assert distance(again, expected(rule)) < 1e-12


class Branches(nn.Module):
    """Two branches whose pre-activations are both computed before one ReLU serves them."""

    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, pictures):
        left, right = pictures * 1.0, pictures * 10.0
        left, right = self.first(left), self.second(right)
        return left - right


@pytest.mark.parametrize("rule", Rule)
def test_one_relu_for_two_branches_is_as_good_as_two(rule):
    shared = nn.ReLU()
    pictures = images(size=4)
    given = {"rule": rule, "channels": 1, "positions": [[2, 1]] * 2}
    one = attribute(Branches(shared, shared).eval(), pictures, **given).maps
    two = attribute(Branches(nn.ReLU(), nn.ReLU()).eval(), pictures, **given).maps
    # Of a single value f: 1 arrives at the left branch, -1 at the right one.
    alive = pictures[:, 1, 2, 1] > 0
    left, right = {
        "backprop": (alive * 1.0, alive * -10.0),
        "deconvnet": (torch.ones(2), torch.zeros(2)),
        "guided": (alive * 1.0, torch.zeros(2)),
    }[rule]
    assert one[:, 1, 2, 1].tolist() == (left + right).tolist()
    assert torch.equal(one, two)


class Own(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * (x > 0)

    @staticmethod
    def backward(ctx, signal):
        return signal * (ctx.saved_tensors[0] > 0)


class OwnLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, signal):
        return -signal


def without_grad(x):
    with torch.no_grad():
        mask = torch.relu(x)
    return x * mask


def written_without_grad(x):
    kept = torch.zeros(x.shape).to(x)
    with torch.no_grad():
        kept[:] = x
    return x * kept


def part_of(change):
    def middle(x):
        made = x.clone()
        change(made[:, :3])
        return made

    return middle


def set_to_zero(x):
    made = x.clone()
    made[made < 0] = 0
    return made


def by_the_sum(x):
    return x if x.sum() > 0 else 2 * x


def by_data(x):
    x.data = x.data.clamp(min=0)
    return x


REFUSED = {
    "where": (lambda x: torch.where(x > 0, x, 0.0), "gt"),
    "x * (x > 0)": (lambda x: x * (x > 0), "gt"),
    "x * (x > 0), in no_grad": (without_grad, "relu"),
    "x * (x > 0), written in no_grad": (written_without_grad, "__setitem__"),
    "x[x < 0] = 0": (set_to_zero, "lt"),
    "masked_fill": (lambda x: x.masked_fill(x < 0, 0), "lt"),
    "(x + |x|) / 2": (lambda x: (x + x.abs()) / 2, "abs"),
    "x * sign(x)": (lambda x: x * x.sign(), "multiplies|sign"),
    "x * x": (lambda x: x * x, "mul in the network: it multiplies two things"),
    "x / y": (lambda x: x / (x + 9), "truediv|div"),
    "c / x": (lambda x: torch.div(torch.ones(()).to(x), x + 9), "div in the network: it divides by"),
    "1 / x": (lambda x: 1 / (x + 9), "Reciprocal|truediv"),
    "rounded division": (lambda x: torch.div(x, 0.1, rounding_mode="floor"), "div in the network"),
    "round": (lambda x: x.round(), "round"),
    "x ** 2": (lambda x: x**2, "pow"),
    "abs": (torch.abs, "abs in the network: it is neither linear nor a ReLU nor a pooling"),
    "ReLU6": (nn.ReLU6(), "hardtanh in middle"),
    "clamp(0, 1)": (lambda x: x.clamp(0, 1), "clamp in"),
    "clamp(0.1)": (lambda x: x.clamp(0.1), "clamp in"),
    "clamp(max=0)": (lambda x: -((-x).clamp(max=0)), "clamp in"),
    "Threshold(0.1, 0)": (nn.Threshold(0.1, 0), "threshold in middle"),
    "Threshold(0, 1)": (nn.Threshold(0, 1), "threshold in middle"),
    "maximum with a constant": (lambda x: torch.maximum(x, torch.ones_like(x)), "maximum in"),
    "maximum of two": (lambda x: torch.maximum(x, 2 * x), "maximum in"),
    "maximum, broadcast": (lambda x: torch.maximum(x, torch.zeros(2, *x.shape).to(x))[0], "maximum in"),
    "LeakyReLU": (nn.LeakyReLU(), "leaky_relu in middle"),
    "RReLU": (nn.RReLU(), "rrelu in middle"),
    "PReLU": (nn.PReLU(), "prelu in middle"),
    "ELU": (nn.ELU(), "elu in middle"),
    "SELU": (nn.SELU(), "selu in middle"),
    "CELU": (nn.CELU(), "celu in middle"),
    "SiLU": (nn.SiLU(), "silu in middle"),
    "Mish": (nn.Mish(), "mish in middle"),
    "GELU": (nn.GELU(), "gelu in middle"),
    "Softplus": (nn.Softplus(), "softplus in middle"),
    "Hardtanh": (nn.Hardtanh(0, 9), "hardtanh in middle"),
    "Hardswish": (nn.Hardswish(), "hardswish in middle"),
    "Sigmoid": (nn.Sigmoid(), "sigmoid in middle"),
    "Tanh": (nn.Tanh(), "tanh in middle"),
    "Softmax2d": (nn.Softmax2d(), "softmax in middle"),
    "InstanceNorm": (nn.InstanceNorm2d(6), "instance_norm in middle: it normalises with the image's own statistics"),
    "batch norm of its own": (lambda x: F.batch_norm(x, None, None, training=True), "batch_norm in .*own statistics"),
    "GroupNorm": (nn.GroupNorm(2, 6), "group_norm in middle"),
    "LayerNorm": (nn.LayerNorm(8), "layer_norm in middle"),
    "LocalResponseNorm": (nn.LocalResponseNorm(2), "middle: it (is neither|multiplies)"),
    "F.normalize": (F.normalize, "normalize in"),
    "LPPool2d": (nn.Sequential(nn.LPPool2d(2, 3, 1), nn.ZeroPad2d(1)), "lp_pool2d in middle.0"),
    "amax": (lambda x: x + x.amax((2, 3), keepdim=True), "amax in"),
    "sort": (lambda x: x.sort().values, "sort"),
    "F.dropout": (F.dropout, "dropout: it drops values at random"),
    "F.dropout, positional": (lambda x: F.dropout(x, 0.5, True), "dropout: it drops values at random"),
    "F.alpha_dropout": (lambda x: F.alpha_dropout(x, training=True), "alpha_dropout: it drops values at random"),
    "x.item()": (lambda x: x * x.sum().item(), "item"),
    "float(x)": (lambda x: x * float(x.sum()), "__float__"),
    "x.tolist()": (lambda x: x * x.sum().tolist(), "tolist"),
    "x.numpy()": (lambda x: x * torch.from_numpy(x.numpy(force=True)), "numpy"),
    "its storage": (lambda x: x * x.untyped_storage()[0], "untyped_storage"),
    "if x.sum() > 0": (by_the_sum, "gt"),
    "1 in x": (lambda x: x if 1.0 in x else 2 * x, "__contains__"),
    "argmax": (lambda x: x * x.argmax(), "argmax"),
    "x.detach()": (lambda x: x * x.detach(), "detach"),
    "x.data": (lambda x: x * x.data, "data.__get__"),
    "x.data =": (by_data, "data.__get__"),
    "torch.tensor(x)": (lambda x: x * torch.tensor([x.sum()]).to(x), "tensor"),
    "x.new_tensor(x)": (lambda x: x * x.new_tensor(x), "new_tensor"),
    "a hook on the signal": (lambda x: (x.register_hook(lambda signal: -signal), x)[1], "register_hook"),
    "autograd.Function": (Own.apply, "gt"),
    "autograd.Function, linear": (OwnLinear.apply, "OwnLinearBackward"),
    "sigmoid of a part": (part_of(torch.sigmoid_), "sigmoid_ in the network: it changes a part"),
    "abs of a part": (part_of(torch.abs_), "abs_ in the network: it changes a part"),
    "clamp of a part": (part_of(lambda part: part.clamp_(max=0.1)), "clamp_ in the network: it changes a part"),
    "square of a part": (part_of(lambda part: part.mul_(part.clone())), "mul_ in the network: it changes a part"),
    "rounded part": (part_of(lambda part: part.div_(0.1, rounding_mode="trunc")), "div_ in the network: it changes a"),
}


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True:UserWarning")
@pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning")
def test_what_bends_the_signal_otherwise_is_refused_by_name(what, rule):
    middle, message = REFUSED[what]
    with pytest.raises(AttributionError, match=message) as refusal:
        maps(middle, rule)
    assert "no rule says how a signal passes it back" in str(refusal.value)


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize("calls", [0, 3])
@pytest.mark.parametrize("what", ["relu", "mask", "linear"])
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning", "ignore:.torch.jit:FutureWarning")
def test_a_scripted_part_is_refused_also_after_torch_has_optimised_it(what, calls, rule):
    def relu(x):
        return torch.relu(x)

    def mask(x):
        return x * (x > 0)

    def linear(x):
        return x * 2

    scripted = torch.jit.script({"relu": relu, "mask": mask, "linear": linear}[what])
    for _ in range(calls):
        scripted(images(channels=6, size=8).requires_grad_()).sum().backward()
    with pytest.raises(AttributionError, match=r"conv2d in after: it takes what .* made where this cannot see"):
        maps(scripted, rule)


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning", "ignore:.torch.jit:FutureWarning")
def test_a_traced_part_is_refused(rule):
    traced = torch.jit.trace(nn.ReLU(), images(channels=6, size=8))
    with pytest.raises(AttributionError, match="made where this cannot see"):
        maps(traced, rule)


@pytest.mark.parametrize("rule", Rule)
def test_a_part_that_is_the_layer_itself_is_refused_too(rule):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid()).double().eval()
    with pytest.raises(AttributionError, match="sigmoid in 1"):
        attribute(network, images(), rule=rule, layer="1")


def test_what_stands_behind_the_layer_does_not_matter():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid()).double().eval()
    assert attribute(network, images(), rule="guided", layer="0").maps.any()


@pytest.mark.parametrize(
    "pool",
    [
        nn.AdaptiveMaxPool2d(8),
        nn.MaxPool2d(1, return_indices=True),
        lambda x: F.max_pool2d_with_indices(x, 1),
        lambda x: F.max_pool3d(x, 1),
    ],
)
def test_a_pooling_without_a_switchless_way_back_is_refused_there_alone(pool):
    def middle(x):
        made = pool(x)
        return made[0] if isinstance(made, tuple) else made

    assert maps(middle, Rule.guided, pooling=Pooling.switches).any()
    with pytest.raises(AttributionError, match=r"max_pool\w+ in .*take pooling=switches"):
        maps(middle, Rule.guided, pooling=Pooling.switchless)


def test_a_poolings_switches_may_be_left_but_not_used():
    def middle(x):
        made, switches = F.max_pool2d(x, 1, return_indices=True)
        return made * switches

    with pytest.raises(AttributionError, match="mul: it takes the switches of a pooling"):
        maps(middle, Rule.guided)


def test_a_users_hook_sees_and_changes_what_the_rule_makes():
    network = Between(nn.ReLU()).double().eval()
    network.middle.register_forward_hook(lambda module, args, made: made.sigmoid())
    with pytest.raises(AttributionError, match="sigmoid in"):
        attribute(network, images(size=8), rule="guided", **UNIT)


def test_a_users_hook_on_a_pooling_has_its_part_in_the_map():
    network = small_net(Base.c, Variant.base)
    given = {"rule": "deconvnet", "pooling": "switchless", "layer": "conv4", "channels": 1, "positions": [[2, 2]] * 2}
    plain = attribute(network, images(), **given).maps
    network.pool1.register_forward_hook(lambda module, args, made: made * 2)
    assert distance(attribute(network, images(), **given).maps, 2 * plain) < 1e-12


def test_weights_that_no_module_owns_are_no_part_of_the_map():
    loose = torch.full((6, 1, 1), 2.0, dtype=torch.float64, requires_grad=True)
    assert distance(maps(lambda x: F.relu(x) + loose, Rule.guided), expected(Rule.guided)) < 1e-12
    assert loose.grad is None


def test_shapes_types_and_zeros_like_may_be_asked_for():
    def middle(x):
        assert x.is_floating_point()
        assert x.dtype is torch.float64
        assert len(x) == x.size(0) == x.shape[0]
        assert x.numel() == x.shape.numel()
        assert x.dim() == x.ndim == 4
        assert "tensor" in repr(x)
        return F.relu(x + torch.zeros_like(x) + x.new_zeros(x.shape))

    assert distance(maps(middle, Rule.guided), expected(Rule.guided)) < 1e-12
