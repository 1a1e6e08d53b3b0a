import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from support import MakeConfig, needs_gpu, train_cell
from torch import Tensor

from allcnn import randomness
from allcnn.config import Config
from allcnn.data.splits import ResidentSplit, Splits, load_splits
from allcnn.sample_images import inputs_picture, mistakes_picture, scaled, worst_mistakes
from allcnn.training import Execution, Outcome, cell_training

CPU = torch.device("cpu")
Pixels = npt.NDArray[np.uint8]


class DecodedWhenAsked:
    """A split that does not fit in memory: it has no images, only batches of those asked for."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.labels = labels
        self.asked: list[int] = []
        self._images = images  # [n, 3, h, w]

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, index_batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for index in index_batches:
            self.asked += index.tolist()
            yield self._images[index], self.labels[index]


def some_splits(count: int, size: int = 32, class_names: Sequence[str] = ("ant", "bee", "cat")) -> Splits:
    """Random images, the same for train and test, each of its own range."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, size, size, generator=generator) * torch.arange(1, count + 1)[:, None, None, None]
    labels = torch.arange(count) % len(class_names)
    split = DecodedWhenAsked(images, labels)
    return Splits(
        train=split,
        val=None,
        test=DecodedWhenAsked(images, labels),
        num_classes=len(class_names),
        class_names=tuple(class_names),
        fingerprint="",
        whitening=None,
    )


def all_wrong(labels: Tensor, num_classes: int = 3) -> Tensor:
    """Logits that take every image for the next class, the first one most confidently."""
    logits = torch.zeros(len(labels), num_classes)
    logits[torch.arange(len(labels)), (labels + 1) % num_classes] = torch.linspace(9, 1, len(labels))
    return logits


def expected_tile(image: Tensor, factor: int) -> Pixels:
    """[3, h, w] to [factor h, factor w, 3], by numpy."""
    numbers = image.numpy().astype(np.float64).transpose(1, 2, 0)
    numbers = (numbers - numbers.min()) / (numbers.max() - numbers.min())
    return np.kron(np.rint(255 * numbers).astype(np.uint8), np.ones((factor, factor, 1), np.uint8))


def pixels_of(png: bytes) -> Pixels:
    assert png.startswith(b"\x89PNG")
    return np.asarray(Image.open(io.BytesIO(png)))


