"""Write docs/wandb.png, W&B's terminal viewer on cells of results/table3_small: `python docs/make_wandb_picture.py`.

Needs tmux and chromium. The cells carry the names, tags, config and numbers that the tracker gives them, in W&B's
offline format, because the viewer reads that.
"""

import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

os.environ |= {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false", "WANDB_MODE": "offline"}

import wandb

import allcnn  # noqa: F401 (the app whose cells these are)
from strive.trackers.cell_files import read_cell_files
from strive.trackers.naming import label_of, summary_of

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "results" / "table3_small"
NETS = ("model_c", "all_cnn_c", "strided_cnn_c")  # the viewer shows the latest first
COLUMNS, ROWS = 150, 40
SESSION = "strive-wandb-picture"


def write_run(folder: Path, net: str) -> None:
    """Write one cell of a net as the tracker shows it."""
    cell = next(path.parent for path in sorted(RUNS.glob(f"{net}-*-s1-*/record.json")))
    files = read_cell_files(cell)
    assert files is not None
    label = label_of(files, RUNS)
    summary = summary_of(files)
    del summary["record"], summary["host"]
    with wandb.init(
        project="strive",
        id=files.cell,
        name=label.name,
        group=label.group,
        tags=label.tags,
        config=label.config,
        dir=folder,
        settings=wandb.Settings(console="off", x_disable_meta=True, x_disable_stats=True, x_disable_machine_info=True),
    ) as run:
        run.define_metric("*", step_metric="epoch")
        for row in files.rows(0):
            run.log(row)
        run.summary.update(summary)


def tmux(*arguments: str) -> str:
    """Run tmux and return what it prints."""
    return subprocess.run(["tmux", *arguments], capture_output=True, text=True, check=True).stdout


def settled(*keys: str) -> str:
    """Press keys, and return the screen once it stays as it is."""
    tmux("send-keys", "-t", SESSION, *keys)
    for _ in range(60):
        before = tmux("capture-pane", "-t", SESSION, "-p", "-e")
        time.sleep(2)
        if len(before.split()) > ROWS and tmux("capture-pane", "-t", SESSION, "-p", "-e") == before:
            return before
    raise TimeoutError(f"the viewer still draws after two minutes:\n{before}")


def screen(folder: Path) -> str:
    """Return the viewer's screen with the cells chosen, with its colours."""
    viewer = f"cd {folder} && {sys.executable} -m wandb leet wandb"
    tmux("new-session", "-d", "-s", SESSION, "-x", str(COLUMNS), "-y", str(ROWS), viewer)
    try:
        settled("")
        for _ in range(len(NETS) - 1):
            settled("Down", "Space")
        # The last line names a temporary folder.
        return "\n".join(settled("Up").splitlines()[: ROWS - 1])
    finally:
        tmux("kill-session", "-t", SESSION)


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for net in NETS:
            write_run(folder, net)
            time.sleep(1.1)  # the viewer sorts by the second
        console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
        console.print(Text.from_ansi(screen(folder)))
        console.save_svg(str(folder / "screen.svg"), title="wandb leet")
        target = ROOT / "docs" / "wandb.png"
        command = ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1440,778"]
        subprocess.run(
            [*command, f"--screenshot={target}", f"file://{folder}/screen.svg"], check=True, capture_output=True
        )
        print(target)


if __name__ == "__main__":
    main()
