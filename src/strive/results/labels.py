"""Names of knobs, values and conditions as readers of the paper know them."""

import json
from collections.abc import Mapping
from typing import Any

from strive.config import identity

_TITLES = {
    "model.base": "base",
    "model.variant": "variant",
    "model.family": "net",
    "augment.kind": "augmentation",
    "data.name": "data",
    "optimizer.lr": "lr",
}
# As in the paper's Table 3.
_NETS = {"base": "Model {}", "strided": "Strided-CNN-{}", "convpool": "ConvPool-CNN-{}", "all_cnn": "ALL-CNN-{}"}
_FAMILIES = {"large_all_cnn": "Large ALL-CNN", "all_cnn_b_imagenet": "ALL-CNN-B (ImageNet)"}


def knob_title(key: str) -> str:
    """Return the column title for a knob; for a builder's argument, its own name."""
    own = key.removeprefix(f"{identity.KWARGS}.")
    return own if own != key and own not in _TITLES.values() else _TITLES.get(key, key)


def value_text(key: str, value: Any) -> str:
    """Return a knob's value as text for readers."""
    if key == "model.base":
        return str(value).upper()
    if key == "model.variant":
        return {"base": "base", "strided": "Strided", "convpool": "ConvPool", "all_cnn": "ALL-CNN"}.get(
            value, str(value)
        )
    if key == "model.family":
        return _FAMILIES.get(value, str(value))
    if isinstance(value, float):
        # The short form, unless it would make two values look the same.
        return short if float(short := f"{value:g}") == value else repr(value)
    return value if isinstance(value, str) else json.dumps(value)


def value_texts(key: Mapping[str, Any]) -> dict[str, str]:
    """Return {knob: its value as text}, used to filter rows and plots."""
    return {name: value_text(name, value) for name, value in key.items()}


def short_label(key: Mapping[str, Any]) -> str:
    """Return the name of a part of a condition's key, for use next to its knob's title; "" for an empty key."""
    if len(key) == 1 and "arm" not in key:
        return value_text(*next(iter(key.items())))
    return condition_label(key) if key else ""


def condition_label(key: Mapping[str, Any]) -> str:
    """Return the name of a condition with this key: "ALL-CNN-C", or "Model A, model.pool_norm 2"."""
    rest = dict(key)
    parts = []
    if {"model.base", "model.variant"} <= set(rest):
        base, variant = rest.pop("model.base"), rest.pop("model.variant")
        parts.append(_NETS.get(variant, "{} " + str(variant)).format(value_text("model.base", base)))
    for name, value in rest.items():
        text = value_text(name, value)
        # An arm, a family and "none" are clear without the knob's name; 0.05 is not.
        alone = name in ("arm", "model.family")
        parts.append(text if alone else f"{knob_title(name)} {text}")
    return ", ".join(parts) or "all cells"
