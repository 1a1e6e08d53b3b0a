"""Why a SLURM job ended without some of its cells, and what follows for each of them. Imports no torch."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from strive.cells.records import Status
from strive.launch.failure_record import tail
from strive.slurm.job_log import Start, starts
from strive.slurm.jobs import job_log
from strive.slurm.squeue import Verdict

_BY_STATE = {
    "TIMEOUT": (Status.timeout, "reached its time limit"),
    "DEADLINE": (Status.timeout, "could not end before its deadline"),
    "PREEMPTED": (Status.preempted, "was preempted, and this cluster does not start it again"),
    "NODE_FAIL": (Status.node_fail, "lost its node"),
    "BOOT_FAIL": (Status.node_fail, "got a node that did not boot"),
    "LAUNCH_FAILED": (Status.node_fail, "could not be started on its node"),
    "OUT_OF_MEMORY": (Status.out_of_memory, "took more memory than it had asked for"),
    "CANCELLED": (Status.killed, "was cancelled"),
    "REVOKED": (Status.killed, "was revoked"),
}
_NODES_FAULT = (Status.error, Status.killed, Status.node_fail)


@dataclass(frozen=True, slots=True)
class Fate:
    """What a job's end means for one of its cells."""

    status: Status | None  # None: the cell is not to blame, or has not begun
    cause: str  # one line
    log: str  # what the job printed
    again: bool = True  # whether it may be tried again at all
    bad_node: str = ""  # the node that is to blame: the job ended there before any of its cells began


def fate_of(job: str, verdict: Verdict, cells: Collection[str], submission: Path | None) -> dict[str, Fate]:
    """Return {cell: fate} of the cells without a record of a job that is gone.

    submission: the folder of the submission that the job belongs to; None if there is none any more.
    """
    past = starts(submission / "logs", job) if submission else []
    log = job_log(submission, job) if submission else Path()
    status, cause = _why(job, verdict, past, log)
    # Nobody wants a job back that was cancelled.
    again = verdict.state not in ("CANCELLED", "REVOKED")
    last = past[-1] if past else Start()
    begun = last.unfinished & set(cells)
    node = last.node or verdict.node
    # What a job asked for, memory or time, is as wrong on any other node.
    bad_node = node if again and (last.unfit or (not last.began and status in _NODES_FAULT)) else ""
    fates = {}
    for cell in cells:
        if cell in last.refused:
            fates[cell] = Fate(None, last.refused[cell], str(log), again=False)
        elif cell in last.owned:
            fates[cell] = Fate(None, "another process had it for longer than its job waited", str(log), again)
        elif cell in begun:
            fates[cell] = Fate(status, cause, str(log), again)
        elif bad_node:
            why = f"SLURM job {job} on {node}: {last.unfit}" if last.unfit else cause
            fates[cell] = Fate(None, why, str(log), again, bad_node)
        elif not last.began and again:
            # A job that ends before any of its cells begins is of no use to any of them.
            fates[cell] = Fate(status, cause, str(log), again)
        else:
            fates[cell] = Fate(None, f"{cause}, before the cell began", str(log), again)
    return fates


def _why(job: str, verdict: Verdict, past: list[Start], log: Path) -> tuple[Status, str]:
    where = f" on {verdict.node}" if verdict.node else ""
    if verdict.state in _BY_STATE:
        status, what = _BY_STATE[verdict.state]
        return status, f"SLURM job {job}{where} {what}"
    last = past[-1] if past else None
    if last is not None and last.left is not None:
        return last.left, f"SLURM job {job}{where} stopped: {last.cause}"
    text = tail(log)
    line = telling_line(text)
    if verdict.state == "FAILED" and last is not None and last.unfinished and "Traceback (most recent" not in text:
        # Its program ended without a word; one that fails says why.
        return Status.killed, f"SLURM job {job}{where} was killed from outside (kill -9, or for want of memory)"
    if verdict.state:
        return Status.error, f"SLURM job {job}{where} ended as {verdict.state}: {line or 'it printed nothing'}"
    # slurmctld has forgotten it, and nobody keeps accounts.
    if last is not None:
        return Status.node_fail, f"SLURM job {job} is gone without a word; it was on {last.node or 'an unknown node'}"
    return Status.killed, f"SLURM job {job} is gone, and never started: {line or 'it printed nothing'}"


def telling_line(text: str) -> str:
    """Return the last line of a job's output that says more than that its program has ended."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith("srun: ")]
    return (telling[-1:] or lines[-1:] or [""])[0]
