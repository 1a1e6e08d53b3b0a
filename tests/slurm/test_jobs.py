import dataclasses
import json
import os
import pickle
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from programs import Cluster
from support import ROOT, MakeConfig

import hydra_plugins.strive as plugin
from strive.cells.records import Status
from strive.cells.task import Task, task_of, write_tasks
from strive.config.platform_keys import NeedsConfig
from strive.errors import ConfigError, NoAnswerError, QueueError, SubmitError, TooManyJobsError
from strive.launch.failure_record import write_failure
from strive.launch.launch_folder import cancel_file
from strive.multirun import sweeping
from strive.options import SlurmOptions
from strive.slurm import jobs
from strive.slurm.job import REQUEUE_CODE
from strive.slurm.jobs import (
    JobArray,
    SlurmJobs,
    _cores,
    continue_command,
    live_cells,
    needs_of,
    packed,
    submissions,
)
from strive.slurm.sbatch import outside_of_a_job
from strive.sweeps.compose import Composer

MakeTask = Callable[..., Task]


@pytest.fixture
def make_task(make_small: MakeConfig) -> MakeTask:
    def make(*overrides: str) -> Task:
        config = make_small(*overrides)
        return task_of(config)

    return make


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return Cluster(tmp_path / "bin")


@pytest.fixture
def make_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SlurmJobs]:
    monkeypatch.chdir(tmp_path)

    def make(tasks: list[Task], stamp: str = "20260101-000000-aaaa", **options: object) -> SlurmJobs:
        folder = tmp_path / "runs" / "sweeps" / "grid" / stamp
        folder.mkdir(parents=True)
        write_tasks(folder / "tasks.jsonl", tasks)
        return SlurmJobs(folder, SlurmOptions(**({"snapshot": False} | options)))  # type: ignore[arg-type]

    return make


def make_arrays(jobs: SlurmJobs, *packs: list[int]) -> list[JobArray]:
    """Return arrays with a job for each of these cells."""
    needs = jobs.arrays([0])[0].needs
    return [JobArray(needs, [[number] for number in numbers]) for numbers in packs]


def test_cells_that_share_a_net_come_into_one_job(make_task: MakeTask) -> None:
    nets = ("model=all_cnn_a", "model=model_a", "model=all_cnn_a", "model=model_a", "model=all_cnn_a")
    tasks = {10 + place: make_task(net, f"seed={place}") for place, net in enumerate(nets)}
    (packs,) = packed(tasks, SlurmOptions(cells_per_job=3)).values()
    assert packs == [[10, 12, 14], [11, 13]]


def test_a_cells_own_needs_go_before_the_launchers(make_task: MakeTask) -> None:
    tasks = [
        make_task("seed=0"),
        make_task("seed=1", "needs.timeout_min=7", "needs.gres=gpu:2"),
        make_task("seed=2", "needs.mem_gb=2.5"),
        make_task("seed=3"),
        make_task("seed=4", "needs.partition=big", "needs.qos=long", "needs.constraint='a100|h100'", "needs.cpus=8"),
    ]
    options = SlurmOptions(timeout_min=30, mem_gb=1, gres="gpu:1", partition="small", cells_per_job=9)
    launchers = needs_of(NeedsConfig(), options)
    assert packed(dict(enumerate(tasks)), options) == {
        launchers: [[0, 3]],
        replace(launchers, timeout_min=7, gres="gpu:2"): [[1]],
        replace(launchers, mem_gb=2.5): [[2]],
        replace(launchers, partition="big", qos="long", constraint="a100|h100", cpus=8): [[4]],
    }


def test_a_time_limit_too_short_for_a_checkpoint_is_refused(
    make_task: MakeTask, make_jobs: Callable[..., SlurmJobs], cluster: Cluster
) -> None:
    jobs = make_jobs([make_task("seed=0"), make_task("seed=1", "needs.timeout_min=1")])
    with pytest.raises(ConfigError, match=r"signal_delay_s=90 must be less .* needs.timeout_min=1, 60 s"):
        jobs.arrays([0, 1])


def test_a_cell_is_given_the_gpus_and_cores_that_it_needs(
    make_task: MakeTask, make_jobs: Callable[..., SlurmJobs], cluster: Cluster
) -> None:
    large = ("needs.gres='gpu:4'", "needs.gpus=4", "needs.cpus=8")
    jobs = make_jobs([make_task("seed=0"), make_task("seed=1", *large)], gres="gpu:1", cells_per_job=2)
    for array in jobs.arrays([0, 1]):
        jobs.submit(array)
    pickles = [pickle.loads(path.read_bytes())[0].options for path in jobs.logs.glob("*.pkl")]
    assert {(given.gpus_per_cell, given.cpus_per_cell) for given in pickles} == {(None, 0), (4, 8)}
    assert [cluster.options(job)["cpus-per-task"] for job in (41, 42)] == ["1", "8"]


