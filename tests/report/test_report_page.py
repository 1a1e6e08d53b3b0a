import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from browsing import becomes, chromium, faults, needs_chromium, opened, visible_lines
from golden import Golden
from handmade import epochs
from markupsafe import escape
from playwright.sync_api import Browser

from strive.report.page import render_report
from strive.results.judged_lines import declared_looks
from strive.results.load import load_sweep
from strive.results.table_choice import declared_table
from strive.sweeps.plan import plan_folder_name
from strive.tables.summary import SweepSummary, summarise_sweep

ATTACK = "<script>alert(1)</script>"
VARIANTS = {"base": 10.0, "strided": 12.0, "convpool": 9.0, "all_cnn": 8.0}


def nets(runs: Path) -> Golden:
    """Two bases and four variants with three seeds each; of Strided-CNN-C one seed failed, and one was never trained.

    The seeds of a condition lie 0, 0.1 and 0.3 above its value, those of base c 1 point higher than those of base a.
    """
    sweep = Golden(runs, file="table3", question="Can pooling be replaced without loss?")
    for base in "ac":
        for variant, error in VARIANTS.items():
            for seed, more in enumerate((0, 0.1, 0.3)):
                knobs = {"model.base": base, "model.variant": variant, "seed": seed, "budget.epochs": 3}
                if (base, variant, seed) == ("c", "strided", 1):
                    sweep.cell(knobs, status="out_of_memory", cause="40 GiB <b>of</b> 40")
                elif (base, variant, seed) == ("c", "strided", 2):
                    sweep.cell(knobs)
                else:
                    sweep.cell(knobs, error + more + (base == "c"), epochs=epochs(0.9, 0.5, 0.2))
    return sweep


def attacked(runs: Path) -> Golden:
    """A sweep whose every text is an attack on the page."""
    name = plan_folder_name([ATTACK], "")  # of a plan by another name no number is believed
    sweep = Golden(runs, file="", name=name, question=f"{ATTACK} & </title>", changes=[ATTACK])
    for arm in (f"</script>{ATTACK}", "<b>bold</b> %{x} $x$", "{{ 7 * 7 }}", "x" * 80):
        more = {"epochs": epochs(0.9, 0.5), "device": '"><img src=x onerror=alert(2)>'}
        knobs = {"optimizer.lr": 0.01 * len(arm), "budget.epochs": 2}
        sweep.cell(knobs | {"seed": 0}, 10.0, arm=arm, **more)
    sweep.cell({"budget.epochs": 2}, arm=ATTACK, status="error", cause=ATTACK)
    sweep.write()
    return sweep


def summary_of(sweep: Golden) -> SweepSummary:
    name = sweep.name or sweep.file
    if not (sweep.runs / "sweeps" / name).exists():
        sweep.write()
    return summarise_sweep(load_sweep(name, [sweep.runs]))


def page_of(sweeps: Sequence[SweepSummary], folder: Path = Path()) -> str:
    return render_report(sweeps, [], folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def summaries(tmp_path_factory: pytest.TempPathFactory) -> list[SweepSummary]:
    runs = tmp_path_factory.mktemp("report") / "runs"
    return [summary_of(nets(runs)), summary_of(attacked(runs))]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory, summaries: list[SweepSummary]) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page_of(summaries, path.parent), encoding="utf-8")
    return path


# The text of the page


def test_the_same_records_give_the_same_page(tmp_path: Path):
    sweep = nets(tmp_path / "runs")
    first = page_of([summary_of(sweep)])
    assert page_of([summary_of(sweep)]) == first


def test_question_and_answer_come_before_the_first_table(tmp_path: Path):
    summary = summary_of(nets(tmp_path / "runs"))
    html = page_of([summary])
    # Of the markup alone: the answer may hold quotes.
    order = [
        html.index("Can pooling be replaced without loss?</h1>"),
        html.index('class="answer"'),
        html.index("<table"),
    ]
    assert order == sorted(order)


