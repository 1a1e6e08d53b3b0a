"""Brings views to W&B. Imports wandb, and waits a bounded time."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

# Before wandb reads them: its library makes clients of its own, each with 19 seconds for an answer, and its
# telemetry would be the only thing that goes out of --dry-run.
os.environ.setdefault("WANDB_HTTP_TIMEOUT", "10")
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

import wandb
from wandb_workspaces._graphql import execute_graphql

from strive.errors import LoadError, SilentError
from strive.trackers.server import asked, connect, host
from strive.trackers.wandb_views import SavedView, stable_id

# The part of what W&B's library asks when it loads a view that can be read whatever version the view is of.
_FIND = """
query View($entityName: String, $name: String, $viewType: String, $viewName: String) {
  project(name: $name, entityName: $entityName) {
    allViews(viewType: $viewType, viewName: $viewName) { edges { node { id name } } }
  }
}
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """A view that W&B has."""

    sweep: str
    url: str
    replaced: bool  # whether an earlier one had its place


def save(views: Sequence[SavedView], entity: str, project: str) -> Iterator[Saved]:
    """Save each view under a name of its own, so that the next time it takes its own place.

    entity: "" is the key's own. Raises LoadError, in one line and without the key.
    """
    where = host()
    api = connect(where)
    with asked(where):
        entity = entity or str(api.default_entity or "")
    for view in views:
        try:
            with asked(where):
                saved = _save(api, view, entity, project)
        except SilentError as error:
            raise LoadError(f"{entity}/{project}: {error}") from None
        yield saved


def _save(api: wandb.Api, view: SavedView, entity: str, project: str) -> Saved:
    workspace = view.workspace
    workspace.entity, workspace.project = entity, project
    name = f"nw-{stable_id(f'{entity}/{project}/{view.key}', 11)}-v"
    old = _find(api, entity, project, name)
    workspace._internal_name, workspace._internal_id = name, old
    return Saved(sweep=view.sweep, url=quote(workspace.save().url, safe=":/?=&%"), replaced=bool(old))


def _find(api: wandb.Api, entity: str, project: str, name: str) -> str:
    """Return the id of the view with this name, "" if there is none; a project that is not there is made."""
    wanted = {"entityName": entity, "name": project, "viewType": "project-view", "viewName": name}
    found = execute_graphql(api, _FIND, wanted).get("project")
    if found is None:
        api.create_project(project, entity)
        return ""
    nodes = [edge["node"] for edge in found["allViews"]["edges"]]
    # Replacing a view of somebody else's would be worse than having two.
    return next((str(node["id"]) for node in nodes if node["name"] == name), "")
