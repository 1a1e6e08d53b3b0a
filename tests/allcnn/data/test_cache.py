import multiprocessing
import shutil
import time

import numpy as np
import pytest
import torch

from allcnn.data.cache import cache_folder, cached_arrays


def make():
    return {"a": np.arange(6.0).reshape(2, 3), "names": np.array(["x", "yy"])}


def never():
    raise AssertionError("made again")


def test_the_folder_is_the_one_in_the_environment(cache):
    assert cache_folder() == cache


def test_without_the_environment_it_is_the_users_cache_folder(monkeypatch):
    monkeypatch.delenv("STRIVE_CACHE")
    assert cache_folder().name == "strive"


def test_the_second_call_reads_what_the_first_made():
    cached_arrays("n", "k", make)
    arrays = cached_arrays("n", "k", never)
    assert arrays.keys() == make().keys()
    for name, array in make().items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


def test_another_key_is_another_entry():
    cached_arrays("n", "k", make)
    assert cached_arrays("n", "other", lambda: {"a": np.zeros(1)})["a"].tolist() == [0]


def test_writing_to_an_array_leaves_the_file_alone():
    tensor = torch.from_numpy(cached_arrays("n", "k", make)["a"])  # a warning would fail this test
    tensor.zero_()
    assert cached_arrays("n", "k", never)["a"].sum() == 15


@pytest.mark.parametrize("damage", ["truncate", "empty", "remove", "manifest", "shape"])
def test_a_damaged_entry_is_made_again_and_one_line_says_so(cache, capsys, damage):
    cached_arrays("n", "k", make)
    file = cache / "n" / "k" / "a.npy"
    match damage:
        case "truncate":
            file.write_bytes(file.read_bytes()[:-1])
        case "empty":
            file.write_bytes(b"")
        case "remove":
            file.unlink()
        case "manifest":
            (file.parent / "arrays.json").write_text("{")
        case "shape":
            np.save(file, np.zeros(6))
    capsys.readouterr()
    assert cached_arrays("n", "k", make)["a"].tolist() == make()["a"].tolist()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "damaged" in lines[0]
    assert cached_arrays("n", "k", never)["a"].tolist() == make()["a"].tolist()
    assert {path.name for path in (cache / "n").iterdir()} <= {"k", "k.lock"}


def test_a_failure_while_making_leaves_nothing(cache):
    with pytest.raises(AssertionError, match="made again"):
        cached_arrays("n", "k", never)
    assert not (cache / "n" / "k").exists()


def test_what_a_killed_writer_left_is_cleared(cache):
    (cache / "n" / ".k.abc").mkdir(parents=True)
    cached_arrays("n", "k", make)
    assert not (cache / "n" / ".k.abc").exists()


def test_an_unusable_cache_folder_means_no_cache_and_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("STRIVE_CACHE", str(tmp_path / "file"))
    assert cached_arrays("n", "k", make)["a"].tolist() == make()["a"].tolist()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_full_disk_means_no_cache_one_line_and_no_leftovers(cache, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert cached_arrays("n", "k", make)["a"].tolist() == make()["a"].tolist()
    line = capsys.readouterr().err
    assert "No space left on device" in line
    assert line.count("\n") == 1
    assert [path for path in (cache / "n").iterdir() if path.is_dir()] == []


def test_a_writer_that_comes_second_keeps_the_first_ones_entry(cache):
    def make_while_another_finishes():
        # Where locks do not work (some network file systems) both make the entry.
        cached_arrays("n", "other", make)
        shutil.move(cache / "n" / "other", cache / "n" / "k")
        return {"a": np.zeros(1)}

    assert cached_arrays("n", "k", make_while_another_finishes)["a"].tolist() == make()["a"].tolist()


def _slow_make():
    time.sleep(0.3)
    return {"a": np.full(3, 7)}


def _use_cache(results):
    results.put(cached_arrays("n", "k", _slow_make)["a"].tolist())


def test_two_processes_at_once_both_get_the_arrays(cache):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_use_cache, args=(results,)) for _ in range(2)]
    for process in processes:
        process.start()
    assert [results.get(timeout=30) for _ in processes] == [[7, 7, 7]] * 2
    for process in processes:
        process.join()
    assert [path.name for path in (cache / "n").iterdir() if path.is_dir()] == ["k"]
