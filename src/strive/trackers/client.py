"""W&B runs by the genuine client, with every wait bounded. Imports wandb."""

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb
from wandb.errors import AuthenticationError, Error
from wandb.sdk.mailbox import MailboxClosedError

from strive.errors import DeletedError, NotUploadedError, ServerError, ServiceGoneError, SilentError
from strive.trackers.server import address, asked, connect, error_line, host, seconds, without_password

_TRIES = 2  # of a request, beside the first: a server that is down is asked again by the next look
_FINISH_SECONDS = 30.0  # for what is still on its way when a W&B run is closed
_WEIGHTS_SECONDS = 600.0  # if weights are
_GONE = (ConnectionError, MailboxClosedError)
_LOOKS = (0.0, 0.5, 1.5, 3.0)  # before each look for what was just sent; a server may take a moment to show it
PREEMPTED = 143  # exit code of a process that ended with SIGTERM


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

    def answers(self) -> bool:
        """Return whether the server does, and takes the key."""
        try:
            connect(host())
        except ServerError:
            return False
        return True

    @staticmethod
    def forget_service() -> None:
        """Have the next Client start W&B's helper process again; what is open is lost."""
        with suppress(*_GONE, AssertionError):
            wandb.teardown()

    def has(self, target: Target, run: str, summary: Mapping[str, str]) -> bool:
        """Return whether the server itself says, within seconds, that a W&B run has these values in its summary."""
        for pause in _LOOKS:
            time.sleep(pause)
            self.api.flush()  # it would give back what it has read before
            with suppress(Error, ValueError, OSError, MailboxClosedError):
                found = self.api.run(f"{target.entity}/{target.project}/{run}").summary
                if all(found.get(key) == value for key, value in summary.items()):
                    return True
        return False


class OpenRun:
    """One W&B run while this process adds to it."""

    def __init__(
        self,
        target: Target,
        run: str,
        *,
        name: str | None,
        group: str,
        job_type: str | None,
        tags: list[str],
        config: dict[str, Any],
        step: str | None = "step",
        trainer: int | None = None,
        weights: bool = False,
    ) -> None:
        """Create the W&B run, or go on with it.

        name: None leaves the one that it has. step: the name of a row's step; None: there are no rows. trainer: the
        process on this machine that trains; its use of processor and memory is shown. None: it does not train here, so
        nothing of this machine is. weights: they will be uploaded, which takes time.

        Raises DeletedError, SilentError, ServiceGoneError, and NotUploadedError for anything else.
        """
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        try:
            self._run = wandb.init(
                entity=target.entity or None,
                project=target.project,
                id=run,
                resume="allow",
                reinit="create_new",
                mode="online",
                name=name,
                group=group or None,
                job_type=job_type,
                tags=tags,
                config=config,
                dir=self._folder.name,
                settings=_settings(trainer, _WEIGHTS_SECONDS if weights else _FINISH_SECONDS),
            )
        except AuthenticationError as error:
            self._folder.cleanup()
            raise SilentError(error_line(error)) from None
        except _GONE as error:
            self._folder.cleanup()
            raise ServiceGoneError(error_line(error)) from None
        except (Error, OSError, ValueError) as error:
            self._folder.cleanup()
            # The client's own words, in 0.31, of its helper process: it is gone, or has the id from a try that failed.
            if str(error) == "Connection lost" or "is in use" in str(error):
                raise ServiceGoneError(error_line(error)) from None
            if "created and deleted" in str(error):
                raise DeletedError(f"the W&B run {run} was deleted") from None
            raise NotUploadedError(error_line(error)) from None
        self.rows: int = self._run.starting_step  # that the server has
        self.target = Target(entity=self._run.entity, project=self._run.project)
        self.id, self.url = self._run.id, without_password(self._run.url or "")
        self._step = step or ""
        there = self._run.summary
        self._before = {key: there.get(key) for key in there.keys()} if self.rows else {}  # noqa: SIM118 (no mapping)
        if step is not None:
            self._run.define_metric(step)
            self._run.define_metric("*", step_metric=step)
        if lacking := [tag for tag in tags if tag not in (self._run.tags or ())]:
            self._run.tags = (*(self._run.tags or ()), *lacking)  # those that somebody gave it there stay

    def contradicts(self, rows: Iterable[Mapping[str, Any]]) -> bool:
        """Return whether the last step that the server had when this was opened is another training's."""
        last = self._before.get(self._step)
        mine = next((row for row in rows if row[self._step] == last), {})
        # A result may have the name of a logged number and stand in its place, but hardly a training number.
        names = [name for name in mine if name.startswith("train")] or list(mine)
        return any(self._before.get(name, mine[name]) != mine[name] for name in names)

    def log(self, row: dict[str, Any]) -> None:
        """Add a row of numbers."""
        with _service():
            self._run.log(row)

    def log_images(self, paths: Iterable[Path]) -> None:
        """Add a row of pictures, each under its file's name."""
        with _service():
            self._run.log({path.stem: wandb.Image(str(path)) for path in paths})

    def summarise(self, summary: dict[str, Any]) -> None:
        """Set values of the summary."""
        with _service():
            self._run.summary.update(summary)

    def add_file(self, path: Path) -> None:
        """Upload a file."""
        with _service():
            self._run.save(str(path), base_path=str(path.parent), policy="now")

    def add_weights(self, path: Path, name: str) -> None:
        """Upload weights as an artifact, without a second copy on this disk."""
        artifact = wandb.Artifact(name, type="model")
        artifact.add_file(str(path), policy="immutable", skip_cache=True)
        with _service():
            self._run.log_artifact(artifact, aliases=["final"])

    def close(self, *, exit_code: int, preempted: bool = False) -> None:
        """Send what is on its way, and end the W&B run as finished, failed or preempted.

        Raises NotUploadedError if the server does not take it in time.
        """
        try:
            if preempted:
                self._run.mark_preempting()
            self._run.finish(exit_code=exit_code)
        except _GONE as error:
            raise ServiceGoneError(error_line(error)) from None
        except (Error, OSError, ValueError) as error:  # a TimeoutError is an OSError
            raise NotUploadedError(error_line(error)) from None
        finally:
            self._folder.cleanup()


@contextmanager
def _service() -> Iterator[None]:
    try:
        yield
    except _GONE as error:
        raise ServiceGoneError(error_line(error)) from None


def _settings(trainer: int | None, finish_seconds: float) -> wandb.Settings:
    here = trainer is not None
    settings = wandb.Settings(
        console="off",
        silent=True,
        init_timeout=seconds(),
        finish_timeout=finish_seconds,
        finish_timeout_raises=True,
        x_graphql_timeout_seconds=seconds(),
        x_graphql_retry_max=_TRIES,
        x_graphql_retry_wait_max_seconds=2.0,
        x_transaction_log_flush_interval=2.0,
        x_disable_stats=not here,
        x_disable_meta=not here,
        x_disable_machine_info=not here,
        # Listing installed packages takes 90 ms of a processor for each cell; records name the versions that matter.
        x_save_requirements=False,
        disable_git=not here,
        disable_code=True,
    )
    if trainer is not None:
        settings.x_stats_pid = trainer
    return settings