def test_an_array_is_no_longer_than_the_cluster_allows(
    make_task: MakeTask, make_jobs: Callable[..., SlurmJobs], cluster: Cluster
) -> None:
    tasks = [make_task(f"seed={seed}") for seed in range(7)]
    jobs = make_jobs(tasks)
    assert [len(array.packs) for array in jobs.arrays(range(7))] == [3, 3, 1]
    assert [len(array.packs) for array in make_jobs(tasks, "b", max_array_size=5).arrays(range(7))] == [5, 2]


def test_what_sbatch_gets(make_task: MakeTask, make_jobs: Callable[..., SlurmJobs], cluster: Cluster) -> None:
    jobs = make_jobs(
        [make_task(f"seed={seed}", "needs.mem_gb=2.5") for seed in range(2)],
        partition="gpu", account="us", qos="high", constraint="a100", gres="gpu:1", timeout_min=90, cpus_per_cell=3,
        cells_per_job=1, signal_delay_s=45, array_parallelism=1, setup=["module load cuda"], name="grid",
        teardown=["rm -r scratch"], python="apptainer exec --nv image.sif python", srun_args=["--cpu-bind=none"],
        additional_parameters={"nice": 100, "open-mode": "truncate"},
    )  # fmt: skip
    (array,) = jobs.arrays([0, 1])
    assert jobs.submit(array) == ["41_0", "41_1"]
    options = cluster.options(41)
    wanted = {
        "partition": "gpu", "account": "us", "qos": "high", "constraint": "a100", "gres": "gpu:1", "mem": "2560MB",
        "time": "90", "cpus-per-task": "3", "signal": "USR2@45", "array": "0-1%1", "job-name": "grid", "nice": "100",
        "requeue": "", "open-mode": "truncate",
    }  # fmt: skip
    assert wanted.items() <= options.items()
    assert "wckey" not in options, "clusters that check it refuse submitit's"
    text = (cluster.folder / "script-41").read_text()
    assert text.index("module load cuda") < text.index("export PYTHONSAFEPATH=1"), "ours is the last word"
    assert re.search(
        "^srun .* --cpu-bind=none .* apptainer exec --nv image.sif python -u -m strive", text, re.MULTILINE
    )
    assert text.index("strive.slurm.job_main") < text.index("rm -r scratch") < text.index("scontrol requeue")


@pytest.mark.parametrize(("code", "requeues"), [(0, 0), (1, 0), (REQUEUE_CODE, 2)])
def test_the_script_ends_as_its_task_and_puts_the_job_back_where_that_says_so(
    make_task: MakeTask, make_jobs: Callable[..., SlurmJobs], cluster: Cluster, code: int, requeues: int
) -> None:
    jobs = make_jobs([make_task(f"seed={seed}") for seed in range(2)], setup=["set -eu"], teardown=["echo cleaned up"])
    jobs.submit(*jobs.arrays([0, 1]))
    cluster.script("srun", f"exit {code}")
    # slurmctld is busy at first
    cluster.script("scontrol", f'cd {cluster.folder}; echo "$@" >> asked; [ $(wc -l < asked) -gt 1 ]')
    environment = os.environ | {"SLURM_JOB_ID": "43", "SLURM_ARRAY_JOB_ID": "41", "SLURM_ARRAY_TASK_ID": "1"}
    script = ["bash", str(cluster.folder / "script-41")]
    ended = subprocess.run(script, env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (code, "cleaned up\n"), ended.stderr
    asked = cluster.folder / "asked"
    assert (asked.read_text() if asked.exists() else "") == "requeue 41_1\n" * requeues


@pytest.mark.parametrize(
    ("given", "cores"),
    [
        ({}, 1),
        ({"cpus_per_cell": 4}, 4),
        ({"cpus_per_cell": 4, "cells_at_once": 3}, 12),
        ({"cpus_per_cell": 4, "cells_at_once": 30}, 40),
        ({"cpus_per_cell": 4, "gres": "gpu:a100:2"}, 8),
        ({"cpus_per_cell": 4, "gres": "gpu:2", "gpus_per_cell": 2}, 4),
        ({"cpus_per_cell": 4, "gres": "shard:1,gpu", "cells_per_gpu": 2}, 8),
        ({"gres": "gpu:4", "gpus_per_cell": 0}, 1),
        ({"gres": "gpu:4", "processes_per_cell": 2}, 4),
    ],
)
def test_a_job_asks_for_the_cores_of_all_cells_that_it_trains_at_once(given: dict[str, Any], cores: int) -> None:
    options = SlurmOptions.of({"cells_per_job": 10} | given)
    assert _cores(options, options.gres) == cores


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("hydra.launcher.additional_parameters={mail_type: FAIL}", {"mail_type": "FAIL"}),
        ("hydra.launcher.additional_parameters={requeue: false, mail-type: 'END,FAIL'}",
         {"requeue": False, "mail-type": "END,FAIL"}),
        ("hydra.launcher.additional_parameters.nice=100", {"nice": 100}),
        ("+hydra.launcher.additional_parameters.nice=100", {"nice": 100}),
    ],
)  # fmt: skip
def test_any_option_of_sbatch_can_be_given_on_the_command_line(
    composer: Composer, override: str, value: dict[str, object]
) -> None:
    loader = GlobalHydra.instance().config_loader()
    config = loader.load_configuration("config", ["hydra/launcher=slurm", override], RunMode.MULTIRUN)
    assert config.hydra.launcher.additional_parameters == value


