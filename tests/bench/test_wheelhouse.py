import runpy
import subprocess
import sys

import pytest
from support import ROOT

wheelhouse = runpy.run_path(str(ROOT / "tools" / "wheelhouse.py"))
needed, provided = wheelhouse["needed"], wheelhouse["PROVIDED"]


def test_the_wheels_are_what_strive_needs_and_torch_does_not_bring():
    names = set(needed("3.12", "x86_64", provided))
    # hydra and omegaconf need antlr4, rich needs markdown-it-py, which needs mdurl; and so on.
    assert {"hydra-core", "omegaconf", "antlr4-python3-runtime", "rich", "markdown-it-py", "mdurl"} <= names
    assert {
        "submitit",
        "cloudpickle",
        "pyyaml",
        "filelock",
        "platformdirs",
        "scikit-learn",
        "joblib",
        "pytest",
    } <= names
    assert not names & {"strive", "torch", "torchvision", "numpy", "scipy", "pandas", "wandb", "matplotlib", "sympy"}


def test_what_else_is_there_is_left_out_with_what_it_alone_needs():
    names = needed("3.12", "x86_64", provided | {"scikit-learn"})
    assert not {"scikit-learn", "joblib", "narwhals"} & set(names)
    assert "threadpoolctl" in names  # strive needs it itself


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_wheel_has_a_locked_version(python: str):
    assert set(needed(python, "x86_64", provided)) <= set(wheelhouse["locked"]())


@pytest.mark.slow
def test_the_checks_for_a_gpu_are_collected_with_nothing_but_the_wheels():
    absent = sorted(wheelhouse["NOT_TO_TRAIN"])
    code = f"import pytest, sys; sys.modules.update(dict.fromkeys({absent})); sys.exit(pytest.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "--collect-only", "-q", "tests/gpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
