import dataclasses
import hashlib
import itertools
import json
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from support import MakeConfig, stop_after_one_step

from allcnn import training_pack, training_run
from allcnn.config import Config, TrainerConfig
from allcnn.training import Execution, read_checkpoint, write_state
from allcnn.training_pack import run_cell
from allcnn.training_run import TrainingRun
from strive import signals
from strive.cells import checkpoints, records
from strive.cells.check import check_cell
from strive.cells.checkpoints import Checkpoints, generations
from strive.cells.lease import take_claim
from strive.cells.records import Status
from strive.config import identity
from strive.config.schema import to_config
from strive.errors import ConfigError, LeasedError, LostLeaseError, RecordError, StoppedError


def folder(config: Config) -> Path:
    return Path(config.runs) / identity.cell_id(config)


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int, error: BaseException) -> None:
    """Let a checkpoint be written after each step, and raise after so many."""

    original = Checkpoints.keep

    def counted(here: Checkpoints, write: Callable[[Path], object], *, where: str, goes_on: bool) -> None:
        original(here, write, where=where, goes_on=goes_on)
        if int(where.removeprefix("step ")) >= steps:
            raise error

    monkeypatch.setattr(Checkpoints, "keep", counted)


def test_a_finished_cell_leaves_all_its_files_and_no_checkpoint(make_small: MakeConfig):
    config = make_small("data.val_images=97", "trainer.checkpoint_minutes=0")
    record = run_cell(config)
    assert record.status is Status.done
    names = {path.name for path in folder(config).iterdir()}
    assert names == {"record.json", "history.jsonl", "predictions.npz", "weights.pt", "config.yaml", "log.txt"}
    assert records.read_record(folder(config) / "record.json") == record


