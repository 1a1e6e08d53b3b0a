from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from literature import comparison_tables

from allcnn.config import Config
from strive.app import in_use
from strive.cells.metrics import Better
from strive.results.conditions import Condition
from strive.statistics.inference import Summary
from strive.sweeps.criterion import Criterion
from strive.sweeps.table_spec import TableSpec as Layout
from strive.sweeps.table_spec import value_of
from strive.tables.table import Table

BASELINE = in_use().flat(Config())  # All-CNN-C on CIFAR-10 without augmentation
# The paper's comparisons, from memory of the paper and from the works that quote them.
PRINTED = {
    "paper_cifar10": {"Maxout": "11.68", "Network": "10.41", "Deeply": "9.69", "ALL-CNN-C": "9.08"},
    "paper_cifar10_augmented": {
        "Maxout": "9.38",
        "DropConnect": "9.32",
        "dasNet": "9.22",
        "Network": "8.81",
        "Deeply": "7.97",
        "ALL-CNN-C": "7.25",
    },
    "paper_cifar100": {
        "CNN": "36.85?",
        "Network": "35.68",
        "Deeply": "34.57",
        "Maxout": "34.54?",
        "dasNet": "33.78",
        "ALL-CNN-C": "33.71",
        "Fractional pooling, 1": "31.45?",
        "Fractional pooling, 12": "26.39?",
    },
    "paper_cifar10_extreme": {
        "Fractional pooling, 1 ": "4.50?",
        "Large ALL-CNN": "4.41",
        "Fractional pooling, 100": "3.47?",
    },
    "paper_imagenet": {"ALL-CNN-B": "41.2", "Krizhevsky": "40.7"},
}


def _condition(errors: dict[int, float], ref: str = "12", hole: str = "", **changes: Any) -> Condition:
    """A condition of All-CNN-C, with the test error of each seed."""
    config = BASELINE | {key.replace("__", "."): value for key, value in changes.items()}
    cells = pd.DataFrame([config | {"cell": f"{changes}-s{seed}", "seed": seed} for seed in errors])
    n = len(errors)
    mean = sum(errors.values()) / n
    sd = (sum((e - mean) ** 2 for e in errors.values()) / (n - 1)) ** 0.5 if n > 1 else None
    return Condition(
        ref=ref,
        key={"model.base": "c", "model.variant": "all_cnn"},
        label="ALL-CNN-C",
        cells=cells,
        hole=hole,
        values={(seed,): error for seed, error in errors.items()},
        summary=None if hole else Summary(n=n, mean=mean, sd=sd, low=None, high=None, next_low=None, next_high=None),
        parameters=1_369_738,
    )


def _summary(*conditions: Condition, name: str = "table3", by: str = "val_error", **layout: Any) -> Any:
    return SimpleNamespace(
        loaded=SimpleNamespace(name=name, choices=[SimpleNamespace(by=by)]),
        layout=Layout(rows=("model.base",), columns=("model.variant",), **({"paper": "table3"} | layout)),
        title=name,
        conditions=conditions,
    )


# A net that none of the comparisons has, on the images of each.
_OTHERS = [
    ("cifar10", "none"),
    ("cifar10", "flip_shift"),
    ("cifar100", "none"),
    ("cifar10", "extreme"),
    ("imagenet", "none"),
]


def _others() -> Any:
    """A sweep of no table of the paper's, on the images of each comparison."""
    return _summary(*(_condition({0: 9.0}, data__name=data, augment__kind=kind) for data, kind in _OTHERS), paper="")


def _table(name: str, *summaries: Any) -> Table:
    return next(table for table in comparison_tables([*summaries, _others()]) if table.name == f"paper_{name}")


def _ours(table: Table) -> list[list[str]]:
    return [[e.text for e in row.entries] for row in table.rows if ", ours" in row.entries[0].text]


@pytest.mark.parametrize("name", PRINTED)
def test_the_papers_numbers_are_in_its_order(name: str) -> None:
    table = next(table for table in comparison_tables([_others()]) if table.name == name)
    rows = [row.entries for row in table.rows if ", ours" not in row.entries[0].text]
    assert [row[1].text for row in rows] == list(PRINTED[name].values())
    for row, method in zip(rows, PRINTED[name], strict=True):
        assert row[0].text.startswith(method)


def test_without_records_each_table_says_that_there_is_no_value_of_ours() -> None:
    tables = comparison_tables([_others()])
    assert [len(_ours(table)) for table in tables] == [1] * 5
    for table in tables:
        assert _ours(table)[0][1:] == ["no value of ours yet", "-", "-", "-"]


def test_a_comparison_on_images_that_nobody_trained_with_is_left_out() -> None:
    summary = _summary(_condition({0: 9.0}, data__name="cifar10_jpeg"), _condition({0: 9.0}, data__name="digits"))
    assert [table.name for table in comparison_tables([summary])] == ["paper_cifar10"]
    assert comparison_tables([]) == []


