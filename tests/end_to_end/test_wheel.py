import csv
import subprocess
import zipfile
from pathlib import Path

import pytest
from support import ROOT
from wheel_environment import build_wheel, clean_environ, install

import strive

SOURCES = ("strive", "hydra_plugins")
RESULTS = ROOT / "results" / "table3_small"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(wheel, tmp_path_factory.mktemp("environment"))


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=clean_environ(), capture_output=True, text=True, timeout=120
    )


def test_the_wheel_has_the_platform_and_its_data_and_nothing_of_the_study(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        metadata = archive.read(f"strive-{strive.__version__}.dist-info/METADATA").decode()
    ours = {name for name in names if not name.partition("/")[0].endswith(".dist-info")}
    files = (path for folder in SOURCES for path in (ROOT / "src" / folder).rglob("*"))
    here = {path.relative_to(ROOT / "src").as_posix() for path in files if path.is_file()}
    assert ours == {name for name in here if "__pycache__" not in name}
    assert {"strive/py.typed", "strive/code/same_code.json", "strive/report/assets/report.html"} <= ours
    asked_for = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]
    base = [line.removeprefix("Requires-Dist: ") for line in asked_for if "extra ==" not in line]
    for name in ("torch", "torchvision", "scikit-learn", "submitit", "wandb"):
        assert any(line.startswith(f"Requires-Dist: {name}") for line in asked_for)
        assert not any(line.startswith(name) for line in base)


def test_the_command_runs_without_the_study_and_without_torch(programs: Path, tmp_path: Path):
    look = "from importlib.util import find_spec; print(*filter(find_spec, ('strive', 'torch', 'allcnn', 'sklearn')))"
    assert run(programs / "python", "-c", look, cwd=tmp_path).stdout == "strive\n"
    shown = run(programs / "strive", "--help", cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "strive reproduce" in shown.stdout
    assert run(programs / "python", "-m", "strive", "--help", cwd=tmp_path).stdout == shown.stdout
    tables = run(programs / "strive", "tables", "--help", cwd=tmp_path)
    assert (tables.returncode, tables.stderr) == (0, "")


def test_records_are_read_without_the_app_that_trained_them(programs: Path, tmp_path: Path):
    (tmp_path / "runs").symlink_to(RESULTS)
    status = run(programs / "strive", "status", "table3_small", cwd=tmp_path)
    assert (status.returncode, status.stdout.splitlines()[1]) == (0, "36 cells: 36 done"), status.stderr
    why = run(programs / "strive", "why", "145302f9cf", "7459159d59", cwd=tmp_path)
    assert why.stdout.splitlines()[2:] == ["differ in 1 key that decides numbers:", "  optimizer.lr  0.02  0.05"]
    done = run(programs / "strive", "tables", "table3_small", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert means(tmp_path / "tables" / "table3_small.csv") == means(RESULTS / "tables" / "table3_small.csv")
    again = run(programs / "strive", "reproduce", "145302f9cf", cwd=tmp_path)
    assert again.returncode == 2
    assert "cannot be trained again: no launch below" in again.stderr


def means(path: Path) -> list[tuple[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return sorted((row["mean"], row["sd"]) for row in csv.DictReader(lines))
