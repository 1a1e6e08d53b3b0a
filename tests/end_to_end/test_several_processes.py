"""Cells of several processes, of apps as strangers write them, on two CPU processes."""

import contextlib
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

from strive.cells.lease import owner_of

TWO = "hydra.launcher.processes_per_cell=2"
STRIVE = ("-m", "hydra/sweeper=strive", "hydra/launcher=strive_local", "hydra.sweeper.tracker.kind=none")
# Waits of each rank stand for its computations; no rank waits for another but in strive's own calls.
STEPS = """\
import os, pathlib, time
import hydra, strive

RANK = int(os.environ.get("LOCAL_RANK", 0))
TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR")

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    here = strive.current().folder
    (here / f"pid-{RANK}").write_text(str(os.getpid()))
    (here / f"saw-{RANK}").write_text(" ".join(os.environ.get(name, "") for name in TORCHRUN))
    path = strive.load()
    start = int(path.read_text()) if path else 0
    with open(here / f"starts-{RANK}", "a") as file:
        print(start, path, file=file)
    for step in range(start, cfg.steps):
        time.sleep(0.01)
        if cfg.fail and step == 5:
            exec(cfg.fail)
        strive.log(step + 1, loss=1 / (step + 1))
        strive.save(lambda path: path.write_text(str(step + 1)))
        (here / f"step-{RANK}").write_text(str(step + 1))
    return {"steps": step + 1}

if __name__ == "__main__":
    main()
"""
CONF = "steps: 10\nfail: ''\n"


LAUNCHES: list["subprocess.Popen[str]"] = []


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    """Leave no launch of a test that has failed."""
    yield
    for launch in LAUNCHES:
        with launch:
            if launch.poll() is None:
                os.killpg(launch.pid, signal.SIGKILL)
    LAUNCHES.clear()


class Project:
    """A folder with an app."""

    def __init__(self, folder: Path, **files: str) -> None:
        self.folder = folder
        for name, text in files.items():
            self.write(name.replace("__", "/") + (".yaml" if "__" in name else ".py"), text)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)

    def start(self, *arguments: str, mode: tuple[str, ...] = STRIVE, **more: str) -> "subprocess.Popen[str]":
        """Start a launch. more: of its environment."""
        lean = {name: value for name, value in os.environ.items() if not name.startswith(("STRIVE_", "WANDB_"))}
        launch = subprocess.Popen(
            [sys.executable, "train.py", *mode, *arguments], cwd=self.folder, start_new_session=True, text=True,
            env=lean | {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "160"} | more,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        LAUNCHES.append(launch)
        return launch

    def run(self, *arguments: str, code: int = 0, mode: tuple[str, ...] = STRIVE) -> dict[str, Any]:
        """Run a launch of one cell to its end, and return the cell's record."""
        launch = self.start(*arguments, mode=mode)
        said, _ = launch.communicate(timeout=240)
        assert launch.returncode == code, f"{said}\n{self.logs()}"
        return self.record()

    def record(self) -> dict[str, Any]:
        (path,) = self.folder.glob("runs/*/record.json")
        record: dict[str, Any] = json.loads(path.read_text())
        return record

    @property
    def cell(self) -> Path:
        found = [path for path in self.folder.glob("runs/*/") if path.name != "sweeps"]
        return found[0] if found else self.folder / "runs" / "none yet"

    def read(self, name: str) -> str:
        path = self.cell / name
        return path.read_text() if path.exists() else ""

    def logs(self) -> str:
        return "\n".join(f"{path}:\n{path.read_text()}" for path in self.folder.glob("runs/**/*log*") if path.is_file())

    def await_(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.02)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path, train=STEPS, conf__config=CONF)


def is_there(pid: str) -> bool:
    """pid: empty if the process had not come to its first line when its cell ended."""
    if not pid:
        return False
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_each_process_has_the_environment_of_torchrun_and_rank_0_alone_writes(project: Project):
    record = project.run(TWO)
    assert record["metrics"] == {"steps": 10}
    assert record["provenance"]["given"]["processes"] == 2
    assert project.read("saw-0") == "0 0 2 2 0 127.0.0.1"
    assert project.read("saw-1") == "1 1 2 2 0 127.0.0.1"
    assert len(project.read("history.jsonl").splitlines()) == 10


