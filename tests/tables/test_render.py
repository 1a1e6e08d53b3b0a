import csv
import io
import math
import random
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from literature import comparison_tables
from markdown_it import MarkdownIt
from PIL import Image
from rich.cells import cell_len

from strive.plain_text import one_line
from strive.tables.latex_floats import PACKAGES
from strive.tables.render import footnotes_csv, latex, latex_tables, markdown, markdown_tables, tidy_csv
from strive.tables.table import Column, Entry, Row, Table

# What GitHub does to a file, as far as CommonMark and its tables go.
GITHUB = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
NASTY = [
    "<script>alert(1)</script>",
    "a|b",
    "back\\slash\\|",
    "**bold** _it_ `code` ~~gone~~",
    "[link](http://x) ![img](y) [ref]: z [^1]",
    "&lt;b&gt; &amp;",
    "# heading #",
    "- item",
    "1. one",
    "two\nlines\r\n\n\nfour",
    "50% of $x_1$ & {y} ^ ~ # \\input{/etc/passwd}",
    "数据集 данные ± \u2013 \u2212 \u00d7 ≤ \u03b1 Ω é ç ő ß 😀",
    "\x1b[31mred\x07 \ud800 \u202egnp.exe",
    "=cmd|' /C calc'!A0",
    "[3]",
    "*",
    "all_cnn_c",
    "__init__",
    "a--b---c ''quoted'' \"q\" ,, ?` !`",
]


def _table(rows: Sequence[Sequence[str | Entry]], titles: list[str] | None = None, **more: Any) -> Table:
    """A table whose first column is text and whose others are numbers."""
    titles = titles or ["net", *(f"column {i}" for i in range(1, len(rows[0])))]
    entries = [tuple(each if isinstance(each, Entry) else Entry(text=each) for each in row) for row in rows]
    return Table(
        name=more.pop("name", "errors"),
        title=more.pop("title", "Test error"),
        caption=more.pop("caption", "On test images."),
        columns=tuple(Column(title=title, numeric=i > 0) for i, title in enumerate(titles)),
        rows=tuple(Row(entries=each, ref=str(i)) for i, each in enumerate(entries, 1)),
        **more,
    )


def _summary(*tables: Table, **more: Any) -> Any:
    found = {"title": "table3", "answer": "Yes.", "notes": (), "problems": ()} | more
    frames = {"tidy": pd.DataFrame({"x": [1]}), "footnotes": pd.DataFrame({"x": [1]})}
    loaded = SimpleNamespace(name="table3", question=more.pop("question", "Can it be?"))
    return SimpleNamespace(loaded=loaded, tables=tables, **(frames | found))


def _shown(text: str) -> list[str]:
    """What a reader of the Markdown sees: the text of each heading, paragraph, item and table cell."""
    tokens = GITHUB.parse(text)
    assert not [token for token in tokens if token.type in ("html_block", "code_block", "fence", "hr")]
    shown = []
    for token in tokens:
        if token.type == "inline":
            kinds = {child.type for child in token.children or ()}
            assert kinds <= {"text", "softbreak", "strong_open", "strong_close", "text_special"}, (kinds, token.content)
            parts = [" " if child.type == "softbreak" else child.content for child in token.children or ()]
            shown.append("".join(parts))
    return shown


