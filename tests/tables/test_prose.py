import pytest

from strive.tables.cited_numbers import Number
from strive.tables.latex_numbers import latex_numbers
from strive.tables.prose import RecordValues, checked, sweeps_in
from strive.tables.table import Column, Entry, Row, Table

TABLE = Table(
    name="errors", title="", caption="", columns=(Column(title="a"),), rows=(Row(entries=(Entry(text="1"),)),)
)
LINES = "|   a |\n| --: |\n|   1 |"
KNOWN = RecordValues(
    numbers={
        "s/a/test_error": Number(text="30.13"),
        "s/a/test_error/n": Number(text="3"),
        "s/b/test_error": Number(why="1 of 2 done"),
        "s/a/test_error/verdict": Number(text="not worse"),
    },
    tables={"s/errors": TABLE},
    unknown={"t": "t was not launched into runs"},
)


def number(text: str, key: str = "s/a/test_error") -> str:
    return f"<!-- strive: {key} -->{text}<!-- / -->"


def markdown(text: str) -> tuple[str, list[str], list[str]]:
    found = checked(text, KNOWN, latex=False)
    return found.text, list(found.stale), list(found.faults)


@pytest.mark.parametrize(
    "text",
    [
        f"An error of {number('30.13')}%.",
        f"A verdict of {number('not' + chr(10) + 'worse', 's/a/test_error/verdict')}.",
        f"<!-- strive: s/errors -->\n{LINES}\n<!-- / -->\n",
        f"<!-- strive: s/errors -->\r\n{LINES}\r\n<!-- / -->\r\n".replace("|\n", "|\r\n"),
        "No marks, <!-- but a comment -->.",
        f"In code `{number('1')}` and ``{number('2')}``.",
        f"```\n{number('1')}\n<!-- strive: x -->\n```\n",
        f"~~~~ md\n{number('1')}\n~~~\n<!-- / -->\n~~~~\n",
        f"```\n{number('1')} in code that does not end",
    ],
)
def test_what_the_records_give_is_left_as_it_is(text: str):
    assert markdown(text) == (text, [], [])


def test_a_stale_number_is_named_with_its_line_and_nothing_else_changes():
    n = number("3", "s/a/test_error/n")
    text = f"# A  \n\ntrailing \t\nAn error of {number('30.1')}%, `{number('30.1')}`, n = {n}"
    now, stale, faults = markdown(text)
    assert now == text.replace(f"of {number('30.1')}", f"of {number('30.13')}")
    assert stale == ["4: s/a/test_error is 30.1, the records give 30.13"]
    assert faults == []


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_stale_table_is_written_with_the_files_own_ends_of_lines(newline: str):
    text = newline.join(["\ufeffx", "<!-- strive: s/errors -->", "| old |", "<!-- / -->", "y"])
    now, stale, _ = markdown(text)
    assert now == newline.join(["\ufeffx", "<!-- strive: s/errors -->", *LINES.split("\n"), "<!-- / -->", "y"])
    assert stale == ["2: s/errors: the table is not what the records give"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (number("1", "s/a/test_eror"), "1: s/a/test_eror does not exist; did you mean s/a/test_error"),
        (number("1", "s/b/test_error"), "1: s/b/test_error has no number: 1 of 2 done"),
        (number("1", "t/a/test_error"), "1: t/a/test_error does not exist: t was not launched into runs"),
        ("\n<!-- strive: s/a/test_error -->30.13", "2: s/a/test_error has no <!-- / --> behind it"),
        (f"<!-- strive: s/errors -->\n{number('30.13')}", "1: s/errors has no <!-- / --> before the next mark"),
        ("30.13<!-- / -->", "1: <!-- / --> ends nothing"),
        ("<!-- strive s/a/test_error -->1<!-- / -->", "1: <!-- strive s/a/test_error --> has no key"),
        ("<!-- strive: -->1<!-- / -->", "1: <!-- strive: --> has no key"),
    ],
)
def test_a_mark_without_a_number_is_a_fault_and_stays_as_it_is(text: str, fault: str):
    now, stale, faults = markdown(text)
    assert now == text
    assert stale == []
    assert faults[0].startswith(fault)


def test_latex_is_asked_for_its_keys():
    text = (
        "\\strive{s/a/test_error} \\striveraw{s/a/x} % \\strive{s/comment}\n100\\% \\strive{s/b/test_error}\\strive{#1}"
    )
    found = checked(text, KNOWN, latex=True)
    assert found.text == text
    assert found.stale == ()
    assert [fault.partition(";")[0] for fault in found.faults] == [
        "1: s/a/x does not exist",
        "2: s/b/test_error has no number: 1 of 2 done",
    ]
    assert sweeps_in(text, latex=True) == ["s"]


def test_a_written_numbers_tex_is_compared_and_brought_up_to_date():
    now = latex_numbers({"s": KNOWN.numbers})
    assert checked(now, KNOWN, latex=True).stale == ()
    old = now.replace("30.13", "30.12")
    found = checked(old, KNOWN, latex=True)
    assert found.stale == ("1: the numbers are not what the records give",)
    assert found.text == now
