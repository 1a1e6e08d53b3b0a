import pytest

from strive.results.labels import condition_label, knob_title, value_text


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
    assert condition_label(key) == label


def test_knobs_without_a_word_of_their_own_keep_their_key():
    assert knob_title("optimizer.weight_decay") == "optimizer.weight_decay"
    assert value_text("model.batch_norm", True) == "true"
    assert value_text("optimizer.weight_decay", 0.001) == "0.001"


def test_two_values_never_have_one_text():
    assert value_text("optimizer.lr", 0.05) == "0.05"
    assert value_text("optimizer.lr", 0.0500001) != value_text("optimizer.lr", 0.05)
