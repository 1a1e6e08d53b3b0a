from pathlib import Path

import pytest
from hydra.errors import HydraException
from support import MakeConfig

from strive.config.error_text import complaint
from strive.errors import ConfigError, RecordError
from strive.sweeps.override_syntax import check_options


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
    assert "legal keys below optimizer: optimizer.kind, optimizer.lr, optimizer.momentum" in text


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
    assert "there is no model=resnet" in text
    assert "all_cnn_c" in text


def test_an_unknown_group_is_named(make_config: MakeConfig):
    assert "modle" in complain(make_config, "modle=all_cnn_c")


def test_an_argument_of_a_builder_says_how_to_write_it(make_config: MakeConfig):
    text = complain(make_config, "model=extra/custom", "model.builder=a:b", "model.kwargs.depth=3")
    assert "write +model.kwargs.depth=VALUE" in text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+optimizer.name=adamw"], "there is no key optimizer.name"),
        (["++optimizer.name=adamw"], "there is no key optimizer.name"),
        (["optimizer={name:adamw}"], "there is no key optimizer.name"),
        (["+foo.bar=1"], "there is no key foo"),
        (["~seed"], "~seed takes away what every cell has; leave it out"),
        (["~optimizer.lr"], "~optimizer.lr takes away what every cell has; leave it out"),
        (["~trainer"], "~trainer takes away what every cell has; leave it out"),
        (["optimizer.lr.x=1"], "optimizer.lr is one value, so there is no key optimizer.lr.x"),
        (["trainer=big"], "trainer holds keys and has no options; legal keys: trainer.device, trainer.threads"),
        (
            ["++model=model_a"],
            "++model=model_a: a group has one option, so no sign stands before it: write model=model_a",
        ),
        (
            ["+model=model_a"],
            "+model=model_a: a group has one option, so no sign stands before it: write model=model_a",
        ),
        (["seed=0,1"], "seed=0,1 is several values: add -m to train each"),
        (["model=model_aa"], "there is no model=model_aa; did you mean model_a?"),
        (["model="], "there is no model="),
        (["hydra/launcher=nope"], "there is no hydra/launcher=nope"),
    ],
    ids=str,
)
def test_what_no_cell_can_be_is_told_in_the_words_of_the_command_line(
    make_config: MakeConfig, overrides: list[str], message: str
):
    text = complain(make_config, *overrides)
    assert text.startswith(message)
    assert len(text.splitlines()) <= 3


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("seed", "it is no KEY=VALUE"),
        ("", "it is no KEY=VALUE"),
        ("schlüssel=1", "what stands before the = is no key"),
        ("seed\u00a0=1", "what stands before the = is no key"),
        ("a b=1", "what stands before the = is no key"),
        ("seed=1\r", r"it holds '\r'"),
        ("seed=1\u00a0", r"it holds '\xa0'"),
        ("seed=\u200b1", r"it holds '\u200b'"),
        ("data.root='x", "a ' has no partner"),
        ('data.root="x', 'a " has no partner'),
        ("optimizer={lr:1", "a { or } has no partner"),
        ("optimizer.drop_at=1/2]", "a [ or ] has no partner"),
        ("seed=range(0,3", "a ( or ) has no partner"),
        ("model=glob()", "missing a required argument: 'include'"),
        ("seed=rang(0,3)", "Unknown function 'rang'; Available: "),
        ("seed=0,", "a value with signs of its own, or with nothing before or after a comma, stands in quotes"),
        ("data.root=a:b#c", "a value with signs of its own"),
    ],
    ids=repr,
)
def test_an_argument_that_cannot_be_read_is_shown_as_typed_with_what_hides_in_it(
    make_config: MakeConfig, override: str, why: str
):
    text = complain(make_config, override)
    assert text.startswith(f"{override!r} cannot be read: {why}")
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("question: Wie groß?\n".encode("latin-1"), "mine.yaml is no UTF-8 text (byte 0xdf); save it again"),
        ("question: Why?\n".encode("utf-16"), "mine.yaml is no UTF-8 text (byte 0xff); save it again"),
        (bytes(range(256)), "mine.yaml is no UTF-8 text (byte 0x80); save it again"),
        (b"question: x\ngrid: {seed: [0\n", "mine.yaml, line 3, column 1: no YAML: while parsing a flow sequence"),
        (b"question: x\ngrid:\n\tseed: [0]\n", r"mine.yaml, line 3, column 1: no YAML: while scanning for the next"),
        (
            b"question: x\nquestion: y\n",
            "mine.yaml, line 2, column 1: no YAML: while constructing a mapping: found dup",
        ),
        (b"question: x\n---\n", "mine.yaml, line 2, column 1: no YAML: expected a single document"),
        (b"question: a\x00b\n", "mine.yaml"),
        (b"question: x\ngrid: &a {seed: *a}\n", "a mapping or list in it holds itself by an anchor"),
    ],
    ids=repr,
)
def test_a_sweep_file_that_is_no_yaml_is_told_in_one_line_with_its_place(
    make_config: MakeConfig, tmp_path: Path, content: bytes, message: str
):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_bytes(content)
    text = complain(make_config, f"hydra.searchpath=['file://{tmp_path}']", "sweeps=mine")
    assert message in text
    assert len(text.splitlines()) == 1


def test_a_decoding_error_of_another_file_is_not_taken_for_a_users_yaml():
    with pytest.raises(UnicodeDecodeError) as caught:
        b"\xff".decode()
    assert complaint(caught.value) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("=1", "'=1' has no key"),
        ("optimizer=null", "optimizer=null: optimizer takes the name of an option, got null"),
        ("optimizer=3,sgd_paper", "optimizer=3,sgd_paper: optimizer takes the name of an option, got 3"),
        ("optimizer=[a,1]", r"optimizer=[a,1]: optimizer takes the name of an option, got [a,1]"),
        ("sweeps=null", "sweeps=null: sweeps takes the name of an option, got null"),
    ],
)
def test_what_hydra_would_stumble_over_is_refused_before_it_does(text: str, message: str):
    with pytest.raises(ConfigError) as caught:
        check_options([text])
    assert str(caught.value).startswith(message)


def test_options_mappings_sweeps_and_knobs_are_not_refused():
    check_options(
        ["model=model_a", "model=glob(*)", "optimizer={lr:1}", "optimizer={lr:1},{lr:2}", "~tracker", "seed=null"]
    )


def test_our_own_errors_are_shown_as_they_are():
    assert complaint(ConfigError("no")) == "no"
    assert complaint(RecordError("not that")) == "not that"


def test_a_fault_of_the_program_keeps_its_stack_trace():
    assert complaint(RuntimeError("bug")) is None
