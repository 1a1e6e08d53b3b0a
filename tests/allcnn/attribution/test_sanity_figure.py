"""The sanity figure of a small net on real digits, and its words from numbers made by hand."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from allcnn.attribution import AttributionError, Rule, attribute, map_scores
from allcnn.attribution.baselines import reset_layers
from allcnn.attribution.deprocess import as_pixels
from allcnn.attribution.figure import FigureContent
from allcnn.attribution.figures import sanity as figure
from allcnn.attribution.figures.sanity import SanityOptions, make
from allcnn.attribution.sanity_checks import Comparison, ComparisonLine, compare_maps, difference, without_class_relu
from allcnn.attribution.trained_cell import TrainedCell
from allcnn.config import Config, DataConfig, Init, ModelConfig, Preprocess, PreprocessConfig, Source
from allcnn.data.splits import load_splits
from allcnn.networks.build import build_network
from strive.errors import ConfigError

MODEL = ModelConfig(width=0.125, init=Init.he)
FEW = SanityOptions(images=2, score_images=5, seeds=2, steps=4)
BOTTOM = "all 9 layers"
KINDS = ["trained", "conv9", "conv9 to conv6", "conv9 to conv3", BOTTOM]
KINDS += ["wrong class", "other image", "contrast map", "noise"]


@pytest.fixture(scope="module")
def cell() -> TrainedCell:
    config = Config(
        model=MODEL,
        data=DataConfig(source=Source.digits, name="digits"),
        preprocess=PreprocessConfig(kind=Preprocess.standardize),
    )
    splits = load_splits(config, torch.device("cpu"))
    network = build_network(MODEL, num_classes=10, image_size=32, seed=1).requires_grad_(False).eval()
    return TrainedCell(
        name="a cell", folder=Path("nowhere"), config=config, network=network, splits=splits, weights_sha256="0"
    )


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def made(cell: TrainedCell, said: list[str]) -> FigureContent:
    return make(cell, FEW, said.append)


@pytest.fixture
def images(cell: TrainedCell) -> Tensor:
    # 400 test images: five that are spread evenly.
    ((images, _),) = cell.splits.test.batches([torch.tensor([0, 80, 160, 240, 320])])
    return images


def lines(made: FigureContent) -> Iterator[tuple[str, str]]:
    return ((line["rule"], line["what"]) for line in made.numbers)


def numbers(made: FigureContent, rule: str, what: str) -> dict[str, float]:
    return next(line for line in made.numbers if (line["rule"], line["what"]) == (rule, what))


def guided(network: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Return guided maps of classes before the class ReLU: the class convolution's mean, by its sum over places."""
    below = nn.Sequential(*[part for name, part in network.named_children() if name != "relu9"]).eval()
    return attribute(below, images, rule="guided", channels=classes).maps


def test_each_rule_has_all_its_controls_and_every_score_stands_beside_theirs(made):
    assert list(lines(made)) == [(rule.value, what) for rule in Rule for what in KINDS]
    assert len({tuple(line) for line in made.numbers}) == 1
    for line in made.numbers:
        scored = line["what"] not in ("conv9", "conv9 to conv6", "conv9 to conv3")
        assert all((line[score] is not None) is scored for score in ("gini", "deletion", "insertion"))
        assert line["spearman"] is not None
        assert line["cosine"] is not None


def test_a_map_agrees_with_itself(made):
    for rule in Rule:
        line = numbers(made, rule.value, "trained")
        assert line["spearman"] == pytest.approx(1)
        assert line["cosine"] == pytest.approx(1)


def test_the_numbers_are_means_over_the_images_of_the_split(made, cell, images):
    classes = cell.network(images).argmax(1)
    maps = guided(cell.network, images, classes)
    assert maps.flatten(1).any(1).all()
    line = numbers(made, "guided", "trained")
    area = map_scores.deletion(cell.network, images, maps, classes, steps=4)
    assert line["deletion"] == pytest.approx(float(area.mean()), rel=1e-4)
    assert line["gini"] == pytest.approx(float(map_scores.gini(maps).mean()), rel=1e-4)
    assert line["n"] == 5


