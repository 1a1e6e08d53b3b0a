"""The README's commands and the example projects, from a fresh clone, with strive installed from its wheel alone."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pages import commands
from wheel_environment import build_wheel, clean_environ, install

SWEEP = ("-m", "hydra/sweeper=strive", "hydra/launcher=strive_local", "hydra.sweeper.tracker.kind=none")
LAUNCH = ("python", "train.py", *SWEEP)
ONE_CELL = ("sweeps=heads", "model.heads=4", "model.positions=none", "seed=0")
TINY = ("steps=300", "batch_size=2", "context=8", "characters=2000", "val_batches=1", "log_every=50", "model.width=8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


class Project:
    """A project's folder, with an environment of its own beside it."""

    def __init__(self, folder: Path, wheel: Path, *packages: str) -> None:
        self.folder = folder
        self._programs = install(wheel, folder.with_name("environment"), *packages)

    def type(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line of a page as a shell does, with the environment active; it must succeed."""
        done = self.run(*shlex.split(line))
        assert done.returncode == 0, f"{line}: {done.stderr}"
        return done

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._words(command), cwd=self.folder, env=clean_environ(), capture_output=True, text=True, timeout=300
        )

    def run_and_kill(self, *command: str, when: Callable[[], bool]) -> None:
        """Start a command, and kill it with everything that it started in its session as soon as this holds."""
        killed = subprocess.Popen(
            self._words(command), cwd=self.folder, env=clean_environ(), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while not when():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in self.folder.glob("runs/*/record.json")]

    def history(self) -> list[dict[str, Any]]:
        """Return the steps of the one cell that has any."""
        lines = [line for path in self.folder.glob("runs/*/history.jsonl") for line in path.read_text().splitlines()]
        return [json.loads(line) for line in lines]

    def _words(self, command: tuple[str, ...]) -> list[str]:
        return [str(self._programs / command[0]), *command[1:]]


def example(name: str, folder: Path, wheel: Path, *packages: str) -> Project:
    return Project(Path(shutil.copytree(wheel.with_name("clone") / "examples" / name, folder / name)), wheel, *packages)


# The app of the README's first commands, with a formula where there would be a training.
OWN = {
    "train.py": """\
import hydra

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    return {"val_loss": cfg.model.lr * cfg.model.heads + (cfg.model.positions == "none") + 0.02 * cfg.seed}

if __name__ == "__main__":
    main()
""",
    "conf/config.yaml": "seed: 0\nmodel: {lr: 0.1, heads: 4, positions: learned}\n",
    "conf/sweeps/heads.yaml": """\
question: Does it need several heads, and positions?
grid: {model.heads: [1, 4], model.positions: [learned, none], seed: [0, 1]}
table: {rows: [model.heads], columns: [model.positions], value: val_loss}
""",
}


def test_the_readme_s_first_commands_lead_from_an_app_to_its_report(wheel: Path, tmp_path: Path):
    """`make wheel` and `pip install` are the fixture and `install`, which need no index. All else is as it stands."""
    first, question, _, again, *_ = commands("README.md")
    assert first[:3] == [*again, "cd my-project"] == ["make wheel", "pip install dist/strive-*.whl", "cd my-project"]
    for name, content in OWN.items():
        (tmp_path / "my-project" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "my-project" / name).write_text(content)
    project = Project(tmp_path / "my-project", wheel, "submitit")
    for line in first[3:]:
        project.type(line)
    assert [record["status"] for record in project.records()] == ["done"] * 6
    plan, launch, as_jobs, *reading = question
    assert "8 cells: 2 done already, 6 to train" in project.type(plan).stdout  # what the first line trained
    project.type(launch)
    # Needs no cluster, because nothing is left for a job; tests/slurm has jobs.
    assert "8 cells: 8 done already, nothing to train" in project.type(as_jobs).stderr
    shown = [project.type(line).stdout for line in reading]
    # Seeds 0 and 1 have 0.1 x 4 and 0.02 more: mean 0.41, standard deviation 0.02 / sqrt(2).
    assert re.search(r"\| model.heads 4 +\| +0.410 ± 0.014 \| +1.410 ± 0.014 \|", shown[1])
    assert (project.folder / "report.html").is_file()


def test_the_readme_s_example_goes_from_the_wheel_to_its_table(wheel: Path, tmp_path: Path):
    """As it stands, but of the question's 30 cells it trains 8."""
    cd, plan, launch, tables, report = commands("README.md")[2]
    assert cd == "cd examples/table_sklearn"
    project = example("table_sklearn", tmp_path, wheel, "scikit-learn")
    assert "30 cells: 0 done already, 30 to train" in project.type(plan).stdout
    question = project.folder / "conf" / "sweeps" / "models.yaml"
    fewer = question.read_text().replace("[forest, logistic, neighbours]", "[logistic, neighbours]")
    question.write_text(fewer.replace("[0, 1, 2, 3, 4]", "[0, 1]"))
    project.run_and_kill(*shlex.split(launch), when=lambda: bool(project.records()))
    project.type(launch)
    assert "8 cells: 8 done already, nothing to train" in project.type(launch).stderr
    assert "|   2 |" in project.type(tables).stdout
    project.type(report)
    assert "accuracy" in (project.folder / "report.html").read_text()
    failed = project.run(*LAUNCH, "columns=0,30", "model=logistic")
    assert failed.returncode == 1
    statuses = [record["status"] for record in project.records()]
    assert sorted(statuses) == ["done"] * 8 + ["error"], "columns=30 is a cell of the sweep"


def test_an_app_with_checkpoints_goes_on_from_them_after_it_was_killed(wheel: Path, tmp_path: Path):
    project = example("char_lm", tmp_path, wheel, "torch")
    one = (*ONE_CELL, *TINY, "hydra.launcher.checkpoint_minutes=0")
    project.run_and_kill(*LAUNCH, *one, when=lambda: bool(list(project.folder.glob("runs/*/strive-checkpoint"))))
    done = project.run(*LAUNCH, *one)
    assert done.returncode == 0, done.stderr
    (record,) = project.records()
    assert (record["status"], record["provenance"]["resumes"]) == ("done", 1)
    assert [line["step"] for line in project.history()] == list(range(50, 301, 50))
    assert "1 done already, nothing to train" in project.run(*LAUNCH, *one).stderr
    tables = project.run("strive", "tables")
    assert tables.returncode == 0, tables.stderr
    assert f"{record['metrics']['val_loss']:.3f}" in tables.stdout


def test_a_lightning_app_is_made_a_study_by_overrides_alone(wheel: Path, tmp_path: Path):
    """Killed after two epochs; its model, trainer, scheduler and callbacks then go on."""
    project = example("lightning_template", tmp_path, wheel, "scikit-learn", "torch", "lightning")
    command = [
        *("python", "src/train.py", *SWEEP, "+callbacks.strive._target_=strive.lightning.StriveCallback"),
        *("hydra.launcher.resume_overrides=['ckpt_path={checkpoint}']", "hydra.launcher.checkpoint_minutes=0"),
        *("hydra.sweeper.logistics=[callbacks.strive,logger]", "hydra.sweeper.sweep=sweeps/width.yaml"),
        *("model.net.hidden=8", "model.net.dropout=0.3", "seed=0"),
    ]
    histories = project.folder.glob
    project.run_and_kill(
        *command, when=lambda: any(path.read_text().count("\n") >= 2 for path in histories("runs/*/history.jsonl"))
    )
    done = project.run(*command)
    assert done.returncode == 0, done.stderr
    (record,) = project.records()
    assert (record["status"], record["provenance"]["resumes"]) == ("done", 1)
    steps = project.history()
    assert [line["step"] for line in steps] == list(range(1, len(steps) + 1))
    assert {"train/loss", "val/acc"} <= steps[-1].keys()
    assert list(project.folder.glob("runs/train-*/csv")), "the app's own logger writes into the cell's folder"
    assert not (project.folder / "logs").exists()


def test_a_loop_on_two_processes_is_one_cell(wheel: Path, tmp_path: Path):
    project = example("ddp", tmp_path, wheel, "scikit-learn", "torch")
    few = ("hydra.launcher.processes_per_cell=2", "lr=0.1", "steps=40", "log_every=10", "width=8")
    done = project.run(*LAUNCH, *few)
    assert done.returncode == 0, done.stderr
    (record,) = project.records()
    assert record["metrics"]["test_acc"] > 0.1, "better than guessing one of ten digits"
    assert record["provenance"]["given"]["processes"] == 2
    assert [line["step"] for line in project.history()] == [10, 20, 30, 40]
