"""Every error that strive raises for others to catch, in one tree below StriveError.

StriveError
  ConfigError            what a user typed or wrote: UnknownKeyError; what is not there yet: MissingDataError,
                         sweeps.choice.MissingParentsError
  ContractError          a call of strive.log, save, ... or a returned value that is not legal
  Diverged               raised by an app: its cell has a result, but the training did not converge
  UsageError             a command that names no sweep or cell
  RecordError, PredictionsError, LoadError
                         a file that is missing, damaged or not what it claims
  ExternalError          a disk or a cluster: SnapshotError, QueueError (NoSlurmError),
                         SubmitError (TooManyJobsError, NoAnswerError)
  LeasedError, LostLeaseError, StoppedError, NoRoomError, RankError, CellsFailedError
                         how a cell ended without a result of its own
  UnpairedError, EffectsError, PublishedError
                         what the numbers do not allow
  TrackerError           W&B: ServerError (NoKeyError, SilentError), NotUploadedError (ServiceGoneError, DeletedError)

Stopped alone is outside the tree: a BaseException.

How each is worded on the screen: error_text.py. A bare OSError passes through: `os_error_text` words it.
"""

import errno
import re
from typing import Any

# Answers of sbatch when a user or an account has as many jobs in the queue as are allowed, or when a group's limit is
# reached: there is room again when some of these jobs have ended.
ROOM_LATER = re.compile(r"MaxSubmit|SubmitJobs|MaxJobCount|(Assoc|QOS)Grp|temporarily unable to accept", re.IGNORECASE)

_OUTSIDE = tuple(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EFBIG", "EIO", "ESTALE", "ENOTDIR", "ENAMETOOLONG")
    if hasattr(errno, name)
)


class StriveError(Exception):
    """Base of every error here."""


class ConfigError(StriveError, ValueError):
    """A wrong value or key; the message says what was got, what is legal, and the key as it was typed."""


class UnknownKeyError(ConfigError):
    """A key that no cell has."""

    def __init__(self, key: str) -> None:
        super().__init__(f"there is no key {key}")
        self.key = key


class MissingDataError(ConfigError):
    """What a cell trains on is not on this machine: an error of a launch, and a note of a plan."""


class ContractError(StriveError, ValueError):
    """A call or a returned value of an app's function that is not legal; the message says what was got and is legal."""


class Diverged(StriveError):
    """A training that did not converge. That is a result, with metrics, and is never retried.

    reason: one line. metrics: as returned from the app's function.
    """

    def __init__(self, reason: str, **metrics: Any) -> None:
        super().__init__(reason)
        self.metrics = metrics


class Stopped(BaseException):
    """A cell was left after a checkpoint, because a signal asked for it; the same command goes on from there.

    A BaseException, because Hydra catches every Exception of an app.
    """


class UsageError(StriveError):
    """A command that cannot be carried out; the message says what to do."""


class RecordError(StriveError, ValueError):
    """A file that is not a record of this schema; the message names the path and the reason."""


class PredictionsError(StriveError, ValueError):
    """A cell's predictions are missing or damaged, or are not of the same images."""


class LoadError(StriveError, ValueError):
    """A folder or a sweep that is not there, or a plan that cannot be read."""


class ExternalError(StriveError):
    """Something outside the program that a user or an administrator must put right; the message says what."""


class SnapshotError(ExternalError):
    """The code cannot be frozen, or other code than the frozen one would run."""


class QueueError(ExternalError):
    """SLURM cannot be asked; the message says what failed and what to do."""


class NoSlurmError(QueueError):
    """There is no SLURM on this machine; other QueueErrors may pass."""


class SubmitError(ExternalError):
    """sbatch refused; the message quotes it."""


class TooManyJobsError(SubmitError):
    """There is no room in the queue for so many jobs now."""

    @property
    def has_room_later(self) -> bool:
        """Whether SLURM has named a number of jobs or a group's limit, and not just some limit of an account."""
        return ROOM_LATER.search(str(self)) is not None


class NoAnswerError(SubmitError):
    """SLURM did not answer: the jobs may be in the queue all the same, and `submit` with the same mark finds them."""


class LeasedError(StriveError):
    """Another process trains the cell."""

    def __init__(self, cell: str, owner: Any) -> None:
        """owner: a cells.lease.Owner."""
        super().__init__(f"{cell} is being trained by {owner}")
        self.owner = owner


class LostLeaseError(StriveError):
    """Another process has taken the cell over: this one must not write anything more."""


class StoppedError(StriveError):
    """A cell was left between two steps, with a checkpoint, because a signal asked for it."""


class NoRoomError(StriveError):
    """The cell was given back without a verdict: it is to be trained again, next to fewer others."""

    def __init__(self, room: int, why: str, *, spoilt: bool = False) -> None:
        super().__init__(why)
        self.room = room  # how many cells at once this process can or should train
        self.spoilt = spoilt  # nothing more may succeed on this process's GPU


class RankError(StriveError):
    """Another process of the cell raised an error; the message says which, its notes have the traceback."""


class CellsFailedError(StriveError):
    """Some cells have no result; each is named, and its record says why."""


class UnpairedError(StriveError, ValueError):
    """One side lacks what the other has: there is nothing to pair."""


class EffectsError(StriveError, ValueError):
    """The cells allow no analysis of variance; the message says why."""


class PublishedError(StriveError, ValueError):
    """A table that the file of published values does not have."""


class TrackerError(StriveError):
    """W&B could not be used; the message says why in one line, without the key."""


class ServerError(TrackerError):
    """W&B's server cannot be used."""


class NoKeyError(ServerError):
    """There is no key for the server."""


class SilentError(ServerError):
    """The server does not answer, or not to this key: what was read from it earlier may still be of use."""


class NotUploadedError(TrackerError):
    """W&B did not take something."""


class ServiceGoneError(NotUploadedError):
    """W&B's own helper process has ended, as on a SIGTERM to every process of a job; open W&B runs are lost."""


class DeletedError(NotUploadedError):
    """There was a W&B run of this id, and somebody deleted it: W&B never takes the id again."""


def os_error_text(error: OSError) -> str | None:
    """Return how to word an error of a disk for the user, or None if the error may be ours."""
    if error.errno not in _OUTSIDE:
        return None
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror}; put that right and start the same command again: what is on disk is not lost"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return (str(error) or "no message").splitlines()[0]


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or the one that caused it, means that memory ran out."""
    if error is None:
        return False
    # By name, because torch is not imported here; its allocator for the CPU raises a plain RuntimeError.
    named = any(kind.__name__ in ("MemoryError", "OutOfMemoryError") for kind in type(error).__mro__)
    return named or "can't allocate memory" in str(error) or is_out_of_memory(error.__cause__)
