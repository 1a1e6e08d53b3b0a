"""Differences between the options of queued jobs and those that a launch now asks for. Imports no torch."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from strive.cells.task import Task, read_tasks
from strive.format import counted
from strive.launch.launch_folder import read_jobs
from strive.slurm.jobs import LAUNCHERS_KEY, OPTIONS, SlurmJobs

# Of the launcher itself, not of its jobs.
_LAUNCHERS = {"poll_seconds", "detach", "max_array_size", "snapshot"}


def option_changes(
    jobs: SlurmJobs, with_job: Mapping[str, str], folder_of: Callable[[str], Path | None]
) -> Iterator[str]:
    """Yield lines on the cells whose jobs of earlier submissions have other options than are wanted now.

    with_job: {cell: job}. folder_of: returns the folder of the submission that a job belongs to.
    """
    groups: dict[str, dict[str, str]] = {}  # {difference: {cell: job}}
    then: dict[Path, tuple[dict[str, Any], dict[str, Task]]] = {}
    wanted = _typed(asdict(jobs.options))
    for task in jobs.tasks:
        job = with_job.get(task.cell, "")
        folder = folder_of(job) if job else None
        if folder is None:
            continue
        if folder not in then:
            then[folder] = _read(folder)
        options, tasks = then[folder]
        if options and task.cell in tasks:
            found = _differences(options, tasks[task.cell], wanted, task)
            groups.setdefault("; ".join(found), {})[task.cell] = job
    groups.pop("", None)
    for difference, cells in groups.items():
        ids = " ".join(_scancel_ids(cells.values(), folder_of))
        yield (
            f"in the queue as submitted earlier: {counted(len(cells), 'cell')}, with {difference}."
            f" To submit them as this command says: scancel {ids}, then the same command again"
        )


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Task]]:
    try:
        options = json.loads((folder / OPTIONS).read_text(encoding="utf-8"))
        return options, {task.cell: task for task in read_tasks(folder / "tasks.jsonl")}
    except (OSError, ValueError, TypeError):
        return {}, {}  # of an earlier version, or deleted


def _typed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as they come back from a file."""
    return dict(json.loads(json.dumps(options, default=str)))


def _differences(options: Mapping[str, Any], submitted: Task, wanted: Mapping[str, Any], task: Task) -> list[str]:
    """Return `key=then, not now` for each value that the job's cell was submitted with and is another one now."""
    then, now = dict(options), dict(wanted)
    # A submission of an earlier version has no word on later keys.
    for name, key in ((name, key) for name, key in LAUNCHERS_KEY.items() if key in options):
        # A cell's own value takes precedence over the launcher's.
        then[key] = getattr(submitted.settings.needs, name) or then.get(key)
        now[key] = getattr(task.settings.needs, name) or now[key]
    then |= {key: value for key, value in submitted.flat.items() if not key.startswith("needs.")}
    now |= {key: value for key, value in task.flat.items() if not key.startswith("needs.")}
    keys = [key for key in now if key not in _LAUNCHERS and key in then and then[key] != now[key]]
    return [f"{key}={_shown(then[key])}, not {_shown(now[key])}" for key in keys]


def _shown(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) or value == "" else str(value)


def _scancel_ids(jobs: Any, folder_of: Callable[[str], Path | None]) -> list[str]:
    """Return what scancel takes: an array as a whole where all of its jobs are meant."""
    meant = set(jobs)
    found: dict[str, None] = {}
    for job in sorted(meant, key=lambda job: [int(part) for part in job.split("_")]):
        array = job.partition("_")[0]
        folder = folder_of(job)
        others = {each for each in read_jobs(folder) if each.partition("_")[0] == array} if folder else {job}
        found[array if others <= meant else job] = None
    return list(found)
