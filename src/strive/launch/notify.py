"""A message where people look, such as a chat: at the end of a launch, and at its first failure.

hydra.launcher.notify is the URL of a webhook, often with a secret in it, or a command. It goes into this process's
environment (TARGET) and nowhere else: no record, plan, log or message has it.
"""

import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from omegaconf import open_dict, read_write

from strive.console import CONSOLE
from strive.errors import CellsFailedError, ConfigError, StoppedError

TARGET = "STRIVE_NOTIFY"  # in the environment, also of a job that starts this command again
KEY = "hydra.launcher.notify"
_COMMAND = "cmd:"
_SECONDS = 10.0  # for one message; a launch ends at most so much later


def take_target(config: Any) -> None:
    """Move the target out of a multirun's config and command line, before anything of them is stored.

    config: Hydra's, with the node hydra.
    """
    target = str(config.hydra.launcher.get("notify") or "")
    if not target:
        return
    with read_write(config), open_dict(config):
        config.hydra.launcher.notify = ""
        config.hydra.overrides.hydra = [text for text in config.hydra.overrides.hydra if not _is_ours(text)]
    sys.argv[1:] = [text for text in sys.argv[1:] if not _is_ours(text)]
    os.environ[TARGET] = target


@contextmanager
def notified_of_errors(title: str) -> Iterator[None]:
    """Send a message if the block raises; title: of the sweep. Raises ConfigError for a target that is none."""
    target = os.environ.get(TARGET, "")
    if target and not target.startswith(("https://", "http://", _COMMAND)):
        # It may be a mistyped URL, and so is not shown.
        raise ConfigError(
            f"{KEY} must be the URL of a webhook (https://...), or 'cmd:PROGRAM ARGS'; it begins otherwise"
        )
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, CellsFailedError | StoppedError) else f"{type(error).__name__}: "
        notify(f"{title}: {kind}{error}")
        raise


def notify(text: str, *, wait: bool = True) -> None:
    """Send a message, if there is a target. Never raises, and never shows the target.

    wait: until it is sent, for a bounded time; whether it was is said.
    """
    target = os.environ.get(TARGET, "")
    if not target:
        return
    failed: list[str] = []
    # A thread, because the name of a host may take longer to look up than any timeout of the request.
    sender = threading.Thread(target=lambda: failed.extend(_failure(target, text)), daemon=True)
    sender.start()
    if not wait:
        return
    sender.join(_SECONDS + 1)
    if sender.is_alive():
        failed.append(f"no answer for {_SECONDS:g} s")
    for cause in failed:
        CONSOLE.print(f"{KEY}: the message was not taken: {cause}")


def _failure(target: str, text: str) -> list[str]:
    """Send it; return why that failed, in words that have nothing of the target."""
    try:
        if target.startswith(_COMMAND):
            words = [word.replace("{}", text) for word in shlex.split(target.removeprefix(_COMMAND))]
            done = subprocess.run(words, input=text, text=True, capture_output=True, timeout=_SECONDS, check=False)
            return [f"the program ended with {done.returncode}"] if done.returncode else []
        import urllib.request  # 30 ms, for those who ask for a message

        request = urllib.request.Request(
            target, json.dumps({"text": text}).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=_SECONDS):
            return []
    except Exception as error:
        with suppress(AttributeError):
            return [f"the server answered {error.code}"]  # type: ignore[attr-defined]
        return [type(error).__name__]


def _is_ours(text: str) -> bool:
    return text.lstrip("+").startswith(f"{KEY}=")
