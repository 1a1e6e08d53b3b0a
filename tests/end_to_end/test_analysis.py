import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import arguments_of
from support import ROOT, CommandLine

RESULTS = ROOT / "results" / "table3_small"


def analysis(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of analysis/ from a folder, as a user would."""
    script, *rest = arguments
    return subprocess.run(
        [sys.executable, str(ROOT / script), *rest],
        cwd=folder,
        env=os.environ | {"COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that has the committed results, as the repository has them."""
    (tmp_path / "results").symlink_to(ROOT / "results")
    return tmp_path


def test_every_analysis_command_of_the_study_runs_on_the_committed_results(checkout: Path):
    found = arguments_of("docs/study.md", "analysis/")
    assert {Path(script).stem for script, *_ in found} == {"make_tables", "make_figures", "make_report"}
    for command in found:
        done = analysis(checkout, *command)
        assert done.returncode == 0, done.stderr
    assert (checkout / "report.html").stat().st_size < 10_000_000
    assert len(list((checkout / "figures").glob("table3_small-*.pdf"))) == 8  # four figures, each in two widths


@pytest.mark.parametrize("name", sorted(path.parent.name for path in (ROOT / "results").glob("*/tables")))
def test_the_committed_tables_are_what_the_committed_records_say(checkout: Path, name: str):
    runs, out = f"results/{name}", f"results/{name}/tables"
    done = analysis(checkout, "analysis/make_tables.py", "--check", "--runs", runs, "--out", out)
    assert done.returncode == 0, done.stderr


def test_the_committed_results_have_every_record_and_no_path_of_a_machine():
    assert len(list(RESULTS.glob("*/record.json"))) == 12 * 3 + 12 * 3
    for path in [*ROOT.glob("results/*/*/record.json"), *ROOT.glob("results/*/sweeps/*/plan.json")]:
        assert not re.search(r'"/(home|root|work|tmp|Users|data)\b', path.read_text()), path


def test_a_sweep_goes_from_training_to_its_tables_figures_and_report(strive: CommandLine, tmp_path: Path):
    launched = strive("-m", "sweeps=smoke", "model=model_a,all_cnn_a", "seed=0,1", "trainer.threads=1")
    assert launched.returncode == 0, launched.stderr
    tables = analysis(tmp_path, "analysis/make_tables.py", "smoke", "--strict")
    assert tables.returncode == 0, tables.stderr
    assert "Do all 12 nets train, from the images to the table?" in tables.stdout
    assert "| ALL-CNN-A " in tables.stdout
    assert analysis(tmp_path, "analysis/make_figures.py", "smoke").returncode == 0
    assert analysis(tmp_path, "analysis/make_report.py", "smoke").returncode == 0
    report = (tmp_path / "report.html").read_text()
    assert "Do all 12 nets train, from the images to the table?" in report
    assert analysis(tmp_path, "analysis/make_tables.py", "--check").returncode == 0


def test_a_sweep_with_untrained_cells_is_no_mean_but_a_hole(strive: CommandLine, tmp_path: Path):
    # The plan of two seeds, of which one was trained: as a sweep looks that was stopped.
    assert strive("-m", "sweeps=smoke", "model=model_a", "seed=0,1", "trainer.threads=1").returncode == 0
    (one, _) = sorted((tmp_path / "runs").glob("*/record.json"))
    one.unlink()
    done = analysis(tmp_path, "analysis/make_tables.py", "--strict")
    assert done.returncode == 1
    assert "1 of 2 done, 1 missing" in done.stdout
    assert "Model A: 1 of 2 done, 1 missing" in done.stderr
