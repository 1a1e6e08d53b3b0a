import math
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
import yaml
from overrides import expand, parsed
from support import ROOT, MakeConfig

from allcnn.config import Config, checked
from strive.config import identity
from strive.errors import ConfigError
from strive.sweeps.override_syntax import effective_overrides, override
from strive.sweeps.sweep_file import Sweep, parse_sweep, read_sweep

QUESTION = "Does it matter?"


def sweep(**sections: Any) -> Sweep:
    return read_sweep("mine", {"question": QUESTION, **sections})


def faults(content: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_sweep("mine", content)
    lines = str(caught.value).splitlines()
    assert all(line.startswith("sweeps/mine.yaml: ") for line in lines)
    return [line.removeprefix("sweeps/mine.yaml: ") for line in lines]


def text_faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_sweep("mine", f"question: Is it?\n{text}")
    return [line.removeprefix("sweeps/mine.yaml: ") for line in str(caught.value).splitlines()]


def overrides(read: Sweep, *command_line: str) -> list[tuple[str, ...]]:
    return [each.overrides for each in read.combinations(effective_overrides(command_line), expand)]


# What a file says


def test_lists_ranges_globs_and_comma_lists_make_a_product_whose_last_factor_moves_fastest():
    read = sweep(
        fixed={"data": "digits"},
        grid={"model": "glob(all_cnn*)", "optimizer.lr": [0.1, 0.01], "budget": "quick,smoke", "seed": "range(0,2)"},
    )
    found = overrides(read)
    assert len(found) == 3 * 2 * 2 * 2
    assert found[0] == ("data=digits", "model=all_cnn_a", "optimizer.lr=0.1", "budget=quick", "seed=0")
    assert found[1] == ("data=digits", "model=all_cnn_a", "optimizer.lr=0.1", "budget=quick", "seed=1")
    assert found[-1] == ("data=digits", "model=all_cnn_c", "optimizer.lr=0.01", "budget=smoke", "seed=1")


def test_zipped_factors_move_together_and_each_block_is_one_factor():
    read = sweep(
        zip=[
            {"data": ["cifar10", "cifar100"], "optimizer.lr": [0.1, 0.05]},
            {"budget": ["quick", "smoke"], "model.width": [1, 0.125]},
        ]
    )
    assert overrides(read) == [
        ("data=cifar10", "optimizer.lr=0.1", "budget=quick", "model.width=1"),
        ("data=cifar10", "optimizer.lr=0.1", "budget=smoke", "model.width=0.125"),
        ("data=cifar100", "optimizer.lr=0.05", "budget=quick", "model.width=1"),
        ("data=cifar100", "optimizer.lr=0.05", "budget=smoke", "model.width=0.125"),
    ]


def test_arms_stand_on_top_of_what_is_fixed_and_are_a_factor():
    read = sweep(
        fixed={"augment": "flip_shift", "data": "digits"},
        arms={"baseline": None, "plain": {"augment": "none"}, "both": {"augment": "none", "model.init": "he"}},
        grid={"seed": [0, 1]},
    )
    found = [(each.arm, each.overrides) for each in read.combinations((), expand)]
    assert found == [
        ("baseline", ("augment=flip_shift", "data=digits", "seed=0")),
        ("baseline", ("augment=flip_shift", "data=digits", "seed=1")),
        ("plain", ("augment=none", "data=digits", "seed=0")),
        ("plain", ("augment=none", "data=digits", "seed=1")),
        ("both", ("augment=none", "data=digits", "model.init=he", "seed=0")),
        ("both", ("augment=none", "data=digits", "model.init=he", "seed=1")),
    ]


def test_extra_cells_stand_on_what_is_fixed_alone_and_may_be_small_products():
    read = sweep(
        fixed={"data": "cifar10", "augment": "none"},
        grid={"model": ["model_a"], "seed": [0]},
        cells=[
            {"model": "extra/large_all_cnn", "augment": "extreme", "seed": "range(0,2)"},
            {"model": "model_b", "seed": [3, 4], "optimizer.drop_at": []},
        ],
    )
    found = read.combinations((), expand)
    assert [each.overrides for each in found] == [
        ("data=cifar10", "augment=none", "model=model_a", "seed=0"),
        ("data=cifar10", "augment=extreme", "model=extra/large_all_cnn", "seed=0"),
        ("data=cifar10", "augment=extreme", "model=extra/large_all_cnn", "seed=1"),
        ("data=cifar10", "augment=none", "model=model_b", "seed=3", "optimizer.drop_at=[]"),
        ("data=cifar10", "augment=none", "model=model_b", "seed=4", "optimizer.drop_at=[]"),
    ]
    assert [each.in_product for each in found] == [True, False, False, False, False]


def test_a_file_of_extra_cells_alone_has_no_other_cell():
    assert overrides(sweep(fixed={"data": "digits"}, cells=[{"seed": 4}])) == [("data=digits", "seed=4")]


def test_a_knob_that_holds_a_list_takes_a_list_where_one_value_stands_and_lists_in_a_grid():
    drops = ["200/350", "250/350"]
    assert overrides(sweep(fixed={"optimizer.drop_at": drops}, grid={"seed": [0]}))[0][0] == (
        "optimizer.drop_at=[200/350,250/350]"
    )
    assert overrides(sweep(grid={"optimizer.drop_at": [[], drops]})) == [
        ("optimizer.drop_at=[]",),
        ("optimizer.drop_at=[200/350,250/350]",),
    ]
    assert len(overrides(sweep(cells=[{"optimizer.drop_at": [[], drops]}]))) == 2
    assert overrides(sweep(arms={"constant": {"optimizer.drop_at": []}})) == [("optimizer.drop_at=[]",)]


def test_labels_say_what_tells_a_cell_from_its_neighbours():
    read = sweep(
        fixed={"data": "digits"},
        arms={"he": {"model.init": "he"}},
        grid={"budget": ["smoke"], "seed": [0, 1]},
        cells=[{"seed": 7}, {"seed": [8, 9]}],
    )
    assert [each.label for each in read.combinations((), expand)] == [
        "arm he: seed=0",
        "arm he: seed=1",
        "cells[0]",
        "cells[1]: seed=8",
        "cells[1]: seed=9",
    ]


def test_arguments_of_a_builder_need_no_plus_in_the_file(make_config: MakeConfig):
    read = sweep(
        fixed={"model": "extra/custom", "model.builder": "my_nets:lenet"}, grid={"model.kwargs.channels": [6, 12]}
    )
    assert [make_config(*each).model.kwargs for each in overrides(read)] == [{"channels": 6}, {"channels": 12}]
    assert len(overrides(read, "+model.kwargs.channels=24")) == 1
    whole = sweep(
        fixed={"model": "extra/custom", "model.builder": "a.b:c", "model.kwargs": {"deep": {"x": [1, None]}}},
        grid={"seed": [0]},
    )
    assert make_config(*overrides(whole)[0]).model.kwargs == {"deep": {"x": [1, None]}}


# Hydra's grammar

VALUES = [
    0, -3, 0.1, 1e-05, 1e22, math.inf, -math.inf, True, False, None,
    "", "he", "extra/large_all_cnn", "200/350", "0.1", "1_000", "1e5", "inf", "NaN", "true", "False", "null", "a b",
    " a ", "a,b", "a=b", "it's", 'say "x"', "\\", "a\\", "\\'", "[1]", "{a:1}", "(x)", "glob", "my_nets:lenet", "#x",
    "ä", "tab\there", "line\nbreak", "1/2/3", "x-1", "-x", "$x", "~", "+x", "%",
    [], ["200/350", "250/350"], [[1, "a,b"], []], {}, {"channels": 12, "names": ["a", "b c"], "deep": {"x": None}},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_hydra_reads_back_the_very_value(value: Any):
    read = parsed(override("model.kwargs.x", value))
    assert not read.is_sweep_override()
    assert read.value() == value
    assert type(read.value()) is type(value)
    assert read.get_key_element() == "++model.kwargs.x"


def test_not_a_number_is_read_back_as_such():
    assert math.isnan(parsed(override("optimizer.lr", math.nan)).value())


# The command line wins


def test_a_key_on_the_command_line_drops_out_of_every_section():
    read = sweep(
        fixed={"data": "digits", "model.width": 0.5},
        grid={"optimizer.lr": [0.1, 0.05], "seed": "range(0,3)"},
        zip=[{"budget": ["quick", "smoke"], "precision": ["bf16", "fp32"]}],
        arms={"he": {"model.init": "he", "model.class_relu": False}, "plain": {"model.class_relu": True}},
        cells=[{"optimizer.lr": [0.25, 0.5], "seed": 9, "model.init": "he"}],
    )
    line = ("data=cifar10", "optimizer.lr=0.01", "budget=paper", "model.init=gaussian", "seed=0")
    assert [sorted(each) for each in overrides(read, *line)] == [
        sorted((*line, "model.width=0.5", "precision=bf16", "model.class_relu=false")),
        sorted((*line, "model.width=0.5", "precision=fp32", "model.class_relu=false")),
        sorted((*line, "model.width=0.5", "precision=bf16", "model.class_relu=true")),
        sorted((*line, "model.width=0.5", "precision=fp32", "model.class_relu=true")),
        sorted((*line, "model.width=0.5")),
    ]


def test_what_the_command_line_sets_is_no_factor_any_more():
    read = sweep(grid={"seed": [0, 1]}, zip=[{"data": ["cifar10", "cifar100"], "optimizer.lr": [0.1, 0.05]}])
    assert len(overrides(read, "data=digits")) == 2 * 2
    assert overrides(read, "data=digits", "optimizer.lr=0.1", "seed=5") == [
        ("data=digits", "optimizer.lr=0.1", "seed=5")
    ]


def test_what_the_command_line_sweeps_is_a_factor():
    read = sweep(grid={"model": ["model_a", "model_b"], "seed": "range(0,5)"})
    assert overrides(read, "seed=0,1", "runs=there") == [
        ("model=model_a", "seed=0", "runs=there"),
        ("model=model_a", "seed=1", "runs=there"),
        ("model=model_b", "seed=0", "runs=there"),
        ("model=model_b", "seed=1", "runs=there"),
    ]
    extra = sweep(cells=[{"model": "model_a"}, {"model": "model_b", "seed": 3}])
    assert overrides(extra, "seed=0,1") == overrides(read, "seed=0,1")


def test_the_last_word_on_a_key_counts():
    assert overrides(sweep(grid={"seed": [0, 1]}), "seed=4", "seed=5") == [("seed=5",)]


def test_a_mapping_on_the_command_line_sets_each_of_its_keys():
    read = sweep(
        fixed={"budget": "smoke", "budget.epochs": 3, "optimizer.momentum": 0.5},
        grid={"optimizer.lr": [0.1, 0.2]},
        choose={"optimizer.weight_decay": {"sweep": "other", "by": "val_error", "per": []}},
    )
    assert overrides(read, "optimizer={lr:0.7}", "budget={epochs:1}") == [
        ("budget=smoke", "optimizer.momentum=0.5", "optimizer.lr=0.7", "budget.epochs=1")
    ]
    assert overrides(read, "optimizer={lr:0.7,momentum:0}", "optimizer={lr:0.8}") == [
        ("budget=smoke", "budget.epochs=3", "optimizer.lr=0.8", "optimizer.momentum=0")
    ]
    # A sweep over mappings is one factor, and so are two of them.
    swept = overrides(read, "optimizer={lr:0.5},{lr:0.6}", "model={width:1},{width:2}")
    assert [each[-2:] for each in swept] == [
        (f"optimizer.lr={lr}", f"model.width={width}") for lr in (0.5, 0.6) for width in (1, 2)
    ]
    assert read.choices(("optimizer={weight_decay:0}",)) == read.choices(
        ("optimizer={weight_decay:0},{weight_decay:1}",)
    )
    assert read.choices(("optimizer={weight_decay:0}",)) == []
    # The other sweep hears of what this one does not vary.
    assert read.for_parents(("optimizer={lr:0.7,momentum:0}",)) == ("optimizer.momentum=0",)


def test_a_sweep_over_mappings_of_which_some_leave_the_files_own_values_is_refused():
    read = sweep(grid={"optimizer.lr": [0.1, 0.2]})
    with pytest.raises(ConfigError, match=r"sets optimizer\.lr, too, and only some of these mappings do"):
        overrides(read, "optimizer={lr:0.5},{momentum:0.1}")
    assert len(overrides(read, "optimizer={momentum:0.5},{weight_decay:0}")) == 2 * 2


def test_arguments_of_a_builder_in_a_mapping_are_keys_of_their_own():
    read = sweep(fixed={"model.kwargs.depth": 3}, grid={"model.kwargs.width": [1, 2]})
    assert overrides(read, "+model.kwargs={width:4,names:[x,y]}") == [
        ("++model.kwargs.depth=3", "++model.kwargs.width=4", "++model.kwargs.names=[x,y]")
    ]


def test_additions_and_deletions_pass_through():
    assert overrides(sweep(grid={"seed": [0]}), "~model.kwargs", "+extra.key=1", "++other=2") == [
        ("seed=0", "~model.kwargs", "+extra.key=1", "++other=2")
    ]


def test_the_command_line_takes_a_choice_back():
    read = sweep(grid={"seed": [0]}, choose={"optimizer.lr": {"sweep": "other", "by": "val_error", "per": []}})
    assert [spec.key for spec in read.choices(())] == ["optimizer.lr"]
    assert [spec.key for spec in read.choices(("seed=1",))] == ["optimizer.lr"]
    assert read.choices(("optimizer.lr=0.1",)) == []


def test_parents_hear_of_everything_but_this_sweeps_own_factors():
    read = sweep(
        fixed={"data": "cifar10"},
        grid={"model": "glob(*)", "seed": "range(0,5)"},
        choose={"optimizer.lr": {"sweep": "other", "by": "val_error", "per": []}},
    )
    line = ("data=digits", "seed=0", "model=model_a", "runs=there", "+x=1", "~y")
    assert read.for_parents(line) == ("data=digits", "runs=there", "+x=1", "~y")


def test_an_option_that_the_files_own_knobs_would_wipe_out_is_refused():
    read = sweep(grid={"model.base": ["a", "b"], "model.variant": ["strided"]})
    with pytest.raises(ConfigError, match=r"model=model_c would change nothing; give model\.base=VALUE model\.variant"):
        overrides(read, "model=model_c")
    # With both of them given, too, nothing of the file is left to wipe it out.
    assert len(overrides(read, "model=model_c", "model.base=c", "model.variant=base")) == 1
    assert len(overrides(read, "augment=none")) == 2


def test_text_that_hydra_cannot_read_or_that_names_nothing_is_named():
    for text, message in (
        ("glob(", "grid: model: 'glob(' cannot be read"),
        ("glob(x*)", "grid: model: 'glob(x*)' gives no value"),
        ("interval(0,1)", "grid: model: 'interval(0,1)' cannot be read: an interval"),
    ):
        with pytest.raises(ConfigError) as caught:
            overrides(sweep(grid={"model": text}))
        assert str(caught.value).startswith(f"sweeps/mine.yaml: {message}")
    with pytest.raises(ConfigError, match=r"model=glob\(x\*\) gives no value"):
        overrides(sweep(grid={"seed": [0]}), "model=glob(x*)")


# Exclusions and twins


def test_an_exclusion_compares_what_the_cell_is_not_how_it_was_written(make_config: MakeConfig):
    when: Mapping[str, Any] = {
        "model.init": ["he", "gaussian"],
        "optimizer.lr": "0.10",
        "model.pool_norm": math.inf,
        "budget.epochs": "350",
        "optimizer.drop_at": ["4/7", "250/350", "300/350"],
    }
    read = sweep(grid={"seed": [0]}, exclude=[{"when": when, "reason": "too dear"}])
    assert read.excluded(make_config("optimizer.lr=0.1")) == "too dear"
    assert read.excluded(make_config("optimizer.lr=1e-1", "model.init=he")) == "too dear"
    for other in ("optimizer.lr=0.05", "model.init=torch_default", "budget.epochs=1", "optimizer.drop_at=[]"):
        assert read.excluded(make_config("optimizer.lr=0.1", other)) == "", other


def test_an_exclusion_can_name_the_arguments_of_a_builder():
    config = Config()
    config.model.kwargs = {"channels": 6}
    read = sweep(grid={"seed": [0]}, exclude=[{"when": {"model.kwargs": {"channels": 6}}, "reason": "narrow"}])
    assert read.excluded(config) == "narrow"
    assert read.excluded(Config()) == ""


def test_an_exclusion_can_leave_out_a_cell_that_cannot_be():
    config = Config()
    config.model.pool_norm = 2
    with pytest.raises(ConfigError, match="has no pooling"):
        checked(config)
    read = sweep(
        grid={"seed": [0]},
        exclude=[{"when": {"model.variant": ["all_cnn", "strided"], "model.pool_norm": [1, 2]}, "reason": "no pool"}],
    )
    assert read.excluded(config) == "no pool"
    # As in the file; nothing has brought it to lowest terms.
    config.optimizer.drop_at = ["200/350"]
    read = sweep(grid={"seed": [0]}, exclude=[{"when": {"optimizer.drop_at": ["4/7"]}, "reason": "one drop"}])
    assert read.excluded(config) == "one drop"


def test_an_exclusion_that_leaves_nothing_out_is_an_error_unless_the_command_line_took_its_cells():
    rules = [
        {"when": {"model.base": "a", "seed": [7, 8]}, "reason": "used"},
        {"when": {"model.base": "b", "optimizer.lr": 0.25}, "reason": "not used"},
    ]
    read = sweep(grid={"seed": [0]}, exclude=rules)
    with pytest.raises(ConfigError) as caught:
        read.check([], [("some cell", "used")])
    assert str(caught.value) == (
        "sweeps/mine.yaml: exclude[1] (model.base: b, optimizer.lr: 0.25) leaves no cell out; correct it or take it out"
    )
    read.check([], [("some cell", "used"), ("another", "not used")])
    read.check([], [("some cell", "used")], ("optimizer.lr=0.1",))
    read.check([], [("some cell", "used")], ("model=model_c",))


def test_two_cells_that_are_one_are_both_named():
    read = sweep(arms={"baseline": {}, "he": {"model.init": "he"}, "gaussian": {"model.init": "gaussian"}})
    cells = [("arm baseline", "x-1"), ("arm he", "x-2"), ("arm gaussian", "x-1")]
    with pytest.raises(ConfigError, match=r"^sweeps/mine\.yaml: 'arm baseline' and 'arm gaussian' are one cell, x-1$"):
        read.check(cells)
    read.check(cells[:2])


def test_of_many_twins_ten_are_listed():
    with pytest.raises(ConfigError) as caught:
        sweep(grid={"seed": [0]}).check([("same", "x-1") for _ in range(14)])
    assert str(caught.value).splitlines()[-1] == "sweeps/mine.yaml: and 3 more pairs"


def test_an_arm_that_says_the_default_is_the_baseline(make_config: MakeConfig):
    read = sweep(arms={"baseline": {}, "relu": {"model.class_relu": True}})
    named = [(each.label, identity.cell_id(make_config(*each.overrides))) for each in read.combinations((), expand)]
    with pytest.raises(ConfigError, match="'arm baseline' and 'arm relu' are one cell"):
        read.check(named)


# Faults of a file

SECTIONS: list[tuple[dict[str, Any], str]] = [
    ({"gird": {"seed": [0]}}, "there is no key gird; did you mean grid? legal: question, fixed, grid, zip"),
    ({"question": " "}, "question must say in one sentence what the sweep answers, got ' '"),
    ({"fixed": ["data"]}, "fixed must hold KEY: VALUE, got ['data']"),
    ({"fixed": {"optimizer.lrr": 1}}, "fixed: there is no knob or group optimizer.lrr; did you mean optimizer.lr"),
    ({"fixed": {"lr": 1}}, "fixed: there is no knob or group lr; did you mean optimizer.lr?"),
    ({"fixed": {"hydra.sweeper.dry_run": True}}, "fixed: hydra.sweeper.dry_run says how to launch"),
    ({"fixed": {"model.width": [1, 2]}}, "fixed: model.width must be one value here; alternatives belong in grid"),
    ({"fixed": {"model": "glob(*)"}}, "fixed: model must be one value here; sweep text stands alone behind a key"),
    ({"fixed": {"model": {"base": "a"}}}, "fixed: model must be the name of an option; a knob of it is a key"),
    ({"fixed": {"data": 10}}, "fixed: data must be the name of one option, got 10"),
    ({"fixed": {"optimizer.drop_at": "4/7"}}, "fixed: optimizer.drop_at must be a list, got '4/7'"),
    ({"fixed": {"model.kwargs": 3}}, "fixed: model.kwargs must be a mapping, got 3"),
    ({"fixed": {"model.kwargs.x": {"a b": 1}}}, "fixed: model.kwargs.x must be a number, text, true, false, null"),
    ({"grid": {"seed": 3}}, "grid: seed must be a list of values or Hydra's sweep text, such as range(0,3), got 3"),
    ({"grid": {"seed": []}}, "grid: seed must be a list of values or Hydra's sweep text, such as range(0,3), got []"),
    ({"grid": {"seed": [[0, 1]]}}, "grid: seed must be one value here"),
    ({"grid": {"model": ["glob(*)"]}}, "grid: model must be one value here; sweep text stands alone"),
    ({"grid": {"optimizer.drop_at": ["4/7"]}}, "grid: optimizer.drop_at holds a list, so its alternatives are a list"),
    ({"zip": {"seed": [0, 1]}}, "zip must be a list of blocks"),
    ({"zip": [{"seed": [0, 1], "data": ["digits"]}]}, "zip[0]: its lists must be equally long, got 2 for seed, 1 for"),
    ({"zip": [{"seed": "range(0,3)"}]}, "zip[0]: seed must be a list of values, got 'range(0,3)'"),
    ({"zip": [{}]}, "zip[0] is empty"),
    ({"arms": ["baseline"]}, "arms must hold NAME: {KEY: VALUE}, got ['baseline']"),
    ({"arms": {"he": {"init": "he"}}}, "arms: he: there is no knob or group init; did you mean model.init?"),
    ({"arms": {"a": {"seed": 1}, "b": {"seed": 1}}}, "arms: a and b set the same, so they are one cell"),
    ({"cells": {"seed": 1}}, "cells must be a list of entries {KEY: VALUE}"),
    ({"cells": [{}]}, "cells[0] is empty"),
    ({"cells": [{"seed": []}]}, "cells[0]: seed has no value"),
    ({"cells": [{"seeds": 1}]}, "cells[0]: there is no knob or group seeds; did you mean seed"),
    ({"exclude": [{"when": {"seed": 1}}]}, "exclude[0]: reason must say why these cells are left out, got None"),
    ({"exclude": [{"reason": "x"}]}, "exclude[0]: when must name at least one knob and its value"),
    ({"exclude": [{"if": {"seed": 1}, "reason": "x"}]}, "exclude[0]: there is no key if; legal: when, reason"),
    ({"exclude": [{"when": {"model": "model_a"}, "reason": "x"}]}, "exclude[0]: there is no knob model; did you mean"),
    ({"exclude": [{"when": {"model.base": "z"}, "reason": "x"}]}, "exclude[0]: model.base: Invalid value 'z'"),
    ({"choose": {"optimizer.lr": "table3_lr"}}, "choose: optimizer.lr must hold sweep, by and per, got 'table3_lr'"),
    ({"choose": {"optimizer.lr": {}}}, "choose: optimizer.lr: sweep must be the name of another sweep file"),
    ({"choose": {"optimizer.lr": {}}}, "choose: optimizer.lr: by must be the name of a metric"),
    ({"choose": {"optimizer.lr": {}}}, "choose: optimizer.lr: per must be a list of knobs; [] is legal"),
    ({"choose": {"lr": {}}}, "choose: there is no knob lr; did you mean optimizer.lr?"),
    ({"choose": {"seed": {}}}, "choose: seed: what is averaged over cannot be chosen"),
    (
        {"choose": {"optimizer.lr": {"sweep": "mine", "by": "train_error", "per": ["optimizer.lr", "model"]}}},
        "choose: optimizer.lr: sweep must be another sweep than mine itself",
    ),
    ({"choose": {"optimizer.lr": {"per": ["optimizer.lr"]}}}, "choose: optimizer.lr: per holds optimizer.lr itself"),
    ({"choose": {"optimizer.lr": {"per": ["model"]}}}, "choose: optimizer.lr: per: there is no knob model; did you"),
    ({"table": {"rows": ["seed"]}}, "table: columns must be a list of knobs; [] is legal"),
    ({"table": {"rows": ["seed"], "columns": ["seed"]}}, "table: seed is in rows and in columns"),
    ({"table": {"rows": ["seed", "seed"], "columns": []}}, "table: rows has seed twice"),
    ({"table": {"rows": ["arm"], "columns": []}}, "table: rows: there is no knob arm"),
    ({"table": {"rows": [], "columns": [], "sort": 1}}, "table: there is no key sort; legal: rows, columns, value"),
    ({"fixed": {"seed": 0}, "grid": {"seed": [1]}}, "seed is set in fixed and in grid; set it in one of them"),
    ({"grid": {"seed": [1]}, "zip": [{"seed": [1]}]}, "seed is set in grid and in zip[0]"),
    ({"zip": [{"seed": [1]}, {"seed": [1]}]}, "seed is set in zip[0] and in zip[1]"),
    ({"grid": {"seed": [1]}, "arms": {"x": {"seed": 2}}}, "seed is set in grid and in arms: x"),
    ({"grid": {"optimizer.lr": [1]}, "choose": {"optimizer.lr": {}}}, "optimizer.lr is set in grid and in choose"),
    ({"cells": [{"optimizer.lr": 1}], "choose": {"optimizer.lr": {}}}, "optimizer.lr is set in choose and in cells[0]"),
    ({"fixed": {"seed": 0}}, "nothing to train: give at least one factor (grid, zip, arms or components) or one"),
    ({"grid": None, "cells": []}, "nothing to train: give at least one factor"),
    ({"table": {"rows": ["nope"], "columns": [], "baseline": {"nope": 1}}}, "table: rows: there is no knob nope"),
    ({"table": {"rows": ["a.b"], "columns": [], "baseline": {"a.b": {1: 2}}}}, "table: rows: there is no knob a.b"),
    ({"\u00a0seed": 1}, "there is no key '\\xa0seed';"),
    ({"grid": {"se\u200bed": [1]}}, "grid: there is no knob or group 'se\\u200bed';"),
]  # fmt: skip


@pytest.mark.parametrize("section", ["fixed", "grid", "zip", "arms", "cells", "exclude", "choose", "table"])
@pytest.mark.parametrize(
    "value",
    [True, 3, "x", [[]], [None], ["seed"], [{"a": 1}], {"a": 1}, {1: 2}, {"seed": {"a": 1}}, {"a": {"seed": [1]}},
     {"when": [1]}, {"optimizer.drop_at": [{"a": 1}]}, {"+seed": 1}, {"rows": 3, "columns": [3], "baseline": [3]}],
    ids=str,
)  # fmt: skip
def test_a_section_of_any_other_shape_is_a_fault_or_a_sweep_and_no_stack_trace(section: str, value: Any):
    with suppress(ConfigError):
        sweep(**({"grid": {"seed": [0, 1]}} | {section: value})).combinations((), expand)


def test_a_schedule_of_mappings_is_no_schedule():
    exclude = [{"when": {"optimizer.drop_at": [{"a": 1}]}, "reason": "x"}]
    sweep(grid={"seed": [0]}, exclude=exclude)
    config = checked(Config())
    config.optimizer.drop_at = [{"a": 1}]  # type: ignore[list-item]
    with pytest.raises(ConfigError, match=r"drop_at must be rising fractions between 0 and 1, .* got \[\{'a': 1\}\]"):
        checked(config)


@pytest.mark.parametrize(("sections", "fault"), SECTIONS, ids=[fault for _, fault in SECTIONS])
def test_a_fault_is_named_with_its_place(sections: dict[str, Any], fault: str):
    found = faults({"question": QUESTION, **sections})
    assert [line for line in found if line.startswith(fault)], found


def test_a_file_without_a_question_or_that_is_no_mapping_is_refused():
    assert faults({"grid": {"seed": [0]}}) == ["question must say in one sentence what the sweep answers, got None"]
    assert faults(["grid"])[0].startswith("must hold question, fixed, grid")


def test_all_faults_are_listed_together():
    content = {
        "fixed": {"optimizer.lrr": 1, "model": 3},
        "grid": {"seed": 3},
        "exclude": [{}],
        "tabel": {},
    }
    assert len(faults(content)) == 7  # question, tabel, lrr, model, seed, when, reason


# What a file's text says


# What YAML 1.1 makes of a name: https://yaml.org/type/bool.html, int.html, float.html, null.html; 012 is octal and
# 1:30 of base sixty.
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("on", "the truth value true"), ("off", "the truth value false"), ("yes", "the truth value true"),
        ("No", "the truth value false"), ("1:30", "the number 90"), ("012", "the number 10"), ("0.1", "the number 0.1"),
        ("1e-1", "the number 0.1"), (".10", "the number 0.1"), ("1", "the number 1"), ("1_000", "the number 1000"),
        ("null", "nothing"), ("~", "nothing"), (".inf", "the number inf"),
    ],
)  # fmt: skip
def test_a_name_that_yaml_does_not_take_for_text_is_refused_as_it_was_typed(name: str, meant: str):
    fault = f"YAML reads the name {name} as {meant}; quote it: '{name}'"
    assert text_faults(f"arms: {{a: {{}}, {name}: {{seed: 1}}}}") == [f"arms: {fault}"]
    baseline = f"table: {{rows: [arm], columns: [], baseline: {{arm: {name}}}}}"
    assert text_faults(f"arms: {{a: {{}}, '{name}': {{seed: 1}}}}\n{baseline}") == [f"table: baseline: arm: {fault}"]
    choose = f"choose: {{optimizer.lr: {{sweep: [b, {name}], by: val_error, per: []}}}}"
    assert text_faults(f"arms: {{a: {{}}}}\n{choose}") == [f"choose: optimizer.lr: sweep: {fault}"]


