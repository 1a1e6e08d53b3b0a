"""One process's run of a cell: its lease, checkpoints, history and record."""

import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from strive import app, signals
from strive.cells import active, records
from strive.cells.app_state import AppState
from strive.cells.checkpoints import FOLDER, Checkpoints, remove_checkpoints
from strive.cells.evidence import summary
from strive.cells.history import HISTORY
from strive.cells.history_writer import HistoryWriter
from strive.cells.lease import Claim, owner_of, surely_gone, take_claim
from strive.cells.log_file import log_file
from strive.cells.ranks import Ranks
from strive.cells.records import Failure, Provenance, Record, Status
from strive.cells.returned import check_name, returned_metrics
from strive.cells.run_files import CONFIG, RunFiles
from strive.cells.saved_state import history_in
from strive.code.hash import Code
from strive.config import identity
from strive.console import CONSOLE
from strive.errors import (
    ContractError,
    Diverged,
    LostLeaseError,
    NoRoomError,
    Stopped,
    StoppedError,
    first_line,
    is_out_of_memory,
)

_UNKNOWN = Code("", {})
_LINE_SECONDS = 1.0  # at least between two lines of numbers in log.txt; history.jsonl has them all


class CellRun:
    """A cell that this process has leased. Leaving the context releases the lease.

    An app's function reaches it by `strive.current()`, and by strive.log, save, load, fingerprint and stop_requested,
    which are its methods of these names.
    """

    def __init__(
        self,
        cell: str,
        runs: Path,
        *,
        config: Mapping[str, Any],
        logistics: Mapping[str, Any] | None = None,
        code: Code | Callable[[], Code] = _UNKNOWN,
        lease_seconds: float = 120.0,
        checkpoint_minutes: float = 10.0,
        replaces: str = "",
        fence: str = "",
        config_yaml: str = "",
        known: Callable[[], Mapping[str, Any]] = dict,
        ranks: Ranks | None = None,
    ) -> None:
        """Take the lease.

        cell: its id, which ends in the hash of `config`. runs: the folder of all cells.
        config, logistics: {dotted key: JSON value} of what determines the numbers, and of every other key.
        code: the code that trains it; a function is called at each checkpoint and at the end, because an app may
        import more and more.
        lease_seconds: without a heartbeat for so long, others count this process as gone.
        checkpoint_minutes: between two checkpoints; 0: at every call.
        replaces: sha256 of the record file to train again; any other result is kept.
        fence: the token of a claim on the cell whose process is gone (lease.LeaseMonitor): it may be replaced.
        config_yaml: the content of config.yaml; "": there is none.
        known: returns fields of records.Provenance that the caller knows better than `cells.surroundings`.
        ranks: the cell's other processes.

        Raises LeasedError while another process trains the cell, RecordError for a record that cannot be trusted.
        """
        self.cell, self.config, self.logistics = cell, dict(config), dict(logistics or {})
        self._config_yaml = config_yaml
        self.path = records.record_path(runs, cell)
        records.make_folder(self.path.parent)
        with ExitStack() as stack:
            self.logger = stack.enter_context(log_file(cell, self.path.with_name("log.txt")))
            self.claim = stack.enter_context(self._claimed(lease_seconds, fence))
            self.earlier = result_to_keep(runs, cell, self.config, replaces=replaces)
            self.folder = self._folder(replaces)
            self.files = RunFiles(self.path, self.folder, self.claim, self.say)
            self.history = HistoryWriter(lambda content: self.files.publish(HISTORY, lambda: content))
            self.claim.on_beat = self.history.write_soon
            self.state = AppState(cell, self.claim, self.history, code, known)
            # An app that writes whole checkpoints of its own has others.
            self.checkpoints = Checkpoints(
                self.folder / FOLDER, checkpoint_minutes, self.claim, self.state.why_unusable, self.say
            )
            self._stack = stack.pop_all()
        self.pid, self._ranks = os.getpid(), ranks
        self.polls = False  # whether the function asks for a stop; if it does not, a signal ends it at once
        self.record: Record | None = None  # once it is written
        self._loaded: Path | None = None
        self._has_looked = self._has_history = self._was_answered_stop = False
        self._last_line = -_LINE_SECONDS

    @classmethod
    def of(cls, config: Any, *, runs: Path | None = None, **more: Any) -> Self:
        """Return the run of a cell's config, which the app in use knows. runs: instead of its own folder of records.

        more: further arguments, and others than the app says. Raises what CellRun raises.
        """
        here = app.in_use()
        flat, science, settings = here.flat(config), here.science(config), here.settings(config)
        known: dict[str, Any] = {
            "config": science,
            "logistics": {key: value for key, value in flat.items() if key not in science},
            "code": lambda: here.code_of(flat),
            "lease_seconds": settings.lease_seconds,
            "checkpoint_minutes": settings.checkpoint_minutes,
        }
        return cls(identity.cell_id(config), runs or Path(settings.runs), **known | more)

    def __enter__(self) -> Self:
        """Return the run."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the lease."""
        self._stack.close()

    # -- what an app's function calls

    def log(self, step: int, /, **metrics: Any) -> None:
        """Add numbers to the history; see `strive.log`."""
        self.claim.check()
        self._begin_history()
        found = self.history.log(step, metrics)
        self.claim.note(step=self.history.step)
        now = time.monotonic()
        if now - self._last_line >= _LINE_SECONDS:
            self._last_line = now
            self.logger.info("step %s: %s", self.history.step, ", ".join(f"{name}={found[name]}" for name in found))

    def save(self, write: Callable[[Path], object], *, all_ranks: bool = False) -> None:
        """Write a checkpoint if one is due, and stop if that was requested; see `strive.save`.

        Raises Stopped where the cell is to stop here.
        """
        self.polls = True
        self.claim.check()
        if self.checkpoints.is_due():
            if all_ranks and self._ranks is not None:
                write = self._ranks.everywhere(write)
            self.checkpoints.keep(lambda folder: self.state.write(folder, write), where=self._where())
        if self._stops("save"):
            raise Stopped(self.stopped_text(self._where()))

    def load(self) -> Path | None:
        """Return the checkpoint to go on from; see `strive.load`. Raises ContractError after `strive.log`."""
        if not self._has_looked:
            if self.history.step is not None:
                raise ContractError(
                    "strive.load() after strive.log(): the steps until then would be logged twice; load first, then log"
                )
            self._has_looked = True
            if (folder := self.checkpoints.newest()) is not None:
                self._loaded = self.state.resume(folder)
                self.resume_history(history_in(folder))
                self.checkpoints.resumed(self._where() or "a checkpoint")
            if self._ranks is not None:
                self._ranks.loaded(self._loaded)
        return self._loaded

    def stop_requested(self) -> bool:
        """Return whether the function is to leave; see `strive.stop_requested`."""
        self.polls = True
        self._was_answered_stop |= self._stops("stop_requested")
        return self._was_answered_stop

    def fingerprint(self, name: str, text: str) -> None:
        """Record what data the cell really read; see `strive.fingerprint`.

        Raises ContractError for what is no text, or another than before.
        """
        check_name(name)
        if not isinstance(text, str):
            raise ContractError(
                f"strive.fingerprint({name!r}, {text!r}): the fingerprint must be a text, such as a hash"
            )
        if (there := self.state.data.setdefault(name, text)) != text:
            raise ContractError(
                f"strive.fingerprint({name!r}, {text!r}): it is {there!r} already; give each data set a name of its own"
            )

    # -- from the start of the function to the record

    def run(self, function: Callable[[], Any]) -> Record:
        """Call an app's function as this cell, and return the cell's record.

        Raises StoppedError if a signal stopped it, LostLeaseError if another process took it over, KeyboardInterrupt,
        and OSError if the record cannot be written.
        """
        if self.earlier is not None:
            CONSOLE.print(f"{self.cell}: {self.earlier.status.value} already, nothing to train")
            return self.earlier
        self.logger.info("starts in process %d", self.pid)
        try:
            with self.activated():
                returned = function()
        except BaseException as error:
            return self.fail(error)
        return self.finish(returned)

    def report(self) -> Record:
        """Print how the cell has ended and where its record lies, and return the record."""
        record = self.record or self.earlier
        assert record is not None
        CONSOLE.print(summary(record))
        print(self.path)
        return record

    @contextmanager
    def activated(self) -> Iterator[None]:
        """Make this the current run, for `strive.log` and the others. Raises Stopped if a signal came before it."""
        if signals.requested():
            raise Stopped(self.stopped_text())
        self.publish_config()
        with active.activated(self), signals.raising(lambda: None if self.polls else Stopped(self.stopped_text())):
            yield

    def finish(self, returned: Any) -> Record:
        """Write and return the record of a cell whose function has returned: done, or an error if the value is illegal.

        returned: None, a number or a mapping of names to numbers. Raises what `run` raises.
        """
        try:
            if self._was_answered_stop:
                # It may have left its loop early, so what it returned is not the cell's result.
                raise StoppedError(self.stopped_text(self._where()))
            metrics, chance = returned_metrics(returned)
            if returned is None:
                self.say("done, but the function returned nothing: the record has no metrics")
            return self.end(Status.done, metrics=metrics, chance=chance)
        except BaseException as error:
            return self.fail(error)

    def fail(self, error: BaseException) -> Record:
        """Write and return the record of a cell whose function raised; raise the error if the cell did not cause it."""
        if isinstance(error, Diverged):
            try:
                metrics, chance = returned_metrics(error.metrics)
            except ContractError as wrong:
                error = wrong
            else:
                self.say(f"diverged: {first_line(error)}")
                return self.end(Status.diverged, metrics=metrics, chance=chance, cause=first_line(error))
        if isinstance(error, Stopped):
            error = StoppedError(str(error) or self.stopped_text(self._where()))
        if isinstance(error, StoppedError | LostLeaseError | NoRoomError):
            self.logger.warning("%s", error)
            self.history.write_now()
            raise error
        if not isinstance(error, Exception | SystemExit):
            raise error
        self.claim.check()
        status = Status.out_of_memory if is_out_of_memory(error) else Status.error
        self.logger.error("%s", status.value, exc_info=error)
        failure = Failure(
            cause=f"{type(error).__name__}: {first_line(error)}", traceback="".join(traceback.format_exception(error))
        )
        return self.end(status, failure=failure)

    def end(
        self,
        status: Status,
        *,
        metrics: Mapping[str, int | float | None] | None = None,
        chance: Mapping[str, float] | None = None,
        cause: str = "",
        outputs: Mapping[str, str] | None = None,
        failure: Failure | None = None,
        write_files: Callable[[], object] = lambda: None,
        also: tuple[str, ...] = (),
    ) -> Record:
        """Write and return the record. The arguments are its fields; the rest are for an app with files of its own.

        write_files: writes the files that the record implies. also: names of files that belong to a result.

        Raises OSError if the record cannot be written.
        """
        record = Record(
            schema=records.SCHEMA,
            cell=self.cell,
            status=status,
            config=self.config,
            logistics=self.logistics,
            metrics=dict(metrics or {}),
            chance=dict(chance or {}),
            cause=cause,
            data=self.state.data,
            outputs=dict(outputs or {}),
            failure=failure,
            provenance=Provenance(**self.state.provenance()),
        )

        def write() -> None:
            write_files()
            self._complete()

        if status.finished:
            self._begin_history()
        self.history.write_now()  # from here on the heartbeat finds no news
        if status.finished:
            self.files.put_record(record, self.checkpoints, write, also)
        else:
            self.files.put_record(record, self.checkpoints)
        self.logger.info("%s", status.value)
        self.record = record
        return record

    # -- parts that an app with a loop of its own calls

    def say(self, message: str) -> None:
        """Print a message, and write it to log.txt."""
        self.logger.warning("%s", message)
        CONSOLE.print(f"{self.cell}: {message}")

    def publish_config(self) -> None:
        """Write config.yaml, if the cell has one."""
        if self._config_yaml:
            self.files.publish(CONFIG, self._config_yaml.encode)

    def resume_history(self, content: bytes) -> None:
        """Begin with so much of the history: without the steps that are trained again."""
        self._has_history = True
        self.history.restore(content)
        self.history.write_now()

    def stopped_text(self, where: str = "") -> str:
        """Return the message of a cell that a signal stopped. where: such as step 3."""
        after = f" after {where}" if where else ""
        return f"{self.cell}: stopped by {signals.requested()}{after}{self.checkpoints.lost}"

    # -- inside

    def _stops(self, call: str) -> bool:
        """Return whether a stop is requested; the cell's other processes then leave at the same call."""
        stop = bool(signals.requested())
        return stop if self._ranks is None else self._ranks.decide(call, stop=stop)

    def _claimed(self, lease_seconds: float, fence: str) -> Claim:
        folder = self.path.parent
        before = owner_of(folder)
        claim = take_claim(folder, lease_seconds, fence=fence)
        if before is not None and before.token != claim.owner.token:
            why = "its process is gone" if surely_gone(before) else f"no heartbeat for {before.lease_seconds:g} s"
            self.logger.warning("takes the cell over from %s: %s", before, why)
            CONSOLE.print(f"{self.cell}: takes over from {before}: {why}")
        return claim

    def _folder(self, replaces: str) -> Path:
        """Return the folder to train in: that of the cell, or one inside while a result is to be replaced."""
        if self.earlier is not None:
            # They remain if the process was killed right after it wrote the record.
            remove_checkpoints(self.path.with_name(FOLDER))
        if self.earlier is not None or not replaces or not self.path.exists():
            return self.path.parent
        folder = self.path.with_name(records.RETRAINING)
        folder.mkdir(exist_ok=True)
        return folder

    def _where(self) -> str:
        return "" if self.history.step is None else f"step {self.history.step}"

    def _begin_history(self) -> None:
        if self._has_history:
            return
        self._has_history = True
        try:
            self.files.keep_earlier_history()
        except OSError as error:
            self.claim.check()
            self.say(f"the earlier {HISTORY} is replaced, because it could not be kept ({error})")

    def _complete(self) -> None:
        """Write the files that belong to a record; raises OSError."""
        if self._config_yaml:
            self.files.write(CONFIG, self._config_yaml.encode())
        if content := self.history.content():
            self.files.write(HISTORY, content)


def result_to_keep(runs: Path, cell: str, config: Mapping[str, Any], *, replaces: str = "") -> Record | None:
    """Return a cell's record if there is nothing to train.

    config, replaces: as for CellRun. Raises RecordError if the record cannot be trusted.
    """
    record = records.record_in(runs, cell, config)
    if record is None or not record.status.finished:
        return None
    return None if replaces and records.file_hash(records.record_path(runs, cell)) == replaces else record
