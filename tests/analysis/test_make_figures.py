import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from golden import Golden
from handmade import epochs
from make_figures import main
from support import ROOT

from strive.cli.main import guarded

KINDS = ("curves", "effects", "seeds")
FILES = [
    *(f"nets-{kind}{column}.{form}" for kind in KINDS for column in ("-column", "") for form in ("pdf", "png", "svg")),
    "nets-figures.tex",
]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Golden:
    monkeypatch.chdir(tmp_path)
    sweep = Golden(Path("runs"), file="nets", question="Without loss?")
    for variant, first in (("base", 10.0), ("strided", 11.0)):
        for seed in range(2):
            changes = {"model.variant": variant, "seed": seed}
            sweep.cell(changes, first + 0.1 * seed, epochs=epochs(0.8, 0.1 * (seed + 1)))
    return sweep


def written(folder: str = "figures") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def test_three_figures_in_three_formats_are_written_and_named(sweep: Golden, capsys: pytest.CaptureFixture[str]):
    sweep.write()
    assert guarded(main, []) == 0
    assert set(written()) == set(FILES)
    assert capsys.readouterr().out.splitlines() == [
        f"figures/nets-{kind}{column} .pdf .svg .png" for kind in KINDS for column in ("", "-column")
    ]
    starts = {name: content[:5] for name, content in written().items()}
    assert [starts[f"nets-seeds.{form}"] for form in ("pdf", "png", "svg")] == [b"%PDF-", b"\x89PNG\r", b"<?xml"]


def test_figures_are_as_wide_as_a_page_and_as_a_column_and_have_their_words_beside_them(sweep: Golden):
    sweep.write()
    guarded(main, [])
    # points
    for name, width in (("nets-effects.svg", b'width="504pt"'), ("nets-effects-column.svg", b'width="237.6pt"')):
        assert width in written()[name]
    beside = written()["nets-figures.tex"].decode()
    assert beside.count(r"\begin{figure*}") == beside.count(r"\caption{") == 3
    assert r"\includegraphics[width=\textwidth]{nets-seeds}" in beside
    guarded(main, ["--titles", "--out", "alone"])
    plain, alone = (
        float(re.search(rb'height="([\d.]+)pt"', written(each)["nets-seeds.svg"])[1]) for each in ("figures", "alone")
    )
    assert alone > plain + 20
    assert "caption" not in written("alone")["nets-figures.tex"].decode()


def test_another_process_writes_the_same_bytes(sweep: Golden):
    sweep.write()
    guarded(main, [])
    command = [sys.executable, str(ROOT / "analysis" / "make_figures.py"), "nets", "--out", "again"]
    # Another order of sets, another time zone, another day by the clock's own account.
    other = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "SOURCE_DATE_EPOCH": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=other)
    assert (done.returncode, done.stderr) == (0, "")
    assert written("again") == written()


def test_a_sweep_without_epochs_has_no_learning_curves_and_is_told_so(
    sweep: Golden, capsys: pytest.CaptureFixture[str]
):
    sweep.write()
    guarded(main, [])
    for path in Path("runs").glob("*/history.jsonl"):
        path.unlink()
    assert guarded(main, []) == 0
    assert "nets-curves: nothing to draw, no cell has a history in its folder" in capsys.readouterr().err
    # What was drawn from records that are gone would pass for theirs.
    assert set(written()) == set(FILES[6:])


def test_a_page_that_a_sweep_has_no_more_is_removed_and_nothing_else(sweep: Golden, capsys: pytest.CaptureFixture[str]):
    sweep.write()
    Path("figures").mkdir()
    for name in ("nets-seeds-2.pdf", "nets-seeds-3.svg", "nets-seeds-x.pdf", "nets_augmented-seeds-2.pdf"):
        Path("figures", name).write_text("earlier")
    guarded(main, [])
    assert set(written()) == {*FILES, "nets-seeds-x.pdf", "nets_augmented-seeds-2.pdf"}
    assert "figures/nets-seeds-3.svg removed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tabel3"], "tabel3 was not launched into runs; launched there: nets"),
        (["--runs", "nowhere"], "nowhere"),
        (["--runs", "empty"], "no sweep was launched into empty"),
        (["--out", "file"], "file/nets-curves.pdf: cannot be written, File exists; name another folder with --out"),
        (["--out", "file/below"], "file/below/nets-curves.pdf: cannot be written, Not a directory"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
    sweep: Golden, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    sweep.write()
    Path("empty").mkdir()
    Path("file").write_text("in the way")
    assert guarded(main, arguments) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert len(shown.err.splitlines()) == 1
    assert "Traceback" not in shown.err
    assert not Path("figures").exists()


def test_a_folder_that_may_not_be_written_to_is_one_message(
    sweep: Golden, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    sweep.write()

    def refuse(path: Path, content: bytes, *, durable: bool) -> None:
        raise PermissionError(13, "Permission denied", str(path.with_name(".x.tmp")))

    # The superuser, who runs tests in containers, may write everywhere.
    monkeypatch.setattr("strive.cli.figures.write_whole", refuse)
    assert guarded(main, []) == 2
    assert capsys.readouterr().err == (
        "error: figures/nets-curves.pdf: cannot be written, Permission denied; name another folder with --out\n"
    )


def test_the_command_helps_from_any_folder(tmp_path: Path):
    command = [sys.executable, str(ROOT / "analysis" / "make_figures.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"COLUMNS": "120"})
    assert done.returncode == 0
    assert "SWEEP-effects" in done.stdout
