import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import becomes, chromium, faults, needs_chromium, opened, scrolled, visible_lines
from golden import Golden
from handmade import epochs
from playwright.sync_api import Browser

from strive.report.page import render_report
from strive.results.load import load_sweep
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
    path.write_text(render_report(summaries, []), encoding="utf-8")
    return path


def data_of(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html)
    assert found
    return json.loads(found[1])


# The text of the page


def test_the_same_records_give_the_same_page(tmp_path: Path):
    sweep = nets(tmp_path / "runs")
    first = render_report([summary_of(sweep)], [])
    assert render_report([summary_of(sweep)], []) == first


def test_question_and_answer_come_before_the_first_table(tmp_path: Path):
    summary = summary_of(nets(tmp_path / "runs"))
    html = render_report([summary], [])
    # Of the markup alone: the answer may hold quotes.
    order = [
        html.index("Can pooling be replaced without loss?</h1>"),
        html.index('class="answer"'),
        html.index("<table"),
    ]
    assert order == sorted(order)


def test_two_sweeps_have_a_list_of_questions_first(summaries: list[SweepSummary]):
    html = render_report(summaries, [])
    assert "2 questions and their answers" in html
    assert html.index('<a href="#s1">Can pooling') < html.index('<section class="sweep" id="s1"')


def test_nothing_in_the_page_is_fetched(page_file: Path):
    html = page_file.read_text()
    markup = re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL)
    assert re.findall(r'\b(?:src|href|action|data|srcset)="(?!#|data:)', markup) == []
    assert "<link" not in markup
    assert "default-src &#39;none&#39;" in markup


def test_a_page_without_figures_has_no_plotly(tmp_path: Path):
    sweep = Golden(tmp_path / "runs")
    sweep.cell({"seed": 0})
    html = render_report([summary_of(sweep)], [])
    assert html.count("<script") == 2
    assert len(html) < 100_000


def test_every_line_with_a_ref_has_its_cells(tmp_path: Path):
    summary = summary_of(nets(tmp_path / "runs"))
    html = render_report([summary], [])
    for condition in summary.conditions:
        group = re.search(rf'<tbody id="cells-s1-{condition.ref}".*?</tbody>', html, flags=re.DOTALL)
        assert group
        assert f'<a href="#cells-s1-{condition.ref}"' in html
        for cell in condition.cells["cell"]:
            assert cell in group[0]


def test_what_all_records_share_is_said_once(tmp_path: Path):
    html = render_report([summary_of(nets(tmp_path / "runs"))], [])
    listed = html[html.index("The cells behind each number</h2>") :]
    assert listed[: listed.index("<script")].count("c0de000000") == 1
    assert "runs/CELL/record.json" in listed


def test_cells_without_a_number_are_listed_with_their_causes(tmp_path: Path):
    html = render_report([summary_of(nets(tmp_path / "runs"))], [])
    failures = html[html.index('id="failures-s1"') :]
    assert "22 of 24 cells done, 1 out of memory, 1 missing" in failures
    assert "<strong>out of memory</strong>: 40 GiB &lt;b&gt;of&lt;/b&gt; 40" in failures
    assert "<pre>Traceback</pre>" in failures
    assert "<strong>missing</strong>" in failures


def test_the_table_of_holes_is_not_repeated(tmp_path: Path):
    summary = summary_of(nets(tmp_path / "runs"))
    assert "holes" in [table.name for table in summary.tables]
    assert "s1-holes" not in render_report([summary], [])


def test_pictures_in_a_cells_folder_are_shown(tmp_path: Path):
    sweep = nets(tmp_path / "runs")
    assert "<h2>Pictures" not in render_report([summary_of(sweep)], [])
    cell = summary_of(sweep).loaded.cells.iloc[0]
    folder = Path(cell["folder"]) / "pictures"
    folder.mkdir()
    (folder / "layer 3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "no picture.png").write_bytes(b"<svg onload=alert(1)>")
    html = render_report([summary_of(sweep)], [])
    assert f'<img src="data:image/png;base64,iVBORw0KGgo=" alt="layer 3 of {cell["cell"]}">' in html
    assert "no picture" not in html


def test_what_is_written_of_a_picture_is_text_and_no_html(tmp_path: Path):
    sweep = nets(tmp_path / "runs")
    cell = summary_of(sweep).loaded.cells.iloc[0]
    folder = Path(cell["folder"]) / "pictures"
    folder.mkdir()
    (folder / "patches.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "patches.json").write_text(json.dumps({"title": f'" onload="{ATTACK}', "caption": ATTACK}))
    html = render_report([summary_of(sweep)], [])
    assert ATTACK not in html
    assert 'onload="' not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


# In a browser


@needs_chromium
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360)])
def test_axe_finds_no_serious_fault(browser: Browser, page_file: Path, scheme: Any, width: int):
    with opened(browser, page_file, color_scheme=scheme, viewport={"width": width, "height": 900}) as page:
        scrolled(page)
        assert page.locator(".plot .main-svg").count() > 0
        assert faults(page) == []
        # What is closed is not looked at.
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        assert faults(page) == []


