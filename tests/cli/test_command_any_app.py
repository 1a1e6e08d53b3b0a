import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

APP = """\
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    return {"loss": 1 / (1 + cfg.get("lr", 1)) + cfg.get("seed", 0)}

if __name__ == "__main__":
    main()
"""


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STRIVE")}
    return subprocess.run([sys.executable, *command], cwd=cwd, env=environ, capture_output=True, text=True, timeout=120)


def test_cells_of_any_app_are_found_explained_and_trained_again(tmp_path: Path):
    (tmp_path / "train.py").write_text(APP)
    grid = ("+lr=1,3", "+seed=0")
    launched = run("train.py", "-m", "hydra/sweeper=strive", "hydra/launcher=strive_local", *grid, cwd=tmp_path)
    assert launched.returncode == 0, launched.stderr

    def strive(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run("-m", "strive", *arguments, cwd=tmp_path)

    status = strive("status", *reversed(grid))
    assert "2 cells: 2 done" in status.stdout, status.stderr
    assert "was not launched into runs" in strive("status", "+lr=1,4").stderr
    one, other = sorted(path.parent.name for path in tmp_path.glob("runs/*/record.json"))
    why = strive("why", one, other).stdout.splitlines()
    assert why[2] == "differ in 1 key that decides numbers:"
    assert why[3].split()[0] == "lr"
    again = strive("reproduce", one)
    assert again.returncode == 0, again.stderr
    assert "identical: " in again.stdout
    assert (tmp_path / "runs" / "reproduced" / one / "record.json").exists()
    assert "would make it another cell; here nothing can be set" in strive("reproduce", one, "lr=2").stderr
    (tmp_path / "runs" / one / "record.json").unlink()
    line = "python train.py -m hydra/sweeper=strive hydra/launcher=strive_local +lr=1,3 +seed=0"
    assert f"to train what has no result: {line}" in strive("status", *grid).stdout


PLACES = """\
import time
import hydra
from omegaconf import OmegaConf
from helper import one

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    print("reads", cfg.data, "and", cfg.joined)
    return {"loss": cfg.twice + one(), "fit_seconds": time.time()}

if __name__ == "__main__":
    OmegaConf.register_new_resolver("mul", lambda a, b: float(a) * float(b))
    OmegaConf.register_new_resolver("join", "{}/{}".format)
    main()
"""
PLACES_CONF = """\
lr: 0.1
workers: 4
size: ${workers}
root: /data
data: ${root}/x
joined: ${join:${root},y}
twice: ${mul:2,${lr}}
hydra:
  sweeper:
    logistics: [workers, root, data, joined]
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def launched(tmp_path: Path) -> tuple[Path, Run]:
    """A cell of an app whose data lies somewhere, and what runs a command in its folder."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text(PLACES_CONF)
    (tmp_path / "train.py").write_text(PLACES)
    (tmp_path / "helper.py").write_text("def one():\n    return 1\n")

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return run(*words, cwd=tmp_path)

    done = command("train.py", "-m", "hydra/sweeper=strive", "hydra/launcher=strive_local", "lr=0.1")
    assert done.returncode == 0, done.stderr
    (record,) = tmp_path.glob("runs/*/record.json")
    return record.parent, command


def test_a_cell_is_trained_again_with_other_logistics_and_never_with_another_science(launched: tuple[Path, Run]):
    cell, command = launched
    moved = command("-m", "strive", "reproduce", cell.name, "root=/moved")
    assert moved.returncode == 0, moved.stderr
    again = cell.parent / "reproduced" / cell.name
    assert "reads /moved/x and /moved/y" in (again / "log.txt").read_text()
    logistics = json.loads((again / "record.json").read_text())["logistics"]
    assert logistics == {"workers": 4, "root": "/moved", "data": "/moved/x", "joined": "/moved/y"}
    for override, message in (
        ("lr=2", "lr=2 would make it another cell; here workers, root, data, joined can be set"),
        ("worker=2", "there is no key worker; did you mean workers?"),
        ("workers=2", "workers=2: size, which decides numbers, would be 2, and is 4"),
    ):
        refused = command("-m", "strive", "reproduce", cell.name, override)
        assert refused.returncode == 2
        assert message in refused.stderr
    (cell.parents[1] / "train.py").rename(cell.parents[1] / "other.py")
    gone = command("-m", "strive", "reproduce", cell.name)
    assert gone.returncode == 2
    assert "train.py, which is gone; launch it again from where it is now" in gone.stderr


def test_code_that_trains_the_same_numbers_is_noted_for_any_app(launched: tuple[Path, Run]):
    cell, command = launched

    def stale() -> bool:
        arguments = ("-m", "hydra/sweeper=strive", "hydra/launcher=strive_local", "lr=0.1")
        plan = command("train.py", *arguments, "hydra.sweeper.dry_run=true")
        return "helper.py changed since" in plan.stdout

    helper = cell.parents[1] / "helper.py"
    helper.write_text("def one():\n    return 3 - 2\n")
    assert stale()
    same = command("-m", "strive", "same-code", cell.name)
    assert same.returncode == 0, same.stderr
    assert "train the same numbers" in same.stdout
    assert "measured times are not compared: fit_seconds" in same.stdout
    assert not stale()
    helper.write_text("def one():\n    return 2\n")
    other = command("-m", "strive", "same-code", cell.name)
    assert other.returncode == 1
    assert "loss: 1.2, now 2.2" in other.stdout
    assert stale()


def test_a_multirun_of_several_metrics_is_shown_by_the_one_that_is_asked_for(tmp_path: Path):
    returned = '{"loss": cfg.lr, "score": 2 * cfg.lr}'
    (tmp_path / "train.py").write_text(
        "import hydra\n@hydra.main(version_base=None, config_path=None)\n"
        f"def main(cfg):\n    return {returned}\nif __name__ == '__main__':\n    main()\n"
    )
    started = run(
        "train.py", "-m", "hydra/sweeper=strive", "hydra/launcher=strive_local", "+lr=1,3", "+seed=0", cwd=tmp_path
    )
    assert "--value METRIC" in started.stderr
    assert "loss, score" in (unclear := run("-m", "strive", "tables", cwd=tmp_path)).stderr
    assert unclear.returncode == 2
    assert "lr 1 has the smallest mean loss" in run("-m", "strive", "tables", "--value", "loss", cwd=tmp_path).stdout
