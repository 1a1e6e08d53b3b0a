"""The program of this process, as the user started it: for messages, and to start it again."""

import os
import shlex
import sys


def program() -> list[str]:
    """Return what stands behind `python` to start this program: a script as it was typed, or -m and a module."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None or spec.name == "__main__":
        return [sys.argv[0]]
    return ["-m", spec.name.removesuffix(".__main__")]


def command(*arguments: str) -> str:
    """Return a command of this program for the user to type, such as python train.py --help."""
    words = program()
    own = ["python", *words] if words[0] == "-m" or words[0].endswith(".py") else [os.path.basename(words[0])]
    return shlex.join([*own, *arguments])


def multirun(*overrides: str) -> str:
    """Return a command that launches other cells in the same way: with the sweeper and launcher that were typed."""
    return command("-m", *(text for text in sys.argv[1:] if text.startswith("hydra/")), *overrides)
