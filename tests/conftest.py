import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import Golden, MakeGolden
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from support import NO_BF16, NO_GPU, ROOT, SMALL, CommandLine, MakeConfig, MakePlan

from allcnn.config import Config
from allcnn.training.compile import compiled_code_folder
from strive.config.schema import to_config
from strive.errors import ConfigError
from strive.hydra_app.typed_compose import TypedComposer
from strive.sweeps.compose import Composer
from strive.sweeps.plan import Plan
from strive.sweeps.planner import Planner
from strive.sweeps.sweep_file import Sweep, parse_sweep, read_sweep

# No test but those of tests/trackers shows anything on W&B; what tests start inherits this.
os.environ["WANDB_MODE"] = "disabled"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[pytest.TestReport]:
    """In CI nothing is skipped but for want of a GPU or of bf16: `make ci` installs the rest."""
    report: pytest.TestReport = yield
    if report.skipped and os.environ.get("CI") and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if reason not in (NO_GPU, NO_BF16):
            report.outcome, report.longrepr = "failed", f"skipped in CI, where nothing may be missing: {reason}"
    return report


# A shell ignores Ctrl-C on behalf of what it starts in the background, nohup the end of a terminal, and so would every
# process that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # Bits depend on the thread count, and two test processes share two cores.
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    # One for the whole session, whitening digits takes seconds; never the user's.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRIVE_CACHE", str(tmp_path_factory.getbasetemp().parent / "strive-cache"))
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(compiled_code_folder()))
        yield


@pytest.fixture
def make_config(tmp_path: Path) -> MakeConfig:
    """Compose conf/ as the command line would."""

    def make(*overrides: str) -> Config:
        ConfigStore.instance().store(name="schema", node=Config)
        # Hydra keeps one global; a test that failed in between must not break the next.
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return to_config(compose("config", [f"runs={tmp_path / 'runs'}", *overrides]))

    return make


@pytest.fixture
def make_small(make_config: MakeConfig) -> MakeConfig:
    return lambda *overrides: make_config(*SMALL, *overrides)


@pytest.fixture
def strive(tmp_path: Path) -> CommandLine:
    """Run src/run.py from an empty folder, as a user would."""

    def run(*arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "src" / "run.py"), *arguments],
            cwd=tmp_path,
            env=os.environ | {"COLUMNS": "160", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture
def composer() -> Iterator[Composer]:
    """Hydra's composition of conf/, as the sweeper has it."""
    ConfigStore.instance().store(name="schema", node=Config)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", [], RunMode.MULTIRUN)
        yield TypedComposer(loader, master)


@pytest.fixture
def make_plan(composer: Composer, tmp_path: Path) -> MakePlan:
    """Plan small cells on digits; `sweeps` are sweep files by name, the first is the one to plan."""

    def make(*arguments: str, sweeps: Mapping[str, Any] | None = None, **options: object) -> Plan:
        files: dict[str, Sweep] = {
            name: parse_sweep(name, content) if isinstance(content, str) else read_sweep(name, content)
            for name, content in (sweeps or {}).items()
        }

        def read(name: str) -> Sweep:
            if name not in files:
                raise ConfigError(f"sweeps={name}: there is no sweeps/{name}.yaml")
            return files[name]

        planner = Planner(composer, read, **options)  # type: ignore[arg-type]
        first = next(iter(files.values())) if files else None
        return planner.plan([*SMALL, f"runs={tmp_path / 'runs'}", *arguments], first)

    return make


@pytest.fixture
def golden(tmp_path: Path) -> MakeGolden:
    """A sweep to be written by hand below runs/."""
    return lambda **fields: Golden(tmp_path / "runs", **fields)
