"""Jobs of a submission: groups cells into jobs, submits them, and keeps their ids on disk. Imports no torch.

jobs.json in the submission's folder is {job id: [lines of tasks.jsonl]}. It is written after each array,
before anything waits, so that a later command finds the jobs of a launch that was killed. submitting.json
has the same, by its mark, for an array that was passed to sbatch and not answered for yet.
"""

import json
import math
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import strive
from strive.app import APP, in_use, sources
from strive.cells import records
from strive.cells.task import Task, read_tasks
from strive.command_line import program
from strive.config import identity
from strive.config.platform_keys import NeedsConfig
from strive.console import CONSOLE
from strive.errors import ConfigError, NoAnswerError, SubmitError
from strive.launch.launch_folder import read_jobs, read_launch
from strive.options import SlurmOptions
from strive.slurm import sbatch, squeue
from strive.slurm.continued import ContinuedLaunch
from strive.slurm.job import REQUEUE_CODE, JobPayload
from strive.slurm.live_jobs import belongs_to
from strive.slurm.snapshot import MODULES, freeze_app, freeze_code, freeze_modules
from strive.slurm.squeue import SlurmQueue

_SUBMITTING = "submitting.json"
OPTIONS = "options.json"  # a submission's hydra.launcher


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What a cell asks of its job; 0 and "" leave it to the cluster."""

    timeout_min: int
    mem_gb: float
    gres: str
    cpus: int
    gpus: int | None
    partition: str
    constraint: str
    qos: str


@dataclass(frozen=True, slots=True)
class JobArray:
    """Jobs that SLURM gets at once: packs of cells with the same needs."""

    needs: Needs
    packs: list[list[int]]  # lines of tasks.jsonl
    mark: str = field(default_factory=sbatch.new_mark)  # by which it is found in the queue


class SlurmJobs:
    """Hands cells of one submission to SLURM."""

    def __init__(self, folder: Path, options: SlurmOptions, *, code: "FrozenCode | None" = None) -> None:
        """code: what was frozen for the submission before."""
        if code is not None:
            self.code = code
        # A job may start in another directory.
        self.folder, self.options = folder.absolute(), options
        self.tasks = read_tasks(self.folder / "tasks.jsonl")
        self.jobs = read_jobs(self.folder)
        self.bad_nodes: list[str] = []  # that no job may run on any more

    @property
    def logs(self) -> Path:
        """Where the jobs write to."""
        return self.folder / "logs"

    @property
    def excluded(self) -> str:
        """The nodes that jobs are kept from, as sbatch has them."""
        return ",".join(filter(None, (str(self.options.additional_parameters.get("exclude") or ""), *self.bad_nodes)))

    def arrays(self, numbers: Sequence[int]) -> list[JobArray]:
        """Return the jobs for these cells, as many in one array as the cluster takes.

        Raises ConfigError for a cell whose time limit is too short for its checkpoint.
        """
        packs = packed({number: self.tasks[number] for number in numbers}, self.options)
        delay = self.options.signal_delay_s
        if short := [needs.timeout_min for needs in packs if delay >= 60 * needs.timeout_min]:
            raise ConfigError(
                f"hydra.launcher.signal_delay_s={delay} must be less than the time limit of each cell, of which one has"
                f" needs.timeout_min={min(short)}, {60 * min(short)} s"
            )
        size = self.array_size
        return [
            JobArray(needs, found[start : start + size])
            for needs, found in packs.items()
            for start in range(0, len(found), size)
        ]

    @cached_property
    def array_size(self) -> int:
        """How many jobs an array may have."""
        if self.options.max_array_size:
            return self.options.max_array_size
        limits = squeue.limits()
        return max(1, min(limits.array_size, limits.jobs))

    @cached_property
    def code(self) -> "FrozenCode":
        """The code that the jobs import."""
        sweeps, snapshot = self.folder.parents[1], self.options.snapshot

        def copied(folder: Path) -> Path:
            return freeze_app(folder, sweeps, without=[sweeps.parent])

        code = frozen_code(self.tasks, self.folder, snapshot=snapshot)
        own = in_use().prepare(self.folder, copied if snapshot else None)
        return replace(code, setup=[*code.setup, *(f"export {name}={shlex.quote(own[name])}" for name in own)])

    def submit(self, array: JobArray) -> list[str]:
        """Submit the jobs, write their ids down, and return them.

        Raises SubmitError if sbatch refuses, TooManyJobsError if it may take them later, NoAnswerError if
        SLURM did not answer: call it again with the same array, which is then looked for in the queue first.
        """
        code = self.code
        packs = [self._payload(numbers, array.needs) for numbers in array.packs]
        parameters = _parameters(array.needs, self.options, code.setup, exclude=self.excluded)
        _write_json(self.folder / OPTIONS, asdict(self.options))
        with _signals_deferred():
            again = array.mark in _submitting(self.folder)
            _write_json(self.folder / _SUBMITTING, {array.mark: array.packs})
            try:
                ids = sbatch.submit(self.logs, parameters, packs, array.mark, again=again)
            except NoAnswerError:
                raise
            except SubmitError:
                (self.folder / _SUBMITTING).unlink()
                raise
            self.jobs |= dict(zip(ids, array.packs, strict=True))
            _write_jobs(self.folder, self.jobs)
        return ids

    def reserve(self, function: Callable[[], object]) -> str:
        """Submit a job that SLURM holds until `let_go`, and return its id.

        Raises SubmitError if sbatch refuses.
        """
        parameters = _helpers_parameters(self.options, self.code.setup)
        parameters["additional_parameters"]["hold"] = True
        with _signals_deferred():
            (job,) = sbatch.submit(self.logs, parameters, [function], sbatch.new_mark(), again=False)
            self.jobs[job] = []
            _write_jobs(self.folder, self.jobs)
        return job

    def let_go(self, job: str, numbers: list[int], after: Sequence[str]) -> None:
        """Give these cells to a reserved job, which starts when one of the others has ended."""
        self.jobs[job] = numbers
        _write_jobs(self.folder, self.jobs)
        squeue.start_after(job, after)

    def give_up(self, job: str) -> list[int]:
        """Cancel a job that has not begun, and return its cells."""
        squeue.cancel([job])
        numbers = self.jobs.pop(job)
        _write_jobs(self.folder, self.jobs)
        return numbers

    def take_from(self, job: str, taken: Mapping[int, str]) -> None:
        """Note that cells of a job that submits cells have jobs of their own now."""
        self.jobs[job] = [number for number in self.jobs[job] if number not in taken]
        _write_jobs(self.folder, self.jobs)

    def _payload(self, numbers: list[int], needs: Needs) -> JobPayload:
        return JobPayload(
            submission=self.folder,
            numbers=numbers,
            code=self.code.folder,
            options=_given(needs, self.options),
            retries=self.options.retries,
            timeout_min=needs.timeout_min,
            signal_delay_s=self.options.signal_delay_s,
        )


@dataclass(frozen=True, slots=True)
class FrozenCode:
    """The code that jobs import, and the shell lines that make them do so."""

    folder: Path | None  # None: nothing is frozen
    setup: list[str]


def frozen_code(tasks: Sequence[Task], submission: Path, *, snapshot: bool) -> FrozenCode:
    """Freeze the project and the modules of custom nets into the folder of the sweeps, which share equal copies.

    Raises SnapshotError if there is too much of it.
    """
    root = Path(strive.__file__).resolve().parents[2]
    # A strive in site-packages is not edited.
    sweeps = submission.absolute().parents[1]

    if not snapshot or not (root / "src" / "strive").is_dir():
        return FrozenCode(None, [_python_path(Path(strive.__file__).resolve().parents[1])])
    code = freeze_code(root, sweeps, without=[sweeps.parent])
    lines = [_python_path(code / "src")]
    builders = {each.partition(":")[0] for task in tasks for each in identity.builders(task.config)}
    modules = freeze_modules(Path.cwd(), builders, sweeps) if builders else None
    if modules is not None:
        lines.append(f"export {MODULES}={shlex.quote(str(modules))}")
    return FrozenCode(code, lines)


def _python_path(folder: Path) -> str:
    # PYTHONSAFEPATH: a strive in the directory that the job starts in must not go first.
    own = f"export PYTHONSAFEPATH=1 {APP}={shlex.quote(os.environ.get(APP, ''))}"
    # An app of its own lies elsewhere; what was frozen with strive goes first.
    folders = dict.fromkeys([str(folder), *(each for each in sources() if not _is_frozen(each))])
    return f'{own} PYTHONPATH={shlex.quote(":".join(folders))}"${{PYTHONPATH:+:$PYTHONPATH}}"'


def _is_frozen(folder: str) -> bool:
    return Path(folder).is_relative_to(Path(strive.__file__).resolve().parents[2])


LAUNCHERS_KEY = {item.name: item.name for item in fields(Needs)} | {"cpus": "cpus_per_cell", "gpus": "gpus_per_cell"}


def needs_of(needs: NeedsConfig, options: SlurmOptions) -> Needs:
    """Return what a cell asks for; where it does not say, what the launcher says."""
    return Needs(**{name: getattr(needs, name) or getattr(options, key) for name, key in LAUNCHERS_KEY.items()})


def _given(needs: Needs, options: SlurmOptions) -> SlurmOptions:
    """Return what each cell of a job is given of its node."""
    return replace(options, cpus_per_cell=needs.cpus, gpus_per_cell=needs.gpus)


def packed(tasks: Mapping[int, Task], options: SlurmOptions) -> dict[Needs, list[list[int]]]:
    """Return {needs: packs}; cells that can train side by side come together as far as possible."""
    groups: dict[Needs, dict[str, list[int]]] = {}
    for number, task in tasks.items():
        kinds = groups.setdefault(needs_of(task.settings.needs, options), {})
        kinds.setdefault(in_use().pack_key(task.flat), []).append(number)
    found = {}
    for needs, kinds in groups.items():
        numbers = [number for same_kind in kinds.values() for number in same_kind]
        step = options.cells_per_job
        found[needs] = [numbers[start : start + step] for start in range(0, len(numbers), step)]
    return found


def job_log(submission: Path, job: str) -> Path:
    """Return what a job of a submission printed; the name is submitit's."""
    return submission / "logs" / f"{job}_0_log.out"


