"""Operations about artifacts, from the side that writes them."""

import json
import urllib.parse
from typing import Any

from wandb_peer.store import PeerArtifact, Store, stamp


def artifact_type(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    return {"project": {"artifact": None}}


def xxhash_digests(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    return {"entity": {"xxhashDigestsEnabled": False}}


def digest_algorithm(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    return {"project": None}


def create(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    """Begin a version; the same content once more is the version that is there."""
    wish = variables["input"]
    name = wish["artifactCollectionName"] if "artifactCollectionName" in wish else wish["artifactCollectionNames"][0]
    place = (wish["entityName"], wish["projectName"], wish["artifactTypeName"], name)
    versions = [one for one in store.artifacts if (one.entity, one.project, one.type, one.name) == place]
    same = [one for one in versions if one.digest == wish["digest"] and one.state == "COMMITTED"]
    if same:
        artifact = same[0]
    else:
        entity, project, kind, _ = place
        number = len(store.artifacts)
        artifact = PeerArtifact(
            f"artifact{number}", entity, project, wish["runName"], kind, name, len(versions), wish["digest"]
        )
        artifact.metadata = json.loads(wish.get("metadata") or "{}")
        store.artifacts.append(artifact)
    for alias in [alias["alias"] for alias in wish.get("aliases") or []]:
        for one in versions:
            # An alias points at one version.
            one.aliases = [old for old in one.aliases if old != alias]
        artifact.aliases.append(alias)
    committed = [one for one in versions if one.state == "COMMITTED"]
    latest = {"id": committed[-1].id, "versionIndex": committed[-1].version} if committed else None
    node = {"id": artifact.id, "state": artifact.state, "artifactSequence": {"id": name, "latestArtifact": latest}}
    return {"createArtifact": {"artifact": node}}


def create_manifest(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    return {"createArtifactManifest": {"artifactManifest": _manifest(store, variables["artifactID"])}}


def update_manifest(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    return {"updateArtifactManifest": {"artifactManifest": _manifest(store, variables["artifactManifestID"])}}


def create_files(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    nodes: list[dict[str, Any]] = []
    for file in variables["input"]["artifactFiles"]:
        path = f"{file['artifactID']}/{urllib.parse.quote(file['name'])}"
        nodes.append(
            {
                "storagePath": path,
                "uploadUrl": f"{store.url}/artifact_files/{path}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": file["artifactID"]},
            }
        )
    return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}


def commit(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    artifact = store.artifact(variables["artifactID"])
    artifact.state = "COMMITTED"
    return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}


def by_id(store: Store, variables: dict[str, Any], query: str) -> dict[str, Any]:
    """What `Artifact.wait` reads once everything is there."""
    artifact = store.artifact(variables["id"])
    project = {"id": "1", "internalId": "1", "name": artifact.project, "entity": {"name": artifact.entity}}
    collection = {"__typename": "ArtifactSequence", "id": artifact.name, "name": artifact.name, "project": project}
    aliases = [
        {"__typename": "ArtifactAlias", "id": alias, "alias": alias, "artifactCollection": collection}
        for alias in artifact.aliases
    ]
    node = {
        "__typename": "Artifact",
        "id": artifact.id,
        "artifactSequence": collection,
        "artifactType": {"name": artifact.type},
        "versionIndex": artifact.version,
        "description": None,
        "metadata": json.dumps(artifact.metadata),
        "ttlDurationSeconds": -1,
        "ttlIsInherited": True,
        "tags": [],
        "historyStep": None,
        "state": artifact.state,
        "size": sum(map(len, artifact.files.values())),
        "digest": artifact.digest,
        "digestAlgorithm": "MANIFEST_MD5",
        "commitHash": None,
        "fileCount": len(artifact.files),
        "createdAt": stamp(artifact.created),
        "updatedAt": None,
        "aliases": aliases,
    }
    return {"artifact": node}


def _manifest(store: Store, artifact_id: str) -> dict[str, Any]:
    # An artifact has one manifest here, so it needs no id of its own.
    url = f"{store.url}/artifact_manifests/{artifact_id}/wandb_manifest.json"
    return {"id": artifact_id, "file": {"id": artifact_id, "uploadUrl": url, "uploadHeaders": []}}