@needs_chromium
def test_what_records_say_stays_text(browser: Browser, page_file: Path):
    with opened(browser, page_file) as page:
        scrolled(page)
        # plotly.js, the page's own, and the data.
        assert page.locator("script").count() == 3
        assert page.locator("img, main b").count() == 0
        text = page.locator("#s2").inner_text()
        for attack in (ATTACK, "<b>bold</b> %{x} $x$", "{{ 7 * 7 }}", "onerror=alert(2)"):
            assert attack in text
        plotted = " ".join(
            page.locator("#s2 .plot text").all_text_contents() + page.locator("#s2 .panel").all_inner_texts()
        )
        assert "<b>bold</b> %{x} $x$" in plotted


@needs_chromium
def test_the_policy_lets_no_other_script_run(browser: Browser, page_file: Path, tmp_path: Path):
    attack = tmp_path / "attack.html"
    attack.write_text(page_file.read_text().replace("</main>", "<script>document.title = 'attacked'</script></main>"))
    with pytest.raises(AssertionError, match="Content Security Policy"), opened(browser, attack) as page:
        assert page.title() != "attacked"


@needs_chromium
def test_the_filter_shows_the_lines_and_curves_of_a_value(browser: Browser, page_file: Path):
    with opened(browser, page_file) as page:
        scrolled(page)
        every = [f"{net}-{base}" for base in "AC" for net in ("Model", "Strided-CNN", "ConvPool-CNN", "ALL-CNN")]
        every = [name.replace("Model-", "Model ") for name in every]
        assert visible_lines(page, "s1-errors") == every
        page.locator("#s1 .filter summary").click()
        page.locator("#s1 fieldset[data-knob='model.variant'] label", has_text="ALL-CNN").click()
        assert visible_lines(page, "s1-errors") == ["ALL-CNN-A", "ALL-CNN-C"]
        assert page.locator("#s1 .state").inner_text() == "2 of 8 places"
        # Of each base the three seeds and their mean.
        assert page.locator("[data-figure=s1-curves] .scatterlayer .trace").count() == 8
        assert page.locator("[data-figure=s1-effect] .ytick text").all_text_contents() == ["ALL-CNN-A", "ALL-CNN-C"]
        page.locator("#s1 fieldset[data-knob='model.base'] label", has_text="A").click()
        assert visible_lines(page, "s1-errors") == ["ALL-CNN-A"]
        assert page.locator("[data-figure=s1-curves] .panel:visible").count() == 1
        page.locator("#s1 .all").click()
        assert visible_lines(page, "s1-errors") == every


@needs_chromium
def test_a_filter_that_leaves_nothing_says_so(browser: Browser, page_file: Path):
    with opened(browser, page_file) as page:
        page.locator("#s1 .filter summary").click()
        page.locator("#s1 fieldset[data-knob='model.variant'] label", has_text="base").click()
        # A baseline differs from nothing.
        assert visible_lines(page, "s1-differences") == []
        assert page.locator("#s1 .block:has(#s1-differences-table) .none").is_visible()
        assert page.locator("[data-figure=s1-effect] .more").inner_text() == (
            "Nothing has the values that the filter asks for."
        )


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
@pytest.mark.parametrize(("scheme", "other"), [("light", "dark"), ("dark", "light")])
def test_the_page_is_as_dark_as_the_system_until_the_reader_chooses(
    browser: Browser, page_file: Path, scheme: Any, other: str
):
    background = "getComputedStyle(document.body).backgroundColor"
    colours = {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 27)"}
    with opened(browser, page_file, color_scheme=scheme) as page:
        assert page.evaluate(background) == colours[scheme]
        scrolled(page)
        page.locator("#theme").click()
        assert page.evaluate(background) == colours[other]
        page.reload()
        assert page.evaluate(background) == colours[other]


@needs_chromium
def test_on_paper_everything_is_open_and_light(browser: Browser, page_file: Path):
    with opened(browser, page_file, color_scheme="dark") as page:
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details:not([open])").count() == 0
        assert page.locator("#cells-s1-6").is_visible()
        assert page.locator(".filter:visible, #theme:visible").count() == 0
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        # Also those that were never in sight.
        assert page.locator(".plot").count() == page.locator(".plot:has(.main-svg)").count()
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        page.emulate_media(media="screen", color_scheme="dark")
        assert not page.locator("#cells-s1-6").is_visible()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 27)"


@needs_chromium
def test_a_phone_scrolls_wide_tables_and_not_the_page(browser: Browser, page_file: Path):
    with opened(browser, page_file, viewport={"width": 360, "height": 800}) as page:
        scrolled(page)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        box = page.locator("[data-table=s1-errors]")
        assert box.get_attribute("tabindex") == "0"
        box.focus()
        page.keyboard.press("ArrowRight")
        assert becomes(page, "document.querySelector('[data-table=s1-errors]').scrollLeft > 0")


@needs_chromium
def test_without_javascript_the_tables_are_whole(browser: Browser, page_file: Path):
    with opened(browser, page_file, java_script_enabled=False) as page:
        assert page.locator("#s1-errors-table tbody tr").count() == 8
        assert page.locator("noscript p").is_visible()
        assert page.locator(".filter:visible, #theme:visible").count() == 0
