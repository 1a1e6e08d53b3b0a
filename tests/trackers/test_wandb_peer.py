"""The peer against the genuine client: what the other tests of W&B rest on."""

import base64
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from support import ROOT
from wandb.errors import AuthenticationError, CommError
from wandb_peer import Peer

# The genuine command line; only the agent's five seconds between two questions are shorter.
WANDB = (
    sys.executable,
    "-c",
    "from wandb import wandb_agent; wandb_agent.Agent.POLL_INTERVAL = 0.1; from wandb.cli.cli import cli; cli()",
)

pytestmark = pytest.mark.usefixtures("client")


def log(run_id: str, *rows: dict[str, Any], **settings: Any) -> None:
    """Bring rows as one process does from its start to its end."""
    with wandb.init(project="paper", id=run_id, resume="allow", **settings) as run:
        for row in rows:
            run.log(row)


def log_artifact(name: str, content: bytes, alias: str) -> None:
    Path(name).write_bytes(content)
    with wandb.init(project="paper", id="run", resume="allow") as run:
        artifact = wandb.Artifact("weights", "model")
        artifact.add_file(name, "weights.pt")
        run.log_artifact(artifact, aliases=[alias]).wait()


def ask(peer: Peer, method: str, path: str, body: bytes = b"") -> int:
    """Send a bare request with the right key; returns the status of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", int(peer.url.rpartition(":")[2]), timeout=10)
    try:
        key = base64.b64encode(f"api:{peer.key}".encode()).decode()
        connection.request(method, path, body, {"Authorization": f"Basic {key}"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_run_arrives_whole(peer: Peer) -> None:
    Path("plan.json").write_bytes(b'{"schema": 2}\r\n')
    config = {"lr": 0.1, "cell": {"optimizer": {"lr": 0.1}}}
    with wandb.init(
        project="paper", id="cell", name="base, lr 0.1", group="table1", job_type="train", tags=["b"], config=config
    ) as run:
        run.define_metric("*", step_metric="epoch")
        run.log({"epoch": 1, "val_error": 0.5})
        run.log({"epoch": 2, "inputs": wandb.Image(np.zeros((4, 4, 3), np.uint8))})
        run.summary["record"] = '{"café": 1}\n'
        run.save("plan.json", policy="now")

    [got] = peer.runs.values()
    assert (got.id, got.entity, got.project, got.name) == ("cell", "me", "paper", "base, lr 0.1")
    assert (got.group, got.job_type, got.tags, got.state, got.resumed) == ("table1", "train", ["b"], "finished", 0)
    assert got.config == config
    assert [(row["_step"], row["epoch"], row.get("val_error")) for row in got.history] == [(0, 1, 0.5), (1, 2, None)]
    assert got.summary["val_error"] == 0.5
    assert got.summary["record"] == '{"café": 1}\n'
    assert got.files["plan.json"] == b'{"schema": 2}\r\n'
    assert got.files[got.history[1]["inputs"]["path"]].startswith(b"\x89PNG")
    assert peer.operations["UpsertBucket"] >= 1


def test_a_run_that_is_opened_again_goes_on_where_it_was(peer: Peer) -> None:
    log("cell", {"epoch": 1, "val_error": 0.5}, {"epoch": 2}, tags=["base"], config={"lr": 0.1})
    with wandb.init(project="paper", id="cell", resume="allow") as run:
        assert (run.resumed, run.starting_step) == (True, 2)
        # Later changes of the config are no new opening, though the client has one operation for both.
        run.config.update({"late": 1})
        run.log({"epoch": 3})
    got = peer.runs["cell"]
    assert [row["epoch"] for row in got.history] == [1, 2, 3]
    assert got.summary["val_error"] == 0.5
    assert got.config == {"lr": 0.1, "late": 1}
    assert (got.tags, got.resumed) == (["base"], 1)


def test_a_preempted_run_says_so_until_it_is_opened_again(peer: Peer) -> None:
    run = wandb.init(project="paper", id="cell", resume="allow")
    run.log({"epoch": 1})
    run.mark_preempting()
    run.finish(exit_code=143)
    assert (peer.runs["cell"].state, peer.runs["cell"].exit_code) == ("preempted", 143)
    log("cell", {"epoch": 2})
    assert (peer.runs["cell"].state, len(peer.runs["cell"].history)) == ("finished", 2)


def test_a_failed_process_is_a_failed_run(peer: Peer) -> None:
    wandb.init(project="paper", id="cell").finish(exit_code=1)
    assert peer.runs["cell"].state == "failed"


def test_the_same_artifact_again_is_no_new_version(peer: Peer) -> None:
    log_artifact("a.pt", b"old", "best")
    log_artifact("b.pt", b"old", "best")
    log_artifact("c.pt", b"new", "best")
    old, new = peer.artifacts
    assert (old.type, old.name, old.state, old.files, old.aliases) == (
        "model",
        "weights",
        "COMMITTED",
        {"weights.pt": b"old"},
        [],
    )
    assert (new.version, new.files, sorted(new.aliases)) == (1, {"weights.pt": b"new"}, ["best", "latest"])


def test_a_stopped_run_is_asked_to_end(peer: Peer) -> None:
    log("cell", {"epoch": 1})
    wandb.Api().run("me/paper/cell").stop()
    assert peer.runs["cell"].stop


class TestPublicApi:
    """What the client reads back."""

    @pytest.fixture(autouse=True)
    def _runs(self, peer: Peer, client: dict[str, str]) -> None:
        log("a", {"epoch": 1, "val_error": 0.3}, {"epoch": 2}, group="table1", tags=["base"], config={"lr": 0.1})
        log("b", {"epoch": 1, "val_error": 0.1}, group="table1", config={"lr": 0.2})
        log("c", {"epoch": 1}, group="table2", config={"lr": 0.2})

    def test_runs_and_what_is_in_them(self, peer: Peer, tmp_path: Path) -> None:
        api = wandb.Api()
        paper = api.runs("me/paper", filters={"group": "table1"}, order="-summary_metrics.val_error", per_page=1)
        assert [run.id for run in paper] == ["a", "b"]
        assert [run.id for run in api.runs("me/paper", filters={"config.lr": {"$gt": 0.15}})] == ["b", "c"]
        assert [project.name for project in api.projects()] == ["paper"]

        run = api.run("me/paper/a")
        assert (run.config, run.group, run.tags, run.state) == ({"lr": 0.1}, "table1", ["base"], "finished")
        assert run.summary["val_error"] == 0.3
        assert run.history(pandas=False, keys=["val_error"]) == [{"_step": 0, "val_error": 0.3}]
        assert [row["epoch"] for row in run.history(pandas=False)] == [1, 2]
        assert [row["epoch"] for row in run.scan_history()] == [1, 2]
        assert "config.yaml" in [file.name for file in run.files()]
        run.file("config.yaml").download(str(tmp_path)).close()
        assert (tmp_path / "config.yaml").read_bytes() == peer.runs["a"].files["config.yaml"]

        run.tags.append("seen")
        run.config["note"] = "x"
        run.summary["extra"] = 1
        run.update()
        got = peer.runs["a"]
        assert (got.tags, got.config, got.summary["extra"]) == (["base", "seen"], {"lr": 0.1, "note": "x"}, 1)
        # Reading and changing is not opening.
        assert (got.state, got.resumed) == ("finished", 0)

    def test_history_is_a_sample_and_a_scan_is_not(self, peer: Peer) -> None:
        peer.runs["a"].history[:] = [{"_step": step, "loss": step / 2} for step in range(1200)]
        run = wandb.Api().run("me/paper/a")
        assert len(run.history(pandas=False)) == 500
        assert [row["loss"] for row in run.scan_history()] == [step / 2 for step in range(1200)]

    def test_a_deleted_run_is_gone_and_its_id_is_spent(self, peer: Peer) -> None:
        wandb.Api().run("me/paper/a").delete()
        assert list(peer.runs) == ["b", "c"]
        assert [run.id for run in wandb.Api().runs("me/paper")] == ["b", "c"]
        with pytest.raises(CommError, match="previously created and deleted"):
            log("a", {"epoch": 3}, settings=wandb.Settings(init_timeout=1))

    def test_what_is_not_there_is_no_run_and_no_project(self) -> None:
        with pytest.raises(CommError, match="Could not find run"):
            wandb.Api().run("me/paper/none")
        with pytest.raises(ValueError, match="Could not find project"):
            list(wandb.Api().runs("me/none"))


def test_sweep_and_agent_run_every_point_of_a_grid(peer: Peer, client: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        'import sys, wandb\nwith wandb.init(group="g") as run:\n    run.log({"arguments": " ".join(sys.argv[1:])})\n'
    )
    (tmp_path / "sweep.yaml").write_text(
        "program: train.py\nmethod: grid\nproject: paper\nname: rates\n"
        'command: ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]\n'
        "parameters:\n  base: {value: a}\n  optimizer.lr: {values: [0.1, 0.2]}\n"
    )
    spoken = client | {"WANDB_SILENT": "false"}
    made = subprocess.run([*WANDB, "sweep", "sweep.yaml"], env=spoken, capture_output=True, text=True, timeout=60)
    assert "wandb agent me/paper/sweep0" in made.stderr
    subprocess.run([*WANDB, "agent", "me/paper/sweep0"], env=spoken, capture_output=True, timeout=60, check=True)

    runs = list(peer.runs.values())
    assert [(run.sweep, run.project, run.state) for run in runs] == [("sweep0", "paper", "finished")] * 2
    assert [run.config for run in runs] == [{"base": "a", "optimizer.lr": lr} for lr in (0.1, 0.2)]
    assert [run.history[0]["arguments"] for run in runs] == [f"base=a optimizer.lr={lr}" for lr in (0.1, 0.2)]
    sweep = wandb.Api().sweep("me/paper/sweep0")
    assert (sweep.name, sweep.state, len(sweep.runs)) == ("rates", "FINISHED", 2)


# wandb-workspaces is written for an older pydantic, and says so while it is imported.
@pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")
def test_a_workspace_is_saved_changed_and_loaded(peer: Peer) -> None:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    panels = [wr.LinePlot(x="epoch", y=["val_error"])]
    workspace = ws.Workspace(entity="me", project="paper", name="first", sections=[ws.Section("curves", panels)])
    workspace.save()
    workspace.name = "second"
    workspace.save()
    [view] = peer.views
    assert (view["projectName"], view["displayName"]) == ("paper", "second")
    assert [section["name"] for section in json.loads(view["spec"])["section"]["panelBankConfig"]["sections"]] == [
        "curves"
    ]
    loaded = ws.Workspace.from_url(workspace.url)
    assert (loaded.name, loaded.sections[0].panels[0].y) == ("second", [wr.Metric("val_error")])
    workspace.save_as_new_view()
    assert len(peer.views) == 2


def test_what_goes_wrong_for_a_while_loses_nothing(peer: Peer) -> None:
    peer.drop("UpsertBucket")
    run = wandb.init(project="paper", id="cell", resume="allow")
    run.log({"epoch": 1})
    peer.fail("file_stream", 429)
    peer.hang("/graphql .*CreateRunFiles", seconds=0.2)
    peer.fail("^/files/me/paper/cell/config.yaml", 503)
    run.finish()
    got = peer.runs["cell"]
    assert ([row["epoch"] for row in got.history], got.state) == ([1], "finished")
    assert "config.yaml" in got.files


def test_a_peer_that_is_away_for_a_while_loses_nothing(peer: Peer) -> None:
    run = wandb.init(project="paper", id="cell", resume="allow")
    run.log({"epoch": 1})
    url = peer.url
    peer.pause()
    run.log({"epoch": 2})
    back = threading.Timer(0.5, peer.resume)
    back.start()
    run.finish()
    back.join()
    assert peer.url == url
    assert [row["epoch"] for row in peer.runs["cell"].history] == [1, 2]


def test_a_wrong_key_is_refused(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "local" + "x" * 40)
    with pytest.raises(CommError, match="401"):
        log("cell", {"epoch": 1})
    with pytest.raises(AuthenticationError):
        wandb.Api().runs("me/paper")
    assert peer.runs == {}


def test_an_operation_that_the_peer_does_not_know_fails_the_test(client: dict[str, str]) -> None:
    with pytest.raises(AssertionError, match="could not answer: Unheard"), Peer() as peer:
        assert ask(peer, "POST", "/graphql", b'{"query": "query Unheard { of }"}') == 200
    with pytest.raises(AssertionError, match="RunState: KeyError"), Peer() as peer:
        assert ask(peer, "POST", "/graphql", b'{"query": "query RunState { lacks variables }"}') == 400


def test_an_error_in_the_test_is_shown_before_what_the_peer_did_not_know(client: dict[str, str]) -> None:
    def fail_after_an_unknown_request() -> None:
        with Peer() as peer:
            ask(peer, "POST", "/nowhere")
            raise RuntimeError("the test's own")

    with pytest.raises(RuntimeError, match="the test's own") as caught:
        fail_after_an_unknown_request()
    assert caught.value.__notes__ == ["the W&B peer could not answer: POST /nowhere"]


@pytest.mark.parametrize("times", [1, 2])
def test_a_fault_happens_as_often_as_asked(peer: Peer, times: int) -> None:
    peer.fail("^/graphql .*Viewer", 429, times)
    viewer = b'{"query": "query Viewer { viewer }"}'
    assert ask(peer, "POST", "/graphql", b'{"query": "query ServerFeaturesQuery { serverInfo }"}') == 200
    assert [ask(peer, "POST", "/graphql", viewer) for _ in range(3)] == [429] * times + [200] * (3 - times)


def test_a_dropped_request_gets_no_answer(peer: Peer) -> None:
    peer.drop("Viewer")
    with pytest.raises(http.client.RemoteDisconnected):
        ask(peer, "POST", "/graphql", b'{"query": "query Viewer { viewer }"}')


def test_a_hanging_request_is_answered_late_and_does_not_hold_up_the_end(peer: Peer) -> None:
    viewer = b'{"query": "query Viewer { viewer }"}'
    peer.hang("Viewer", seconds=0.3)
    started = time.monotonic()
    assert ask(peer, "POST", "/graphql", viewer) == 200
    assert time.monotonic() - started > 0.3

    peer.hang("Viewer", seconds=600)
    with socket.create_connection(("127.0.0.1", int(peer.url.rpartition(":")[2]))) as waiting:
        waiting.sendall(b"POST /graphql HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(viewer), viewer))
        time.sleep(0.1)
        started = time.monotonic()
        peer.close()
        assert time.monotonic() - started < 10
        assert waiting.recv(100) == b""


def test_lines_that_are_sent_twice_are_there_once(peer: Peer) -> None:
    log("cell", {"epoch": 1})
    again = {"files": {"wandb-history.jsonl": {"offset": 1, "content": ['{"epoch": 2}', '{"epoch": 3}']}}}
    for _ in range(2):
        assert ask(peer, "POST", "/files/me/paper/cell/file_stream", json.dumps(again).encode()) == 200
    assert [row["epoch"] for row in peer.runs["cell"].history] == [1, 2, 3]


def test_half_a_file_is_no_file(peer: Peer) -> None:
    log("cell", {"epoch": 1})
    with socket.create_connection(("127.0.0.1", int(peer.url.rpartition(":")[2]))) as leaving:
        leaving.sendall(b"PUT /files/me/paper/cell/half.bin HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf")
    peer.close()
    assert "half.bin" not in peer.runs["cell"].files


def test_nothing_is_left_of_a_closed_peer(client: dict[str, str]) -> None:
    before = set(threading.enumerate())
    with Peer() as peer:
        ask(peer, "POST", "/graphql", b'{"query": "query Viewer { viewer }"}')
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) == before
    with pytest.raises(ConnectionRefusedError):
        ask(peer, "POST", "/graphql", b"{}")


def test_the_peer_stands_alone(peer: Peer) -> None:
    command = [sys.executable, str(ROOT / "tests" / "wandb_peer")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as alone:
        assert alone.stdout is not None
        lines = [alone.stdout.readline() for _ in peer.environ]
        alone.send_signal(signal.SIGINT)
        assert alone.stdout.read() == "0 runs, 0 operations, not known: []\n"
    assert lines[0].startswith("export WANDB_BASE_URL=http://127.0.0.1:")
    assert alone.returncode == 0