def test_our_value_stands_below_the_papers_own() -> None:
    table = _table("cifar10", _summary(_condition({0: 9.0, 1: 9.2, 2: 9.4})))
    assert _ours(table) == [["ALL-CNN-C, ours", "9.20", "0.20", "3", "1,369,738"]]
    assert table.rows[-2].entries[0].text == "ALL-CNN-C, the paper"
    assert table.rows[-1].ref == "table3 12"


def test_one_seed_has_no_spread() -> None:
    assert _ours(_table("cifar10", _summary(_condition({0: 9.0}))))[0][1:4] == ["9.00", "-", "1"]


def test_a_condition_with_a_hole_shows_the_hole() -> None:
    table = _table("cifar10", _summary(_condition({0: 9.0, 1: 9.1}, hole="2 of 3 done, 1 missing")))
    assert _ours(table)[0][1:4] == ["2 of 3 done, 1 missing", "-", "2"]
    assert table.rows[-1].entries[1].hole


def test_each_augmentation_goes_to_its_own_table() -> None:
    summary = _summary(_condition({0: 9.0}), _condition({0: 7.5}, ref="24", augment__kind="flip_shift"))
    assert _ours(_table("cifar10", summary))[0][1] == "9.00"
    assert _ours(_table("cifar10_augmented", summary))[0][1] == "7.50"


def test_on_cifar100_both_augmentations_stand_beside_the_paper() -> None:
    kinds = [_condition({0: 34.0}, data__name="cifar100", augment__kind=kind) for kind in ("none", "flip_shift")]
    table = _table("cifar100", _summary(*kinds, paper="cifar100"))
    assert [row[0] for row in _ours(table)] == ["ALL-CNN-C, ours, none", "ALL-CNN-C, ours, flip_shift"]


def test_jpeg_copies_and_another_learning_rate_are_said() -> None:
    table = _table("cifar10", _summary(_condition({0: 9.0}, data__name="cifar10_jpeg", optimizer__lr=0.02)))
    assert _ours(table)[0][0] == "ALL-CNN-C, ours, cifar10_jpeg"
    assert table.notes[-1] == (
        "table3, ALL-CNN-C is not the paper's in data.name=cifar10_jpeg (the paper: cifar10);"
        " optimizer.lr=0.02 (the paper: 0.25, 0.1, 0.05 or 0.01)."
    )


def test_another_setup_is_no_comparison_and_said_so() -> None:
    table = _table("cifar10", _summary(_condition({0: 40.0}, model__width=0.125)))
    assert _ours(table)[0][1] == "no value of ours yet"
    assert table.notes[-1] == (
        "table3, ALL-CNN-C is in another set-up, and so no comparison: model.width=0.125 (the paper: 1)."
    )


def test_another_net_or_other_images_are_not_mentioned() -> None:
    summary = _summary(_condition({0: 40.0}, model__variant="base"), _condition({0: 40.0}, data__name="digits"))
    bare = _table("cifar10")
    assert _table("cifar10", summary) == bare


def test_a_sweep_that_mirrors_no_table_of_the_papers_does_not_count() -> None:
    assert _ours(_table("cifar10", _summary(_condition({0: 9.0}), paper="")))[0][1] == "no value of ours yet"


def test_a_held_out_error_is_no_test_error() -> None:
    summary = _summary(_condition({0: 9.0}), value=value_of("val_error"))
    assert _ours(_table("cifar10", summary))[0][1] == "no value of ours yet"


@pytest.mark.parametrize("turned", [False, True])
def test_of_two_sweeps_with_the_same_cells_the_one_with_more_seeds_counts(turned: bool) -> None:
    summaries = [_summary(_condition({0: 9.0})), _summary(_condition({0: 9.0, 1: 9.4}), name="grid")]
    table = _table("cifar10", *(summaries[::-1] if turned else summaries))
    assert _ours(table) == [["ALL-CNN-C, ours", "9.20", "0.28", "2", "1,369,738"]]
    assert table.rows[-1].ref == "grid 12"


def test_a_value_that_test_images_chose_is_said() -> None:
    condition = _condition({0: 9.0})
    by_choice, by_table = (
        _summary(condition, by="test_error"),
        _summary(condition, select={"x": Criterion("test_error", Better.lower)}),
    )
    for summary in (by_choice, by_table):
        assert "the test images chose a value" in _table("cifar10", summary).notes[-1]
    assert "test images chose" not in " ".join(_table("cifar10", _summary(condition)).notes)


def test_each_read_number_has_its_source_in_a_note() -> None:
    notes = " ".join(_table("cifar100").notes)
    assert "dasNet (Stollenga et al., 2014): quoted, as accuracy, in Srivastava et al." in notes
    assert "Graham" not in notes  # remembered: the caption says so
