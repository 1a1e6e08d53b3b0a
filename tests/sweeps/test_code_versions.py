import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from make_tables import main as make_tables
from support import MakeConfig, MakePlan, stop_after_one_step

from allcnn.training_pack import run_cell
from strive.cli.main import guarded
from strive.code import hash
from strive.status.cell_status import StatusReader
from strive.status.status_text import sweep_report
from strive.sweeps.plan import Action, Retrain, StoredPlan, write_plan

NETS = """
from mypkg.blocks import WIDTH, block


def resnet(num_classes, image_size):
    return block(WIDTH, num_classes, 3 * image_size**2)
"""
BLOCKS = """
from torch import nn

WIDTH = 2


def block(width, num_classes, inputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, num_classes))
"""
OWN = ("model=extra/custom", "model.builder=mypkg.nets:resnet", "model.width=1.0")


@pytest.fixture
def mypkg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's own net, whose blocks are in another file."""
    place = tmp_path / "mypkg"
    place.mkdir()
    (place / "nets.py").write_text(NETS)
    (place / "blocks.py").write_text(BLOCKS)
    monkeypatch.chdir(tmp_path)
    in_a_new_process()
    yield place
    in_a_new_process()


def in_a_new_process() -> None:
    """Forget what this process has imported and hashed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "mypkg"]:
        del sys.modules[name]
    hash._code.cache_clear()


def status(plan_folder: Path, runs: Path) -> str:
    plan = StoredPlan.read(plan_folder)
    return "\n".join(map(str, sweep_report(plan, StatusReader(runs).look(plan))))


def test_a_helpers_constant_makes_cells_stale_a_checkpoint_unusable_and_a_mixture_of_a_mean(
    mypkg: Path,
    make_small: MakeConfig,
    make_plan: MakePlan,
    capfd: pytest.CaptureFixture[str],
):
    seeds = [make_small(*OWN, f"seed={seed}") for seed in range(3)]
    code = run_cell(seeds[0]).provenance.code_hash
    stop_after_one_step(seeds[1])

    # What only people read, and where files lie: nothing has changed.
    (mypkg / "parts").mkdir()
    shutil.move(mypkg / "blocks.py", mypkg / "parts" / "layers.py")
    (mypkg / "parts" / "layers.py").write_text('"""Layers."""\n' + BLOCKS.replace("WIDTH = 2", "WIDTH = 2  # channels"))
    (mypkg / "nets.py").write_text(NETS.replace("mypkg.blocks", ".parts.layers"))
    in_a_new_process()
    plan = make_plan(*OWN, "seed=0,1,2")
    assert [planned.action for planned in plan.cells] == [Action.done, Action.resume, Action.train]
    assert plan.notes == []
    assert run_cell(seeds[1]).provenance.resumes == 1
    assert run_cell(seeds[1]).provenance.code_hash == code
    stop_after_one_step(seeds[2])

    # A constant of the helper: all is other code.
    (mypkg / "parts" / "layers.py").write_text(BLOCKS.replace("WIDTH = 2", "WIDTH = 3"))
    in_a_new_process()
    plan = make_plan(*OWN, "seed=0,1,2")
    assert plan.notes[0].startswith(f"2 done cells come from other code ({code}: mypkg/parts/layers.py changed since)")
    stale = make_plan(*OWN, "seed=0,1,2", retrain=Retrain.stale)
    assert [planned.action for planned in stale.cells] == [Action.retrain, Action.retrain, Action.resume]
    capfd.readouterr()
    record = run_cell(seeds[2])
    assert record.provenance.resumes == 0
    assert "mypkg/parts/layers.py" in record.provenance.code_files
    why = f"it was written by code {code}, this is {record.provenance.code_hash}: mypkg/parts/layers.py changed"
    assert why in capfd.readouterr().err

    # Two cells of the one and one of the other have no mean.
    folder = write_plan(plan).parent
    runs = Path(seeds[0].runs)
    assert f"2 of them come from other code than this ({code})" in status(folder, runs)
    assert guarded(make_tables, [plan.sweep, "--runs", str(runs)]) == 0
    assert guarded(make_tables, [plan.sweep, "--runs", str(runs), "--strict"]) == 1
    said = capfd.readouterr().err
    assert "the cells of mypkg.nets:resnet were trained by 2 versions of the code" in said
    assert "they differ in mypkg/blocks.py, mypkg/parts/layers.py" in said  # by their names of then and of now
