"""A sweep whose values come from another one, submitted and left alone."""

import json

import pytest
from slurm_lab import wait_until
from study import EPOCHS, STEPS, Study

pytestmark = pytest.mark.slow

LR = """
question: Which learning rate?
fixed: {data.val_images: 400, model.kwargs.name: parent}
grid: {optimizer.lr: [0.02, 0.3]}
"""
CHILD = """
question: Which seed?
fixed: {model.kwargs.name: child}
grid: {seed: [0, 1]}
choose:
  optimizer.lr: {sweep: my_lr, by: val_error, per: []}
"""


def test_a_detached_sweep_with_parents_goes_on_by_a_job_that_depends_on_them(study: Study) -> None:
    folder = study.folder / "mine" / "sweeps"
    folder.mkdir(parents=True)
    (folder / "my_lr.yaml").write_text(LR)
    (folder / "child.yaml").write_text(CHILD)
    study.hold(2, "parent")
    launch = study.launch(
        "sweeps=child", "hydra.sweeper.parents=true", "hydra.launcher.detach=true", "--config-dir", "mine"
    )  # fmt: skip
    assert launch.ends() == 0, study.told()
    assert "starts this command again when they have ended" in launch.said()
    assert "Dependency" in study.lab.run("squeue", "-h", "-o", "%r")
    study.release()

    def results() -> list[dict[str, object]]:
        found = [json.loads(path.read_text()) for path in (study.folder / "runs").glob("*/record.json")]
        return [record["config"] for record in found if record["status"] == "done"]

    wait_until(lambda: len(results()) == 4, 180, lambda: f"four results\n{study.told()}")
    records = [json.loads(path.read_text()) for path in (study.folder / "runs").glob("*/record.json")]
    parents = {
        record["config"]["optimizer.lr"]: record["metrics"]["val_error"]
        for record in records
        if record["config"]["data.val_images"]
    }
    best = min(sorted(parents), key=lambda lr: parents[lr])
    children = [record["config"]["optimizer.lr"] for record in records if not record["config"]["data.val_images"]]
    assert children == [best, best]
    # With 400 images held out, two steps of 500 make an epoch.
    assert study.steps() == {"child": 2 * STEPS, "parent": 2 * EPOCHS * 2}
