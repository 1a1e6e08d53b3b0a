"""Settings of sites and users, and their effect in a job."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from slurm_lab import SlurmLab, wait_until
from study import Study

from strive.config.platform_keys import NeedsConfig
from strive.options import SlurmOptions
from strive.slurm import sbatch, squeue
from strive.slurm.jobs import _parameters, frozen_code, needs_of

Printed = Callable[..., str]


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Printed:
    """Return what a job prints that calls a command; it is submitted as cells are."""

    def run(lab: SlurmLab, *command: str, folder: Path = tmp_path, **options: object) -> str:
        for name in ("SLURM_CONF", "PATH"):
            monkeypatch.setenv(name, lab.env[name])
        wanted = SlurmOptions(**options)  # type: ignore[arg-type]
        code = frozen_code([], folder, snapshot=False)
        parameters = _parameters(needs_of(NeedsConfig(timeout_min=5), wanted), wanted, code.setup)
        function = partial(subprocess.run, command)
        (job,) = sbatch.submit(folder / "logs", parameters, [function], sbatch.new_mark(), again=False)
        wait_until(lambda: lab.states().get(job) in ("COMPLETED", "FAILED"), 60, lab.log)
        return (folder / "logs" / f"{job}_0_log.out").read_text()

    return run


def test_a_step_has_the_scripts_environment_where_a_site_exports_none(
    printed: Printed, lab: SlurmLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_EXPORT", "NONE")
    assert "here\n" in printed(lab, "printenv", "OF_THE_SCRIPT", setup=["export OF_THE_SCRIPT=here"])


def test_srun_has_the_users_options_and_the_script_the_lines_after_it(printed: Printed, lab: SlurmLab) -> None:
    said = printed(
        lab, "printenv", "HERE", srun_args=["--label", "--export=ALL,HERE=in the task"], teardown=["echo after"]
    )
    assert said == "0: in the task\nafter\n"


def test_a_task_has_as_many_cores_as_it_asked_for(printed: Printed, strict_lab: SlurmLab) -> None:
    program = "import os; print('cores:', len(os.sched_getaffinity(0)))"
    assert "cores: 2\n" in printed(strict_lab, sys.executable, "-c", program, cpus_per_cell=2)


@pytest.mark.parametrize("name", ["50%", "100%test_%j", "%A%a%%", "a b%u"])
def test_a_percent_sign_in_the_path_of_runs_is_no_more_than_that(
    printed: Printed, lab: SlurmLab, tmp_path: Path, name: str
) -> None:
    assert "printed\n" in printed(lab, "echo", "printed", folder=tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_array_that_sbatch_says_nothing_of_is_found_and_not_submitted_again(study: Study) -> None:
    lab = study.lab
    place = study.folder / "bin"
    place.mkdir()
    genuine = lab.run("which", "sbatch").strip()
    # Takes the first submission and loses the answer, as a busy slurmctld does.
    (place / "sbatch").write_text(
        f'#!/bin/sh\n{genuine} "$@" > {place}/said || exit\n[ -e {place}/once ] && exec cat {place}/said\n'
        f"touch {place}/once\necho 'sbatch: error: Socket timed out on send/recv operation' >&2\nexit 1\n"
    )
    (place / "sbatch").chmod(0o755)
    study.environ["PATH"] = f"{place}:{lab.env['PATH']}"
    before = set(lab.states())
    lab.run("scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        launch = study.launch("+model.kwargs.name=a,b", "hydra.launcher.detach=true")
        assert launch.ends() == 0, study.told()
        assert "Socket timed out on send/recv operation; tried again until it answers" in launch.said()
        assert set(lab.states()) - before == set(study.jobs())
        assert len(study.jobs()) == 2
    finally:
        lab.run("scontrol", "update", "PartitionName=main", "State=UP")
        lab.run("scancel", *study.jobs())


def test_another_users_words_in_a_jobs_comment_stay_beside_ours(
    lab: SlurmLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, lab.env[name])
    options = SlurmOptions(additional_parameters={"comment": "for the group", "hold": True})
    mark, parameters = sbatch.new_mark(), _parameters(needs_of(NeedsConfig(timeout_min=5), options), options, [])
    jobs = sbatch.submit(tmp_path, parameters, [partial(print), partial(print)], mark, again=False)
    assert lab.run("squeue", "-h", "-o", "%k", "-j", jobs[0]).strip() == f"for the group {mark}"
    assert sbatch.array_ids(squeue.job_with(mark), 2) == jobs
    lab.run("scancel", *jobs)
