from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from support import MakeConfig

from strive import sweep
from strive.complaint import CellsFailedError
from strive.config import Config, ConfigError
from strive.records import Record


@pytest.fixture
def compose(make_small: MakeConfig):
    """Return a cell as the sweeper hands it over: its overrides, and Hydra's mapping."""

    def make(*cells: tuple[str, ...], **changes: object) -> dict[str, Callable[[], DictConfig]]:
        def node(overrides: tuple[str, ...]) -> DictConfig:
            wrong = [text for text in overrides if text in ("seed=-1", "budget.epochs=0")]
            composed = OmegaConf.structured(make_small(*(text for text in overrides if text not in wrong)))
            for text in wrong:
                key, _, value = text.partition("=")
                OmegaConf.update(composed, key, int(value))
            return composed

        return {" ".join(overrides): partial(node, overrides) for overrides in cells}

    return make


def test_cells_keep_their_order_and_a_repeated_one_comes_once(compose):
    cells = sweep.checked_cells(compose(("seed=1",), ("seed=0",), ("seed=1", "trainer.threads=1")))
    assert [config.seed for config in cells] == [1, 0]


def test_every_wrong_cell_is_listed_with_its_overrides_and_none_is_trained(compose, make_small: MakeConfig):
    too_many = "data.val_images=1397"
    grid = compose((), ("seed=-1",), (too_many,), (too_many, "seed=5"), ("budget.epochs=0",))
    with pytest.raises(ConfigError) as caught:
        sweep.checked_cells(grid)
    text = str(caught.value)
    assert text.startswith("4 of 5 cells cannot train; nothing was started")
    assert "seed must be 0 or more, got -1" in text
    assert "budget.epochs must be 1 or more, got 0" in text
    assert "data.val_images=1397 leaves no training images" in text
    assert "in: data.val_images=1397 and 1 more" in text
    assert not Path(make_small().runs).exists()


def test_a_cell_that_hydra_cannot_compose_is_listed_with_the_others(compose):
    def broken() -> DictConfig:
        raise HydraException("Could not find 'model/resnet'")

    with pytest.raises(ConfigError) as caught:
        sweep.checked_cells({**compose(("seed=-1",)), "model=resnet": broken})
    assert "Could not find 'model/resnet'" in str(caught.value)
    assert "seed must be 0 or more" in str(caught.value)


def test_the_same_net_on_the_same_data_is_built_once(compose, monkeypatch: pytest.MonkeyPatch):
    built: list[Config] = []
    original = sweep.check_cell
    monkeypatch.setattr(sweep, "check_cell", lambda config: built.append(config) or original(config))
    sweep.checked_cells(compose(*((f"seed={seed}", f"optimizer.lr={lr}") for seed in (0, 1) for lr in (0.1, 0.2))))
    assert len(built) == 1
    sweep.checked_cells(compose(("model=model_a",), ("model=model_b",)))
    assert len(built) == 3


def test_a_net_is_checked_again_where_preprocessing_or_device_differ(compose, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"trainer\.device=cuda, but torch sees no CUDA GPU"):
        sweep.checked_cells(compose((), ("trainer.device=cuda", "seed=1")))
    checked: list[Config] = []
    monkeypatch.setattr(sweep, "check_cell", checked.append)
    sweep.checked_cells(compose((), ("preprocess=gcn_zca",)))
    assert len(checked) == 2


@pytest.mark.parametrize("key", ["runs", "data.root"])
def test_a_grid_over_what_is_not_in_the_id_is_refused(compose, key: str, tmp_path: Path):
    with pytest.raises(ConfigError, match="give one and the same cell all_cnn_c-digits"):
        sweep.checked_cells(compose((f"{key}={tmp_path}/one",), (f"{key}={tmp_path}/two",)))


def test_a_fault_of_the_program_is_not_taken_for_the_users(compose, monkeypatch: pytest.MonkeyPatch):
    def broken(config: Config) -> int:
        raise RuntimeError("bug")

    monkeypatch.setattr(sweep, "check_cell", broken)
    with pytest.raises(RuntimeError, match="bug"):
        sweep.checked_cells(compose(()))


def test_one_cells_trouble_does_not_cost_the_others_and_its_real_cause_is_reported(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    original = sweep.run_cell
    troubles = {0: ConfigError("3.png is not a readable image"), 1: OSError(28, "No space left on device")}

    def run(config: Config) -> Record:
        if config.seed in troubles:
            raise troubles[config.seed]
        return original(config)

    monkeypatch.setattr(sweep, "run_cell", run)
    cells = [make_small(f"seed={seed}") for seed in range(3)]
    causes = sweep.train_missing(cells)
    with pytest.raises(CellsFailedError) as caught:
        sweep.report(cells, causes)
    assert "2 of 3 cells have no result" in str(caught.value)
    assert "3.png is not a readable image" in str(caught.value)
    # A fault of the program's keeps its stack trace.
    assert "Traceback" in str(caught.value)
    assert "No space left on device" in str(caught.value)
    shown = capfd.readouterr()
    assert shown.out.count("no result") == 2
    assert "[3/3] all_cnn_c-digits" in shown.err


def test_the_report_fits_on_a_terminal_of_80_columns(
    make_small: MakeConfig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLUMNS", "80")
    nets = ("convpool_cnn_c", "all_cnn_a")
    grid = [make_small(f"model={net}", f"augment={kind}") for net in nets for kind in ("none", "flip_shift")]
    with pytest.raises(CellsFailedError):
        sweep.report(grid, {})
    lines = capfd.readouterr().out.splitlines()
    assert "data digits  lr 0.05  seed 0" in lines[0]
    (header,) = (line for line in lines if line.split()[:1] == ["net"])
    assert header.split() == ["net", "augment", "parameters", "test", "error", "seconds", "status"]
    assert sum(line.split()[:2] == ["convpool_cnn_c", "flip_shift"] for line in lines if line.strip()) == 1
    assert not any("…" in line for line in lines)


def test_checking_a_grid_leaves_torchs_generator_alone(compose):
    before = torch.get_rng_state()
    sweep.checked_cells(compose(()))
    assert torch.get_rng_state().equal(before)