def test_all_processes_stop_at_the_same_step_and_go_on_from_the_same_checkpoint(project: Project):
    launch = project.start(TWO, "steps=400")
    first = random.randrange(60)
    project.await_(lambda: int(project.read("step-1") or 0) > first)
    launch.terminate()
    launch.communicate(timeout=120)
    assert launch.returncode == 130
    assert not any(is_there(project.read(f"pid-{rank}")) for rank in (0, 1))
    assert project.run(TWO, "steps=400")["metrics"] == {"steps": 400}
    assert project.read("starts-0") == project.read("starts-1")
    (stopped,) = (int(line.split()[0]) for line in project.read("starts-1").splitlines()[1:])
    assert stopped > 0
    assert len(project.read("history.jsonl").splitlines()) == 400


@pytest.mark.parametrize(
    ("fail", "status", "cause"),
    [
        ("if RANK == 1: raise ValueError('bad luck')", "error", "RankError: rank 1: ValueError: bad luck"),
        ("if RANK == 1: raise MemoryError('full')\ntime.sleep(99)", "out_of_memory", "rank 1: MemoryError: full"),
        ("if RANK == 0: raise ValueError('own')\ntime.sleep(99)", "error", "ValueError: own"),
        ("if RANK == 1: os.kill(os.getpid(), 9)\ntime.sleep(99)", "killed", "its process was ended by SIGKILL"),
        (
            # Rank 1 dies a moment after rank 0's error, which is by its death all the same.
            "dies = here / 'dies'\nif RANK == 1: dies.touch(); time.sleep(0.1); os.kill(os.getpid(), 9)\n"
            "while not dies.exists(): time.sleep(0.01)\nraise OSError('lost rank 1')",
            "killed",
            "its process was ended by SIGKILL",
        ),
    ],
)
def test_one_process_that_fails_is_the_cells_failure(project: Project, fail: str, status: str, cause: str):
    quoted = fail.replace("\n", "\\n").replace('"', '\\"')
    project.write("conf/config.yaml", f'steps: 10\nfail: "{quoted}"\n')
    record = project.run(TWO, "hydra.launcher.retries.killed=0", code=1)
    assert record["status"] == status
    assert cause in record["failure"]["cause"]
    if "rank 1: " in cause:
        assert "<string>" in record["failure"]["traceback"], "where rank 1 raised it"
        assert cause.partition("rank 1: ")[2] in project.read("log-rank-1.txt")
    assert not any(is_there(project.read(f"pid-{rank}")) for rank in (0, 1))


def test_a_result_that_did_not_converge_may_come_from_any_process(project: Project):
    fail = "if RANK == 1: raise strive.Diverged('not a number', loss=3.0)"
    project.write("conf/config.yaml", f'steps: 10\nfail: "{fail}"\n')
    record = project.run(TWO)
    assert (record["status"], record["cause"]) == ("diverged", "rank 1: not a number")
    assert record["metrics"] == {"loss": 3.0}


def test_a_checkpoint_may_be_of_all_processes(project: Project):
    text = STEPS.replace(
        "strive.save(lambda path: path.write_text(str(step + 1)))",
        """strive.save(
            lambda path: (path.mkdir(exist_ok=True), (path / str(RANK)).write_text(str(step))), all_ranks=True
        )""",
    ).replace("int(path.read_text())", "int((path / str(RANK)).read_text()) + 1")
    project.write("train.py", text)
    launch = project.start(TWO, "steps=400", "hydra.launcher.checkpoint_minutes=0")
    project.await_(lambda: int(project.read("step-1") or 0) > 3)
    launch.terminate()
    launch.communicate(timeout=120)
    assert project.run(TWO, "steps=400")["metrics"] == {"steps": 400}
    assert project.read("starts-0") == project.read("starts-1")
    assert len(project.read("starts-1").splitlines()) == 2


