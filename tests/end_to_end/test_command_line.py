import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import ROOT, SMALL, CommandLine


def test_help_lists_every_group_and_every_option(strive: CommandLine):
    text = strive("--help").stdout
    for path in (ROOT / "conf").rglob("*.yaml"):
        group, option = path.parent.relative_to(ROOT / "conf").as_posix(), path.stem
        if group in (".", "hydra/help"):
            continue
        assert group.partition("/")[0] in text
        # The twelve nets are listed by family: strided_cnn_a _b _c.
        shown = option if option in text else f"{option.rpartition('_')[0]}_a _b _c"
        assert shown in text, path
    for sweep in (ROOT / "sweeps").glob("*.yaml"):
        assert re.search(rf"\b{sweep.stem}\b", text), sweep
        assert f"`{sweep.stem}`" in (ROOT / "docs" / "study.md").read_text(), sweep


def test_tab_completion_offers_groups_and_options(strive: CommandLine, tmp_path: Path):
    script = str(ROOT / "src" / "run.py")
    for typed, offered in (
        ("model=all_", "model=all_cnn_c"),
        ("augm", "augment="),
        ("optimizer.mom", "optimizer.momentum="),
    ):
        line = f"{script} {typed}"
        done = subprocess.run(
            [sys.executable, script, "-sc", "query=bash"],
            cwd=tmp_path,
            env=os.environ | {"COMP_LINE": line, "COMP_POINT": str(len(line))},
            capture_output=True,
            text=True,
        )
        assert offered in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lrr=1", "there is no key optimizer.lrr"),
        ("budget.epochs=-3", "budget.epochs must be 1 or more, got -3"),
        ("model=resnet", "there is no model=resnet"),
        ("data=cifar10", "data.download=true"),
        ("+optimizer.name=adamw", "there is no key optimizer.name"),
        ("seed=1\r", r"error: 'seed=1\r' cannot be read"),
        ("optimizer=null", "optimizer takes the name of an option, got null"),
    ],
)
def test_wrong_input_ends_with_one_message_no_stack_trace_and_no_file(
    strive: CommandLine, tmp_path: Path, override: str, message: str
):
    for multirun in ((), ("-m",)):
        done = strive(*multirun, *SMALL, override)
        assert done.returncode == 2
        assert "error: " in done.stderr
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "runs").exists()


def test_an_override_may_stand_on_either_side_of_an_option(strive: CommandLine):
    done = strive(*SMALL, "-m", "seed=0,1", "hydra.sweeper.dry_run=true")
    assert done.returncode == 0, done.stderr
    assert "2 cells: 0 done already, 2 to train" in done.stdout


def test_two_options_of_which_hydra_takes_one_are_refused(strive: CommandLine):
    done = strive("-m", "--cfg", "job", "seed=0,1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: give one of -m, --cfg, --info, --run and --shell-completion")


def test_a_sweeper_and_a_launcher_that_do_not_fit_end_with_one_line(tmp_path: Path):
    (tmp_path / "app.py").write_text(
        "import hydra\n@hydra.main(version_base='1.3', config_path=None)\ndef main(cfg): pass\nmain()\n"
    )
    command = [sys.executable, "app.py", "-m", "hydra/sweeper=strive", "+a=1,2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "legal: hydra/launcher=strive_local, hydra/launcher=strive_slurm" in done.stderr.splitlines()[0]
    assert "Traceback" not in done.stderr


def test_a_wrong_cell_in_a_grid_stops_the_grid_before_the_first_one(strive: CommandLine, tmp_path: Path):
    done = strive("-m", *SMALL, "seed=0,1,-1", "optimizer.lr=0.1,-2")
    assert done.returncode == 2
    assert "4 of 6 cells cannot train; nothing was started" in done.stderr
    assert "seed must be 0 or more, got -1" in done.stderr
    assert "optimizer.lr must be finite and above 0, got -2.0" in done.stderr
    assert not list((tmp_path / "runs").glob("*"))


def test_a_failed_cell_does_not_stop_the_others_and_the_exit_code_says_so(strive: CommandLine, tmp_path: Path):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "class Moody(nn.Sequential):\n"
        "    def forward(self, x):\n"
        "        if self.training and self.fails:\n"
        "            raise RuntimeError('not today')\n"
        "        return super().forward(x)\n"
        "def moody(num_classes, image_size, fails):\n"
        "    net = Moody(nn.Flatten(), nn.Linear(3 * image_size**2, num_classes))\n"
        "    net.fails = fails\n"
        "    return net\n"
    )
    arguments = (
        "model=extra/custom",
        "model.builder=nets:moody",
        "data=digits",
        "preprocess=standardize",
        "budget=smoke",
    )
    done = strive("-m", *arguments, "trainer.threads=1", "+model.kwargs.fails=true,false", "seed=0,1")
    assert done.returncode == 1
    assert "2 of 4 cells have no result" in done.stderr
    assert done.stderr.count("RuntimeError: not today") >= 2
    assert len(list((tmp_path / "runs").glob("*/weights.pt"))) == 2


