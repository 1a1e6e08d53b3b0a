"""Search for the plan that a launch's overrides mean. Imports no torch, and Hydra only for its grammar."""

from collections.abc import Sequence
from pathlib import Path

from strive.errors import UsageError
from strive.sweeps.override_syntax import value_of
from strive.sweeps.plan import plan_name, sweep_folder


def split(overrides: Sequence[str]) -> tuple[Path, list[str]]:
    """Return the runs folder, and the overrides that form the plan's name.

    Raises UsageError, like the other functions here.
    """
    runs, rest = Path("runs"), []
    for text in overrides:
        key, equals, _ = text.partition("=")
        if not equals and not text.startswith("~"):
            meant = f"; is sweeps={text} meant?" if text else ""
            raise UsageError(f"{text or repr(text)} is neither an option nor KEY=VALUE{meant}")
        if key.lstrip("+") == "runs":
            runs = _folder(text)
        elif not key.lstrip("+~").startswith(("hydra.", "hydra/")):
            rest.append(text)
    return runs, rest


def wanted(runs: Path, arguments: Sequence[str]) -> str:
    """Return the name of the plan that a launch with these overrides has written."""
    sweep = next((text.partition("=")[2] for text in reversed(arguments) if text.startswith("sweeps=")), "")
    overrides = [text for text in arguments if not text.startswith("sweeps=")]
    try:
        name = plan_name(overrides, sweep)
    except Exception as error:
        raise _usage_error(error) from None
    if (sweep_folder(runs, name) / "plan.json").exists():
        return name
    changed = f" with {' '.join(overrides)}" if sweep and overrides else ""
    raise UsageError(
        f"{sweep or ' '.join(overrides)}{changed} was not launched into {runs} (there is no plan {name});"
        f" there are: {', '.join(plans(runs))}\n  give the overrides of the launch, or sweeps=NAME with one of these"
    )


def _folder(text: str) -> Path:
    """Return the folder that runs=DIR names, unquoted as Hydra does it."""
    from hydra.core.override_parser.types import Glob, Sweep

    try:
        value = value_of(text)
    except Exception as error:
        raise _usage_error(error) from None
    if isinstance(value, Sweep | Glob | list | dict) or "${" in str(value):
        raise UsageError(f"{text} names no one folder; give the folder itself, as runs=DIR")
    return Path(str(value))


def _usage_error(error: Exception) -> Exception:
    """Return a UsageError for the user's mistake in an override, and any other error unchanged."""
    from strive.config.error_text import complaint

    text = complaint(error)
    return error if text is None else UsageError(text)


def plans(runs: Path) -> list[str]:
    """Return the names of all plans."""
    names = sorted(path.parent.name for path in (runs / "sweeps").glob("*/plan.json"))
    if not names:
        raise UsageError(
            f"no sweep was launched into {runs} yet: python src/run.py -m sweeps=NAME;"
            " runs=DIR looks for one in another folder"
        )
    return names
