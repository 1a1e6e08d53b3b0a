from collections.abc import Callable
from pathlib import Path

import pytest
from golden import Golden

MakeGolden = Callable[..., Golden]


@pytest.fixture(autouse=True)
def _own_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index of records goes where the test ends, not into the user's cache."""
    monkeypatch.setenv("STRIVE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def golden(tmp_path: Path) -> MakeGolden:
    """A sweep to be written by hand below runs/."""
    return lambda **fields: Golden(tmp_path / "runs", **fields)
