"""Cells that SLURM stops and starts again, shown on a W&B server of the test's own by the genuine client."""

from collections.abc import Iterator

import pytest
from slurm_lab import wait_until
from study import Study
from wandb_peer import Peer

pytestmark = pytest.mark.slow


@pytest.fixture
def peer(study: Study) -> Iterator[Peer]:
    with Peer() as peer:
        # A busy machine is no server that is down.
        study.environ |= peer.environ | {"WANDB_MODE": "online", "WANDB_HTTP_TIMEOUT": "60"}
        yield peer


def test_a_preempted_cell_is_one_w_and_b_run_with_each_epoch_once(study: Study, peer: Peer) -> None:
    study.hold(5, "a")
    launch = study.launch("+model.kwargs.name=a", "hydra.launcher.partition=low")
    study.await_hold()
    (job,) = study.jobs()
    wait_until(lambda: any(shown.history for shown in peer.runs.values()), 30, study.told)
    study.lab.run("sbatch", "-p", "main", "-N", "3", "--exclusive", "-o", "/dev/null", "--wrap", "srun sleep 2")
    wait_until(lambda: study.starts(job)[0].left, 60, study.told)
    wait_until(lambda: any(shown.state == "preempted" for shown in peer.runs.values()), 30, study.told)
    study.release()
    assert launch.ends() == 0, study.told()
    study.is_complete("a")
    study.sync()  # what the end of a job, which waits only so long, may have left
    (cell,) = [shown for shown in peer.runs.values() if shown.job_type == "train"]
    assert [row["epoch"] for row in cell.history] == [1, 2, 3]
    assert (cell.state, cell.summary["status"]) == ("finished", "done")
    # Once as the job comes back; once as the client loses its helper process to the job's SIGTERM; once by sync.
    assert 1 <= cell.resumed <= 3
    assert study.records()["a"]["provenance"]["resumes"] == 1
    for path in study.folder.rglob("*"):
        if path.is_file():
            assert peer.key.encode() not in path.read_bytes(), path