def _grid(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


# Markdown


def test_columns_are_aligned_and_numbers_stand_right() -> None:
    table = _table([["Model A", "12.5", "数据"], ["ALL-CNN-C", "9.08", "±"]], ["net", "error", "x"])
    assert _grid(markdown(_summary(table))) == [
        "| net       | error |    x | cells |",
        "| --------- | ----: | ---: | ----- |",
        "| Model A   |  12.5 | 数据 | [1]   |",
        "| ALL-CNN-C |  9.08 |    ± | [2]   |",
    ]


def test_every_line_of_a_table_is_equally_wide_on_a_terminal() -> None:
    lines = _grid(markdown(_summary(_table([[text, text] for text in NASTY]))))
    assert len({cell_len(line) for line in lines}) == 1
    assert len(lines) == len(NASTY) + 2


def test_question_and_answer_come_before_the_tables_and_holes_after() -> None:
    text = markdown(_summary(_table([["A", "1"]]), notes=("Mind this.",), problems=("A: 1 missing",)))
    order = ["# table3", "Can it be?", "**Yes.**", "## Test error", "| A ", "Mind this.", "A: 1 missing", "ref 1"]
    positions = [text.index(each) for each in order]
    assert positions == sorted(positions)


@pytest.mark.parametrize("text", NASTY)
def test_untrusted_text_is_shown_as_it_is_wherever_it_stands(text: str) -> None:
    table = _table([[text, "1"]], [text, "x"], title=text, caption=text, notes=(text,))
    shown = _shown(markdown(_summary(table, title=text, answer=text, question=text, notes=(text,), problems=(text,))))
    # Title, question, answer, heading, caption, column, cell, note of the table, note, problem.
    assert shown.count(one_line(text)) == 10


def test_no_text_of_any_make_becomes_markdown() -> None:
    draw = random.Random(0)
    pieces = [*"\\`*_{}[]()#+-.!|<>&~$:=^\"'/ 1a", "é", "<b", "http:", "&lt;", "\n", "1.", "- ", "](", "]:", "~~", "__"]
    for _ in range(3000):
        text = "".join(draw.choice(pieces) for _ in range(draw.randrange(1, 12)))
        table = _table([[text, Entry(text=text, bold=True)]], caption=text, notes=(text,))
        if plain := one_line(text):
            assert _shown(markdown_tables([table])).count(plain) == 4, text


def test_a_long_caption_is_broken_into_lines_of_which_none_begins_a_list() -> None:
    caption = " ".join(["- minus", "1. one", "# hash", "> more", "+ plus", "=== ---"] * 30)
    text = markdown_tables([_table([["A", "1"]], caption=caption)])
    assert max(map(len, text.splitlines())) <= 112
    assert caption in _shown(text)


def test_common_texts_carry_no_backslash() -> None:
    texts = ["<0.001", "8.90 to 9.40", "[8.9, 9.4]", "all_cnn_c-cifar10", "-0.42", "~1M", "p < 0.05", "A & B", "C#"]
    assert "\\" not in markdown_tables([_table([[text, text] for text in texts])])


def test_best_values_are_bold_and_holes_say_why() -> None:
    table = _table([["A", Entry(text="9.08", bold=True)], ["B", Entry(text="1 of 3 missing", hole=True)]])
    text = markdown(_summary(table))
    assert "|       **9.08** |" in text
    assert "| 1 of 3 missing |" in text


def test_a_table_without_cells_behind_it_has_no_such_column() -> None:
    table = Table(
        name="t", title="T", caption="", columns=(Column(title="a"),), rows=(Row(entries=(Entry(text="1"),)),)
    )
    assert _grid(markdown_tables([table])) == ["|   a |", "| --: |", "|   1 |"]


def test_no_tables_are_no_text() -> None:
    assert markdown_tables([]) == latex_tables([]) == ""


# LaTeX


needs_latex = pytest.mark.skipif(
    not (shutil.which("pdflatex") and shutil.which("pdftotext")), reason="needs pdflatex and poppler-utils"
)


ONE = r"\documentclass{article}"
TWO = r"\documentclass[twocolumn]{article}\usepackage[textwidth=6.875in,columnsep=0.275in,textheight=9in]{geometry}"
in_both = pytest.mark.parametrize("preamble", [ONE, TWO], ids=["one column", "two columns"])


def _compiled(folder: Path, body: str, preamble: str = ONE) -> tuple[str, str, str]:
    """Compile a document with the packages that tables need; return its text, pdflatex's log and the PDF's fonts."""
    preamble = "\n".join([preamble, PACKAGES, r"\begin{document}", r"\listoftables \clearpage"])
    (folder / "paper.tex").write_text("\n".join([preamble, body, r"\end{document}"]), encoding="utf-8")
    command = ["pdflatex", "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    for _ in range(2):  # the second reads back what \caption wrote
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
        assert done.returncode == 0, done.stdout[-2000:]
    texts = [
        subprocess.run([name, *rest], cwd=folder, capture_output=True, text=True, check=True).stdout
        for name, *rest in (("pdftotext", "-layout", "paper.pdf", "-"), ("pdffonts", "paper.pdf"))
    ]
    return texts[0], (folder / "paper.log").read_text(errors="replace"), texts[1]


def _flaws(log: str) -> list[str]:
    return re.findall(
        r"Overfull \\hbox.*|Float too large.*|Missing character.*|LaTeX Warning: (?:Reference|Label).*", log
    )


@needs_latex
@in_both
def test_nasty_text_compiles_and_fits_the_page(preamble: str, tmp_path: Path) -> None:
    rows: list[list[str | Entry]] = [[text, Entry(text=text, bold=True), Entry(text=text, hole=True)] for text in NASTY]
    table = _table(rows, notes=tuple(NASTY), caption=" ".join(NASTY))
    summary = _summary(table, title=NASTY[0], answer=NASTY[9], question=NASTY[10], notes=NASTY, problems=NASTY)
    body = latex(summary)
    assert body.isascii() or all(line.startswith("%") for line in body.splitlines() if not line.isascii())
    text, log, fonts = _compiled(tmp_path, body, preamble)
    assert _flaws(log) == []
    for shown in ("<script>alert(1)</script>", r"back\slash\|", r"\input{/etc/passwd}", "[U+6570]", "[3]", "“q”"):
        assert shown in text
    # A font without an outline is one that a small installation has to draw first, or lacks.
    assert "Type 3" not in fonts


@needs_latex
@in_both
@pytest.mark.parametrize(("columns", "rows"), [(5, 12), (12, 12), (4, 200)])
def test_wide_and_long_tables_fit_the_page_and_lose_nothing(
    columns: int, rows: int, preamble: str, tmp_path: Path
) -> None:
    cells = [[f"ConvPool-CNN-{i}", *(f"{i}.{j:02}" for j in range(1, columns))] for i in range(1, rows + 1)]
    text, log, _ = _compiled(tmp_path, latex_tables([_table(cells)]), preamble)
    assert _flaws(log) == []
    words = set(text.split())
    assert {cell for row in cells for cell in row} <= words


@needs_latex
@in_both
def test_words_without_an_end_break(preamble: str, tmp_path: Path) -> None:
    long = "x" * 300
    text, log, _ = _compiled(tmp_path, latex_tables([_table([[long, long, long]], [long, long, long])]), preamble)
    assert _flaws(log) == []
    assert text.count("x") >= 6 * 300


@needs_latex
@in_both
def test_the_papers_comparisons_compile(preamble: str, tmp_path: Path) -> None:
    cells = pd.DataFrame([{"data.name": "cifar100"}])
    trained: Any = SimpleNamespace(conditions=[SimpleNamespace(cells=cells)], layout=SimpleNamespace(paper=""))
    text, log, _ = _compiled(tmp_path, latex_tables(comparison_tables([trained])), preamble)
    assert _flaws(log) == []
    assert "ALL-CNN-C, the paper" in text


@needs_latex
def test_the_picture_of_a_table_has_ink_inside_the_margins_alone(tmp_path: Path) -> None:
    hole = Entry(text="2 of 3 done, 1 out of memory", hole=True)
    rows: list[list[str | Entry]] = [["ConvPool-CNN-C", *["12.34"] * 11], ["Model A", *[hole] * 11]]
    _compiled(tmp_path, latex_tables([_table(rows)]))
    subprocess.run(["pdftoppm", "-r", "72", "-gray", "-f", "2", "paper.pdf", "page"], cwd=tmp_path, check=True)
    page = np.asarray(Image.open(next(tmp_path.glob("page*.pgm"))))
    inked = np.flatnonzero((page < 128).any(axis=0))
    # Article's text begins 134 points from the left of a letter page and is 345 wide.
    assert len(inked)
    assert inked.min() >= 132
    assert inked.max() <= 481


def _tex(*entries: Entry, **more: Any) -> str:
    """One row of a table as LaTeX, with the type of its last column."""
    text = latex_tables([_table([list(entries)], **more)])
    kinds = re.search(r"begin{tabular}{@{}(.*)@{}}\n", text)
    row = re.search(r"midrule\n((?:.|\n)*?)\n *.bottomrule", text)
    assert kinds is not None
    assert row is not None
    return f"{kinds[1]}: {' '.join(row[1].split())}"


def test_numbers_are_siunitx_s_with_their_spread_marks_and_small_print_behind() -> None:
    name = Entry(text="A")
    assert _tex(name, Entry(text="14,362")) == r"lS[table-format=5]: A & 14362 \\"
    assert _tex(name, Entry(text="<0.001")) == r"lS[table-format=<1.3]: A & <0.001 \\"
    assert _tex(name, Entry(text="-3.36")) == r"lS[table-format=-1.2]: A & -3.36 \\"
    assert r": A & \bfseries 9.08{${}\pm{}0.20$} \\" in _tex(name, Entry(text="9.08 ± 0.20", bold=True))
    assert _tex(name, Entry(text="9.08 ± 0.20\u2217 (10.2)")).endswith(
        r"A & 9.08{${}\pm{}0.20$$^{\ast}$} \\ & {\scriptsize (10.2)} \\"
    )
    assert r"{$^{\bullet}$}" in _tex(name, Entry(text="+4.00", mark="•"))
    assert r"{\color[gray]{0.5}}9.08" in _tex(name, Entry(text="9.08", partial=True))


def test_the_reason_of_a_hole_and_what_else_is_no_number_stand_below_with_a_letter() -> None:
    text = latex_tables([_table([["A", "1.0", Entry(text="1 missing", hole=True)], ["B", "2.0, 1 of 3 dead", "3.0"]])])
    assert r"A & 1.0 & {\textendash$^{\mathrm{b}}$} \\" in text
    assert r"B & 2.0{$^{\mathrm{a}}$} & 3.0 \\" in text
    assert r"$^{\mathrm{a}}$\,1 of 3 dead. $^{\mathrm{b}}$\,1 missing." in text


def test_a_table_has_caption_and_label_and_comments_name_packages_and_cells() -> None:
    text = latex(_summary(_table([["A", "-0.42"], ["B", "-"]], caption="On 50% of it."), problems=("a hole",)))
    assert r"\caption[Test error]{Test error. On 50\% of it.}" in text
    assert r"\label{tab:table3-errors}" in text
    assert r"    B & {\textendash} \\" in text
    comments = [line for line in text.splitlines() if line.startswith("%")]
    assert PACKAGES in comments[-1]
    assert "table3.cells.csv" in comments[-1]
    assert "a hole" in comments[-2]


def test_a_hyphen_in_a_name_is_no_minus() -> None:
    text = latex_tables([_table([["ALL-CNN-3", "2026-11-20", "-1.0 to -0.5"]])])
    assert r"ALL-CNN-3 & 2026-11-20 & \ensuremath{-}1.0 to \ensuremath{-}0.5" in text


def test_space_stands_between_groups() -> None:
    rows = tuple(Row(entries=(Entry(text=name), Entry(text="9.1")), rule=True) for name in "AB")
    table = Table(name="t", title="T", caption="", columns=(Column(title="n"), Column(title="e")), rows=rows)
    lines = [line.strip() for line in latex_tables([table]).splitlines()]
    start = lines.index(r"\toprule")
    assert [line for line in lines[start:] if line[:1] == "\\"][:4] == [
        r"\toprule",
        r"\midrule",
        r"\addlinespace",
        r"\bottomrule",
    ]


def test_the_notes_of_a_table_in_parts_stand_once() -> None:
    cells = [[f"net {i}", "1.00"] for i in range(150)]
    text = latex_tables([_table(cells, notes=("Mind this.",))])
    assert text.count(r"\begin{table}") > 1
    assert text.count("Mind this.") == 1
    labels = re.findall(r"\\label{(.*?)}", text)
    assert len(labels) == len(set(labels)) == text.count(r"\begin{table}")


def test_a_wide_table_is_for_both_columns_of_a_page_and_a_compact_one_for_one() -> None:
    assert r"\begin{table*}" in latex_tables([_table([["ConvPool-CNN-C", *["12.34"] * 11]])])
    assert r"\begin{table}" in latex_tables([_table([["Base A", *["30.13 ± 1.21"] * 4]])])


def test_the_spread_is_in_the_column_of_the_mean_and_a_column_not_for_paper_is_left_out() -> None:
    columns = (
        Column(title="net", numeric=False),
        Column(title="n"),
        Column(title="error"),
        Column(title="sd", spread=True),
        Column(title="in interval", numeric=False, help="whether it lies in it", latex=False),
    )
    rows = tuple(Row(entries=tuple(Entry(text=each) for each in ("A", "3", "9.1", sd, "yes"))) for sd in ("0.20", "-"))
    table = Table(name="t", title="T", caption="Here.", columns=columns, rows=rows, aside="On my laptop.")
    text = latex_tables([table])
    assert r"A & 9.1{${}\pm{}0.20$} \\" in text
    assert r"A & 9.1 \\" in text
    assert "n = 3 in each line." in text
    for hidden in ("yes", "lies in it", "laptop"):
        assert hidden not in text
    assert "| yes " in markdown_tables([table])
    assert "On my laptop." in markdown_tables([table])
    assert latex_tables([replace(table, latex=False)]).count("table") == 0


# CSV


def _read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def test_lines_end_as_rfc_4180_has_it_and_quotes_keep_commas_and_line_breaks() -> None:
    frame = pd.DataFrame({"a": ['say "hi", you'], "b": ["x"]})
    assert tidy_csv(_summary(tidy=frame)) == 'a,b\r\n"say ""hi"", you",x\r\n'


def test_numbers_come_back_bit_for_bit() -> None:
    values = [0.1 + 0.2, 1 / 3, 1e-300, -5e-324, 9.08, 1369738.0, -2.5, float("inf")]
    text = tidy_csv(_summary(tidy=pd.DataFrame({"x": values})))
    assert [float(row[0]) for row in _read(text)[1:]] == values
    assert _read(text)[6] == ["1369738"]


def test_a_missing_number_is_an_empty_field() -> None:
    frame = pd.DataFrame(
        {"x": [None, math.nan, pd.NA, pd.NaT, ""], "y": [True, np.False_, 3, np.float64(2), [1, "a"]]}, dtype=object
    )
    assert _read(tidy_csv(_summary(tidy=frame)))[1:] == [["", y] for y in ("true", "false", "3", "2", '[1, "a"]')]


def test_text_that_a_spreadsheet_would_calculate_gets_an_apostrophe_and_numbers_do_not() -> None:
    texts = ["=1+1", "+cmd", "-x", "@SUM(A1)", "\uff1d1+1", "-0.5", "+3", "-inf", "-", "a=b", "'=1"]
    frame = pd.DataFrame({"=x": texts, "y": -1.5, "record": ""})
    rows = _read(footnotes_csv(_summary(footnotes=frame), Path("tables")))
    assert rows[0] == ["'=x", "y", "record"]
    assert [row[0] for row in rows[1:]] == [f"'{text}" for text in texts[:5]] + texts[5:]
    assert {row[1] for row in rows[1:]} == {"-1.5"}


def test_control_codes_and_half_pairs_are_marked_so_that_the_file_can_be_written() -> None:
    frame = pd.DataFrame({"x": ["\x1b[31m", "\ud800", "two\nlines", "\u202eexe"]}, dtype=object)
    text = tidy_csv(_summary(tidy=frame))
    text.encode()
    assert [row[0] for row in _read(text)[1:]] == ["\ufffd[31m", "\ufffd", "two lines", "\ufffdexe"]


def test_the_same_summary_gives_the_same_bytes() -> None:
    summaries = [_summary(_table([[text, "1"] for text in NASTY]), notes=NASTY) for _ in range(2)]
    for function in (markdown, latex, tidy_csv):
        assert function(summaries[0]) == function(summaries[1])


def test_records_are_named_from_the_folder_that_the_file_is_for(tmp_path: Path) -> None:
    frame = pd.DataFrame({"record": [str(tmp_path / "runs" / "cell" / "record.json"), ""]})
    text = footnotes_csv(_summary(footnotes=frame), tmp_path / "runs" / "tables")
    assert _read(text)[1][0] == "../cell/record.json"
