import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from golden import Golden
from handmade import summary_of

from strive.tables.cited_numbers import Number, collisions, numbers_of, slug
from strive.tables.latex_numbers import latex_numbers
from strive.tables.table import Column, Entry, Row, Table

NONE = Entry(text="-")
needs_latex = pytest.mark.skipif(
    not (shutil.which("pdflatex") and shutil.which("pdftotext")), reason="needs pdflatex and poppler-utils"
)


@pytest.fixture
def sweep(tmp_path: Path) -> Golden:
    return Golden(tmp_path / "runs")


def add(sweep: Golden, variant: str, *errors: float | None) -> None:
    for seed, error in enumerate(errors):
        sweep.cell({"model.variant": variant, "seed": seed}, error, parameters=14362)


def numbers(sweep: Golden, **layout: Any) -> dict[str, Number]:
    return numbers_of(summary_of(sweep, **({"baseline": {"model.variant": "base"}, "margin": 0.5} | layout)))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("ALL-CNN-C", "all_cnn_c"),
        ("model.width 0.5, lr 1e-05", "model_width_0.5_lr_1e-05"),
        ("lr -1", "lr_-1"),
        ("ALL-CNN-3", "all_cnn_3"),
        ("Größe", "große"),
        ("p, any spread", "p_any_spread"),
        ("+++", "unnamed"),
    ],
)
def test_a_name_becomes_a_readable_part_of_a_key(name: str, part: str):
    assert slug(name) == part


def test_a_condition_has_its_mean_its_spread_and_its_difference_with_the_p_of_the_verdict(sweep: Golden):
    add(sweep, "base", 10.0, 11.0, 12.0)
    add(sweep, "strided", 12.0, 13.1, 14.0)
    add(sweep, "convpool", 9.0, 12.0, 12.0)
    found = numbers(sweep)
    own = "golden/variant_strided/test_error"
    assert {field: found[own + field].text for field in ("", "/n", "/sd", "/diff", "/verdict", "/baseline")} == {
        "": "13.03",
        "/n": "3",
        "/sd": "1.00",
        "/diff": "+2.03",
        "/verdict": "worse",
        "/baseline": "variant base",
    }
    assert found[f"{own}/p"].text == found[f"{own}/p_loss"].text
    assert "two tests" in found["golden/variant_convpool/test_error/p"].why
    assert found["golden/variant_base/test_error/diff"].why == "it has no baseline"
    parameters = found["golden/variant_base/parameters"]
    assert (parameters.text, parameters.raw) == ("14,362", "14362")


def test_a_hole_has_no_number_but_a_reason(sweep: Golden):
    add(sweep, "base", 10.0, None)
    assert numbers(sweep)["golden/variant_base/test_error"] == Number(
        why="1 of 2 done, 1 error", of="variant base, condition 1"
    )


def test_two_conditions_with_one_key_have_no_number_and_both_are_named(sweep: Golden):
    for arm, seed in (("a_b", 0), ("a-b", 1), ("c", 2)):
        sweep.cell({"seed": seed}, 10.0, arm=arm)
    found = numbers(sweep, rows=("arm",), baseline={}, margin=0.0)
    (why,) = {text.partition(" would ")[2] for text in collisions(found.values())}
    assert why.startswith("be of both a_b, condition 1 and a-b, condition 2")
    assert [key for key, each in found.items() if key.endswith("/test_error") and each.text] == ["golden/c/test_error"]


def test_entries_of_further_tables_and_numbers_of_captions_have_keys(sweep: Golden):
    columns = (Column(title="factor", numeric=False), Column(title="p, any spread"))
    rows = [Row(entries=(Entry(text=name), entry)) for name, entry in (("a x b", Entry(text="<0.001")), ("c", NONE))]
    caption = {"variance_ratio": Entry(text="181")}
    table = Table(name="effects", title="E", caption="", columns=columns, rows=tuple(rows), in_caption=caption)
    add(sweep, "base", 10.0)
    found = numbers_of(replace(summary_of(sweep), tables=(table,)))
    assert found["golden/effects/a_x_b/p_any_spread"].raw == "<0.001"
    assert found["golden/effects/c/p_any_spread"].why
    assert found["golden/effects/variance_ratio"].text == "181"


def test_sections_of_other_sweeps_stay():
    first = latex_numbers({"one": {"one/a": Number(text="1%")}, "two": {"two/a": Number(text="2")}})
    both = latex_numbers({"two": {"two/a": Number(text="3")}}, first)
    assert r"\striveNumber{one/a}{1\%}" in both
    assert r"\striveNumber{two/a}{3}{3}" in both
    assert "{2}" not in both


# LaTeX


def compiled(folder: Path, body: str) -> tuple[int, str]:
    """Return pdflatex's exit code, and the text of the page or else what it said."""
    found = {
        "s/a_b/test_error": Number(text="-0.46"),
        "s/a/p": Number(text="<0.001"),
        "s/a/parameters": Number(text="14,362"),
        "s/hole/test_error": Number(why="2 of 3 done, 1 {out} of % memory"),
        "s/answer": Number(text="50% of $x$ & {y}"),
    }
    (folder / "numbers.tex").write_text(latex_numbers({"s": found}))
    lines = [r"\documentclass{article}", r"\input{numbers}", r"\begin{document}", body, r"\end{document}"]
    (folder / "paper.tex").write_text("\n".join(lines))
    command = ["pdflatex", "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    if done.returncode:
        return done.returncode, done.stdout
    text = subprocess.run(["pdftotext", "-layout", "paper.pdf", "-"], cwd=folder, capture_output=True, text=True)
    return 0, text.stdout


@needs_latex
def test_numbers_print_in_headings_captions_tables_and_formulas_and_expand_to_their_digits(tmp_path: Path):
    body = r"""\section{Error \strive{s/a_b/test_error}\%}
\begin{tabular}{l}\strive{s/a/parameters}\\\end{tabular} p \strive{s/a/p}, $x=\strive{s/a_b/test_error}$,
\edef\x{\striveraw{s/a/parameters}}\texttt{\meaning\x}, \ifdim\striveraw{s/a_b/test_error}pt<0pt negative\fi,
\strive{s/answer}"""
    code, text = compiled(tmp_path, body)
    assert code == 0, text
    words = " ".join(text.split())
    for shown in ("Error \N{MINUS SIGN}0.46%", "14,362", "p <0.001", "->14362", "negative", "50% of $x$ & {y}"):
        assert shown in words


@needs_latex
@pytest.mark.parametrize(
    ("use", "said"),
    [
        (r"\strive{s/a/pp}", "There is no number `s/a/pp'"),
        (r"\striveraw{s/a/pp}", "There is no number `s/a/pp'"),
        (r"\strive{s/hole/test_error}", "2 of 3 done"),
        (r"\edef\x{\striveraw{s/a/pp}}\x", "There is no number `s/a/pp'"),
    ],
)
def test_an_unknown_key_and_a_hole_are_errors_of_latex(use: str, said: str, tmp_path: Path):
    code, text = compiled(tmp_path, use)
    assert code != 0
    assert re.search(r"! Package strive Error", text)
    assert said in text.replace("\n", "")
