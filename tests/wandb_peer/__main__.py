"""The peer standing alone: `python tests/wandb_peer PORT`."""

import sys
import time
from pathlib import Path


def main() -> None:
    """Say how a client finds the peer, and be there until Ctrl-C."""
    # Started as a folder, Python finds the files in it, but not the package that they make.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from wandb_peer import Peer

    with Peer(port=int(sys.argv[1]) if sys.argv[1:] else 0) as peer:
        try:
            print("".join(f"export {name}={value}\n" for name, value in peer.environ.items()), end="", flush=True)
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            print(f"{len(peer.runs)} runs, {peer.operations.total()} operations, not known: {peer.unknown}")


if __name__ == "__main__":
    main()