def test_the_first_screen_has_what_answers_and_its_figure_and_the_rest_stands_behind_it(tmp_path: Path):
    summary = summary_of(nets(tmp_path / "runs"))
    html = page_of([summary])
    blocks = re.findall(r'<(?:section|figure) class="block" id="s1-([\w-]+)"', html)
    answers = ("overview", "differences")
    assert blocks[0] in answers
    assert blocks[1] == "effects-figure"
    assert {"errors", "curves-figure", "seeds-figure"} < set(blocks[2:])


def test_each_sweep_and_each_answer_is_on_the_page_once(summaries: list[SweepSummary]):
    html = page_of(summaries)
    for summary in summaries:
        assert html.count(f'<p class="answer">{escape(summary.answer)}</p>') == 1
        assert html.count(f"{escape(summary.loaded.question)}</h2>") == 1


def test_the_contents_lead_to_every_sweep_and_to_each_block_behind_its_answer(summaries: list[SweepSummary]):
    html = page_of(summaries)
    (contents,) = re.findall(r"<nav.*?</nav>", html, flags=re.DOTALL)
    linked = re.findall(r'href="#([\w-]+)"', contents)
    assert {"s1", "s1-curves-figure", "s2", "cells-s2"} < set(linked)
    assert all(html.count(f' id="{each}"') == 1 for each in linked)


def test_nothing_in_the_page_is_fetched(page_file: Path):
    html = page_file.read_text()
    markup = re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL)
    assert re.findall(r'\b(?:src|action|data|srcset)="(?!#|data:)', markup) == []
    assert {Path(link).name for link in re.findall(r'\bhref="(?!#)([^"]*)"', markup)} == {"record.json"}
    assert "<link" not in markup
    assert "default-src &#39;none&#39;" in markup


def test_every_id_is_there_once_and_every_reference_leads_to_one(page_file: Path):
    html = page_file.read_text()
    ids = re.findall(r' id="([^"]*)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', html)) <= set(ids)


def test_a_cell_is_a_link_to_its_record_from_the_pages_folder(tmp_path: Path):
    summary = summary_of(nets(tmp_path / "runs #1"))
    links = re.findall(r'<a href="([^"#]*)"[^>]*>([^<]*)</a>', page_of([summary], tmp_path / "pages"))
    assert len(links) == 23  # all but the missing cell
    for link, cell in links:
        assert json.loads((tmp_path / "pages" / unquote(link)).resolve().read_bytes())["cell"] == cell


def test_every_line_with_a_ref_has_its_cells(tmp_path: Path):
    summary = summary_of(nets(tmp_path / "runs"))
    html = page_of([summary])
    for condition in summary.conditions:
        group = re.search(rf'<tbody id="cells-s1-{condition.ref}".*?</tbody>', html, flags=re.DOTALL)
        assert group
        assert f'<a href="#cells-s1-{condition.ref}"' in html
        for cell in condition.cells["cell"]:
            assert cell in group[0]


def test_what_all_records_share_is_said_once(tmp_path: Path):
    html = page_of([summary_of(nets(tmp_path / "runs"))])
    listed = html[html.index("The cells behind each number</h2>") :]
    assert listed[: listed.index("<script")].count("c0de000000") == 1


