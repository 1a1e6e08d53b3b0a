"""Client of squeue and sacct: in which phase jobs are; no answer is never taken for an end. Imports no torch.

slurmctld forgets a job some minutes after its end, so a job that squeue does not know may be finished, or
may never have been; only sacct can tell, and many clusters have none. Each question is one call for all jobs.
"""

import os
import re
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum, auto

from strive.errors import NoSlurmError, QueueError

_POLLS = 3  # in a row without a live job: SLURM shows passing states while it puts a job back into the queue
_DOUBT_SECONDS = 600.0  # how long squeue and sacct may contradict each other before the older state is dropped
_CALL_SECONDS = 60.0  # a busy slurmctld may need long, and squeue itself gives up only after minutes
_IDS_PER_CALL = 5000  # one argument of a program has at most 128 KiB

_SUSPENDED = {"SUSPENDED", "STOPPED"}
_PENDING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
# Ends that SLURM itself may turn into another start.
_PASSING = {"NODE_FAIL", "PREEMPTED", "BOOT_FAIL"}
_TERMINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE", "REVOKED", "LAUNCH_FAILED"}


class JobPhase(StrEnum):
    """Phases of a job that a launcher tells apart."""

    pending = auto()
    running = auto()
    suspended = auto()
    gone = auto()  # it will do nothing more
    unknown = auto()  # SLURM did not answer, or not often enough to be sure