def test_what_is_scored_is_the_predicted_class_also_for_maps_of_a_wrong_one(made, cell, images):
    classes = cell.network(images).argmax(1)
    wrong = torch.tensor(made.facts["wrong"])
    assert (wrong != classes).all()
    area = map_scores.insertion(cell.network, images, guided(cell.network, images, wrong), classes, steps=4)
    assert numbers(made, "guided", "wrong class")["insertion"] == pytest.approx(float(area.mean()), rel=1e-4)


def test_fresh_weights_are_drawn_for_each_seed_and_the_spread_is_theirs(made, cell, images):
    classes = cell.network(images).argmax(1)
    own = guided(cell.network, images, classes)
    convs = [f"conv{number}" for number in range(1, 10)]
    means = [
        float(
            map_scores.signed_cosine(
                guided(reset_layers(cell.network, MODEL, convs, seed), images, classes), own
            ).mean()
        )
        for seed in (0, 1)
    ]
    assert abs(means[0] - means[1]) > 1e-3
    line = numbers(made, "guided", BOTTOM)
    assert line["cosine"] == pytest.approx(sum(means) / 2, abs=1e-5)
    assert line["cosine_sd"] == pytest.approx(abs(means[0] - means[1]) / 2**0.5, abs=1e-5)
    assert (line["draws"], line["n"]) == (2, 10)
    assert numbers(made, "guided", "wrong class")["cosine_sd"] is None


def test_the_floor_is_the_agreement_with_another_images_map(made, cell, images):
    classes = cell.network(images).argmax(1)
    maps = guided(cell.network, images, classes)
    # Half the images further on, or the first one after that which is taken for another class.
    places = [[(place + 2 + step) % 5 for step in range(5)] for place in range(5)]
    others = [
        next((each for each in row if classes[each] != classes[place]), row[0]) for place, row in enumerate(places)
    ]
    floor = float(map_scores.signed_cosine(maps[others], maps).mean())
    assert floor < 0.9
    assert numbers(made, "guided", "other image")["cosine"] == pytest.approx(floor, abs=1e-5)


def test_a_layer_with_fresh_weights_changes_backprops_map_and_noise_has_nothing_in_common_with_any(made):
    assert abs(numbers(made, "backprop", BOTTOM)["cosine"]) < 0.1
    for rule in Rule:
        # Five standard errors of five maps of 3,072 values.
        assert abs(numbers(made, rule.value, "noise")["cosine"]) < 5 / (5 * 3072) ** 0.5


def test_the_same_subject_and_options_give_the_same_figure(made, cell):
    again = make(cell, FEW, lambda text: None)
    assert again.numbers == made.numbers
    assert again.caption == made.caption
    for row, other in zip(made.rows, again.rows, strict=True):
        for tile, same in zip(row.tiles, other.tiles, strict=True):
            assert tile.caption == same.caption
            assert np.array_equal(tile.picture, same.picture)


def test_a_row_for_each_rule_shows_the_image_the_map_and_its_controls(made, cell, images):
    assert made.columns[:3] == ("image", "trained", "fresh weights: conv9")
    assert [row.label for row in made.rows] == [rule.value for rule in Rule] * 2
    assert all(len(row.tiles) == len(made.columns) == 9 for row in made.rows)
    # Two of the five, spread evenly: the first and the third.
    pixels = as_pixels(images, cell.config, cell.splits)
    assert made.facts["shown"] == [0, 160]
    assert (made.rows[3].tiles[0].picture == pixels[2]).all()
    assert made.rows[4].tiles[0].picture is None


def test_a_block_is_named_by_the_image_its_class_and_the_classes_asked_for(made, cell, images):
    names = cell.splits.class_names
    predicted = names[int(cell.network(images[[2]]).argmax())]
    wrong = names[made.facts["wrong"][2]]
    own = names[int(cell.splits.test.labels[160])]
    assert made.rows[3].heading == f"test image 160 ({own}); predicted: {predicted}; wrong class: {wrong}"


