import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import make_workspace
import pytest
from golden import Golden
from study_records import METRICS
from support import ROOT
from wandb_peer import Peer, operations
from wandb_peer.store import RefusedError

from strive.cli.main import guarded
from strive.results.load import load_sweep
from strive.tables.summary import summarise_sweep
from strive.trackers.cell_files import read_cell_files
from strive.trackers.naming import label_of, summary_of
from strive.trackers.outline import of_file, of_plan

# W&B's library still uses what pydantic has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")

SMALL = ROOT / "results" / "table3_small"
FILES = sorted(path.stem for path in (ROOT / "sweeps").glob("*.yaml"))
NETS = [{"model.base": base, "model.variant": variant} for base in "abc" for variant in ("base", "all_cnn")]
EVERY_KNOB = [
    {"model.variant": variant, "model.pool_norm": norm, "optimizer.weight_decay": decay}
    for variant in ("base", "convpool")
    for norm in (1.0, 2.0)
    for decay in (0.001, 0.0)
]


def written(runs: Path, cells: list[dict[str, Any]], file: str = "own", **fields: Any) -> Path:
    """A sweep without a file in sweeps/: its cells with these knobs, each with two seeds."""
    sweep = Golden(runs, file=file, **fields)
    for cell in cells:
        for seed in range(2):
            sweep.cell(cell | {"seed": seed}, 10.0)
    return sweep.write()


@pytest.fixture
def views(capsys: pytest.CaptureFixture[str]) -> Any:
    """What --dry-run prints: {name: the section of the spec}."""

    def call(*arguments: str, code: int = 0) -> dict[str, Any]:
        assert make_workspace.main([*arguments, "--dry-run"]) == code
        return {view["displayName"]: view["spec"]["section"] for view in json.loads(capsys.readouterr().out)}

    return call


def panels(view: dict[str, Any], section: str = "", kind: str = "") -> list[dict[str, Any]]:
    return [
        panel
        for each in view["panelBankConfig"]["sections"]
        for panel in each["panels"]
        if section in ("", each["name"]) and kind in ("", panel["viewType"])
    ]


def bars(view: dict[str, Any], section: str = "Answer") -> list[tuple[str, str | None]]:
    """(metric, what the panel itself groups by) of each bar chart."""
    configs = [panel["config"] for panel in panels(view, section, "Bar Chart")]
    return [(metric, config.get("groupBy")) for config in configs for metric in config["metrics"]]


def table_groups(view: dict[str, Any]) -> list[str]:
    return [key["name"] for key in view["runSets"][0]["grouping"]]


def filters(view: dict[str, Any]) -> list[tuple[str, str, str, Any]]:
    items = view["runSets"][0]["filters"]["filters"]
    return [(item["key"]["section"], item["key"]["name"], item["op"], item["value"]) for item in items]


def axes(view: dict[str, Any]) -> list[str]:
    (plot,) = panels(view, kind="Parallel Coordinates Plot")
    return [column["accessor"] for column in plot["config"]["columns"]]


def test_each_launched_sweep_has_a_view_and_the_failures_have_one(tmp_path: Path, views: Any):
    written(tmp_path, NETS, "one")
    written(tmp_path, NETS, "two")
    assert list(views("--runs", str(tmp_path))) == ["strive: one", "strive: two", "strive: failures"]


def test_a_view_shows_the_cells_of_its_sweep_alone(tmp_path: Path, views: Any):
    written(tmp_path, NETS, "one")
    view = views("--runs", str(tmp_path))["strive: one"]
    assert filters(view) == [("run", "jobType", "=", "train"), ("run", "tags", "IN", ["sweep:one"])]


def test_the_failures_are_those_that_are_neither_done_nor_at_work(views: Any):
    view = views("smoke")["strive: failures"]
    assert filters(view) == [("run", "jobType", "=", "train"), ("summary", "status", "NIN", ["done", "training"])]
    assert {"summary:status", "summary:cause", "config:sweep.value"} <= set(
        view["runSets"][0]["runFeed"]["columnOrder"]
    )
    assert panels(view, kind="Run Comparer")


def test_bases_and_variants_are_compared_by_net_and_each_alone(views: Any):
    view = views("table3_small", "--runs", str(SMALL))["strive: table3_small"]
    assert bars(view) == [
        ("test_error", "net.value"),
        ("test_error", "base.value"),
        ("test_error", "variant.value"),
    ]
    assert table_groups(view) == []


