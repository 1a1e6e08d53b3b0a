"""Operations about runs."""

import json
import re
import urllib.parse
from typing import Any

from wandb_peer.filters import matches, ordered
from wandb_peer.store import ENTITY, PeerRun, RefusedError, Store, now, stamp

# Variables of UpsertBucket and the attributes that they set. The client and the public API spell two differently.
SETTABLE = {
    "displayName": "name",
    "display_name": "name",
    "groupName": "group",
    "jobType": "job_type",
    "tags": "tags",
    "notes": "notes",
    "commit": "commit",
    "sweep": "sweep",
    "state": "state",
}


def resume_status(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    run = store.run(variables.get("entity"), variables.get("project"), variables["name"])
    entity, project = variables.get("entity") or ENTITY, variables.get("project")
    bucket = run.node() if run else None
    if run:
        run.opening = True
    return {"model": {"id": "1", "name": project, "entity": {"id": "1", "name": entity}, "bucket": bucket}}


def upsert_run(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    """Create a run, open it again, or change it: the client has one operation for all of that."""
    if storage_id := variables.get("id"):
        run, inserted = store.run_by_storage_id(storage_id), False
    else:
        run, inserted = _by_name(store, variables)
    if run.opening:
        run.opening = False
        run.resumed += 1
        run.state, run.exit_code, run.preempting, run.heartbeat = "running", None, False, now()
    for variable, attribute in SETTABLE.items():
        if variables.get(variable) is not None:
            setattr(run, attribute, variables[variable])
    if variables.get("config"):
        run.wire_config = json.loads(variables["config"])
    if variables.get("summaryMetrics"):
        run.summary = json.loads(variables["summaryMetrics"])
    return {"upsertBucket": {"bucket": run.node(), "inserted": inserted}}


def _by_name(store: Store, variables: dict[str, Any]) -> tuple[PeerRun, bool]:
    """Return the run that a request names, and whether it is new."""
    entity, project = store.place(variables.get("entity"), variables.get("project"))
    key = (entity, project, variables["name"])
    if key in store.deleted:
        # As wandb.ai has answered for years: wandb/wandb#1192, #4948, #10669.
        raise RefusedError(f"run {'/'.join(key)} was previously created and deleted; try a new run name", 409)
    if key in store.runs:
        return store.runs[key], False
    store.runs[key] = PeerRun(key[2], entity, project, number=len(store.runs) + len(store.deleted), name=key[2])
    return store.runs[key], True


def create_files(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    run = _wanted(store, variables, "run")
    files = [{"name": name, "uploadUrl": _file_url(store, run, name)} for name in variables["files"]]
    return {"createRunFiles": {"runID": run.storage_id, "uploadHeaders": [], "files": files}}


def mark_uploaded(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    return {"markRunFilesUploaded": {"success": True}}


def alert(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    store.alerts.append(variables)
    return {"notifyScriptableRunAlert": {"success": True}}


def delete(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    run = store.run_by_storage_id(variables["id"])
    key = (run.entity, run.project, run.id)
    del store.runs[key]
    store.deleted.add(key)
    return {"deleteRun": {"clientMutationId": None}}


def stop(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    store.run_by_storage_id(variables["id"]).stop = True
    return {"stopRun": {"success": True, "clientMutationId": None}}


def runs(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    """One page of a project's runs."""
    if (variables.get("entity") or ENTITY, variables["project"]) not in store.projects:
        return {"project": None}
    everything = store.in_project(variables.get("entity"), variables["project"])
    condition = json.loads(variables.get("filters") or "{}")
    found = ordered([run for run in everything if matches(run, condition)], variables.get("order") or "+created_at")
    first = int(variables.get("cursor") or 0)
    page = found[first : first + (variables.get("perPage") or 50)]
    end = first + len(page)
    edges = [{"node": run.node(), "cursor": str(place)} for place, run in enumerate(page, first + 1)]
    info = {"endCursor": str(end), "hasNextPage": end < len(found)}
    listed = {"edges": edges, "pageInfo": info}
    return {"project": {"internalId": "1", "readOnly": False, "runCount": len(found), "runs": listed}}


def run(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    found = store.run(variables.get("entity"), variables["project"], variables.get("name") or variables["run"])
    return {"project": {"run": found.node() if found else None}}


def full_history(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    run = _wanted(store, variables, "name")
    field, rows = ("events", run.system) if re.search(r"\bevents\(", query) else ("history", run.history)
    return _of_run({field: [json.dumps(row) for row in _sample(rows, variables.get("samples") or 500)]})


def sampled_history(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    """For each wish, the rows that have all of its keys."""
    run = _wanted(store, variables, "name")
    answers = []
    for wish in map(json.loads, variables["specs"]):
        keys = wish["keys"]
        rows = [{key: row[key] for key in keys} for row in run.history if all(key in row for key in keys)]
        answers.append(_sample(rows, wish.get("samples") or 500))
    return _of_run({"sampledHistory": answers})


def history_page(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    run = _wanted(store, variables, "run")
    steps = range(int(variables["minStep"]), int(variables["maxStep"]))
    rows = [row for row in run.history if row.get("_step", 0) in steps]
    return _of_run({"history": [json.dumps(row) for row in rows[: variables.get("pageSize") or 1000]]})


def parquet_history(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    """Everything is live: the peer packs nothing into parquet."""
    return _of_run({"parquetHistory": {"parquetUrls": [], "liveData": _wanted(store, variables, "runName").history}})


def files(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    run = _wanted(store, variables, "name")
    wanted = variables.get("fileNames") or list(run.files)
    if pattern := variables.get("pattern"):  # of SQL's LIKE
        like = re.escape(pattern).replace("%", ".*").replace("_", ".")
        wanted = [name for name in wanted if re.fullmatch(like, name, re.DOTALL)]
    nodes = [_file_node(store, run, name) for name in wanted if name in run.files]
    edges = [{"node": node, "cursor": str(place)} for place, node in enumerate(nodes)]
    listed = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
    return {"project": {"internalId": "1", "run": {"fileCount": len(run.files), "files": listed}}}


def _file_node(store: Store, run: PeerRun, name: str) -> dict[str, Any]:
    url = _file_url(store, run, name)
    return {
        "id": f"{run.storage_id}/{name}",
        "name": name,
        "url": url,
        "directUrl": url,
        "sizeBytes": len(run.files[name]),
        "mimetype": "application/octet-stream",
        "updatedAt": stamp(run.heartbeat),
        "md5": "",
    }


def _file_url(store: Store, run: PeerRun, name: str) -> str:
    return f"{store.url}/files/{run.entity}/{run.project}/{run.id}/{urllib.parse.quote(name)}"


def _wanted(store: Store, variables: dict[str, Any], key: str) -> PeerRun:
    found = store.run(variables.get("entity"), variables.get("project"), variables[key])
    if found is None:
        raise RefusedError(f"could not find run {variables[key]} of {variables.get('project')}")
    return found


def _of_run(data: dict[str, Any]) -> dict[str, Any]:
    return {"project": {"run": data}}


def _sample(rows: list[dict[str, Any]], size: int) -> list[dict[str, Any]]:
    """Return at most so many rows, evenly spaced: whoever needs every row must ask otherwise."""
    if len(rows) <= size:
        return rows
    return [rows[place * len(rows) // size] for place in range(size)]
