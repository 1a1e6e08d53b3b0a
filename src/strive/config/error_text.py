"""Error messages for mistakes that Hydra and OmegaConf report: the value typed, the legal values, and a remedy."""

import difflib
import re
import traceback
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
    UnsupportedInterpolationType,
)

from strive import app
from strive.command_line import command
from strive.errors import ConfigError, ExternalError, RecordError, UnknownKeyError, os_error_text


def complaint(error: BaseException) -> str | None:
    """Return the message for a user's mistake, or None for a bug, which needs its stack trace."""
    if isinstance(error, UnknownKeyError):
        return _unknown_key(error.key)
    if isinstance(error, ConfigError | RecordError | ExternalError):
        return str(error)
    if isinstance(error, yaml.YAMLError):
        return _broken_yaml(error)
    if isinstance(error, RecursionError) and "full_key:" in str(error):  # raised by OmegaConf when Hydra reads the file
        return "a YAML file cannot be read: a mapping or list in it holds itself by an anchor (&name ... *name)"
    if isinstance(error, UnicodeDecodeError):
        return _no_yaml_text(error)
    if isinstance(error, OverrideParseException):
        return unreadable(error.override, error.message)
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, name = (error.missing_cfg_file or "").rpartition("/")
        return no_option(group, name, error.options)
    # Hydra's errors first, because its error for a missing file is also an OSError.
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return os_error_text(error) if isinstance(error, OSError) else None
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, ConfigError):
        return str(cause)  # raised by a launcher or sweeper that Hydra was creating
    if text := _refused_by_hydra(str(error)):
        return text
    key = getattr(cause, "full_key", None)
    if not key:
        # The search path for YAML files does not help a user who mistyped an option.
        text = str(error).partition("Config search path")[0].strip()
        return text + (f"\n{cause}" if cause and str(cause) not in text else "")
    if isinstance(cause, InterpolationResolutionError | UnsupportedInterpolationType):
        return f"{key} has no value: {unresolved(cause)}"
    field = app.in_use().meaning_of(key)
    if field is None and key.startswith("hydra.") and not isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return f"{key}: {str(cause).splitlines()[0]}"
    if field is None and key in app.in_use().defaults():
        return f"{key}: {str(cause).splitlines()[0]}"
    if field is None:
        return _unknown_key(key)
    # "Error merging override KEY=VALUE" contains the key as typed.
    typed = str(error).removeprefix("Error merging override ").partition("=")[0].lstrip("+~")
    if typed.startswith(f"{key}."):
        return f"{key} is one value, so there is no key {typed}\n  {key} is: {_legal(field)}"
    got = str(cause).splitlines()[0]
    return f"{key}: {got}\n  {key} is: {_legal(field)}"


def unresolved(error: BaseException) -> str:
    """Return why an interpolation has no value, in words, with the variable, resolver or key that it asks for."""
    text = str(error)
    if found := re.search(r"Environment variable '([^']*)' not found", text):
        return f"the environment variable {found[1]} is not set"
    if found := re.search(r"Unsupported interpolation type (\S+)", text):
        return f"there is no resolver {found[1]} before the app's function begins"
    if found := re.search(r"Interpolation key '([^']*)' not found", text):
        return f"it is taken from {found[1]}, and there is no such key"
    if found := re.search(r"Missing mandatory value: (\S+)", text):
        return f"it is taken from {found[1]}, which is ???"
    return (text or type(error).__name__).splitlines()[0]


def unreadable(override: str, reason: str) -> str:
    """Return the message for an override that Hydra's grammar rejects, with invisible characters made visible."""
    key, equals, value = override.partition("=")
    hidden = sorted({char for char in override if char != " " and (char.isspace() or not char.isprintable())})
    if not equals and not override.startswith("~"):
        why = "it is no KEY=VALUE; no spaces stand round the ="
    elif not re.fullmatch(r"[~+]{0,2}[A-Za-z0-9_./@:$-]+", key.strip(" ")):
        why = f"what stands before the = is no key; {_KEY_SIGNS}"
    elif hidden:
        why = f"it holds {', '.join(map(repr, hidden))}; take that out"
    elif opened := _unclosed(value):
        why = f"a {opened} has no partner"
    else:
        why = _grammars_reason(reason)
    return f"{override!r} cannot be read: {why}"


_KEY_SIGNS = "a key has letters from A to Z, digits, _ and dots, such as optimizer.lr"


def _unclosed(value: str) -> str:
    """Return the unmatched quote or bracket of a value, "" if there is none."""
    bare = re.sub(r"""\\.|'[^']*'|"[^"]*\"""", "", value)
    for opening, closing in ("''", '""', "[]", "{}", "()"):
        odd = bare.count(opening) % 2 if opening == closing else bare.count(opening) != bare.count(closing)
        if odd:
            return opening if opening == closing else f"{opening} or {closing}"
    return ""


def _grammars_reason(text: str) -> str:
    """Return Hydra's own reason in one line, without the override and the link to its manual."""
    if found := re.search(r"while evaluating '.*?\(.*\)': (.*)\nSee http", text, re.DOTALL):
        return "; ".join(line for line in found[1].splitlines() if line)
    return "a value with signs of its own, or with nothing before or after a comma, stands in quotes: 'KEY=\"VALUE\"'"


