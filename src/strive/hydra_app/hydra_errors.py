"""Mistakes in what Hydra reads for strive before any code of strive's runs: a sweep file, options of our plug-ins."""

import traceback
from typing import Any

import yaml

from strive.config.exit_codes import exit_codes
from strive.errors import ConfigError
from strive.hydra_app.leaves import leaf_of

_MADE_BY = {"instantiate_sweeper": "sweeper", "instantiate_launcher": "launcher"}  # {Hydra's function: group}
_OURS = "hydra_plugins.strive."


def end_if_ours(error: Exception) -> None:
    """End the process with a message if an error comes from a sweep file or from options of strive's plug-ins."""
    if (options := _options(error)) is not None:
        with exit_codes():
            raise _of_options(*options) or error
    if _file(error).rpartition("/")[0].endswith("sweeps"):
        with exit_codes():
            raise error


def _options(error: Exception) -> tuple[str, Any] | None:
    """Return (hydra.sweeper or hydra.launcher, its node) if Hydra was making ours from these options, else None."""
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):  # the sweeper makes the launcher: the innermost one counts
        group, config = _MADE_BY.get(frame.f_code.co_name, ""), frame.f_locals.get("config")
        if group and config is not None:
            node = config.hydra[group]
            found = (f"hydra.{group}", node) if str(node.get("_target_")).startswith(_OURS) else None
    return found


def _of_options(group: str, node: Any) -> ConfigError | None:
    """Return an error with each option that has no value, by the key as the user typed it; None if all have one."""
    wrong = [f"{key} has no value: {leaf.problem}" for key, leaf in leaf_of(group, node).items() if leaf.problem]
    return ConfigError("\n".join(wrong)) if wrong else None


def _file(error: Exception) -> str:
    """Return the path of the YAML file that Hydra could not read, "" for another error."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    # An app may read files of its own.
    paths = [
        str(frame.f_locals.get("full_path", ""))
        for frame in frames
        if str(frame.f_globals.get("__name__")).startswith("hydra.")
    ]
    is_unread = isinstance(error, yaml.YAMLError | UnicodeDecodeError)
    return next(filter(None, paths), "") if is_unread else ""
