"""A figure as SVG within the page: its text stays text, and its colours are the page's, light and dark."""

import io
import re
from collections.abc import Mapping
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from strive.figures import style

# Variables of the page's style sheet.
_COLOURS = {
    **{colour: f"var(--s{number})" for number, colour in enumerate(style.COLOURS)},
    style.FOREGROUND: "var(--ink)",
    style.FAINT: "var(--faint)",
    style.STRIPE: "var(--wash)",
    "#ffffff": "var(--paper)",
    "#e4e4e4": "var(--rule)",
    "#8c8c8c": "var(--faint)",
    "#b0b0b0": "var(--rule)",
    "#a84a00": "var(--warn)",
}
_DROPPED = ("metadata", "style")  # what the page has itself
_NUMBERS = ("d", "x", "y", "width", "height", "transform", "viewBox")
_MEANINGLESS = re.compile(r"font-family: [^;]*(; |$)|text-anchor: start(; |$)")
_SPACED = re.compile(r"\s*([A-Za-z])\s*")
_FURTHER = re.compile(r"(?<=\.\d)\d+")


def inline_svg(figure: Figure, name: str, label: str, marks: Mapping[str, Markup]) -> Markup:
    """Return the figure as an <svg> element that is as wide as there is room.

    name: unique on the page, before all ids. label: what it shows, for those who do not see it. marks: {gid of an
    artist: attributes and title that its element gets, as `mark`}.
    """
    content = io.BytesIO()
    with style.house_style(), mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(content, format="svg", facecolor="none", metadata={"Date": None})
    root = ElementTree.fromstring(content.getvalue())
    inner = "".join(_markup(child, name, marks) for child in root)
    frame = Markup('<svg viewBox="{}" role="img" aria-label="{}">{}</svg>')
    return frame.format(_rounded(root.attrib["viewBox"]), label, Markup(inner))


def _markup(element: ElementTree.Element, name: str, marks: Mapping[str, Markup]) -> str:
    """Return an element without what says nothing: ids that nobody refers to, and groups without attributes."""
    tag = element.tag.rpartition("}")[2]
    if tag in _DROPPED:
        return ""
    inner = "".join(_markup(child, name, marks) for child in element) or escape(element.text or "").strip()
    gid = element.get("id", "")
    if tag == "g":
        return f"<g{marks[gid]}{inner}</g>" if gid in marks else inner
    attributes = "".join(_attribute(key.rpartition("}")[2], value, name) for key, value in element.items())
    if gid and (tag == "clipPath" or tag == "path"):
        attributes += f' id="{escape(name)}-{escape(gid)}"'
    return f"<{tag}{attributes}>{inner}</{tag}>" if inner else f"<{tag}{attributes}/>"


def _attribute(key: str, value: str, name: str) -> str:
    if key == "id" or (key == "transform" and value.startswith("rotate(-0 ")):
        return ""
    if key in _NUMBERS:
        value = _rounded(value)
    elif key == "style":
        value = _MEANINGLESS.sub("", value).rstrip("; ")
        value = re.sub("#[0-9a-f]{6}", lambda found: _COLOURS.get(found[0], found[0]), value)
    value = value.replace("url(#", f"url(#{name}-") if key == "clip-path" else value
    value = f"#{name}-{value[1:]}" if key == "href" else value
    return f' {key}="{escape(value)}"'


def _rounded(numbers: str) -> str:
    """Return numbers with a digit behind the point, which is a fifth of a pixel on the screen."""
    # Cut off, which is quicker than rounded: a page has a hundred thousand numbers.
    return _SPACED.sub(r"\1", _FURTHER.sub("", numbers)).strip()


def mark(place: int, title: str) -> Markup:
    """Return what a group of marks gets: its place, for the filter, and its title, for the mouse."""
    return Markup(' data-place="{}"><title>{}</title>').format(place, title)
