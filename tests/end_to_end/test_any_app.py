"""Hydra apps as strangers write them, started in a folder of their own with nothing of strive in their code."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

Start = Callable[..., subprocess.CompletedProcess[str]]
STRIVE = ("-m", "hydra/sweeper=strive", "hydra/launcher=strive_local", "hydra.sweeper.tracker.kind=none")
PLAIN = """\
import os, sys, time
import hydra
from omegaconf import OmegaConf

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    print("prints of", cfg.lr, cfg.seed)
    if cfg.fail == "raise":
        raise RuntimeError("bad luck")
    if cfg.fail == "exit":
        sys.exit("gives up")
    if cfg.fail == "kill":
        os.kill(os.getpid(), 9)
    if cfg.fail == "hang":
        time.sleep(1000)
    open("calls.txt", "a").write("x")
    return cfg.twice + cfg.seed

if __name__ == "__main__":
    OmegaConf.register_new_resolver("mul", lambda a, b: float(a) * float(b))
    main()
    print("after main")
"""
CONF = "lr: 0.1\nseed: 0\nfail: ''\ntwice: ${mul:2,${lr}}\nout: ${hydra:runtime.output_dir}\nwhen: ${now:%H%M%S%f}\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write(tmp_path / "project", {"train.py": PLAIN, "conf/config.yaml": CONF})


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def environment(*path: Path) -> dict[str, str]:
    """Return the variables of a shell in which strive and these folders can be imported."""
    lean = {name: value for name, value in os.environ.items() if not name.startswith(("STRIVE_", "WANDB_"))}
    before = os.environ.get("PYTHONPATH", "")  # another Hydra, if test_hydra_versions.py runs these tests
    folders = os.pathsep.join(filter(None, (*map(str, path), str(ROOT / "src"), before)))
    return lean | {"PYTHONPATH": folders, "COLUMNS": "160"}


@pytest.fixture
def start(project: Path) -> Start:
    def run(
        *arguments: str, program: tuple[str, ...] = ("train.py",), path: Path = ROOT / "src"
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *program, *STRIVE, *arguments]
        return subprocess.run(command, cwd=project, env=environment(path), capture_output=True, text=True, timeout=240)

    return run


def records(project: Path) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in (project / "runs").glob("*/record.json")]
    return sorted(found, key=lambda record: json.dumps(record["config"]))


def test_an_unchanged_app_is_planned_run_and_not_run_again(start: Start, project: Path):
    dry = start("lr=0.1,0.2", "seed=0,1", "hydra.sweeper.dry_run=true")
    assert dry.returncode == 0, dry.stderr
    assert "4 cells: 0 done already, 4 to train" in dry.stdout
    assert "out: it comes from ${hydra:runtime.output_dir}" in dry.stdout
    assert not (project / "runs").exists()
    done = start("lr=0.1,0.2", "seed=0,1")
    assert done.returncode == 0, done.stderr
    assert sorted(record["metrics"]["objective"] for record in records(project)) == [0.2, 0.4, 1.2, 1.4]
    assert all(set(record["config"]) == {"lr", "seed", "fail", "twice"} for record in records(project))
    assert done.stdout.count("after main") == 1, "what follows main() runs once, in the process that was started"
    logs = [path.read_text() for path in (project / "runs").glob("train-*/log.txt")]
    assert sum("prints of 0.1 0" in text for text in logs) == 1
    again = start("lr=0.1,2e-1", "seed=range(2)")
    assert "4 cells: 4 done already, nothing to train" in again.stderr
    assert (project / "calls.txt").read_text() == "xxxx"


def test_a_cell_that_fails_in_any_way_costs_no_other(start: Start, project: Path):
    limits = ("hydra.launcher.retries.killed=0", "hydra.launcher.timeout_min=0.1")
    failed = start("fail='',raise,exit,kill,hang", *limits)
    assert failed.returncode == 1
    assert "4 of 5 cells have no result" in failed.stderr
    assert [record["status"] for record in records(project)] == ["done", "error", "timeout", "killed", "error"]
    causes = {record["config"]["fail"]: record["failure"]["cause"] for record in records(project) if record["failure"]}
    assert causes["raise"] == "RuntimeError: bad luck"
    assert causes["exit"] == "SystemExit: gives up"
    assert "SIGKILL" in causes["kill"]
    assert causes["hang"].startswith(
        "ran for 0.1 min, the limit of hydra.launcher.timeout_min, without a new checkpoint"
    )
    tracebacks = [record["failure"]["traceback"] for record in records(project)[1:]]
    assert "prints of 0.1 0" in tracebacks[1], "what a cell printed until it was ended"
    assert "Traceback" in tracebacks[3]


def test_an_edited_file_makes_its_cells_stale(start: Start, project: Path):
    write(project, {"helper.py": "BONUS = 1\n"})
    text = PLAIN.replace("import hydra\n", "import hydra\nfrom helper import BONUS\n").replace(
        "cfg.seed\n\nif", "BONUS\n\nif"
    )
    write(project, {"train.py": text.replace("cfg.seed\n\nif", "BONUS\n\nif")})
    assert start("lr=0.1").returncode == 0
    (record,) = records(project)
    assert set(record["provenance"]["code_files"]) == {"train.py", "helper.py"}
    write(project, {"helper.py": "# a comment\nBONUS = 1\n"})
    assert "1 done already" in start("lr=0.1", "hydra.sweeper.retrain=stale", "hydra.sweeper.dry_run=true").stdout
    write(project, {"helper.py": "BONUS = 2\n"})
    again = start("lr=0.1", "hydra.sweeper.retrain=stale", "hydra.sweeper.dry_run=true")
    assert "1 to retrain" in again.stdout
    assert "helper.py" in again.stdout


PACKAGE = """\
import dataclasses, enum, functools, multiprocessing
import hydra, logging
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate, to_absolute_path

