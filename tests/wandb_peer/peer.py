"""The peer as tests hold it."""

from collections import Counter
from types import TracebackType
from typing import Any, Self

from wandb_peer.faults import Fault, Faults
from wandb_peer.server import Server
from wandb_peer.store import ENTITY, PeerArtifact, PeerRun, Store


class Peer:
    """A W&B server of this test's own, on a free port of loopback; what it keeps outlives `pause`."""

    entity = ENTITY
    key = "local" + "0123456789" * 4  # every other key is answered with 401

    def __init__(self, port: int = 0) -> None:
        self.store = Store()
        self.operations: Counter[str] = Counter()  # how often each operation of GraphQL was asked for
        self.unknown: list[str] = []  # what the peer could not answer; empty, or the test fails
        self._faults = Faults()
        self._server: Server | None = None
        self._port = port
        self.resume()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def environ(self) -> dict[str, str]:
        """What leads a client here, and nowhere else."""
        return {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": self.key,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_SILENT": "true",
        }

    @property
    def runs(self) -> dict[str, PeerRun]:
        """The W&B runs of all projects, by their ids."""
        return {run.id: run for run in self.store.runs.values()}

    @property
    def artifacts(self) -> list[PeerArtifact]:
        """Every version of every artifact, the oldest first."""
        return self.store.artifacts

    @property
    def views(self) -> list[dict[str, Any]]:
        """The saved workspaces, as the client sent them."""
        return self.store.views

    def fail(self, pattern: str, status: int, times: int = 1) -> None:
        """Answer the next `times` requests with an HTTP status; the pattern is searched in "PATH BODY-START"."""
        self._faults.add(Fault(pattern, times, status=status))

    def drop(self, pattern: str, times: int = 1) -> None:
        """Close the connection of the next `times` requests without an answer."""
        self._faults.add(Fault(pattern, times, drop=True))

    def hang(self, pattern: str, times: int = 1, seconds: float = 1) -> None:
        """Answer the next `times` requests so much later."""
        self._faults.add(Fault(pattern, times, seconds=seconds))

    def forgive(self) -> None:
        """Do none of what `fail`, `drop` and `hang` have asked for any more."""
        self._faults.clear()

    def pause(self) -> None:
        """Be gone: connections break off, new ones are refused."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def resume(self) -> None:
        """Be there again, on the same port and with everything that was kept."""
        if self._server is None:
            self._server = Server(self._port, self.key, self.store, self._faults, self.operations, self.unknown)
            self._port = self._server.server_address[1]
            self.store.url = self.url

    def close(self) -> None:
        """Be gone for good."""
        self.pause()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        if self.unknown:
            said = f"the W&B peer could not answer: {', '.join(self.unknown)}"
            if error is None:
                raise AssertionError(said)
            error.add_note(said)
