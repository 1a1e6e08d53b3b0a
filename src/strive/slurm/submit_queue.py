"""Queue of cells to submit, while SLURM has room for only some of them. Imports no torch."""

import time
from collections import deque
from collections.abc import Callable, Collection

from strive.errors import NoAnswerError, NoSlurmError, QueueError, SubmitError, TooManyJobsError
from strive.format import counted
from strive.slurm.jobs import JobArray, SlurmJobs

_ROOM_SECONDS = 20.0  # between two tries to submit to a full queue, or to a SLURM that does not answer
_LOOK_SECONDS = 5.0  # until the first look for jobs that SLURM has not answered for
_FULL_SECONDS = 1800.0  # how long to try while we have no job in the queue whose end makes room


class SubmitQueue:
    """Submits cells, one array after the other, and keeps those that the cluster does not take yet."""

    def __init__(
        self, jobs: SlurmJobs, say: Callable[[str], object], on_full: Callable[[], object] = lambda: None
    ) -> None:
        """on_full: called each time that SLURM takes no more jobs, or not so many."""
        self._jobs, self._say, self._on_full = jobs, say, on_full
        self._numbers: list[int] = []  # lines of tasks.jsonl
        self._backlog = deque[JobArray]()
        self._not_before = 0.0  # when to try the backlog again, monotonic seconds
        self._full_since: float | None = None  # since when SLURM takes no job though none of ours is in the queue
        self._last_shown = ""
        self.unanswered = False  # SLURM has not answered for what was submitted last

    def add(self, number: int) -> None:
        """Take a cell, by its line in tasks.jsonl."""
        self._numbers.append(number)
        self.try_now()

    def try_now(self) -> None:
        """Do not wait for the next try."""
        self._not_before = 0.0

    @property
    def held_back(self) -> list[int]:
        """The lines in tasks.jsonl of cells that the cluster has not taken yet."""
        return [*self._numbers, *(number for array in self._backlog for pack in array.packs for number in pack)]

    def take_all(self) -> list[int]:
        """Return the cells that the cluster has not taken yet, and forget them."""
        found = sorted(self.held_back)
        self._numbers.clear()
        self._backlog.clear()
        return found

    def submit(self, in_queue: Collection[str]) -> dict[int, str]:
        """Submit what there is room for and return {line of tasks.jsonl: job}.

        in_queue: our jobs in the queue, whose ends make room.

        Raises SubmitError or QueueError if SLURM refuses, and waiting does not help.
        """
        taken: dict[int, str] = {}
        while (self._numbers or self._backlog) and time.monotonic() >= self._not_before:
            waits = bool(in_queue or taken)
            try:
                if self._numbers:
                    self._backlog.extend(self._jobs.arrays(sorted(self._numbers)))
                    self._numbers.clear()
                ids = self._jobs.submit(self._backlog[0])
            except TooManyJobsError as error:
                self.unanswered = False
                self._on_full()
                if len(self._backlog[0].packs) > 1:
                    self._split()
                else:
                    self._wait(error, "what is left goes in when there is room", error.has_room_later, waits=waits)
            except NoSlurmError:
                raise
            except (NoAnswerError, QueueError) as error:
                # The jobs may be in the queue all the same: the next try looks for them first.
                self._wait(error, "tried again until it answers", True, waits=waits)
                if not self.unanswered:
                    self._not_before = time.monotonic() + _LOOK_SECONDS
                self.unanswered = True
            else:
                self.unanswered, self._full_since = False, None
                array = self._backlog.popleft()
                self._announce(array, ids)
                taken |= {number: job for job, pack in zip(ids, array.packs, strict=True) for number in pack}
        return taken

    def _split(self) -> None:
        """Make two of an array that is more than the queue takes now."""
        array = self._backlog.popleft()
        half = len(array.packs) // 2
        self._backlog.extendleft([JobArray(array.needs, array.packs[half:]), JobArray(array.needs, array.packs[:half])])

    def _wait(self, error: SubmitError | QueueError, what: str, may_pass: bool, *, waits: bool) -> None:
        """Keep everything for later.

        may_pass: whether the reason may go away by itself. waits: jobs of ours are in the queue, whose ends make room.
        """
        now = time.monotonic()
        self._full_since = now if self._full_since is None or waits else self._full_since
        if not waits and (not may_pass or now - self._full_since > _FULL_SECONDS):
            raise error
        if str(error) != self._last_shown:
            self._last_shown = str(error)
            self._say(f"{error}; {what}")
        self._not_before = now + _ROOM_SECONDS

    def _announce(self, array: JobArray, ids: list[str]) -> None:
        parts = f", an array of {len(ids)}" if len(ids) > 1 else ""
        count = counted(sum(map(len, array.packs)), "cell")
        self._say(f"SLURM job {ids[0].partition('_')[0]}{parts}: {count}; logs in {self._jobs.logs}")
