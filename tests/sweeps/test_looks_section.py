"""The section `seeds` of a sweep file."""

from typing import Any

import pytest

from strive.errors import ConfigError
from strive.look_design import LookDesign
from strive.sweeps.sweep_file import read_sweep

TABLE = {"rows": ["model.variant"], "columns": [], "baseline": {"model.variant": "base"}, "margin": 0.5}
FILE = {"question": "Why?", "grid": {"model.variant": ["base", "strided"], "seed": "range(0,8)"}, "table": TABLE}


def test_looks_are_read_with_their_defaults():
    sweep = read_sweep("x", FILE | {"seeds": {"looks": [5, 8]}})
    assert sweep.table is not None
    assert sweep.table.looks == LookDesign(looks=(5, 8), alpha=0.05, shape=0.25)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"looks": [5, 5]}, "looks must be 1 to 20 rising numbers of seeds, each 2 or more"),
        ({"looks": [1, 5]}, "got [1, 5]"),
        ({"looks": [2.5, 5]}, "got [2.5, 5]"),
        ({"looks": list(range(2, 23))}, "1 to 20"),
        ({}, "got None"),
        ({"looks": [5], "alpha": 0}, "alpha must be from 1e-6 to 0.5, got 0"),
        ({"looks": [5], "shape": "flat"}, "to 0.5 (Pocock type), got 'flat'"),
        ({"looks": [5], "shap": 0.5}, "did you mean shape?"),
        ([5, 8], "seeds must hold looks"),
    ],
)
def test_what_is_wrong_is_said_with_what_is_legal(section: Any, message: str):
    with pytest.raises(ConfigError) as caught:
        read_sweep("x", FILE | {"seeds": section})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "give table: {baseline: ...}"),
        (TABLE | {"baseline": {}}, "give table: {baseline: ...}"),
        ({key: value for key, value in TABLE.items() if key != "margin"}, "give table: {margin: ...}"),
        (TABLE | {"select": {"optimizer.lr": "val_error"}}, "choose in another sweep"),
        (TABLE | {"columns": ["seed"]}, "seed cannot be in rows or columns"),
    ],
)
def test_looks_need_a_baseline_and_a_margin_and_do_not_go_with_everything(table: Any, message: str):
    with pytest.raises(ConfigError) as caught:
        read_sweep("x", FILE | {"seeds": {"looks": [5]}, "table": table})
    assert message in str(caught.value)
