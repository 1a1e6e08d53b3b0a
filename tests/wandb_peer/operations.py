"""Every operation of GraphQL that the peer answers, by its name."""

from collections.abc import Callable
from typing import Any

from wandb_peer import artifact_operations, project_operations, run_operations, sweep_operations
from wandb_peer.store import Store

OPERATIONS: dict[str, Callable[[Store, dict[str, Any], str], dict[str, Any]]] = {
    # who and what the server is
    "Viewer": project_operations.viewer,
    "GetViewer": project_operations.viewer,
    "GetDefaultEntity": project_operations.viewer,
    "ServerFeaturesQuery": project_operations.server_features,
    "OrganizationCoreWeaveOrganizationID": project_operations.organization,
    "FetchOrgEntityFromEntity": project_operations.organization,
    "GetProjects": project_operations.projects,
    # workspaces
    "UpsertView2": project_operations.upsert_view,
    "View": project_operations.view,
    # writing a run
    "RunResumeStatus": run_operations.resume_status,
    "UpsertBucket": run_operations.upsert_run,
    "CreateRunFiles": run_operations.create_files,
    "MarkRunFilesUploaded": run_operations.mark_uploaded,
    "NotifyScriptableRunAlert": run_operations.alert,
    "DeleteRun": run_operations.delete,
    "StopRun": run_operations.stop,
    # reading runs
    "Runs": run_operations.runs,
    "Run": run_operations.run,
    "RunState": run_operations.run,
    "QueryRunInfo": run_operations.run,
    "RunHistoryKeys": run_operations.run,
    "RunFullHistory": run_operations.full_history,
    "RunSampledHistory": run_operations.sampled_history,
    "HistoryPage": run_operations.history_page,
    "RunParquetHistory": run_operations.parquet_history,
    "RunFiles": run_operations.files,
    # writing artifacts
    "ArtifactType": artifact_operations.artifact_type,
    "XXHashDigestsEnabled": artifact_operations.xxhash_digests,
    "FetchArtifactDigestAlgorithm": artifact_operations.digest_algorithm,
    "CreateArtifact": artifact_operations.create,
    "CreateArtifactManifest": artifact_operations.create_manifest,
    "UpdateArtifactManifest": artifact_operations.update_manifest,
    "CreateArtifactFiles": artifact_operations.create_files,
    "CommitArtifact": artifact_operations.commit,
    "ArtifactByID": artifact_operations.by_id,
    # sweeps and their agents
    "UpsertSweep": sweep_operations.upsert,
    "SweepWithRuns": sweep_operations.read,
    "GetSweep": sweep_operations.read,
    "GetSweepLegacy": sweep_operations.read,
    "GetSweepState": sweep_operations.read,
    "CreateAgent": sweep_operations.create_agent,
    "Heartbeat": sweep_operations.heartbeat,
}
