import dataclasses
import json
from pathlib import Path

import msgspec
from support import ROOT, MakeConfig

from allcnn.labels import labels
from strive.app import in_use
from strive.cells.records import Status
from strive.config import identity
from strive.sweeps.plan import Action, Plan, Planned, write_plan
from strive.trackers.cell_files import CellFiles, read_cell_files
from strive.trackers.naming import CONFIG_KEYS, label_of, summary_of, tag

RESULTS = ROOT / "results" / "table3_small"


def files_of(make_config: MakeConfig, *overrides: str) -> CellFiles:
    config = make_config(*overrides)
    return CellFiles(
        cell=identity.cell_id(config), folder=Path("x"), config=in_use().flat(config), epochs=[], owner=None,
        record=None, record_text="",
    )  # fmt: skip


def planned(runs: Path, name: str, make_config: MakeConfig, *cells: tuple[str, list[str]]) -> None:
    configs = [(arm, make_config(*overrides)) for arm, overrides in cells]
    cells_ = [
        Planned(cell=identity.cell_id(config), arm=arm, config=config, action=Action.train, reason="", code="")
        for arm, config in configs
    ]
    write_plan(Plan(sweep=name, file=name, changes=[], question="?", runs=runs, code="", cells=cells_))


def test_a_single_cell_has_no_group_and_its_factors_flat(tmp_path: Path, make_config: MakeConfig):
    label = label_of(files_of(make_config, "model=strided_cnn_b", "augment=flip_shift"), tmp_path)
    assert label.group == ""
    assert label.tags == ["base:b", "variant:strided", "augmentation:flip_shift", "dataset:cifar10"]
    flat = {key: label.config[key] for key in (*CONFIG_KEYS, *labels().flat.values())}
    assert flat == {
        "net": "strided_cnn_b", "base": "b", "variant": "strided", "augmentation": "flip_shift",
        "dataset": "cifar10", "lr": 0.05, "seed": 0, "sweep": "", "arm": "", "arms": {},
    }  # fmt: skip


def test_the_whole_config_stands_below_one_key_that_no_w_and_b_sweep_can_lock(tmp_path: Path, make_config: MakeConfig):
    label = label_of(files_of(make_config, "optimizer.lr=0.1"), tmp_path)
    assert label.config["cell"]["optimizer"]["lr"] == 0.1
    assert label.config["cell"]["model"]["base"] == "c"
    groups = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()}
    assert not groups & label.config.keys()


def test_other_factors_of_a_sweep_are_flat_too_and_tell_its_cells_apart(tmp_path: Path, make_config: MakeConfig):
    values = [["optimizer.weight_decay=0.001"], ["optimizer.weight_decay=0.002"]]
    planned(tmp_path, "decay", make_config, *(("", each) for each in values))
    labels = [label_of(files_of(make_config, *each), tmp_path) for each in values]
    assert [label.config["weight_decay"] for label in labels] == [0.001, 0.002]
    assert labels[0].name == "all_cnn_c-cifar10-none-lr0.05-s0 weight_decay=0.001"
    assert labels[0].name != labels[1].name


def test_what_a_sweep_varies_is_a_tag_with_its_key_but_the_seed(tmp_path: Path, make_config: MakeConfig):
    values = [["optimizer.weight_decay=0", "optimizer.lr=0.1"], ["optimizer.weight_decay=0.001", "seed=1"]]
    planned(tmp_path, "decay", make_config, *((f"arm{n}", each) for n, each in enumerate(values)))
    tags = label_of(files_of(make_config, *values[0]), tmp_path).tags
    assert {"weight_decay:0.0", "lr:0.1", "arm:arm0", "sweep:decay"} <= set(tags)
    assert not any(each.startswith("seed") for each in tags)


def test_a_long_tag_keeps_its_key_and_what_tells_its_value_from_others():
    first, second = (tag("data.root", f"/scratch/{'long/' * 20}{name}") for name in ("a", "b"))
    assert first != second
    assert {len(first), len(second)} == {64}
    assert first.startswith("data.root:/scratch/long/")
    assert tag("k" * 64, "v") == ""  # W&B refuses the whole list for one tag too long
    assert tag("k" * 62, "v") == "k" * 62 + ":v"


def test_a_diverged_cell_has_it_as_a_tag_and_no_other_cell_has(tmp_path: Path, make_config: MakeConfig):
    folder = next(path.parent for path in sorted(RESULTS.glob("*/record.json")))
    files = read_cell_files(folder)
    assert files is not None
    assert files.record is not None
    assert not any("status" in each for each in label_of(files, tmp_path).tags)
    diverged = dataclasses.replace(files, record=msgspec.structs.replace(files.record, status=Status.diverged))
    assert "status:diverged" in label_of(diverged, tmp_path).tags
    assert summary_of(diverged)["status"] == "diverged"


