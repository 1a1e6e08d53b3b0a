"""The calls of `import strive` in scripts, tests and notebooks."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import strive
from strive.cells.records import Status
from strive.errors import ConfigError, LoadError, RecordError

SRC = Path(strive.__file__).resolve().parents[1]


class Kind(Enum):
    adam = 1


@dataclass
class Model:
    lr: float = 0.1
    widths: list[int] = field(default_factory=lambda: [1, 2])


@dataclass
class Config:
    model: Model = field(default_factory=Model)
    kind: Kind = Kind.adam
    extra: dict[str, int] = field(default_factory=dict)


def test_import_strive_imports_the_standard_library_alone():
    program = "import sys, strive; print(*{name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], env={"PYTHONPATH": str(SRC)}, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == {"strive", "__main__"} & {*done.stdout.split()}
    assert "strive" in done.stdout


def test_one_config_is_one_cell_in_whatever_form_it_comes(tmp_path: Path):
    plain = {"model": {"lr": 0.1, "widths": [1, 2]}, "kind": "adam", "extra": {}}
    forms: list[Any] = [plain, Config(), OmegaConf.structured(Config()), OmegaConf.create(plain)]
    records = [strive.run_cell(lambda config: 1.0, form, runs=tmp_path, name="net") for form in forms]
    assert len({record.cell for record in records}) == 1
    assert records[0].config == {"model.lr": 0.1, "model.widths": [1, 2], "kind": "adam", "extra": {}}
    assert strive.read_records(tmp_path) == [records[0]]


def test_a_done_cell_is_not_run_again_and_what_decides_no_number_makes_no_other_cell(tmp_path: Path):
    calls = []

    def train(config: dict[str, Any]) -> float:
        calls.append(config)
        return 1.0

    for workers in (1, 2):
        config = {"lr": 0.1, "loader": {"workers": workers}, "out": tmp_path / "out"}
        record = strive.run_cell(train, config, runs=tmp_path, logistics=["loader", "out"])
        assert record.cell.startswith("train-")
    assert len(calls) == 1
    assert record.logistics == {"loader.workers": 1, "out": str(tmp_path / "out")}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model": {"net": object}}, r"model\.net is the type <class 'object'>; legal in a config: texts, numbers"),
        ({"sizes": {1, 2}}, r"sizes is the set \{1, 2\}; legal"),
        ({"list": [1, 2j]}, r"list\[1\] is the complex 2j; legal"),
        ({"model": {1: 2}}, "model.1: a key of a config is a text, got the int 1"),
        ({"a.b": 1, "a": {"b": 2}}, "a.b is there twice"),
        ([("lr", 1)], "a config is a mapping, a dataclass or a node of OmegaConf, got the list"),
        (OmegaConf.create({"lr": "???"}), "Missing mandatory value: lr"),
        (OmegaConf.create({"lr": "${nothing}"}), "'nothing' not found"),
    ],
)
def test_a_config_with_what_json_lacks_is_refused(tmp_path: Path, config: Any, message: str):
    with pytest.raises(ConfigError, match=message):
        strive.run_cell(lambda config: 1.0, config, runs=tmp_path)
    assert not list(tmp_path.iterdir())


def test_logistics_that_the_config_does_not_have_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="logistics=workers: the config has no such key; it has lr"):
        strive.run_cell(lambda config: 1.0, {"lr": 1}, runs=tmp_path, logistics=["workers"])


def test_a_context_is_a_cell_too(tmp_path: Path):
    with strive.open_cell({"lr": 0.1}, runs=tmp_path) as cell:
        strive.log(1, loss=0.5)
        cell.finish({"acc": 0.9})
    with strive.open_cell({"lr": 0.2}, runs=tmp_path):
        strive.log(1, loss=0.5)
    with pytest.raises(ZeroDivisionError), strive.open_cell({"lr": 0.3}, runs=tmp_path):
        print(1 / 0)
    with strive.open_cell({"lr": 0.4}, runs=tmp_path):
        raise strive.Diverged("too fast", acc=0.1)
    with pytest.raises(ConfigError, match="is done already"), strive.open_cell({"lr": 0.1}, runs=tmp_path):
        pytest.fail("it is done")
    found = {record.config["lr"]: (record.status, record.metrics) for record in strive.read_records(tmp_path)}
    assert found == {
        0.1: (Status.done, {"acc": 0.9}),
        0.2: (Status.done, {}),
        0.3: (Status.error, {}),
        0.4: (Status.diverged, {"acc": 0.1}),
    }


def test_records_of_several_folders_are_read_as_one(tmp_path: Path):
    for folder, configs in (("a", (1, 2)), ("b", (2, 3))):
        for lr in configs:
            strive.run_cell(lambda config: config["lr"], {"lr": lr}, runs=tmp_path / folder, name="net")
    found = strive.read_records(tmp_path / "a", tmp_path / "b")
    assert sorted(record.metrics["objective"] for record in found) == [1, 2, 3]
    strive.run_cell(lambda config: 9.0, {"lr": 3}, runs=tmp_path / "a", name="net")
    with pytest.raises(RecordError, match="are different results of one cell"):
        strive.read_records(tmp_path / "a", tmp_path / "b")
    with pytest.raises(LoadError, match="there is no such folder"):
        strive.read_records(tmp_path / "c")


SCRIPT = """
import strive

@strive.main(version_base="1.3", config_path=None)
def main(config):
    print("inside" if strive.current() else "outside")
    if config.get("fails"):
        raise RuntimeError("no")
    return 2 * config.get("x", 1)

if __name__ == "__main__":
    main()
"""


def run_script(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(SCRIPT)
    return subprocess.run(
        [sys.executable, "script.py", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_script_with_strive_main_is_one_cell_and_with_m_as_ever(tmp_path: Path):
    alone = run_script(tmp_path, "+x=3")
    assert alone.returncode == 0, alone.stderr
    inside, path = alone.stdout.splitlines()
    assert inside == "inside"
    (record,) = strive.read_records(tmp_path / "runs")
    assert (record.metrics, tmp_path / path) == ({"objective": 6}, tmp_path / "runs" / record.cell / "record.json")
    many = run_script(tmp_path, "-m", "+x=4")
    assert (many.returncode, many.stdout.splitlines()[-1]) == (0, "outside")
    failed = run_script(tmp_path, "+fails=true")
    assert failed.returncode == 1
    assert "RuntimeError: no" in failed.stderr
