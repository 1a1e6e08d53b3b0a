import os
import re
import stat
from pathlib import Path

import pytest
from golden import Golden
from support import ROOT

from strive.cli.main import main
from strive.sweeps.plan import plan_name

NAME = plan_name([], "")
KEY = f"{NAME}/all_cells/test_error"
MARK = f"<!-- strive: {KEY} -->{{}}<!-- / -->"


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page beside the records of one condition with the mean 10.50."""
    sweep = Golden(tmp_path / "runs", file="", name=NAME, question="")
    for seed, error in enumerate((10.0, 11.0)):
        sweep.cell({"model.variant": "base", "seed": seed}, error)
    sweep.write()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "page.md"


def test_a_stale_number_is_1_and_write_brings_it_up_to_date(page: Path, capsys: pytest.CaptureFixture[str]):
    page.write_text(f"It is {MARK.format('10.4')}%.\n")
    page.chmod(0o640)
    assert main(["check", "page.md"]) == 1
    assert capsys.readouterr().err == (f"page.md:1: {KEY} is 10.4, the records give 10.50\n")
    assert main(["check", "page.md", "--write"]) == 0
    assert page.read_text() == f"It is {MARK.format('10.50')}%.\n"
    assert stat.S_IMODE(page.stat().st_mode) == 0o640
    assert [path.name for path in page.parent.iterdir() if path.name.startswith(".")] == []
    assert main(["check", "page.md"]) == 0
    assert capsys.readouterr().out.endswith("1 number or table is what the records give\n")


def test_write_follows_a_link_and_leaves_what_is_up_to_date_alone(page: Path):
    page.write_text(MARK.format("10.4"))
    link = page.parent / "link.md"
    link.symlink_to(page.name)
    assert main(["check", "link.md", "--write"]) == 0
    assert link.is_symlink()
    assert page.read_text() == MARK.format("10.50")
    os.utime(page, ns=(1, 1))
    assert main(["check", "link.md", "--write"]) == 0
    assert page.stat().st_mtime_ns == 1


def test_a_key_that_does_not_exist_stays_1_with_write(page: Path, capsys: pytest.CaptureFixture[str]):
    page.write_text(MARK.format("10.4") + "\n<!-- strive: other/a/n -->1<!-- / -->\n")
    assert main(["check", "page.md", "--write"]) == 1
    assert "page.md:2: other/a/n does not exist: other was not launched into runs" in capsys.readouterr().err
    assert MARK.format("10.50") in page.read_text()


def test_what_is_no_text_and_what_is_not_there_is_a_mistake(page: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["check", "page.md"]) == 2
    page.write_bytes(b"\xff\xfe")
    assert main(["check", "page.md"]) == 2
    assert "page.md: not a text in UTF-8" in capsys.readouterr().err


def test_tables_write_the_numbers_and_keep_those_of_other_sweeps(page: Path):
    assert main(["tables"]) == 0
    numbers = page.parent / "tables" / "numbers.tex"
    text = numbers.read_text()
    assert f"\\striveNumber{{{KEY}}}{{10.50}}{{10.50}}" in text
    numbers.write_text(text + "% begin other\n\\striveNumber{other/a}{1}{1}%\n% end other\n")
    assert main(["tables", NAME]) == 0
    assert r"\striveNumber{other/a}{1}{1}" in numbers.read_text()
    assert main(["tables", "--check"]) == 0
    numbers.write_text(text.replace("10.50", "10.40"))
    assert main(["tables", "--check"]) == 1


@pytest.mark.parametrize("page", ["README.md", "docs/study.md", "docs/findings.md"])
def test_the_numbers_and_tables_of_a_page_are_those_of_the_committed_records(
    page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(ROOT)
    text = (ROOT / page).read_text()
    (runs,) = re.findall(r"strive check \S+ --runs\s+([^`\n]+)", text)
    assert main(["check", page, "--runs", *runs.split()]) == 0, capsys.readouterr().err
    marks = text.count("<!-- strive: ")
    assert capsys.readouterr().out == f"{marks} numbers and tables are what the records give\n"
