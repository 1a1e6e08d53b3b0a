"""Designs: what each arm sets, what it is compared with, and how mistakes in components are named."""

import re
import subprocess
import sys
from itertools import product
from typing import Any

import pytest
from overrides import expand
from support import ROOT, MakeConfig, MakePlan

from strive.config import identity
from strive.errors import ConfigError
from strive.sweeps.design import Design, DesignName
from strive.sweeps.plan_text import plan_lines
from strive.sweeps.sweep_file import Sweep, parse_sweep, read_sweep

RECIPE: dict[str, Any] = {
    "dropout": {"with": {"model.dropout_hidden": 0.5}, "without": {"model.dropout_hidden": 0}},
    "augmentation": {"with": {"augment": "flip_shift"}, "without": {"augment": "none"}},
    "whitening": {"with": {"preprocess": "gcn_zca"}, "without": {"preprocess": "standardize"}},
}
TWO = {name: RECIPE[name] for name in ("dropout", "augmentation")}


def sweep(design: Any, components: Any = RECIPE, **sections: Any) -> Sweep:
    return read_sweep("mine", {"question": "Does it?", "components": components, "design": design, **sections})


def design_of(design: Any, components: Any = RECIPE) -> Design:
    found = sweep(design, components).design
    assert found is not None
    return found


