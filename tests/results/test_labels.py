import pytest

from allcnn.labels import labels
from strive.sweeps.labels import PLAIN


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ({"model.base": "a", "model.variant": "base"}, "Model A"),
        ({"model.base": "c", "model.variant": "all_cnn"}, "ALL-CNN-C"),
        ({"model.base": "b", "model.variant": "strided", "augment.kind": "none"}, "Strided-CNN-B, augmentation none"),
        ({"model.base": "a", "model.pool_norm": "inf"}, "base A, model.pool_norm inf"),
        ({"optimizer.lr": 0.05}, "lr 0.05"),
        ({"arm": "he_init"}, "he_init"),
        ({"model.family": "large_all_cnn"}, "Large ALL-CNN"),
        ({"model.kwargs.channels": 6, "model.kwargs.norm.eps": 0.1}, "channels 6, norm.eps 0.1"),
        # Two columns never have one title.
        ({"model.kwargs.lr": 1, "optimizer.lr": 0.05}, "model.kwargs.lr 1, lr 0.05"),
        ({}, "all cells"),
    ],
)
def test_a_condition_has_the_name_that_the_paper_gives_it(key: dict[str, object], label: str):
    assert labels().name(key) == label


def test_knobs_without_a_word_of_their_own_keep_their_key():
    assert labels().title("optimizer.weight_decay") == "optimizer.weight_decay"
    assert labels().text("model.batch_norm", True) == "true"
    assert labels().text("optimizer.weight_decay", 0.001) == "0.001"


def test_two_values_never_have_one_text():
    assert labels().text("optimizer.lr", 0.05) == "0.05"
    assert labels().text("optimizer.lr", 0.0500001) != labels().text("optimizer.lr", 0.05)


def test_an_app_without_labels_shows_its_keys_as_they_are_typed():
    assert PLAIN.name({"model.heads": 4, "rope": True}) == "model.heads 4, rope true"
    assert PLAIN.heading(["model.heads"]) == "cells of"
    assert PLAIN.name({}) == "all cells"
