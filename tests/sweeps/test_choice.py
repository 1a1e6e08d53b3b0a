import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as replaced
from study_records import study_record

from allcnn.config import Base, Config, Variant
from strive.app import in_use
from strive.cells.metrics import Better
from strive.cells.records import Record, Status
from strive.errors import ConfigError
from strive.sweeps.choice import Choice, ChoiceSpec, MissingParentsError, choose, chooser, together
from strive.sweeps.criterion import Criterion

BY_VAL = Criterion("val_error", Better.lower)
SPEC = ChoiceSpec(key="optimizer.lr", sweeps=("table3_lr",), by=BY_VAL, per=("model.base",))
Parent = tuple[dict[str, Any], Record | None]


def cell(lr: float, seed: int = 0, base: Base = Base.a) -> Config:
    config = Config(seed=seed)
    config.optimizer.lr, config.model.base = lr, base
    config.data.val_images = 5000
    return config


def science(config: Config) -> dict[str, Any]:
    return in_use().science(config)


def record(config: Config, val: float | None, test: float = 0.5, status: Status = Status.done) -> Record:
    return study_record(config, status, val_error=val, test_error=test)


def seeds(lr: float, *errors: float | None, status: Status = Status.done, base: Base = Base.a) -> list[Parent]:
    cells = [cell(lr, seed, base) for seed in range(len(errors))]
    return [(science(each), record(each, error, status=status)) for each, error in zip(cells, errors, strict=True)]


def chosen(parents: Sequence[Parent], spec: ChoiceSpec = SPEC) -> Choice:
    return choose(spec, science(cell(0.5, seed=9)), parents)


def said(choice: Choice) -> tuple[Any, str]:
    return choice.value, choice.why


def test_the_smallest_mean_over_seeds_wins_and_the_others_are_named():
    # Means: 10.4%, 9.81%, 11%. The best single seed, 9.0%, belongs to 0.1.
    parents = [*seeds(0.1, 0.09, 0.11, 0.112), *seeds(0.05, 0.0981, 0.0980, 0.0982), *seeds(0.01, 0.11, 0.11, 0.11)]
    assert said(chosen(parents)) == (0.05, "val error 9.81% (mean of 3 seeds), beats 0.1: 10.40%, 0.01: 11.00%")


def test_only_parents_that_equal_the_cell_in_per_are_asked():
    parents = [*seeds(0.1, 0.2), *seeds(0.01, 0.3), *seeds(0.01, 0.1, base=Base.b), *seeds(0.1, 0.4, base=Base.b)]
    for_base = chooser(SPEC, parents)
    assert for_base(science(cell(0.5, base=Base.a))).value == 0.1
    assert for_base(science(cell(0.5, base=Base.b))).value == 0.01
    # An answer is remembered, and belongs to the parents alone.
    assert for_base(science(cell(0.7, seed=4, base=Base.b))) is for_base(science(cell(0.5, base=Base.b)))


def test_by_test_error_it_is_the_papers_own_rule():
    one, other = cell(0.1), cell(0.01)
    parents = [(science(one), record(one, 0.1, test=0.3)), (science(other), record(other, 0.2, test=0.2))]
    assert chosen(parents).value == 0.1
    choice = chosen(parents, replace(SPEC, by=Criterion("test_error", Better.lower)))
    assert said(choice) == (0.01, "test error 20.00% (1 seed), beats 0.1: 30.00%")


def test_a_value_of_which_one_seed_diverged_is_never_chosen():
    diverged = seeds(0.25, 0.05, 0.05)
    diverged += [(science(each), record(each, 0.9, status=Status.diverged)) for each in [cell(0.25, seed=2)]]
    choice = chosen([*diverged, *seeds(0.1, 0.1, 0.1, 0.1)])
    assert said(choice) == (0.1, "val error 10.00% (mean of 3 seeds); 0.25 diverged")


def test_where_every_value_diverged_there_is_no_choice():
    parents = [*seeds(0.25, 0.9, status=Status.diverged), *seeds(0.1, None, status=Status.diverged)]
    with pytest.raises(ConfigError, match=r"^optimizer\.lr for model\.base=a: every value in sweep table3_lr diverged"):
        chosen(parents)