def test_cells_that_the_looks_do_without_are_not_called_missing(tmp_path: Path):
    grid = "grid: {model.variant: [base, strided], seed: 'range(0,6)'}\nseeds: {looks: [2, 4, 6]}\n"
    table = "table: {rows: [model.variant], columns: [], baseline: {model.variant: base}, margin: 0.5}\n"
    sweep = Golden(tmp_path / "runs", text=f"question: q\n{grid}{table}")
    for variant, error in (("base", 10.0), ("strided", 20.0)):
        for seed in range(6):
            known = seed < 2 - (variant == "strided")
            later = {"status": "error", "cause": "no disk"} if seed == 5 and variant == "base" else {}
            sweep.cell({"model.variant": variant, "seed": seed}, error + seed if known else None, **later)
    loaded = load_sweep("golden", [sweep.write()])
    declared_looks(loaded, declared_table(loaded)).write(sweep.runs / "sweeps" / "golden")
    html = page_of([summarise_sweep(load_sweep("golden", [sweep.runs]))])
    # The first look needs two seeds of each.
    assert "3 of 12 cells done, 1 error, 1 missing, 7 not needed by the looks so far" in html
    assert "2 of 5 cells without a number: 1 error, 1 missing.</strong> No look is taken" in html
    assert "no disk" in html


def test_cells_without_a_number_come_first_with_their_causes(tmp_path: Path):
    html = page_of([summary_of(nets(tmp_path / "runs"))])
    failures = html[html.index('id="holes-s1"') : html.index("<table")]
    assert "2 of 24 cells without a number: 1 out of memory, 1 missing" in failures
    assert "<strong>out of memory</strong>: 40 GiB &lt;b&gt;of&lt;/b&gt; 40" in failures
    assert "<pre>Traceback</pre>" in failures
    assert "<strong>missing</strong>" in failures


def test_the_table_of_holes_is_not_repeated(tmp_path: Path):
    summary = summary_of(nets(tmp_path / "runs"))
    assert "holes" in [table.name for table in summary.tables]
    assert "s1-holes" not in page_of([summary])


def test_pictures_in_a_cells_folder_are_shown(tmp_path: Path):
    sweep = nets(tmp_path / "runs")
    assert "<h2>Pictures" not in page_of([summary_of(sweep)])
    cell = summary_of(sweep).loaded.cells.iloc[0]
    folder = Path(cell["folder"]) / "pictures"
    folder.mkdir()
    (folder / "layer 3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "no picture.png").write_bytes(b"<svg onload=alert(1)>")
    html = page_of([summary_of(sweep)])
    assert f'<img src="data:image/png;base64,iVBORw0KGgo=" alt="layer 3 of {cell["cell"]}. ">' in html
    assert "no picture" not in html


def test_what_is_written_of_a_picture_is_text_and_no_html(tmp_path: Path):
    sweep = nets(tmp_path / "runs")
    cell = summary_of(sweep).loaded.cells.iloc[0]
    folder = Path(cell["folder"]) / "pictures"
    folder.mkdir()
    (folder / "patches.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "patches.json").write_text(json.dumps({"title": f'" onload="{ATTACK}', "caption": ATTACK}))
    html = page_of([summary_of(sweep)])
    assert ATTACK not in html
    assert 'onload="' not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


# In a browser


@needs_chromium
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360)])
def test_axe_finds_no_serious_fault(browser: Browser, page_file: Path, scheme: Any, width: int):
    with opened(browser, page_file, color_scheme=scheme, viewport={"width": width, "height": 900}) as page:
        assert faults(page) == []
        # What is closed is not looked at.
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        assert faults(page) == []


@needs_chromium
def test_what_records_say_stays_text(browser: Browser, page_file: Path):
    with opened(browser, page_file) as page:
        # The page's own, and the places for the filter.
        assert page.locator("script").count() == 2
        assert page.locator("img, main b").count() == 0
        text = page.locator("#s2").inner_text()
        for attack in (ATTACK, "<b>bold</b> %{x} $x$", "{{ 7 * 7 }}", "onerror=alert(2)"):
            assert attack in text
        plotted = page.locator("#s2 svg text, #s2 svg title").all_text_contents()
        assert any("<b>bold</b> %{x} $x$" in each for each in plotted)


@needs_chromium
def test_the_policy_lets_no_other_script_run(browser: Browser, page_file: Path, tmp_path: Path):
    attack = tmp_path / "attack.html"
    attack.write_text(page_file.read_text().replace("</main>", "<script>document.title = 'attacked'</script></main>"))
    with pytest.raises(AssertionError, match="Content Security Policy"), opened(browser, attack) as page:
        assert page.title() != "attacked"


