from dataclasses import replace

import pytest
from golden import Golden, MakeGolden
from handmade import summary_of, texts
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from strive.figures.heat_map import heat_map
from strive.figures.style import COLUMN, PAGE, text_width

KEYS = {"rows": ("model.base", "model.variant"), "baseline": {"model.variant": "base"}, "margin": 0.5}


def nets(sweep: Golden) -> Golden:
    for base, first in (("a", 12.0), ("b", 10.0)):
        for variant, more in (("base", 0.0), ("strided", 2.0), ("all_cnn", -2.0)):
            for seed in range(3):
                error = (
                    first + more + seed + 0.01 * seed * (variant == "strided") + 0.02 * seed * (variant == "all_cnn")
                )
                sweep.cell({"model.base": base, "model.variant": variant, "seed": seed}, round(error, 6))
    return sweep


def shades(figure: Figure) -> dict[str, float]:
    """How dark each place is, by its gid."""
    found = [each for each in figure.findobj(PolyCollection) if each.get_gid()]
    return {each.get_gid(): 3 - float(each.get_facecolor()[0][:3].sum()) for each in found}


def test_each_place_has_its_mean_with_half_of_its_interval_and_its_verdict(golden: MakeGolden):
    (figure,) = heat_map(summary_of(nets(golden()), **KEYS), COLUMN)
    found = texts(figure)
    # Base A: 12, 13, 14: mean 13, sd 1, half 4.3027 / sqrt(3) = 2.4842.
    assert {"13.00", "\N{PLUS-MINUS SIGN} 2.48", "15.01•", "11.02\u2217", "Base A", "Base B", "Strided"} <= set(found)
    assert "worse" in found[-1]
    assert "darker is more" in found[-1]


def test_more_is_darker(golden: MakeGolden):
    (figure,) = heat_map(summary_of(nets(golden()), **KEYS))
    shade = shades(figure)
    means = {"condition-1": 13.0, "condition-2": 15.01, "condition-3": 11.02, "condition-4": 11.0, "condition-6": 9.02}
    assert sorted(means, key=means.__getitem__) == sorted(means, key=shade.__getitem__)


@pytest.mark.parametrize("form", [COLUMN, PAGE, replace(COLUMN, titles=True)])
def test_texts_fit_their_places_and_a_hole_says_why(golden: MakeGolden, form: object):
    sweep = nets(golden())
    sweep.cell({"model.base": "b", "model.variant": "strided", "seed": 3}, None)
    (figure,) = heat_map(summary_of(sweep, **KEYS), form)  # type: ignore[arg-type]
    assert figure.get_figwidth() <= 7
    found = texts(figure)
    assert any("3 of 4" in text for text in found)
    cell = (figure.get_figwidth() - 0.5) / 3
    assert all(text_width(text, 8) < cell for text in found if text[0].isdigit())


def test_what_has_no_matrix_has_no_heat_map(golden: MakeGolden):
    assert heat_map(summary_of(nets(golden()), rows=("model.variant",), pair=("seed", "model.base"))) == []
