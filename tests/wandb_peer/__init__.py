"""A peer for the genuine wandb client on loopback: what W&B's server would keep of runs, files, artifacts and sweeps.

This is not W&B's server and never talked to it. What it answers was found by watching the genuine client 0.31.0,
so a test against it says what the client sends and how our code takes an answer, not how wandb.ai behaves.

An operation that the peer does not know is an error for the client, is noted in `Peer.unknown`, and fails the test
that used the peer. For a look by hand: `python tests/wandb_peer PORT`.
"""

from wandb_peer.peer import Peer
from wandb_peer.store import PeerArtifact, PeerRun

__all__ = ["Peer", "PeerArtifact", "PeerRun"]
