import re

from strive.report.html_table import MOST_LINES, Places, web_table
from strive.tables.table import Column, Entry, Row, Table


def table(
    *rows: Row, columns: tuple[Column, ...] = (Column(title="net", numeric=False), Column(title="error"))
) -> Table:
    return Table(name="errors", title="Errors", caption="Of tests.", columns=columns, rows=rows)


def row(*texts: str, **more) -> Row:
    return Row(entries=tuple(Entry(text=text) for text in texts), **more)


def lines(html: str) -> list[str]:
    return re.findall(r"<tr(?: [^>]*)?>(?:<th scope=\"row\"|<td).*?</tr>", html, flags=re.DOTALL)


def test_every_text_is_escaped():
    attack = "<script>alert(1)</script> <tr> {{x}} **b** &amp;"
    html = web_table(
        table(row(attack, attack), columns=(Column(title=attack), Column(title=attack))), "s1-errors", Places()
    )
    assert "<script" not in html
    escaped = "&lt;script&gt;alert(1)&lt;/script&gt; &lt;tr&gt; {{x}} **b** &amp;amp;"
    assert html.count(escaped) == 4


def test_bold_is_strong_and_a_hole_is_marked():
    made = table(Row(entries=(Entry(text="a", bold=True), Entry(text="2 missing", hole=True))))
    html = web_table(made, "s1-errors", Places())
    assert "<strong>a</strong>" in html
    assert '<span class="hole">2 missing</span>' in html


def test_numbers_are_flush_right_and_the_first_entry_heads_its_line():
    (line,) = lines(web_table(table(row("a", "9.1")), "s1-errors", Places()))
    assert '<th scope="row">a</th><td class="number">9.1</td>' in line


def test_a_ref_links_to_its_cells_and_only_where_there_are_any():
    made = table(row("a", "1", ref="3"), row("b", "2", ref="4"), row("c", "3"))
    one, other, none = lines(web_table(made, "s2-errors", Places(), {"3"}))
    assert '<a href="#cells-s2-3"' in one
    assert "<a " not in other
    assert ">4</td>" in other  # named, without a link
    assert none.count("<td") == 2
    assert "<a " not in web_table(made, "s2-errors", Places())


def test_a_difference_links_to_its_cells_and_to_its_baseline_s():
    (line,) = lines(web_table(table(row("a", "1", ref="3", baseline_ref="1")), "s2-differences", Places(), {"1", "3"}))
    assert re.findall(r'href="#cells-s2-(\d)"', line) == ["3", "1"]


def test_an_entry_with_cells_of_its_own_links_to_them():
    made = table(
        Row(entries=(Entry(text="a"), Entry(text="<9>", ref="3"), Entry(text="2 missing", hole=True, ref="4")))
    )
    made = table(*made.rows, columns=(Column(title="net"), Column(title="one"), Column(title="other")))
    (line,) = lines(web_table(made, "s2-overview", Places(), {"3", "4"}))
    assert '<a href="#cells-s2-3" title="the cells behind this number">&lt;9&gt;</a>' in line
    assert '<a href="#cells-s2-4"' in line
    assert "<a " not in web_table(made, "s2-overview", Places(), {"5"})


def test_a_rule_is_above_its_line():
    without, above = lines(web_table(table(row("a", "1"), row("b", "2", rule=True)), "s1-errors", Places()))
    assert 'class="rule"' in above
    assert 'class="rule"' not in without


def test_the_table_is_named_and_described():
    html = web_table(table(row("a", "1")), "s1-errors", Places())
    assert 'aria-labelledby="title-s1-errors" aria-describedby="caption-s1-errors"' in html
    assert "<style" not in html


def test_a_table_without_lines_is_a_table():
    html = web_table(table(), "s1-errors", Places())
    assert lines(html) == []
    assert "error" in html


def test_lines_beyond_the_most_are_left_out():
    made = table(*(row(str(number), "1") for number in range(MOST_LINES + 1)))
    assert len(lines(web_table(made, "s1-errors", Places()))) == MOST_LINES