log = logging.getLogger(__name__)

class Kind(enum.Enum):
    one = 1
    two = 2

@dataclasses.dataclass
class Net:
    _target_: str = "study.nets.Net"
    width: int = 3

@dataclasses.dataclass
class Config:
    net: Net = dataclasses.field(default_factory=Net)
    kind: Kind = Kind.one
    lr: float = 0.1
    steps: int = 10

ConfigStore.instance().store(name="schema", node=Config)

def counted(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        log.info("counted")
        return function(*args, **kwargs)
    return inner

@counted
@hydra.main(version_base="1.3", config_path="conf", config_name="config")
@counted
def main(cfg):
    net = instantiate(cfg.net)
    assert cfg.kind is Kind.two, cfg.kind
    assert HydraConfig.get().job.chdir
    open("here.txt", "w").write(HydraConfig.get().runtime.output_dir)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (half,) = pool.map(net.half, [cfg.lr])
    cfg.lr = 7
    return {"width": net.width, "half": half, "seven": cfg.lr}

if __name__ == "__main__":
    main()
"""
PACKAGE_CONF = """\
defaults:
  - schema
  - _self_
  - experiment: null
hydra:
  job:
    chdir: true
"""


def test_a_typed_package_with_experiments_and_a_spawn_pool_runs_as_in_hydra(start: Start, project: Path):
    write(
        project,
        {
            "study/__init__.py": "",
            "study/nets.py": "class Net:\n    def __init__(self, width):\n        self.width = width\n"
            "    def half(self, lr):\n        return lr / 2\n",
            "study/train.py": PACKAGE,
            "study/conf/config.yaml": PACKAGE_CONF,
            "study/conf/experiment/narrow.yaml": "# @package _global_\nnet:\n  width: 3\n",
            "study/conf/experiment/wide.yaml": "# @package _global_\nnet:\n  width: 30\nlr: 0.5\n",
        },
    )
    done = start("kind=two", "experiment=narrow,wide", program=("-m", "study.train"))
    assert done.returncode == 0, done.stderr
    wide, narrow = sorted((record["metrics"] for record in records(project)), key=lambda found: -found["width"])
    assert wide == {"width": 30, "half": 0.25, "seven": 7.0}
    assert narrow == {"width": 3, "half": 0.05, "seven": 7.0}
    for path in (project / "runs").glob("train-*/here.txt"):
        assert path.read_text() == str(path.parent)
    files = records(project)[0]["provenance"]["code_files"]
    assert {"study/train.py", "study/nets.py"} <= set(files)


CONSOLE = {
    "pyproject.toml": """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "rates"
version = "1"

[project.scripts]
train-rates = "rates.app:entry"

[tool.setuptools]
packages = ["rates", "rates.conf"]
package-data = {rates = ["conf/*.yaml", "conf/sweeps/*.yaml"]}
""",
    "rates/__init__.py": "",
    "rates/app.py": """\
import hydra

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    return 2 * cfg.lr

def entry():
    main()
""",
    "rates/conf/__init__.py": "",
    "rates/conf/config.yaml": "lr: 0.1\n",
    "rates/conf/sweeps/two.yaml": "question: Which rate?\ngrid:\n  lr: [0.1, 0.2]\n",
}


def test_an_installed_console_script_runs_with_the_sweeps_in_its_package(start: Start, project: Path, tmp_path: Path):
    write(tmp_path / "source", CONSOLE)
    place = tmp_path / "site-packages"
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(place), str(tmp_path / "source")]
    subprocess.run(command, check=True, timeout=120)
    (tmp_path / "source").rename(tmp_path / "gone")
    done = start("sweeps=two", program=(str(place / "bin" / "train-rates"),), path=place)
    assert done.returncode == 0, done.stderr
    assert [record["metrics"]["objective"] for record in records(project)] == [0.2, 0.4]
    (files,) = {tuple(record["provenance"]["code_files"]) for record in records(project)}
    assert "rates/app.py" in files, "the app's own package counts although it is installed"


def test_config_folders_and_names_of_the_command_line_are_those_of_hydra(start: Start, project: Path):
    write(
        project,
        {
            "conf/other.yaml": CONF.replace("${mul:2,${lr}}", "${opt.factor}") + "defaults: [opt: adam, _self_]\n",
            "conf/opt/adam.yaml": "factor: 1\n",
            "more/opt/sgd.yaml": "factor: 2\n",
            "more/sweeps/opts.yaml": "question: Which?\ngrid:\n  opt: [sgd, lion]\n",
            "third/opt/lion.yaml": "factor: 3\n",
        },
    )
    program = ("train.py", "--config-dir", "more", "--config-name", "other")
    third = f"hydra.searchpath=[file://{project / 'third'}]"
    done = start("sweeps=opts", third, program=program)
    assert done.returncode == 0, done.stderr
    assert [record["metrics"]["objective"] for record in records(project)] == [2, 3]


STEPS = """\
import pathlib, time
import hydra, strive

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    start, total = 0, 0
    if path := strive.load():
        start, total = map(int, path.read_text().split())
    for step in range(start, 60):
        total += step * cfg.factor
        time.sleep(0.02)
        strive.log(step + 1, total=total)
        strive.save(lambda path: path.write_text(f"{step + 1} {total}"))
    return {"total": total, "chance": strive.metric(total, chance=0)}

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_that_is_stopped_anywhere_goes_on_to_the_same_result(start: Start, project: Path, stop: signal.Signals):
    write(project, {"train.py": STEPS})
    command = [sys.executable, "train.py", *STRIVE, "+factor=1,2", "hydra.launcher.checkpoint_minutes=0"]
    running = subprocess.Popen(command, cwd=project, env=environment(), start_new_session=True)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 300 for path in (project / "runs").glob("*/history.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(running.pid, stop)
    running.wait()
    done = start("+factor=1,2", "hydra.launcher.checkpoint_minutes=0")
    assert done.returncode == 0, done.stderr
    assert [record["metrics"]["total"] for record in records(project)] == [1770, 3540]
    assert sum(record["provenance"]["resumes"] for record in records(project)) >= 1
    for path in (project / "runs").glob("*/history.jsonl"):
        assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == list(range(1, 61))


def test_a_sweep_file_of_the_apps_own_conf_and_one_by_its_path(start: Start, project: Path):
    text = "question: Does the rate matter?\ngrid:\n  lr: [0.1, 0.2]\n  seed: [0, 1]\n"
    write(project, {"conf/sweeps/rates.yaml": text, "more/other.yaml": text.replace("0.2", "0.3")})
    assert "4 cells: 0 done already, 4 to train" in start("sweeps=rates", "hydra.sweeper.dry_run=true").stdout
    by_path = start("hydra.sweeper.sweep=more/other.yaml", "hydra.sweeper.dry_run=true")
    assert "4 cells: 0 done already, 4 to train" in by_path.stdout
    wrong = start("sweeps=rats", "hydra.sweeper.dry_run=true")
    assert wrong.stderr.splitlines() == ["error: there is no sweeps=rats; did you mean rates?", "  legal: rates"]


@pytest.mark.parametrize(
    ("more", "arguments", "message"),
    [
        ("", ("hydra.sweeper.retrain=some",), "hydra.sweeper.retrain must be one of none, failed, stale, all"),
        ("run_id: ${oc.env:RUN,x}${mul:1,${seed}}\n", ("modle.x=1,2",), "modle"),
        ("", ("hydra/launcher=basic",), "legal: hydra/launcher=strive_local, hydra/launcher=strive_slurm"),
        ("", ("hydra.sweeper.check=nowhere:check",), "No module named 'nowhere'; legal is package.module:function"),
        ("", ("hydra.sweeper.check=os:sep",), "hydra.sweeper.check=os:sep is the str '/', and no function"),
        ("", ("hydra.sweeper.sync=x",), "there is no key hydra.sweeper.sync"),
        ("", ("hydra.launcher.checkpoint_minutes=abc",), "checkpoint_minutes must be a number, got 'abc'"),
        ("", ("hydra.sweeper.seed=unknown",), "hydra.sweeper.seed: unknown names no key of these cells"),
        ("", ("hydra.sweeper.logistics=[workers]",), "hydra.sweeper.logistics: workers names no key of these cells"),
        ("", ("hydra.sweeper.code=[missing.py]",), "hydra.sweeper.code: missing.py names no file"),
        ("", ("hydra.sweeper.max_gpu_hours=1",), "how long a cell of this app takes is known when some"),
    ],
)
def test_a_mistake_is_one_message(start: Start, project: Path, more: str, arguments: tuple[str, ...], message: str):
    write(project, {"conf/config.yaml": CONF + more})
    wrong = start("lr=0.1,0.2", *arguments)
    assert wrong.returncode == 2
    assert message in wrong.stderr
    assert len(wrong.stderr.strip().splitlines()) <= 4
    assert not (project / "runs").exists()


@pytest.mark.parametrize(
    ("more", "arguments", "message"),
    [
        ("", ("sweeps=broken",), "broken.yaml, line 2"),
        ("", ("sweeps=latin",), "latin.yaml is no UTF-8 text"),
        ("", ("hydra.launcher.notify=${oc.env:NOPE}",), "hydra.launcher.notify has no value: .* NOPE is not set"),
        ("", ("hydra.launcher.resume_overrides=['${oc.env:NOPE}']",), "hydra.launcher.resume_overrides.* NOPE is not"),
        ("", ("hydra.sweeper.tracker.project=${oc.env:NOPE}",), "hydra.sweeper.tracker.project .* NOPE is not set"),
        ("", ("hydra.sweeper.runs=${nothing:1}",), "hydra.sweeper.runs has no value: .*resolver nothing"),
        ("", ("hydra.sweeper.logistics=${letters:}",), "hydra.sweeper.logistics must be a list of texts, got {'a'"),
        ("letters: ${letters:}\n", (), "letters has no value: it is the set {'a'"),
        ("home: ${oc.env:NOPE}\n", (), "home has no value: .* NOPE is not set.*hydra.sweeper.logistics=.home."),
        ("home: [1, '${oc.env:NOPE}']\n", (), "home.* has no value: .* NOPE is not set"),
        ("other: ${nothing:1}\n", (), "other has no value: .*resolver nothing"),
        ("rate: ???\ntwo: ${rate}\n", (), "two has no value: it is taken from rate, which is"),
        ("rate: 1\n", ("rate=???",), "rate has no value: it is ???".replace("?", "[?]")),
        ("", ("hydra.sweeper.runs=/proc/nope",), "hydra.sweeper.runs=/proc/nope: /proc cannot be written to"),
    ],
)
def test_what_has_no_value_or_cannot_be_read_is_one_message_that_names_it(
    start: Start, project: Path, more: str, arguments: tuple[str, ...], message: str
):
    write(project, {"conf/config.yaml": CONF + more, "conf/sweeps/broken.yaml": "question: [a\n"})
    (project / "conf" / "sweeps" / "latin.yaml").write_bytes(b"question: caf\xe9\ngrid: {lr: [1]}\n")
    resolver = '    OmegaConf.register_new_resolver("letters", lambda: {"a"})\n    main()'
    write(project, {"train.py": PLAIN.replace("    main()", resolver)})
    wrong = start("lr=0.1,0.2", *arguments)
    assert wrong.returncode == 2, wrong.stderr
    assert re.search(message, wrong.stderr), wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert len(wrong.stderr.strip().splitlines()) <= 4
    assert not (project / "runs").exists()


def test_a_key_without_a_value_may_be_swept_or_declared_to_decide_nothing(start: Start, project: Path):
    write(project, {"conf/config.yaml": CONF + "rate: ???\nscratch: ${oc.env:NOPE}\n"})
    done = start("rate=1,2", "hydra.sweeper.logistics=[scratch]", "hydra.sweeper.dry_run=true")
    assert done.returncode == 0, done.stderr
    assert "2 values of rate = 2 cells" in done.stdout


def test_a_check_in_the_program_itself_does_not_run_the_program_again(start: Start, project: Path):
    check = "def check(cfg):\n    assert cfg.lr < 1, 'too large'\n\nopen('starts.txt', 'a').write('x')\n\n@hydra.main"
    write(project, {"train.py": PLAIN.replace("@hydra.main", check)})
    assert start("lr=0.1", "hydra.sweeper.check=train:check", "hydra.sweeper.dry_run=true").returncode == 0
    assert (project / "starts.txt").read_text() == "x"
    refused = start("lr=1", "hydra.sweeper.check=train:check", "hydra.sweeper.dry_run=true")
    assert (refused.returncode, "too large" in refused.stderr) == (2, True)


def test_a_message_has_the_plans_name_that_status_knows(start: Start, project: Path):
    assert start("lr=0.1", "hydra.launcher.notify='cmd:cp /dev/stdin message.txt'").returncode == 0
    (plan,) = (project / "runs" / "sweeps").glob("*/plan.json")
    assert (project / "message.txt").read_text().startswith(f"{plan.parent.name}: ")


def test_data_that_is_missing_is_a_warning_of_the_plan_and_an_error_of_the_launch(start: Start, project: Path):
    write(project, {"checks.py": "def data(cfg):\n    open('data/images.bin')\n"})
    dry = start("seed=0,1", "hydra.sweeper.check=checks:data", "hydra.sweeper.dry_run=true")
    assert dry.returncode == 0, dry.stderr
    assert "2 seeds = 2 cells: 0 done already, 2 to train" in dry.stdout
    assert dry.stdout.count("data/images.bin") == 1
    refused = start("seed=0,1", "hydra.sweeper.check=checks:data")
    assert refused.returncode == 2
    assert "data/images.bin" in refused.stderr
    assert not (project / "runs").exists()


def test_another_app_in_the_environment_is_left_alone(project: Path):
    alone = subprocess.run(
        [sys.executable, "train.py", "-m", "lr=0.1,0.2", "hydra.sweep.dir=out"],
        cwd=project, env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    assert alone.stdout.count("prints of") == 2
    assert not (project / "runs").exists()


def test_the_key_that_makes_replicates_may_have_any_name(start: Start, project: Path):
    write(
        project, {"conf/config.yaml": CONF + "draw: 0\n", "train.py": PLAIN.replace("cfg.seed\n\nif", "cfg.draw\n\nif")}
    )
    assert start("lr=0.1,0.2", "draw=0,1,2", "hydra.sweeper.seed=draw").returncode == 0
    command = [sys.executable, "-m", "strive", "tables"]
    tables = subprocess.run(command, cwd=project, env=environment(), capture_output=True, text=True, timeout=120)
    assert tables.returncode == 0, tables.stderr
    rows = [line.split("|")[1:3] for line in tables.stdout.splitlines() if line.startswith("| lr 0.")]
    assert [[text.strip() for text in row] for row in rows] == [["lr 0.1", "3"], ["lr 0.2", "3"]]
