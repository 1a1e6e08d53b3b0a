"""The program of `make gpu-check`, without a GPU: that it goes through, and that its checks can fail."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gpu_check
import gpu_correctness as correctness
import pytest
import roofline
import torch
from gpu_arms import ArmSettings, Setup, random_splits
from gpu_speed import GpuPeak, measure
from support import ROOT, CommandLine, plainly
from torch import Tensor, nn

from allcnn.config import DataConfig
from allcnn.training import Executor, GraphExecutor, Training
from allcnn.training import executors as executors_module

CPU = torch.device("cpu")
SMOKE = ("--device", "cpu", "--smoke")
NET = "strided_cnn_a"
PATH = os.pathsep.join([str(ROOT / "bench"), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])


@pytest.fixture(scope="module")
def setup() -> Setup:
    return Setup(device=CPU, splits=random_splits(2 * roofline.BATCH + 40, CPU), data=DataConfig(), width=0.03)


class Meddler:
    """Steps as they should be, and then something that should not be."""

    def __init__(self, meddle: Callable[[Sequence[Training]], None]) -> None:
        self.meddle, self.inner = meddle, GraphExecutor(plainly)

    def steps(self, trainings: Sequence[Training]) -> Iterator[None]:
        for _ in self.inner.steps(trainings):
            self.meddle(trainings)
            yield


def add(value: float, trainings: Sequence[Training]) -> None:
    with torch.no_grad():
        next(trainings[0].network.parameters())[0, 0, 0, 0] += value


def meddling(monkeypatch: pytest.MonkeyPatch, meddle: Callable[[Sequence[Training]], None]) -> None:
    def executor(_: object) -> Executor:
        return Meddler(meddle)

    monkeypatch.setattr(correctness, "executor", executor)


BITS = (
    correctness.graph_is_eager,
    correctness.packed_is_lone,
    correctness.resume_in_another_pack,
    correctness.rerun_is_the_same,
)


@pytest.mark.parametrize("check", [*BITS, correctness.gpu_is_cpu, correctness.net_is_as_written, correctness.memory])
def test_a_check_passes_where_all_is_right(check: correctness.Check, setup: Setup):
    finding = check(NET, setup, False)
    assert finding.passed, finding.note


@pytest.mark.parametrize("check", [correctness.packed_is_lone, correctness.resume_in_another_pack])
def test_a_cell_that_its_neighbours_disturb_is_noticed(
    check: correctness.Check, setup: Setup, monkeypatch: pytest.MonkeyPatch
):
    meddling(monkeypatch, lambda trainings: add(1e-6 * (len(trainings) - 1), trainings))
    finding = check(NET, setup, False)
    assert not finding.passed
    assert "differ by up to" in finding.note


def test_a_graph_that_does_something_else_is_noticed(setup: Setup, monkeypatch: pytest.MonkeyPatch):
    meddling(monkeypatch, lambda trainings: add(1e-6, trainings))
    assert not correctness.graph_is_eager(NET, setup, False).passed


def test_a_rerun_that_differs_is_noticed(setup: Setup, monkeypatch: pytest.MonkeyPatch):
    values = iter(range(1, 1000))
    meddling(monkeypatch, lambda trainings: add(1e-6 * next(values), trainings))
    assert not correctness.rerun_is_the_same(NET, setup, False).passed


def test_a_checkpoint_that_lacks_something_is_noticed(setup: Setup, monkeypatch: pytest.MonkeyPatch):
    restore = Training.restore

    def forgetful(self: Training, state: dict[str, Any]) -> None:
        restore(self, {**state, "optimizer": [torch.zeros_like(each) for each in state["optimizer"]]})

    monkeypatch.setattr(Training, "restore", forgetful)
    assert not correctness.resume_in_another_pack(NET, setup, False).passed


def test_a_net_that_is_not_the_papers_is_noticed(setup: Setup, monkeypatch: pytest.MonkeyPatch):
    class Larger(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.net(images)
            return logits * 1.0001

    monkeypatch.setattr(correctness, "with_moved_strides", lambda net, channels: Larger(net))
    assert not correctness.net_is_as_written(NET, setup, False).passed


def test_a_graph_that_was_not_used_is_no_pass(setup: Setup, monkeypatch: pytest.MonkeyPatch):
    def broken(step: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("no graph today")

    monkeypatch.setattr(correctness, "executor", lambda execution: GraphExecutor(broken))
    finding = correctness.graph_is_eager(NET, setup, False)
    assert not finding.passed
    assert finding.note == "the same bits; fell back: CUDA graph: RuntimeError: no graph today"


def test_dead_cells_are_no_pass(setup: Setup, monkeypatch: pytest.MonkeyPatch):
    def kill(trainings: Sequence[Training]) -> None:
        for parameter in trainings[0].network.parameters():
            parameter.data.fill_(torch.nan)

    meddling(monkeypatch, kill)
    assert not correctness.rerun_is_the_same(NET, setup, False).passed


def test_rates_and_times_of_a_row_are_those_of_its_epochs(setup: Setup, monkeypatch: pytest.MonkeyPatch):
    times = iter([0, 0, 9, 9, 10, 11, 20, 23, 30, 32])  # after a first epoch of 9 s: epochs of 1, 3 and 2 s
    monkeypatch.setattr("gpu_arms.now", lambda device: next(times))
    monkeypatch.setattr("gpu_speed.now", lambda device: next(times))
    (row,) = measure(NET, [ArmSettings(cells=2, compiled=False)], setup, GpuPeak(peak=1e12, bandwidth=1e12), 3)
    images = 2 * roofline.BATCH + 40
    assert row.error == ""
    assert (row.images_per_second, row.slowest, row.fastest) == (2 * images / 2, 2 * images / 3, 2 * images / 1)
    assert row.step_us == pytest.approx(1e6 * 2 / 3 / 2)  # an epoch of 2 s has 3 steps of 2 cells


def test_a_way_that_raises_is_a_row_that_says_so(setup: Setup, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no loop today\nand more")

    monkeypatch.setattr("gpu_loop.Loop", broken)
    rows = measure(NET, [ArmSettings(loop="plain", compiled=False), ArmSettings(compiled=False)], setup, GpuPeak(), 1)
    assert [row.error for row in rows] == ["RuntimeError: no loop today", ""]
    assert rows[1].images_per_second is not None


@pytest.mark.slow
def test_the_commands_of_the_page_plan_what_they_say(strive: CommandLine):
    page = (ROOT / "docs" / "gpu.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("python src/run.py")]
    assert len(lines) == 6
    # Planned on images that are always there, without the search for learning rates.
    here = (
        "data=digits",
        "data.name=digits",
        "preprocess=standardize",
        "optimizer.lr=0.05",
        "hydra.sweeper.dry_run=true",
    )
    for line in lines:
        done = strive(*shlex.split(line, comments=True)[2:], *here)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        cells = 24 if "seed=0,1" in line else 36 if "seed=2,3,4" in line else 60
        assert f"{cells} cells: 0 done already, {cells} to train" in done.stdout + done.stderr


def read(folder: Path) -> tuple[dict[str, Any], str]:
    return json.loads((folder / "gpu_check.json").read_text()), (folder / "gpu_check.md").read_text()


@pytest.mark.slow
def test_the_smoke_run_checks_and_times_everything(tmp_path: Path):
    # With more minutes than it takes on any machine, however busy.
    command = [sys.executable, str(ROOT / "bench" / "gpu_check.py"), *SMOKE, "--minutes", "9", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    report, page = read(tmp_path)
    assert report["complete"]
    assert not report["failed"]
    assert (report["skipped"], report["errors"]) == ([], [])
    assert {each["check"] for each in report["checks"]} == {
        "gpu_is_cpu",
        "net_is_as_written",
        "graph_is_eager",
        "packed_is_lone",
        "resume_in_another_pack",
        "rerun_is_the_same",
        "memory",
    }
    assert all(each["finding"]["passed"] for each in report["checks"])
    timed = [row for row in report["speed"] if row["images_per_second"] > 0]
    assert {row["net"] for row in timed if row["way"]["cells"] == 1} == set(gpu_check.TIMED)
    assert {row["net"] for row in timed if row["way"]["loop"] == "plain"} == set(gpu_check.TIMED)
    assert {row["net"] for row in timed if row["way"]["cells"] == 2} == {gpu_check.FULL}
    assert set(report["cells_at_once"]) == {gpu_check.FULL}
    # A processor that stands for an older one says so, too.
    assert set(report["where"]) - {"Limited by"} == {
        "Machine",
        "bf16",
        "Unverified here",
        "Versions",
        "Date",
        "Command",
    }
    assert page == done.stdout
    assert "10 of 10 checks passed, 0 parts left out" in page
    assert "A smoke run of tiny nets" in page


@pytest.fixture
def few_parts(monkeypatch: pytest.MonkeyPatch) -> list[correctness.Check]:
    """Leave one check, which a test may add to, and one net to time."""
    kept: list[correctness.Check] = [correctness.rerun_is_the_same]
    # Its minutes begin when it is imported, which in a test run is long ago.
    monkeypatch.setattr(gpu_check, "STARTED", time.monotonic())
    monkeypatch.setattr(gpu_check, "checks", lambda scale: [(check, NET, False, 15) for check in kept])
    monkeypatch.setattr(gpu_check, "timings", lambda scale: [(NET, [ArmSettings(compiled=False)], 35)])
    monkeypatch.setattr(executors_module.GraphExecutor, "seconds_per_step", lambda self, trainings: 1.0)
    return kept


def raises(net: str, setup: Setup, compiled: bool) -> correctness.Finding:
    """Always."""
    raise RuntimeError("no kernel | today")


def test_a_check_that_raises_fails_the_run_and_the_rest_goes_on(few_parts: list[correctness.Check], tmp_path: Path):
    few_parts.insert(0, raises)
    assert gpu_check.main([*SMOKE, "--out", str(tmp_path)]) == 1
    report, page = read(tmp_path)
    assert report["complete"]
    assert report["failed"]
    assert [each["finding"]["passed"] for each in report["checks"]] == [False, True]
    assert "raise RuntimeError" in report["checks"][0]["finding"]["trace"]
    assert [row["net"] for row in report["speed"]] == [NET]
    assert "| raises | strided_cnn_a | no | **no** | RuntimeError: no kernel \\| today |" in page


def test_a_check_that_fails_fails_the_run(few_parts: list[correctness.Check], tmp_path: Path):
    few_parts.append(lambda net, setup, compiled: correctness.Finding(passed=False, note="apart"))
    assert gpu_check.main([*SMOKE, "--out", str(tmp_path)]) == 1
    report, _ = read(tmp_path)
    assert report["errors"] == []
    assert [each["finding"]["note"] for each in report["checks"]] == ["the same bits", "apart"]


@pytest.mark.usefixtures("few_parts")
def test_a_part_of_the_timing_that_raises_is_an_error_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def broken(*_: object) -> None:
        raise RuntimeError("no clock today")

    monkeypatch.setattr(gpu_check, "measure", broken)
    assert gpu_check.main([*SMOKE, "--out", str(tmp_path)]) == 1
    report, page = read(tmp_path)
    assert report["errors"][0].endswith("RuntimeError: no clock today")
    assert report["cells_at_once"] == {gpu_check.FULL: 2}
    assert "## Errors" in page


@pytest.mark.usefixtures("few_parts")
def test_without_time_parts_are_left_out_and_named(tmp_path: Path):
    assert gpu_check.main([*SMOKE, "--out", str(tmp_path), "--minutes", "0"]) == 1  # nothing was checked
    report, page = read(tmp_path)
    assert report["complete"]
    assert [line.partition(":")[0] for line in report["skipped"]] == [
        f"rerun_is_the_same, {NET}",
        f"speed, {NET}",
        f"calibration, {gpu_check.FULL}",
    ]
    assert "3 parts left out" in page


GIVEN_UP = """
import sys, gpu_check

