"""The peer's own rules: which runs a filter means, and what a sweep hands out."""

import math
from typing import Any

import pytest
from wandb_peer import PeerRun
from wandb_peer.filters import matches, ordered
from wandb_peer.store import RefusedError
from wandb_peer.sweeping import Sweep


def make_run(run_id: str = "a", number: int = 0, **attributes: Any) -> PeerRun:
    return PeerRun(run_id, "me", "paper", number, **attributes)


RUN = make_run(
    name="first",
    group="table1",
    job_type="train",
    tags=["base", "cifar10"],
    state="finished",
    wire_config={
        "lr": {"value": 0.1},
        "cell": {"value": {"optimizer": {"lr": 0.1}}},
        "budget.epochs": {"value": 350},
        "_wandb": {"value": {"t": 1}},
    },
    summary={"val_error": 0.2, "loss": {"max": 3}, "status": "done"},
)


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ({}, True),
        ({"group": "table1", "jobType": "train", "display_name": "first", "name": "a"}, True),
        ({"group": "table1", "state": "failed"}, False),
        ({"tags": "base"}, True),
        ({"tags": {"$in": ["other", "cifar10"]}}, True),
        ({"tags": {"$nin": ["other", "cifar10"]}}, False),
        ({"state": {"$in": ["finished", "failed"]}}, True),
        ({"state": {"$ne": "finished"}}, False),
        ({"config.lr": 0.1, "config.lr.value": 0.1}, True),
        ({"config.cell.optimizer.lr": {"$gte": 0.1, "$lt": 0.2}}, True),
        ({"config.cell.value.optimizer.lr": {"$lte": 0.05}}, False),
        ({"config.budget.epochs": 350}, True),
        ({"config.none.at.all": {"$exists": False}}, True),
        ({"summary_metrics.val_error": {"$gt": 0.2}}, False),
        ({"summary_metrics.loss.max": 3}, True),
        ({"summary_metrics.status": {"$regex": "^do"}}, True),
        # A word is neither smaller nor greater than a number, and nor is what is not there.
        ({"summary_metrics.status": {"$gt": 0}}, False),
        ({"summary_metrics.none": {"$lt": 1}}, False),
        ({"$or": [{"group": "table2"}, {"group": "table1"}]}, True),
        ({"$and": [{"group": "table2"}, {"group": "table1"}]}, False),
        ({"$not": {"group": "table2"}}, True),
        ({"created_at": {"$gt": "2020-01-01"}}, True),
    ],
)
def test_a_filter_means_these_runs(condition: dict[str, Any], met: bool) -> None:
    assert matches(RUN, condition) == met


@pytest.mark.parametrize("condition", [{"grup": "table1"}, {"group": {"$like": "t"}}])
def test_what_the_peer_does_not_know_of_a_filter_is_an_error(condition: dict[str, Any]) -> None:
    with pytest.raises(KeyError):
        matches(RUN, condition)


@pytest.mark.parametrize(
    ("order", "ids"),
    [
        ("+created_at", "abcd"),
        ("-created_at", "dcba"),
        ("+summary_metrics.loss", "cabd"),
        ("-summary_metrics.loss", "bacd"),
        ("summary_metrics.none", "abcd"),
    ],
)
def test_runs_come_in_order_and_those_without_the_value_last(order: str, ids: str) -> None:
    losses = {"a": 0.2, "b": 0.3, "c": 0.1, "d": None}
    runs = [
        make_run(run_id, number, summary={"loss": loss} if loss else {})
        for number, (run_id, loss) in enumerate(losses.items())
    ]
    assert "".join(run.id for run in ordered(runs, order)) == ids


def points(**config: Any) -> list[dict[str, Any]]:
    """Every point that an agent would get, at most a hundred."""
    sweep = Sweep("s", "me", "paper", "", config)
    got: list[dict[str, Any]] = []
    while len(got) < 100 and (point := sweep.next_point()) is not None:
        sweep.started.append(str(len(got)))
        got.append(point)
    return got


def test_a_grid_has_every_combination_once() -> None:
    parameters = {
        "base": {"values": ["a", "b"]},
        "lr": {"value": 0.1},
        "model": {"parameters": {"depth": {"min": 1, "max": 2}}},
    }
    assert points(method="grid", parameters=parameters) == [
        {"base": base, "lr": 0.1, "model": {"depth": depth}} for base in "ab" for depth in (1, 2)
    ]
    assert len(points(method="grid", parameters=parameters, run_cap=3)) == 3


@pytest.mark.parametrize(
    ("given", "low", "high"),
    [
        ({"distribution": "int_uniform", "min": 1, "max": 3}, 1, 3),
        ({"distribution": "uniform", "min": 0.5, "max": 1.5}, 0.5, 1.5),
        ({"distribution": "log_uniform", "min": -2, "max": 0}, math.exp(-2), 1),
        ({"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1}, 1e-4, 1e-1),
    ],
)
def test_random_points_lie_within_their_limits(given: dict[str, Any], low: float, high: float) -> None:
    drawn = [point["lr"] for point in points(method="random", parameters={"lr": given}, run_cap=100)]
    assert len(drawn) == 100
    assert low <= min(drawn) < max(drawn) <= high
    if given["distribution"].startswith("log"):
        # Half of the draws lie below the geometric mean of the limits, plus or minus three standard errors (0.15).
        assert sum(lr < math.sqrt(low * high) for lr in drawn) / 100 == pytest.approx(0.5, abs=0.15)


def test_random_choices_are_among_the_values() -> None:
    drawn = {point["base"] for point in points(method="random", parameters={"base": {"values": ["a", "b"]}})}
    assert drawn == {"a", "b"}


@pytest.mark.parametrize(
    "config",
    [
        {"method": "bayes", "parameters": {}},
        {"method": "grid", "parameters": {"lr": {"min": 0.1, "max": 0.2}}},
        {"method": "random", "parameters": {"lr": {"distribution": "beta", "min": 0, "max": 1}}},
    ],
)
def test_what_the_peer_cannot_schedule_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(RefusedError):
        points(**config)
