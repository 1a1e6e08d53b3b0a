from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from support import MakeConfig

from strive import sweep
from strive.complaint import CellsFailedError
from strive.config import Config, ConfigError


@pytest.fixture
def compose(make_small: MakeConfig):
    """Return a cell as the sweeper hands it over: its overrides, and Hydra's mapping."""

    def make(*overrides: str, **changes: object) -> tuple[str, DictConfig]:
        node = OmegaConf.structured(make_small(*overrides))
        OmegaConf.update(node, "seed", changes.get("seed", node.seed))
        return " ".join([*overrides, *map(str, changes.values())]), node

    return make


def test_cells_keep_their_order_and_a_repeated_one_comes_once(compose):
    cells = sweep.checked_cells([compose("seed=1"), compose("seed=0"), compose("seed=1", "trainer.threads=1")])
    assert [config.seed for _, config in cells] == [1, 0]


def test_every_wrong_cell_is_listed_with_its_overrides_and_none_is_trained(compose, make_small: MakeConfig):
    grid = [compose(), compose(seed=-1), compose("data.val_images=1397"), compose("data.val_images=1397", "seed=5")]
    with pytest.raises(ConfigError) as caught:
        sweep.checked_cells(grid)
    text = str(caught.value)
    assert text.startswith("3 of 4 cells cannot train; nothing was started")
    assert "seed must be 0 or more, got -1" in text
    assert "data.val_images=1397 leaves no training images" in text
    assert "in: data.val_images=1397 and 1 more" in text
    assert not Path(make_small().runs).exists()


def test_the_same_net_on_the_same_data_is_built_once(compose, monkeypatch: pytest.MonkeyPatch):
    built: list[Config] = []
    original = sweep.check_cell
    monkeypatch.setattr(sweep, "check_cell", lambda config: built.append(config) or original(config))
    sweep.checked_cells([compose(f"seed={seed}", f"optimizer.lr={lr}") for seed in (0, 1) for lr in (0.1, 0.2)])
    assert len(built) == 1
    sweep.checked_cells([compose("model=model_a"), compose("model=model_b")])
    assert len(built) == 3


def test_a_fault_of_the_program_is_not_taken_for_the_users(compose, monkeypatch: pytest.MonkeyPatch):
    def broken(config: Config) -> int:
        raise RuntimeError("bug")

    monkeypatch.setattr(sweep, "check_cell", broken)
    with pytest.raises(RuntimeError, match="bug"):
        sweep.checked_cells([compose()])


def test_the_report_shows_a_cell_without_record_as_missing(make_small: MakeConfig, capfd: pytest.CaptureFixture[str]):
    with pytest.raises(CellsFailedError, match="1 of 1 cells have no result"):
        sweep.report([("", make_small())])
    assert "missing" in capfd.readouterr().out


def test_the_report_fits_on_a_terminal_of_80_columns(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLUMNS", "80")
    nets = ("convpool_cnn_c", "all_cnn_a")
    grid = [make_small(f"model={net}", f"augment={kind}") for net in nets for kind in ("none", "flip_shift")]
    with pytest.raises(CellsFailedError):
        sweep.report([("", config) for config in grid])
    lines = capfd.readouterr().out.splitlines()
    assert "data digits  lr 0.05  seed 0" in lines[0]
    (header,) = (line for line in lines if line.split()[:1] == ["net"])
    assert header.split() == ["net", "augment", "parameters", "test", "error", "seconds", "status"]
    assert sum(line.split()[:2] == ["convpool_cnn_c", "flip_shift"] for line in lines if line.strip()) == 1
    assert not any("…" in line for line in lines)


def test_checking_a_grid_leaves_torchs_generator_alone(compose):
    before = torch.get_rng_state()
    sweep.checked_cells([compose()])
    assert torch.get_rng_state().equal(before)