def faults(design: Any, components: Any = RECIPE, **sections: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        sweep(design, components, **sections)
    return [line.removeprefix("sweeps/mine.yaml: ") for line in str(caught.value).splitlines()]


def present(design: Design) -> dict[str, str]:
    """Return {arm: the initials of the components that are there}."""
    there = {"with": True, "without": False}
    return {
        name: "".join(component[0] for component, level in arm.levels.items() if there[level])
        for name, arm in design.arms.items()
    }


# Arms


def test_one_at_a_time_adds_each_component_alone_to_none():
    design = design_of("one_at_a_time")
    assert present(design) == {"none": "", "dropout": "d", "augmentation": "a", "whitening": "w"}
    assert design.references == {"dropout": "none", "augmentation": "none", "whitening": "none"}
    assert design.arms["dropout"].values == {
        "model.dropout_hidden": 0.5,
        "augment": "none",
        "preprocess": "standardize",
    }


def test_leave_one_out_takes_each_component_from_all():
    design = design_of("leave_one_out")
    assert present(design) == {
        "all": "daw",
        "without dropout": "aw",
        "without augmentation": "dw",
        "without whitening": "da",
    }
    assert set(design.references.values()) == {"all"}
    assert design.arms["without whitening"].moved == ("whitening",)


def test_cumulative_is_a_ladder_in_the_order_of_the_file():
    design = design_of("cumulative")
    assert present(design) == {"none": "", "+ dropout": "d", "+ augmentation": "da", "+ whitening": "daw"}
    assert design.references == {
        "+ dropout": "none",
        "+ augmentation": "+ dropout",
        "+ whitening": "+ augmentation",
    }


def test_a_factorial_has_every_combination_and_all_its_effects():
    design = design_of("factorial")
    assert set(present(design).values()) == {"", "d", "a", "w", "da", "dw", "aw", "daw"}
    assert next(iter(design.arms)) == "none"
    assert list(design.arms)[-1] == "all"
    assert "dropout + whitening" in design.arms
    assert [words for words in design.effects if len(words) > 1] == []
    assert [len(word) for (word,) in design.effects] == [1, 1, 1, 2, 2, 2, 3]


def test_without_left_out_is_the_default_so_nothing_is_set():
    design = design_of("one_at_a_time", {"he": {"with": {"model.init": "he"}}, **TWO})
    assert design.arms["none"].values == {"model.dropout_hidden": 0, "augment": "none"}
    assert design.arms["he"].values == {"model.init": "he", "model.dropout_hidden": 0, "augment": "none"}


def test_each_alternative_is_an_arm_of_its_own():
    components = {"init": {"with": {"he": {"model.init": "he"}, "torch": {"model.init": "torch_default"}}}, **TWO}
    assert list(design_of("one_at_a_time", components).arms) == [
        "none",
        "init=he",
        "init=torch",
        "dropout",
        "augmentation",
    ]
    factorial = design_of("factorial", components)
    assert len(factorial.arms) == 3 * 2 * 2
    assert factorial.arms["init=he + dropout"].values["model.init"] == "he"
    assert factorial.effects == ()


@pytest.mark.parametrize(
    ("design", "start", "level"), [("one_at_a_time", "none", "without"), ("leave_one_out", "all", "with")]
)
def test_a_component_with_a_reference_of_its_own_is_compared_there_and_is_in_no_other_arm(
    design: str, start: str, level: str
):
    rounding = {
        "with": {"model.pool_rounding": "pad"},
        "without": {"model.pool_rounding": "ceil"},
        "reference": {"model": "model_c"},
    }
    found = design_of(design, {"rounding": rounding, **TWO})
    here = f"{start} (model=model_c)"
    other = "rounding" if design == "one_at_a_time" else "without rounding"
    assert found.references[other] == here
    assert found.arms[here].values["model"] == "model_c"
    assert found.arms[here].levels == {"rounding": level, "dropout": level, "augmentation": level}
    differing = {key for key, value in found.arms[other].values.items() if found.arms[here].values[key] != value}
    assert differing == {"model.pool_rounding"}
    assert "model.pool_rounding" not in found.arms[start].values
    assert "rounding" not in found.arms[start].levels


def test_a_reference_has_the_last_word_over_components_that_are_not_its_own():
    shift = {"with": {"augment.shift_px": 4}, "reference": {"augment": "flip_shift"}}
    arms = design_of("one_at_a_time", {"shift": shift, **TWO}).arms
    assert arms["none"].values["augment"] == "none"
    assert arms["shift"].values == {"model.dropout_hidden": 0, "augment": "flip_shift", "augment.shift_px": 4}


def test_in_one_at_a_time_two_components_may_set_one_key():
    gaussian = {"model.init": "gaussian"}
    components = {name: {"with": {"model.init": name}, "without": gaussian} for name in ("he", "torch_default")}
    found = design_of("one_at_a_time", components)
    assert [arm.values["model.init"] for arm in found.arms.values()] == ["gaussian", "he", "torch_default"]


def test_components_stand_on_what_is_fixed_and_beside_a_grid_and_a_zip():
    read = sweep(
        "leave_one_out",
        TWO,
        fixed={"data": "digits", "augment": "extreme"},
        grid={"seed": [0, 1]},
        zip=[{"model": ["model_a", "all_cnn_a"], "optimizer.lr": [0.1, 0.05]}],
    )
    found = read.combinations((), expand)
    assert len(found) == 3 * 2 * 2
    points = {
        (each.arm, each.point): [text for text in each.overrides if text.startswith(("seed", "model="))]
        for each in found
    }
    for arm, point in product(("without dropout", "without augmentation"), range(4)):
        assert points[arm, point] == points["all", point]
    assert "augment=flip_shift" in found[0].overrides
    assert "augment=extreme" not in found[0].overrides


def test_a_fraction_of_three_components_has_the_four_runs_whose_third_is_the_product_of_the_others():
    # Montgomery, Design and Analysis of Experiments, 8th edition, section 8.2.1: the principal fraction with I = ABC.
    design = design_of({"fractional_factorial": {"resolution": "III"}})
    assert set(present(design).values()) == {"w", "d", "a", "daw"}
    assert {words for words in design.effects} == {
        (("dropout",), ("augmentation", "whitening")),
        (("augmentation",), ("dropout", "whitening")),
        (("whitening",), ("dropout", "augmentation")),
    }
    assert design.title == "fractional_factorial of 3 components, 2^(3-1) of resolution III"


def letters(count: int, resolution: str) -> tuple[Design, set[frozenset[str]]]:
    components = {"abcdefghijkl"[index]: {"with": {f"model.kwargs.x{index}": 1}} for index in range(count)}
    design = design_of({"fractional_factorial": {"resolution": resolution}}, components)
    return design, {frozenset("".join(word) for word in words) for words in design.effects}


def test_the_half_fraction_of_four_has_the_textbook_s_aliases():
    # Montgomery, 8th edition, example 8.1: I = ABCD, so A = BCD, B = ACD, ..., AB = CD, AC = BD, AD = BC.
    design, effects = letters(4, "IV")
    assert (len(design.arms), design.resolution) == (8, 4)
    assert effects == {
        *(frozenset(pair) for pair in (("a", "bcd"), ("b", "acd"), ("c", "abd"), ("d", "abc"))),
        *(frozenset(pair) for pair in (("ab", "cd"), ("ac", "bd"), ("ad", "bc"))),
    }


def test_the_quarter_fraction_of_six_has_the_textbook_s_aliases():
    # Montgomery, 8th edition, table 8.8: 2^(6-2) with E = ABC and F = BCD, I = ABCE = BCDF = ADEF. With E = ABC and
    # F = ABD, which pydoe takes, it is the same design with the letters exchanged: I = ABCE = ABDF = CDEF.
    design, effects = letters(6, "IV")
    assert (len(design.arms), design.resolution) == (16, 4)
    words = [{"a", "b", "c", "e"}, {"a", "b", "d", "f"}, {"c", "d", "e", "f"}]
    expected = set()
    for count in range(1, 2**6):
        effect = {"abcdef"[bit] for bit in range(6) if count >> bit & 1}
        chain = [effect, *(effect ^ word for word in words)]
        if all(chain):
            expected.add(frozenset("".join(sorted(each)) for each in chain))
    assert effects == expected
    assert len(effects) == 15


def test_a_design_that_is_no_fraction_imports_nothing_heavy():
    code = "\n".join(
        [
            "import sys",
            "from strive.sweeps import design, sections",
            "faults = sections.Faults()",
            "faults.key, faults.value = lambda *each: True, lambda *each: None",
            f"assert design.read_design({{'components': {TWO!r}, 'design': 'factorial'}}, faults)",
            "sys.exit(any(name in sys.modules for name in ('pydoe', 'torch', 'scipy')))",
        ]
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT / "src").returncode == 0


# The table


def test_the_table_follows_from_the_design():
    table = sweep("leave_one_out").table
    assert table is not None
    assert (table.rows, table.columns) == (("arm",), ())
    assert table.baseline == {"arm": dict.fromkeys([f"without {name}" for name in RECIPE], "all")}
    assert table.design is not None
    assert sweep("factorial").table.baseline == {}  # type: ignore[union-attr]


def test_the_file_s_own_table_has_the_last_word():
    table = {
        "value": "val_error",
        "margin": 0.5,
        "pair": [],
        "columns": ["arm"],
        "baseline": {"arm": "without dropout"},
    }
    found = sweep("leave_one_out", table=table).table
    assert found is not None
    assert (found.rows, found.columns, found.margin, found.pair) == ((), ("arm",), 0.5, ())
    assert found.value.name == "val_error"
    assert found.baseline == {"arm": "without dropout"}


def test_a_table_that_would_average_over_the_arms_is_refused():
    assert faults("leave_one_out", table={"rows": ["model.base"], "columns": []}) == [
        "table: arm must be in rows or columns: the design's arms are no cells to average over",
        "table: baseline: arm is neither in rows nor in columns",
    ]


def test_an_app_that_may_have_any_key_has_no_cell_that_lacks_the_arm(
    monkeypatch: pytest.MonkeyPatch, make_config: MakeConfig
):
    monkeypatch.setattr(identity, "is_open_key", lambda key: True)
    sweep("leave_one_out").check_table([make_config()])


def test_the_file_of_the_page_has_the_cells_that_the_page_says():
    page = (ROOT / "docs" / "designs.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.S)
    wanted = {"leave_one_out": 12, "one_at_a_time": 12, "cumulative": 12, "factorial": 24}
    for design, number in (wanted | {"{fractional_factorial: {resolution: III}}": 12}).items():
        read = parse_sweep("parts", text.replace("design: leave_one_out", f"design: {design}"))
        assert len(read.combinations((), expand)) == number


# Faults

OFF = {"with": {"augment": "none"}, "without": {"augment": "none"}}
FAULTS: list[tuple[Any, Any, str]] = [
    (None, RECIPE, "design: say how to compare the components: one_at_a_time, leave_one_out, cumulative, factorial"),
    ("leave_one_in", RECIPE, "design must be one of one_at_a_time, leave_one_out, cumulative, factorial, "
     "fractional_factorial, got 'leave_one_in'; did you mean leave_one_out?"),
    (["factorial"], RECIPE, "design must be one of"),
    ("leave_one_out", None, "design: there are no components to arrange"),
    ("leave_one_out", {}, "components must hold NAME: {with: {KEY: VALUE}, without: {KEY: VALUE}}, got {}"),
    ("leave_one_out", ["dropout"], "components must hold NAME: {with: {KEY: VALUE}, without: {KEY: VALUE}}, got ['d"),
    ("leave_one_out", {"a": 3, **TWO}, "components: a must hold with, without, reference, got 3"),
    ("leave_one_out", {"a": {}, **TWO}, "components: a: with must hold KEY: VALUE, or alternatives NAME: {KEY: VALUE}"),
    ("leave_one_out", {"a": {True: {}, False: {}}, **TWO}, "components: a: the keys are with and without; YAML reads"),
    ("leave_one_out", {"a": {"wiht": {}}, **TWO}, "components: a: there is no key wiht; did you mean with? legal: wit"),
    ("leave_one_out", {" a": RECIPE["dropout"], **TWO}, "components: a name must be one line of text without blanks"),
    ("leave_one_out", {"he": {"with": {"init": "he"}}, **TWO}, "components: he: with: there is no knob or group init;"),
    ("leave_one_out", {"he": {"with": {"model.init": ["he"]}}, **TWO}, "components: he: with: model.init must be one"),
    ("leave_one_out", {"a": {"with": {"seed": 1, "model.init": "he"}, "without": {"seed": 0}}, **TWO},
     "components: a: with sets model.init, and without does not: give both the same keys"),
    ("leave_one_out", {"a": {"with": {"seed": 1}, "without": {"seed": 0, "model.init": "he"}}, **TWO},
     "components: a: without sets model.init, and with does not: give both the same keys"),
    ("leave_one_out", {"a": OFF, **TWO}, "components: a: with sets what without sets, so its arm would be its own"),
    ("one_at_a_time", {"a": {"with": {"x": {"seed": 1}, "y": {"seed": 1}}}}, "components: a: with: x and y set the s"),
    ("one_at_a_time", {"a": {"with": {"x": {"seed": 1}, "y": {}}}}, "components: a: with: y must set at least one key"),
    ("one_at_a_time", {"a": {"with": {"without": {"seed": 1}}}}, "components: a: with: an alternative must have anoth"),
    ("one_at_a_time", {"none": RECIPE["dropout"]}, "components: 2 arms of this design would be called none: rename a"),
    ("cumulative", {"dropout": RECIPE["dropout"]}, "components: cumulative needs at least 2 of them, got 1: dropout; "
     "for one alone take one_at_a_time"),
    ("leave_one_out", {"dropout": RECIPE["dropout"]}, "components: leave_one_out needs at least 2 of them, got 1"),
    ("fractional_factorial", TWO, "components: fractional_factorial needs at least 3 of them, got 2: dropout, augm"),
    ("fractional_factorial", RECIPE, "design: 3 components have no fraction of resolution IV: take factorial, which"),
    ({"fractional_factorial": {"resolution": "II"}}, RECIPE, "design: resolution must be one of III, IV, V, VI, VII, "),
    ({"fractional_factorial": {"runs": 4}}, RECIPE, "design: fractional_factorial: there is no key runs;"),
    ({"fractional_factorial": 4}, RECIPE, "design: fractional_factorial must hold resolution, got 4"),
    ("factorial", {f"c{n}": {"with": {f"model.kwargs.x{n}": 1}} for n in range(9)},
     "components: factorial takes up to 8 of them, got 9: take fractional_factorial or leave_one_out"),
    ("leave_one_out", {"init": {"with": {"he": {"model.init": "he"}, "t": {"model.init": "torch_default"}}}, **TWO},
     "components: init has 2 alternatives, and leave_one_out needs to know which one it is that is there"),
    ("factorial", {"a": {"with": {"seed": 1}, "reference": {"model": "model_c"}}, **TWO},
     "components: a has a reference of its own, and factorial compares all components in the same cells"),
    ("cumulative", {"wide": {"with": {"augment": "extreme"}}, **TWO},
     "components: wide and augmentation both set augment, and in cumulative both may be there"),
    ("one_at_a_time", {"wide": {"with": {"augment": "extreme"}, "without": {"augment": "flip_shift"}}, **TWO},
     "components: without wide and without augmentation set two values of augment"),
]  # fmt: skip


@pytest.mark.parametrize(("design", "components", "fault"), FAULTS, ids=[fault[:60] for *_, fault in FAULTS])
def test_a_mistake_is_named_with_its_component(design: Any, components: Any, fault: str):
    found = faults(design, components)
    assert [line for line in found if line.startswith(fault)], found


def test_components_share_no_key_with_a_grid_and_stand_in_the_place_of_arms():
    assert faults("leave_one_out", grid={"augment": ["none"], "seed": [0]}) == [
        "augment is set in grid and in components: augmentation; set it in one of them"
    ]
    (fault,) = faults("leave_one_out", arms={"x": {"seed": 1}})
    assert fault.startswith("arms: a file has arms or components")


def test_a_design_that_there_is_not_is_the_only_fault():
    content = {"question": "Which?", "components": {"a": {"with": {"seed": 1}}}, "design": "ladder"}
    with pytest.raises(ConfigError) as raised:
        read_sweep("parts", content | {"table": {"rows": ["arm"], "baseline": {"arm": "none"}}})
    assert [line.partition(": ")[2][:20] for line in str(raised.value).splitlines()] == ["design must be one o"]


def test_looks_are_for_designs_that_compare_arms():
    table, seeds = {"margin": 0.5}, {"looks": [3, 5]}
    found = sweep("leave_one_out", grid={"seed": "range(0,5)"}, table=table, seeds=seeds).table
    assert found is not None
    assert found.looks is not None
    (fault,) = faults("factorial", grid={"seed": "range(0,5)"}, table=table, seeds=seeds)
    assert fault.startswith("seeds: factorial compares components over all arms")


def test_names_that_yaml_does_not_take_for_text_are_refused():
    text = "question: Is it?\ndesign: one_at_a_time\ncomponents:\n  on: {with: {0.1: {seed: 1}, b: {seed: 2}}}\n"
    with pytest.raises(ConfigError) as caught:
        parse_sweep("mine", text)
    assert str(caught.value).splitlines() == [
        "sweeps/mine.yaml: components: YAML reads the name on as the truth value true; quote it: 'on'",
        "sweeps/mine.yaml: components: on: with: YAML reads the name 0.1 as the number 0.1; quote it: '0.1'",
    ]


@pytest.mark.parametrize("name", list(DesignName))
@pytest.mark.parametrize(
    "value",
    [True, 3, "x", [[]], {"a": None}, {"a": [1]}, {"a": {"with": 3}}, {"a": {"with": {"x": {"y": {}}}}},
     {"a": {"with": {"seed": {}}, "without": [1], "reference": 2}}, {1: {"with": {1: 2}}}],
    ids=str,
)  # fmt: skip
def test_components_of_any_other_shape_are_a_fault_and_no_stack_trace(name: DesignName, value: Any):
    assert faults(name.value, value)


# The plan


PLANNED = TWO | {"he": {"with": {"model.init": "he"}, "without": {"model.init": "gaussian"}}}
SMALL = {"question": "Does it?", "grid": {"seed": [0, 1]}}


def test_the_plan_shows_for_each_arm_which_keys_differ_from_its_reference(make_plan: MakePlan):
    content = SMALL | {"components": PLANNED, "design": "leave_one_out"}
    plan = make_plan(sweeps={"mine": content})
    shown = {each.arm: [(key.key, key.reference, key.own) for key in each.set] for each in plan.differences}
    assert shown == {
        "without dropout": [("model.dropout_hidden", 0.5, 0.0)],
        "without augmentation": [("augment.kind", "flip_shift", "none")],
        "without he": [("model.init", "he", "gaussian")],
    }
    assert not any(each.chosen or each.following for each in plan.differences)
    lines = list(plan_lines(plan, []))
    assert "  without dropout, from 'all': model.dropout_hidden 0.0 instead of 0.5" in lines
    assert [line for line in lines if line.startswith("leave_one_out of 3 components; ")]


def test_a_difference_that_is_not_the_same_for_all_of_the_grid_says_so(make_plan: MakePlan):
    component = {"with": {"model": "all_cnn_c"}, "without": {"model": "model_c"}}
    grid = {"seed": [0], "optimizer.lr": [0.1, 0.05]}
    content = {"question": "Does it?", "grid": grid, "components": {"all_cnn": component}, "design": "one_at_a_time"}
    (found,) = make_plan(sweeps={"mine": content}).differences
    assert [(key.key, key.reference, key.own, key.varies) for key in found.set] == [
        ("model.variant", "base", "all_cnn", False)
    ]


def test_an_arm_that_equals_its_reference_is_an_error_that_names_the_component(make_plan: MakePlan):
    content = SMALL | {"components": {"relu": {"with": {"model.class_relu": True}}, **TWO}, "design": "one_at_a_time"}
    with pytest.raises(ConfigError) as caught:
        make_plan(sweeps={"mine": content})
    assert str(caught.value) == (
        "sweeps/mine.yaml: components: relu: arm 'relu' equals its reference 'none': what `with` sets is what the cells"
        " have without it"
    )


def test_a_component_whose_key_the_command_line_sets_is_an_error_that_says_so(make_plan: MakePlan):
    content = SMALL | {"components": PLANNED, "design": "leave_one_out"}
    with pytest.raises(ConfigError, match=r"components: dropout: arm .* equals .*: the command line sets model\.dropo"):
        make_plan("model.dropout_hidden=0.3", sweeps={"mine": content})


def test_an_exclusion_of_a_reference_leaves_out_what_is_compared_with_it_or_is_an_error(make_plan: MakePlan):
    rule = {"when": {"model.init": "he", "augment.kind": "flip_shift"}, "reason": "too slow"}
    content = SMALL | {"components": PLANNED, "design": "leave_one_out", "exclude": [rule]}
    with pytest.raises(ConfigError, match="without augmentation is compared with all, of which `exclude` leaves"):
        make_plan(sweeps={"mine": content})
    rule = {"when": {"augment.kind": "none"}, "reason": "known"}
    plan = make_plan(sweeps={"mine": content | {"exclude": [rule]}})
    assert [each.arm for each in plan.differences] == ["without dropout", "without he"]