def test_the_answer_of_the_cells_here_stands_beside_the_question(views: Any):
    view = views("table3_small", "--runs", str(SMALL))["strive: table3_small"]
    (panel,) = panels(view, "Answer", "Markdown Panel")
    assert "Can pooling be replaced" in panel["config"]["value"]
    assert summarise_sweep(load_sweep("table3_small", [SMALL])).answer in panel["config"]["value"]


def test_bars_are_means_with_standard_deviations_of_up_to_a_hundred(views: Any):
    for panel in panels(views("table3")["strive: table3"], kind="Bar Chart"):
        config = panel["config"]
        assert (config["groupAgg"], config["groupArea"]) == ("mean", "stddev")
        assert (config["limit"], config["barLimit"]) == (100, 100)


def test_another_question_has_its_own_factors(tmp_path: Path, views: Any):
    view = views("--runs", str(written(tmp_path, EVERY_KNOB)))["strive: own"]
    assert table_groups(view) == ["variant.value", "pool_norm.value", "weight_decay.value"]
    assert bars(view) == [
        ("test_error", None),  # as the table of W&B runs: a panel can group by one key alone
        ("test_error", "variant.value"),
        ("test_error", "pool_norm.value"),
        ("test_error", "weight_decay.value"),
    ]
    assert axes(view) == [
        "config:variant.value",
        "config:pool_norm.value",
        "config:weight_decay.value",
        "summary:test_error",
    ]


def test_one_factor_is_what_panels_group_by(tmp_path: Path, views: Any):
    cells = [{"optimizer.weight_decay": decay} for decay in (0.0, 0.001)]
    view = views("--runs", str(written(tmp_path, cells)))["strive: own"]
    assert bars(view) == [("test_error", "weight_decay.value")]
    assert {panel["config"]["groupBy"] for panel in panels(view, "Learning curves")} == {"weight_decay.value"}


def test_a_sweep_of_seeds_alone_is_grouped_by_net(tmp_path: Path, views: Any):
    view = views("--runs", str(written(tmp_path, [{}])))["strive: own"]
    assert bars(view) == [("test_error", "net.value")]
    assert axes(view) == ["summary:test_error"]


def test_learning_curves_have_epochs_on_the_x_axis(tmp_path: Path, views: Any):
    written(tmp_path, NETS, "plain")
    written(tmp_path, [net | {"data.val_images": 5000} for net in NETS], "held")
    found = views("--runs", str(tmp_path))
    for name, metrics in (("plain", 2), ("held", 3)):
        configs = [panel["config"] for panel in panels(found[f"strive: {name}"], "Learning curves")]
        assert [config["metrics"] for config in configs] == [["train_loss"], ["train_error"], ["val_error"]][:metrics]
        assert {config["xAxis"] for config in configs} == {"epoch"}
        assert {config["groupBy"] for config in configs} == {"net.value"}
        assert {config["groupAgg"] for config in configs} == {"mean"}


def test_a_sweep_that_chooses_on_held_out_images_shows_no_test_error(views: Any):
    view = views("table3_lr")["strive: table3_lr"]
    assert bars(view)[0] == ("val_error", None)
    assert table_groups(view) == ["net.value", "lr.value"]
    assert "test_error" not in json.dumps(view)


def test_a_value_that_the_table_selects_is_not_averaged_over(tmp_path: Path, views: Any):
    cells = [net | {"optimizer.lr": lr, "data.val_images": 5000} for net in NETS for lr in (0.1, 0.01)]
    view = views("--runs", str(written(tmp_path, cells)))["strive: own"]
    assert table_groups(view) == ["net.value", "lr.value"]
    assert [metric for metric, _ in bars(view)][:2] == ["test_error", "val_error"]


def test_learning_rates_have_a_log_axis(views: Any):
    (plot,) = panels(views("grid")["strive: grid"], kind="Parallel Coordinates Plot")
    columns = {column["accessor"]: column.get("log") for column in plot["config"]["columns"]}
    assert columns == {
        "config:base.value": None,
        "config:variant.value": None,
        "config:augmentation.value": None,
        "config:lr.value": True,
        "summary:test_error": None,
    }


def test_importance_is_for_the_number_that_the_table_shows(views: Any):
    for name, value in (("grid", "test_error"), ("table3_lr", "val_error")):
        (panel,) = panels(views(name)[f"strive: {name}"], kind="Parameter Importance")
        assert panel["config"]["targetKey"] == value


