"""Labels of an app: its own words for keys, values and metrics; stored in the plan. Imports no torch."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

import msgspec

from strive.config import identity

CONFIG = "config:"  # before a key, as the name of its column where another column has the key
ARM = "arm"  # may be used instead of a key, for the name of the arm


class JointName(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names for the values of several keys together, such as ALL-CNN-C for a base and a variant."""

    keys: list[str]
    title: str  # what these are the names of, such as net
    texts: dict[str, str]  # {the values as a JSON list: the name}
    when: dict[str, Any] = {}  # {key: value} of other keys, with which alone these are names

    def of(self, values: Mapping[str, Any]) -> str | None:
        """Return the name for {key: value}; None if it lacks a key, or has values without a name."""
        if not set(self.keys) <= values.keys() or any(values.get(key, own) != own for key, own in self.when.items()):
            return None
        return self.texts.get(json.dumps([values[key] for key in self.keys]))


class Labels(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An app's own words. Without any, keys and values are shown as they are typed."""

    titles: dict[str, str] = {}  # {key: its title in tables}
    values: dict[str, dict[str, str]] = {}  # {key: {value as JSON: its text}}, in the order in which tables list them
    names: list[JointName] = []
    clear: list[str] = []  # keys whose values are clear without the title
    flat: dict[str, str] = {}  # {key: its name among a tracker's flat parameters}
    tags: list[str] = []  # of these flat names the values become tags
    options: dict[str, list[str]] = {}  # {group of the config: keys in which its options differ}
    measured: dict[str, str] = {}  # {metric: what it is measured on}, such as test images
    units: dict[str, str] = {}  # {metric that is no share: its unit}, such as nats
    examples: str = "data"  # what a data set consists of, such as images
    data: str = ""  # key whose value names the data set; "" if there is none
    builder: str = ""  # key whose value names the user's own code
    drops: str = ""  # key with the shares of the training after which the learning rate falls
    drops_when: dict[str, Any] = {}  # {key: value} of other keys, with which alone it falls there
    step: str = "step"  # what one line of a history is, such as epoch
    first_word: str = ""  # what the first word of a cell's id is, such as net; "": nothing to show
    in_first_word: list[str] = []  # keys that it says
    metrics: list[str] = []  # to show where there is room for a few; []: the first ones of the records

    @property
    def builders(self) -> list[str]:
        """Return the keys whose values name the user's own code."""
        return list(identity.BUILDERS.values()) if self.builder else []

    def with_classes(self, varying: Mapping[str, Sequence[Any]]) -> Self:
        """Return the labels with names for classes: model._target_ is `model`, and pkg.nets.Net is `Net`.

        varying: {key: its values}. Classes of one name keep their whole names.
        """
        titles, values, clear = dict(self.titles), dict(self.values), list(self.clear)
        for key, seen in varying.items():
            group, dot, last = key.rpartition(".")
            classes = sorted({each for each in seen if isinstance(each, str)})
            short = [each.rpartition(".")[2] for each in classes]
            if (
                dot
                and last == "_target_"
                and key not in titles
                and group not in varying
                and len(set(short)) == len(short)
            ):
                titles[key], clear = group, [*clear, key]
                values[key] = {json.dumps(each): name for each, name in zip(classes, short, strict=True)}
        return msgspec.structs.replace(self, titles=titles, values=values, clear=clear)

    def title(self, key: str) -> str:
        """Return the column title for a key; for a builder's argument, its own name."""
        key = key.removeprefix(CONFIG)
        own = identity.argument_name(key)
        return own if own and own not in self.titles.values() else self.titles.get(key, key)

    def text(self, key: str, value: Any) -> str:
        """Return a key's value as text for readers."""
        if (found := self.values.get(key, {}).get(json.dumps(value))) is not None:
            return found
        if isinstance(value, float):
            # The short form, unless it would make two values look the same.
            return short if float(short := f"{value:g}") == value else repr(value)
        return value if isinstance(value, str) else json.dumps(value)

    def texts(self, key: Mapping[str, Any]) -> dict[str, str]:
        """Return {key: its value as text}, used to filter rows and plots."""
        return {name: self.text(name, value) for name, value in key.items()}

    def short(self, key: Mapping[str, Any]) -> str:
        """Return the name of a part of a condition's key, for use next to its title; "" for an empty key."""
        if len(key) == 1 and ARM not in key:
            return self.text(*next(iter(key.items())))
        return self.name(key) if key else ""

    def name(self, key: Mapping[str, Any]) -> str:
        """Return the name of a condition with this key: "ALL-CNN-C", or "Model A, model.pool_norm 2"."""
        rest, parts = dict(key), list[str]()
        for joint in self.names:
            if (found := joint.of(rest)) is not None:
                parts.append(found)
                rest = {name: value for name, value in rest.items() if name not in joint.keys}
        for name, value in rest.items():
            text = self.text(name, value)
            # An arm is clear without the title; 0.05 is not.
            parts.append(text if name == ARM or name in self.clear else f"{self.title(name)} {text}")
        return ", ".join(parts) or "all cells"

    def heading(self, keys: Sequence[str]) -> str:
        """Return the title of a column of names of conditions with these keys."""
        return next((joint.title for joint in self.names if joint.keys[-1] in keys), "cells of")


def is_builder_argument(key: str) -> bool:
    """Return whether a key of a plan is an argument of a builder, whatever app is in use."""
    return identity.argument_name(key) != ""


def in_sentence(label: str) -> str:
    """Return a condition's label for a sentence, where a design's arms none and all would be read as words."""
    return f"'{label}'" if label in ("none", "all") else label


PLAIN = Labels()  # of an app that says nothing
