import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support import ROOT, MakeConfig

from allcnn.config import Config
from strive.app import in_use
from strive.config import identity
from strive.errors import PublishedError
from strive.results.published import off_paper, paper_file, paper_setup, paper_value

# As two public reproductions print the paper's Table 3: base, Strided, ConvPool, ALL-CNN.
TABLE_3 = {
    "a": [(12.47, "0.9M"), (13.46, "0.9M"), (10.21, "1.28M"), (10.30, "1.28M")],
    "b": [(10.20, "1M"), (10.98, "1M"), (9.33, "1.35M"), (9.10, "1.35M")],
    "c": [(9.74, "1.3M"), (10.19, "1.3M"), (9.31, "1.4M"), (9.08, "1.4M")],
}
VARIANTS = ("base", "strided", "convpool", "all_cnn")
BASELINE = in_use().flat(Config())  # All-CNN-C on CIFAR-10 without augmentation


def _cell(**changes: Any) -> dict[str, Any]:
    return BASELINE | {key.replace("__", "."): value for key, value in changes.items()}


@pytest.mark.parametrize("base", "abc")
def test_the_12_numbers_are_those_of_the_papers_table_3(base: str) -> None:
    for variant, (error, parameters) in zip(VARIANTS, TABLE_3[base], strict=True):
        found = paper_value("table3", _cell(model__base=base, model__variant=variant))
        assert found is not None
        assert (found.error, found.parameters, found.place, found.certain) == (error, parameters, "Table 3", True)


def test_with_augmentation_all_cnn_c_alone_has_a_number() -> None:
    cells = [_cell(model__base=b, model__variant=v, augment__kind="flip_shift") for b in "abc" for v in VARIANTS]
    errors = [found.error for cell in cells if (found := paper_value("table3", cell))]
    assert errors == [None] * 11 + [7.25]


def test_of_24_cells_on_cifar100_one_has_a_number() -> None:
    cells = [
        _cell(data__name="cifar100", model__base=b, model__variant=v, augment__kind=kind)
        for kind in ("none", "flip_shift")
        for b in "abc"
        for v in VARIANTS
    ]
    errors = [found.error for cell in cells if (found := paper_value("cifar100", cell))]
    assert errors == [None] * 23 + [33.71]


def test_the_two_large_nets_have_their_numbers(make_config: MakeConfig) -> None:
    large = paper_value("large", in_use().flat(make_config("model=extra/large_all_cnn", "augment=extreme")))
    imagenet = paper_value("imagenet", in_use().flat(make_config(*_fixed("imagenet"))))
    assert large is not None
    assert imagenet is not None
    assert (large.error, imagenet.error) == (4.41, 41.2)


def test_a_table_that_mirrors_none_of_the_papers_has_no_values() -> None:
    assert paper_value("", BASELINE) is None
    assert off_paper("", _cell(model__width=0.5)) == []


def test_an_unknown_table_is_refused_with_the_legal_names() -> None:
    for function in (paper_value, off_paper):
        with pytest.raises(
            PublishedError, match=r"no table 'table33' in paper\.yaml; legal:(\n.*)*table3: the 12 nets"
        ):
            function("table33", BASELINE)


def test_other_images_have_no_number_of_the_papers_and_jpeg_copies_have() -> None:
    errors = []
    for name in ("digits", "cifar100", "cifar10_jpeg"):
        found = paper_value("table3", _cell(data__name=name))
        assert found is not None
        errors.append(found.error)
    assert errors == [None, None, 9.08]


def test_a_pooling_that_the_paper_has_not_has_no_number() -> None:
    found = paper_value("table3", _cell(model__variant="base", model__pool_norm=2.0))
    assert found is not None
    assert found.error is None


def test_a_net_in_another_setup_has_the_papers_number_and_a_line_for_each_difference() -> None:
    cell = _cell(model__width=0.125, data__name="cifar10_jpeg", optimizer__lr=0.02, model__batch_norm=True)
    found = paper_value("table3", cell)
    assert found is not None
    assert found.error == 9.08
    assert off_paper("table3", cell) == [
        "model.width=0.125 (the paper: 1)",
        "model.batch_norm=true (the paper: false)",
        "data.name=cifar10_jpeg (the paper: cifar10)",
        "optimizer.lr=0.02 (the paper: 0.25, 0.1, 0.05 or 0.01)",
    ]


