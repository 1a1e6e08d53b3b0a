"""Hydra's and OmegaConf's errors in the user's own key: what was got, what is legal, what to do."""

import dataclasses
import difflib
from enum import StrEnum
from typing import Any

import yaml
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from strive.config import Config, ConfigError, knobs
from strive.records import RecordError
from strive.trouble import TroubleError, told


class CellsFailedError(Exception):
    """Some cells have no result; each is named, and its record says why."""


def complaint(error: BaseException) -> str | None:
    """Return what to tell the user, or None if the error is ours and needs its stack trace."""
    if isinstance(error, ConfigError | RecordError | TroubleError):
        return str(error)
    if isinstance(error, yaml.YAMLError):
        return f"a YAML file cannot be read: {error}"
    # First Hydra: its error on a file that is not there is an OSError too.
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return told(error) if isinstance(error, OSError) else None
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, ConfigError):
        return str(cause)  # of a launcher or sweeper that Hydra was making
    key = getattr(cause, "full_key", None)
    if not key:
        # Where Hydra looked for its YAML files helps nobody to type an option that exists.
        text = str(error).partition("Config search path")[0].strip()
        return text + (f"\n{cause}" if cause and str(cause) not in text else "")
    field = _field(key)
    if field is None and key.startswith("hydra.") and not isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return f"{key}: {str(cause).splitlines()[0]}"
    if field is None:
        return _unknown_key(key)
    got = str(cause).splitlines()[0]
    return f"{key}: {got}\n  {key} is: {_legal(field)}"


def _unknown_key(key: str) -> str:
    hydras = _hydra_keys()
    if key in hydras:
        return f"{key} belongs to {hydras[key]}; add that, or leave the key out"
    known = [known for known, _, _ in knobs(Config())] + list(hydras)
    groups = [item.name for item in dataclasses.fields(Config)]
    close = [name for name in known if name.rpartition(".")[2] == key] or difflib.get_close_matches(key, known, n=3)
    parent = key.rpartition(".")[0]
    siblings = [name for name in known if parent and name.rpartition(".")[0] == parent]
    if key.startswith("model.kwargs."):
        return f"{key} is an argument of your builder, which Hydra does not know: write +{key}=VALUE"
    lines = [f"there is no key {key}"]
    if close:
        lines.append(f"  did you mean {' or '.join(close)}?")
    if siblings:
        lines.append(f"  legal keys below {parent}: {', '.join(siblings)}")
    elif not close:
        lines.append(f"  legal top-level keys: {', '.join(groups)}")
    return "\n".join(lines)


def _hydra_keys() -> dict[str, str]:
    """Return {key: the option that has it} of our own sweeper and launchers."""
    from hydra.core.config_store import ConfigStore

    found: dict[str, str] = {}
    for group, name in (("sweeper", "strive"), ("launcher", "local"), ("launcher", "slurm")):
        node = ConfigStore.instance().repo.get("hydra", {}).get(group, {}).get(f"{name}.yaml")
        for field, value in node.node.items() if node is not None else ():
            for below in value if OmegaConf.is_dict(value) and value else ("",):
                if not str(field).startswith("_"):
                    key = f"hydra.{group}.{field}" + (f".{below}" if below else "")
                    found.setdefault(key, f"hydra/{group}={name}")
    return found


def _field(key: str) -> tuple[type, str, str] | None:
    """Return (type, meaning, legal range) of a knob."""
    for known, meaning, value in knobs(Config()):
        if known == key:
            return type(value), meaning.text, meaning.legal
    return None


def _legal(field: tuple[Any, str, str]) -> str:
    kind, text, legal = field
    if issubclass(kind, StrEnum):
        legal = "one of " + ", ".join(choice.value for choice in kind)
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", list: "a list"}
    parts = [text, "; ".join(part for part in (names.get(kind, ""), legal) if part)]
    return ". Legal: ".join(part for part in parts if part)