def test_quoted_names_are_arms_of_their_own_and_so_is_a_date():
    names = ["on", "yes", "1:30", "90", "012", "0.1", "1e-1", "null", "a b/c: d", "[x]|$%&#", "ä"]
    lines = [f"  '{name}': {{seed: {number}}}" for number, name in enumerate(names)]
    read = parse_sweep("mine", "\n".join(["question: Is it?", "arms:", *lines, "  2026-11-29: {seed: 99}"]))
    assert list(read.arms) == [*names, "2026-11-29"]
    assert [each.arm for each in read.combinations((), expand)] == [*names, "2026-11-29"]


@pytest.mark.parametrize("name", ["''", "' a'", '"a\\nb"', '"a\\tb"', '"\\e[2J"'])
def test_a_name_of_an_arm_is_one_line_of_text(name: str):
    (fault,) = text_faults(f"arms: {{a: {{}}, {name}: {{seed: 1}}}}")
    assert fault.startswith("arms: a name must be one line of text without blanks around it, got ")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("grid: {seed: [0]}\ngrid: {seed: [1]}", "grid is given twice"),
        ("grid: {seed: [0], 'seed': [1]}", "grid: seed is given twice"),
        ("arms: {a: {}, a: {seed: 1}}", "arms: a is given twice"),
        ("zip: [{seed: [0], optimizer.lr: [1], seed: [2]}]", "zip[0]: seed is given twice"),
        (
            "grid: {seed: [0]}\ntable: {rows: [seed], columns: [], baseline: {seed: {1: 0, 0x1: 0}}}",
            "table: baseline: seed: 1 and 0x1 are one key",
        ),
        (
            "fixed: {model.kwargs.a: 1, +model.kwargs.a: 2}\ngrid: {seed: [0]}",
            "model.kwargs.a is set in fixed and in fixed; set it in one of them",
        ),
        ("? {a: 1}\n: 2", "a key must be text, got a mapping"),
        ("arms: {? [a] : {}}", "arms: a key must be text, got a sequence"),
    ],
)
def test_no_key_of_a_file_gets_lost(text: str, fault: str):
    assert fault in text_faults(text)


