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


def test_bad_nodes_cost_no_cell_and_are_named(study: Study) -> None:
    # SLURM fills node1 first, and again as soon as its jobs have died there; then node2, which it drains, holding the
    # jobs, because a prolog fails.
    bad = 'setup=["[ $SLURMD_NODENAME != node1 ] || { echo no python on this node; exit 3; }"]'
    study.lab.fail_prolog("node2")
    try:
        launch = study.launch("+model.kwargs.name=a,b", f"hydra.launcher.{bad}")
        assert launch.ends(180) == 0, study.told()
    finally:
        study.lab.mend_prolog("node2")
    study.is_complete("a", "b")
    assert launch.said().count("node1 is avoided from now on: SLURM job") == 1
    assert "on node1 ended as FAILED: no python on this node, before any cell began" in launch.said()
    assert "held by SLURM because a node did not start them" in launch.said()
    assert {start.node for job in study.jobs() for start in study.starts(job)} == {"node3"}


def test_where_node_after_node_is_bad_the_launch_stops_with_the_reason(study: Study) -> None:
    launch = study.launch("+model.kwargs.name=a,b", 'hydra.launcher.setup=["echo no module cuda; exit 3"]')
    assert launch.ends() == 1, study.told()
    assert "jobs end on node1, node2, node3 before any cell begins: SLURM job" in launch.said()
    assert "ended as FAILED: no module cuda" in launch.said()
    assert study.records() == {}, "no cell is to blame"
    assert not [job for job, state in study.lab.states().items() if state in ("PENDING", "RUNNING")]
