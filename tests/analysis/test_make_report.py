import os
import subprocess
import sys
from pathlib import Path

import make_report
import pytest
from golden import Golden
from support import ROOT

from strive.trackers.upload_state import UploadState, write_upload_state


def sweep(runs: Path, name: str) -> None:
    written = Golden(runs, file=name, question=f"What does {name} ask?")
    for seed in range(2):
        written.cell({"seed": seed}, 10.0 + seed)
    written.write()


def test_the_command_writes_one_page_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sweep(tmp_path / "runs", "one")
    sweep(tmp_path / "runs", "two")
    out = tmp_path / "new" / "page.html"
    assert make_report.main(["--runs", str(tmp_path / "runs"), "--out", str(out)]) == 0
    html = out.read_text()
    assert capsys.readouterr().out == f"{out}: 2 sweeps, {len(html.encode()) / 1e6:.1f} MB\n"
    assert "What does one ask?" in html
    assert "What does two ask?" in html


def test_a_sweep_that_was_not_asked_for_is_not_on_the_page(tmp_path: Path):
    sweep(tmp_path / "runs", "one")
    sweep(tmp_path / "runs", "two")
    out = tmp_path / "page.html"
    assert make_report.main(["two", "--runs", str(tmp_path / "runs"), "--out", str(out)]) == 0
    assert "What does one ask?" not in out.read_text()


def test_what_the_paper_compares_with_is_on_the_page(tmp_path: Path):
    sweep(tmp_path / "runs", "one")
    out = tmp_path / "page.html"
    make_report.main(["--runs", str(tmp_path / "runs"), "--out", str(out)])
    assert "Maxout" in out.read_text()


def test_the_command_needs_no_torch_and_no_repository_around_it(tmp_path: Path):
    sweep(tmp_path / "runs", "one")
    analysis = str(ROOT / "analysis")
    code = (
        "import runpy, sys\n"
        f"sys.path.insert(0, {analysis!r})\n"
        "try:\n"
        "    runpy.run_module('make_report', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    sys.exit('imported torch' if 'torch' in sys.modules else end.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ.copy(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").exists()


def test_a_folder_that_is_not_there_is_told_in_one_message(tmp_path: Path):
    script = ROOT / "analysis" / "make_report.py"
    done = subprocess.run(
        [sys.executable, str(script), "--runs", "nowhere"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.glob("*.html")) == []


def test_a_cell_that_w_and_b_shows_has_a_link_to_its_page(tmp_path: Path):
    written = Golden(tmp_path / "runs", file="one")
    folders = [written.cell({"seed": seed}, 10.0 + seed) for seed in range(3)]
    written.write()
    out = tmp_path / "page.html"
    make_report.main(["--runs", str(tmp_path / "runs"), "--out", str(out)])
    assert "W&amp;B" not in out.read_text()
    for folder, url in zip(folders, ("https://wandb.ai/e/p/runs/x", "javascript:alert(1)"), strict=False):
        write_upload_state(folder, UploadState(server="", entity="e", project="p", id="x", url=url))
    make_report.main(["--runs", str(tmp_path / "runs"), "--out", str(out)])
    html = out.read_text()
    assert '<a href="https://wandb.ai/e/p/runs/x"' in html
    assert 'href="javascript' not in html