def test_a_baseline_that_is_no_arm_is_named_with_the_arms():
    table = "table: {rows: [arm], columns: [], baseline: {arm: nope}}"
    assert text_faults(f"arms: {{'off': {{}}, 'on': {{seed: 1}}}}\n{table}") == [
        "table: baseline: there is no arm nope; legal: off, on"
    ]


def test_the_same_key_may_stand_in_fixed_and_on_top_of_it():
    read = sweep(
        fixed={"augment": "flip_shift"},
        arms={"plain": {"augment": "none"}},
        grid={"seed": [0]},
        cells=[{"augment": "none", "seed": 1}],
    )
    assert overrides(read) == [("augment=none", "seed=0"), ("augment=none", "seed=1")]


def test_a_table_may_name_the_arm_where_there_are_arms():
    read = sweep(arms={"x": {}}, table={"rows": ["arm"], "columns": ["seed"]})
    assert read.table is not None
    assert (read.table.rows, read.table.columns) == (("arm",), ("seed",))


def test_a_choice_names_one_sweep_or_several():
    entry = {"by": "test_error", "per": ["model.base"]}
    (one,) = sweep(grid={"seed": [0]}, choose={"optimizer.lr": {"sweep": "other", **entry}}).choose
    (two,) = sweep(grid={"seed": [0]}, choose={"optimizer.lr": {"sweep": ["other", "more"], **entry}}).choose
    assert (one.sweeps, two.sweeps) == (("other",), ("other", "more"))
    assert (one.key, str(one.by), one.per) == ("optimizer.lr", "test_error", ("model.base",))


@pytest.mark.parametrize("text", ["grid: &a {seed: *a}", "arms: &a\n  one: [*a]", "fixed: {x: &b [[*b]]}"])
def test_what_holds_itself_by_an_anchor_is_refused_with_its_place(text: str):
    with pytest.raises(yaml.YAMLError, match=r"this (mapping|list) holds itself\n  in .*mine.yaml"):
        parse_sweep("mine", f"question: Is it?\n{text}")


def test_an_anchor_may_be_used_more_than_once():
    read = parse_sweep("mine", "question: Is it?\nfixed: &a {seed: 1}\narms: {one: *a, other: {seed: 2}}")
    assert list(read.arms) == ["one", "other"]


def test_reading_a_sweep_needs_no_torch():
    code = "import sys, strive.sweeps.sweep_file; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT / "src").returncode == 0
