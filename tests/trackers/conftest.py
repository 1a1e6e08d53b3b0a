"""Every test here talks to the peer, never to W&B and never with the user's settings."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from wandb_peer import Peer

# The client waits two seconds before it sends something again. It takes whole seconds only, so a test waits one.
IMPATIENT = {f"WANDB__{layer}_RETRY_WAIT_MIN_SECONDS": "1" for layer in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER")}


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A W&B server of this test's own; an operation that it does not know fails the test."""
    with Peer() as mine:
        yield mine


@pytest.fixture
def client(peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Lead the genuine client to the peer, in this process and, by the returned environment, in others.

    The home is a folder of the test's own, so that no ~/.netrc, no settings and no cache of the user is touched.
    """
    for name in os.environ:
        if name.startswith(("WANDB_", "XDG_")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    # `wandb agent` starts `python`, which must be the one that has wandb.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    mine = {"HOME": str(home), "WANDB_DIR": str(tmp_path), "PATH": path, **IMPATIENT, **peer.environ}
    for name, value in mine.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    yield dict(os.environ)
    if wandb := sys.modules.get("wandb"):
        # The client keeps a process, and in it the server's address and the key, for all that comes later.
        wandb.teardown()