def test_a_user_can_take_an_option_of_ours_away(
    make_task: MakeTask, make_jobs: Callable[..., SlurmJobs], cluster: Cluster
) -> None:
    jobs = make_jobs([make_task()], additional_parameters={"requeue": False})
    jobs.submit(*jobs.arrays([0]))
    assert "requeue" not in cluster.options(41)


def test_job_ids_are_on_disk_after_each_array(
    make_task: MakeTask, make_jobs: Callable[..., SlurmJobs], cluster: Cluster
) -> None:
    jobs = make_jobs([make_task(f"seed={seed}") for seed in range(5)])
    cluster.refuse("sbatch: error: Batch job submission failed: Invalid qos specification\n", after=1)
    first, second = jobs.arrays(range(5))
    jobs.submit(first)
    with pytest.raises(SubmitError, match="sbatch refused: Batch job submission failed: Invalid qos specification"):
        jobs.submit(second)
    written = json.loads((jobs.folder / "jobs.json").read_text())
    assert written == {"41_0": [0], "41_1": [1], "41_2": [2]}
    assert submissions(jobs.folder.parents[2]) == dict.fromkeys(written, jobs.folder)


@pytest.mark.parametrize(
    ("words", "has_room_later"),
    [
        ("sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed", True),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit", True),
        ("sbatch: error: QOSMaxSubmitJobPerAccountLimit", True),
        ("sbatch: error: AssocGrpSubmitJobsLimit\nJob violates accounting/QOS policy (job submit limit, ...)", True),
        ("sbatch: error: QOSGrpSubmitJobsLimit", True),
        ("sbatch: error: AssocGrpCPUMinutesLimit (job submit limit, user's size ...)", True),
        ("sbatch: error: QOSGrpGRES (job submit limit, user's size and/or time limits)", True),
        ("sbatch: error: QOSMaxCpuPerJobLimit (job submit limit, user's size and/or time limits)", False),
        ("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", False),
    ],
)
def test_a_full_queue_is_told_from_a_wrong_option(
    make_task: MakeTask, make_jobs: Callable[..., SlurmJobs], cluster: Cluster, words: str, has_room_later: bool
) -> None:
    jobs = make_jobs([make_task("seed=0"), make_task("seed=1")])
    cluster.refuse(words)
    with pytest.raises(TooManyJobsError) as error:
        jobs.submit(*jobs.arrays([0, 1]))
    assert error.value.has_room_later == has_room_later
    assert list(jobs.logs.iterdir()) == [], "nothing is left of it: it may be tried for hours"


