import errno

import pytest

from strive.config.error_text import complaint
from strive.errors import ExternalError


def test_a_disks_trouble_is_told_in_one_line_with_its_place():
    text = complaint(OSError(errno.ENOSPC, "No space left on device", "runs/x/record.json"))
    assert text is not None
    assert text.startswith("runs/x/record.json: No space left on device; ")
    assert "\n" not in text


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "No such file"), OSError("odd"), RuntimeError("x")])
def test_what_may_be_our_own_fault_keeps_its_stack_trace(error: Exception):
    assert complaint(error) is None


def test_a_clusters_trouble_is_told_as_it_is():
    assert complaint(ExternalError("sbatch says no")) == "sbatch says no"
