"""What becomes of a builder's arguments: a signature, what the config says, what the id and the builder get."""

import enum
import functools
import json
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pytest

from allcnn.signature import MisfitError, as_called, filled_in

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]


class Kind(enum.StrEnum):
    relu = enum.auto()


def plain(num_classes: int, image_size: int, channels: int = 4, p: float = 0, *, bias: bool = True) -> None: ...
def bare(num_classes, image_size, channels=4, p=0.5, widths=(6, 12), shares=[0.5]): ...  # type: ignore[no-untyped-def]  # noqa: B006
def needs(num_classes: int, image_size: int, *rest: int, depth: int, **more: Any) -> None: ...
def wide(
    num_classes: int,
    image_size: int,
    width: int = None,  # type: ignore[assignment]  # noqa: RUF013
    drop: "float | None" = None,
    act: Literal["relu", "elu"] = "relu",
    sizes: Sequence[int] = (3, 5),
    shape: tuple[int, float] = (1, 1),
    either: int | float = 0,
    table: dict[str, float] = {"a": 1},  # noqa: B006
) -> None: ...
def unsayable(
    num_classes: int,
    image_size: int,
    kind: Kind = Kind.relu,
    function: Callable[[], None] = print,
    other: "Unknown" = 3,
    places: object = {1: 2},
) -> None: ...


class Net:
    def __init__(self, num_classes: int, image_size: int, p: float = 0) -> None: ...


ALL_OF_WIDE = {
    "width": None, "drop": None, "act": "relu", "sizes": [3, 5], "shape": [1, 1.0], "either": 0, "table": {"a": 1.0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("builder", "given", "filled"),
    [
        (plain, {}, {"channels": 4, "p": 0.0, "bias": True}),
        (plain, {"p": 0, "channels": 4}, {"channels": 4, "p": 0.0, "bias": True}),
        (plain, {"p": "inf"}, {"channels": 4, "p": math.inf, "bias": True}),
        (bare, {"p": 1, "shares": [1, 0]}, {"channels": 4, "p": 1.0, "widths": [6, 12], "shares": [1.0, 0.0]}),
        # What is required stays missing, and what **more takes stays as it is.
        (needs, {}, {}),
        (needs, {"depth": 3, "lr": 0}, {"depth": 3, "lr": 0}),
        (wide, {}, ALL_OF_WIDE),
        (wide, {"width": None, "drop": 0, "table": {"b": 2}}, ALL_OF_WIDE | {"drop": 0.0, "table": {"b": 2.0}}),
        # A function, an enum, keys that are no text: the code says them, not the config.
        (unsayable, {}, {"other": 3}),
        (unsayable, {"kind": "relu"}, {"kind": "relu", "other": 3}),
        (Net, {"p": 1}, {"p": 1.0}),
        (functools.partial(plain, channels=8), {}, {"channels": 8, "p": 0.0, "bias": True}),
        (dict, {"a": 1}, {"a": 1}),
    ],
)
def test_arguments_are_filled_in_from_the_signature_and_have_its_types(
    builder: Callable[..., object], given: dict[str, Any], filled: dict[str, Any]
) -> None:
    # As JSON: to Python 0 is 0.0, and True is 1.
    assert json.dumps(filled_in(builder, given), sort_keys=True) == json.dumps(filled, sort_keys=True)
    assert json.dumps(filled_in(builder, filled), sort_keys=True) == json.dumps(filled, sort_keys=True)


@pytest.mark.parametrize(
    ("builder", "given", "message"),
    [
        (plain, {"channels": True}, "it takes channels: int = 4, got channels=True"),
        (plain, {"channels": 4.0}, "it takes channels: int = 4, got channels=4.0"),
        (plain, {"channels": "4"}, "it takes channels: int = 4, got channels='4'"),
        (plain, {"bias": 1}, "it takes bias: bool = True, got bias=1"),
        (plain, {"p": None}, "it takes p: float = 0, got p=None"),
        (plain, {"p": 10**400}, "it takes p: float = 0, got p=1000"),
        (bare, {"channels": 0.5}, "it takes channels=4, got channels=0.5; annotate it, if it takes more"),
        (bare, {"widths": 6}, "it takes widths=(6, 12), got widths=6"),
        (wide, {"act": "tanh"}, "it takes act: Literal['relu', 'elu'] = 'relu', got act='tanh'"),
        (wide, {"shape": [1]}, "it takes shape: tuple[int, float] = (1, 1), got shape=[1]"),
        (wide, {"table": {"a": "b"}}, "it takes table: dict[str, float] = {'a': 1}, got table={'a': 'b'}"),
        (wide, {"drop": False}, "it takes drop: float | None = None, got drop=False"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_what_the_signature_says(
    builder: Callable[..., object], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(MisfitError) as caught:
        filled_in(builder, given)
    assert str(caught.value).startswith(message)


def test_a_builder_gets_tuples_where_it_has_tuples_and_lists_of_its_own() -> None:
    given = filled_in(bare, {"widths": [1, 2]})
    called = as_called(bare, given)
    assert (called["widths"], called["shares"]) == ((1, 2), [0.5])
    assert as_called(wide, filled_in(wide, {}))["sizes"] == (3, 5)
    # What a builder does to its list changes neither its default nor the cell's config.
    called["shares"].append(1)
    assert filled_in(bare, {})["shares"] == given["shares"] == [0.5]
