"""strive.lightning with the genuine Lightning: a cell that is stopped ends in the numbers of one that is not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

STRIVE = ("-m", "hydra/sweeper=strive", "hydra/launcher=strive_local", "hydra.launcher.checkpoint_minutes=0")
EPOCHS = 8
APP = """\
import time
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    import torch
    from lightning import LightningModule, Trainer, seed_everything
    from lightning.pytorch.callbacks import EarlyStopping
    from torch.utils.data import DataLoader, TensorDataset
    import strive
    from strive.lightning import StriveCallback

    class Module(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))

        def training_step(self, batch, index):
            time.sleep(0.03)
            loss = ((self.net(batch[0]) - batch[1]) ** 2).mean()
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            return loss

        def validation_step(self, batch, index):
            self.log("val_loss", ((self.net(batch[0]) - batch[1]) ** 2).mean())

        def on_train_epoch_end(self):
            self.log("rate", self.optimizers().param_groups[0]["lr"])

        def configure_optimizers(self):
            optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
            scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.2)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "train_loss"}}

    seed_everything(cfg.seed)
    rows = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))
    data = TensorDataset(rows, rows.sum(1, keepdim=True))
    trainer = Trainer(
        max_epochs=cfg.epochs, callbacks=[StriveCallback(), EarlyStopping("val_loss", patience=50)], logger=False,
        check_val_every_n_epoch=2, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        default_root_dir=strive.current().folder,
    )
    loaders = DataLoader(data, batch_size=8, shuffle=True), DataLoader(data, batch_size=40)
    trainer.fit(Module(), *loaders, ckpt_path=strive.load() if cfg.resume else None)
    return {"val_loss": trainer.callback_metrics["val_loss"]}

if __name__ == "__main__":
    main()
"""


def command(*more: str) -> list[str]:
    keys = (f"+epochs={EPOCHS}", "+seed=0", "+resume=true", "hydra.sweeper.logistics=[resume]")
    return [sys.executable, "train.py", *STRIVE, "hydra.sweeper.tracker.kind=none", *keys, *more]


def environment() -> dict[str, str]:
    lean = {name: value for name, value in os.environ.items() if not name.startswith(("STRIVE_", "WANDB_"))}
    return lean | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


def run(folder: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(*more), cwd=folder, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )


def history(folder: Path) -> list[dict[str, Any]]:
    (path,) = (folder / "runs").glob("train-*/history.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def record(folder: Path) -> dict[str, Any]:
    (path,) = (folder / "runs").glob("train-*/record.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(APP)
    return tmp_path


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "train.py").write_text(APP)
    done = run(folder)
    assert done.returncode == 0, done.stderr
    return folder


def stop_after(folder: Path, epochs: int, number: signal.Signals) -> None:
    """Start the sweep, and end it with a signal when a cell has logged so many epochs."""
    running = subprocess.Popen(
        command(), cwd=folder, env=environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not any(len(path.read_bytes().splitlines()) >= epochs for path in folder.glob("runs/*/history.jsonl")):
        assert time.monotonic() < deadline
        assert running.poll() is None
        time.sleep(0.02)
    os.killpg(running.pid, number)
    running.wait()


def test_the_history_has_what_lightning_measured_in_each_epoch(uninterrupted: Path):
    lines = history(uninterrupted)
    assert [line["step"] for line in lines] == list(range(1, EPOCHS + 1))
    assert all({"train_loss", "rate"} <= line.keys() <= {"step", "train_loss", "val_loss", "rate"} for line in lines)
    # Validated every second epoch: in between, Lightning's metrics still have the earlier value.
    assert [line["step"] for line in lines if "val_loss" in line] == [2, 4, 6, 8]
    assert record(uninterrupted)["metrics"]["val_loss"] == lines[-1]["val_loss"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_fit_that_is_stopped_goes_on_to_the_same_numbers(project: Path, uninterrupted: Path, number: signal.Signals):
    stop_after(project, 3, number)
    assert not list(project.glob("runs/*/record.json"))
    done = run(project)
    assert done.returncode == 0, done.stderr
    assert history(project) == history(uninterrupted)
    assert record(project)["metrics"] == record(uninterrupted)["metrics"]
    provenance = record(project)["provenance"]
    assert (provenance["resumes"], provenance["inexact"]) == (1, [])
    assert not list(project.glob("runs/*/history-*.jsonl"))


def test_a_fit_that_does_not_go_on_from_its_checkpoint_is_refused(project: Path):
    stop_after(project, 2, signal.SIGKILL)
    refused = run(project, "resume=false")
    assert refused.returncode == 1
    assert "ckpt_path=strive.load()" in record(project)["failure"]["cause"]
