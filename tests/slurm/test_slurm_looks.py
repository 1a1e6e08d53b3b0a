"""Seeds until it is decided as jobs: each look is submitted by a job that comes after those of the look before."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slurm_lab import SlurmLab, wait_until
from support import ROOT

from strive.results.load import load_sweep
from strive.results.look_state import LookState

pytestmark = pytest.mark.slow

# A cell holds as long as there is a file HOLD/SEED.
TRAIN = """\
import time
from pathlib import Path
import hydra

BASE = [10.0, 10.6, 9.4, 10.2]
STEPS = {"plain": [0, 0, 0, 0], "worse": [4.0, 4.1, 3.9, 4.0], "same": [0.4, -0.5, 0.3, -0.1]}

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    while Path(HOLD, str(cfg.seed)).exists():
        time.sleep(0.05)
    return {"loss": BASE[cfg.seed] + STEPS[cfg.net][cfg.seed]}

if __name__ == "__main__":
    main()
"""
SWEEP = """\
question: Is another net as good?
grid: {net: [plain, worse, same], seed: "range(0,4)"}
seeds: {looks: [3, 4], shape: 0.5}
table: {rows: [net], columns: [], value: loss, baseline: {net: plain}, margin: 1.5}
"""
# "worse" is a loss at the first look. "same" is not one there: three differences that vary by 0.5 decide nothing yet.
CELLS = {"plain": [0, 1, 2, 3], "same": [0, 1, 2, 3], "worse": [0, 1, 2]}


class Project:
    """A user's app on the cluster, with its sweep."""

    def __init__(self, lab: SlurmLab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        (folder / "conf" / "sweeps").mkdir(parents=True)
        (folder / "hold").mkdir()
        (folder / "train.py").write_text(TRAIN.replace("HOLD", repr(str(folder / "hold"))))
        (folder / "conf" / "config.yaml").write_text("net: plain\nseed: 0\n")
        (folder / "conf" / "sweeps" / "nets.yaml").write_text(SWEEP)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *overrides: str) -> subprocess.Popen[bytes]:
        """Start the command; what it says comes into launch.txt."""
        environ = {name: value for name, value in self.lab.env.items() if not name.startswith("STRIVE_")}
        with (self.folder / "launch.txt").open("ab") as said:
            process = subprocess.Popen(
                [
                    sys.executable, "train.py", "-m", "hydra/sweeper=strive", "sweeps=nets",
                    "hydra.sweeper.until=decided", "hydra.sweeper.tracker.kind=none", *overrides,
                ],
                cwd=self.folder, env=environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def on_slurm(self, *overrides: str) -> subprocess.Popen[bytes]:
        few_jobs = ("hydra.launcher.cells_per_job=3", "hydra.launcher.fresh_process=false")
        return self.start("hydra/launcher=strive_slurm", *few_jobs, "hydra.launcher.poll_seconds=0.5", *overrides)

    def cells(self) -> dict[str, list[int]]:
        """Return {net: seeds with a result}."""
        records = [json.loads(path.read_text()) for path in self.folder.glob("runs/*/record.json")]
        done = [record["config"] for record in records if record["status"] == "done"]
        return {
            net: sorted(each["seed"] for each in done if each["net"] == net) for net in sorted({e["net"] for e in done})
        }

    def stands(self) -> list[str]:
        """Return where each line stands."""
        state = LookState.of(load_sweep("nets", [self.folder / "runs"]))
        assert state is not None
        return list(state.text())

    def fixed(self) -> dict[str, Any]:
        """Return what is fixed at the first look, but for times."""
        content = json.loads((self.folder / "runs" / "sweeps" / "nets" / "looks.json").read_text())
        return {key: value for key, value in content.items() if key not in ("time", "done_before")}

    def continued(self) -> list[str]:
        """Return what each of the jobs that continue the command has said, the first one first."""
        found = (self.folder / "runs" / "sweeps" / "nets" / "continued").glob("*_log.out")
        return [path.read_text() for path in sorted(found, key=lambda path: int(path.name.split("_")[0]))]

    def submissions(self) -> list[Path]:
        """Return the launches that have given cells to SLURM."""
        return [path.parent for path in self.folder.glob("runs/sweeps/nets/*/jobs.json")]

    def told(self) -> str:
        """Return what was printed, for a message."""
        logs = sorted(self.folder.glob("runs/sweeps/**/*_log.out"))
        return "\n".join(f"== {path.name}\n{path.read_text()}" for path in [self.folder / "launch.txt", *logs])

    def await_decision(self) -> None:
        """Wait until a job has said what the last look has decided."""
        wait_until(lambda: self.continued() and "strive tables" in self.continued()[-1], 240, self.told)


@pytest.fixture
def project(lab: SlurmLab, tmp_path: Path) -> Iterator[Project]:
    mine = Project(lab, tmp_path / "project")
    yield mine
    for process in mine.processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if live := [job for job, state in lab.states().items() if state in ("RUNNING", "PENDING", "COMPLETING")]:
        lab.run("scancel", *live)
        wait_until(lambda: not {lab.states().get(job) for job in live} & {"RUNNING", "COMPLETING"}, 60, "jobs to end")


@pytest.fixture(scope="module")
def here(lab: SlurmLab, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same sweep, launched on this machine."""
    mine = Project(lab, tmp_path_factory.mktemp("here") / "project")
    assert mine.start("hydra/launcher=strive_local", "hydra.launcher.fresh_process=false").wait(240) == 0, mine.told()
    return mine


def agree(one: Project, other: Project) -> None:
    """Check that two launches have come to the same cells and verdicts."""
    assert one.cells() == other.cells() == CELLS
    assert one.stands() == other.stands()
    assert one.fixed() == other.fixed()


def test_a_detached_sweep_goes_look_by_look_to_the_decision_of_a_local_run(project: Project, here: Project) -> None:
    assert project.on_slurm("hydra.launcher.detach=true").wait(120) == 0, project.told()
    assert "starts this command again when they have ended" in project.told()
    project.await_decision()
    agree(project, here)


def test_a_launch_killed_during_a_look_is_continued_by_the_same_command(project: Project, here: Project) -> None:
    (project.folder / "hold" / "3").touch()
    launch = project.on_slurm()
    first = {net: [0, 1, 2] for net in CELLS}
    # The first look was made, and a job has begun with the cells of the second.
    wait_until(lambda: len(project.submissions()) == 2 and project.lab.nodes_of(), 180, project.told)
    assert project.cells() == first
    os.killpg(launch.pid, signal.SIGKILL)
    launch.wait()
    again = project.on_slurm("hydra.launcher.detach=true")
    assert again.wait(120) == 0, project.told()
    assert project.cells() == first
    (project.folder / "hold" / "3").unlink()
    project.await_decision()
    # Those that held were in the queue already, and are submitted once.
    assert len(project.submissions()) == 2
    agree(project, here)
