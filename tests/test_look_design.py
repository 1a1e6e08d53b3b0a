from typing import Any

import pytest

from strive.look_design import LookDesign, look_faults


@pytest.mark.parametrize("looks", [(), (1, 5), (5, 5), (8, 5), (5, 8.0), (True, 5), tuple(range(2, 23))])
def test_looks_that_are_no_rising_numbers_of_seeds_are_refused(looks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"looks must be 1 to 20 rising numbers of seeds, each 2 or more"):
        LookDesign(looks=looks)


@pytest.mark.parametrize(
    ("key", "value"), [("alpha", 0.0), ("alpha", 0.6), ("shape", -0.1), ("shape", 0.6), ("shape", float("nan"))]
)
def test_an_illegal_level_or_shape_is_refused_with_what_is_legal(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{key} must be from .* to .*, got {value}"):
        LookDesign(looks=(5, 8), alpha=value if key == "alpha" else 0.05, shape=value if key == "shape" else 0.25)


@pytest.mark.parametrize(
    "values",
    [{"looks": (2,)}, {"looks": (2, 20), "alpha": 1e-6, "shape": 0}, {"looks": (3,), "alpha": 0.5, "shape": 0.5}],
)
def test_the_ends_of_each_range_are_legal(values: Any) -> None:
    LookDesign(**values)


def test_each_wrong_value_is_named_whatever_it_is() -> None:
    found = [*look_faults("five", "0.05", None)]
    assert [text.split(" ")[0] for text in found] == ["looks", "alpha", "shape"]
    assert [text.rpartition("got ")[2] for text in found] == ["'five'", "'0.05'", "None"]
