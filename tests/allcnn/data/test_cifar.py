import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets
from torchvision.datasets import cifar as torchvision_cifar

from allcnn.config import DataConfig, Source
from allcnn.data.cifar import count_cifar, load_plain_pickle, read_cifar
from allcnn.data.sources import current_fingerprint, files_on_disk
from strive.errors import ConfigError

IMAGES_PER_FILE = 7


def write_batch(file, rng, labels_key, num_classes, protocol):
    batch = {
        b"data": rng.integers(0, 256, (IMAGES_PER_FILE, 3072), dtype=np.uint8),
        labels_key: rng.integers(0, num_classes, IMAGES_PER_FILE).tolist(),
        b"filenames": [b"x.png"] * IMAGES_PER_FILE,
    }
    file.write_bytes(pickle.dumps(batch, protocol=protocol))


@pytest.fixture(params=[2, 5], ids=["protocol 2", "protocol 5"])
def cifar10(tmp_path, rng, request):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]:
        write_batch(folder / name, rng, b"labels", 10, request.param)
    names = [b"airplane", *(f"class {number}".encode() for number in range(1, 10))]
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}, protocol=request.param))
    return DataConfig(root=str(tmp_path))


@pytest.fixture
def cifar100(tmp_path, rng):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name in ("train", "test"):
        write_batch(folder / name, rng, b"fine_labels", 100, 2)
    names = [f"class {number}".encode() for number in range(100)]
    (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": names}, protocol=2))
    return DataConfig(source=Source.cifar100, name="cifar100", root=str(tmp_path))


@pytest.fixture
def plain_torchvision(monkeypatch):
    """Let torchvision read a small set: its checksums are of the published files only."""
    monkeypatch.setattr(torchvision_cifar, "check_integrity", lambda *_: True)
    # It asks pickle for Latin-1 text, so that the published files' bytes keys become text.
    monkeypatch.setattr(torchvision_cifar.pickle, "load", lambda file, encoding: _text_keys(pickle.loads(file.read())))


def _text_keys(batch):
    return {key.decode(): value for key, value in batch.items()}


def assert_equal(split, reference):
    np.testing.assert_array_equal(split.images, reference.data)
    np.testing.assert_array_equal(split.labels, reference.targets)


def test_cifar10_is_read_as_torchvision_reads_it(cifar10, plain_torchvision):
    raw = read_cifar(cifar10)
    assert_equal(raw.train, datasets.CIFAR10(cifar10.root, train=True))
    assert_equal(raw.test, datasets.CIFAR10(cifar10.root, train=False))
    assert raw.train.images.shape == (5 * IMAGES_PER_FILE, 32, 32, 3)
    assert raw.class_names[0] == "airplane"


def test_cifar100_is_read_as_torchvision_reads_it(cifar100, plain_torchvision):
    raw = read_cifar(cifar100)
    assert_equal(raw.train, datasets.CIFAR100(cifar100.root, train=True))
    assert_equal(raw.test, datasets.CIFAR100(cifar100.root, train=False))
    assert len(raw.class_names) == 100


def test_a_batch_that_was_replaced_has_another_stamp(cifar10):
    stamp = files_on_disk(cifar10).stamp
    assert files_on_disk(cifar10).stamp == stamp
    fingerprint = current_fingerprint(cifar10)
    batch = Path(cifar10.root) / "cifar-10-batches-py" / "data_batch_3"
    batch.write_bytes(batch.with_name("data_batch_2").read_bytes())
    os.utime(batch, ns=(1, 1))  # file systems count time in steps of milliseconds
    assert files_on_disk(cifar10).stamp != stamp
    assert current_fingerprint(cifar10) != fingerprint


def test_counts_agree_with_what_is_read(cifar10, cifar100):
    assert count_cifar(cifar10) == (5 * IMAGES_PER_FILE, 10)
    assert count_cifar(cifar100) == (IMAGES_PER_FILE, 100)


@pytest.mark.parametrize("use", [read_cifar, count_cifar])
def test_missing_data_names_the_folder_and_both_ways_to_get_it(tmp_path, monkeypatch, use):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        use(DataConfig(root="nowhere"))
    message = str(caught.value)
    assert str(tmp_path / "nowhere" / "cifar-10-batches-py") in message
    assert "data.download=true" in message
    assert "data=image_folder data.root=DIR data.name=NAME" in message


def test_counting_never_downloads(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "CIFAR10", None)
    assert count_cifar(DataConfig(root=str(tmp_path), download=True)) == (50_000, 10)


def test_files_that_are_there_are_not_downloaded_again(cifar10, monkeypatch):
    monkeypatch.setattr(datasets, "CIFAR10", None)
    cifar10.download = True
    assert len(read_cifar(cifar10).train.labels) == 5 * IMAGES_PER_FILE


def test_a_failed_download_is_one_message(tmp_path, monkeypatch):
    def fail(root, download):
        raise OSError("no route to host")

    monkeypatch.setattr(datasets, "CIFAR10", fail)
    with pytest.raises(ConfigError, match=r"data\.download=true could not fetch cifar10.*no route to host"):
        read_cifar(DataConfig(root=str(tmp_path), download=True))


class Evil:
    def __init__(self, function, argument):
        self.call = function, (argument,)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.system, eval, exec, os.rmdir, __import__])
def test_a_pickle_that_would_act_is_refused_and_not_run(tmp_path, function):
    victim = tmp_path / "victim"
    victim.mkdir()
    argument = {os.rmdir: str(victim), os.system: f"rmdir '{victim}'"}.get(
        function, f"__import__('os').rmdir({str(victim)!r})"
    )
    file = tmp_path / "batch"
    file.write_bytes(pickle.dumps({b"data": Evil(function, argument)}))
    with pytest.raises(ConfigError, match=r"batch cannot be read.*plain image data never does"):
        load_plain_pickle(file)
    assert victim.exists()


def test_the_pickle_would_have_acted(tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    pickle.loads(pickle.dumps(Evil(os.rmdir, str(victim))))
    assert not victim.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a pickle", "cannot be read"),
        (pickle.dumps({b"data": b""})[:-3], "cannot be read"),
        (pickle.dumps([1, 2]), "has no entry 'data'"),
        (pickle.dumps({b"data": b""}), "has no entry 'labels'"),
    ],
)
def test_a_damaged_batch_is_named(cifar10, content, message):
    file = Path(cifar10.root) / "cifar-10-batches-py" / "data_batch_3"
    batch = pickle.loads(content) if message.endswith("'labels'") else None
    if batch is not None:
        content = pickle.dumps({b"data": np.zeros((1, 3072), np.uint8)})
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=f"data_batch_3 {message}"):
        read_cifar(cifar10)


def test_images_without_labels_are_named(cifar10):
    file = Path(cifar10.root) / "cifar-10-batches-py" / "data_batch_3"
    file.write_bytes(pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}))
    with pytest.raises(ConfigError, match="data_batch_3 has 2 images but 1 labels"):
        read_cifar(cifar10)