def test_below_each_map_is_its_cosine_with_the_trained_nets(made, cell, images):
    classes = cell.network(images).argmax(1)
    maps = (guided(cell.network, images, each) for each in (classes, torch.tensor(made.facts["wrong"])))
    cosine = float(map_scores.signed_cosine(*maps)[2])
    assert abs(cosine) > 0.01
    wrong = made.columns.index("wrong class")
    assert made.rows[5].tiles[wrong].caption == f"{cosine:+.2f}"


def test_progress_is_told_before_each_line(made, said):
    assert len(said) == len(made.numbers)
    assert said[0] == "sanity: 0 of 27 lines done; backprop, trained"


def test_the_caption_says_what_the_numbers_are_of(made):
    for part in ("Adebayo", "Nie", "over 5 test images", "2 draws", "4 steps", "all_cnn_c at width 0.125 on digits"):
        assert part in made.caption


def test_the_table_on_the_page_has_the_lines_of_the_numbers_for_each_rule(made):
    head, *lines = made.table
    assert head == ("rule", "map", "cosine", "rank correlation", "Gini", "deletion (low)", "insertion (high)")
    assert [line[0] for line in lines if line[0]] == ["backprop", "deconvnet", "guided"]
    assert len(lines) == len(made.numbers)
    (line,) = [each for each in lines[-9:] if each[1] == f"fresh weights: {BOTTOM}"]
    expected = numbers(made, "guided", BOTTOM)
    assert line[2] == f"{expected['cosine']:.2f}±{expected['cosine_sd']:.2f}"
    assert line[6] == f"{expected['insertion']:.3f}±{expected['insertion_sd']:.3f}"


def test_dead_class_maps_still_have_maps_because_the_class_relu_is_left_out(cell, images):
    network = reset_layers(cell.network, MODEL, [], 0)
    network.get_submodule("conv9").bias.fill_(-1e4)
    assert not network(images).any()
    assert not attribute(network, images, rule="guided").maps.any()
    found = compare_maps(network, MODEL, images, draws=1, steps=2)
    assert sum(line.zero_maps for line in found.lines) == 0
    assert (found.predicted == 0).all()  # of equal ones the first
    assert (found.wrong != 0).all()


def test_the_network_without_its_class_relu_is_made_of_the_same_parts(cell, images):
    below = without_class_relu(cell.network)
    assert below.get_submodule("conv9") is cell.network.get_submodule("conv9")
    assert not below.training
    assert below(images).min() < 0 <= cell.network(images).min()
    assert without_class_relu(below) is below


def test_maps_of_zeros_are_counted_and_never_scored(cell, images):
    network = reset_layers(cell.network, MODEL, [], 0)
    network.get_submodule("conv1").bias.fill_(-1e4)
    found = compare_maps(network, MODEL, images, draws=1, steps=2)
    dead = found.line(Rule.guided, "trained")
    assert dead.zero_maps == 5
    assert [dead.mean(measure) for measure in ("cosine", "gini", "deletion")] == [None] * 3
    # Nothing of deconvnet's map is masked by what the image excites.
    assert found.line(Rule.deconvnet, "trained").zero_maps == 0
    caption = figure._caption(cell, found, FEW, 5)
    assert "maps are zero everywhere and are left out of every number" in caption
    assert "too few maps to tell" in caption


def test_a_diverged_net_is_refused(cell, images):
    network = reset_layers(cell.network, MODEL, [], 0)
    network.get_submodule("conv9").weight.fill_(torch.nan)
    with pytest.raises(AttributionError, match="finite"):
        compare_maps(network, MODEL, images, draws=1, steps=2)


def line(rule: Rule, what: str, **values: list[list[float]]) -> ComparisonLine:
    made = {name: torch.tensor(each, dtype=torch.float64) for name, each in values.items()}
    return ComparisonLine(rule, what, torch.zeros(0, 3, 2, 2), made, 0)


