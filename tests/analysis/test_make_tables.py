import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from golden import Golden
from make_tables import main
from support import ROOT

from strive.cli.main import guarded
from strive.code.same_code import Note, notes_with
from strive.tables.latex_text import tex
from strive.tables.markdown import escaped


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Golden:
    monkeypatch.chdir(tmp_path)
    sweep = Golden(Path("runs"), file="table3", question="Without loss?")
    for variant, first in (("base", 10.0), ("strided", 11.0)):
        for seed in range(5):
            sweep.cell({"model.variant": variant, "seed": seed}, first + 0.1 * seed * seed)
    return sweep


def test_every_sweep_with_records_is_printed_and_written(sweep: Golden, capsys: pytest.CaptureFixture[str]):
    sweep.write()
    never = Golden(Path("runs"), file="smoke")
    never.cell({"seed": 5}, None)
    never.write()
    assert guarded(main, []) == 0
    assert sorted(path.name for path in Path("tables").iterdir()) == [
        "numbers.tex",
        "paper.md",
        "paper.tex",
        "table3.cells.csv",
        "table3.csv",
        "table3.md",
        "table3.tex",
    ]
    shown = capsys.readouterr()
    assert Path("tables/table3.md").read_text() in shown.out
    assert "Without loss?" in shown.out
    assert "smoke" not in shown.out
    *answer, files = shown.err.splitlines()
    assert answer[-1].startswith("table3: ")
    assert files.startswith("tables/: table3.md, table3.tex,")


