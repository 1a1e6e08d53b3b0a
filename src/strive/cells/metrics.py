"""Metrics by their names: which direction is better, and when a value is no better than chance. Imports no torch."""

import re
from collections.abc import Mapping
from enum import Enum


class Better(Enum):
    """The direction in which a metric improves."""

    lower = "lower"
    higher = "higher"


LOWER = ("error", "loss", "perplexity", "mae", "rmse", "seconds")
HIGHER = ("acc", "accuracy", "f1", "auc", "bleu", "map")
_SHOWN = 3  # metrics named in a line
_CLOSE = 1e-12  # shares of the same counts may differ in their last bit


def better_of(name: str) -> Better | None:
    """Return the direction in which a metric of this name improves, by its last word; None if the name does not say."""
    last = last_word(name)
    if last in LOWER:
        return Better.lower
    return Better.higher if last in HIGHER else None


def last_word(name: str) -> str:
    """Return the last word of a metric's name in lower case, such as error of test_error or val/error."""
    return re.split(r"[^a-z0-9]+", name.lower())[-1]


def is_at_chance(value: float | None, chance: float | None, better: Better | None) -> bool:
    """Return whether a value is at chance or beyond it, so that nothing was learned; False if one is unknown."""
    if value is None or chance is None or better is None:
        return False
    return value >= chance - _CLOSE if better is Better.lower else value <= chance + _CLOSE


def metrics_at_chance(metrics: Mapping[str, float | None], chance: Mapping[str, float]) -> list[str]:
    """Return the metrics that are at chance or beyond it, of those whose names say what is better."""
    return [name for name in chance if is_at_chance(metrics.get(name), chance[name], better_of(name))]


def main_metric(metrics: Mapping[str, float | None]) -> str:
    """Return the metric that stands for a result: test_error, objective or the only one; "" if there is none."""
    for name in ("test_error", "objective"):
        if name in metrics:
            return name
    return next(iter(metrics)) if len(metrics) == 1 else ""


def result_text(metrics: Mapping[str, float | None]) -> str:
    """Return a result in a few words, such as "test error 9.08%"; "no metrics" if there are none."""
    main = main_metric(metrics)
    shown = [main] if main else list(metrics)[:_SHOWN]
    texts = [f"{name.replace('_', ' ')} {value_text(name, metrics[name])}" for name in shown]
    more = f" and {len(metrics) - _SHOWN} more" if not main and len(metrics) > _SHOWN else ""
    return (", ".join(texts) or "no metrics") + more


def value_text(name: str, value: float | None) -> str:
    """Return a metric's value as text: an error as a percentage, a whole number in full, another with four digits."""
    if value is None:
        return "none"
    if isinstance(value, int) or value.is_integer():
        return f"{value:,.0f}" if not is_share(name) else f"{value:.2%}"
    return f"{value:.2%}" if is_share(name) else f"{value:.4g}"


def recorded_text(value: object) -> str:
    """Return a value as it stands in a record."""
    return "null" if value is None else str(value)


def is_share(name: str) -> bool:
    """Return whether a metric is a share in [0, 1] that is shown in percent: one whose name ends in error."""
    return last_word(name) == "error"
