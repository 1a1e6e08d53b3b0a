import numpy as np
import pytest
import torch

from allcnn.config import Config, DataConfig, Preprocess, PreprocessConfig, Source
from allcnn.data.digits import read_digits
from allcnn.data.preprocess import global_contrast_normalise
from allcnn.data.sources import DataFacts, check_data
from allcnn.data.splits import ResidentSplit, held_out, load_splits
from strive.errors import ConfigError

CPU = torch.device("cpu")


def digits(val_images=0, kind=Preprocess.standardize, seed=0):
    data = DataConfig(source=Source.digits, name="digits", val_images=val_images)
    return Config(data=data, preprocess=PreprocessConfig(kind=kind), seed=seed)


def folder(root, val_images=0):
    data = DataConfig(source=Source.image_folder, name="mine", root=str(root), val_images=val_images)
    return Config(data=data, preprocess=PreprocessConfig(kind=Preprocess.standardize))


def test_val_is_the_same_for_every_seed():
    one, other = (load_splits(digits(300, seed=seed), CPU) for seed in (0, 1))
    assert torch.equal(one.val.images, other.val.images)
    assert torch.equal(one.train.images, other.train.images)


def test_val_and_train_share_no_image_and_leave_none_out():
    train, val = held_out(DataConfig(name="digits", val_images=300), 1397)
    assert len(val) == 300
    assert sorted([*train, *val]) == list(range(1397))


def test_train_keeps_its_order_without_the_held_out():
    train, _ = held_out(DataConfig(val_images=300), 1397)
    assert (np.diff(train) > 0).all()


def test_holding_out_more_keeps_what_was_held_out():
    few, many = (set(held_out(DataConfig(val_images=count), 1000)[1].tolist()) for count in (50, 100))
    assert few < many


def test_other_data_sets_hold_out_other_images():
    one, other = (held_out(DataConfig(name=name, val_images=50), 1000)[1].tolist() for name in ("a", "b"))
    assert one != other


def test_held_out_images_come_from_all_classes():
    # A folder of images is sorted by class; 500 of 10,000 in ten classes is 50 each, give or take.
    labels = np.arange(10_000) // 1000
    counts = np.bincount(labels[held_out(DataConfig(val_images=500), 10_000)[1]], minlength=10)
    assert counts.min() > 25
    assert counts.max() < 80


def test_held_out_images_are_not_fitted():
    raw, config = read_digits(), digits(300)
    splits = load_splits(config, CPU)
    train = raw.train.images[held_out(config.data, 1397)[0]]
    expected = (train - train.mean(axis=(0, 1, 2))) / train.std(axis=(0, 1, 2))
    np.testing.assert_allclose(splits.train.images.numpy(), expected, atol=1e-5)
    # Standardised by itself, val would have mean 0 too.
    assert splits.val.images.mean().abs() > 1e-6


def test_nothing_held_out_means_no_val():
    splits = load_splits(digits(), CPU)
    assert splits.val is None
    assert (len(splits.train), len(splits.test), splits.num_classes) == (1397, 400, 10)


def test_each_choice_of_held_out_images_is_cached_apart(image_root):
    images = []
    for name, val_images in (("mine", 0), ("mine", 2), ("mine", 3), ("yours", 3)):
        config = folder(image_root, val_images)
        config.data.name = name
        splits = load_splits(config, CPU)
        assert len(splits.train.images) == len(splits.train) == 10 - val_images
        images.append(splits.train.images)
    assert not torch.equal(images[2], images[3])


def test_labels_follow_their_images():
    raw, config = read_digits(), digits(300)
    splits = load_splits(config, CPU)
    train_rows, val_rows = held_out(config.data, 1397)
    assert splits.train.labels.tolist() == raw.train.labels[train_rows].tolist()
    assert splits.val.labels.tolist() == raw.train.labels[val_rows].tolist()
    assert splits.test.labels.tolist() == raw.test.labels.tolist()


def test_batches_hold_the_asked_images_in_channels_last():
    images = np.arange(4 * 8 * 8 * 3, dtype=np.float32).reshape(4, 8, 8, 3)
    split = ResidentSplit(images, np.array([9, 8, 7, 6]), CPU)
    batches = list(split.batches([torch.tensor([2, 0]), torch.tensor([3])]))
    assert [labels.tolist() for _, labels in batches] == [[7, 9], [6]]
    first = batches[0][0]
    assert first.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(first.numpy(), images[[2, 0]].transpose(0, 3, 1, 2))


def test_images_on_a_cpu_share_memory_with_the_cache():
    load_splits(digits(), CPU)
    images = load_splits(digits(), CPU).train.images
    with open("/proc/self/maps") as maps:
        address = images.data_ptr()
        owner = [line for line in maps if _holds(line, address)]
    assert owner[0].rstrip().endswith("train.npy")


def _holds(line, address):
    first, last = (int(text, 16) for text in line.split()[0].split("-"))
    return first <= address < last


@pytest.mark.parametrize("val_images", [1397, 60_000])
def test_too_many_held_out_is_refused_before_and_while_loading(val_images):
    message = rf"data\.val_images={val_images} leaves no training images; digits has 1397, so it must be at most 1396"
    for use in (check_data, lambda config: load_splits(config, CPU)):
        with pytest.raises(ConfigError, match=message):
            use(digits(val_images))


def test_facts_are_those_of_the_loaded_splits(image_root):
    for config in (digits(300), folder(image_root, 4), folder(image_root)):
        splits = load_splits(config, CPU)
        assert check_data(config) == DataFacts(len(splits.train), splits.num_classes, splits.on_disk)


def test_checking_decodes_nothing(image_root):
    for file in image_root.rglob("*.png"):
        file.write_bytes(b"not an image")
    facts = check_data(folder(image_root))
    assert (facts.num_train, facts.num_classes) == (10, 2)


def test_whitening_large_images_is_refused_with_its_size(image_root):
    config = folder(image_root)
    config.preprocess.kind, config.data.image_size = Preprocess.gcn_zca, 224
    for use in (check_data, lambda config: load_splits(config, CPU)):
        with pytest.raises(ConfigError, match=r"needs a matrix of 181 GB.*preprocess=standardize"):
            use(config)


def test_a_changed_image_changes_the_fingerprint_and_the_splits(image_root):
    before = load_splits(folder(image_root), CPU)
    (image_root / "test" / "ant" / "0000.png").write_bytes((image_root / "test" / "ant" / "0001.png").read_bytes())
    after = load_splits(folder(image_root), CPU)
    assert after.fingerprint != before.fingerprint
    assert torch.equal(after.test.images[0], after.test.images[1])


@pytest.mark.slow
def test_whitened_digits_are_the_cached_bits_and_can_be_undone():
    config = digits(kind=Preprocess.gcn_zca)
    first, second = load_splits(config, CPU), load_splits(config, CPU)
    assert torch.equal(first.train.images, second.train.images)
    flat = first.test.images[:5].permute(0, 3, 1, 2).reshape(5, -1).double().numpy()
    raw = read_digits().test.images[:5].transpose(0, 3, 1, 2).reshape(5, -1).astype(float)
    back = flat @ np.linalg.inv(first.whitening.matrix) + first.whitening.mean
    np.testing.assert_allclose(back, global_contrast_normalise(raw, 55.0), atol=1e-4)