@needs_chromium
def test_the_filter_shows_the_lines_and_curves_of_a_value(browser: Browser, page_file: Path):
    with opened(browser, page_file) as page:
        every = [f"{net}-{base}" for base in "AC" for net in ("Model", "Strided-CNN", "ConvPool-CNN", "ALL-CNN")]
        every = [name.replace("Model-", "Model ") for name in every]
        assert visible_lines(page, "s1-errors") == every
        page.locator("#s1 .filter summary").click()
        page.locator("#s1 fieldset[data-knob='model.variant'] label", has_text="ALL-CNN").click()
        assert visible_lines(page, "s1-errors") == ["ALL-CNN-A", "ALL-CNN-C"]
        assert page.locator("#s1 .state").inner_text() == "2 of 8 places"
        for figure in ("curves", "effects", "seeds"):
            drawn = page.locator(f"#s1-{figure}-figure g:not(.faint) > title").all_text_contents()
            assert {each.partition(";")[0] for each in drawn} == {"ALL-CNN-A", "ALL-CNN-C"}
        page.locator("#s1 fieldset[data-knob='model.base'] label", has_text="A").click()
        assert visible_lines(page, "s1-errors") == ["ALL-CNN-A"]
        address = page.url
        page.locator("#s1 .all").click()
        assert visible_lines(page, "s1-errors") == every
        # Whoever is sent the address sees the same.
        page.goto(address)
        assert visible_lines(page, "s1-errors") == ["ALL-CNN-A"]
        assert page.locator("#s1 .state").inner_text() == "1 of 8 places"


@needs_chromium
def test_a_filter_that_leaves_nothing_says_so(browser: Browser, page_file: Path):
    with opened(browser, page_file) as page:
        page.locator("#s1 .filter summary").click()
        page.locator("#s1 fieldset[data-knob='model.variant'] label", has_text="base").click()
        # A baseline differs from nothing.
        assert visible_lines(page, "s1-differences") == []
        assert page.locator("#s1-differences .none").is_visible()


@needs_chromium
def test_the_filter_works_with_the_keyboard_alone(browser: Browser, page_file: Path):
    with opened(browser, page_file) as page:
        page.locator("#s1 .filter summary").focus()
        for key in ("Enter", "Tab", "Tab", "Space"):
            page.keyboard.press(key)
        assert page.evaluate("document.activeElement.value") == "C"
        assert visible_lines(page, "s1-errors") == ["Model C", "Strided-CNN-C", "ConvPool-CNN-C", "ALL-CNN-C"]
        # What a screen reader is told.
        assert page.locator("[role=status]").inner_text() == "4 of 8 places"


@needs_chromium
def test_a_lines_link_opens_its_cells(browser: Browser, page_file: Path):
    with opened(browser, page_file) as page:
        group = page.locator("#cells-s1-6")
        assert not group.is_visible()
        page.locator("#s1-errors-table a", has_text="[6]").click()
        group.wait_for(state="visible")
        assert "[6] Strided-CNN-C" in group.inner_text()
        assert [row.split("\t")[2] for row in group.inner_text().splitlines()[1:]] == [
            "done",
            "out of memory",
            "missing",
        ]
        # Below the filter, which stays on top of the page.
        below = page.locator("#s1 .filter").bounding_box()
        box = group.bounding_box()
        assert below
        assert box
        assert box["y"] >= below["y"] + below["height"]


