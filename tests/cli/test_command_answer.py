import json
import math
import stat
from pathlib import Path
from typing import Any

import pytest
from golden import Golden

from strive.cells.ledger import LEDGER, Kind, LedgerEntry, add_to_ledger, read_ledger
from strive.cli.main import main
from strive.sweeps.plan import plan_name

FILE = """
question: Which part?
grid: {seed: "range(FIRST,LAST)"}
arms:
  all: {}
  less: {optimizer.lr: 0.1}
  more: {optimizer.lr: 0.01}
table: {rows: [arm], columns: [], baseline: {arm: all}, margin: 0.5}
"""
RATES = {"all": 0.05, "less": 0.1, "more": 0.01}
Errors = dict[str, tuple[float | None, ...]]
ONE_OPEN: Errors = {"all": (10.0, 11.0, 12.0), "less": (12.0, 13.1, 14.0), "more": (9.0, 12.0, 12.0)}
ALL_SHOWN: Errors = ONE_OPEN | {"more": (9.0, 10.1, 11.0)}
A_HOLE: Errors = ONE_OPEN | {"more": (9.0, 12.0, None)}


def written(errors: Errors, first_seed: int = 0, name: str = "golden", file: str = FILE) -> None:
    text = file.replace("FIRST", str(first_seed)).replace("LAST", str(first_seed + 3))
    sweep = Golden(Path("runs"), file=name, text=text, question="Which part?")
    for arm, values in errors.items():
        for seed, error in enumerate(values, first_seed):
            sweep.cell({"optimizer.lr": RATES[arm], "seed": seed}, error, arm=arm)
    sweep.write()


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def answered(capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> dict[str, Any]:
    assert main(["answer", "golden", "--json", *arguments]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize(
    ("errors", "code", "state"),
    [(ALL_SHOWN, 0, "decided"), (ONE_OPEN, 3, "undecided"), (A_HOLE, 1, "incomplete")],
)
def test_the_exit_code_says_whether_the_question_is_decided(
    errors: Errors, code: int, state: str, capsys: pytest.CaptureFixture[str]
):
    written(errors)
    assert answered(capsys, code=code)["state"] == state
    assert main(["answer", "golden"]) == code
    assert capsys.readouterr().out.startswith(
        "golden: Which part?\nAgainst 'all', where up to 0.5 points worse counts as equal: "
    )


def test_the_object_has_every_line_with_its_numbers_and_what_would_decide_the_rest(capsys: pytest.CaptureFixture[str]):
    written(ONE_OPEN)
    found = answered(capsys, code=3)
    assert (found["version"], found["sweep"], found["question"]) == (1, "golden", "Which part?")
    assert found["metric"] == {"name": "test_error", "unit": "percent", "better": "lower"}
    assert (found["margin"], found["undecided"], found["holes"], found["contradictions"]) == (0.5, ["more"], [], [])
    less, more = found["lines"]
    assert (less["condition"], less["baseline"], less["verdict"], less["decided"]) == (*("less", "all", "worse", True),)
    assert math.isclose(less["estimate"], 6.1 / 3, rel_tol=1e-9)
    assert less["interval"][0] > 0.5
    assert less["p_loss"] < 0.025 < less["p_no_loss"]
    assert (more["verdict"], more["p"], more["look"], more["why_not"]) == ("undecided", None, None, None)
    assert (len(more["cells"]), len(more["baseline_cells"])) == (3, 3)
    assert [each["n"] for each in found["conditions"]] == [3, 3, 3]
    assert found["next"]["command"][-2:] == ["sweeps=golden", "seed=range(3,9)"]


def test_a_hole_is_null_with_its_reason_and_the_launch_that_fills_it(capsys: pytest.CaptureFixture[str]):
    written(A_HOLE)
    found = answered(capsys, code=1)
    assert found["holes"] == [{"condition": "more", "why": "2 of 3 done, 1 missing"}]
    line = found["lines"][1]
    assert {line[key] for key in ("estimate", "interval", "p_loss", "verdict", "pairs")} == {None}
    assert line["why_not"] == "2 of 3 done, 1 missing"
    assert found["next"]["command"][-1] == "sweeps=golden"
    assert "NaN" not in json.dumps(found)


def test_no_launch_is_proposed_for_a_cell_that_diverged_and_it_is_not_taken_for_other_code(
    capsys: pytest.CaptureFixture[str],
):
    sweep = Golden(Path("runs"), text=FILE.replace("FIRST", "0").replace("LAST", "3"), question="Which part?")
    for arm, values in ALL_SHOWN.items():
        for seed, error in enumerate(values):
            diverged = {"status": "diverged"} if (arm, seed) == ("more", 2) else {}
            sweep.cell({"optimizer.lr": RATES[arm], "seed": seed}, None if diverged else error, arm=arm, **diverged)
    sweep.write()
    step = answered(capsys, code=1)["next"]
    assert step["command"] is None
    assert step["why"].startswith("diverged cells")
    assert main(["answer", "golden"]) == 1
    assert "no launch decides it: " in capsys.readouterr().out


def test_the_lines_say_what_their_interval_and_p_are_corrected_for(capsys: pytest.CaptureFixture[str]):
    written(ALL_SHOWN)
    main(["answer", "golden"])
    alone = capsys.readouterr().out
    main(["answer", "golden", "--over-ledger"])
    over = capsys.readouterr().out
    assert "95% interval for all lines at once" in alone
    assert "a verdict at 0.025 or less" in alone
    assert "95% interval for all comparisons in the ledger at once" in over


def test_without_a_baseline_the_best_is_the_answer(capsys: pytest.CaptureFixture[str]):
    file = FILE.replace("baseline: {arm: all}, margin: 0.5", "")
    written(ALL_SHOWN | {"less": (12.0, 13.2, 14.0)}, file=file)
    found = answered(capsys, code=0)
    assert found["lines"] == []
    assert [each["condition"] for each in found["conditions"] if each["best"]] == ["more"]
    assert found["looked_at"]["own"] == 2


def test_the_ledger_counts_a_comparison_once_and_one_on_other_seeds_again(capsys: pytest.CaptureFixture[str]):
    written(ONE_OPEN)
    first = answered(capsys, code=3)["looked_at"]
    assert first == {"comparisons": 2, "scorings": 9, "own": 2}
    main(["tables"])
    main(["report"])
    capsys.readouterr()
    assert answered(capsys, code=3)["looked_at"] == first
    kinds = [entry.kind for entry in read_ledger(Path("runs")).values()]
    assert (kinds.count(Kind.comparison), kinds.count(Kind.scoring)) == (2, 9)
    written(ALL_SHOWN, first_seed=3, name="golden-again")
    assert main(["answer", "golden-again"]) == 0
    capsys.readouterr()
    assert answered(capsys, code=3)["looked_at"] == {"comparisons": 4, "scorings": 18, "own": 2}
    assert main(["tables", "golden", "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["sweeps"][0]["notes"]
    assert notes[-1].startswith(
        "Looked at with strive in this folder so far, in all sweeps: 4 comparisons and 18 scorings"
    )


def test_over_the_ledger_verdicts_and_intervals_are_corrected_for_all_that_was_looked_at(
    capsys: pytest.CaptureFixture[str],
):
    written(ALL_SHOWN)
    alone = answered(capsys, "--over-ledger", code=0)
    others = [
        LedgerEntry(id=str(number), kind=Kind.comparison, what="another", metric="m", p_no_loss=0.5, p_loss=0.5)
        for number in range(198)
    ]
    add_to_ledger(Path("runs"), others)
    assert answered(capsys, code=0)["corrected_for"] == "table"
    found = answered(capsys, "--over-ledger", code=3)
    assert found["corrected_for"] == "ledger"
    assert found["looked_at"]["comparisons"] == 200
    for before, after in zip(alone["lines"], found["lines"], strict=True):
        assert after["p_loss"] >= before["p_loss"]
        assert after["interval"][0] < before["interval"][0]
        # What is drawn is what is tested.
        assert after["decided"] == (not after["interval"][0] <= 0.5 <= after["interval"][1])


def test_a_ledger_that_cannot_be_written_ends_no_command(capsys: pytest.CaptureFixture[str]):
    written(ALL_SHOWN)
    (Path("runs") / LEDGER).mkdir()
    for command in ("tables", "report", "answer"):
        assert main([command, "golden"]) == 0
        assert "ledger.jsonl cannot be written" in capsys.readouterr().err


def test_a_check_looks_but_writes_no_ledger():
    written(ALL_SHOWN)
    assert main(["tables"]) == 0
    ledger = Path("runs") / LEDGER
    ledger.chmod(stat.S_IRUSR)
    before = ledger.read_bytes()
    assert main(["tables", "--check"]) == 0
    assert ledger.read_bytes() == before


def test_which_one_is_asked_where_a_name_is_of_several(capsys: pytest.CaptureFixture[str]):
    written(ALL_SHOWN, name="one")
    written(ALL_SHOWN, name="two")
    assert main(["answer"]) == 2
    assert "which one? one, two" in capsys.readouterr().err


def test_status_has_an_object_for_programs(capsys: pytest.CaptureFixture[str]):
    sweep = Golden(Path("runs"), file="", name=plan_name([], ""), question="")
    sweep.cell({"seed": 0}, 10.0)
    sweep.cell({"seed": 1}, None)
    sweep.write()
    assert main(["status", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    (one,) = found["sweeps"]
    assert (found["version"], found["finished"]) == (1, False)
    assert one["counts"] == {"done": 1, "missing": 1}
    assert [cell["state"] for cell in one["cells"]] == ["done", "missing"]
    assert one["command"][-1] == "-m"
