"""The run of a cell for any function: what it may log, save and return, and the record that follows."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import strive
from strive import signals
from strive.cells import app_state, records, run_files
from strive.cells.cell_run import CellRun
from strive.cells.checkpoints import FOLDER
from strive.cells.lease import owner_of, take_claim
from strive.cells.records import Record, Status
from strive.code.hash import Code
from strive.config import identity
from strive.errors import ContractError, LeasedError, LostLeaseError, StoppedError

CONFIG = {"lr": 0.1, "seed": 3}
CELL = f"net-{identity.hash_of(CONFIG)}"


class Item:
    """A number as libraries have it."""

    def __init__(self, value: object) -> None:
        self.value = value

    def item(self) -> object:
        return self.value


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., CellRun]:
    """Take the lease of the one cell of this file."""
    return lambda **options: CellRun(CELL, tmp_path, config=CONFIG, **{"checkpoint_minutes": 0.0} | options)


@pytest.fixture
def ran(opened: Callable[..., CellRun]) -> Callable[..., Record]:
    """Run a function as that cell."""

    def run(function: Callable[[], Any], **options: Any) -> Record:
        with opened(**options) as cell:
            return cell.run(function)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / CELL


@pytest.fixture
def stop() -> Iterator[Callable[[], None]]:
    """Ask for a stop, until the test ends."""
    yield lambda: signals.request("SIGTERM")
    signals.forget()


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def count(steps: int, *, then: Callable[[int], object] = lambda step: None) -> Callable[[], dict[str, int]]:
    """Return a function that counts up to so many steps, and can be stopped between any two."""

    def function() -> dict[str, int]:
        path = strive.load()
        start = int(path.read_text()) if path else 0
        for step in range(start + 1, steps + 1):
            strive.log(step, square=step * step)
            then(step)
            strive.save(lambda path, step=step: path.write_text(str(step)))
        return {"steps": steps}

    return function


def raising(error: BaseException, at: int) -> Callable[[int], None]:
    def then(step: int) -> None:
        if step == at:
            raise error

    return then


# -- what is returned


@pytest.mark.parametrize(
    ("returned", "metrics"),
    [
        (0.5, {"objective": 0.5}),
        (Item(3), {"objective": 3}),
        (None, {}),
        (
            {"acc": 0.5, "n": Item(7), "val": None, "loss": float("inf")},
            {"acc": 0.5, "n": 7, "val": None, "loss": None},
        ),
        (strive.metric(0.9, chance=0.1), {"objective": 0.9}),
        ({"converged": True, "huge": 10**30}, {"converged": 1, "huge": 1e30}),
    ],
)
def test_numbers_are_metrics_under_their_names(
    ran: Callable[..., Record], folder: Path, returned: object, metrics: Mapping[str, float | None]
):
    record = ran(lambda: returned)
    assert (record.status, record.metrics) == (Status.done, metrics)
    assert records.read_record(folder / "record.json") == record


def test_what_chance_gives_stands_apart(ran: Callable[..., Record]):
    record = ran(lambda: {"acc": strive.metric(Item(0.9), chance=0.1), "f1": strive.metric(0.5)})
    assert (record.metrics, record.chance) == ({"acc": 0.9, "f1": 0.5}, {"acc": 0.1})


def test_a_function_that_returns_nothing_is_done_and_says_so_once(
    ran: Callable[..., Record], capfd: pytest.CaptureFixture[str]
):
    assert ran(lambda: None).status is Status.done
    assert capfd.readouterr().err.count("the function returned nothing: the record has no metrics") == 1


class Net:
    def __repr__(self) -> str:
        return "Net(\n  weights\n)"


class Twice(dict[str, float]):
    def items(self) -> Any:
        return [("acc", 0.1), ("acc", 0.2)]


@pytest.mark.parametrize(
    ("returned", "cause"),
    [
        (Net(), "returned the Net Net( weights ); legal: a number"),
        ("0.5", "returned the str '0.5'; legal: a number"),
        ([0.1, 0.2], "returned the list [0.1, 0.2]; legal: a number"),
        (Net, "legal: a number"),
        ({"acc": {"val": 0.5}}, "acc is the dict {'val': 0.5}; legal: a number"),
        ({"acc": "high"}, "acc is the str 'high'; legal: a number"),
        ({"acc": Item("high")}, "acc is the Item"),
        ({"acc": strive.metric(0.5, chance="one in ten")}, "the chance of acc is the str 'one in ten'"),
        ({1: 0.5}, "1 is no name of a metric"),
        ({"acc ": 0.5}, "'acc ' is no name of a metric"),
        (Twice(acc=0.1), "two metrics have the name acc"),
    ],
)
def test_anything_else_is_an_error_that_names_it_and_what_is_legal(
    ran: Callable[..., Record], folder: Path, returned: object, cause: str
):
    def function() -> object:
        strive.save(lambda path: path.write_text("state"))
        return returned

    record = ran(function)
    assert record.status is Status.error
    assert record.failure is not None
    assert cause in record.failure.cause
    # The same command only has to return something else.
    assert ran(lambda: float(strive.load() is not None)).metrics == {"objective": 1.0}


# -- history


def test_calls_with_one_step_make_one_line(ran: Callable[..., Record], folder: Path):
    def function() -> None:
        strive.log(0, loss=1)
        strive.log(Item(2), loss=Item(0.5))
        strive.log(2, **{"val/acc": float("nan")}, lr=None)

    ran(function)
    assert history(folder) == [{"step": 0, "loss": 1}, {"step": 2, "loss": 0.5, "val/acc": None, "lr": None}]


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ([(1, {"a": 1}), (1, {"a": 2})], r"strive\.log\(1, a=\.\.\.\): step 1 has a=1 already"),
        ([(3, {"a": 1}), (2, {"b": 1})], r"strive\.log\(2, \.\.\.\) after step 3: steps must not go back"),
        ([(-1, {})], "must be a whole number"),
        ([(0.5, {})], "must be a whole number"),
        ([("one", {})], "the step is the str 'one'"),
        ([(1, {"step": 2})], "step is the first argument"),
        ([(1, {"weights": [1, 2]})], "weights is the list"),
    ],
)
def test_what_cannot_be_logged_is_an_error_with_the_reason(
    ran: Callable[..., Record], calls: list[tuple[Any, dict[str, Any]]], message: str
):
    def function() -> None:
        *first, (step, metrics) = calls
        for earlier, numbers in first:
            strive.log(earlier, **numbers)
        with pytest.raises(ContractError, match=message):
            strive.log(step, **metrics)

    assert ran(function).status is Status.done


def test_a_resume_drops_the_steps_after_the_checkpoint(ran: Callable[..., Record], folder: Path):
    def fall(step: int) -> None:
        if step == 3:
            strive.log(3, cube=27)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ran(count(4, then=fall))
    assert ran(count(3)).provenance.resumes == 1
    assert history(folder) == [{"step": 1, "square": 1}, {"step": 2, "square": 4}, {"step": 3, "square": 9}]


def test_a_start_without_load_begins_a_new_history_and_keeps_the_old_one(ran: Callable[..., Record], folder: Path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            ran(lambda: (strive.log(1, old=1), raising(KeyboardInterrupt(), 1)(1)))
    ran(lambda: strive.log(1, new=1))
    assert history(folder) == [{"step": 1, "new": 1}]
    kept = sorted(folder.glob("history-*.jsonl"))
    assert [path.read_text() for path in kept] == ['{"step": 1, "old": 1}\n'] * 2


def test_what_is_loaded_after_the_first_line_would_be_logged_twice(ran: Callable[..., Record]):
    record = ran(lambda: (strive.log(1, loss=1), strive.load()))
    assert record.failure is not None
    assert "load first, then log" in record.failure.cause


# -- checkpoints and stops


@pytest.mark.parametrize("kind", ["file", "folder", "ending"])
def test_a_checkpoint_is_what_the_function_wrote(ran: Callable[..., Record], kind: str):
    def write(path: Path) -> None:
        assert not path.exists()
        if kind == "folder":
            (path / "deep").mkdir(parents=True)
            (path / "deep" / "state").write_text("state")
        else:
            path.with_suffix(".npz" if kind == "ending" else "").write_text("state")

    with pytest.raises(KeyboardInterrupt):
        ran(lambda: (strive.save(write), raising(KeyboardInterrupt(), 1)(1)))

    def again() -> None:
        path = strive.load()
        assert path is not None
        assert path == strive.load()
        assert (path / "deep" / "state" if kind == "folder" else path).read_text() == "state"

    record = ran(again)
    assert (record.status, record.provenance.resumes) == (Status.done, 1)


def test_a_done_cell_has_no_checkpoint_and_a_failed_one_keeps_it(ran: Callable[..., Record], folder: Path):
    assert ran(count(3, then=raising(RuntimeError("no"), 3))).status is Status.error
    assert {path.name for path in folder.glob("strive*")} == {FOLDER, f"{FOLDER}-previous"}
    record = ran(count(3))
    assert (record.metrics, record.provenance.resumes) == ({"steps": 3}, 1)
    assert {path.name for path in folder.iterdir()} == {"record.json", "record-1.json", "history.jsonl", "log.txt"}


def test_a_stop_comes_after_a_checkpoint_and_no_except_catches_it(
    opened: Callable[..., CellRun], stop: Callable[[], None], folder: Path
):
    def function() -> None:
        stop()
        try:
            count(3)()
        except Exception:
            pytest.fail("Hydra catches every Exception, so this must be none")

    with opened() as cell, pytest.raises(StoppedError, match=r"stopped by SIGTERM after step 1$"):
        cell.run(function)
    assert not (folder / "record.json").exists()
    signals.forget()
    with opened() as cell:
        assert cell.run(count(3)).provenance.resumes == 1


def test_what_is_returned_after_a_stop_was_requested_is_not_the_result(
    ran: Callable[..., Record], stop: Callable[[], None], folder: Path
):
    def function() -> int:
        done = 0
        while done < 5 and not strive.stop_requested():
            done += 1
            stop()
        return done

    with pytest.raises(StoppedError):
        ran(function)
    assert not (folder / "record.json").exists()


def test_a_signal_ends_a_function_that_never_asks_at_once(ran: Callable[..., Record], stop: Callable[[], None]):
    def function() -> None:
        signals._note(signal.SIGTERM, None)  # what the handler does
        pytest.fail("it went on")

    with pytest.raises(StoppedError, match="stopped by SIGTERM"):
        ran(function)


def test_a_stop_that_was_requested_before_it_began_needs_no_step(ran: Callable[..., Record], stop: Callable[[], None]):
    stop()
    with pytest.raises(StoppedError):
        ran(lambda: pytest.fail("it began"))


def test_a_checkpoint_is_written_when_it_is_due(tmp_path: Path):
    written = []
    with CellRun(CELL, tmp_path, config=CONFIG, checkpoint_minutes=1000) as cell:
        cell.run(lambda: strive.save(lambda path: written.append(path)))
    assert written == []


@pytest.mark.parametrize(
    ("write", "cause"),
    [
        (lambda path: None, "wrote nothing; it must write one file or one folder"),
        (lambda path: [path.with_suffix(end).touch() for end in (".a", ".b")], "wrote state.a, state.b; it must"),
        (lambda path: json.dumps(path), "raised TypeError: Object of type PosixPath is not JSON serializable; it must"),
        (lambda path: (path / "missing").read_text(), "raised FileNotFoundError"),
    ],
)
def test_a_writer_that_writes_nothing_is_an_error_and_the_checkpoint_before_stays(
    ran: Callable[..., Record], write: Callable[[Path], object], cause: str
):
    record = ran(count(3, then=lambda step: strive.save(write) if step == 3 else None))
    assert record.status is Status.error
    assert record.failure is not None
    assert record.failure.cause.startswith("ContractError: the function given to strive.save ")
    assert cause in record.failure.cause
    assert ran(count(3)).provenance.resumes == 1


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 64 vs 0")])
def test_a_full_disk_costs_the_checkpoint_and_not_the_cell(
    ran: Callable[..., Record], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: Exception
):
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(app_state, "_raise_if_full", full)

    def function() -> int:
        for step in range(1, 4):
            strive.log(step, a=1)
            strive.save(lambda path: (_ for _ in ()).throw(error))
        return 3

    assert ran(function).status is Status.done
    said = capfd.readouterr().err
    assert said.count("No space left on device); there is none yet, training goes on") == 1


def test_who_stops_without_room_for_a_checkpoint_learns_what_is_kept(
    ran: Callable[..., Record], stop: Callable[[], None]
):
    def function() -> None:
        count(2)()
        stop()
        strive.log(3, a=1)
        strive.save(lambda path: (_ for _ in ()).throw(OSError(28, "No space left on device")))

    with pytest.raises(StoppedError, match=r"after step 3, but kept is step 2 \(.*No space left on device\)"):
        ran(function)


def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(
    ran: Callable[..., Record], folder: Path, capfd: pytest.CaptureFixture[str]
):
    ran(count(4, then=raising(RuntimeError("no"), 4)))
    (folder / FOLDER / "state").write_text("9")
    seen = []
    record = ran(count(4, then=seen.append))
    assert (seen, record.status, record.provenance.resumes) == ([3, 4], Status.done, 1)
    assert [line["step"] for line in history(folder)] == [1, 2, 3, 4]
    assert "because it is damaged: state is not what was written" in capfd.readouterr().err
    assert len(list(folder.glob(f"{FOLDER}-unused-*"))) == 1


def test_a_checkpoint_of_other_code_or_data_is_put_aside(
    ran: Callable[..., Record], folder: Path, capfd: pytest.CaptureFixture[str]
):
    def on(data: str, function: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: (strive.fingerprint("train", data), function())[1]

    ran(on("a", count(3, then=raising(RuntimeError("no"), 3))), code=Code("1111", {"a.py": "1"}))
    record = ran(on("a", count(4, then=raising(RuntimeError("no"), 4))), code=Code("2222", {"a.py": "2"}))
    assert record.provenance.resumes == 0
    assert "it was written by code 1111, this is 2222: a.py changed" in capfd.readouterr().err
    record = ran(on("b", count(4)), code=Code("2222", {"a.py": "2"}))
    assert (record.provenance.resumes, record.data) == (0, {"train": "b"})
    assert "it was trained on other data (train: a, this is b)" in capfd.readouterr().err
    assert len(list(folder.glob(f"{FOLDER}*-unused-*"))) == 4


def test_code_that_shows_late_marks_the_record_inexact_where_it_has_changed(ran: Callable[..., Record]):
    files = {"train.py": "1"}

    def code() -> Code:
        return Code("".join(files.values()), dict(files))

    def late(version: str) -> Callable[[int], None]:
        def then(step: int) -> None:
            files["late.py"] = version
            raising(RuntimeError("no"), 3 if version == "1" else 9)(step)

        return then

    ran(count(3, then=late("1")), code=code)
    del files["late.py"]  # a new process has not imported it when it loads
    record = ran(count(3, then=late("2")), code=code)
    assert record.provenance.resumes == 1
    assert record.provenance.inexact == ["code changed at step 2: late.py"]
    assert record.provenance.code_files == {"late.py": "2", "train.py": "1"}


def test_what_a_resume_cannot_keep_marks_the_record_inexact(ran: Callable[..., Record]):
    def known(device: str) -> Callable[[], dict[str, Any]]:
        return lambda: {"device": device, "details": {"layout": "rows"}}

    ran(count(3, then=raising(RuntimeError("no"), 3)), known=known("a GPU"))
    provenance = ran(count(3), known=known("a CPU")).provenance
    assert provenance.inexact == ["device changed from a GPU to a CPU at step 2"]
    assert (provenance.device, provenance.details) == ("a CPU", {"layout": "rows"})


def test_a_data_set_has_one_fingerprint(ran: Callable[..., Record]):
    record = ran(lambda: (strive.fingerprint("train", "a"), strive.fingerprint("train", "b")))
    assert record.failure is not None
    assert "it is 'a' already" in record.failure.cause


# -- failures and results


def test_a_divergence_is_a_result(ran: Callable[..., Record]):
    def function() -> None:
        raise strive.Diverged("the loss became nan\nin step 3", train_loss=float("nan"), steps=3)

    record = ran(function)
    assert (record.status, record.cause) == (Status.diverged, "the loss became nan")
    assert record.metrics == {"train_loss": None, "steps": 3}
    assert ran(lambda: pytest.fail("it is done")) == record


@pytest.mark.parametrize(
    ("error", "status", "cause"),
    [
        (RuntimeError("the disk\nis on fire"), Status.error, "RuntimeError: the disk"),
        (SystemExit(3), Status.error, "SystemExit: 3"),
        (MemoryError(), Status.out_of_memory, "MemoryError: no message"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), Status.out_of_memory, "OutOfMemoryError: CUDA"),
        (strive.Diverged("loss", acc="none"), Status.error, "ContractError: acc is the str 'none'"),
    ],
)
def test_an_exception_is_a_failure_of_its_class_and_the_next_call_tries_again(
    ran: Callable[..., Record], folder: Path, error: BaseException, status: Status, cause: str
):
    record = ran(count(3, then=raising(error, 2)))
    assert record.status is status
    assert record.failure is not None
    assert record.failure.cause.startswith(cause)
    assert record.failure.traceback
    assert [line["step"] for line in history(folder)] == [1, 2]
    assert ran(count(3)).provenance.resumes == 1
    assert json.loads((folder / "record-1.json").read_text())["status"] == status


def test_a_record_that_finds_no_room_is_tried_again_and_the_checkpoint_stays(
    ran: Callable[..., Record], monkeypatch: pytest.MonkeyPatch, folder: Path
):
    def full(*args: object, **options: object) -> None:
        tries.append(1)
        raise OSError(28, "No space left on device")

    tries: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(run_files, "_PAUSES_SECONDS", (0.0,))
        patch.setattr(records, "write_record", full)
        with pytest.raises(OSError, match="No space left"):
            ran(count(2))
    assert len(tries) == 4  # the result, and then the failure to write it
    assert ran(count(2)).provenance.resumes == 1


# -- one owner, and results that are replaced


def test_a_cell_that_another_process_trains_is_left_to_it(ran: Callable[..., Record], folder: Path):
    folder.mkdir()
    with take_claim(folder, 60), pytest.raises(LeasedError, match=f"being trained by process {os.getpid()}"):
        ran(count(1))


def test_a_process_that_lost_its_cell_writes_nothing_more(ran: Callable[..., Record], folder: Path):
    def rob(step: int) -> None:
        if step == 2:
            (token,) = (folder / "claim").iterdir()
            take_claim(folder, 60, fence=token.name)

    with pytest.raises(LostLeaseError, match="has lost the cell"):
        ran(count(3, then=rob))
    assert not (folder / "record.json").exists()
    assert (folder / FOLDER / "state").read_text() == "1"


def test_a_cell_that_never_logs_shows_signs_of_life(ran: Callable[..., Record], folder: Path):
    def function() -> None:
        for _ in range(1000):
            owner = owner_of(folder)
            assert owner is not None
            if owner.beat > 1:
                return
            threading.Event().wait(0.01)
        pytest.fail("no heartbeat")

    assert ran(function, lease_seconds=0.08).status is Status.done


def test_a_result_is_replaced_only_as_a_whole_and_only_if_it_is_the_one_that_was_named(
    ran: Callable[..., Record], folder: Path
):
    def write(content: str) -> Callable[[], float]:
        def function() -> float:
            cell = strive.current()
            assert cell is not None
            (cell.folder / "plots").mkdir()
            (cell.folder / "plots" / content).touch()
            strive.log(9, value=1)
            return 1.0

        return function

    first = ran(write("old"))
    named = records.file_hash(folder / "record.json")
    assert ran(write("new"), replaces="another") == first
    (folder / "history.jsonl").write_text("of the result")
    failed = ran(count(3, then=raising(RuntimeError("no"), 3)), replaces=named)
    assert failed.status is Status.error
    assert records.file_hash(folder / "record.json") == named
    assert (folder / "history.jsonl").read_text() == "of the result"
    second = ran(lambda: (strive.load(), write("new")())[1], replaces=named)
    assert second.provenance.resumes == 1
    assert [path.name for path in (folder / "plots").iterdir()] == ["new"]
    assert [line["step"] for line in history(folder)] == [1, 2, 9]
    assert {path.name for path in folder.iterdir()} == {
        "record.json", "record-1.json", "history.jsonl", "log.txt", "plots",
    }  # fmt: skip


# -- which run is the current one


def test_outside_of_a_cell_nothing_happens():
    assert strive.current() is None
    strive.log(-1, loss="none of these is looked at")
    strive.save(lambda path: pytest.fail("nothing is written"))
    strive.fingerprint("train", "abc")
    assert strive.load() is None
    assert not strive.stop_requested()


def test_threads_of_a_function_belong_to_its_cell_and_processes_do_not(ran: Callable[..., Record], folder: Path):
    def function() -> None:
        thread = threading.Thread(target=lambda: strive.log(1, loss=1))
        thread.start()
        thread.join()
        cell = strive.current()
        assert cell is not None
        cell.pid += 1  # as in a fork
        assert strive.current() is None
        cell.pid -= 1

    ran(function)
    assert history(folder) == [{"step": 1, "loss": 1}]


def test_cells_in_threads_of_one_process_keep_apart(tmp_path: Path):
    both = threading.Barrier(2, timeout=60)

    def train(config: Mapping[str, int]) -> int:
        both.wait()
        strive.log(config["n"], n=config["n"])
        both.wait()
        return config["n"]

    threads = [
        threading.Thread(target=strive.run_cell, args=(train, {"n": n}), kwargs={"runs": tmp_path}) for n in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [(record.metrics["objective"], history(tmp_path / record.cell)) for record in strive.read_records(tmp_path)]
    assert sorted(found, key=str) == [(1, [{"step": 1, "n": 1}]), (2, [{"step": 2, "n": 2}])]