def test_a_knob_that_varies_in_the_table_can_be_left_out() -> None:
    cell = _cell(model__width=0.125, budget__epochs=5)
    assert off_paper("table3", cell, {"model.width"}) == ["budget.epochs=5 (the paper: 350)"]


def test_a_conditions_own_key_alone_can_be_asked() -> None:
    assert off_paper("table3", {"model.base": "c", "model.width": 0.5}) == ["model.width=0.5 (the paper: 1)"]


def test_a_choice_that_the_paper_leaves_open_is_always_its_own() -> None:
    cell = _cell(model__init="he", budget__batch_size=64, precision="fp32", seed=7, optimizer__decay_biases=False)
    assert off_paper("table3", cell) == []


def test_values_are_known_in_the_form_that_a_table_of_cells_has() -> None:
    cell = _cell(
        optimizer__drop_at='["4/7","5/7","6/7"]',  # as checked: in lowest terms
        model__width=np.float64(1.0),
        model__batch_norm=np.False_,
        model__pool_norm=float("inf"),
        budget__epochs=np.int64(350),
    )
    assert off_paper("table3", cell) == []
    assert off_paper("table3", _cell(optimizer__drop_at='["1/2"]', model__batch_norm=np.True_)) == [
        "model.batch_norm=true (the paper: false)",
        "optimizer.drop_at=[1/2] (the paper: [200/350, 250/350, 300/350])",
    ]


def test_true_is_not_a_width_of_1() -> None:
    assert off_paper("table3", _cell(model__width=True)) == ["model.width=true (the paper: 1)"]


def _fixed(sweep: str) -> list[str]:
    """The overrides that a sweep file fixes."""
    found = yaml.safe_load((ROOT / "sweeps" / f"{sweep}.yaml").read_text())["fixed"]
    return [f"{key}={str(value).replace(chr(39), '')}" for key, value in found.items()]


@pytest.mark.parametrize(
    ("sweep", "table"),
    [
        ("table3", "table3"),
        ("table3_augmented", "table3"),
        ("cifar100", "cifar100"),
        ("large", "large"),
        ("imagenet", "imagenet"),
    ],
)
def test_the_sweeps_that_reproduce_the_paper_are_in_its_setup(sweep: str, table: str, make_config: MakeConfig) -> None:
    assert off_paper(table, in_use().flat(make_config(*_fixed(sweep)))) == []


def test_each_science_knob_is_either_asked_for_or_free() -> None:
    asked, free = set(paper_file()["setup"]), paper_file()["free"]
    assert len(free) == len(set(free))
    assert asked | set(free) == identity.science_keys()
    assert asked & set(free) == set()


def test_no_table_asks_for_a_knob_that_does_not_exist() -> None:
    for name, entry in paper_file()["tables"].items():
        keys = {
            *paper_setup(name),
            *entry.get("free", ()),
            *entry["when"],
            *(k for v in entry["values"] for k in v["when"]),
        }
        assert keys <= identity.science_keys()


def test_each_number_says_where_it_stands_and_where_it_was_read() -> None:
    numbers = [value for entry in paper_file()["tables"].values() for value in entry["values"]]
    numbers += [row | {"place": entry["place"]} for entry in paper_file()["comparison"] for row in entry["rows"]]
    assert len(numbers) == (13 + 1 + 1 + 1) + (4 + 6 + 8 + 3 + 2)
    for number in numbers:
        assert number["place"] in ("Table 3", "Table 4", "section 3")
        assert number["certain"] is ("remembered" not in number["source"])
        assert 0 < number["error"] < 100


def test_no_number_is_told_by_a_file_that_a_reader_does_not_have() -> None:
    text = Path(ROOT / "analysis" / "paper.yaml").read_text()
    assert not re.search(r"paper\.md|shared/|CONFIRMED|RECALLED", text)
