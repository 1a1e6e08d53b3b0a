import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import same_code as tool

from allcnn.config import Config
from strive.app import in_use
from strive.code import same_code
from strive.code.same_code import TABLE, SameCodeRow, Side, compared, is_stale, kind, rows_of
from strive.errors import RecordError

Flat = dict[str, Any]
BF16 = {"c all_cnn": ["bf16"]}


def flat(**changes: Any) -> Flat:
    return in_use().science(Config()) | {key.replace("__", "."): value for key, value in changes.items()}


def row(old: str, new: str, same: dict[str, list[str]] = BF16, configs: Sequence[Flat] = ()) -> SameCodeRow:
    return SameCodeRow(
        old=Side(code_hash=old, commit="0" * 40), new=Side(code_hash=new, commit="1" * 40), date="2026-11-29",
        machine="some processor", torch="2.14.1", python="3.11.7", same=same, different={},
        compared=compared(list(configs) or [flat()]),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    # The trainings of these tests are made up: bf16 is to be compared here, too.
    monkeypatch.setattr(tool, "_has_bf16", lambda: True)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return lambda *rows: monkeypatch.setattr(same_code, "rows_of", lambda path: rows)


# -- a runs folder's own table


def test_a_runs_folders_own_table_counts_for_its_cells_and_no_others(table: Callable[..., None], tmp_path: Path):
    table(row("b", "c"))
    note = same_code.Note(old="a", new="b", cell="cell", date="2026-11-29", host="laptop")
    assert same_code.noted(tmp_path) == ()
    (tmp_path / "same_code.json").write_bytes(same_code.notes_with(tmp_path, note))
    assert same_code.noted(tmp_path) == (note,)
    assert same_code.same_code("a", flat(), tmp_path) == {"a", "b", "c"}
    assert same_code.same_code("a", flat(), tmp_path / "other") == {"a"}
    assert not is_stale("a", "c", flat(), tmp_path)
    assert is_stale("a", "c", flat())


def test_a_damaged_table_of_a_runs_folder_is_named(tmp_path: Path):
    (tmp_path / "same_code.json").write_text('[{"old": 1}]')
    with pytest.raises(RecordError, match=r"same_code.json: not a table of `strive same-code`"):
        same_code.noted(tmp_path)


# -- the table


def test_without_a_row_other_code_is_other_code(table: Callable[..., None]):
    table()
    assert is_stale("old", "new", flat())
    assert not is_stale("new", "new", flat())


def test_code_that_is_not_found_makes_nothing_stale(table: Callable[..., None]):
    table()
    assert not is_stale("old", "", flat())


def test_a_row_speaks_both_ways_and_through_others(table: Callable[..., None]):
    table(row("b", "c"), row("a", "b"), row("x", "y"))
    assert same_code.same_code("a", flat()) == same_code.same_code("c", flat()) == {"a", "b", "c"}
    assert is_stale("a", "x", flat())


@pytest.mark.parametrize(
    "changes",
    [
        {"model__variant": "strided"},
        {"model__base": "b"},
        {"precision": "fp32"},
        {"model__batch_norm": True},
        {"model__family": "large_all_cnn"},
        {"model__family": "custom", "model__builder": "nets:mine"},
        {"augment__kind": "extreme"},
        {"model__init": "he"},
        {"model__class_relu": False},
        {"model__dropout_hidden": 0.0},
        {"model__pool_norm": 2.0},
        {"data__source": "imagenet"},
        {"preprocess__kind": "standardize"},
        {"optimizer__drop_at": []},
    ],
)
def test_a_row_does_not_speak_for_what_was_not_compared(table: Callable[..., None], changes: Flat):
    table(row("old", "new"))
    assert not is_stale("old", "new", flat())
    assert is_stale("old", "new", flat(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer__lr": 0.2},
        {"seed": 7},
        {"model__width": 0.5},
        {"data__name": "mine"},
        {"budget__epochs": 3},
        {"optimizer__drop_at": ["1/2"]},
        {"optimizer__drop_at": '["1/2"]'},  # as tables have it
    ],
)
def test_numbers_of_one_kind_are_alike(table: Callable[..., None], changes: Flat):
    table(row("old", "new"))
    assert not is_stale("old", "new", flat(**changes))


def test_a_key_that_the_row_knows_nothing_of_is_not_vouched_for(table: Callable[..., None]):
    known = row("old", "new")
    table(
        dataclasses.replace(
            known, compared={key: kinds for key, kinds in known.compared.items() if key != "model.init"}
        )
    )
    assert is_stale("old", "new", flat())


def test_zero_and_infinity_are_kinds_of_their_own():
    assert [kind(value) for value in (0, 0.0, 1, -2.5, "inf", True, False, [], ["1/2"], "[]", '["1/2"]')] == [
        "0", "0", "number", "number", "inf", "true", "false", "[]", "list", "[]", "list",
    ]  # fmt: skip


def test_every_row_of_the_table_is_whole():
    for each in rows_of(TABLE):
        assert len(each.old.commit) == len(each.new.commit) == 40
        assert len(each.old.code_hash) == len(each.new.code_hash) == 10
        # All 12 nets in fp32 and bf16, with and without batch normalisation: compared, whatever came of it.
        assert sum(map(len, (*each.same.values(), *each.different.values()))) == 48
        assert {"date", "machine", "torch", "python"} <= {
            name for name, value in dataclasses.asdict(each).items() if value
        }


# -- the tool that writes it


def cells(weights: str, code: str = "new", **more: tool.Trained) -> dict[str, tool.Trained]:
    return {"one": tool.Trained(flat(), weights, code), **more}


def test_a_row_has_what_agreed_and_what_did_not():
    fp32 = flat(precision="fp32", model__init="he")
    found = tool.row_of(
        cells("w1", "old", two=tool.Trained(fp32, "w2", "old")), cells("w1", "new", two=tool.Trained(fp32, "w3", "new"))
    )
    assert (found.same, found.different) == ({"c all_cnn": ["bf16"]}, {"c all_cnn": ["fp32"]})
    assert (found.old.code_hash, found.new.code_hash) == ("old", "new")
    assert found.compared["model.init"] == ["gaussian"]  # he was compared, and differed


def test_one_cell_that_differs_says_no_for_its_net_and_precision():
    he = flat(model__init="he")
    found = tool.row_of(cells("w1", two=tool.Trained(he, "w2", "new")), cells("w1", two=tool.Trained(he, "w3", "new")))
    assert (found.same, found.different) == ({}, {"c all_cnn": ["bf16"]})


@pytest.mark.parametrize(
    ("promised", "problem"),
    [
        (row("old", "new", {"c all_cnn": ["bf16", "fp32"]}), "c all_cnn: not the same weights here for fp32"),
        (row("old", "new", {"b strided": ["bf16"]}), "b strided: not the same weights here for bf16"),
        (row("older", "new"), "the old commit 0000000000 has the code old, not older"),
        (row("old", "new", configs=[flat(), flat(model__init="he")]), "model.init: he was not compared, or differed"),
    ],
)
def test_a_wrong_row_is_named_and_the_exit_code_is_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], promised: SameCodeRow, problem: str
):
    monkeypatch.setattr(tool, "trained", lambda at: cells("w1", "old" if at == "0" * 40 else "new"))
    assert tool.check([row("old", "new")]) == 0
    assert tool.check([promised]) == 1
    assert problem in capsys.readouterr().err