def test_the_result_agrees_with_the_files_beside_it(make_small: MakeConfig):
    config = make_small("data.val_images=97")
    record = run_cell(config)
    metrics = record.metrics
    predictions = np.load(folder(config) / "predictions.npz")
    assert predictions["logits"].shape == (400, 10)
    assert predictions["logits"].dtype == np.float32
    assert metrics["test_error"] == np.mean(predictions["logits"].argmax(1) != predictions["labels"])
    assert record.outputs["predictions"] == hashlib.sha256(predictions["logits"].tobytes()).hexdigest()
    lines = [json.loads(line) for line in (folder(config) / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    last = lines[-1]
    assert (last["train_loss"], last["val_error"]) == (metrics["train_loss"], metrics["val_error"])
    assert (metrics["epochs"], metrics["steps"]) == (2, 2 * 21)  # 1,300 images in batches of 64
    weights = torch.load(folder(config) / "weights.pt", weights_only=True)
    assert sum(tensor.numel() for tensor in weights.values()) == metrics["parameters"]


def test_images_per_second_counts_images_not_full_batches(make_small: MakeConfig):
    record = run_cell(make_small("budget.batch_size=1000"))
    provenance = record.provenance
    assert provenance.details["images_per_second"] * provenance.seconds == pytest.approx(2 * 1397)


def test_config_yaml_gives_the_cell_back(make_small: MakeConfig):
    config = make_small("model=model_a", "model.pool_norm=2")
    run_cell(config)
    stored = OmegaConf.load(folder(config) / "config.yaml")
    again = to_config(OmegaConf.merge(OmegaConf.structured(Config), stored))  # type: ignore[arg-type]
    assert again == config


def test_a_done_cell_is_left_alone_and_says_so(make_small: MakeConfig, capfd: pytest.CaptureFixture[str]):
    config = make_small()
    first = run_cell(config)
    stamp = (folder(config) / "record.json").stat().st_mtime_ns
    assert run_cell(config) == first
    assert (folder(config) / "record.json").stat().st_mtime_ns == stamp
    assert "done already, nothing to train" in capfd.readouterr().err


def test_the_last_line_on_stdout_is_the_path_of_the_record(make_small: MakeConfig, capfd: pytest.CaptureFixture[str]):
    config = make_small()
    run_cell(config)
    assert capfd.readouterr().out.splitlines()[-1] == str(folder(config) / "record.json")


@pytest.mark.parametrize("stop", [1, 10, 22, 30])
def test_a_stopped_cell_goes_on_and_leaves_the_result_of_an_unbroken_one(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stop: int
):
    settings = ("augment=flip_shift", "trainer.checkpoint_minutes=0")
    whole = make_small(*settings, f"runs={tmp_path / 'whole'}")
    unbroken = run_cell(whole)
    config = make_small(*settings)
    with monkeypatch.context() as patch:
        stop_after(patch, stop, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run_cell(config)
    assert records.record_of(config) is None
    resumed = run_cell(config)
    assert resumed.result == unbroken.result
    assert (folder(config) / "history.jsonl").read_bytes() == (folder(whole) / "history.jsonl").read_bytes()
    assert resumed.provenance.resumes == 1
    assert resumed.provenance.inexact == []
    assert f"resumes from step {stop}" in (folder(config) / "log.txt").read_text()


def test_a_resume_keeps_the_thread_count_of_the_checkpoint(make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch):
    config = make_small("trainer.checkpoint_minutes=0")
    with monkeypatch.context() as patch:
        stop_after(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run_cell(config)
    try:
        record = run_cell(make_small("trainer.threads=2"))
        assert record.provenance.threads == 1
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(1)


def test_what_a_resume_cannot_keep_marks_the_record_inexact(make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch):
    config = make_small("trainer.checkpoint_minutes=0")
    with monkeypatch.context() as patch:
        stop_after(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run_cell(config)
    path = folder(config) / "checkpoint.pt"
    state = read_checkpoint(path)
    assert state is not None
    write_state(path, state | {"device": "another processor"})
    (why,) = run_cell(config).provenance.inexact
    assert why.startswith("device changed from another processor to ")
    assert why.endswith(" at step 3")


def test_a_cell_that_was_stopped_twice_still_says_when_it_began_and_what_was_not_kept(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch
):
    config = make_small()
    stop_after_one_step(config)
    path = folder(config) / "checkpoint.pt"
    state = read_checkpoint(path)
    assert state is not None
    write_state(path, state | {"device": "another processor", "started": "2001-02-03T04:05:06+00:00"})
    stop_after_one_step(config)
    provenance = run_cell(config).provenance
    assert (provenance.resumes, provenance.started) == (2, "2001-02-03T04:05:06+00:00")
    (why,) = provenance.inexact
    assert why.startswith("device changed from another processor to ")


def test_epochs_after_the_checkpoint_are_shown_again_only_when_they_are_trained_again(make_small: MakeConfig):
    config = make_small()
    stop_after_one_step(config)
    (folder(config) / "history.jsonl").write_text('{"step": 1}\n{"step": 2}\n')  # before a process was killed
    stop_after_one_step(config)
    assert (folder(config) / "history.jsonl").read_text() == ""


def test_a_checkpoint_is_written_each_checkpoint_minutes(make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch):
    seconds, written = itertools.count(0.0, 5.0), []
    clock = types.SimpleNamespace(monotonic=lambda: next(seconds), time=time.time)
    monkeypatch.setattr(checkpoints, "time", clock)
    monkeypatch.setattr(Checkpoints, "write", lambda here, write: write(here.path))
    monkeypatch.setattr(training_run, "write_state", lambda path, state, scratch: written.append(state["step"]))
    run_cell(make_small("trainer.checkpoint_minutes=1"))
    # 44 steps, five seconds each.
    assert written == [12, 24, 36]


@pytest.mark.parametrize("how", ["truncated", "foreign", "other code", "other images"])
def test_a_checkpoint_that_cannot_be_used_is_kept_and_the_cell_trains_from_the_start(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], how: str
):
    config = make_small("trainer.checkpoint_minutes=0")
    with monkeypatch.context() as patch:
        stop_after(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run_cell(config)
    path = folder(config) / "checkpoint.pt"
    state = read_checkpoint(path)
    assert state is not None
    for place in generations(path):
        if how == "truncated":
            place.write_bytes(place.read_bytes()[:1000])
        else:
            mark = {"foreign": "cell", "other code": "code_hash", "other images": "data_fingerprint"}[how]
            write_state(place, state | {mark: "0000000000"})
    record = run_cell(config)
    assert record.status is Status.done
    assert record.provenance.resumes == 0
    assert len(list(folder(config).glob("checkpoint-*unused-*.pt"))) == 2
    shown = capfd.readouterr().err
    for place in generations(path):
        assert f"cannot go on from {place.name}, kept as {place.stem}-unused-" in shown


def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    config = make_small("trainer.checkpoint_minutes=0")
    whole = run_cell(make_small("trainer.checkpoint_minutes=0", f"runs={config.runs}-whole")).result
    with monkeypatch.context() as patch:
        stop_after(patch, 7, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run_cell(config)
    path = folder(config) / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:1000])
    record = run_cell(config)
    assert record.result == whole
    assert record.provenance.resumes == 1
    shown = capfd.readouterr().err
    assert "cannot go on from checkpoint.pt, kept as checkpoint-unused-" in shown
    assert "resumes from step 6" in shown


def test_an_exception_in_training_becomes_a_record_and_the_next_call_tries_again(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch
):
    config = make_small("trainer.checkpoint_minutes=0")
    with monkeypatch.context() as patch:
        stop_after(patch, 5, RuntimeError("the disk\nis on fire"))
        record = run_cell(config)
    assert record.status is Status.error
    assert record.failure is not None
    assert record.failure is not None
    assert record.failure.cause == "RuntimeError: the disk"
    assert "stop_after" in record.failure.traceback or "counted" in record.failure.traceback
    again = run_cell(config)
    assert again.status is Status.done
    assert again.provenance.resumes == 1
    assert json.loads((folder(config) / "record-1.json").read_text())["status"] == "error"


def test_running_out_of_memory_has_a_status_of_its_own(make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch):
    config = make_small("trainer.checkpoint_minutes=0")
    stop_after(monkeypatch, 1, torch.OutOfMemoryError("no room"))
    assert run_cell(config).status is Status.out_of_memory


def test_a_record_that_cannot_be_written_leaves_the_checkpoints(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch
):
    config = make_small("trainer.checkpoint_minutes=0")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(records, "write_record", full)
        with pytest.raises(OSError, match="No space left"):
            run_cell(config)
    path = folder(config) / "checkpoint.pt"
    assert all(each.exists() for each in generations(path))
    assert run_cell(config).provenance.resumes == 1


def test_a_diverged_cell_is_a_result_and_is_not_tried_again(make_small: MakeConfig, capfd: pytest.CaptureFixture[str]):
    config = make_small("optimizer.lr=1e30", "model.class_relu=false", "budget.epochs=3")
    record = run_cell(config)
    assert record.status is Status.diverged
    assert record.metrics["train_loss"] is None
    assert 0 <= record.metrics["test_error"] <= 1
    assert run_cell(config) == record
    assert "diverged already, nothing to train" in capfd.readouterr().err


def test_a_damaged_record_stops_the_cell_before_it_overwrites_anything(make_small: MakeConfig):
    config = make_small()
    run_cell(config)
    path = folder(config) / "record.json"
    path.write_bytes(path.read_bytes()[:-50])
    damaged = path.read_bytes()
    with pytest.raises(RecordError, match="not a whole JSON file"):
        run_cell(config)
    assert path.read_bytes() == damaged


def test_no_record_is_written_where_predictions_could_not_be(make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch):
    config = make_small()

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    record = run_cell(config)
    assert record.status is Status.error
    assert not (folder(config) / "predictions.npz").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("data.val_images=1397",), "data.val_images=1397 leaves no training images; digits has 1397"),
        (("data=cifar10",), "data.download=true"),
        (("model=extra/large_all_cnn",), "needs images of at least"),
    ],
)
def test_what_cannot_train_is_refused_before_anything_is_written(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, overrides: tuple[str, ...], message: str
):
    monkeypatch.chdir(tmp_path)
    config = make_small(*overrides)
    with pytest.raises(ConfigError) as caught:
        run_cell(config)
    assert message in str(caught.value)
    assert not folder(config).exists()


def test_checking_a_cell_counts_its_images_and_trains_nothing(make_small: MakeConfig):
    assert check_cell(make_small("data.val_images=97")).num_train == 1_300
    assert not list(Path(make_small().runs).glob("*"))


def test_a_gpu_that_is_not_there_is_refused(make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"trainer\.device=cuda, but torch sees no CUDA GPU here"):
        run_cell(make_small("trainer.device=cuda"))


def test_a_cell_that_another_process_has_just_finished_is_not_trained_again(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch
):
    config = make_small()
    original = training_pack.choose_execution

    def meanwhile(trainer: TrainerConfig) -> Execution:
        monkeypatch.undo()
        firsts.append(run_cell(config))
        return original(trainer)

    firsts: list[records.Record] = []
    monkeypatch.setattr(training_pack, "choose_execution", meanwhile)
    assert [run_cell(config)] == firsts
    assert not (folder(config) / "record-1.json").exists()


@pytest.mark.parametrize(
    "change", ["data.val_images=7", "preprocess=gcn_zca", "data.root=elsewhere", "trainer.workers=3"]
)
def test_cells_that_differ_in_their_images_do_not_share_them(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch, change: str
):
    monkeypatch.setattr(training_pack, "_LOADED", {})
    monkeypatch.setattr(training_pack, "load_splits", lambda config, device: config)
    configs, device = [make_small(), make_small(change)], torch.device("cpu")
    assert [training_pack._splits(config, device) for config in configs] == configs
    assert training_pack._splits(configs[0], device) is configs[0]


def test_the_cells_of_a_sweep_share_their_images(make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch):
    training_pack._LOADED.clear()
    loads = []
    original = training_pack.load_splits
    monkeypatch.setattr(training_pack, "load_splits", lambda *args: loads.append(1) or original(*args))
    for seed in (0, 1):
        run_cell(dataclasses.replace(make_small(), seed=seed))
    assert len(loads) == 1


def test_a_cpu_without_memory_is_out_of_memory_too(make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch):
    config = make_small("trainer.checkpoint_minutes=0")
    message = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"
    stop_after(monkeypatch, 1, RuntimeError(message))
    assert run_cell(config).status is Status.out_of_memory


def test_images_that_cannot_be_read_are_the_users_to_put_right(make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch):
    def unreadable(*args: object) -> None:
        raise ConfigError("train/x/3.png is not a readable image")

    training_pack._LOADED.clear()
    monkeypatch.setattr(training_pack, "load_splits", unreadable)
    with pytest.raises(ConfigError, match="not a readable image"):
        run_cell(make_small())
    assert records.record_of(make_small()) is None


def test_what_a_killed_process_left_behind_is_removed(make_small: MakeConfig):
    config = make_small()
    folder(config).mkdir(parents=True)
    code = (
        "import sys, pathlib; from strive.cells.lease import take_claim; c = take_claim(pathlib.Path(sys.argv[1]), 60);"
    )
    code += " (c.scratch / '.checkpoint.pt.0123.tmp').write_bytes(b'part')"
    subprocess.run([sys.executable, "-c", code, str(folder(config))], check=True)
    assert len(list((folder(config) / "claim").glob("*/.checkpoint.pt.0123.tmp"))) == 1
    run_cell(config)
    left = folder(config) / "checkpoint.pt"
    left.write_bytes(b"killed after the record was written")
    os.utime(left, (0, 0))
    run_cell(config)
    names = {path.name for path in folder(config).iterdir()}
    assert names == {"record.json", "history.jsonl", "predictions.npz", "weights.pt", "config.yaml", "log.txt"}


def test_a_retraining_that_is_stopped_touches_nothing_of_the_result_and_goes_on(make_small: MakeConfig):
    config = make_small("trainer.checkpoint_minutes=0")
    first = run_cell(config)
    before = {path.name: path.read_bytes() for path in folder(config).iterdir() if path.name != "log.txt"}
    named = records.file_hash(folder(config) / "record.json")
    signals.request("SIGTERM")
    try:
        with pytest.raises(StoppedError):
            run_cell(config, replaces=named)
    finally:
        signals.forget()
    assert run_cell(config) == first  # whoever does not retrain finds the result, and leaves the other alone
    now = {path.name: path.read_bytes() for path in folder(config).iterdir() if path.is_file()}
    assert {name: content for name, content in now.items() if name != "log.txt"} == before
    second = run_cell(config, replaces=named)
    assert (second.result, second.provenance.resumes) == (first.result, 1)
    assert {path.name for path in folder(config).iterdir()} == {*before, "log.txt", "record-1.json"}


def test_a_retraining_that_fails_leaves_the_result(make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch):
    config = make_small("trainer.checkpoint_minutes=0")
    first = run_cell(config)
    named = records.file_hash(folder(config) / "record.json")
    stop_after(monkeypatch, 1, RuntimeError("not today"))
    failed = run_cell(config, replaces=named)
    assert failed.status is Status.error
    assert records.record_of(config) == first
    assert not (folder(config) / "record-1.json").exists()


def test_a_record_is_replaced_once_and_only_if_it_is_the_one_that_was_named(make_small: MakeConfig):
    config = make_small()
    first = run_cell(config)
    path = folder(config) / "record.json"
    named = records.file_hash(path)
    assert run_cell(config, replaces="another") == first
    beside = [folder(config) / name for name in ("weights.pt", "predictions.npz", "history.jsonl", "config.yaml")]
    for each in beside:
        each.write_bytes(b"of the training that is replaced")
    second = run_cell(config, replaces=named)
    assert b"of the training that is replaced" not in {each.read_bytes() for each in beside}
    assert second.provenance != first.provenance or records.file_hash(path) != named
    assert second.result == first.result
    assert (folder(config) / "record-1.json").exists()
    again = records.file_hash(path)
    run_cell(config, replaces=named)
    assert records.file_hash(path) == again


def test_sample_pictures_are_made_on_request_and_are_those_of_the_training_that_counts(make_small: MakeConfig):
    config = make_small("tracker.images=4")
    run_cell(config)
    names = {"inputs.png", "mistakes.png"}
    assert names <= {path.name for path in folder(config).iterdir()}
    for name in names:
        (folder(config) / name).write_bytes(b"of the training that is replaced")
    run_cell(config, replaces=records.file_hash(folder(config) / "record.json"))
    assert all((folder(config) / name).read_bytes().startswith(b"\x89PNG") for name in names)
    # The id does not know of them, so the same cell can be trained again without.
    config.tracker.images = 0
    run_cell(config, replaces=records.file_hash(folder(config) / "record.json"))
    assert not names & {path.name for path in folder(config).iterdir()}


def test_a_picture_that_cannot_be_made_costs_the_cell_nothing(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def broken(*_: object) -> bytes:
        raise MemoryError("too many")

    monkeypatch.setattr("allcnn.training_run.mistakes_picture", broken)
    assert run_cell(make_small("tracker.images=4")).status is Status.done
    assert "mistakes.png could not be made (too many)" in capsys.readouterr().err


def test_a_cell_that_another_process_trains_is_left_to_it(make_small: MakeConfig):
    config = make_small()
    folder(config).mkdir(parents=True)
    with take_claim(folder(config), 60), pytest.raises(LeasedError, match=f"being trained by process {os.getpid()}"):
        run_cell(config)
    assert not (folder(config) / "record.json").exists()
    assert run_cell(config).status is Status.done


def test_a_process_that_lost_its_cell_writes_nothing_more(make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch):
    config = make_small("trainer.checkpoint_minutes=0")
    original = TrainingRun.on_epoch

    def robbed(here: TrainingRun) -> None:
        original(here)
        (token,) = (folder(config) / "claim").iterdir()
        take_claim(folder(config), 60, fence=token.name)

    monkeypatch.setattr(TrainingRun, "on_epoch", robbed)
    with pytest.raises(LostLeaseError, match="has lost the cell"):
        run_cell(config)
    assert not (folder(config) / "record.json").exists()
    state = read_checkpoint(folder(config) / "checkpoint.pt")
    assert state is not None
    assert state["step"] == 22  # of the first epoch's last step, before the cell was lost


def test_a_process_that_lost_its_cell_takes_no_step_more_than_the_one_it_was_at(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch
):
    config, steps = make_small(), list[int]()  # no checkpoint is due
    original = TrainingRun.on_step

    def robbed(here: TrainingRun) -> None:
        steps.append(here.training.step)
        if here.training.step == 2:
            (token,) = (folder(config) / "claim").iterdir()
            take_claim(folder(config), 60, fence=token.name)
        original(here)

    monkeypatch.setattr(TrainingRun, "on_step", robbed)
    with pytest.raises(LostLeaseError, match="has lost the cell"):
        run_cell(config)
    assert steps == [1, 2]


def test_a_wish_to_stop_leaves_a_checkpoint_and_the_next_call_ends_with_the_same_bits(make_small: MakeConfig):
    whole = run_cell(make_small("seed=3")).result
    config = make_small("seed=3")
    config.runs += "-stopped"
    signals.request("SIGTERM")
    try:
        with pytest.raises(StoppedError, match="stopped by SIGTERM after step 1"):
            run_cell(config)
    finally:
        signals.forget()
    assert not (folder(config) / "record.json").exists()
    record = run_cell(config)
    assert (record.result, record.provenance.resumes) == (whole, 1)


def test_sys_exit_in_a_users_net_is_recorded(make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch):
    config = make_small("trainer.checkpoint_minutes=0")
    stop_after(monkeypatch, 1, SystemExit(3))
    record = run_cell(config)
    assert record.status is Status.error
    assert record.failure is not None
    assert record.failure.cause == "SystemExit: 3"


def test_a_record_of_another_cell_with_the_same_id_is_refused(make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(identity, "hash_of", lambda science: "0123456789")
    run_cell(make_small("budget.epochs=1"))
    with pytest.raises(
        RecordError, match=r"another cell with the same id(.|\n)*budget\.epochs: this cell 2, the record 1"
    ):
        run_cell(make_small("budget.epochs=2"))


def test_a_full_disk_costs_a_checkpoint_and_not_the_cell(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    def full(path: Path, state: dict[str, Any], *, scratch: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(training_run, "write_state", full)
    assert run_cell(make_small("trainer.checkpoint_minutes=0")).status is Status.done
    # Once, although none of the 44 steps could be kept.
    assert capfd.readouterr().err.count("No space left on device); there is none yet, training goes on") == 1


def test_images_that_come_with_the_installation_come_from_no_folder(
    make_small: MakeConfig, capfd: pytest.CaptureFixture[str]
):
    run_cell(make_small("data.root=one"))
    run_cell(make_small("data.root=two"))
    said = capfd.readouterr().err
    assert "done already, nothing to train" in said
    assert "other images" not in said


def test_records_cannot_go_where_a_file_is(make_small: MakeConfig, tmp_path: Path):
    (tmp_path / "file").touch()
    for runs in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(ConfigError, match="is not a folder; name a folder that records can be written to"):
            run_cell(make_small(f"runs={runs}"))


@pytest.mark.parametrize("kernels", ["native", "rounded"])
def test_the_record_says_how_bf16_was_computed(make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch, kernels: str):
    monkeypatch.setenv("STRIVE_BF16", kernels)
    assert run_cell(make_small("precision=bf16", "budget.epochs=1")).provenance.details["bf16"] == kernels
    assert run_cell(make_small("precision=fp32", "budget.epochs=1")).provenance.details["bf16"] == ""


def test_a_resume_that_computes_bf16_in_another_way_is_inexact(make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch):
    config = make_small("precision=bf16")
    monkeypatch.setenv("STRIVE_BF16", "rounded")
    stop_after_one_step(config)
    monkeypatch.setenv("STRIVE_BF16", "native")
    provenance = run_cell(config).provenance
    assert provenance.inexact == ["bf16 changed from rounded to native at step 1"]
    assert provenance.details["bf16"] == "native"


def test_a_compiler_would_leave_the_roundings_out_and_is_not_asked(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STRIVE_BF16", "rounded")
    provenance = run_cell(make_small("precision=bf16", "trainer.compile=true", "budget.epochs=1")).provenance
    assert not provenance.details["compiled"]
    assert provenance.details["fallback"] == "torch.compile: it would leave out the roundings to bf16 of this device"


def test_kernels_that_may_differ_are_in_the_record_and_so_is_a_change_of_them(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch
):
    config = make_small()
    fast = Execution(torch.device("cpu"), threads=1, compiled=False, fast=True)
    with monkeypatch.context() as patch:
        patch.setattr(training_pack, "choose_execution", lambda trainer: fast)
        stop_after_one_step(config)
    provenance = run_cell(config).provenance
    assert not provenance.details["fast"]
    assert provenance.inexact == ["trainer.fast changed from true to false at step 1"]


def test_a_resume_without_the_compilation_it_began_with_is_inexact(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch
):
    config = make_small("trainer.compile=true", "precision=fp32")
    monkeypatch.setattr(torch, "compile", lambda module, **options: lambda images: module(images))
    stop_after_one_step(config)

    def broken(module: torch.nn.Module, **options: object) -> object:
        raise RuntimeError("no C++ compiler found")

    monkeypatch.setattr(torch, "compile", lambda module, **options: lambda images: broken(module))
    provenance = run_cell(config).provenance
    assert provenance.inexact == ["torch.compile changed from True to False at step 1"]
    assert not provenance.details["compiled"]
    assert provenance.details["fallback"] == "torch.compile: RuntimeError: no C++ compiler found"