def test_of_equal_means_the_smaller_value_wins():
    # 0.1 + 0.2 and 0.15 + 0.15 differ in their last bit.
    parents = [*seeds(0.25, 0.1, 0.2), *seeds(0.05, 0.15, 0.15), *seeds(0.1, 0.2, 0.1), *seeds(0.5, 0.4, 0.4)]
    assert said(chosen(parents)) == (
        0.05,
        "val error 15.00% (mean of 2 seeds), equal to 0.1: 15.00%, 0.25: 15.00%, of which it is the smallest value,"
        " beats 0.5: 40.00%",
    )


def test_means_that_differ_are_not_shown_as_equal():
    assert (
        chosen([*seeds(0.1, 0.10001), *seeds(0.05, 0.10002)]).why == "val error 10.001% (1 seed), beats 0.05: 10.002%"
    )


def test_a_single_value_is_said_to_be_the_only_one():
    assert said(chosen(seeds(0.1, 0.1))) == (0.1, "val error 10.00% (1 seed), the only value")


def test_the_largest_and_the_smallest_of_the_numbers_tried_are_named_as_such():
    three = ((0.1, 0.5), (0.05, 0.3), (0.01, 0.4))
    for best, edge in ((0.1, "largest"), (0.05, ""), (0.01, "smallest")):
        parents = [each for lr, error in three for each in seeds(lr, 0.1 if lr == best else error)]
        assert chosen(parents).edge == edge


def test_a_larger_value_that_diverged_was_tried():
    parents = [*seeds(0.25, 0.9, status=Status.diverged), *seeds(0.1, 0.1), *seeds(0.05, 0.3)]
    assert chosen(parents).edge == ""


def test_the_only_value_is_at_no_edge():
    assert chosen(seeds(0.1, 0.1)).doubt == ""


def test_a_lead_below_the_standard_error_over_seeds_is_named():
    # Means 10% and 10.5%; variances 1 and 4 (points squared) over 3: sqrt(5 / 3) = 1.29.
    parents = [*seeds(0.1, 0.09, 0.10, 0.11), *seeds(0.05, 0.085, 0.105, 0.125)]
    assert chosen(parents).noise == "lead 0.5, below its standard error of 1.3 (over seeds)"
    # 0.05 instead: 12.5%, 2.5 above.
    assert chosen([*parents[:3], *seeds(0.05, 0.105, 0.125, 0.145)]).noise == ""


def test_with_one_seed_a_lead_is_compared_with_the_sampling_error_of_the_held_out_images():
    # 10% and 10.5% of 5,000: sqrt((0.09 + 0.093975) / 5000) = 0.00607.
    choice = chosen([*seeds(0.1, 0.1), *seeds(0.05, 0.105)])
    assert choice.noise == "lead 0.5, below 0.61, its standard error from 5,000 examples each"
    assert choice.doubt == f"the largest tried; {choice.noise}"
    assert chosen([*seeds(0.1, 0.1), *seeds(0.05, 0.107)]).noise == ""


def test_holes_are_never_averaged():
    waiting, failed = cell(0.01, seed=0), cell(0.01, seed=1)
    holes: list[Parent] = [
        (science(waiting), None),
        (science(failed), record(failed, None, status=Status.out_of_memory)),
    ]
    with pytest.raises(MissingParentsError) as caught:
        choose(SPEC, science(cell(0.5)), [*seeds(0.1, 0.1, 0.1), *holes], ("data=digits", "data.root=a folder"))
    first, command, last = str(caught.value).splitlines()
    assert "optimizer.lr for model.base=a is chosen from sweep table3_lr, where 2 of 4 cells have no result" in first
    assert "(1 not trained, 1 out_of_memory)" in first
    assert command.endswith(" -m sweeps=table3_lr data=digits 'data.root=a folder'")
    assert "hydra.sweeper.parents=true" in last


def test_a_hole_elsewhere_does_not_hold_a_choice_up():
    elsewhere = cell(0.01, base=Base.b)
    assert chosen([*seeds(0.1, 0.1), (science(elsewhere), None)]).value == 0.1