run = gpu_check.GpuCheck(gpu_check._options(sys.argv[1:]))
gpu_check.checks = lambda scale: [(lambda net, setup, compiled: run._give_up(), "all_cnn_c", False, 15)]
run.all()
"""


def test_a_part_that_hangs_is_given_up_and_named(tmp_path: Path):
    command = [sys.executable, "-c", GIVEN_UP, *SMOKE, "--out", str(tmp_path)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": PATH}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    report, page = read(tmp_path)
    assert not report["complete"]
    assert re.fullmatch(r"<lambda>, all_cnn_c: still running after \d+ s; stopped", report["errors"][0])
    assert "Not complete: still at <lambda>, all_cnn_c." in page


@pytest.mark.parametrize("missing", ["platformdirs", "torch"])
def test_what_is_not_installed_is_named_with_the_page_that_helps(missing: str):
    code = f"import sys; sys.modules[{missing!r}] = None; import gpu_check"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": PATH}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {missing} is not installed")
    assert "docs/gpu.md" in done.stderr


def test_full_size_nets_need_a_gpu(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        gpu_check.main(["--device", "cpu"])
    assert "--device cpu needs --smoke" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_message_says_how_to_try_it(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        gpu_check.main([])
    assert "--device cpu --smoke tries the program without one" in capsys.readouterr().err