def live_cells(runs: Path) -> dict[str, str]:
    """Return {cell: job} of the cells that earlier submissions have queued or running, and that have no result.

    Asks SLURM once. A machine without SLURM has no jobs.

    Raises QueueError if SLURM does not answer.
    """
    for path in runs.glob(f"sweeps/*/*/{_SUBMITTING}"):
        _finish_submission(path.parent)
    submissions = {path.parent: read_jobs(path.parent) for path in sorted(runs.glob("sweeps/*/*/jobs.json"))}
    jobs = {job for found in submissions.values() for job in found}
    if not jobs or shutil.which("squeue") is None:
        return {}
    live = SlurmQueue().live_now(jobs)
    cells: dict[str, str] = {}
    for folder, found in submissions.items():
        # A cluster that was set up anew counts from 1 again: such a job may be another user's.
        mine = {job for job in found.keys() & live.keys() if belongs_to(live[job].command, folder)}
        if mine:
            tasks = read_tasks(folder / "tasks.jsonl")
            numbers = [(number, job) for job in mine for number in found[job]]
            cells |= {tasks[number].cell: job for number, job in numbers if tasks[number].result() is None}
    return cells


def _finish_submission(folder: Path) -> None:
    """Note the jobs of a launch that was killed, or gave up, while sbatch had them."""
    launch = read_launch(folder)
    if shutil.which("squeue") is None or (launch is not None and launch.alive):
        return  # it does so itself
    jobs = read_jobs(folder)
    for mark, packs in _submitting(folder).items():
        if job := squeue.job_with(mark):
            jobs |= dict(zip(sbatch.array_ids(job, len(packs)), packs, strict=True))
    _write_jobs(folder, jobs)