def test_a_difference_is_paired_by_image():
    one, other = [3.0, 5.0, 4.5, 8.0], [1.0, 4.0, 2.0, 7.5]
    mean, error = difference(line(Rule.guided, "a", gini=[one]), line(Rule.guided, "b", gini=[other]), "gini")
    assert mean == pytest.approx(1.5)
    assert mean / error == pytest.approx(stats.ttest_rel(one, other).statistic)


def test_draws_add_their_own_error_to_a_difference():
    # Both images differ by 1 in the first draw and by 3 in the second: all of the error is the draws'.
    drawn, one = line(Rule.guided, "a", gini=[[1, 2], [3, 4]]), line(Rule.guided, "b", gini=[[0, 1]])
    assert difference(drawn, one, "gini") == pytest.approx((2, (2 / 2) ** 0.5))
    assert difference(one, drawn, "gini") == pytest.approx((-2, (2 / 2) ** 0.5))
    assert difference(one, line(Rule.guided, "c"), "gini") is None


def compare(fresh: float, wrong: float, floor: float, *, rank: float | None = None, insertion: float) -> str:
    """Return what is said of guided backpropagation whose controls have such agreements and scores."""

    def kind(what: str, cosine: float, spearman: float, inserted: float) -> ComparisonLine:
        means = {"cosine": cosine, "spearman": spearman, "deletion": 0.5, "insertion": inserted}
        # Three images with nearly the same numbers, the spread another for each kind.
        spread = 1e-3 * len(what)
        return line(Rule.guided, what, **{name: [[mean - spread, mean, mean + spread]] for name, mean in means.items()})

    lines = (
        kind("trained", 1, 1, insertion),
        kind(BOTTOM, fresh, fresh if rank is None else rank, 0.3),
        kind("wrong class", wrong, wrong, 0.5),
        kind("other image", floor, floor, 0.2),
        kind("contrast map", 0, 0, 0.9),
        kind("noise", 0, 0, 0.1),
    )
    nothing = torch.zeros(3, dtype=torch.int64)
    return figure._finding(Comparison(lines, ("conv1",), (BOTTOM,), nothing, nothing), Rule.guided)


def test_the_caption_says_which_maps_need_nothing_that_was_learned():
    text = compare(0.56, 0.98, 0.05, insertion=0.8)
    assert "in all 9 layers the agreement with the trained net's map is above the floor in cosine and rank, so" in text
    assert "wrong class above the floor in cosine and rank, so part of the map is the same whatever class" in text
    text = compare(0.05, 0.0, 0.05, insertion=0.8)
    assert text.count("not above the floor") == 2
    assert "rank alone, so the same pixels are strong, but not with the same signs" in compare(
        0.0, 0.0, 0.1, rank=0.7, insertion=0.8
    )


def test_no_agreement_is_none_also_where_another_images_map_is_opposed():
    assert "in all 9 layers the agreement with the trained net's map is not above the floor" in compare(
        0.0, 0.5, -0.5, insertion=0.8
    )


def test_the_caption_says_which_controls_a_score_beats():
    text = compare(0.5, 0.5, 0.5, insertion=0.8)
    assert text.endswith("Insertion: better than fresh weights, wrong class, noise, not than contrast.")
    assert "Deletion: better than none of its controls." in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 0}, "images must be 1 or more, got 0"),
        ({"score_images": 1}, "score_images must be 2 or more, got 1"),
        ({"seeds": 0}, "seeds must be 1 or more"),
        ({"images": 9, "score_images": 8}, "images=9 must be at most score_images=8"),
        ({"split": "tset"}, "split must be one of train, val, test, got 'tset'"),
    ],
)
def test_what_makes_no_comparison_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        SanityOptions(**options)


def test_a_split_that_is_not_there_is_refused(cell):
    with pytest.raises(ConfigError, match=r"split=val: nothing was held out for it \(data.val_images=0\)"):
        make(cell, dataclasses.replace(FEW, split="val"), lambda text: None)
