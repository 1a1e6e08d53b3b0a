"""W&B runs by the genuine client, with every wait bounded. Imports wandb."""

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb
from wandb.errors import AuthenticationError, Error
from wandb.sdk.mailbox import MailboxClosedError

from strive.errors import DeletedError, NotUploadedError, ServiceGoneError, SilentError, StriveError
from strive.trackers.naming import STATUS
from strive.trackers.server import address, asked, connect, error_line, host, without_password
from strive.trackers.upload_state import UploadState

_FINISH_SECONDS = 30.0  # for what is still on its way when a W&B run is closed
_WEIGHTS_SECONDS = 600.0  # if weights are
_GONE = (ConnectionError, MailboxClosedError)
PREEMPTED = 143  # exit code of a process that ended with SIGTERM
_LOOKS = (0.0, 0.5, 1.5, 3.0)  # before each look for what was just sent; a server may take a moment to show it


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where on W&B."""

    entity: str  # "": the key's own
    project: str


class Client:
    """A server that has taken the key."""

    def __init__(self) -> None:
        """Ask the server once.

        Raises ServerError: NoKeyError, and SilentError where nobody answers or the key is refused.
        """
        self.api = connect(host())
        self.server = address()
        with asked(host()):
            self.entity = str(self.api.default_entity or "")

    def check(self) -> None:
        """Ask the server again. Raises ServerError if it does not answer, or does not take the key."""
        connect(host())

    def confirm(self, run: wandb.Run, summary: Mapping[str, str]) -> None:
        """Raise NotUploadedError unless the server itself says, within seconds, that a W&B run has these values.

        The client reports success, too, where the server has refused the rows.
        """
        for pause in _LOOKS:
            time.sleep(pause)
            self.api.flush()  # it would give back what it has read before
            with suppress(Error, ValueError, OSError, MailboxClosedError):
                found = self.api.run(f"{run.entity}/{run.project}/{run.id}").summary
                if all(found.get(key) == value for key, value in summary.items()):
                    return
        what = ", ".join(summary)
        raise NotUploadedError(f"W&B took it, but does not show its {what} yet; the next sync looks again")


def forget_helper() -> None:
    """Have the next Client start W&B's helper process again; what is open is lost, but for what the server has."""
    with suppress(*_GONE, AssertionError):
        wandb.teardown()


def open_run(
    target: Target,
    run: str,
    *,
    tags: Sequence[str] = (),
    step: str = "",
    trainer: int | None = None,
    weights: bool = False,
    **label: Any,
) -> wandb.Run:
    """Return a W&B run that was created, or that goes on.

    step: the name of a row's step; "": there are no rows. trainer: the process on this machine that trains; its use of
    processor and memory is shown. None: it does not train here, so nothing of this machine is. weights: they will be
    uploaded, which takes time. label: name, group, job_type, config, notes of wandb.init.

    Raises as client_errors.
    """
    with client_errors():
        opened = wandb.init(
            entity=target.entity or None,
            project=target.project,
            id=run,
            resume="allow",
            reinit="create_new",
            mode="online",
            tags=tags,
            settings=_settings(trainer, _WEIGHTS_SECONDS if weights else _FINISH_SECONDS),
            **label,
        )
        if step:
            opened.define_metric(step)
            opened.define_metric("*", step_metric=step)
        set_tags(opened, tags)
        return opened


def set_tags(run: wandb.Run, tags: Sequence[str]) -> None:
    """Give a W&B run these tags. Those that somebody gave it there stay, but how the cell ended is said once."""
    there = run.tags or ()
    wanted = tuple(dict.fromkeys((*(tag for tag in there if not tag.startswith(f"{STATUS}:")), *tags)))
    if wanted != there:
        run.tags = wanted


@contextmanager
def client_errors() -> Iterator[None]:
    """Turn what the client raises into DeletedError, SilentError, ServiceGoneError, or else NotUploadedError."""
    try:
        yield
    except StriveError:
        raise
    except AuthenticationError as error:
        raise SilentError(error_line(error)) from None
    except (*_GONE, Error, OSError, ValueError) as error:  # a TimeoutError is an OSError
        text, kind = str(error), NotUploadedError
        # The client's own words, in 0.31, of its helper process: it is gone, or has the id from a try that failed.
        if isinstance(error, _GONE) or text == "Connection lost" or "is in use" in text:
            kind = ServiceGoneError
        elif "created and deleted" in text:
            kind = DeletedError
        raise kind(error_line(error)) from None


def log_pictures(run: wandb.Run, paths: Iterable[Path]) -> None:
    """Add a row of pictures, if there are any, each under its file's name."""
    if row := {path.stem: wandb.Image(str(path)) for path in paths}:
        run.log(row)


def log_table(run: wandb.Run, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Add a table, in place of the one that is shown."""
    run.log({"table": wandb.Table(columns=list(columns), data=[list(row) for row in rows], allow_mixed_types=True)})


def log_weights(run: wandb.Run, path: Path, name: str) -> None:
    """Upload weights as an artifact, without a second copy on this disk."""
    artifact = wandb.Artifact(name, type="model")
    artifact.add_file(str(path), policy="immutable", skip_cache=True)
    run.log_artifact(artifact, aliases=["final"])


def finish(run: wandb.Run, exit_code: int = 0) -> None:
    """Send what is on its way, and end the W&B run: finished, failed, or for PREEMPTED to be continued.

    Raises as client_errors, NotUploadedError where the server does not take it in time.
    """
    try:
        with client_errors():
            if exit_code == PREEMPTED:
                run.mark_preempting()
            run.finish(exit_code=exit_code)
    finally:
        shutil.rmtree(Path(run.dir).parent, ignore_errors=True)


def state_of(run: wandb.Run, client: Client, group: str, content: str = "") -> UploadState:
    """Return the upload state of what a W&B run has."""
    return UploadState(
        server=client.server,
        entity=run.entity,
        project=run.project,
        id=run.id,
        url=without_password(run.url or ""),
        group=group,
        content=content,
    )


def _settings(trainer: int | None, finish_seconds: float) -> wandb.Settings:
    here = trainer is not None
    settings = wandb.Settings(
        finish_timeout=finish_seconds,
        finish_timeout_raises=True,
        x_disable_stats=not here,
        x_disable_meta=not here,
        x_disable_machine_info=not here,
        disable_git=not here,
    )
    if trainer is not None:
        settings.x_stats_pid = trainer
    return settings