def _submitting(folder: Path) -> dict[str, list[list[int]]]:
    """Return {mark: packs} of what sbatch has not answered for."""
    try:
        content = json.loads((folder / _SUBMITTING).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return {str(mark): packs for mark, packs in content.items()}


def _write_jobs(folder: Path, jobs: Mapping[str, list[int]]) -> None:
    lines = ",\n".join(f"{json.dumps(job)}: {numbers}" for job, numbers in jobs.items())
    records.write_whole(folder / "jobs.json", f"{{\n{lines}\n}}\n".encode())
    (folder / _SUBMITTING).unlink(missing_ok=True)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    records.write_whole(path, (json.dumps(content, indent=1, default=str) + "\n").encode())


def submissions(runs: Path) -> dict[str, Path]:
    """Return {job: the folder of its submission}, the newest if a cluster gave an id out twice."""
    folders = sorted((path.parent for path in runs.glob("sweeps/*/*/jobs.json")), key=lambda folder: folder.name)
    return {job: folder for folder in folders for job in read_jobs(folder)}


def _parameters(
    needs: Needs, options: SlurmOptions, setup: Sequence[str], dependency: str = "", exclude: str = ""
) -> dict[str, Any]:
    """Return what submitit calls the options of sbatch."""
    given = {
        "partition": needs.partition,
        "account": options.account,
        "qos": needs.qos,
        "constraint": needs.constraint,
        "gres": needs.gres,
        "mem": f"{round(1024 * needs.mem_gb)}MB" if needs.mem_gb else "",
        "dependency": dependency,
    }
    return {key: value for key, value in given.items() if value} | {
        "job_name": options.name,
        "time": needs.timeout_min,
        "cpus_per_task": _cores(_given(needs, options), needs.gres),
        "nodes": options.nodes,
        "ntasks_per_node": 1,
        "array_parallelism": options.array_parallelism,
        "signal_delay_s": options.signal_delay_s,
        # Ours last: a line of the user's must not put another strive first.
        "setup": [*options.setup, *_SRUN_ENVIRONMENT, *setup],
        "teardown": [*options.teardown, *_REQUEUE],
        # One node's end is not the others'.
        "srun_args": [*options.srun_args, *(["--kill-on-bad-exit=0", "--wait=0"] if options.nodes > 1 else [])],
        "python": options.python,
        "stderr_to_stdout": True,
        # submitit sends one, which clusters that check it refuse.
        "wckey": None,
        "additional_parameters": _further_options(options, exclude),
    }


def _cores(options: SlurmOptions, gres: str) -> int:
    """Return how many cores a job asks for on each node: those of a cell, times the cells side by side."""
    groups = _num_gpus(gres) // (options.num_gpus or sys.maxsize)
    at_once = options.cells_at_once or groups * (options.cells_per_gpu or 1) or 1
    return options.num_cpus * min(at_once, math.ceil(options.cells_per_job / options.nodes))


def _num_gpus(gres: str) -> int:
    """Return how many GPUs sbatch's --gres asks for: gpu, gpu:2, gpu:a100:2."""
    found = re.search(r"(?:^|,)(?:gres/)?gpu(?::[a-zA-Z_][^:,]*)?(?::(\d+))?(?:\(.*?\))?(?:,|$)", gres)
    return int(found[1] or 1) if found else 0


# In the script, not in its task: there need be no scontrol in a container. The id is an array's task alone.
_REQUEUE = (
    f'if [ "${{{sbatch.EXIT_CODE}:-0}}" -eq {REQUEUE_CODE} ]; then',
    '    id="${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"',
    '    for pause in 2 2 0; do scontrol requeue "$id" && break; sleep "$pause"; done',
    "fi",
    f'exit "${{{sbatch.EXIT_CODE}:-0}}"',
)

# What srun, unlike the script itself, does not have of its own: the environment where a site or a user wants sbatch
# to export none, and from SLURM 22.05 on the cores of a task.
_SRUN_ENVIRONMENT = ("export SLURM_EXPORT_ENV=ALL", 'export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"')


def _further_options(options: SlurmOptions, exclude: str) -> dict[str, Any]:
    """Return options that submitit does not know; a user's false takes one of ours away."""
    # After a node failure the job starts again, also where a cluster's default says no. The warning
    # is the one that a JobPayload knows, whatever SUBMITIT_PREEMPT_SIGNAL says.
    ours = {"requeue": True, "signal": f"USR2@{options.signal_delay_s}"}
    wanted = ours | {key.replace("-", "_"): value for key, value in options.additional_parameters.items()}
    wanted |= {"exclude": exclude} if exclude else {}
    return {key: value for key, value in wanted.items() if value is not None and value is not False}


@contextmanager
def _signals_deferred() -> Iterator[None]:
    """Let Ctrl-C wait, for sbatch too: between it and jobs.json a job would be lost from sight."""
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.signal(number, lambda number, frame: came.append(number)) for number in numbers}
    # What is blocked here is blocked in sbatch.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for each in came:
            signal.raise_signal(each)


