import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

from strive.cli.main import COMMANDS, SHELLS, guarded, main
from strive.errors import CellsFailedError, ConfigError, LoadError, StoppedError

RESULTS = ROOT / "results" / "table3_small"


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what a command that only says something prints, after its exit code 0."""
    try:
        code = main(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    assert code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_in_words_and_fits_80_columns(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    text = shown(capsys, *filter(None, [command]), "--help")
    assert max(map(len, text.splitlines())) <= 80
    if command:
        assert f"usage: strive {command} " in text
        assert "exit code: 0" in text
    else:
        assert all(f"strive {name}" in text for name in COMMANDS)


def test_without_a_command_there_is_help_and_an_unknown_word_names_the_legal_ones(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 0
    assert "strive COMMAND --help" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["stauts"])
    assert "choose from" in (err := capsys.readouterr().err)
    assert "same-code" in err


@pytest.mark.parametrize("shell", SHELLS)
def test_there_is_a_script_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]):
    assert "strive" in shown(capsys, "--completion", shell)


def completed(line: str, cwd: Path) -> list[str]:
    """Return what a shell would offer after this line."""
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    script = f"{sys.executable} -m strive 8>&1 >/dev/null"
    done = subprocess.run(["bash", "-c", script], cwd=cwd, env=os.environ | asked, capture_output=True, text=True)
    return [word.strip() for word in done.stdout.splitlines()]


def test_tab_completes_commands_options_sweeps_and_cells(tmp_path: Path):
    (tmp_path / "runs").symlink_to(RESULTS)
    assert completed("strive re", tmp_path) == ["report", "reproduce"]
    assert "--failed" in completed("strive status --", tmp_path)
    assert completed("strive tables ta", tmp_path) == ["table3_small", "table3_small_lr"]
    cell = "all_cnn_a-cifar10_jpeg-none-lr0.02-s0-145302f9cf"
    assert completed(f"strive reproduce {cell[:-12]}", tmp_path) == [cell]
    assert completed("strive why 145302", tmp_path) == [cell[-10:]]


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("no"), 2, "error: no\n"),
        (LoadError("a\n  b"), 2, "error: a\n  b\n"),
        (CellsFailedError("\x1b[2J"), 2, "error: \\x1b[2J\n"),
        (FileNotFoundError(2, "No such file", "x"), 2, "error: x: No such file\n"),
        (StoppedError("stopped"), 130, "stopped; the same command goes on from there\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_a_mistake_is_one_message_and_an_exit_code(
    error: BaseException, code: int, text: str, capsys: pytest.CaptureFixture[str]
):
    def fails(arguments: object) -> int:
        raise error

    assert guarded(fails) == code
    assert capsys.readouterr().err == text


def test_a_bug_keeps_its_stack_trace():
    def fails(arguments: object) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guarded(fails)


def test_help_and_status_start_without_heavy_libraries(tmp_path: Path):
    (tmp_path / "runs").symlink_to(RESULTS)
    code = (
        "import sys\n"
        "from strive.cli.main import COMMANDS, main\n"
        "for arguments in (['--help'], *([name, '--help'] for name in COMMANDS), ['status']):\n"
        "    try:\n"
        "        main(arguments)\n"
        "    except SystemExit as end:\n"
        "        assert end.code == 0\n"
        "print('heavy:', *({'torch', 'pandas', 'matplotlib', 'hydra', 'wandb'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].strip() == "heavy:"
