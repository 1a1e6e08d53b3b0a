"""W&B's filters and orders of runs: MongoDB's words over the fields of a run."""

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from wandb_peer.store import PeerRun, unwrap

# Names of fields as the public API takes them.
FIELDS: dict[str, Callable[[PeerRun], Any]] = {
    "name": lambda run: run.id,
    "displayName": lambda run: run.name,
    "display_name": lambda run: run.name,
    "group": lambda run: run.group,
    "jobType": lambda run: run.job_type,
    "job_type": lambda run: run.job_type,
    "state": lambda run: run.state,
    "tags": lambda run: run.tags,
    "sweep": lambda run: run.sweep,
    "created_at": lambda run: run.created.isoformat(),
    "createdAt": lambda run: run.created.isoformat(),
    "heartbeat_at": lambda run: run.heartbeat.isoformat(),
    "heartbeatAt": lambda run: run.heartbeat.isoformat(),
}


def matches(run: PeerRun, condition: dict[str, Any]) -> bool:
    """Say whether a run meets every entry of a filter."""
    return all(_entry(run, key, wanted) for key, wanted in condition.items())


def ordered(runs: Iterable[PeerRun], order: str) -> list[PeerRun]:
    """Return runs in an order like `-summary_metrics.val_error`; runs without the value come last."""
    key = order.lstrip("+-")
    by_age = sorted(runs, key=lambda run: run.number, reverse=order.startswith("-"))
    have = [run for run in by_age if value(run, key) is not None]
    # Numbers before words: the two cannot be compared.
    have.sort(key=lambda run: _sortable(value(run, key)), reverse=order.startswith("-"))
    return have + [run for run in by_age if value(run, key) is None]


def value(run: PeerRun, key: str) -> Any:
    """Return a run's value of a field such as `state`, `config.lr`, `config.lr.value` or `summary_metrics.loss`."""
    place, _, rest = key.partition(".")
    match place:
        case "config":
            return _config(run.wire_config, rest)
        case "summary_metrics" | "summaryMetrics":
            return run.summary[rest] if rest in run.summary else _dig(run.summary, rest.split("."))
    if key not in FIELDS:
        raise KeyError(f"no field {key!r} of a run; the peer knows {', '.join(FIELDS)}, config.* and summary_metrics.*")
    return FIELDS[key](run)


def _entry(run: PeerRun, key: str, wanted: Any) -> bool:
    match key:
        case "$and":
            return all(matches(run, part) for part in wanted)
        case "$or":
            return not wanted or any(matches(run, part) for part in wanted)
        case "$not":
            return not matches(run, wanted)
    got = value(run, key)
    if isinstance(wanted, dict):
        return all(OPERATORS[operator](got, operand) for operator, operand in wanted.items())
    return OPERATORS["$eq"](got, wanted)


def _equal(got: Any, wanted: Any) -> bool:
    return wanted in got if isinstance(got, list) and not isinstance(wanted, list) else bool(got == wanted)


def _among(got: Any, wanted: list[Any]) -> bool:
    return any(_equal(got, one) for one in wanted)


def _compare(accepted: tuple[int, ...], got: Any, wanted: Any) -> bool:
    """Compare two numbers or two texts; nothing else is smaller or greater than anything."""
    if not (isinstance(got, str) and isinstance(wanted, str)) and not (_is_number(got) and _is_number(wanted)):
        return False
    return ((got > wanted) - (got < wanted)) in accepted


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": _equal,
    "$ne": lambda got, wanted: not _equal(got, wanted),
    "$in": _among,
    "$nin": lambda got, wanted: not _among(got, wanted),
    "$gt": partial(_compare, (1,)),
    "$gte": partial(_compare, (0, 1)),
    "$lt": partial(_compare, (-1,)),
    "$lte": partial(_compare, (-1, 0)),
    "$regex": lambda got, pattern: isinstance(got, str) and re.search(pattern, got) is not None,
    "$exists": lambda got, wanted: (got is not None) == wanted,
}


def _config(config: dict[str, Any], path: str) -> Any:
    # Both spellings are in use: config.lr and config.lr.value; the inner ones have no "value" on the wire.
    parts = [part for part in path.split(".") if part != "value"]
    whole = ".".join(parts)  # a sweep's parameter may have dots in its name
    return unwrap(config[whole]) if whole in config else _dig(unwrap(config.get(parts[0])), parts[1:])


def _dig(tree: Any, path: list[str]) -> Any:
    for part in path:
        if not isinstance(tree, dict):
            return None
        tree = tree.get(part)
    return tree


def _is_number(got: Any) -> bool:
    return isinstance(got, int | float)


def _sortable(got: Any) -> tuple[int, Any]:
    return (0, got) if _is_number(got) else (1, str(got))