def places(png: bytes, tiles: Sequence[Pixels]) -> list[tuple[int, int]]:
    """(row, column) of each tile in the picture; fails if one is not there."""
    picture, found = pixels_of(png), []
    for tile in tiles:
        high, wide = tile.shape[:2]
        corners = (picture[: -high + 1, : -wide + 1] == tile[0, 0]) & (picture[high - 1 :, wide - 1 :] == tile[-1, -1])
        matches = [
            (int(y), int(x))
            for y, x in np.argwhere(corners.all(axis=2))
            if np.array_equal(picture[y : y + high, x : x + wide], tile)
        ]
        assert matches, "a tile is not in the picture"
        found.append(matches[0])
    return found


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written into pictures, in order."""
    written: list[str] = []
    draw = ImageDraw.ImageDraw.text

    def text(self: ImageDraw.ImageDraw, xy: Any, text: str, *rest: Any, **options: Any) -> None:
        if text:
            written.append(text)
        draw(self, xy, text, *rest, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return written


def in_step_0(config: Config, splits: Splits, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """What the training loop gives to the net in its first step."""
    seen: list[Tensor] = []
    augment = cell_training.augment

    def record(*arguments: Any, **options: Any) -> Tensor:
        seen.append(augment(*arguments, **options))
        return seen[-1]

    with monkeypatch.context() as patch:
        patch.setattr(cell_training, "augment", record)
        trained(config, splits)
    return seen[0].clone()


def trained(config: Config, splits: Splits, **hooks: Any) -> Outcome:
    return train_cell(config, splits, Execution(CPU, threads=1, compiled=False), **hooks)


def first(split: ResidentSplit, count: int) -> ResidentSplit:
    return ResidentSplit(split.images[:count].numpy(), split.labels[:count].numpy(), CPU)


def few_digits(config: Config) -> Splits:
    splits = load_splits(config, CPU)
    assert isinstance(splits.train, ResidentSplit)
    assert isinstance(splits.test, ResidentSplit)
    return replace(splits, train=first(splits.train, 100), test=first(splits.test, 50))


def test_an_image_is_scaled_by_its_own_minimum_and_maximum():
    image = torch.tensor([[[-1.0, 4.0]], [[0.0, 1.0]], [[2.0, 3.0]]])  # [3, 1, 2]
    # 5 units are 255 levels.
    assert scaled(image).tolist() == [[[0, 51, 153], [255, 102, 204]]]


def test_an_image_of_one_value_is_black():
    assert scaled(torch.full((3, 2, 2), 7.0)).tolist() == np.zeros((2, 2, 3)).tolist()


@pytest.mark.parametrize(("kind", "factor"), [("none", 4), ("flip_shift", 4), ("extreme", 1)])
def test_inputs_are_what_the_first_step_trains_on(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch, kind: str, factor: int
):
    config = make_small(f"augment={kind}", "budget.epochs=1", "budget.batch_size=32", "seed=3")
    splits = few_digits(config)
    seen = in_step_0(config, splits, monkeypatch)
    assert len(seen) == 32
    found = places(inputs_picture(config, splits, 5), [expected_tile(image, factor) for image in seen[:5]])
    assert found == sorted(set(found))


def test_inputs_are_named_by_their_classes(make_small: MakeConfig, texts: list[str]):
    config = make_small("budget.batch_size=32")
    splits = few_digits(config)
    inputs_picture(config, splits, 40)
    order = torch.randperm(100, generator=randomness.generator(0, "order", 0))
    assert texts[:32] == [str(label) for label in splits.train.labels[order[:32]].tolist()]
    assert "Shown: 32 of 32." in " ".join(texts)


def test_mistakes_come_by_falling_softmax_and_equal_ones_by_row():
    rows = [
        (0, [5.0, 0.0, 0.0]),  # right
        (0, [0.0, 2.0, 0.0]),
        (1, [0.0, 0.0, 4.0]),
        (2, [2.0, 0.0, 0.0]),  # as confident as row 1
        (2, [0.0, 0.0, 1.0]),  # right
        (0, [0.0, 25.0, 0.0]),  # both 1 in float32
        (0, [0.0, 30.0, 0.0]),
    ]
    wrong, confidences = worst_mistakes(
        torch.tensor([logits for _, logits in rows]), torch.tensor([y for y, _ in rows])
    )
    assert wrong.tolist() == [6, 5, 2, 1, 3]
    leads = [30, 25, 4, 2, 2]
    assert confidences.tolist() == pytest.approx([1 / (1 + 2 * math.exp(-lead)) for lead in leads], rel=1e-12)


def test_a_dead_nets_mistakes_are_in_the_order_of_the_test_split():
    labels = torch.tensor([1, 0, 2, 1] * 25)  # all logits are equal: class 0 is predicted
    wrong, _ = worst_mistakes(torch.zeros(100, 3), labels)
    assert wrong.tolist() == [row for row in range(100) if row % 4 != 1]


def test_a_diverged_nets_mistakes_come_last(make_small: MakeConfig, texts: list[str]):
    logits = torch.tensor([[0.0, math.nan, 0.0], [math.inf, 0.0, 0.0], [0.0, 0.0, 1.0]])
    labels = torch.tensor([0, 1, 0])
    assert worst_mistakes(logits, labels)[0].tolist() == [2, 0, 1]
    mistakes_picture(make_small(), some_splits(3), logits, labels, 3)
    assert texts[:9] == ["ant", "-> cat", "58%", "ant", "-> bee", "nan%", "bee", "-> ant", "nan%"]


def test_mistakes_show_the_worst_with_both_classes_and_the_softmax(make_small: MakeConfig, texts: list[str]):
    splits = some_splits(5)
    logits = torch.tensor(
        [[0.0, 2.0, 0.0], [0.0, 9.0, 0.0], [4.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 3.0]]  # all but the second
    )
    png = mistakes_picture(make_small(), splits, logits, splits.test.labels, 3)
    assert isinstance(splits.test, DecodedWhenAsked)
    assert splits.test.asked == [2, 4, 0]
    # 1 / (1 + 2 exp(-4)), ... of exp(-3), of exp(-2).
    assert texts[:9] == ["cat", "-> ant", "96%", "bee", "-> cat", "91%", "ant", "-> bee", "79%"]
    assert "wrong on 4 of 5 test images. Shown: 3," in " ".join(texts)
    images = next(splits.test.batches([torch.tensor([2, 4, 0])]))[0]
    found = places(png, [expected_tile(image, 4) for image in images])
    assert found == sorted(set(found))


def test_more_than_there_are_shows_all(make_small: MakeConfig):
    splits = some_splits(3)
    logits = all_wrong(splits.test.labels)
    config = make_small()
    assert mistakes_picture(config, splits, logits, splits.test.labels, 256) == mistakes_picture(
        config, splits, logits, splits.test.labels, 3
    )
    assert inputs_picture(config, splits, 256) == inputs_picture(config, splits, 3)


def test_a_net_without_mistakes_has_a_picture_that_says_so(make_small: MakeConfig, texts: list[str]):
    splits = some_splits(4)
    png = mistakes_picture(make_small(), splits, torch.eye(3)[splits.test.labels], splits.test.labels, 8)
    assert " ".join(texts) == "digits, seed 0: the net is wrong on 0 of 4 test images. There is no mistake to show."
    assert (pixels_of(png) < 128).any()


@pytest.mark.parametrize(("size", "factor"), [(8, 16), (33, 4), (64, 2), (100, 1), (224, 1)])
def test_small_images_are_enlarged_by_a_whole_factor(make_small: MakeConfig, size: int, factor: int):
    splits = some_splits(2, size)
    config = make_small("data=image_folder", "data.root=there", "data.name=photos", f"data.image_size={size}")
    png = mistakes_picture(config, splits, all_wrong(splits.test.labels), splits.test.labels, 2)
    images = next(splits.test.batches([torch.arange(2)]))[0]
    assert places(png, [expected_tile(image, factor) for image in images])


def test_only_the_images_shown_are_decoded_and_only_what_the_net_sees_is_shown(make_small: MakeConfig):
    splits = some_splits(50, 40)
    config = make_small("augment=none")
    order = torch.randperm(50, generator=randomness.generator(0, "order", 0))
    shown = order[:2]
    png = inputs_picture(config, splits, 2)
    assert isinstance(splits.train, DecodedWhenAsked)
    assert splits.train.asked == shown.tolist()
    images = next(splits.train.batches([shown]))[0][:, :, 4:36, 4:36]
    places(png, [expected_tile(image, 4) for image in images])
    png = mistakes_picture(config, splits, all_wrong(splits.test.labels), splits.test.labels, 2)
    images = next(splits.test.batches([torch.arange(2)]))[0][:, :, 4:36, 4:36]
    places(png, [expected_tile(image, 4) for image in images])


def test_a_long_class_name_is_cut_to_the_image_and_the_rest_stays(make_small: MakeConfig, texts: list[str]):
    long = "the great crested grebe of the northern lakes"
    splits = some_splits(2, class_names=(long, "ant"))
    logits = torch.tensor([[0.0, 8.0], [8.0, 0.0]])
    mistakes_picture(make_small(), splits, logits, splits.test.labels, 2)
    font = ImageFont.load_default(size=13)
    (cut, to_ant, _, ant, to_cut, share) = texts[:6]
    assert (to_ant, ant, share) == ("-> ant", "ant", "100%")
    assert cut.endswith("…")
    assert long.startswith(cut[:-1])
    assert 100 < font.getlength(cut) <= 128
    assert to_cut.startswith("-> the great")
    assert to_cut.endswith("…")
    assert 100 < font.getlength(f"{to_cut} {share}") <= 128


def test_any_name_of_a_folder_can_be_drawn(make_small: MakeConfig, texts: list[str]):
    splits = some_splits(4, class_names=("two\nlines", "\udcff not UTF-8", "猫", ""))
    inputs_picture(make_small(), splits, 4)
    assert not any("\n" in text for text in texts)


def test_no_letter_is_cut_off(make_small: MakeConfig):
    splits = some_splits(4, class_names=("Åg|pj", "Åg|qy"))
    png = mistakes_picture(make_small(), splits, all_wrong(splits.test.labels, 2), splits.test.labels, 4)
    words = []
    for word in ("Åg|pj", "-> Åg|qy"):
        canvas = Image.new("RGB", (100, 40), "white")
        ImageDraw.Draw(canvas).text((10, 10), word, "black", ImageFont.load_default(size=13))
        ink = np.asarray(canvas) < 255
        rows, columns = (np.flatnonzero(ink.any(axis=(1 - axis, 2))) for axis in (0, 1))
        words.append(np.asarray(canvas)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    assert places(png, words)


def test_text_stands_below_its_image_and_nothing_else_does(make_small: MakeConfig):
    splits = some_splits(4)
    png = mistakes_picture(make_small(), splits, all_wrong(splits.test.labels), splits.test.labels, 4)
    images = next(splits.test.batches([torch.arange(4)]))[0]
    picture = pixels_of(png).copy()
    found = places(png, [expected_tile(image, 4) for image in images])
    for y, x in found:
        picture[y : y + 128, x : x + 128] = 255
    assert (picture == picture[:, :, :1]).all()  # what is left is text: black or grey, no colour
    for y, x in found:
        left, right = picture[y + 145 : y + 162, x : x + 64], picture[y + 145 : y + 162, x + 100 : x + 128]
        assert (left < 255).any()  # -> bee
        assert (right < 255).any()  # 97%
        assert (picture[y : y + 162, x + 128 : x + 136] == 255).all()
        assert (picture[y : y + 162, x - 8 : x] == 255).all()


def test_the_same_cell_gives_the_same_bytes(make_small: MakeConfig):
    def pictures(*overrides: str) -> tuple[bytes, bytes]:
        config = make_small("augment=flip_shift", *overrides)
        splits = few_digits(config)
        logits = all_wrong(splits.test.labels, 10)
        return inputs_picture(config, splits, 9), mistakes_picture(config, splits, logits, splits.test.labels, 9)

    assert pictures() == pictures()
    assert pictures()[0] != pictures("seed=1")[0]


def test_pictures_change_no_number_of_training(make_small: MakeConfig):
    config = make_small("augment=flip_shift", "budget.epochs=2", "budget.batch_size=32")
    splits = few_digits(config)
    plain = trained(config, splits)
    logits, labels = plain.test.logits, plain.test.labels
    random_state = torch.get_rng_state()

    def pictures(*_: Any) -> None:
        inputs_picture(config, splits, 40)
        mistakes_picture(config, splits, logits, labels, 40)

    pictures()
    watched = trained(config, splits, on_step=pictures, on_epoch=pictures)
    assert torch.get_rng_state().equal(random_state)
    assert watched.history == plain.history
    assert watched.test.logits.equal(logits)
    assert all(watched.weights[name].equal(tensor) for name, tensor in plain.weights.items())


@pytest.mark.gpu
@needs_gpu
def test_images_on_a_gpu_give_the_same_pictures(make_small: MakeConfig):
    config = make_small("augment=flip_shift")

    def pictures(device: torch.device) -> tuple[bytes, bytes]:
        splits = load_splits(config, device)
        logits = all_wrong(splits.test.labels, 10)
        return inputs_picture(config, splits, 9), mistakes_picture(config, splits, logits, splits.test.labels, 9)

    assert pictures(torch.device("cuda")) == pictures(CPU)
