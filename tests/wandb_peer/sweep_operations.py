"""Operations about sweeps and their agents."""

import json
from typing import Any

import yaml

from wandb_peer.store import RefusedError, Store, stamp
from wandb_peer.sweeping import Sweep


def upsert(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    """Create a sweep, or change one's state or configuration."""
    if given := variables.get("id"):
        sweep = _sweep(store, given)
        if variables.get("config"):
            raise RefusedError("the peer cannot change a sweep's configuration")
    else:
        name = f"sweep{len(store.sweeps)}"
        entity, project = store.place(variables.get("entityName"), variables.get("projectName"))
        text = variables["config"]
        sweep = store.sweeps[name] = Sweep(name, entity, project, text, yaml.safe_load(text))
    sweep.state = variables.get("state") or sweep.state
    place = {"id": "1", "name": sweep.project, "entity": {"id": "1", "name": sweep.entity}}
    answer = {"id": sweep.id, "name": sweep.id, "project": place}
    return {"upsertSweep": {"sweep": answer, "configValidationWarnings": []}}


def read(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    sweep = store.sweeps.get(variables.get("sweep") or variables["name"])
    if sweep is None:
        return {"project": {"sweep": None}}
    runs = [run for run in store.runs.values() if run.sweep == sweep.id]
    node = {
        "__typename": "Sweep",
        "id": sweep.id,
        "name": sweep.id,
        "displayName": sweep.config.get("name"),
        "method": sweep.config["method"],
        "state": sweep.state,
        "config": sweep.text,
        "description": sweep.config.get("description"),
        "controller": None,
        "scheduler": None,
        "bestLoss": None,
        "createdAt": stamp(sweep.created),
        "updatedAt": None,
        "heartbeatAt": None,
        "earlyStopJobRunning": False,
        "runCount": len(runs),
        "runCountExpected": None,
        "runs": {"edges": [{"node": run.node()} for run in runs]},
    }
    return {"project": {"sweep": node}}


def create_agent(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    agent = f"agent{len(store.agents)}"
    store.agents[agent] = _sweep(store, variables["sweep"]).id
    return {"createAgent": {"agent": {"id": agent}}}


def heartbeat(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    """Tell an agent what to do: start a run if it is idle, leave if nothing is left."""
    sweep = _sweep(store, store.agents[variables["id"]])
    commands = json.dumps(_commands(sweep, json.loads(variables.get("runState") or "{}")))
    return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": commands}}


def _commands(sweep: Sweep, running: dict[str, bool]) -> list[dict[str, Any]]:
    if sweep.state in ("CANCELED", "FINISHED"):
        return [{"type": "exit"}]
    if sweep.state == "PAUSED" or any(running.values()):
        return []
    point = sweep.next_point()
    if point is None:
        sweep.state = "FINISHED"
        return [{"type": "exit"}]
    sweep.state = "RUNNING"
    sweep.started.append(f"{sweep.id}run{len(sweep.started)}")
    arguments = {name: {"value": value} for name, value in point.items()}
    return [{"type": "run", "run_id": sweep.started[-1], "program": sweep.config.get("program"), "args": arguments}]


def _sweep(store: Store, name: str) -> Sweep:
    if name not in store.sweeps:
        raise RefusedError(f"sweep {name} not found", 404)
    sweep: Sweep = store.sweeps[name]
    return sweep