def test_nets_that_miss_their_parents_are_one_message_and_seeds_are_not_counted_twice():
    parents: list[Parent] = [
        (science(cell(lr, seed, base)), None) for lr in (0.1, 0.01) for seed in (0, 1) for base in Base
    ]
    for_base = chooser(replace(SPEC, sweeps=("one", "two")), parents)
    errors = []
    for base in Base:
        for seed in range(5):
            with pytest.raises(MissingParentsError) as caught:
                for_base(science(cell(0.5, seed, base)))
            errors.append(caught.value)
    (error,) = together(errors)
    first, *commands, _ = str(error).splitlines()
    assert "from sweeps one and two, where 12 of 12 cells have no result (12 not trained)" in first
    assert [line.rpartition(" -m ")[2] for line in commands] == ["sweeps=one", "sweeps=two"]
    assert together(errors[:5]) == [errors[0]]


def test_without_a_candidate_the_cell_that_was_looked_for_is_named():
    with pytest.raises(ConfigError, match=r"for model\.base=a is chosen from sweep table3_lr, which has no such cell"):
        chosen(seeds(0.1, 0.1, base=Base.c))


def test_parents_that_held_nothing_out_cannot_choose_by_val_error():
    with pytest.raises(ConfigError, match=r"holds nothing out; set data\.val_images there"):
        chosen(seeds(0.1, None))


def test_cells_that_differ_in_more_than_the_seed_are_not_averaged():
    parents = [*seeds(0.1, 0.1), *seeds(0.01, 0.1)]
    other = cell(0.1, seed=1)
    other.model.variant, other.budget.epochs = Variant.base, 100
    parents.append((science(other), record(other, 0.1)))
    with pytest.raises(ConfigError, match=r"differ in budget\.epochs, model\.variant, not only in seed; name that in"):
        chosen(parents)


def test_a_cell_of_two_sweeps_counts_once():
    parents = [*seeds(0.1, 0.1, 0.3), *seeds(0.01, 0.19, 0.19)]
    twice = [*parents, *seeds(0.1, 0.1)]
    assert chosen(twice) == chosen(parents)
    assert chosen(twice).value == 0.01


def test_any_knob_can_be_chosen_and_infinity_is_larger_than_any_number():
    spec = replace(SPEC, key="model.pool_norm", per=())
    parents: list[Parent] = []
    for norm in (math.inf, 2.0, 10.0):
        config = cell(0.1)
        config.model.pool_norm = norm
        parents.append((science(config), record(config, 0.1)))
    assert choose(spec, science(cell(0.1)), parents).value == 2.0
    # As a record's config has it.
    assert choose(spec, science(cell(0.1)), parents[:1]).value == "inf"


def test_a_knob_that_is_a_word_or_a_list_can_be_chosen():
    parents: list[Parent] = []
    for drops, error in (([], 0.3), (["1/2"], 0.2)):
        config = cell(0.1)
        config.optimizer.drop_at = drops
        parents.append((science(config), record(config, error)))
    choice = choose(replace(SPEC, key="optimizer.drop_at"), science(cell(0.1)), parents)
    assert said(choice) == (["1/2"], "val error 20.00% (1 seed), beats []: 30.00%")
    both = [(base, cell(0.1, base=base)) for base in (Base.b, Base.a)]
    parents = [(science(config), record(config, 0.2)) for _, config in both]
    assert choose(replace(SPEC, key="model.base", per=()), science(cell(0.1)), parents).value == "a"


def test_a_value_is_chosen_by_any_metric_in_its_own_direction():
    spec = ChoiceSpec(key="lr", sweeps=("lr",), by=Criterion("val_bleu", Better.higher), per=())
    parents = [
        ({"lr": lr, "seed": seed}, replaced(record(cell(0.1), None), metrics={"val_bleu": bleu + seed / 100}))
        for lr, bleu in ((0.1, 31.0), (0.01, 34.25))
        for seed in (0, 1)
    ]
    choice = choose(spec, {"lr": 0.5, "seed": 7}, parents)
    assert said(choice) == (0.01, "val bleu 34.26 (mean of 2 seeds), beats 0.1: 31")
    with pytest.raises(ConfigError, match=r"lr is chosen by acc, but \S+ has only val_bleu"):
        choose(replace(spec, by=Criterion("acc", Better.higher)), {"lr": 0.5, "seed": 7}, parents)