@pytest.mark.parametrize(
    "words",
    [
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
        "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
        "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received",
        "sbatch: error: Batch job submission failed: Resource temporarily unavailable",
        "sbatch: error: Batch job submission failed: Slurm backup controller in standby mode",
        "sbatch: error: Batch job submission failed: Connection refused",
        "sbatch: error: Batch job submission failed: Message receive failure",
    ],
)
def test_what_sbatch_has_not_answered_for_is_submitted_once(
    make_task: MakeTask, make_jobs: Callable[..., SlurmJobs], cluster: Cluster, words: str
) -> None:
    jobs = make_jobs([make_task(f"seed={seed}") for seed in range(3)])
    first, second = make_arrays(jobs, [0, 1], [2])
    # This one is in the queue when the answer gets lost, the other one is not.
    accepted = cluster.accept_and_fail(words)
    with pytest.raises(NoAnswerError):
        jobs.submit(first)
    cluster.set("squeue", f"{accepted}|for my group {first.mark}|(null)\n")
    assert jobs.submit(first) == ["41_0", "41_1"]
    cluster.refuse(words)
    with pytest.raises(NoAnswerError):
        jobs.submit(second)
    cluster.set("squeue", "")
    cluster.refuse("")
    assert jobs.submit(second) == ["43"]
    assert json.loads((jobs.folder / "jobs.json").read_text()) == {"41_0": [0], "41_1": [1], "43": [2]}
    assert not (jobs.folder / "submitting.json").exists()


def test_a_submission_whose_launcher_was_killed_is_found_by_the_next_one(
    make_task: MakeTask, make_jobs: Callable[..., SlurmJobs], cluster: Cluster, tmp_path: Path
) -> None:
    tasks = [make_task(f"seed={seed}") for seed in range(2)]
    jobs = make_jobs(tasks)
    (array,) = jobs.arrays([0, 1])
    cluster.accept_and_fail("sbatch: error: Socket timed out on send/recv operation")
    with pytest.raises(NoAnswerError):
        jobs.submit(array)
    shown = f"{jobs.logs}/{array.mark}.sh"
    # What squeue is asked for first is which job has the mark, then which jobs live.
    cluster.script(
        "squeue", f'case "$*" in *%k*) echo "41|(null)|{shown}";; *) echo "41_[0-1]|PENDING||None|{shown}";; esac'
    )
    assert live_cells(tmp_path / "runs") == {tasks[0].cell: "41_0", tasks[1].cell: "41_1"}
    assert json.loads((jobs.folder / "jobs.json").read_text()) == {"41_0": [0], "41_1": [1]}


def test_what_sbatch_says_after_a_good_end_need_not_hold_the_jobs_number(
    make_task: MakeTask, make_jobs: Callable[..., SlurmJobs], cluster: Cluster
) -> None:
    jobs = make_jobs([make_task()])
    (array,) = jobs.arrays([0])
    cluster.script("sbatch", "echo Welcome to our cluster; echo accepted")
    with pytest.raises(NoAnswerError, match="Welcome to our cluster accepted"):
        jobs.submit(array)
    cluster.set("squeue", f"7|{array.mark}|(null)\n")
    assert jobs.submit(array) == ["7"]


def test_a_slurm_that_does_not_tell_its_jobs_is_asked_again_before_anything_is_submitted(
    make_task: MakeTask, make_jobs: Callable[..., SlurmJobs], cluster: Cluster
) -> None:
    jobs = make_jobs([make_task()])
    (array,) = jobs.arrays([0])
    cluster.accept_and_fail("sbatch: error: Socket timed out on send/recv operation")
    cluster.set("squeue", err="slurm_load_jobs error: Socket timed out on send/recv operation", rc=1)
    for _ in range(3):
        with pytest.raises(NoAnswerError):
            jobs.submit(array)
    assert sorted(path.name for path in cluster.folder.glob("script-*")) == ["script-41"]


def test_what_a_job_prints_goes_below_a_runs_folder_with_a_percent_sign(
    make_task: MakeTask, make_jobs: Callable[..., SlurmJobs], cluster: Cluster, tmp_path: Path
) -> None:
    folder = tmp_path / "100%test_%j" / "runs" / "sweeps" / "grid" / "stamp"
    folder.mkdir(parents=True)
    write_tasks(folder / "tasks.jsonl", [make_task("seed=0"), make_task("seed=1")])
    jobs = SlurmJobs(folder, SlurmOptions(snapshot=False))
    jobs.submit(*jobs.arrays([0, 1]))
    wanted = str(jobs.logs).replace("100%test_%j", "100%%test_%%j") + "/%A_%a_0_log.out"
    assert cluster.options(41)["output"].strip("'") == wanted
    (srun,) = [line for line in (cluster.folder / "script-41").read_text().splitlines() if line.startswith("srun")]
    words = shlex.split(srun)
    outputs = [words[place + 1] for place, word in enumerate(words) if word == "--output"]
    assert outputs[-1] == wanted, "the last one counts"


