"""hydra.launcher.notify, with a real server on loopback and real programs."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from support import ROOT

SECRET = "T0KEN-of-a-webhook"
APP = """\
import hydra, os

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    if cfg.x == 2:
        raise ValueError("two is too much")
    return {"y": cfg.x}

main()
"""
LAUNCH = ("-m", "hydra/sweeper=strive", "hydra/launcher=strive_local", "hydra.sweeper.tracker.kind=none")


class Webhook:
    """Keeps the texts of the messages in Slack's form that it gets."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.code = 200
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.path.endswith(SECRET)
                hook.texts.append(body["text"])
                self.send_response(hook.code)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/{SECRET}"


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    hook = Webhook()
    threading.Thread(target=hook.server.serve_forever, daemon=True).start()
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(APP)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("x: 0\n")
    return tmp_path


def holding(project: Path, text: str) -> list[Path]:
    return [path for path in project.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def launch(project: Path, *arguments: str, by: tuple[str, ...] = LAUNCH) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "train.py", *by, *arguments], cwd=project, env=environment, capture_output=True, text=True
    )


def test_a_webhook_gets_the_first_failure_and_the_end_and_nothing_else_has_its_url(project: Path, webhook: Webhook):
    done = launch(project, "x=0,1,2", f"hydra.launcher.notify={webhook.url}")
    assert done.returncode == 1, done.stderr
    failure, end = webhook.texts
    assert "two is too much" in failure
    assert "1 of 3 cells has no result" in end
    assert SECRET not in done.stdout + done.stderr
    assert holding(project, SECRET) == []


def test_under_another_sweeper_the_first_failure_is_told_and_its_files_have_no_url(project: Path, webhook: Webhook):
    by = ("-m", "hydra/launcher=strive_local", "hydra.launcher.sweeper.tracker.kind=none")
    launch(project, "x=1,2", f"hydra.launcher.notify={webhook.url}", by=by)
    (failure,) = webhook.texts
    assert "two is too much" in failure
    assert holding(project, "x=1,2"), "multirun.yaml, which the other sweeper writes"
    assert holding(project, SECRET) == []


def test_a_program_gets_it_on_its_input_and_in_place_of_braces(project: Path):
    program = "import sys; open('told.txt', 'a').write(sys.argv[1] + '|' + sys.stdin.read())"
    done = launch(project, "x=0,1", f'hydra.launcher.notify="cmd:{sys.executable} -c \\"{program}\\" {{}}"')
    assert done.returncode == 0, done.stderr
    told = (project / "told.txt").read_text()
    assert told.partition("|")[0] == told.partition("|")[2]
    assert "each cell has its result" in told


def test_a_message_that_nobody_takes_costs_a_line_and_not_the_launch(project: Path, webhook: Webhook):
    webhook.code = 500
    done = launch(project, "x=0", f"hydra.launcher.notify={webhook.url}")
    assert done.returncode == 0
    assert "the message was not taken: the server answered 500" in done.stderr
    assert SECRET not in done.stderr
    gone = launch(project, "x=1", f"hydra.launcher.notify=cmd:/no/such/{SECRET}")
    assert (gone.returncode, SECRET in gone.stderr) == (0, False)
    assert "the message was not taken: FileNotFoundError" in gone.stderr


def test_what_is_neither_is_refused_before_anything_trains_and_not_shown(project: Path):
    done = launch(project, "x=0", f"hydra.launcher.notify=htps://host/{SECRET}")
    assert done.returncode == 2
    assert "hydra.launcher.notify must be the URL of a webhook" in done.stderr
    assert SECRET not in done.stderr
    assert not (project / "runs").exists()


def test_a_launch_that_leaves_its_cells_to_others_does_not_say_that_they_have_results(project: Path, webhook: Webhook):
    done = launch(project, "x=0,1", f"hydra.launcher.notify={webhook.url}", "hydra.launcher.detach=true")
    assert done.returncode == 0, done.stderr
    assert webhook.texts == []
