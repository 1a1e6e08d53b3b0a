from pathlib import Path

from golden import Golden

from strive.results.load import load_sweep
from strive.tables.costs import cost_table
from strive.tables.summary import summarise_sweep


def rows(sweep: Golden) -> list[list[str]]:
    table = cost_table(summarise_sweep(load_sweep(sweep.file, [sweep.write()])))
    assert table is not None
    return [[entry.text for entry in row.entries] for row in table.rows]


def test_hours_are_summed_and_seconds_are_the_median_of_what_is_done(tmp_path: Path):
    sweep = Golden(tmp_path / "runs")
    for seed, seconds in enumerate((1800.0, 3600.0, 9000.0)):
        sweep.cell({"seed": seed}, 10.0, seconds=seconds, images_per_second=1000.0 + seed)
    sweep.cell({"seed": 3}, status="timeout", seconds=21600.0, images_per_second=1.0)
    # 0.5 + 1 + 2.5 hours, and 6 that led to nothing.
    assert rows(sweep) == [["all cells", "some processor", "4", "3,600", "1,001", "10.0"]]


def test_each_net_on_each_device_has_a_line_and_all_have_a_total(tmp_path: Path):
    sweep = Golden(tmp_path / "runs")
    for variant in ("base", "all_cnn"):
        for seed, device in enumerate(("GPU", "CPU")):
            sweep.cell({"model.variant": variant, "seed": seed}, 10.0, device=device, seconds=360.0)
    found = rows(sweep)
    assert [line[:2] for line in found] == [
        ["variant base", "GPU"],
        ["variant base", "CPU"],
        ["variant ALL-CNN", "GPU"],
        ["variant ALL-CNN", "CPU"],
        ["all", ""],
    ]
    assert found[-1] == ["all", "", "4", "", "", "0.400"]


def test_of_arms_each_has_a_line(tmp_path: Path):
    sweep = Golden(tmp_path / "runs")
    sweep.cell({}, 10.0, arm="baseline")
    sweep.cell({"model.batch_norm": True}, 10.0, arm="batch_norm")
    assert [line[0] for line in rows(sweep)] == ["baseline", "batch_norm", "all"]


def test_without_a_finished_cell_the_median_is_a_hole(tmp_path: Path):
    sweep = Golden(tmp_path / "runs")
    sweep.cell({}, status="timeout", seconds=7200.0)
    assert rows(sweep) == [["all cells", "some processor", "1", "none done", "none done", "2.00"]]


def test_cells_that_never_began_cost_nothing(tmp_path: Path):
    sweep = Golden(tmp_path / "runs")
    sweep.cell({})
    assert cost_table(summarise_sweep(load_sweep(sweep.file, [sweep.write()]))) is None


def test_nets_stand_in_the_order_of_the_table(tmp_path: Path):
    sweep = Golden(tmp_path / "runs", file="table3")
    for variant in ("strided", "base"):
        for base in "ba":
            sweep.cell({"model.base": base, "model.variant": variant}, 10.0)
    summary = summarise_sweep(load_sweep("table3", [sweep.write()]))
    table = cost_table(summary)
    assert table is not None
    assert [row.entries[0].text for row in table.rows[:-1]] == [condition.label for condition in summary.conditions]
