"""Cells that train while the genuine client shows them on a server of the test's own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from held_net import HELD, STEPS_PER_EPOCH, write_nets
from support import ROOT, SMALL
from wandb_peer import Peer

RUNS = "runs=cells"
EPOCHS = 6
LONG = (*HELD, "+model.kwargs.name=a", f"budget.epochs={EPOCHS}")

Start = Callable[..., "subprocess.Popen[str]"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(client: dict[str, str], tmp_path: Path) -> Run:
    """Run src/run.py, or `strive sync`, to its end."""

    def finished(program: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        start = ["-m", "strive", "sync"] if program == "sync" else [str(ROOT / "src" / program)]
        return subprocess.run(
            [sys.executable, *start, *arguments],
            cwd=tmp_path,
            env=client | {"COLUMNS": "160", "OMP_NUM_THREADS": "1"} | environ,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return finished


@pytest.fixture
def hold(tmp_path: Path) -> Callable[[int], None]:
    """Let the cell of LONG stop right after this epoch of a process; 0 lets it go on to its end."""
    write_nets(tmp_path)
    place = tmp_path / "hold" / "a"

    def after(epoch: int) -> None:
        # A file of another name first, because the net reads this one at any moment.
        (tmp_path / "next").write_text(str(epoch * STEPS_PER_EPOCH + 1) if epoch else "0")
        (tmp_path / "next").rename(place)

    return after


@contextmanager
def training(client: dict[str, str], folder: Path, *overrides: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "src" / "run.py"), *overrides, RUNS],
        cwd=folder,
        env=client | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(true: Callable[[], object], what: str, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not in {seconds} s: {what}"
        time.sleep(0.02)


def epochs_of(peer: Peer, cell: str) -> list[int]:
    return [row["epoch"] for row in peer.runs[cell].history if "train_loss" in row]


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """Return the history as W&B has it: its step is named epoch."""
    (path,) = folder.glob("cells/*/history.jsonl")
    lines = map(json.loads, path.read_text().splitlines())
    return [{"epoch" if key == "step" else key: value for key, value in line.items()} for line in lines]


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_cell_is_one_w_and_b_run_with_each_epoch_once(peer: Peer, run: Run, tmp_path: Path):
    done = run("run.py", *SMALL, RUNS, "budget.epochs=3", "data.val_images=200", "tracker.project=mine")
    assert done.returncode == 0, done.stderr
    (cell,) = peer.runs
    shown = peer.runs[cell]
    assert (shown.id, shown.project, shown.job_type, shown.state) == (cell, "mine", "train", "finished")
    assert f"{peer.url}/me/mine/runs/{cell}" in done.stderr
    rows = [{key: row[key] for key in line} for row, line in zip(shown.history, lines_of(tmp_path), strict=True)]
    assert rows == lines_of(tmp_path)
    assert shown.summary["record"] == (tmp_path / "cells" / cell / "record.json").read_text()
    assert shown.config["cell"]["budget"]["epochs"] == 3
    assert shown.tags == ["base:c", "variant:all_cnn", "augmentation:none", "dataset:digits"]
    assert "log.txt" in shown.files
    # The shown machine is the one that trained, and W&B's own files do not pile up in the cell's folder.
    assert "wandb-metadata.json" in shown.files
    assert not (tmp_path / "cells" / cell / ".showing").exists()


def test_a_sweep_is_a_group_and_its_plan_is_there(peer: Peer, run: Run, tmp_path: Path):
    done = run("run.py", "-m", *SMALL, RUNS, "seed=0,1", "optimizer.weight_decay=0,0.001")
    assert done.returncode == 0, done.stderr
    assert "W&B has all of 4 cells" in done.stderr
    (plan,) = (tmp_path / "cells" / "sweeps").glob("*/plan.json")
    cells = [shown for shown in peer.runs.values() if shown.job_type == "train"]
    assert len(cells) == 4
    assert {shown.group for shown in cells} == {plan.parent.name}
    assert {(shown.config["seed"], shown.config["weight_decay"]) for shown in cells} == {
        (seed, decay) for seed in (0, 1) for decay in (0, 0.001)
    }
    of_plan = peer.runs[f"plan-{plan.parent.name}"]
    assert (of_plan.job_type, of_plan.files["plan.json"]) == ("plan", plan.read_bytes())
    assert of_plan.summary["table"]["nrows"] == 2  # of two seeds each
    assert f"W&B: {peer.url}/me/strive\n" in done.stderr


def test_a_cell_that_fails_is_shown_as_failed_with_its_cause(peer: Peer, run: Run, tmp_path: Path):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, num_classes, image_size):\n"
        "        super().__init__()\n"
        "        self.last, self.calls = nn.Linear(3 * image_size**2, num_classes), 0\n"
        "    def forward(self, images):\n"
        "        self.calls += self.training\n"
        "        if self.calls > 2: raise ValueError('the third step')\n"
        "        return self.last(images.flatten(1))\n"
    )
    overrides = ("model=extra/custom", "model.builder=nets:Net", "data=digits", "preprocess=standardize")
    done = run("run.py", *overrides, "budget=smoke", RUNS, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1, done.stderr
    (shown,) = peer.runs.values()
    assert "not uploaded" not in done.stderr
    assert (shown.state, shown.summary["status"]) == ("failed", "error")
    assert "the third step" in shown.summary["cause"]


@pytest.mark.parametrize("minutes", [0, 5])
def test_killed_with_everything_it_started_a_cell_loses_nothing_and_goes_on(
    peer: Peer, client: dict[str, str], run: Run, hold: Callable[[int], None], tmp_path: Path, minutes: int
):
    # With checkpoints each 5 minutes there is none yet: all epochs are trained again, and shown once.
    long = (*LONG, f"trainer.checkpoint_minutes={minutes}")
    hold(3)
    with training(client, tmp_path, *long) as process:
        until(lambda: any(len(shown.history) >= 3 for shown in peer.runs.values()), "three epochs on W&B")
        (mirror,) = children(process.pid)
        for pid in (process.pid, mirror, *children(mirror)):
            os.kill(pid, signal.SIGKILL)
    hold(0)
    (cell,) = peer.runs
    assert (len(lines_of(tmp_path)), len(epochs_of(peer, cell))) == (3, 3)
    assert peer.runs[cell].state == "running"  # nobody could say otherwise
    synced = run("sync", RUNS)
    assert synced.returncode == 0, synced.stdout + synced.stderr
    assert epochs_of(peer, cell) == [1, 2, 3]
    assert peer.runs[cell].state == "preempted"
    done = run("run.py", RUNS, *long)
    assert done.returncode == 0, done.stderr
    assert list(peer.runs) == [cell]
    assert epochs_of(peer, cell) == list(range(1, EPOCHS + 1))
    assert (peer.runs[cell].state, peer.runs[cell].resumed) == ("finished", 2)
    assert peer.runs[cell].summary["record"] == (tmp_path / "cells" / cell / "record.json").read_text()


def test_a_preempted_cell_is_shown_as_preempted_until_it_goes_on(
    peer: Peer, client: dict[str, str], run: Run, hold: Callable[[int], None], tmp_path: Path
):
    hold(1)
    with training(client, tmp_path, *LONG) as process:
        until(lambda: any(shown.history for shown in peer.runs.values()), "an epoch on W&B")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=300)
    hold(0)
    (shown,) = peer.runs.values()
    assert (shown.state, shown.summary["status"]) == ("preempted", "stopped")
    assert "the cells have not ended" in errors
    assert [row["epoch"] for row in shown.history] == [line["epoch"] for line in lines_of(tmp_path)]
    assert run("run.py", RUNS, *LONG).returncode == 0
    (shown,) = peer.runs.values()
    assert (shown.state, shown.summary["status"], len(shown.history)) == ("finished", "done", EPOCHS)


def test_sample_pictures_and_weights_go_up_on_request_and_once(peer: Peer, run: Run, tmp_path: Path):
    done = run("run.py", *SMALL, RUNS, "tracker.images=8", "tracker.weights=true")
    assert done.returncode == 0, done.stderr
    (shown,) = peer.runs.values()
    (media,) = [row for row in shown.history if "train_loss" not in row]
    assert {"inputs", "mistakes"} <= media.keys()
    assert sum(name.startswith("media/images/") for name in shown.files) == 2
    (artifact,) = peer.artifacts
    (weights,) = (tmp_path / "cells").glob("*/weights.pt")
    assert (artifact.type, artifact.state, artifact.files["weights.pt"]) == ("model", "COMMITTED", weights.read_bytes())
    again = run("sync", RUNS)
    assert "1 there already" in again.stdout
    assert len(peer.artifacts) == 1


def test_a_cell_trained_again_with_other_numbers_gets_a_w_and_b_run_of_its_own(peer: Peer, run: Run, tmp_path: Path):
    assert run("run.py", *SMALL, RUNS).returncode == 0
    (cell,) = peer.runs
    before = list(peer.runs[cell].history)
    path = tmp_path / "cells" / cell / "history.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line | {"train_loss": 0.5}) + "\n" for line in lines))
    # As a retraining leaves it: another record, other epochs.
    record = tmp_path / "cells" / cell / "record.json"
    record.write_text(record.read_text().replace('"resumes": 0', '"resumes": 1'))
    for _ in range(2):
        assert run("sync", RUNS).returncode == 0
    assert set(peer.runs) == {cell, f"{cell}-2"}
    assert peer.runs[cell].history == before
    assert [row["train_loss"] for row in peer.runs[f"{cell}-2"].history] == [0.5, 0.5]


def test_without_a_key_everything_trains_and_one_line_says_how_to_upload_later(client: dict[str, str], run: Run):
    done = run("run.py", *SMALL, RUNS, WANDB_API_KEY="")
    assert done.returncode == 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("W&B")]
    assert "WANDB_API_KEY" in line
    assert "strive sync" in line


def test_tracker_wandb_refuses_to_start_without_a_key_and_tracker_none_says_nothing(run: Run, tmp_path: Path):
    done = run("run.py", *SMALL, RUNS, "tracker=wandb", WANDB_API_KEY="")
    assert done.returncode == 2
    assert done.stderr.startswith("error: tracker=wandb: no key")
    assert not list(tmp_path.glob("cells/*/record.json"))
    done = run("run.py", "-m", *SMALL, RUNS, "seed=0,1", "tracker=wandb", WANDB_API_KEY="")
    assert done.returncode == 2, done.stderr
    assert "error: tracker=wandb: no key" in done.stderr
    done = run("run.py", *SMALL, RUNS, "tracker=none")
    assert done.returncode == 0
    assert "W&B" not in done.stderr


def test_without_the_package_everything_trains_and_tracker_wandb_says_how_to_install_it(run: Run, tmp_path: Path):
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0].startswith('wandb'): raise ModuleNotFoundError(name)\n"
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'wandb' else find(name, *rest)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    path = str(tmp_path / "without")
    done = run("run.py", *SMALL, RUNS, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert "pip install wandb" in done.stderr
    for program, arguments in (("run.py", (*SMALL, RUNS, "seed=1", "tracker=wandb")), ("sync", (RUNS,))):
        refused = run(program, *arguments, PYTHONPATH=path)
        assert refused.returncode == 2
        assert refused.stderr.startswith("error: ")
        assert "pip install wandb" in refused.stderr


def test_nothing_that_trains_or_plans_imports_the_client():
    code = (
        "import sys, allcnn.training_pack, strive.launch.worker, strive.slurm.job, strive.trackers.session\n"
        "print([name for name in sys.modules if name.partition('.')[0] == 'wandb'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_server_that_goes_and_comes_back_while_a_cell_trains_misses_nothing(
    peer: Peer, client: dict[str, str], run: Run, hold: Callable[[int], None], tmp_path: Path
):
    hold(1)
    with training(client, tmp_path, *LONG) as process:
        until(lambda: any(shown.history for shown in peer.runs.values()), "an epoch on W&B")
        peer.pause()
        hold(4)
        until(lambda: len(lines_of(tmp_path)) == 4, "training that goes on")
        peer.resume()
        hold(0)
        process.wait(timeout=300)
    assert process.returncode == 0
    run("sync", RUNS)  # if the client was still waiting for its next try when the cell ended
    (shown,) = peer.runs.values()
    assert epochs_of(peer, shown.id) == list(range(1, EPOCHS + 1))
    assert (shown.state, shown.summary["status"]) == ("finished", "done")


@pytest.mark.parametrize("fault", ["refuses connections", "never answers", "refuses the key", "limits the rate"])
def test_a_server_in_trouble_costs_one_bounded_wait_and_the_end_says_what_to_do(
    peer: Peer, run: Run, tmp_path: Path, fault: str
):
    environ = {}
    if fault == "refuses connections":
        peer.pause()
    elif fault == "never answers":
        peer.hang("graphql", times=1000, seconds=600)
    elif fault == "refuses the key":
        environ["WANDB_API_KEY"] = "wrong" + "9" * 40
    else:
        peer.fail("graphql", 429, times=1000)
    done = run("run.py", "-m", *SMALL, RUNS, "seed=0,1", **environ)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("cells/*/record.json"))) == 2
    last = [line for line in done.stderr.splitlines() if line.startswith("W&B")][-1]
    assert "2 of 2 cells not uploaded" in last
    assert last.endswith("later: strive sync --runs cells")
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.is_symlink():
            for key in (peer.key, *environ.values()):
                assert key.encode() not in path.read_bytes(), path
    assert peer.key not in done.stdout + done.stderr
    peer.forgive()
    peer.resume()
    assert run("sync", RUNS).returncode == 0
    assert sum(shown.state == "finished" for shown in peer.runs.values() if shown.job_type == "train") == 2


def test_wandb_mode_offline_is_heeded(peer: Peer, run: Run):
    done = run("run.py", *SMALL, RUNS, WANDB_MODE="offline")
    assert done.returncode == 0
    assert "WANDB_MODE=offline" in done.stderr
    assert not peer.operations


def test_sync_can_follow_cells_while_they_train_elsewhere_without_w_and_b(
    peer: Peer, client: dict[str, str], run: Run, hold: Callable[[int], None], tmp_path: Path
):
    hold(1)
    with training(client | {"WANDB_MODE": "offline"}, tmp_path, *LONG) as process:
        until(lambda: list(tmp_path.glob("cells/*/history.jsonl")), "a cell in training")
        early = run("sync", RUNS)
        assert "1 not ended, uploaded so far" in early.stdout
        (shown,) = peer.runs.values()
        assert shown.state == "preempted"
        with ThreadPoolExecutor() as beside:
            watching = beside.submit(run, "sync", RUNS, "--watch")
            hold(2)
            until(lambda: len(epochs_of(peer, shown.id)) == 2, "the second epoch on W&B")
            hold(0)
            watched = watching.result()
        assert process.wait(timeout=300) == 0
    assert watched.returncode == 0, watched.stderr
    assert watched.stdout.splitlines()[-1] == "1 cell: 1 uploaded"
    (shown,) = peer.runs.values()
    assert epochs_of(peer, shown.id) == list(range(1, EPOCHS + 1))
    assert (shown.state, shown.summary["status"]) == ("finished", "done")


def test_pictures_wait_for_the_end_also_of_a_cell_that_was_stopped(
    peer: Peer, client: dict[str, str], run: Run, hold: Callable[[int], None], tmp_path: Path
):
    overrides = (*LONG, "tracker.images=4")
    hold(1)
    with training(client, tmp_path, *overrides) as process:
        until(lambda: any(shown.history for shown in peer.runs.values()), "an epoch on W&B")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=300)
    hold(0)
    assert run("run.py", RUNS, *overrides, WANDB_MODE="offline").returncode == 0
    assert run("sync", RUNS).returncode == 0
    (shown,) = peer.runs.values()
    assert epochs_of(peer, shown.id) == list(range(1, EPOCHS + 1))
    assert [{"inputs", "mistakes"} <= row.keys() for row in shown.history if "train_loss" not in row] == [True]


def test_a_cell_trained_again_with_the_same_numbers_stays_one_w_and_b_run(peer: Peer, run: Run, tmp_path: Path):
    command = ("-m", *SMALL, RUNS, "seed=0", "budget.epochs=4", "hydra.sweeper.retrain=all")
    for _ in range(2):
        done = run("run.py", *command)
        assert done.returncode == 0, done.stderr
        (shown,) = [each for each in peer.runs.values() if each.job_type == "train"]
        assert epochs_of(peer, shown.id) == list(range(1, 5))
        assert shown.state == "finished"
        assert shown.summary["record"] == (tmp_path / "cells" / shown.id / "record.json").read_text()
    assert (tmp_path / "cells" / shown.id / "record-1.json").exists()


def test_numbers_of_another_training_are_not_mixed_in_where_the_receipt_is_lost(peer: Peer, run: Run, tmp_path: Path):
    assert run("run.py", *SMALL, RUNS).returncode == 0
    (cell,) = peer.runs
    (tmp_path / "cells" / cell / "wandb.json").unlink()
    path = tmp_path / "cells" / cell / "history.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line | {"train_loss": 0.5}) + "\n" for line in lines))
    assert run("sync", RUNS).returncode == 0
    assert [row["train_loss"] for row in peer.runs[f"{cell}-2"].history] == [0.5, 0.5]
    assert [row["train_loss"] for row in peer.runs[cell].history] == [line["train_loss"] for line in lines]


def test_neither_the_current_folder_nor_an_odd_timeout_disturbs_it(peer: Peer, run: Run, tmp_path: Path):
    (tmp_path / "yaml.py").write_text("raise RuntimeError('not for you')")
    done = run("run.py", *SMALL, RUNS, WANDB_HTTP_TIMEOUT="7.5")
    assert done.returncode == 0, done.stderr
    assert "W&B has all of 1 cell" in done.stderr


def test_its_process_killed_in_the_middle_is_said_and_costs_nothing(
    peer: Peer, client: dict[str, str], run: Run, hold: Callable[[int], None], tmp_path: Path
):
    hold(1)
    with training(client, tmp_path, *LONG) as process:
        until(lambda: any(shown.history for shown in peer.runs.values()), "an epoch on W&B")
        (mirror,) = children(process.pid)
        os.kill(mirror, signal.SIGKILL)
        hold(0)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 0
    assert "its process ended" in errors
    assert run("sync", RUNS).returncode == 0
    (shown,) = peer.runs.values()
    assert (epochs_of(peer, shown.id), shown.state) == (list(range(1, EPOCHS + 1)), "finished")


def test_the_clients_helper_process_ended_in_the_middle_costs_nothing(
    peer: Peer, client: dict[str, str], hold: Callable[[int], None], tmp_path: Path
):
    # SLURM's SIGTERM goes to every process of a job.
    hold(1)
    with training(client, tmp_path, *LONG) as process:
        until(lambda: any(shown.history for shown in peer.runs.values()), "an epoch on W&B")
        (mirror,) = children(process.pid)
        for helper in children(mirror):
            os.kill(helper, signal.SIGTERM)
        hold(0)
        _, errors = process.communicate(timeout=300)
    assert "W&B has all of 1 cell" in errors
    (shown,) = peer.runs.values()
    assert (epochs_of(peer, shown.id), shown.state) == (list(range(1, EPOCHS + 1)), "finished")


def test_an_agent_of_w_and_b_is_given_one_cell_at_a_time(client: dict[str, str], run: Run, tmp_path: Path):
    done = run("run.py", "-m", *SMALL, RUNS, "seed=0,1", WANDB_SWEEP_ID="s", WANDB_RUN_ID="r")
    assert done.returncode == 2
    assert "leave out -m" in done.stderr
    assert not list(tmp_path.glob("cells/*/record.json"))