def no_option(group: str, name: str, options: Sequence[str]) -> str:
    """Return the message for an option that a group does not have."""
    close = difflib.get_close_matches(name, options, n=1)
    meant = f"; did you mean {close[0]}?" if close else ""
    # Hydra lists only one folder.
    further = (
        f"; {command('--help')} has those in folders below" if group in {*app.in_use().groups()} - {"sweeps"} else ""
    )
    return f"there is no {group}={name}{meant}\n  legal: {', '.join(options) or 'none'}{further}"


def _refused_by_hydra(text: str) -> str:
    """Return a plain message for some errors of Hydra in its configuration files, or ""."""
    if found := re.match(r"(?:Error merging override|Ambiguous value for argument) '?(~[^'\s]+)", text):
        return f"{found[1]} takes away what every cell has; leave it out"
    if found := re.match(r"Ambiguous value for argument '(.*)'$", text, re.MULTILINE):
        return (
            f"{found[1]} is several values: add -m to train each; one list is [A,B], one text is quoted: 'KEY=\"A,B\"'"
        )
    if found := re.match(r"force-add of config groups is not supported: '\+\+(.*)'", text):
        return f"++{found[1]}: a group has one option, so no sign stands before it: write {found[1]}"
    if found := re.match(r"Multiple values for (\S+)\. To override a value use 'override \S+: (.*)'", text):
        return (
            f"+{found[1]}={found[2]}: a group has one option, so no sign stands before it: write {found[1]}={found[2]}"
        )
    return ""


def _broken_yaml(error: yaml.YAMLError) -> str:
    """Return file, line and reason in one line."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or not problem:
        return "a YAML file cannot be read: " + " ".join(str(error).split())
    context = getattr(error, "context", None)
    what = f"{context}: {problem}" if context else problem
    return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: no YAML: {what}"


def _no_yaml_text(error: UnicodeDecodeError) -> str | None:
    """Return a message with the YAML file that is not UTF-8, or None if another file was being read."""
    # Hydra's error lacks the file name, but the stack frame that opened the file has it.
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__", "").startswith("hydra.") and (path := frame.f_locals.get("full_path")):
            return no_text(path, error)
    return None


def no_text(path: object, error: UnicodeDecodeError) -> str:
    """Return the message for a file in another encoding."""
    return f"{path} is no UTF-8 text (byte {error.object[error.start]:#04x}); save it again in that encoding"


def _unknown_key(key: str) -> str:
    hydras = _hydra_keys()
    if key in hydras:
        return f"{key} belongs to {hydras[key]}; add that, or leave the key out"
    known = [*app.in_use().defaults(), *hydras]
    if below := [name for name in known if name.startswith(f"{key}.")]:
        return f"{key} holds keys and has no options; legal keys: {', '.join(below)}"
    groups = list(dict.fromkeys(name.partition(".")[0] for name in app.in_use().defaults()))
    parent, _, last = key.rpartition(".")
    siblings = {name.rpartition(".")[2]: name for name in known if parent and name.rpartition(".")[0] == parent}
    # What a key begins with makes all its siblings close to it.
    close = [name for name in known if name.rpartition(".")[2] == key] or (
        [siblings[each] for each in difflib.get_close_matches(last, siblings, n=3)]
        if siblings
        else difflib.get_close_matches(key, known, n=3)
    )
    if key.startswith("model.kwargs."):
        return f"{key} is an argument of your builder, which Hydra does not know: write +{key}=VALUE"
    lines = [f"there is no key {key if key.isprintable() and key.isascii() else repr(key)}"]
    if close:
        lines.append(f"  did you mean {' or '.join(close)}?")
    if siblings:
        lines.append(f"  legal keys below {parent}: {', '.join(siblings.values())}")
    elif not close:
        lines.append(f"  legal top-level keys: {', '.join(groups)}")
    return "\n".join(lines)


def _hydra_keys() -> dict[str, str]:
    """Return {key: the option that sets it} for our own sweeper and launchers."""
    from hydra.core.config_store import ConfigStore

    found: dict[str, str] = {}
    for group, name in (("sweeper", "strive"), ("launcher", "strive_local"), ("launcher", "strive_slurm")):
        node = ConfigStore.instance().repo.get("hydra", {}).get(group, {}).get(f"{name}.yaml")
        for field, value in node.node.items() if node is not None else ():
            for below in value if OmegaConf.is_dict(value) and value else ("",):
                if not str(field).startswith("_") and field != "defaults":
                    key = f"hydra.{group}.{field}" + (f".{below}" if below else "")
                    found.setdefault(key, f"hydra/{group}={name}")
    return found


def _legal(field: tuple[Any, str, str]) -> str:
    kind, text, legal = field
    if issubclass(kind, StrEnum):
        legal = "one of " + ", ".join(choice.value for choice in kind)
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", list: "a list"}
    parts = [text, "; ".join(part for part in (names.get(kind, ""), legal) if part)]
    return ". Legal: ".join(part for part in parts if part)