@dataclass(frozen=True, kw_only=True, slots=True)
class JobInfo:
    """Phase, place and reason of a job."""

    phase: JobPhase
    state: str = ""  # SLURM's own word; of a job that is gone the final one, "" if SLURM has forgotten it
    reason: str = ""  # of a pending job: what it waits for
    node: str = ""  # where it runs or ran
    command: str = ""  # the batch script's path, which holds the submission's folder; "" if SLURM does not say

    @property
    def could_not_start(self) -> bool:
        """Whether SLURM holds the job back because its node did not start it, such as where a prolog fails."""
        return self.phase is JobPhase.pending and self.reason.replace("_", " ").startswith("launch failed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Limits of the cluster."""

    array_size: int  # jobs in one array; their indices are below it
    jobs: int  # jobs in the queue, everybody's together


@dataclass(slots=True)
class _History:
    """History of a job's answers."""

    silent: int = 0  # polls in a row in which it was absent or at its end
    doubt_since: float | None = None  # when one source began to contradict the other
    last: JobInfo = JobInfo(phase=JobPhase.unknown)


class SlurmQueue:
    """Remembers what it has seen of each job, so ask the same one again and again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.answers = True  # whether SLURM did when it was asked last
        self._clock = clock
        self._histories: dict[str, _History] = {}
        self._gone: dict[str, JobInfo] = {}
        self._sacct_from = 0.0  # by the clock; infinite where there is no sacct

    def ask(self, jobs: Iterable[str]) -> dict[str, JobInfo]:
        """Return {job: info} for jobs such as 12 or 12_3.

        Raises QueueError where there is no squeue.
        """
        jobs = list(jobs)
        seen = _squeue([job for job in jobs if job not in self._gone])
        self.answers = seen is not None
        if seen is None:
            return {job: self._gone.get(job, JobInfo(phase=JobPhase.unknown)) for job in jobs}
        live = {job: self._live(job, seen.get(job)) for job in jobs if job not in self._gone}
        silent = [job for job, info in live.items() if info is None]
        accounted = self._sacct(silent) if silent else {}
        return {job: self._gone.get(job) or live[job] or self._final(job, accounted.get(job)) for job in jobs}

    def live_now(self, jobs: Iterable[str]) -> dict[str, JobInfo]:
        """Return the jobs that are queued or running, from one look.

        Raises QueueError if SLURM does not answer.
        """
        seen = _squeue(list(jobs))
        if seen is None:
            raise QueueError(
                "SLURM does not answer (squeue), so it is not known which cells are queued; try again when it answers"
            )
        return {job: info for job, info in seen.items() if info.phase is not JobPhase.gone}

    def _live(self, job: str, seen: JobInfo | None) -> JobInfo | None:
        """Return the info as long as the job may be alive; None if only sacct knows more."""
        history = self._histories.setdefault(job, _History())
        if seen is not None:
            history.last = seen
            if seen.phase is not JobPhase.gone and not self._is_stale(history, seen):
                history.silent = 0
                return seen
        history.silent += 1
        return JobInfo(phase=JobPhase.unknown, state=history.last.state) if history.silent < _POLLS else None

    def _is_stale(self, history: _History, seen: JobInfo) -> bool:
        """Return whether a passing state has stayed for so long that nothing will follow it."""
        if seen.state not in _PASSING:
            history.doubt_since = None
            return False
        return self._for_long(history)

    def _for_long(self, history: _History) -> bool:
        history.doubt_since = self._clock() if history.doubt_since is None else history.doubt_since
        return self._clock() - history.doubt_since >= _DOUBT_SECONDS

    def _final(self, job: str, accounted: str | None) -> JobInfo:
        """Return the info of a job that squeue has lost. accounted: the state that sacct shows, None if it has none."""
        history = self._histories[job]
        if accounted is not None and accounted not in _TERMINAL | _PASSING:
            if not self._for_long(history):
                return JobInfo(phase=JobPhase.unknown, state=accounted)
            accounted = None
        # What squeue saw last is no end if the job was running then.
        seen = history.last.state if history.last.state in _TERMINAL | _PASSING else ""
        self._gone[job] = JobInfo(phase=JobPhase.gone, state=accounted or seen, node=history.last.node)
        del self._histories[job]
        return self._gone[job]

    def _sacct(self, jobs: Collection[str]) -> dict[str, str]:
        """Return {job: state} as far as sacct answers."""
        states: dict[str, str] = {}
        if self._clock() < self._sacct_from:
            return states
        for ids in _chunks(jobs):
            answer = _call(["sacct", "-X", "-n", "-P", "-o", "JobID,State", "-j", ids])
            if answer is None or answer.returncode:
                # A database that is down comes back; a missing program, or accounting, does not.
                never = not _installed(answer) or (answer is not None and "disabled" in answer.stderr)
                self._sacct_from = float("inf") if never else self._clock() + _DOUBT_SECONDS / 10
                return states
            for line in answer.stdout.splitlines():
                job, _, state = line.partition("|")
                # "CANCELLED by 1000"
                states |= dict.fromkeys(expanded(job), state.partition(" ")[0])
        return states


def limits() -> Limits:
    """Return the cluster's limits.

    Raises QueueError if SLURM does not answer.
    """
    answer = _call(["scontrol", "show", "config"])
    if not _installed(answer):
        raise NoSlurmError("there is no scontrol on the PATH: hydra/launcher=slurm is for a machine that has SLURM")
    if answer is None or answer.returncode:
        raise QueueError(f"SLURM does not answer (scontrol show config): {_said(answer)}")
    found = dict(re.findall(r"^(\w+)\s*= (\d+)", answer.stdout, re.MULTILINE))
    # 0 and 1 switch arrays off.
    return Limits(array_size=max(1, int(found.get("MaxArraySize", 1001))), jobs=int(found.get("MaxJobCount", 10_000)))


def job_with(mark: str) -> str:
    """Return the job, or the whole array, of this user that has a mark in its comment or its script's name.

    "" if slurmctld knows none.

    Raises QueueError if SLURM does not answer.
    """
    answer = _call(["squeue", "-h", "-a", "-t", "all", "-u", str(os.getuid()), "-o", "%F|%k|%o"])
    if answer is None or answer.returncode:
        raise QueueError(f"SLURM does not answer (squeue): {_said(answer)}")
    return next((line.partition("|")[0] for line in answer.stdout.splitlines() if mark in line), "")


def exclude(jobs: Iterable[str], nodes: str) -> None:
    """Keep jobs that wait from nodes. What runs, or cannot be changed here, is left as it is."""
    for job in sorted({job.partition("_")[0] for job in jobs}, key=int):
        _call(["scontrol", "update", f"JobId={job}", f"ExcNodeList={nodes}"])


def release(jobs: Iterable[str]) -> None:
    """Let jobs run that SLURM holds back; nothing happens where that is not allowed."""
    _call(["scontrol", "release", ",".join(jobs)])


def cancel(jobs: Iterable[str]) -> str:
    """Cancel jobs and return what scancel says, "" if nothing."""
    answer = _call(["scancel", *jobs])
    return answer.stderr.strip() if answer else "scancel: no answer in time"


def start_after(job: str, others: Iterable[str]) -> None:
    """Let a job that is held start when one of the others has ended."""
    _call(["scontrol", "update", f"JobId={job}", "Dependency=" + "?".join(f"afterany:{each}" for each in others)])
    release([job])


def expanded(job: str) -> list[str]:
    """Return the single jobs of an id: 7_[0-2,5%4] is 7_0, 7_1, 7_2 and 7_5."""
    base, bracket, indices = job.partition("_[")
    if not bracket:
        return [job]
    found = []
    for part in indices.rstrip("]").partition("%")[0].split(","):
        first, _, last = part.partition("-")
        last, _, step = (last or first).partition(":")
        found += [f"{base}_{index}" for index in range(int(first), int(last) + 1, int(step or 1))]
    return found


def _squeue(jobs: Collection[str]) -> dict[str, JobInfo] | None:
    """Return {job: info} of the jobs that slurmctld knows, or None if it does not answer."""
    found: dict[str, JobInfo] = {}
    for ids in _chunks(jobs):
        # -a: jobs in hidden partitions too; -t all: finished ones as long as they are remembered.
        answer = _call(["squeue", "-h", "-r", "-a", "-t", "all", "-o", "%i|%T|%N|%r|%o", "-j", ids])
        if not _installed(answer):
            raise NoSlurmError("there is no squeue on the PATH: hydra/launcher=slurm is for a machine that has SLURM")
        if answer is None:
            return None
        # A single id that slurmctld has forgotten is an error, one of several is not.
        if answer.returncode and "Invalid job id" not in answer.stderr:
            return None
        for line in answer.stdout.splitlines():
            if line.count("|") < 4:
                continue  # a warning
            job, state, node, reason, command = line.split("|", 4)
            info = JobInfo(phase=_phase(state), state=state, reason=reason, node=node, command=command)
            found |= dict.fromkeys(expanded(job), info)
    return {job: found[job] for job in jobs if job in found}


def _phase(state: str) -> JobPhase:
    if state in _TERMINAL:
        return JobPhase.gone
    if state in _SUSPENDED:
        return JobPhase.suspended
    # An unknown state, of a later SLURM, counts as running: a job must not be given up for it.
    return JobPhase.pending if state in _PENDING | _PASSING else JobPhase.running


def _chunks(jobs: Collection[str]) -> Iterator[str]:
    # An array's id stands for all its jobs: asking for each takes slurmctld much longer.
    ids = sorted({job.partition("_")[0] for job in jobs}, key=int)
    for start in range(0, len(ids), _IDS_PER_CALL):
        yield ",".join(ids[start : start + _IDS_PER_CALL])


_NOT_INSTALLED = subprocess.CompletedProcess[str]([], 127, "", "")


def _installed(answer: subprocess.CompletedProcess[str] | None) -> bool:
    return answer is not _NOT_INSTALLED


def _said(answer: subprocess.CompletedProcess[str] | None) -> str:
    return "no answer in time" if answer is None else answer.stderr.strip() or f"exit code {answer.returncode}"


def _call(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    """Return what a program of SLURM answered, or None if it took too long."""
    # A user's SQUEUE_STATES, SQUEUE_USERS, SACCT_FORMAT... would hide jobs.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SACCT_"))}
    try:
        return subprocess.run(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_CALL_SECONDS,
            # A terminal's Ctrl-C is for the launcher.
            start_new_session=True,
        )
    except FileNotFoundError:
        return _NOT_INSTALLED
    except subprocess.TimeoutExpired:
        return None
