import pytest
from hydra.errors import HydraException
from support import MakeConfig

from strive.complaint import complaint
from strive.config import ConfigError
from strive.records import RecordError


def complain(make_config: MakeConfig, *overrides: str) -> str:
    with pytest.raises((HydraException, ConfigError, Exception)) as caught:
        make_config(*overrides)
    text = complaint(caught.value)
    assert text is not None
    return text


def test_a_typo_names_the_key_the_nearest_one_and_all_legal_ones(make_config: MakeConfig):
    text = complain(make_config, "optimizer.lrr=0.1")
    assert text.splitlines()[0] == "there is no key optimizer.lrr"
    assert "did you mean optimizer.lr" in text
    assert "legal keys below optimizer: optimizer.lr, optimizer.momentum, optimizer.weight_decay" in text


def test_a_typo_at_the_top_names_the_legal_top_level_keys(make_config: MakeConfig):
    assert "legal top-level keys: model, data, preprocess" in complain(make_config, "zzz=1")


def test_a_value_of_another_type_says_what_was_got_and_what_is_legal(make_config: MakeConfig):
    text = complain(make_config, "seed=abc")
    assert "seed: Value 'abc' of type 'str' could not be converted to Integer" in text
    assert "Legal: a whole number; 0 or more" in text


def test_a_closed_choice_lists_its_values(make_config: MakeConfig):
    assert "one of he, gaussian, xavier_caffe, torch_default" in complain(make_config, "model.init=xavier")


def test_an_unknown_option_lists_the_legal_ones(make_config: MakeConfig):
    text = complain(make_config, "model=resnet")
    assert "Could not find 'model/resnet'" in text
    assert "all_cnn_c" in text


def test_an_unknown_group_is_named(make_config: MakeConfig):
    assert "modle" in complain(make_config, "modle=all_cnn_c")


def test_an_argument_of_a_builder_says_how_to_write_it(make_config: MakeConfig):
    text = complain(make_config, "model=extra/custom", "model.builder=a:b", "model.kwargs.depth=3")
    assert "write +model.kwargs.depth=VALUE" in text


def test_our_own_errors_are_shown_as_they_are():
    assert complaint(ConfigError("no")) == "no"
    assert complaint(RecordError("not that")) == "not that"


def test_a_fault_of_the_program_keeps_its_stack_trace():
    assert complaint(RuntimeError("bug")) is None