# As Lightning's ddp starts its ranks: the words of this process again, and some of its own.
OWN_RANKS = STEPS.replace(
    "    path = strive.load()",
    """\
    if RANK == 0:
        import subprocess, sys
        from hydra.core.hydra_config import HydraConfig

        folder = HydraConfig.get().run.dir
        ours = [sys.executable, os.path.abspath(sys.argv[0]), *sys.argv[1:], f'hydra.run.dir="{folder}"']
        subprocess.Popen([*ours, "hydra.job.name=train_ddp_process_1"], env={**os.environ, "LOCAL_RANK": "1"})
        subprocess.run([sys.executable, "other.py", "steps=7"], check=True)
        subprocess.run([sys.executable, "train_alone.py", "fail=of another"], check=True)
    path = strive.load()""",
)
OTHER = """\
import hydra, strive

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    assert strive.current() is None
    with open("others.txt", "a") as file:
        print(cfg.steps, cfg.fail, file=file)

if __name__ == "__main__":
    main()
"""


def test_a_process_that_an_app_starts_as_its_rank_runs_the_frozen_cell_and_another_app_is_left_alone(project: Project):
    for name, text in (("train.py", OWN_RANKS), ("other.py", OTHER), ("train_alone.py", OTHER)):
        project.write(name, text)
    assert project.run("steps=20")["metrics"] == {"steps": 20}
    assert project.read("step-1") == "20", "not what conf says"
    assert (project.folder / "others.txt").read_text() == "7 \n10 of another\n"
    assert len(list((project.folder / "runs" / "sweeps").iterdir())) == 1, "nobody has started the sweep again"


def test_without_m_a_process_that_a_program_starts_as_its_rank_is_of_its_cell(project: Project):
    text = OWN_RANKS.replace("@hydra.main", "@strive.main")
    for name, words in (("train.py", text), ("other.py", OTHER), ("train_alone.py", OTHER)):
        project.write(name, words)
    alone = ("hydra/sweeper=strive", "hydra.sweeper.tracker.kind=none")
    assert project.run("steps=20", mode=alone)["metrics"] == {"steps": 20}
    assert project.read("step-1") == "20"
    assert (project.folder / "others.txt").read_text() == "7 \n10 of another\n"


def test_without_m_nobody_starts_ranks_for_a_program(project: Project):
    project.write("train.py", STEPS.replace("@hydra.main", "@strive.main"))
    one = ("hydra/sweeper=strive", "hydra/launcher=strive_local", "hydra.sweeper.tracker.kind=none")
    launch = project.start(TWO, mode=one)
    said, _ = launch.communicate(timeout=60)
    assert (launch.returncode, f"{TWO} needs -m" in said) == (2, True), said
    launch = project.start(mode=one, WORLD_SIZE="2", TORCHELASTIC_RUN_ID="none")
    said, _ = launch.communicate(timeout=60)
    assert launch.returncode == 2
    assert "start it once, with -m hydra/sweeper=strive hydra.launcher.processes_per_cell=2" in said


def test_keys_that_make_no_sense_together_are_refused(project: Project):
    for more, message in (
        ("hydra.launcher.fresh_process=false", "leave hydra.launcher.fresh_process=false out"),
        ("hydra.launcher.gpus_per_cell=2", "a cell has 2 GPUs (hydra.launcher.gpus_per_cell"),
    ):
        launch = project.start(TWO, more)
        said, _ = launch.communicate(timeout=60)
        assert launch.returncode != 0
        assert message in said


# -- torch


def processes(project: Project) -> list[int]:
    """Return the cell's process, and those that it has started."""
    owner = owner_of(project.cell)
    if owner is None:
        return []
    found = [owner.pid]
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if path.read_text().rpartition(")")[2].split()[1] == str(owner.pid):
                found.append(int(path.parent.name))
    return found


def kill(project: Project, number: int, *, after: Callable[[], object]) -> None:
    """Kill a process of the cell after something has happened, at a random moment."""
    project.await_(after)
    time.sleep(random.random() / 4)
    found = processes(project)
    if len(found) > number:  # else it is done, or between two processes
        os.kill(found[number], signal.SIGKILL)


