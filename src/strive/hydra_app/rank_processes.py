"""Starts the further processes of a cell, with the environment that torchrun gives to ranks."""

import json
import os
import socket
import subprocess
import sys

from strive.cells.ranks import LINK, Ranks
from strive.cells.surroundings import GIVEN, given

_ADDRESS = "127.0.0.1"
_held: list[socket.socket] = []


def start_ranks(ranks: Ranks, count: int) -> None:
    """Make this process rank 0 of so many, and start the others; they wait for their cell."""
    if count == 1:
        return
    shared = _environment(count)
    os.environ |= shared | _of_rank(0)
    # -P: do not import a file select.py or random.py in the current directory.
    program = [sys.executable, "-P", "-X", "faulthandler", "-m", "strive.hydra_app.rank"]
    for rank in range(1, count):
        environment = os.environ | _of_rank(rank) | {LINK: ranks.address}
        ranks.add(rank, subprocess.Popen(program, stdin=subprocess.DEVNULL, env=environment))


def _environment(count: int) -> dict[str, str]:
    """Return what is equal for all ranks."""
    number, port = str(count), str(_free_port())
    return {
        "WORLD_SIZE": number,
        "LOCAL_WORLD_SIZE": number,
        "ROLE_WORLD_SIZE": number,
        "GROUP_WORLD_SIZE": "1",
        "GROUP_RANK": "0",
        "ROLE_NAME": "default",
        "MASTER_ADDR": _ADDRESS,
        "MASTER_PORT": port,
        # By this one frameworks know that they are not to start ranks themselves.
        "TORCHELASTIC_RUN_ID": f"strive-{port}",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        GIVEN: json.dumps(given() | {"processes": count}),
    }


def _of_rank(rank: int) -> dict[str, str]:
    return dict.fromkeys(("RANK", "LOCAL_RANK", "ROLE_RANK"), str(rank))


def _free_port() -> int:
    """Return a port for rank 0 to listen on.

    It stays bound in this process, so that no other program gets it before; with SO_REUSEADDR, as rank 0 binds it, too,
    that is no obstacle, because nothing listens here.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((_ADDRESS, 0))
    _held.append(held)
    return int(held.getsockname()[1])
