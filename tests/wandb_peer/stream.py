"""The file stream: how a running client brings history, summary and console lines."""

import json
from typing import Any

from wandb_peer.store import PeerRun, Store, now


def take_stream(store: Store, entity: str, project: str, run_id: str, request: dict[str, Any]) -> tuple[Any, int]:
    """Keep what one request brings; returns the answer and its HTTP status."""
    run = store.run(entity, project, run_id)
    if run is None:
        return {"error": f"run {entity}/{project}/{run_id} not found"}, 404
    run.heartbeat = now()
    for name, part in (request.get("files") or {}).items():
        _take_lines(run, name, part["offset"], part["content"])
    if request.get("preempting"):
        run.preempting, run.state = True, "preempting"
    if request.get("complete"):
        run.exit_code = request.get("exitcode") or 0
        run.state = "finished" if run.exit_code == 0 else "preempted" if run.preempting else "failed"
    return {"exitcode": None, "limits": {}, "stopped": run.stop}, 200


def _take_lines(run: PeerRun, name: str, offset: int, lines: list[str]) -> None:
    match name:
        case "wandb-history.jsonl":
            # A request that is sent again brings the same lines at the same place.
            run.history[offset : offset + len(lines)] = [json.loads(line) for line in lines]
        case "wandb-events.jsonl":
            run.system[offset : offset + len(lines)] = [json.loads(line) for line in lines]
        case "wandb-summary.json":
            run.summary = json.loads(lines[-1])
        case "output.log":
            run.console.update(enumerate(lines, offset))
        case _:
            raise KeyError(f"the peer does not know the stream {name}")
