"""The same cases on captum and on ours; where captum is known to differ, how and why."""

import pytest
import small_nets
import torch
from captum.attr import (
    Deconvolution,
    GuidedBackprop,
    NeuronDeconvolution,
    NeuronGradient,
    NeuronGuidedBackprop,
    Saliency,
)
from cases import CASES, SPELLED, Spelled, matrices, net, parallel, pooled
from small_nets import distance
from torch import nn

from allcnn.attribution import AttributionError, attribute
from allcnn.attribution.rules import Pooling, Rule
from allcnn.config import Base, Variant

# captum says at every call that it sets hooks.
pytestmark = pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations:UserWarning")

ENGINES = {
    Rule.backprop: NeuronGradient,
    Rule.deconvnet: NeuronDeconvolution,
    Rule.guided: NeuronGuidedBackprop,
}
OTHER_RULES = [Rule.deconvnet, Rule.guided]  # than the plain gradient


def by_captum(case, rule, network=None):
    network = network or case.network()

    def units(made):  # the only way in which captum takes a unit for each image
        return made[torch.arange(len(made)), list(case.channels), *map(list, zip(*case.positions, strict=True))]

    engine = ENGINES[rule](network, network.get_submodule(case.layer))
    return engine.attribute(case.images.clone().requires_grad_(), neuron_selector=units)


def by_ours(case, rule, pooling=Pooling.switches, network=None):
    return attribute(
        network or case.network(),
        case.images,
        rule=rule,
        pooling=pooling,
        layer=case.layer,
        channels=case.channels,
        positions=case.positions,
    ).maps


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_captum_and_ours_give_what_the_rules_define(case, rule):
    expected = case.expected(rule)
    assert distance(by_ours(case, rule), expected) < 1e-6
    assert distance(by_captum(case, rule), expected) < 1e-6


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_without_switches_ours_gives_what_the_rule_defines(case):
    for rule in Rule:
        assert distance(by_ours(case, rule, Pooling.switchless), case.expected(rule, "switchless")) < 1e-6


@pytest.mark.parametrize("rule", Rule)
def test_captum_and_ours_agree_on_class_scores(rule):
    network, pictures = small_nets.small_net(Base.c, Variant.base), small_nets.images(3)
    classes = [1, 4, 0]
    ours = attribute(network, pictures, rule=rule, channels=classes).maps
    if rule is Rule.backprop:
        theirs = Saliency(network).attribute(pictures.clone().requires_grad_(), target=classes, abs=False)
    else:
        engine = {Rule.deconvnet: Deconvolution, Rule.guided: GuidedBackprop}[rule]
        theirs = engine(network).attribute(pictures.clone().requires_grad_(), target=classes)
    assert distance(ours, theirs) < 1e-6


@pytest.mark.parametrize("rule", OTHER_RULES)
@pytest.mark.parametrize("spelling", SPELLED)
def test_captum_takes_the_plain_gradient_for_a_relu_that_is_no_module(spelling, rule):
    # captum hooks nn.ReLU modules; a function has none, and the rule is dropped without a word.
    case = matrices("spelled", pooled, "6")
    spelled = Spelled(SPELLED[spelling]).eval()
    case = type(case)(**{**vars(case), "network": lambda: spelled, "layer": "parts.6"})
    expected = case.expected(rule)
    assert distance(by_ours(case, rule), expected) < 1e-6
    assert distance(by_captum(case, rule), expected) > 0.1
    assert distance(by_captum(case, rule), case.expected(Rule.backprop)) < 1e-6


@pytest.mark.parametrize("bent", [nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.ELU])
def test_captum_takes_the_plain_gradient_for_other_nonlinearities_which_ours_refuses(bent):
    case = matrices("bent", pooled, "6")
    network = pooled()
    network[1], network[4] = bent().eval(), bent().eval()
    plain = by_captum(case, Rule.backprop, network)
    assert distance(by_captum(case, Rule.guided, network), plain) < 1e-12
    with pytest.raises(AttributionError, match="neither linear nor a ReLU"):
        by_ours(case, Rule.guided, network=network)


def test_captums_deconvolution_gives_one_branchs_signal_to_both_where_they_share_a_relu():
    # It keeps the signal that arrives at a module for each module, not for each call: where both calls come before
    # the way back, the signal of one is lost.
    case = parallel(shared=True)
    for rule in Rule:
        assert by_ours(case, rule).flatten().tolist() == case.expected(rule).flatten().tolist() == [1, 10, 0]
    assert by_captum(case, Rule.guided).flatten().tolist() == [1, 10, 0]
    assert by_captum(case, Rule.deconvnet).flatten().tolist() == [1, 1, 0]


@pytest.mark.parametrize("rule", OTHER_RULES)
def test_captum_has_no_switchless_pooling(rule):
    # Its pooling is autograd's: always by the places of the maxima, which come from the image.
    case = next(case for case in CASES if case.name == "overlapping pools")
    expected = case.expected(rule, "switchless")
    assert distance(by_ours(case, rule, Pooling.switchless), expected) < 1e-6
    assert distance(by_captum(case, rule), expected) > 0.1


def test_captums_saliency_drops_the_sign_unless_told_otherwise():
    network, pictures = small_nets.small_net(Base.c, Variant.all_cnn), small_nets.images(2)
    signed = attribute(network, pictures, rule="backprop", channels=1).maps
    theirs = Saliency(network).attribute(pictures.clone().requires_grad_(), target=1)
    assert signed.min() < 0
    assert distance(theirs, signed.abs()) < 1e-6
    assert distance(theirs, signed) > 0.1


def test_captum_takes_a_network_in_training_mode_which_ours_refuses():
    case = matrices("training", net(Base.c, Variant.all_cnn), "conv7")
    network = case.network().train()
    assert distance(by_captum(case, Rule.backprop, network), case.expected(Rule.backprop)) > 0.1  # dropout
    with pytest.raises(AttributionError, match="must be in eval mode"):
        by_ours(case, Rule.backprop, network=network)
