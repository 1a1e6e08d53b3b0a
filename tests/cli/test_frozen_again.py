from pathlib import Path

import msgspec
import pytest
from foreign import Foreign

from strive.cli.frozen_again import program_here
from strive.errors import UsageError
from strive.hydra_app.program import Program, write_program


@pytest.fixture
def launch(tmp_path: Path) -> Path:
    """The folder of a launch whose jobs ran a copy of the code."""
    script = tmp_path / "train.py"
    script.touch()
    program = Program(
        file=str(script), module="", argv=[str(script)], folder=str(tmp_path), path=[], function="__main__:main"
    )
    foreign = Foreign(tmp_path / "runs", start=msgspec.to_builtins(program))
    foreign.cell({"lr": 0.1})
    folder = foreign.write() / "sweeps" / foreign.name / "20261120-100000-ab"
    folder.mkdir()
    write_program(folder, msgspec.structs.replace(program, file="/copy/train.py"))
    return folder


def test_a_cell_is_trained_again_by_the_code_here_and_not_by_the_copy_of_its_job(launch: Path, tmp_path: Path):
    assert program_here("a-1", launch).file == str(tmp_path / "train.py")


def test_a_program_that_is_gone_is_named(launch: Path, tmp_path: Path):
    (tmp_path / "train.py").unlink()
    with pytest.raises(UsageError, match=r"a-1 cannot be trained again: .*train\.py, which is gone"):
        program_here("a-1", launch)