def test_a_factor_whose_last_word_two_knobs_have_keeps_its_group(tmp_path: Path, make_config: MakeConfig):
    planned(tmp_path, "kinds", make_config, ("", ["preprocess=gcn_zca"]), ("", ["preprocess=standardize"]))
    label = label_of(files_of(make_config, "preprocess=standardize"), tmp_path)
    assert label.config["preprocess_kind"] == "standardize"


def test_an_argument_of_a_builder_is_flat_and_never_takes_the_key_of_a_knob(tmp_path: Path, make_config: MakeConfig):
    custom = ["model=extra/custom", "model.builder=nets:net"]
    values = [[*custom, f"+model.kwargs={{channels: {n}, width: {n}, norm: {{eps: {n}}}}}"] for n in (3, 5)]
    planned(tmp_path, "own", make_config, *(("", each) for each in values))
    config = label_of(files_of(make_config, *values[0]), tmp_path).config
    assert (config["channels"], config["model_kwargs_width"], config["norm_eps"]) == (3, 3, 3)
    assert "width" not in config


def test_a_cell_of_two_sweeps_has_both_as_tags_and_stays_in_its_group(tmp_path: Path, make_config: MakeConfig):
    for name in ("second", "first"):
        planned(tmp_path, name, make_config, ("", []), ("", ["seed=1"]))
    files = files_of(make_config)
    assert label_of(files, tmp_path).group == "first"
    assert label_of(files, tmp_path, group="second").group == "second"
    assert label_of(files, tmp_path, group="deleted").group == "first"
    assert set(label_of(files, tmp_path).tags) >= {"sweep:first", "sweep:second"}


def test_an_arm_is_what_the_cell_is_called(tmp_path: Path, make_config: MakeConfig):
    planned(tmp_path, "arms", make_config, ("with decay", []), ("without", ["optimizer.weight_decay=0"]))
    label = label_of(files_of(make_config), tmp_path)
    assert label.config["arm"] == "with decay"
    assert label.config["arms"] == {"arms": "with decay"}
    assert label.name.endswith(" with decay")


def test_a_custom_net_has_no_base_and_no_variant(tmp_path: Path, make_config: MakeConfig):
    label = label_of(files_of(make_config, "model=extra/custom", "model.builder=my.nets:small"), tmp_path)
    assert label.config["net"] == "small"
    assert not {"base", "variant"} & label.config.keys()


def test_plans_are_read_again_when_they_change(tmp_path: Path, make_config: MakeConfig):
    files = files_of(make_config)
    assert label_of(files, tmp_path).config["arms"] == {}
    planned(tmp_path, "one", make_config, ("", []))
    assert label_of(files, tmp_path).config["arms"] == {"one": ""}
    (tmp_path / "sweeps" / "one" / "plan.json").write_text("damaged")
    assert label_of(files, tmp_path).config["arms"] == {}


def test_the_summary_of_a_finished_cell_holds_its_record_and_its_best_epoch():
    folder = next(path.parent for path in sorted(RESULTS.glob("*/record.json")))
    files = read_cell_files(folder)
    assert files is not None
    assert files.record is not None
    summary = summary_of(files)
    assert summary["record"] == (folder / "record.json").read_text()
    assert summary["test_error"] == files.record.metrics["test_error"]
    assert summary["status"] == "done"
    assert summary["peak_memory_gb"] == round(files.record.provenance.peak_memory_bytes / 1e9, 3)
    errors = {row["epoch"]: row["val_error"] for row in files.rows(0)}
    assert summary["best_val_error"] == min(errors.values())
    assert errors[summary["best_val_error_epoch"]] == summary["best_val_error"]


def test_the_earliest_of_equally_good_epochs_is_the_best(make_config: MakeConfig):
    lines = [json.dumps({"step": n, "val_error": error}) for n, error in ((1, 0.5), (2, 0.25), (3, 0.25))]
    summary = summary_of(dataclasses.replace(files_of(make_config), epochs=lines))
    assert (summary["best_val_error"], summary["best_val_error_epoch"]) == (0.25, 2)


def test_a_cell_that_has_not_ended_has_neither_record_nor_test_error(make_config: MakeConfig):
    assert summary_of(files_of(make_config)) == {"status": "stopped"}
