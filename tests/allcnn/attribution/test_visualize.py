"""src/visualize.py, as a user types it."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from support import ROOT, SMALL

import visualize
from allcnn.attribution.relu_override import AttributionError
from allcnn.visualize_options import OPTIONS, parse_request
from strive.cells.records import read_record

Answer = tuple[int, str, str]  # exit code, stdout, stderr
FORMS = ("png", "pdf", "csv", "json")
FILES = [f"{name}.{form}" for name in ("filters", "patches-conv6", "methods", "sanity") for form in FORMS]
QUICK = ("trainer.threads=1", "device=cpu")


def typed(*arguments: str, cwd: Path) -> Answer:
    """Run the command in a process of its own."""
    ended = subprocess.run(
        [sys.executable, str(ROOT / "src" / "visualize.py"), *arguments],
        cwd=cwd,
        env=os.environ | {"COLUMNS": "120", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return ended.returncode, ended.stdout, ended.stderr


@pytest.fixture
def refused(own_cell: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Start it in this process, beside a runs folder, and return what it complains of."""
    monkeypatch.chdir(own_cell.parents[1])

    def call(*arguments: str) -> str:
        try:
            visualize.main([*arguments])
        except Exception as error:
            if (message := visualize._user_message(error)) is None:
                raise
            return message
        raise AssertionError("it was not refused")

    return call


