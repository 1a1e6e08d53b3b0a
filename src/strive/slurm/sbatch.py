"""Submits one array, or one job, with sbatch. The script is submitit's. Imports no torch."""

import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from strive.errors import ROOM_LATER, NoAnswerError, QueueError, SubmitError, TooManyJobsError
from strive.slurm.squeue import job_with

EXIT_CODE = "strive_rc"  # the shell's variable for that of Python; unset: 0
_NOT_SUBMITITS = ("additional_parameters", "python", "srun_args")
_CALL_SECONDS = 120.0  # sbatch itself tries for long where slurmctld is busy
_PAUSE_SECONDS = 20.0  # between two tries where SLURM does not answer
_PATIENCE_SECONDS = 1800.0  # how long to try that, if there is nothing else to watch
# Its whole answer when a job exceeds an account's limit on size or time.
_SOME_LIMIT = re.compile("job submit limit")
# Its answers when the jobs may or may not be in the queue, or slurmctld is away for a moment.
_NO_ANSWER = re.compile(
    r"timed out|Unable to contact|Zero Bytes|connection (failure|refused|reset)|Connection refused"
    r"|temporarily unavailable|standby|Message (receive|send) failure|not connected",
    re.IGNORECASE,
)


def new_mark() -> str:
    """Return a mark by which a submission is found in the queue, whatever sbatch has answered."""
    return f"strive-{uuid4().hex[:12]}"


def submit(
    logs: Path, parameters: Mapping[str, Any], functions: Sequence[Callable[[], object]], mark: str, *, again: bool
) -> list[str]:
    """Let SLURM call the functions, each in a job of its own, and return the jobs' ids.

    parameters: submitit's, and `python`, what starts Python. mark: from `new_mark`, in the jobs' comment and their
    script's name. again: sbatch was called with this mark before and has not answered.

    Raises SubmitError if sbatch refuses, TooManyJobsError if it may take them later, NoAnswerError.
    """
    if lacking := [name for name in ("sbatch", "srun") if shutil.which(name) is None]:
        raise SubmitError(f"there is no {lacking[0]} on the PATH: hydra/launcher=slurm is for a machine that has SLURM")
    with outside_of_a_job():
        job = _found(mark) if again else ""
        return array_ids(job or _submitted(logs, parameters, functions, mark), len(functions))


def submit_patiently(
    logs: Path,
    parameters: Mapping[str, Any],
    functions: Sequence[Callable[[], object]],
    say: Callable[[str], object],
) -> list[str]:
    """Do as `submit`, and while SLURM does not answer wait for it, half an hour at most."""
    mark, end = new_mark(), time.monotonic() + _PATIENCE_SECONDS
    again = False
    while True:
        try:
            return submit(logs, parameters, functions, mark, again=again)
        except NoAnswerError as error:
            if time.monotonic() > end:
                raise
            if not again:
                say(f"{error}; tried again until it answers")
            again = True
            time.sleep(_PAUSE_SECONDS)


def array_ids(job: str, number: int) -> list[str]:
    """Return the ids of the jobs of an array, or of a single job."""
    return [f"{job}_{index}" for index in range(number)] if number > 1 else [job]


def _found(mark: str) -> str:
    """Return the job or array that sbatch has put into the queue without an answer, "" if it has not."""
    try:
        return job_with(mark)
    except QueueError as error:
        raise NoAnswerError(str(error)) from None


def _submitted(logs: Path, parameters: Mapping[str, Any], functions: Sequence[Callable[[], object]], mark: str) -> str:
    logs.mkdir(parents=True, exist_ok=True)
    script, called = logs / f"{mark}.sh", logs / f"{mark}.pkl"
    called.write_bytes(pickle.dumps(list(functions)))
    python = parameters.get("python") or shlex.quote(sys.executable)
    # Its exit code is for the lines after it, also where a line before has said `set -e`.
    command = f"{python} -u -m strive.slurm.job_main {shlex.quote(str(called))} || {EXIT_CODE}=$?"
    script.write_text(_script(logs, parameters, len(functions), mark, command))
    try:
        return _sbatch(script)
    except NoAnswerError:
        raise
    except SubmitError:
        # A submission may be tried for hours: keep no file of each try.
        script.unlink()
        called.unlink()
        raise


def _script(logs: Path, parameters: Mapping[str, Any], number: int, mark: str, command: str) -> str:
    import submitit

    executor = submitit.SlurmExecutor(logs)
    # To SLURM a % is the beginning of a job's number or the like.
    output = f"{logs}/".replace("%", "%%") + ("%A_%a_0_log.out" if number > 1 else "%j_0_log.out")
    further = dict(parameters.get("additional_parameters", {}))
    comment = " ".join(filter(None, (str(further.get("comment") or ""), mark)))
    executor.update_parameters(
        **{key: value for key, value in parameters.items() if key not in _NOT_SUBMITITS},
        additional_parameters=further | {"output": output, "comment": comment},
        # The last of two words on the output counts.
        srun_args=[*parameters.get("srun_args", ()), "--output", output],
    )
    if number > 1:
        executor.parameters["map_count"] = number
    return str(executor._make_submission_file_text(command, mark))


def _sbatch(script: Path) -> str:
    try:
        answer = subprocess.run(
            ["sbatch", str(script)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_CALL_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise NoAnswerError(f"sbatch has not answered for {_CALL_SECONDS:g} s") from None
    job = re.search(r"job (\d+)", answer.stdout)
    if answer.returncode == 0 and job:
        return job[1]
    said = answer.stderr if answer.returncode else answer.stdout
    text = "sbatch refused: " + (" ".join(said.replace("sbatch: error: ", "").split()) or f"rc {answer.returncode}")
    if ROOM_LATER.search(text) or _SOME_LIMIT.search(text):
        raise TooManyJobsError(text)
    # After exit code 0 the jobs are there; a site may print its own text instead of their id.
    raise NoAnswerError(text) if _NO_ANSWER.search(text) or answer.returncode == 0 else SubmitError(text)


@contextmanager
def outside_of_a_job() -> Iterator[None]:
    """Hide the variables of the SLURM job that this process may be in: sbatch would take them for options."""
    from submitit.helpers import clean_env

    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    # These belong to the cluster, not to the job.
    kept = {name: os.environ[name] for name in ("SLURM_CONF", "SLURM_CLUSTERS") if name in os.environ}
    with clean_env():
        os.environ.update(kept)
        yield
