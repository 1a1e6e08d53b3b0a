"""The tests of foreign apps, on versions of Hydra that pip would not choose here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

# The oldest that is supported, and the newest that is to come. What they need besides is here already.
VERSIONS = {
    "1.3.2": ("hydra-core==1.3.2",),
    "1.4.0rc3": ("hydra-core==1.4.0rc3", "omegaconf==2.4.1rc1"),
}
TESTS = (
    "tests/hydra_app/test_frozen.py",
    "tests/hydra_app/test_hydra_compose.py",
    "tests/hydra_app/test_logistics.py",
    "tests/end_to_end/test_any_app.py::test_a_typed_package_with_experiments_and_a_spawn_pool_runs_as_in_hydra",
    "tests/end_to_end/test_any_app.py::test_a_sweep_file_of_the_apps_own_conf_and_one_by_its_path",
)


@pytest.mark.parametrize("version", VERSIONS)
def test_any_app_runs_as_in_this_hydra(version: str, tmp_path: Path):
    place = tmp_path / "packages"
    install = ("install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target", str(place))
    fetched = subprocess.run(
        [sys.executable, "-m", "pip", *install, *VERSIONS[version]], capture_output=True, text=True, timeout=300
    )
    assert fetched.returncode == 0, f"{fetched.stderr}\nthis test needs a package registry that pip reaches"
    lean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    # 1.4 warns of what apps for 1.3 do, such as version_base.
    environment = lean | {"PYTHONPATH": str(place), "PYTHONWARNINGS": "ignore"}
    said = subprocess.run(
        [sys.executable, "-c", "import hydra; print(hydra.__version__)"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert said.stdout.strip() == version
    options = ("-q", "-x", "-p", "no:cacheprovider", "-W", "ignore")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *TESTS], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