def test_writing_replaces_the_row_of_the_same_old_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    path = tmp_path / "same_code.json"
    rows_before = [row("old", "older"), dataclasses.replace(row("a", "b"), old=Side(code_hash="a", commit="2" * 40))]
    path.write_text(json.dumps([dataclasses.asdict(each) for each in rows_before]))
    monkeypatch.setattr(tool, "TABLE", path)
    monkeypatch.setattr(tool, "commit", lambda name: name)
    monkeypatch.setattr(tool, "trained", lambda at: cells("w1", "old" if at == "0" * 40 else "new"))
    assert tool.write("0" * 40, "3" * 40) == 0
    rows_of.cache_clear()
    assert [(each.old.code_hash, each.new.code_hash) for each in rows_of(path)] == [("a", "b"), ("old", "new")]
    assert rows_of(path)[1].new.commit == "3" * 40


def test_an_unknown_commit_ends_with_2_and_one_line(capsys: pytest.CaptureFixture[str]):
    assert tool.main(["--write", "no-such-commit"]) == 2
    assert capsys.readouterr().err.startswith("error: git rev-parse --verify no-such-commit")


def test_commits_with_other_cells_are_not_compared(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tool, "trained", lambda at: cells("w1") if at == "old" else {"two": cells("w1")["one"]})
    with pytest.raises(tool.CompareError, match="give the cells other ids, such as one, two"):
        tool.compare("old", "new")


def test_where_a_processor_has_no_bf16_a_row_is_neither_written_nor_called_wrong_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    fp32 = flat(precision="fp32")

    def trained(at: str) -> dict[str, tool.Trained]:
        # Old code did bf16 in software there.
        code, weights = ("old", "w1") if at == "0" * 40 else ("new", "w2")
        return cells(weights, code, two=tool.Trained(fp32, "w3", code))

    monkeypatch.setattr(tool, "trained", trained)
    promised = row("old", "new", {"c all_cnn": ["bf16", "fp32"]}, [fp32])
    assert tool.check([promised]) == 1
    monkeypatch.setattr(tool, "_has_bf16", lambda: False)
    assert tool.check([promised]) == 0
    assert "not checked: bf16" in capsys.readouterr().out
    assert tool.main(["--write", "HEAD", "HEAD"]) == 2
