import re
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib.figure import Figure

from strive.figures.style import COLOURS, FOREGROUND, house_style
from strive.report.svg import inline_svg, mark

ATTACK = "</text><script>alert(1)</script> & $x$"


@house_style()
def figure(text: str = "words") -> Figure:
    made = Figure(figsize=(2, 1))
    axes = made.add_axes((0, 0, 1, 1))
    axes.plot([0, 1], [0, 1], color=COLOURS[1], gid="condition-1", marker="o")
    axes.text(0.5, 0.5, text, color=FOREGROUND)
    return made


def test_text_stays_text_and_an_attack_stays_text_too():
    svg = inline_svg(figure(ATTACK), "s1", f'"{ATTACK}', {})
    assert "<script" not in svg
    root = ElementTree.fromstring(svg)
    assert ATTACK in [element.text for element in root.iter("text")]
    assert root.attrib["aria-label"] == f'"{ATTACK}'


def test_colours_are_the_pages_and_no_others():
    svg = inline_svg(figure(), "s1", "", {})
    assert re.findall("#[0-9a-f]{6}", svg) == []
    assert {"var(--s1)", "var(--ink)"} <= set(re.findall(r"var\(--\w+\)", svg))


def test_an_id_begins_with_the_figures_name_and_every_reference_leads_to_one():
    svg = inline_svg(figure(), "s1-effects", "", {})
    ids = re.findall(r' id="([^"]*)"', svg)
    assert ids
    assert all(each.startswith("s1-effects-") for each in ids)
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', svg)) <= set(ids)


def test_what_is_drawn_for_a_condition_has_its_place_and_title():
    svg = inline_svg(figure(), "s1", "", {"condition-1": mark(7, "<b>Net</b>; 9.08 %")})
    assert Markup('<g data-place="7"><title>&lt;b&gt;Net&lt;/b&gt;; 9.08 %</title>') in svg


def test_the_same_figure_gives_the_same_text():
    assert inline_svg(figure(), "s1", "", {}) == inline_svg(figure(), "s1", "", {})
