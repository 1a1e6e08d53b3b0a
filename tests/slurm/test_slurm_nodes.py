"""Nodes that are lost: with their processes, or only from SLURM's sight."""

import pytest
from slurm_lab import wait_until
from study import STEPS, Study

pytestmark = pytest.mark.slow


def test_a_job_whose_node_dies_goes_on_elsewhere_from_the_last_step(study: Study) -> None:
    study.hold(4, "a")
    launch = study.launch("+model.kwargs.name=a")
    study.await_hold()
    (job,) = study.jobs()
    node = study.lab.nodes_of()[job]
    study.lab.kill_node(node)
    study.release()
    assert launch.ends(180) == 0, study.told()
    # The step that was in training when the power went is trained again.
    study.is_complete("a", steps=STEPS + 1)
    assert study.records()["a"]["provenance"]["resumes"] == 1
    first, second = study.starts(job)
    assert first.node == node != second.node


def test_a_job_on_a_node_that_only_slurm_has_lost_ends_there_and_is_not_trained_twice(study: Study) -> None:
    study.hold(4, "a")
    launch = study.launch("+model.kwargs.name=a")
    study.await_hold()
    (job,) = study.jobs()
    node = study.lab.nodes_of()[job]
    study.lab.cut_off(node)
    log = f"{job}_0_log.out"
    wait_until(lambda: "waits: it is being trained by" in study.printed(log), 180, study.told)
    assert study.records() == {}
    study.release()
    assert launch.ends() == 0, study.told()
    study.is_complete("a")
    assert study.processes() == {"a": 1}
    first, second = study.starts(job)
    assert first.node == node != second.node
