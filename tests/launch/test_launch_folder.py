import json
import os
import subprocess
import sys

from support import MakePlan

from strive.app import in_use
from strive.cells.task import read_tasks, task_of
from strive.launch.launch_folder import write_launch


def test_a_launch_freezes_its_cells_on_disk(make_plan: MakePlan):
    plan = make_plan("seed=0,1,2")
    launch = write_launch(
        plan.folder, [task_of(planned.config, code=planned.code) for planned in plan.cells[1:]], "local"
    )
    assert launch.folder.parent == plan.folder
    assert read_tasks(launch.folder / "tasks.jsonl") == launch.tasks
    assert [task.cell for task in launch.tasks] == [planned.cell for planned in plan.cells[1:]]
    assert [task.flat for task in launch.tasks] == [in_use().flat(planned.config) for planned in plan.cells[1:]]
    content = json.loads((launch.folder / "launch.json").read_text())
    assert (content["launcher"], content["pid"], content["folder"]) == ("local", os.getpid(), os.getcwd())
    assert all(len(task.code) == 10 for task in launch.tasks)


def test_two_launches_have_folders_of_their_own(make_plan: MakePlan):
    plan = make_plan()
    folders = {write_launch(plan.folder, [], "local").folder for _ in range(20)}
    assert len(folders) == 20


def test_launching_loads_no_torch():
    modules = ("launch.launch_folder", "launch.local", "cells.task", "sweeps.plan", "sweeps.plan_text", "options")
    code = f"import sys; {'; '.join(f'import strive.{name}' for name in modules)}"
    code += "; import hydra_plugins.strive; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