def test_ctrl_c_while_sbatch_runs_waits_until_the_ids_are_on_disk(
    make_task: MakeTask, make_jobs: Callable[..., SlurmJobs], cluster: Cluster
) -> None:
    jobs = make_jobs([make_task()])
    (array,) = jobs.arrays([0])
    cluster.script("sbatch", f"kill -INT {os.getpid()} $$; echo Submitted batch job 41")
    with pytest.raises(KeyboardInterrupt):
        jobs.submit(array)
    assert json.loads((jobs.folder / "jobs.json").read_text()) == {"41": [0]}


def test_without_slurm_the_user_is_told(
    make_task: MakeTask, make_jobs: Callable[..., SlurmJobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = make_jobs([make_task()], max_array_size=2)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SubmitError, match="no sbatch on the PATH"):
        jobs.submit(*jobs.arrays([0]))


def test_a_job_submitted_from_a_job_inherits_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "SBATCH_PARTITION", "SLURM_CPUS_PER_TASK"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    with outside_of_a_job():
        left = {name for name in os.environ if name.startswith(("SLURM", "SBATCH"))}
        assert left == {"SLURM_CONF"}, "which says where the cluster is"
    assert os.environ["SLURM_JOB_ID"] == "1"


def test_what_a_submission_writes_is_for_the_group_too_where_the_umask_says_so(
    make_task: MakeTask, make_jobs: Callable[..., SlurmJobs], cluster: Cluster
) -> None:
    before = os.umask(0o002)
    try:
        jobs = make_jobs([make_task("seed=0"), make_task("seed=1")], snapshot=True)
        jobs.submit(*jobs.arrays([0, 1]))
    finally:
        os.umask(before)
    found = [path for path in (jobs.folder.parents[2]).rglob("*") if not path.is_symlink()]
    assert {stat.S_IMODE(path.stat().st_mode) & 0o060 for path in found} == {0o060}


def test_jobs_import_the_frozen_code_and_the_frozen_nets(
    make_task: MakeTask, make_jobs: Callable[..., SlurmJobs], cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "nets.py").write_text("def net(num_classes, image_size):\n    pass\n")
    task = make_task()
    config = task.config | {"model.family": "custom", "model.builder": "nets:net"}
    jobs = make_jobs([dataclasses.replace(task, config=config)], snapshot=True)
    jobs.submit(*jobs.arrays([0]))
    text = (cluster.folder / "script-41").read_text()
    (modules,) = re.findall("export STRIVE_MODULES=(.*)", text)
    assert (Path(modules) / "nets.py").exists()
    (source,) = re.findall('PYTHONPATH=(.*?)"', text)
    assert (Path(source) / "strive" / "slurm" / "job.py").exists()
    assert Path(source).is_relative_to(tmp_path / "runs" / "sweeps")


def test_live_cells_are_those_of_jobs_that_slurm_still_has(
    make_task: MakeTask, make_jobs: Callable[..., SlurmJobs], cluster: Cluster, tmp_path: Path
) -> None:
    tasks = [make_task(f"seed={seed}") for seed in range(4)]
    runs = tmp_path / "runs"
    assert live_cells(runs) == {}, "no submission, no question"
    jobs = make_jobs(tasks, cells_per_job=2)
    jobs.submit(*jobs.arrays(range(4)))
    mine = f"{jobs.logs}/41_submission.sh"
    cluster.set("squeue", f"41_0|RUNNING|node1|None|{mine}\n41_1|COMPLETED|node1|None|{mine}\n")
    assert live_cells(runs) == {tasks[0].cell: "41_0", tasks[1].cell: "41_0"}
    # A failure may be tried again by the job; a result may not.
    write_failure(tasks[0], Status.error, "cause", tmp_path / "log.txt")
    assert set(live_cells(runs)) == {tasks[0].cell, tasks[1].cell}


def test_another_clusters_job_with_the_same_id_is_not_ours(
    make_task: MakeTask, make_jobs: Callable[..., SlurmJobs], cluster: Cluster, tmp_path: Path
) -> None:
    task = make_task()
    jobs = make_jobs([task])
    jobs.submit(*jobs.arrays([0]))
    cluster.set("squeue", "41|RUNNING|node1|None|/home/somebody/job.sh\n")
    assert live_cells(tmp_path / "runs") == {}
    cluster.set("squeue", "41|RUNNING|node1|None|(null)\n")
    assert live_cells(tmp_path / "runs") == {task.cell: "41"}, "not every cluster shows the script"


def test_a_slurm_that_does_not_answer_is_an_error_and_none_at_all_is_not(
    make_task: MakeTask, make_jobs: Callable[..., SlurmJobs], cluster: Cluster, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    jobs = make_jobs([make_task()])
    jobs.submit(*jobs.arrays([0]))
    cluster.set("squeue", err="slurm_load_jobs error: Unable to contact slurm controller\n", rc=1)
    with pytest.raises(QueueError, match="does not answer"):
        live_cells(tmp_path / "runs")
    monkeypatch.setenv("PATH", "/nowhere")
    assert live_cells(tmp_path / "runs") == {}


def test_a_launch_asks_a_slurm_that_does_not_answer_again_before_it_plans(
    make_task: MakeTask, make_jobs: Callable[..., SlurmJobs], cluster: Cluster, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    jobs = make_jobs([make_task()])
    jobs.submit(*jobs.arrays([0]))
    answer = "/bin/echo '41|RUNNING|node1|None|(null)'"
    words = "slurm_load_jobs error: Socket timed out on send/recv operation"
    cluster.script(
        "squeue", f"cd {cluster.folder}; echo x >> asked; [ $(wc -l < asked) -gt 2 ] && exec {answer}\n"
        f"echo '{words}' >&2; exit 1"
    )  # fmt: skip
    monkeypatch.setattr(sweeping, "_PAUSES", (0.0, 0.0))
    assert list(sweeping.queued(tmp_path / "runs", plugin.SlurmLauncher()).values()) == ["41"]


def test_a_command_can_be_submitted_to_start_after_jobs(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "program", lambda: [str(ROOT / "src" / "run.py")])
    folder = tmp_path / "runs" / "sweeps" / "table3"
    options = SlurmOptions(partition="gpu", snapshot=False)
    arguments = ["-m", "sweeps=table3", "--config-dir", "mine"]
    assert continue_command(arguments, folder, options, after=["41_0", "41_1", "42"]) == "41"
    assert cluster.options(41)["dependency"] == "afterany:41:42"
    (pickled,) = (folder / "continued").glob("strive-*.pkl")
    program = f"import pickle; print(pickle.load(open({str(pickled)!r}, 'rb'))[0].command)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    # One that waited for its own jobs would hold its allocation for nothing; one that tried again what has
    # failed would never end. Hydra's parser takes overrides in one piece only.
    added = ["hydra.launcher.detach=true", "hydra.sweeper.retrain=none"]
    command = [sys.executable, str(ROOT / "src" / "run.py"), *arguments[:2], *added, *arguments[2:]]
    assert said.stdout.strip() == str(command)


def test_a_command_does_not_go_on_where_what_it_waited_for_was_cancelled(
    make_task: MakeTask, make_jobs: Callable[..., SlurmJobs], cluster: Cluster, tmp_path: Path
) -> None:
    parent = make_jobs([make_task()])
    (job,) = parent.submit(*parent.arrays([0]))
    folder = tmp_path / "runs" / "sweeps" / "child"
    options = SlurmOptions(snapshot=False)
    continue_command(["-m", "sweeps=child"], folder, options, after=[job])
    (pickled,) = (folder / "continued").glob("strive-*.pkl")
    (function,) = pickle.loads(pickled.read_bytes())
    function = replace(function, command=[sys.executable, "-c", "open('started', 'w')"])
    cancel_file(parent.folder).touch()
    function()
    assert not (tmp_path / "started").exists()
    cancel_file(parent.folder).unlink()
    with pytest.raises(SystemExit):
        function()
    assert (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cells_per_job": 0}, "hydra.launcher.cells_per_job must be 1 or more, got 0"),
        ({"timeout_min": 1}, "hydra.launcher.signal_delay_s must be less than the time limit of 60 s"),
        ({"nodes": 2}, "hydra.launcher.nodes=2 share the cells of a job out, of which there are 1: give"),
        ({"poll_seconds": 0}, "hydra.launcher.poll_seconds must be 0.1 or more, got 0"),
    ],
)
def test_an_option_that_means_nothing_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        SlurmOptions(**options).validate()  # type: ignore[arg-type]


def test_every_option_is_in_the_table_of_the_docs() -> None:
    section = (ROOT / "docs" / "slurm.md").read_text().partition("## Every option")[2].partition("\n## ")[0]
    first = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert {name for cell in first for name in re.findall(r"`(\w+)`", cell)} == {
        item.name for item in dataclasses.fields(SlurmOptions)
    }
