"""What the peer remembers."""

import base64
import datetime
import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

ENTITY = "me"


class RefusedError(Exception):
    """What the server answers as an error: a part of the protocol, not a gap of the peer."""

    def __init__(self, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.status = status  # HTTP's; W&B answers most errors of GraphQL with 200


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


@dataclass(eq=False)
class PeerRun:
    """One W&B run. Each attribute that tests look at is plain data."""

    id: str
    entity: str
    project: str
    number: int  # 0, 1, ... in the order of creation
    name: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
    commit: str | None = None
    sweep: str | None = None
    state: str = "running"
    resumed: int = 0  # how often it was opened again
    opening: bool = False  # a client asked how far it got, and will open it next
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    system: list[dict[str, Any]] = field(default_factory=list)
    console: dict[int, str] = field(default_factory=dict)  # lines by number
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None
    preempting: bool = False
    stop: bool = False  # asked to end, as by the button in W&B's pages
    wire_config: dict[str, Any] = field(default_factory=dict)  # {key: {"value": ...}} and W&B's own `_wandb`
    created: datetime.datetime = field(default_factory=now)
    heartbeat: datetime.datetime = field(default_factory=now)

    @property
    def config(self) -> dict[str, Any]:
        """The config as the user wrote it."""
        return {key: unwrap(entry) for key, entry in self.wire_config.items() if key != "_wandb"}

    @property
    def storage_id(self) -> str:
        """The server's own name of the run, by which it is changed and deleted."""
        return base64.b64encode(f"Run:v1:{self.id}:{self.project}:{self.entity}".encode()).decode()

    def node(self) -> dict[str, Any]:
        """Return the run with every field that any query asks for; clients ignore the others."""
        user = {"name": self.entity, "username": self.entity}
        return {
            "id": self.storage_id,
            "projectId": "1",
            "project": {"id": "1", "name": self.project, "entity": {"id": "1", "name": self.entity}},
            "name": self.id,
            "displayName": self.name,
            "group": self.group,
            "jobType": self.job_type,
            "tags": self.tags,
            "notes": self.notes,
            "description": None,
            "commit": self.commit,
            "sweepName": self.sweep,
            "state": self.state,
            "stopped": self.stop,
            "readOnly": False,
            "user": user,
            "createdAt": stamp(self.created),
            "heartbeatAt": stamp(self.heartbeat),
            "config": json.dumps(self.wire_config),
            "summaryMetrics": json.dumps(self.summary),
            "systemMetrics": json.dumps(self.system[-1] if self.system else {}),
            "historyLineCount": len(self.history),
            "eventsLineCount": len(self.system),
            "logLineCount": len(self.console),
            "historyTail": _tail(self.history),
            "eventsTail": _tail(self.system),
            "wandbConfig": json.dumps({"t": unwrap(self.wire_config.get("_wandb", {})).get("t", 1)}),
            "historyKeys": self._history_keys(),
            "fileCount": len(self.files),
        }

    def _history_keys(self) -> dict[str, Any]:
        counts: dict[str, int] = {}
        for row in self.history:
            for key in row:
                counts[key] = counts.get(key, 0) + 1
        last = max((row.get("_step", -1) for row in self.history), default=-1)
        return {"lastStep": last, "keys": {key: {"typeCounts": [{"count": n}]} for key, n in counts.items()}}


@dataclass(eq=False)
class PeerArtifact:
    """One version of an artifact."""

    id: str
    entity: str
    project: str
    run: str  # id of the run that logged it
    type: str
    name: str
    version: int
    digest: str
    aliases: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    state: str = "PENDING"
    created: datetime.datetime = field(default_factory=now)
    files: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Store:
    """Everything that clients brought, in memory; the lock is held through each request."""

    url: str = ""
    runs: dict[tuple[str, str, str], PeerRun] = field(default_factory=dict)  # by entity, project, id
    deleted: set[tuple[str, str, str]] = field(default_factory=set)
    projects: set[tuple[str, str]] = field(default_factory=set)  # by entity and name
    artifacts: list[PeerArtifact] = field(default_factory=list)
    views: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    sweeps: dict[str, Any] = field(default_factory=dict)  # sweeping.Sweep by id
    agents: dict[str, str] = field(default_factory=dict)  # sweep id by agent id
    lock: threading.RLock = field(default_factory=threading.RLock)

    def run(self, entity: str | None, project: str | None, run: str) -> PeerRun | None:
        return self.runs.get((entity or ENTITY, project or "uncategorized", run))

    def run_by_storage_id(self, storage_id: str) -> PeerRun:
        for run in self.runs.values():
            if run.storage_id == storage_id:
                return run
        raise RefusedError(f"no run has the storage id {storage_id}")

    def place(self, entity: str | None, project: str | None) -> tuple[str, str]:
        """Return the entity and project that a request means, which is there from now on."""
        meant = (entity or ENTITY, project or "uncategorized")
        self.projects.add(meant)
        return meant

    def in_project(self, entity: str | None, project: str) -> list[PeerRun]:
        return [run for run in self.runs.values() if (run.entity, run.project) == (entity or ENTITY, project)]

    def artifact(self, artifact_id: str) -> PeerArtifact:
        for artifact in self.artifacts:
            if artifact.id == artifact_id:
                return artifact
        raise RefusedError(f"no artifact has the id {artifact_id}")


def unwrap(entry: Any) -> Any:
    """Return a config entry without the dictionary {"value": ...} that W&B puts around it."""
    return entry["value"] if isinstance(entry, dict) and "value" in entry else entry


def stamp(time: datetime.datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _tail(rows: Iterable[dict[str, Any]]) -> str:
    # JSON within JSON within JSON: the client unpacks it that way.
    return json.dumps([json.dumps(row) for row in list(rows)[-1:]])
