"""Finds why a SLURM job ended without some of its cells, and which may be tried again. Imports no torch."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from strive.cells.log_file import tail
from strive.cells.records import Status
from strive.slurm.job_log import JobStart, starts
from strive.slurm.jobs import job_log
from strive.slurm.squeue import JobInfo

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
class LostCell:
    """A cell that its job left without a record."""

    status: Status | None  # None: the cell is not the cause, or has not begun
    cause: str  # one line
    log: str  # what the job printed
    again: bool = True  # whether it may be tried again at all
    stuck: bool = False  # whether it had all of its job's time and wrote no checkpoint
    bad_node: str = ""  # the node that is the cause: the job ended there before any of its cells began


def lost_cells(job: str, info: JobInfo, cells: Collection[str], submission: Path | None) -> dict[str, LostCell]:
    """Return {cell: LostCell} of the cells without a record of a job that is gone.

    submission: the folder of the submission that the job belongs to; None if there is none any more.
    """
    past = starts(submission / "logs", job) if submission else []
    log = job_log(submission, job) if submission else Path()
    status, cause = _why(job, info, past, log)
    # A job that was cancelled is not wanted any more.
    again = info.state not in ("CANCELLED", "REVOKED")
    last = past[-1] if past else JobStart()
    begun = last.unfinished & set(cells)
    node = last.node or info.node
    # If the job asked for too little memory or time, any other node is as bad.
    bad_node = node if again and (last.unfit or (not last.began and status in _NODES_FAULT)) else ""
    found = {}
    for cell in cells:
        if cell in last.refused:
            found[cell] = LostCell(None, last.refused[cell], str(log), again=False)
        elif cell in last.owned:
            found[cell] = LostCell(None, "another process had it for longer than its job waited", str(log), again)
        elif cell in begun:
            found[cell] = LostCell(status, cause, str(log), again, stuck=cell in last.stuck)
        elif bad_node:
            why = f"SLURM job {job} on {node}: {last.unfit}" if last.unfit else cause
            found[cell] = LostCell(None, why, str(log), again, bad_node=bad_node)
        elif not last.began and again:
            # The job ended before any of its cells began: the cause holds for each of them.
            found[cell] = LostCell(status, cause, str(log), again)
        else:
            found[cell] = LostCell(None, f"{cause}, before the cell began", str(log), again)
    return found


def _why(job: str, info: JobInfo, past: list[JobStart], log: Path) -> tuple[Status, str]:
    where = f" on {info.node}" if info.node else ""
    if info.state in _BY_STATE:
        status, what = _BY_STATE[info.state]
        return status, f"SLURM job {job}{where} {what}"
    last = past[-1] if past else None
    if last is not None and last.left is not None:
        return last.left, f"SLURM job {job}{where} stopped: {last.cause}"
    text = tail(log)
    line = informative_line(text)
    if info.state == "FAILED" and last is not None and last.unfinished and "Traceback (most recent" not in text:
        # Its program printed no traceback, as one that fails would.
        return Status.killed, f"SLURM job {job}{where} was killed from outside (kill -9, or out of memory)"
    if info.state:
        return Status.error, f"SLURM job {job}{where} ended as {info.state}: {line or 'it printed nothing'}"
    # slurmctld has forgotten it, and there is no accounting.
    if last is not None:
        return (
            Status.node_fail,
            f"SLURM job {job} is gone, and SLURM does not know why; it was on {last.node or 'an unknown node'}",
        )
    return Status.killed, f"SLURM job {job} is gone, and never started: {line or 'it printed nothing'}"


def informative_line(text: str) -> str:
    """Return the last line of a job's output that is not srun's on the end of its program, if there is one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith("srun: ")]
    return (telling[-1:] or lines[-1:] or [""])[0]