def test_a_cell_under_ddp_of_which_each_process_is_killed_once_ends_in_the_same_weights(tmp_path: Path):
    whole, killed = (Project(Path(shutil.copytree(ROOT / "examples" / "ddp", tmp_path / name))) for name in "ab")
    cell = (TWO, "steps=300", "log_every=1", "hydra.launcher.checkpoint_minutes=0.001")
    launch = killed.start(*cell, "hydra.launcher.retries.killed=9")
    kill(killed, 1, after=lambda: (killed.cell / "strive-checkpoint").exists())
    kill(killed, 0, after=lambda: "resumes from step" in killed.read("log.txt"))
    said, _ = launch.communicate(timeout=240)
    assert launch.returncode == 0, f"{said}\n{killed.logs()}"
    record = killed.record()
    assert record["provenance"]["resumes"] >= 1
    assert record["metrics"] == whole.run(*cell)["metrics"]
    assert record["metrics"]["test_acc"] > 0.9
    assert len(killed.read("history.jsonl").splitlines()) == 300


LIGHTNING = """\
import os, pathlib, time
import hydra, torch
import lightning
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import ModelCheckpoint

class Net(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 1)

    def training_step(self, batch, number):
        x, y = batch
        return torch.nn.functional.mse_loss(self.layer(x), y)

    def on_train_epoch_end(self):
        time.sleep(0.2)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    lightning.seed_everything(0, verbose=False)
    x, last = torch.randn(64, 8), None
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True)), 16, shuffle=True)
    if cfg.callback:
        import strive
        from strive.lightning import StriveCallback

        callbacks, last = [StriveCallback()], strive.load()
    here = pathlib.Path(HydraConfig.get().runtime.output_dir)
    (here / f"rank-{os.environ.get('LOCAL_RANK', 'none')}").write_text(f"{cfg.epochs}")
    trainer = lightning.Trainer(
        max_epochs=cfg.epochs, accelerator="cpu", devices=2, strategy=cfg.strategy, logger=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=here,
        callbacks=callbacks if cfg.callback else [ModelCheckpoint(dirpath=here, save_last=True)],
    )
    net = Net()
    if not cfg.callback and (here / "last.ckpt").exists():
        last = here / "last.ckpt"
    trainer.fit(net, loader, ckpt_path=last)
    return {"weights": sum(p.double().abs().sum() for p in net.parameters()), "epoch": trainer.current_epoch}

if __name__ == "__main__":
    main()
"""


LIGHTNING_CONF = "strategy: auto\nepochs: 3\ncallback: false\n"
needs_lightning = pytest.mark.skipif(importlib.util.find_spec("lightning") is None, reason="needs Lightning")


@needs_lightning
@pytest.mark.parametrize("arguments", [("strategy=ddp",), ("strategy=ddp_spawn",)], ids=lambda each: " ".join(each))
def test_lightning_on_two_processes_is_killed_and_goes_on(tmp_path: Path, arguments: tuple[str, ...]):
    killed = Project(tmp_path, train=LIGHTNING, conf__config=LIGHTNING_CONF)
    cell = (*arguments, "epochs=5", "hydra.launcher.cpus_per_cell=1")
    launch = killed.start(*cell, "hydra.launcher.retries.killed=9")
    kill(killed, 0, after=lambda: (killed.cell / "last.ckpt").exists())
    said, _ = launch.communicate(timeout=240)
    assert launch.returncode == 0, f"{said}\n{killed.logs()}"
    if "strategy=ddp" in arguments:
        assert killed.record()["metrics"]["epoch"] == 5
        assert killed.read("rank-1") == "5", "the frozen cell, not what conf says"
    assert len(list((killed.folder / "runs" / "sweeps").iterdir())) == 1, "nobody has started the sweep again"


@needs_lightning
def test_lightning_with_strives_callback_stops_on_both_processes_and_ends_in_the_same_weights(tmp_path: Path):
    whole, stopped = (Project(tmp_path / name, train=LIGHTNING, conf__config=LIGHTNING_CONF) for name in "ab")
    cell = (TWO, "strategy=ddp", "callback=true", "epochs=9", "hydra.launcher.checkpoint_minutes=0")
    launch = stopped.start(*cell)
    stopped.await_(lambda: (stopped.cell / "strive-checkpoint").exists())
    launch.terminate()
    launch.communicate(timeout=120)
    assert launch.returncode == 130
    record = stopped.run(*cell)
    assert record["provenance"]["resumes"] == 1
    assert record["metrics"] == pytest.approx(whole.run(*cell)["metrics"], rel=1e-6)
