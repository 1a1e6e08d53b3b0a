import io

import numpy as np
import pytest
from PIL import Image
from support import JPEG_ARCHIVE


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("STRIVE_CACHE", str(folder))
    return folder


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def png():
    def encode(pixels):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, format="PNG")
        return stream.getvalue()

    return encode


@pytest.fixture
def image_root(tmp_path, rng, png):
    """Hold 5 train and 3 test images of two classes, PNG so that pixels survive."""
    root = tmp_path / "images"
    for split, count in (("train", 5), ("test", 3)):
        for label in ("cat", "ant"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                (folder / f"{number:04}.png").write_bytes(png(pixels))
    return root


@pytest.fixture
def real_archive():
    if not JPEG_ARCHIVE.is_file():
        pytest.skip(f"needs the CIFAR-10 JPEG archive at {JPEG_ARCHIVE}")
    return JPEG_ARCHIVE
