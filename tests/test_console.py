"""The console with anybody's words: names, values, causes."""

import pytest
from rich.table import Table

from strive.console import CONSOLE, OUTPUT

ATTACK = "[red]digits[/red] :smile: \x1b[2J\x1b]0;title\x07\u202egnp.exe"


@pytest.mark.parametrize("console", [CONSOLE, OUTPUT])
def test_no_text_paints_moves_the_cursor_or_names_the_window(console: object, capsys: pytest.CaptureFixture[str]):
    console.print(f"images of {ATTACK}: 50\n  left out: {ATTACK}")  # type: ignore[attr-defined]
    printed = "".join(capsys.readouterr())
    assert "[red]digits[/red] :smile: \\x1b[2J\\x1b]0;title\\x07\\u202egnp.exe" in printed
    assert len(printed.splitlines()) == 2
    assert all(char.isprintable() for line in printed.splitlines() for char in line)


def test_tables_are_drawn_as_they_are(capsys: pytest.CaptureFixture[str]):
    table = Table()
    table.add_column("lr")
    table.add_row("0.1")
    OUTPUT.print(table)
    assert "0.1" in capsys.readouterr().out