def test_arms_are_compared_by_name(views: Any):
    view = views("open_choices")["strive: open_choices"]
    # Under its name in this sweep: the baseline cell stands in others, too.
    assert bars(view) == [("test_error", "arms.value.open_choices")]
    assert axes(view) == ["config:arms.value.open_choices", "summary:test_error"]
    columns = view["runSets"][0]["runFeed"]["columnOrder"]
    assert "config:arms.value.open_choices" in columns


def test_speed_and_memory_are_shown(views: Any):
    view = views("table3")["strive: table3"]
    assert [metric for metric, _ in bars(view, "Speed")] == ["images_per_second", "train_seconds", "peak_memory_gb"]


def test_the_table_of_runs_says_how_each_cell_ended(views: Any):
    columns = views("grid")["strive: grid"]["runSets"][0]["runFeed"]["columnOrder"]
    assert columns == [
        "run:displayName",
        "summary:status",
        "config:net.value",
        "config:augmentation.value",
        "config:seed.value",
        "summary:test_error",
        "summary:cause",
    ]


@pytest.mark.parametrize("name", FILES)
def test_every_sweep_has_a_view_before_anything_is_trained(name: str, tmp_path: Path, views: Any):
    view = views(name, "--runs", str(tmp_path))[f"strive: {name}"]
    assert [section["name"] for section in view["panelBankConfig"]["sections"]] == [
        "Answer",
        "Learning curves",
        "What moves it",
        "Failures",
        "Speed",
    ]


@pytest.mark.parametrize("name", ["table3_small", "table3_small_lr"])
def test_a_file_alone_says_what_its_plan_says(name: str):
    plan, file = of_plan(load_sweep(name, [SMALL])), of_file(name)
    assert (file.name, file.question, file.value, file.held_out) == (
        plan.name,
        plan.question,
        plan.value,
        plan.held_out,
    )
    assert file.keys == plan.keys
    assert set(file.factors) == set(plan.factors)


def test_a_sweep_changed_on_the_command_line_has_a_view_of_its_own(tmp_path: Path, views: Any):
    written(tmp_path, NETS, "table3")
    written(tmp_path, NETS, "table3", name="table3-1a2b3c4d", changes=["budget.epochs=1"])
    found = views("table3", "--runs", str(tmp_path))
    assert list(found) == ["strive: table3", "strive: table3-1a2b3c4d", "strive: failures"]
    assert filters(found["strive: table3-1a2b3c4d"])[1][3] == ["sweep:table3-1a2b3c4d"]


def used_keys(view: dict[str, Any]) -> set[str]:
    """Every key of history, summary or config that a view asks W&B for, as config:KEY or KEY."""
    found = set[str]()
    for panel in panels(view):
        config = panel["config"]
        found |= {*config.get("metrics", []), *([config["targetKey"]] if "targetKey" in config else [])}
        found |= {column["accessor"] for column in config.get("columns", [])}
        found |= {config["xAxis"]} if "xAxis" in config else set()
        found |= {f"config:{config['groupBy']}"} if "groupBy" in config else set()
    runs = view["runSets"][0]
    found |= {f"config:{key['name']}" for key in runs["grouping"]}
    found |= {f"{item['key']['section']}:{item['key']['name']}" for item in runs["filters"]["filters"]}
    found |= {f"{key['key']['section']}:{key['key']['name']}" for key in runs["sort"]["keys"]}
    found |= {view["settings"]["xAxis"], *runs["runFeed"]["columnOrder"]}
    return {key.removeprefix("summary:").removesuffix(".value") for key in found if not key.startswith("run:")}


def test_every_key_of_a_view_is_one_that_the_tracker_writes(tmp_path: Path, views: Any):
    cells = [
        knobs | {"augment.kind": kind, "optimizer.lr": 0.1} for knobs in EVERY_KNOB for kind in ("none", "extreme")
    ]
    cells += [{"preprocess.kind": "standardize", "augment.kind": "flip_shift", "augment.shift_px": 3}]
    written(tmp_path, cells)
    all_files = [read_cell_files(folder) for folder in tmp_path.iterdir() if folder.name != "sweeps"]
    labels = [label_of(files, tmp_path) for files in all_files if files]
    found = views("--runs", str(tmp_path))
    asked = used_keys(found["strive: own"]) | used_keys(found["strive: failures"])
    config = {key.partition(":")[2] for key in asked if key.startswith("config:")}
    assert config >= {"variant", "pool_norm", "weight_decay", "augmentation", "preprocess_kind", "shift_px", "seed"}
    for label in labels:
        assert config <= label.config.keys()
        assert filters(found["strive: own"])[1][3][0] in label.tags
    assert asked - {f"config:{key}" for key in config} <= {"epoch", "cause", *METRICS, *summary_of(all_files[0])}
    assert summary_of(all_files[0])["status"] == "done"


