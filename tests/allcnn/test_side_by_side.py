"""Cells that train in one process: each ends as it would have ended alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support import MakeConfig, plainly

from allcnn import training_pack
from allcnn.config import Config
from allcnn.training import Execution, GraphExecutor, Training, read_checkpoint
from allcnn.training_pack import TrainingPack, run_cell
from allcnn.training_run import TrainingRun
from strive import signals
from strive.app import in_use
from strive.cells.lease import take_claim
from strive.cells.records import Record, Status, read_record
from strive.config import identity
from strive.errors import LeasedError, NoRoomError, StoppedError

Ends = dict[str, Record | BaseException]


@pytest.fixture
def variants(make_small: MakeConfig) -> list[Config]:
    return [
        make_small("seed=1", "augment=flip_shift", "budget.epochs=2"),
        make_small("seed=2", "optimizer.lr=0.01", "budget.epochs=3"),
        make_small("seed=3", "optimizer.weight_decay=0", "budget.epochs=1"),
    ]


def elsewhere(config: Config) -> Config:
    return in_use().config_of(in_use().flat(config) | {"runs": f"{config.runs}-alone"})


def folder(config: Config) -> Path:
    return Path(config.runs) / identity.cell_id(config)


def packed(configs: list[Config], *, room: int = 4) -> Ends:
    ends: Ends = {}
    pack = TrainingPack(ends.__setitem__, room=room)
    for config in configs:
        pack.add(config)
    while len(pack):
        pack.run_epoch()
    return ends


def record_of(ends: Ends, config: Config) -> Record:
    record = ends[identity.cell_id(config)]
    assert isinstance(record, Record), record
    return record


@pytest.mark.parametrize("graph", [False, True])
def test_each_cells_result_is_bit_for_bit_the_lone_cells(
    variants: list[Config], monkeypatch: pytest.MonkeyPatch, graph: bool
):
    if graph:
        monkeypatch.setattr(training_pack, "make_executor", lambda execution: GraphExecutor(plainly))
    ends = packed(variants)
    for config in variants:
        record, alone = record_of(ends, config), run_cell(elsewhere(config))
        assert record.result == alone.result
        assert record == read_record(folder(config) / "record.json")
        for name in ("history.jsonl", "predictions.npz"):
            assert (folder(config) / name).read_bytes() == (folder(elsewhere(config)) / name).read_bytes()
        assert not (folder(config) / "claim").exists()
        assert not (folder(config) / "checkpoint.pt").exists()
        assert (record.provenance.details["packed"], alone.provenance.details["packed"]) == (3, 1)


def test_a_log_holds_the_lines_of_its_own_cell(variants: list[Config]):
    packed(variants)
    for config in variants:
        lines = (folder(config) / "log.txt").read_text().splitlines()
        assert sum("EpochLine" in line for line in lines) == config.budget.epochs


def test_a_diverged_cell_leaves_and_the_others_go_on(variants: list[Config], make_small: MakeConfig):
    wild = make_small("optimizer.lr=1e9", "budget.epochs=3")
    ends = packed([wild, *variants])
    assert record_of(ends, wild).status is Status.diverged
    for config in variants:
        assert record_of(ends, config).result == run_cell(elsewhere(config)).result


def test_a_cell_may_join_while_others_train(variants: list[Config]):
    ends: Ends = {}
    pack = TrainingPack(ends.__setitem__, room=2)
    pack.add(variants[0])
    pack.run_epoch()
    pack.add(variants[1])
    while len(pack):
        pack.run_epoch()
    for config in variants[:2]:
        assert record_of(ends, config).result == run_cell(elsewhere(config)).result


def test_after_a_signal_each_has_a_checkpoint_and_goes_on_in_another_pack(variants: list[Config]):
    signals.request("SIGTERM")
    try:
        ends = packed(variants)
    finally:
        signals.forget()
    assert all(isinstance(end, StoppedError) for end in ends.values())
    for config in variants:
        state = read_checkpoint(folder(config) / "checkpoint.pt")
        assert state is not None
        assert state["step"] == 1
    first, second, third = variants
    for group in ([third, first], [second]):
        ends = packed(group)
        for config in group:
            assert record_of(ends, config).result == run_cell(elsewhere(config)).result
            assert record_of(ends, config).provenance.resumes == 1


def test_a_cell_that_finishes_its_epoch_alone_does_not_keep_the_others_from_a_signal(
    variants: list[Config], monkeypatch: pytest.MonkeyPatch
):
    signals.request("SIGTERM")
    try:
        packed(variants[:1])
        signals.forget()
        original = TrainingRun.on_step

        def signalled(here: TrainingRun) -> None:
            if here.training.step == 3:
                signals.request("SIGTERM")
            original(here)

        monkeypatch.setattr(TrainingRun, "on_step", signalled)
        ends = packed(variants[:2])
    finally:
        signals.forget()
    assert [str(end).split(": ")[1] for end in ends.values()] == [
        "stopped by SIGTERM after step 3",
        "stopped by SIGTERM after step 0",
    ]


def test_one_that_lost_its_claim_leaves_and_the_others_go_on(variants: list[Config], monkeypatch: pytest.MonkeyPatch):
    original = TrainingRun.on_step
    robbed = variants[1]

    def rob(here: TrainingRun) -> None:
        if here.config.seed == robbed.seed and here.training.step == 2:
            (token,) = (folder(robbed) / "claim").iterdir()
            take_claim(folder(robbed), 60, fence=token.name)
        original(here)

    monkeypatch.setattr(TrainingRun, "on_step", rob)
    ends = packed(variants)
    assert "has lost the cell" in str(ends[identity.cell_id(robbed)])
    assert not (folder(robbed) / "record.json").exists()
    monkeypatch.undo()
    for config in (variants[0], variants[2]):
        assert record_of(ends, config).result == run_cell(elsewhere(config)).result


def test_trouble_at_an_epochs_end_is_that_cells_alone(variants: list[Config], monkeypatch: pytest.MonkeyPatch):
    original = TrainingRun.on_epoch

    def troubled(here: TrainingRun) -> None:
        if here.config.seed == 2:
            raise OSError("no space left on device")
        original(here)

    monkeypatch.setattr(TrainingRun, "on_epoch", troubled)
    ends = packed(variants)
    failed = record_of(ends, variants[1])
    assert (failed.status, failed.failure and failed.failure.cause) == (
        Status.error,
        "OSError: no space left on device",
    )
    assert record_of(ends, variants[0]).status is Status.done


def test_a_cell_of_another_process_is_told_and_the_others_train(variants: list[Config]):
    folder(variants[0]).mkdir(parents=True)
    with take_claim(folder(variants[0]), 60):
        ends = packed(variants)
    assert isinstance(ends[identity.cell_id(variants[0])], LeasedError)
    assert record_of(ends, variants[1]).status is Status.done


@pytest.mark.parametrize(
    ("error", "room"),
    [(torch.OutOfMemoryError("CUDA out of memory"), 2), (RuntimeError("unspecified launch failure"), 1)],
)
def test_an_error_that_may_be_any_ones_is_held_against_none(
    variants: list[Config], monkeypatch: pytest.MonkeyPatch, error: Exception, room: int
):
    original = Training.learn

    def failing(training: Training, *arguments: Any) -> None:
        if training.step == 1:
            raise error
        original(training, *arguments)

    monkeypatch.setattr(Training, "learn", failing)
    ends = packed(variants)
    for end in ends.values():
        assert isinstance(end, NoRoomError)
        assert end.room == room
        assert str(end).endswith(f"{error}, with 3 cells side by side")
    monkeypatch.undo()
    # None has a verdict: each trains again, and ends as it would have.
    assert all(run_cell(config).status is Status.done for config in variants)


def test_the_same_error_of_a_lone_cell_is_its_record(variants: list[Config], monkeypatch: pytest.MonkeyPatch):
    def failing(training: Training, *arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Training, "learn", failing)
    assert record_of(packed(variants[:1]), variants[0]).status is Status.out_of_memory


def test_cells_beyond_the_fastest_number_are_given_back_untouched(
    variants: list[Config], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(training_pack, "cells_at_once", lambda trainings, executor: 2)
    ends = packed(variants, room=0)
    given_back = ends[identity.cell_id(variants[2])]
    assert isinstance(given_back, NoRoomError)
    assert given_back.room == 2
    assert not (folder(variants[2]) / "claim").exists()
    assert run_cell(variants[2]).provenance.resumes == 0
    for config in variants[:2]:
        assert record_of(ends, config).provenance.details["packed"] == 2


def test_what_a_cell_that_is_given_back_has_trained_is_kept(variants: list[Config], monkeypatch: pytest.MonkeyPatch):
    ends: Ends = {}
    pack = TrainingPack(ends.__setitem__)
    monkeypatch.setattr(training_pack, "cells_at_once", lambda trainings, executor: len(trainings))
    for config in variants[:2]:
        pack.add(config)
    pack.run_epoch()
    monkeypatch.setattr(training_pack, "cells_at_once", lambda trainings, executor: 1)
    pack.add(variants[2])
    pack.run_epoch()
    assert isinstance(ends[identity.cell_id(variants[1])], NoRoomError)
    state = read_checkpoint(folder(variants[1]) / "checkpoint.pt")
    assert state is not None
    assert state["step"] == 22  # the first epoch, in batches of 64


@pytest.mark.parametrize("graph", [True, False])
def test_the_record_names_the_engine_that_took_the_steps(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch, graph: bool
):
    def refuses(step: object) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    execution = Execution(torch.device("cpu"), threads=1, compiled=False, graph=True)
    monkeypatch.setattr(training_pack, "choose_execution", lambda trainer: execution)
    monkeypatch.setattr(training_pack, "make_executor", lambda execution: GraphExecutor(plainly if graph else refuses))
    assert run_cell(make_small("budget.epochs=1")).provenance.details["engine"] == ("graph" if graph else "eager")


def test_the_fastest_number_is_measured_again_when_more_cells_come(
    variants: list[Config], monkeypatch: pytest.MonkeyPatch
):
    asked: list[int] = []
    monkeypatch.setattr(
        training_pack, "cells_at_once", lambda trainings, executor: asked.append(len(trainings)) or len(trainings)
    )
    pack = TrainingPack(lambda cell, end: None)
    for config in variants[:2]:
        pack.add(config)
    pack.run_epoch()
    pack.run_epoch()
    pack.add(variants[2])
    while len(pack):
        pack.run_epoch()
    assert asked == [2]  # two trained; the third found one place free, as the first had ended


def test_a_slower_way_of_an_epochs_last_batch_is_told_once_too(
    variants: list[Config], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    captures: list[object] = []

    def refuses_the_second(step: Any) -> Any:
        captures.append(step)
        if len(captures) == 2:
            raise RuntimeError("operation not permitted when stream is capturing")
        return step

    monkeypatch.setattr(training_pack, "make_executor", lambda execution: GraphExecutor(refuses_the_second))
    assert variants[0].budget.epochs == 2
    record = record_of(packed(variants[:1]), variants[0])
    assert len(captures) == 2
    assert record.provenance.details["fallback"].startswith("CUDA graph: RuntimeError")
    assert capfd.readouterr().err.count("falls back to a slower path") == 1


def test_a_slower_way_is_told_once_and_marked_in_the_record(
    variants: list[Config], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    def refuses(step: object) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(training_pack, "make_executor", lambda execution: GraphExecutor(refuses))
    record = record_of(packed(variants[:1]), variants[0])
    why = "CUDA graph: RuntimeError: operation not permitted when stream is capturing"
    assert record.provenance.details["fallback"] == why
    assert capfd.readouterr().err.count(f"falls back to a slower path: {why}") == 1
    assert record.result == run_cell(elsewhere(variants[0])).result
