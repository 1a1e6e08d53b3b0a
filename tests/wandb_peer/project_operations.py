"""Operations about the user, the server, projects and workspaces."""

from typing import Any

from wandb_peer.store import ENTITY, Store, now, stamp

USER = {
    "id": "1",
    "name": ENTITY,
    "username": ENTITY,
    "entity": ENTITY,
    "email": "me@example.org",
    "admin": False,
    "flags": "{}",
    "deletedAt": None,
    "apiKeys": {"edges": []},
    "teams": {"edges": []},
}


def viewer(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    return {"viewer": USER}


def server_features(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    return {"serverInfo": {"features": []}}


def organization(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    return {"entity": {"organization": None, "user": None}}


def projects(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    names = sorted(name for entity, name in store.projects if entity == (variables.get("entity") or ENTITY))
    nodes = [
        {
            "__typename": "Project",
            "id": name,
            "name": name,
            "entityName": ENTITY,
            "createdAt": stamp(now()),
            "isBenchmark": False,
            "user": USER,
        }
        for name in names
    ]
    page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
    return {"models": {"edges": [{"node": node} for node in nodes], "pageInfo": page}}


def upsert_view(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    """Keep a workspace as it came; one with a known id takes the place of the old one."""
    store.place(variables["entityName"], variables["projectName"])
    places = [place for place, old in enumerate(store.views) if old["id"] == variables.get("id")]
    view = variables | {"id": variables.get("id") or f"view{len(store.views)}"}
    if places:
        store.views[places[0]] = view
    else:
        store.views.append(view)
    return {"upsertView": {"view": {"id": view["id"], "name": view["name"]}, "inserted": not places}}


def view(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    wanted = (variables["entityName"], variables["name"], variables["viewName"])
    found = [view for view in store.views if (view["entityName"], view["projectName"], view["name"]) == wanted]
    nodes = [
        {"id": view["id"], "name": view["name"], "displayName": view["displayName"], "spec": view["spec"]}
        for view in found
    ]
    return {"project": {"allViews": {"edges": [{"node": node} for node in nodes]}}}