@needs_chromium
def test_a_click_on_a_heading_sorts_and_holes_come_last(browser: Browser, page_file: Path):
    with opened(browser, page_file) as page:
        before = visible_lines(page, "s1-errors")
        heading = page.locator("#s1-errors-table th", has_text="test error, %")
        ascending = [
            "ALL-CNN-A",
            "ConvPool-CNN-A",
            "ALL-CNN-C",
            "Model A",
            "ConvPool-CNN-C",
            "Model C",
            "Strided-CNN-A",
        ]
        heading.get_by_role("button").click()
        assert heading.get_attribute("aria-sort") == "ascending"
        assert visible_lines(page, "s1-errors")[:2] == ascending[:2]
        assert visible_lines(page, "s1-errors")[-2:] == ["Strided-CNN-A", "Strided-CNN-C"]
        heading.get_by_role("button").click()
        assert visible_lines(page, "s1-errors")[0] == "Strided-CNN-A"
        assert visible_lines(page, "s1-errors")[-1] == "Strided-CNN-C"
        heading.get_by_role("button").click()
        assert visible_lines(page, "s1-errors") == before


@needs_chromium
def test_a_table_is_copied_as_it_stands_there_and_as_its_tex(browser: Browser, page_file: Path):
    with opened(browser, page_file, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.locator("#s1 .filter summary").click()
        page.locator("#s1 fieldset[data-knob='model.variant'] label", has_text="ALL-CNN").click()
        page.locator("#s1-errors .copy button", has_text="CSV").click()
        page.locator("#s1-errors .copy button", has_text="CSV copied").wait_for()
        head, *lines = list(csv.reader(page.evaluate("navigator.clipboard.readText()").splitlines()))
        assert head[0] == "net"
        assert [line[0] for line in lines] == ["ALL-CNN-A", "ALL-CNN-C"]
        page.locator("#s1-errors .copy button", has_text="TeX").click()
        page.locator("#s1-errors .copy button", has_text="TeX copied").wait_for()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == page.locator("#s1-errors .source pre").text_content()
        assert "tabular" in copied


@needs_chromium
def test_the_page_is_as_dark_as_the_system(browser: Browser, page_file: Path):
    for scheme, paper, ink in (
        ("light", "rgb(255, 255, 255)", "rgb(26, 26, 26)"),
        ("dark", "rgb(22, 24, 27)", "rgb(230, 228, 223)"),
    ):
        with opened(browser, page_file, color_scheme=scheme) as page:
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == paper
            fills = page.locator("svg text").evaluate_all("texts => texts.map((text) => getComputedStyle(text).fill)")
            assert ink in fills


@needs_chromium
def test_on_paper_everything_is_open_and_light(browser: Browser, page_file: Path):
    with opened(browser, page_file, color_scheme="dark", java_script_enabled=False) as page:
        page.emulate_media(media="print", color_scheme="dark")
        assert page.locator("#cells-s1-6").is_visible()
        assert page.locator(".filter:visible, .copy:visible, .source:visible, .contents:visible").count() == 0
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        page.emulate_media(media="screen", color_scheme="dark")
        assert not page.locator("#cells-s1-6").is_visible()


@needs_chromium
def test_a_phone_scrolls_wide_tables_and_not_the_page(browser: Browser, page_file: Path):
    with opened(browser, page_file, viewport={"width": 360, "height": 800}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        box = page.locator("#s1-errors .scroll")
        assert box.get_attribute("tabindex") == "0"
        box.focus()
        page.keyboard.press("ArrowRight")
        assert becomes(page, "document.querySelector('#s1-errors .scroll').scrollLeft > 0")


@needs_chromium
def test_without_javascript_the_page_is_complete(browser: Browser, page_file: Path):
    with opened(browser, page_file, java_script_enabled=False) as page:
        assert page.locator("#s1-errors-table tbody tr").count() == 8
        for figure in ("curves", "effects", "seeds"):
            assert page.locator(f"#s1-{figure}-figure svg:visible").count() == 1
        assert page.locator(".filter:visible, .copy:visible").count() == 0
        page.locator("#s1-errors-table a", has_text="[6]").click()
        assert page.locator("#cells-s1-6").is_visible()
