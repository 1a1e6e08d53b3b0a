import os
import subprocess
import sys
from pathlib import Path

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
    assert "leave that out" in strive("reproduce", one, "lr=2").stderr
    (tmp_path / "runs" / one / "record.json").unlink()
    line = "python train.py -m hydra/sweeper=strive hydra/launcher=strive_local +lr=1,3 +seed=0"
    assert f"to train what has no result: {line}" in strive("status", *grid).stdout
