import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import NO_BF16, NO_GPU, ROOT

TESTS = f"""
import pytest

def test_without_a_program():
    pytest.skip("latex is not installed")

@pytest.mark.skipif(True, reason="{NO_GPU}")
def test_on_a_gpu():
    pass

@pytest.mark.skipif(True, reason="{NO_BF16}")
def test_in_bf16():
    pass
"""


@pytest.mark.parametrize(("ci", "counts"), [("1", "1 failed, 2 skipped"), ("", "3 skipped")])
def test_in_ci_a_test_is_skipped_for_want_of_hardware_alone(tmp_path: Path, ci: str, counts: str):
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(tmp_path)],
        env=os.environ | {"CI": ci, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert counts in done.stdout
    assert ("skipped in CI, where nothing may be missing: latex is not installed" in done.stdout) == bool(ci)