def test_all_figures_of_a_cell_are_made_by_one_command_and_only_their_files_are_printed(own_cell: Path):
    code, out, err = typed(
        f"cell={own_cell.name[-10:]}", *QUICK, "units=2", "top=3", "images=2", "score_images=4", "seeds=1",
        cwd=own_cell.parents[1],
    )  # fmt: skip
    assert (code, err) == (0, "")
    written = [Path(line) for line in out.splitlines()]
    assert [path.name for path in written if path.name != "ranking-test.csv"] == FILES
    assert len(written) == len(FILES) + 1
    for path in written:
        assert path.parent == Path("runs") / own_cell.name / "pictures"
        assert (own_cell.parents[1] / path).stat().st_size > 100
    figures = own_cell / "pictures"
    for name in ("filters", "patches-conv6", "methods", "sanity"):
        words = json.loads((figures / f"{name}.json").read_text())
        assert words["cell"] == own_cell.name
        record = read_record(own_cell / "record.json")
        assert words["weights_sha256"] == record.outputs["weights"]
        assert words["command"].startswith(f"python src/visualize.py cell={own_cell.name[-10:]} ")
        assert words["files"] == [f"{name}.{form}" for form in FORMS]
        assert "test error" in words["caption"]
        assert (figures / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        with Image.open(figures / f"{name}.png") as picture:
            assert min(picture.size) > 300
    with (figures / "patches-conv6.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 6
    assert set(lines[0]) >= {"channel", "image", "class", "row", "column", "value", "top", "left", "bottom", "right"}


def test_figures_go_where_the_user_says_and_the_ranking_is_read_again(
    own_cell: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(own_cell.parents[1])

    def made(*arguments: str) -> tuple[bytes, str, str]:
        cell = f"cell=runs/{own_cell.name}"
        assert visualize.main([cell, *QUICK, "figure=patches", "units=2", "top=3", *arguments]) == 0
        return (Path("figures") / "patches-conv6.png").read_bytes(), *capsys.readouterr()

    first, out, err = made("out=figures")
    assert ([Path(line).name for line in out.splitlines()], err) == (["ranking-test.csv", *FILES[4:8]], "")
    again, out, err = made("out=figures")
    assert ([Path(line).name for line in out.splitlines()], err) == (
        FILES[4:8],
        "ranking read from figures/ranking-test.csv\n",
    )
    assert again == first
    assert not (own_cell / "pictures").exists()


def test_help_shows_examples_and_needs_nothing(tmp_path: Path):
    code, out, _ = typed("--help", cwd=tmp_path)
    assert code == 0
    for line in re.findall(r"python src/visualize\.py (\S+)", out):
        assert line.startswith(("cell=", "sweeps=", "weights="))
    for option in OPTIONS:
        assert f"{option}=" in out


def test_a_mistake_is_told_without_a_stack_trace(own_cell: Path):
    code, out, err = typed("cell=nobody", "figure=filters", cwd=own_cell.parents[1])
    assert (code, out) == (2, "")
    assert err == f"error: there is no cell nobody in runs; it has 1:\n  {own_cell.name}\n"


def test_help_and_a_wrong_option_do_not_wait_for_torch(tmp_path: Path):
    code = "import sys, visualize as v\ntry: v.main(['cell=a', 'figure=x'])\n"
    code += "except Exception as e: print(v._user_message(e))\n"
    code += "assert 'torch' not in sys.modules"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "src", capture_output=True, text=True)
    assert (ended.returncode, ended.stdout.partition(",")[0]) == (0, "figure must be one of filters"), ended.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], r"give one of cell=ID, sweeps=NAME or weights=FILE, got none"),
        (["cell=a", "weights=b"], r"got cell and weights"),
        (["all_cnn_c"], r"all_cnn_c is no KEY=VALUE; is cell=all_cnn_c meant\?"),
        (["cell=all", "figure=patch"], r"figure must be one of filters, .*, all, got 'patch'; is patches meant\?"),
        (["cell=all", "layr=conv6"], r"there is no option layr with cell=; is layer meant\?"),
        (["cell=all", "model=model_a"], r"there is no option model with cell=: a cell is what its record says"),
        (["cell=all", "figure=filters", "top=3"], r"top=3 has no effect on figure=filters, which takes units"),
        (
            ["cell=all", "figure=filters", "figure=methods"],
            r"figure is given 2 times, figure=filters and figure=methods: give it once, or start the command once for",
        ),
        (["cell=all", "top=3", "figure=patches", "top=4"], r"top is given 2 times, top=3 and top=4: give it once"),
        (["cell=all", "figure=filters", "seed=3"], r"seed=3 has no effect on figure=filters, which takes units"),
        (["cell=all", "units=some"], r"units must be a whole number, or numbers such as units=3,17,40, got 'some'"),
        (["cell=all", "units=-1"], r"units must be a whole number"),
        (["cell=all", "units=0"], r"units must be 1 or more, got 0"),
        (["cell=all", "units=3,3"], r"units=3,3 names one of them twice"),
        (["cell=all", "figure=sanity", "images=1,2"], r"images must be a whole number, got '1,2'"),
        (["cell=all", "split=tests"], r"split must be one of train, val, test, got 'tests'; is test meant\?"),
        (["cell=all", "device=tpu"], r"device must be one of auto, cpu, cuda, got 'tpu'"),
        (["cell=all", "out=runs/NAME/record.json"], r"record.json is a file; name a folder"),
        (["cell=all_cnn_c-digit-none-lr0.02"], r"is one of these meant\?\n  all_cnn_c-digits-none-lr0.02-s0-"),
        (["cell=all", "data.val_images=3"], r"data.val_images=3 would make it another cell"),
        (["cell=all", "trainer.threads=many"], r"trainer.threads: "),
        (["cell=all", "figure=patches", "layer=conv12", *QUICK], r"layer=conv12: .*meant\?\n  it has conv1, conv2"),
        (["cell=all", "figure=patches", "units=3,99", "layer=conv1", *QUICK], r"units=3,99: conv1 has \d+ channels"),
        (["cell=all", "figure=methods", "images=1,400", *QUICK], r"the test split has 400 images, 0 to 399"),
        (["cell=all", "runs=nowhere"], r"there is no record in nowhere; give another runs folder"),
        (["sweeps=nothing"], r"no sweep was launched into runs"),
        (["weights=gone.pt", *SMALL], r"weights=gone.pt: there is no such file"),
        (["weights=gone.pt", "data=imagnet"], r"imagnet"),
        (["weights=gone.pt", "data=imagenet"], r"preprocess must be standardize for data=imagenet"),
        (["weights=gone.pt", "model.widht=1"], r"there is no key model.widht\n  did you mean model.width"),
        (["weights=gone.pt", "figur=filters"], r"there is no option figur with weights=; is figure meant\?"),
    ],
)
def test_what_is_wrong_is_told_with_what_is_legal(
    refused: Callable[..., str], own_cell: Path, arguments: list[str], told: str
):
    assert re.search(told, refused(*(text.replace("NAME", own_cell.name) for text in arguments)))