def test_on_a_terminal_each_sweep_is_a_screen_that_ends_in_its_answer_and_the_files(
    sweep: Golden, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    sweep.write()
    arms = Golden(Path("runs"), file="arms")
    for number, name in enumerate(("a", "b" * 60, *"cdefghijklmnopqrstuvwxyz0123456789")):
        arms.cell({"optimizer.momentum": number / 50}, 10.0 if number else None, arm=name)
    arms.write()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    assert guarded(main, []) == 0
    shown = capsys.readouterr()
    assert max(map(len, shown.out.splitlines())) <= 80
    assert len(shown.out.splitlines()) < 100
    assert "and 6 more lines in tables/arms.md" in shown.out
    assert "missing or mixed: " in shown.out
    assert shown.out.count("b") >= 60
    assert "10.60\u00a0±\u00a00.66" in shown.out
    assert shown.err.index("table3: ") < shown.err.index("tables/: arms.md")


def test_a_second_time_writes_the_same_bytes_and_check_agrees(sweep: Golden):
    sweep.write()
    guarded(main, [])
    before = {path: path.read_bytes() for path in Path("tables").iterdir()}
    assert guarded(main, []) == 0
    assert {path: path.read_bytes() for path in Path("tables").iterdir()} == before
    assert guarded(main, ["--check"]) == 0


def test_check_notices_a_changed_record_a_changed_table_and_one_that_was_never_written(
    sweep: Golden, capsys: pytest.CaptureFixture[str]
):
    sweep.write()
    assert guarded(main, ["--check"]) == 1
    assert "tables/table3.md: is not there" in capsys.readouterr().err
    guarded(main, [])
    capsys.readouterr()
    Path("tables/table3.tex").write_text("polished by hand")
    assert guarded(main, ["--check"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "tables/table3.tex: is stale, the records say something else; write it again without --check"
    ]
    assert Path("tables/table3.tex").read_text() == "polished by hand"
    guarded(main, [])
    capsys.readouterr()
    sweep.cell({"model.variant": "strided", "seed": 2}, 9.0)
    assert guarded(main, ["--check"]) == 1
    assert "tables/table3.md: is stale" in capsys.readouterr().err


def test_a_hole_is_an_error_where_it_was_asked_for_and_no_stale_table(
    sweep: Golden, capsys: pytest.CaptureFixture[str]
):
    sweep.file = "nets"  # sweeps/table3.yaml has no such seed
    sweep.cell({"model.variant": "strided", "seed": 5}, None)
    sweep.write()
    assert guarded(main, []) == 0
    assert guarded(main, ["--check"]) == 0
    capsys.readouterr()
    for options in (["--strict"], ["--check", "--strict"]):
        assert guarded(main, options) == 1
        assert "nets: variant Strided: 5 of 6 done, 1 missing" in capsys.readouterr().err


def test_a_sweep_is_found_by_its_file_and_by_its_plan(sweep: Golden, capsys: pytest.CaptureFixture[str]):
    sweep.write()
    fewer = Golden(Path("runs"), file="table3", name="table3-1a2b3c4d", changes=["seed=0"])
    fewer.cell({"model.variant": "base", "seed": 0}, 10.0)
    fewer.write()
    guarded(main, ["table3"])
    assert "table3 with seed=0" in capsys.readouterr().out
    assert (Path("tables") / "table3-1a2b3c4d.md").exists()
    guarded(main, ["table3-1a2b3c4d", "--out", "other"])
    assert sorted(path.name for path in Path("other").glob("*.md")) == ["paper.md", "table3-1a2b3c4d.md"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tabel3"], "tabel3 was not launched into runs; launched there: table3"),
        (["--runs", "nowhere"], "nowhere"),
        (["--runs", "empty"], "no sweep was launched into empty"),
        (["--out", "file"], "file"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
    sweep: Golden, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    sweep.write()
    Path("empty").mkdir()
    Path("file").write_text("in the way")
    assert guarded(main, arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_where_nothing_was_trained_yet_the_message_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert guarded(main, []) == 2
    assert capsys.readouterr().err.startswith("error: there is no folder runs here; give the folder of the records")


def test_a_damaged_plan_is_refused_with_its_path(sweep: Golden, capsys: pytest.CaptureFixture[str]):
    sweep.write()
    Path("runs/sweeps/table3/plan.json").write_text("{")
    assert guarded(main, []) == 2
    assert "runs/sweeps/table3/plan.json" in capsys.readouterr().err


def test_a_damaged_plan_takes_its_own_tables_alone_and_is_said(sweep: Golden, capsys: pytest.CaptureFixture[str]):
    sweep.write()
    damaged = Golden(Path("runs"), file="smoke")
    damaged.cell({"seed": 7}, 10.0)
    (damaged.write() / "sweeps" / "smoke" / "plan.json").write_text("{")
    assert guarded(main, []) == 1
    assert "left out: runs/sweeps/smoke/plan.json" in capsys.readouterr().err
    assert Path("tables/table3.md").exists()
    assert guarded(main, ["table3"]) == 0
    assert guarded(main, ["smoke"]) == 2


def test_the_files_are_the_same_from_wherever_they_are_written(sweep: Golden, monkeypatch: pytest.MonkeyPatch):
    runs = sweep.write().resolve()
    guarded(main, [])
    tables = Path("tables").resolve()
    (tables.parent / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert guarded(main, ["--check", "--runs", str(runs), "--out", "../tables"]) == 0
    text = (tables / "table3.cells.csv").read_text()
    assert "../runs/all_cnn_c-" not in text
    assert ",../runs/model_c-cifar10-none-lr0.05-s0-" in text


def test_two_folders_that_contradict_each_other_are_an_error_that_names_both(
    sweep: Golden, capsys: pytest.CaptureFixture[str]
):
    sweep.write()
    other = Golden(Path("other"), file="table3")
    other.cell({"model.variant": "base", "seed": 0}, 9.0)
    other.write()
    assert guarded(main, ["--runs", "runs", "other"]) == 2
    assert re.search(r"error: runs/\S+/record.json and other/\S+ are different results", capsys.readouterr().err)


def test_code_that_is_noted_as_the_same_is_one_version_and_the_tables_name_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    sweep = Golden(Path("runs"))
    for seed, code in enumerate(("old", "new", "new")):
        sweep.cell({"seed": seed}, 10.0, code_hash=code)
    sweep.write()
    assert guarded(main, ["--strict"]) == 1
    assert "trained by 2 versions of the code" in capsys.readouterr().err
    note = Note(old="old", new="new", cell="", date="2026-11-29", host="laptop")
    Path("runs/same_code.json").write_bytes(notes_with(Path("runs"), note))
    assert guarded(main, ["--strict"]) == 0
    assert "known to give the same numbers: new (2 cells), old (1 cell)." in capsys.readouterr().out


@pytest.mark.parametrize("command", ["make_tables", "make_figures", "make_report"])
def test_analysis_imports_no_torch_and_nothing_of_clusters(command: str, tmp_path: Path):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'analysis')!r}); import {command};"
        " sys.exit(', '.join(sorted({'torch', 'torchvision', 'submitit', 'wandb'} & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_module_of_analysis_has_the_name_of_a_standard_module():
    assert not {path.stem for path in (ROOT / "analysis").iterdir()} & sys.stdlib_module_names


def test_the_command_runs_from_any_folder_with_help(tmp_path: Path):
    command = [sys.executable, str(ROOT / "analysis" / "make_tables.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"COLUMNS": "120"})
    assert done.returncode == 0
    assert "python analysis/make_tables.py --check" in done.stdout


NAMES = ["on", "0.1", "1e-1", "012", "1:30", "null", "a b/c", "[red]x[/red]", "|", "$x$_%&#", ":cat:", "ä", '"q"']


def test_the_name_of_an_arm_reaches_every_file_as_it_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    sweep = Golden(Path("runs"), file="arms")
    for number, name in enumerate(NAMES):
        sweep.cell({"optimizer.momentum": number / 20}, 10.0 + number, arm=name)
    sweep.write()
    assert guarded(main, ["arms"]) == 0
    for file, column in (("arms.csv", "arm"), ("arms.cells.csv", "place")):
        with (tmp_path / "tables" / file).open(newline="", encoding="utf-8") as lines:
            assert [row[column] for row in csv.DictReader(lines)] == NAMES
    page = (tmp_path / "tables" / "arms.md").read_text(encoding="utf-8")
    shown = capsys.readouterr().out
    for name in NAMES:
        assert f"| {escaped(name)} " in page
        assert f"| {escaped(name)} " in shown
    latex = (tmp_path / "tables" / "arms.tex").read_text(encoding="utf-8")
    for name in NAMES:
        assert tex(name) in latex


@pytest.mark.parametrize(
    ("ending", "environ"),
    [
        ("| head -1", {}),
        (">/dev/full", {}),
        (">&- 2>&-", {}),
        ("2>&1 | cat", {"PYTHONIOENCODING": "ascii"}),
        ("2>/dev/full | true", {"PYTHONIOENCODING": "latin-1"}),
    ],
)
def test_tables_are_written_whoever_reads_what_is_printed(ending: str, environ: dict[str, str], tmp_path: Path):
    sweep = Golden(tmp_path / "runs", question="Is \N{GREEK SMALL LETTER ALPHA} \N{MINUS SIGN} 1 enough?")
    sweep.cell({}, 10.0)
    sweep.write()
    line = f"set -o pipefail; {sys.executable} {ROOT}/analysis/make_tables.py {ending}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=os.environ | environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = {path.name for path in (tmp_path / "tables").iterdir()}
    assert found == {
        "golden.md",
        "golden.tex",
        "golden.csv",
        "golden.cells.csv",
        "numbers.tex",
        "paper.md",
        "paper.tex",
    }
    assert "\N{MINUS SIGN} 1 enough" in (tmp_path / "tables" / "golden.md").read_text(encoding="utf-8")