def test_cells_that_are_one_cell_train_once(strive: CommandLine, tmp_path: Path):
    done = strive("-m", *SMALL, "optimizer.lr=0.05,5e-2", "runs=here")
    assert done.returncode == 0, done.stderr
    assert "1 cell: 0 done already, 1 to train" in done.stderr
    assert len(list((tmp_path / "here").glob("*/record.json"))) == 1


def test_the_command_that_is_proposed_for_a_sweep_given_by_its_path_launches_the_same_cells(
    strive: CommandLine, tmp_path: Path
):
    (tmp_path / "mine.yaml").write_text("question: Which seed?\ngrid: {seed: [0, 1]}\n")
    stored = strive("-m", *SMALL, "hydra.sweeper.sweep=mine.yaml", "hydra.launcher.detach=true", "hydra/launcher=local")
    assert stored.returncode == 0, stored.stderr
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    before = json.loads((folder / "plan.json").read_text())["cells"]
    asked = subprocess.run(
        [sys.executable, "-m", "strive", "answer", folder.name, "--json"], cwd=tmp_path, capture_output=True, text=True
    )
    python, *command = json.loads(asked.stdout)["next"]["command"]
    assert python == "python"
    assert "hydra.sweeper.sweep=mine.yaml" in command
    again = subprocess.run(
        [sys.executable, *command, "hydra.sweeper.dry_run=true", "hydra.sweeper.json=true"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert [each["cell"] for each in json.loads(again.stdout)["cells"]] == [each["cell"] for each in before]


def test_nothing_is_written_but_the_records(strive: CommandLine, tmp_path: Path):
    assert strive("-m", *SMALL, "seed=0,1").returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert {path.name for path in (tmp_path / "runs").iterdir() if path.is_file()} <= {"ledger.jsonl"}


def test_a_damaged_record_is_named_and_left_alone(strive: CommandLine, tmp_path: Path):
    assert strive(*SMALL).returncode == 0
    (path,) = (tmp_path / "runs").glob("*/record.json")
    path.write_text("{")
    for multirun in ((), ("-m",)):
        done = strive(*multirun, *SMALL)
        assert done.returncode == 2
        assert f"{path.parent.name}/record.json: not a whole JSON file" in done.stderr
    assert path.read_text() == "{"


def test_hydra_looks_for_options_in_conf_alone(strive: CommandLine):
    # It lists all groups there are: in the whole checkout that takes minutes.
    shown = strive("--info", "searchpath").stdout
    places = [line.split("|")[2].strip() for line in shown.splitlines() if line.startswith("|") and "//" in line]
    assert f"file://{ROOT / 'conf'}" in places
    assert not [place for place in places if place.startswith("file://") and not place.endswith("/conf")]


def test_sigterm_lets_the_cells_of_a_multirun_write_checkpoints(tmp_path: Path):
    command = [sys.executable, str(ROOT / "src" / "run.py"), "-m", *SMALL, "budget.epochs=10000", "seed=0,1"]
    launcher = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 300
    while len(list(tmp_path.glob("runs/all_cnn_c-*/history.jsonl"))) < 2:
        assert time.monotonic() < end
        time.sleep(0.1)
    launcher.terminate()
    _, shown = launcher.communicate(timeout=300)
    assert launcher.returncode == 130
    assert "stopped by SIGTERM; 2 cells" in shown
    assert "Traceback" not in shown
    assert len(list(tmp_path.glob("runs/all_cnn_c-*/checkpoint.pt"))) == 2
    assert not list(tmp_path.glob("runs/all_cnn_c-*/claim"))


def test_make_explains_itself():
    listing = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "ci"):
        assert any(line.startswith(target) for line in listing.splitlines())