def _program(code: Path | None) -> list[str]:
    """Return what stands behind `python` to start this program, from the frozen code if it has a copy there."""
    first, *rest = program()
    if rest:
        return [first, *rest]
    script, root = Path(first).resolve(), Path(strive.__file__).resolve().parents[2]
    if code is not None and script.is_relative_to(root) and (copy := code / script.relative_to(root)).exists():
        return [str(copy)]
    return [str(script)]


def _with_override(arguments: Sequence[str], override: str) -> list[str]:
    """Put an override behind the others: Hydra's parser takes them only in one piece."""
    first = next((i for i, text in enumerate(arguments) if "=" in text and not text.startswith("-")), len(arguments))
    rest = next((i for i, text in enumerate(arguments[first:], first) if text.startswith("-")), len(arguments))
    return [*arguments[:rest], override, *arguments[rest:]]


def continue_command(arguments: Sequence[str], folder: Path, options: SlurmOptions, *, after: Sequence[str]) -> str:
    """Submit this program with these arguments, to start when the jobs have ended, however they end; return its job.

    It runs in the current directory with the code and the conf/ of now, does not wait for its own
    jobs, and leaves what has failed: or a parent that always fails would be tried for ever.
    folder: the sweep's, for its output.

    Raises SubmitError if sbatch refuses, SnapshotError if the code cannot be frozen.
    """
    code = frozen_code([], folder / "submission", snapshot=options.snapshot)
    command = [
        sys.executable,
        *_program(code.folder),
        *_with_override(_with_override(arguments, "hydra.launcher.detach=true"), "hydra.sweeper.retrain=none"),
    ]
    # To sbatch an array's id stands for all its jobs.
    arrays = dict.fromkeys(job.partition("_")[0] for job in after)
    dependency = f"afterany:{':'.join(arrays)}"
    logs = folder.absolute() / "continued"
    logs.mkdir(parents=True, exist_ok=True)
    known = submissions(folder.absolute().parents[1])
    launches = list(dict.fromkeys(known[job] for job in after if job in known))
    function = ContinuedLaunch(command=command, folder=str(Path.cwd()), launches=launches)
    parameters = _helpers_parameters(options, code.setup, dependency)
    (job,) = sbatch.submit_patiently(logs, parameters, [function], CONSOLE.print)
    return job


def _helpers_parameters(options: SlurmOptions, setup: Sequence[str], dependency: str = "") -> dict[str, Any]:
    """Return the options of a job that trains nothing: one core, no GPU, and no container, for it calls sbatch."""
    needs = replace(needs_of(NeedsConfig(), options), gres="", cpus=1)
    for_training = ("gpu", "exclusive", "tres", "cpus", "mem_per", "mem-per", "dependency")
    further = {key: value for key, value in options.additional_parameters.items() if not key.startswith(for_training)}
    return _parameters(
        needs, replace(options, python="", nodes=1, cells_per_job=1, additional_parameters=further), setup, dependency
    )