def test_a_seed_that_no_figure_takes_is_the_configs_where_a_config_is_given():
    request = parse_request(["weights=net.pt", "figure=filters", "seed=3"])
    assert (request.options, request.overrides) == ({}, ["seed=3"])
    request = parse_request(["weights=net.pt", "figure=methods", "seed=3"])
    assert (request.options, request.overrides) == ({"seed": 3}, [])
    request = parse_request(
        ["sweeps=two", "runs=a", "seed=0,1", "runs=b"]
    )  # a launch's line, in which the last one counts
    assert (request.options, request.overrides, request.runs) == ({}, ["seed=0,1"], Path("b"))


def test_a_start_that_two_cells_share_is_told_with_both(refused: Callable[..., str], own_cell: Path):
    shutil.copytree(own_cell, own_cell.with_name("all_cnn_c-other"))
    assert re.search(
        r"all_cnn_c is the start of 2 cells in runs; say more of one:\n  \S+\n  \S+$", refused("cell=all_cnn_c")
    )


def test_without_matplotlib_it_says_what_to_install(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install -e '.[study]'" in refused("cell=all", "figure=filters")


def plan(own_cell: Path, *others: str) -> None:
    """A sweep of that cell and of others, as a launch leaves it."""
    folder = own_cell.parent / "sweeps" / "two"
    folder.mkdir(parents=True)
    parts = {"sweep": "two", "file": "two", "changes": [], "question": "", "code": "", "common": {}, "excluded": []}
    cell = {"arm": "", "action": "train", "reason": "", "epochs": 2, "factors": {}}
    cells = [{"cell": name} | cell for name in (*others, own_cell.name)]
    (folder / "plan.json").write_text(json.dumps({"schema": 2, **parts, "cells": cells, "choices": []}))


def test_in_a_sweep_a_failing_cell_is_named_and_the_others_go_on(
    own_cell: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(own_cell.parents[1])
    broken = own_cell.with_name("broken")
    broken.mkdir()
    (broken / "record.json").write_text("{")
    plan(own_cell, "broken", "never-begun")
    assert visualize.main(["sweeps=two", "figure=filters", *QUICK]) == 1
    out, err = capsys.readouterr()
    assert [Path(line).name for line in out.splitlines()] == [
        f"filters.{form}" for form in ("png", "pdf", "csv", "json")
    ]
    assert "1 of 3 cells are not done" in err
    assert re.search(r"error: broken: .*not a whole JSON file", err)
    assert "1 of 2 cells have not all of their figures: broken" in err
    shutil.rmtree(broken)
    assert visualize.main(["sweeps=two", "figure=filters", *QUICK]) == 0


def test_any_net_that_a_user_names_can_be_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\n"
        "def build(num_classes, image_size, channels):\n"
        "    return nn.Sequential(nn.Conv2d(3, channels, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1),\n"
        "                         nn.Flatten(), nn.Linear(channels, num_classes))\n"
    )
    state = {"0.weight": torch.randn(6, 3, 5, 5), "0.bias": torch.zeros(6)}
    torch.save(state | {"4.weight": torch.randn(10, 6), "4.bias": torch.zeros(10)}, tmp_path / "own.pt")
    monkeypatch.chdir(tmp_path)
    net = ("model=extra/custom", "model.builder=own_net:build", "+model.kwargs.channels=6")
    data = ("data=digits", "preprocess=standardize")
    assert visualize.main(["weights=own.pt", *net, *data, *QUICK, "figure=patches", "layer=0", "units=2", "top=2"]) == 0
    words = json.loads((tmp_path / "own-pictures" / "patches-0.json").read_text())
    assert words["cell"] == "own.pt"
    assert "Net: build on digits (weights own.pt)." in words["caption"]


def test_what_cannot_be_attributed_is_told_and_a_fault_of_ours_is_not_hidden():
    assert visualize._user_message(AttributionError("no rule")) == "no rule"
    assert visualize._user_message(KeyError("x")) is None


def test_a_folder_that_cannot_be_made_is_said_before_anything_is_computed(refused: Callable[..., str], own_cell: Path):
    text = refused(f"cell={own_cell.name}", "figure=filters", "out=/proc/none")
    assert "/proc/none cannot be made" in text
    assert "out=DIR" in text
