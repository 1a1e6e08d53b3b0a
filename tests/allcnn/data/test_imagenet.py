import io
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from allcnn.config import Config, DataConfig, Preprocess, PreprocessConfig, Source, TrainerConfig
from allcnn.data.imagenet import list_imagenet
from allcnn.data.sources import check_data
from allcnn.data.splits import load_splits
from strive.errors import ConfigError

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


@pytest.fixture
def root(tmp_path, rng):
    """Hold 12 JPEG files: 4 train and 2 val images of each of two classes, of several sizes."""
    root = tmp_path / "imagenet"
    for split, count in (("train", 4), ("val", 2)):
        for wnid in ("n02", "n01"):
            (root / split / wnid).mkdir(parents=True)
            for number in range(count):
                height, width = rng.integers(240, 400, 2)
                coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
                coarse.resize((int(width), int(height))).save(root / split / wnid / f"{number}.JPEG")
    return root


def config(root, workers=0, val_images=0):
    return Config(
        data=DataConfig(source=Source.imagenet, name="imagenet", root=str(root), image_size=224, val_images=val_images),
        preprocess=PreprocessConfig(kind=Preprocess.standardize),
        trainer=TrainerConfig(workers=workers),
    )


def expected_image(file):
    """Resize the short side to 256, keep the centre 256 x 256, standardise."""
    with Image.open(file) as image:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        centre = image.convert("RGB").crop((left, top, left + side, top + side))
    pixels = np.asarray(centre.resize((256, 256), Image.Resampling.BILINEAR))
    return (torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255 - MEAN) / STD


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_hold_the_asked_images_in_order(root, workers):
    splits = load_splits(config(root, workers), torch.device("cpu"))
    wanted = [torch.tensor([5, 0, 3]), torch.tensor([7])]
    batches = list(splits.train.batches(wanted))
    assert [labels.tolist() for _, labels in batches] == [[1, 0, 0], [1]]
    images = batches[0][0]
    assert images.shape == (3, 3, 256, 256)
    assert images.is_contiguous(memory_format=torch.channels_last)
    for image, name in zip(images, ["n02/1", "n01/0", "n01/3"], strict=True):
        torch.testing.assert_close(image, expected_image(root / "train" / f"{name}.JPEG"), atol=1e-5, rtol=0)


def test_published_val_is_test_and_val_is_held_out_of_train(root):
    splits = load_splits(config(root, val_images=3), torch.device("cpu"))
    assert (len(splits.train), len(splits.val), len(splits.test)) == (5, 3, 4)
    assert splits.class_names == ("n01", "n02")
    assert splits.test.labels.tolist() == [0, 0, 1, 1]
    assert check_data(config(root, val_images=3)).num_train == 5


def test_batches_leave_the_global_random_state_alone(root):
    splits = load_splits(config(root), torch.device("cpu"))
    before = torch.get_rng_state()
    list(splits.test.batches([torch.arange(4)]))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named(root, workers):
    (root / "val" / "n02" / "1.JPEG").write_bytes(io.BytesIO(b"oops").getvalue())
    splits = load_splits(config(root, workers), torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"n02/1\.JPEG is not a readable image"):
        list(splits.test.batches([torch.arange(4)]))


def test_a_missing_folder_is_named(root):
    shutil.rmtree(root / "val")
    with pytest.raises(ConfigError, match=f"no images in {root}/val.*data=image_folder"):
        check_data(config(root))


def test_classes_must_agree(root):
    shutil.rmtree(root / "val" / "n01")
    with pytest.raises(ConfigError, match="only one of them has n01"):
        list_imagenet(config(root).data)