def test_values_of_the_config_tell_the_conditions_of_the_table_apart(tmp_path: Path, views: Any):
    written(tmp_path, EVERY_KNOB)
    groups = table_groups(views("--runs", str(tmp_path))["strive: own"])
    all_files = [read_cell_files(folder) for folder in tmp_path.iterdir() if folder.name != "sweeps"]
    configs = [label_of(files, tmp_path).config for files in all_files if files]
    conditions = {tuple(config[key.removesuffix(".value")] for key in groups) for config in configs}
    assert len(conditions) == len(EVERY_KNOB)


def test_a_name_is_what_views_begin_with(views: Any):
    assert list(views("smoke", "--name", "paper = 1")) == ["paper _ 1: smoke", "paper _ 1: failures"]


def test_no_two_panels_share_an_id(views: Any):
    found = views(*FILES)
    ids = [panel["__id__"] for view in found.values() for panel in panels(view)]
    assert len(set(ids)) == len(ids) > 10 * len(FILES)


def test_a_damaged_plan_takes_its_own_view_alone(tmp_path: Path, views: Any, capsys: pytest.CaptureFixture[str]):
    written(tmp_path, NETS, "good")
    (tmp_path / "sweeps" / "bad").mkdir()
    (tmp_path / "sweeps" / "bad" / "plan.json").write_text("{")
    assert list(views("--runs", str(tmp_path), code=1)) == ["strive: good", "strive: failures"]
    assert guarded(make_workspace.main, ["bad", "--runs", str(tmp_path), "--dry-run"]) == 2
    assert "not a plan of this version" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tabel3"], "there is no sweep tabel3; legal: cifar100, grid, "),
        ([], "no sweep was launched into {runs}; name those that will be: cifar100, grid, "),
        (["table3", "--runs", "nowhere"], "--runs nowhere: there is no such folder"),
    ],
)
def test_a_mistake_is_one_line_with_what_is_legal(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    given = arguments if "--runs" in arguments else [*arguments, "--runs", str(tmp_path)]
    assert guarded(make_workspace.main, [*given, "--dry-run"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: " + said.format(runs=tmp_path))
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_without_runs_nothing_was_launched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert guarded(make_workspace.main, ["--dry-run"]) == 2
    assert capsys.readouterr().err.startswith("error: no sweep was launched; name those that will be: cifar100, ")


def test_a_name_that_cannot_be_filtered_by_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    written(tmp_path, NETS, "it's")
    assert guarded(make_workspace.main, ["--runs", str(tmp_path), "--dry-run"]) == 2
    assert capsys.readouterr().err.startswith("error: it's: W&B's library cannot filter by a name with quotes")


@pytest.mark.parametrize("package", ["wandb", "wandb_workspaces"])
def test_without_wandb_it_says_what_to_install(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    mine = ("strive.trackers.wandb_save", "strive.trackers.wandb_views")
    for name in [*mine, *(name for name in sys.modules if name.startswith("wandb_workspaces"))]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    assert guarded(make_workspace.main, ["smoke", "--dry-run"]) == 2
    assert capsys.readouterr().err == "error: the views need W&B's packages: pip install wandb wandb-workspaces\n"


# --- in a process of its own: nothing of this one's client, key or home -------------------------------------------


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as mine:
        yield mine


def started(home: Path, environ: dict[str, str], *code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code beside analysis/, with a home of its own."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "XDG_"))}
    mine |= {"HOME": str(home), "STRIVE_CACHE": str(home / "cache")} | environ
    before = f"import sys; sys.path.insert(0, {str(ROOT / 'analysis')!r}); import make_workspace"
    return subprocess.run(
        [sys.executable, "-c", "\n".join([before, *code])],
        cwd=home,
        env=mine,
        capture_output=True,
        text=True,
        timeout=300,
    )


def command(*arguments: str) -> str:
    return f"print(make_workspace.guarded(make_workspace.main, {list(arguments)}))"


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


def test_a_dry_run_asks_nobody_needs_no_key_and_says_the_same_each_time(tmp_path: Path, views: Any):
    written(tmp_path / "runs", EVERY_KNOB)
    listening = (
        "def refuse(event, arguments):",
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'subprocess.Popen'):",
        "        raise SystemExit(f'{event}{arguments}')",
        "sys.addaudithook(refuse)",
    )
    no_torch = "assert 'torch' not in sys.modules"
    *text, code = lines(started(tmp_path, {}, *listening, command("--dry-run", "own", "table3"), no_torch))
    assert code == "0"
    found = {view["displayName"]: view["spec"]["section"] for view in json.loads("\n".join(text))}
    assert found == views("own", "table3", "--runs", str(tmp_path / "runs"))


def test_what_is_saved_is_what_a_dry_run_prints_and_saving_again_replaces_it(tmp_path: Path, peer: Peer):
    save = command("smoke", "--project", "mine")
    printed = command("smoke", "--entity", "me", "--project", "mine", "--dry-run")
    *first, code = lines(started(tmp_path, peer.environ, save))
    assert code == "0"
    assert [line.rpartition("?nw=")[0] for line in first] == [
        f"smoke: {peer.url}/me/mine",
        f"failures: {peer.url}/me/mine",
    ]
    assert all(line.endswith(" (new)") for line in first)
    peer.views[0]["displayName"] = "what somebody called it in W&B"
    again = lines(
        started(tmp_path, peer.environ, save, command("smoke", "--project", "mine", "--name", "other"), printed)
    )
    # The same addresses, then two new views, then what --dry-run says of the first.
    assert again[:2] == [line.replace("(new)", "(replaced)") for line in first]
    assert all(line.endswith(" (new)") for line in again[3:5])
    assert {line.split()[1] for line in again[3:5]}.isdisjoint(line.split()[1] for line in first)
    specs = json.loads("\n".join(again[6:-1]))
    assert [view["displayName"] for view in peer.views] == [
        "strive: smoke",
        "strive: failures",
        "other: smoke",
        "other: failures",
    ]
    for view, expected in zip(peer.views, specs, strict=False):
        assert json.loads(view["spec"]) == expected["spec"]
        assert {key: view[f"{key}Name"] for key in ("entity", "project")} == {"entity": "me", "project": "mine"}


def test_a_project_that_is_not_there_is_made(tmp_path: Path, peer: Peer, monkeypatch: pytest.MonkeyPatch):
    made: list[dict[str, Any]] = []
    kept = operations.OPERATIONS["View"]
    monkeypatch.setitem(operations.OPERATIONS, "View", lambda *asked: kept(*asked) if made else {"project": None})
    monkeypatch.setitem(
        operations.OPERATIONS,
        "CreateProject",
        lambda store, variables, query: made.append(variables["input"]) or {"result": {"inserted": True}},
    )
    done = lines(started(tmp_path, peer.environ, command("smoke", "--project", "fresh")))
    assert [(each["name"], each["entityName"]) for each in made] == [("fresh", "me")]
    assert len(peer.views) == 2
    assert done[-1] == "0"


def refused(store: object, variables: object, query: str) -> dict[str, Any]:
    raise RefusedError("permission denied")


def test_an_entity_that_the_key_may_not_write_to_is_one_line(
    tmp_path: Path, peer: Peer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(operations.OPERATIONS, "View", lambda *asked: {"project": None})
    monkeypatch.setitem(operations.OPERATIONS, "CreateProject", refused)
    done = started(tmp_path, peer.environ, command("smoke", "--entity", "they", "--project", "mine"))
    assert done.stdout == "2\n"
    assert done.stderr.startswith("error: they/mine: ")
    assert "permission denied" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("no key", "`wandb login` asks for one, or set WANDB_API_KEY"),
        ("wrong key", "refuses the key: "),
        ("down", "does not answer"),
        ("silent", "does not answer"),
    ],
)
def test_what_keeps_w_and_b_from_taking_it_is_one_line_without_the_key(
    fault: str, said: str, tmp_path: Path, peer: Peer
):
    environ = peer.environ
    if fault == "no key":
        del environ["WANDB_API_KEY"]
    if fault == "wrong key":
        environ["WANDB_API_KEY"] = "local" + "9" * 40
    if fault == "down":
        peer.pause()
    if fault == "silent":
        peer.hang("UpsertView2", times=10, seconds=600)
    environ["WANDB_HTTP_TIMEOUT"] = "2"  # the user's own counts; without one it is ten seconds
    done = started(tmp_path, environ, command("smoke", "--project", "mine"))
    assert done.stdout == "2\n"
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert environ.get("WANDB_API_KEY", "local") not in done.stdout + done.stderr
