"""A sweep as one array, and what its jobs leave behind when cells fail."""

import json
import re

import pytest
from study import STEPS, Study, group_cannot_write

pytestmark = pytest.mark.slow


def test_twelve_cells_go_into_one_array_and_leave_twelve_records_that_a_group_can_write(study: Study) -> None:
    study.umask = 0o002
    launch = study.launch("+model.kwargs.name=range(12)", "hydra.launcher.cells_per_job=3")
    assert launch.ends() == 0, study.told()
    study.is_complete(*map(str, range(12)))
    jobs = study.jobs()
    assert sorted(numbers for pack in jobs.values() for numbers in pack) == list(range(12))
    assert len(jobs) == 4
    assert len({job.partition("_")[0] for job in jobs}) == 1, "one array"
    assert re.search(r"SLURM job \d+, an array of 4: 12 cells; logs in \S+/logs", launch.said())
    assert group_cannot_write(study.folder / "runs") == []
    (array,) = {job.partition("_")[0] for job in jobs}
    study.lab.await_states({f"{array}_{index}": "COMPLETED" for index in range(4)})


def test_a_cell_that_raises_and_one_that_kills_itself_cost_no_other_cell(study: Study) -> None:
    launch = study.launch("+model.kwargs.name=a,raises,kills-itself,b", "hydra.launcher.cells_per_job=4")
    assert launch.ends() == 1, study.told()
    assert {name: record["status"] for name, record in study.records().items()} == {
        "a": "done",
        "raises": "error",
        "kills-itself": "killed",
        "b": "done",
    }
    # What kills itself in its second step is tried once more, goes on behind the first, and does it again.
    assert study.steps() == {"a": STEPS, "raises": 2, "kills-itself": 2 + 2, "b": STEPS}
    summary = launch.said().partition("error: ")[2]
    assert "2 of 4 cells have no result" in summary
    assert "error: ArithmeticError: as the test wants it\n" in summary
    assert "killed: its process was ended by SIGKILL\n" in summary
    (job,) = study.jobs()
    study.lab.await_states({job: "FAILED"})  # SLURM shows it too


def test_the_nodes_of_a_job_share_its_cells_out(study: Study) -> None:
    launch = study.launch("+model.kwargs.name=a,b", "hydra.launcher.cells_per_job=2", "hydra.launcher.nodes=2")
    assert launch.ends() == 0, study.told()
    study.is_complete("a", "b")
    (job,) = study.jobs()
    (start,) = study.starts(job)
    assert len(start.ended) == 2
    (folder,) = study.submissions()
    lines = [path.read_text().splitlines() for path in (folder / "logs").glob(f"{job}-0*.jsonl")]
    assert {json.loads(first)["node"] for first, *_ in lines} == {"node1", "node2"}
    assert {sum('"ended"' in line for line in each) for each in lines} == {1}


def test_a_grid_larger_than_the_largest_array_goes_into_several(small_arrays: Study) -> None:
    study = small_arrays
    launch = study.launch("+model.kwargs.name=range(7)")
    assert launch.ends() == 0, study.told()
    study.is_complete(*map(str, range(7)))
    sizes: dict[str, int] = {}
    for job in study.jobs():
        array = job.partition("_")[0]
        sizes[array] = sizes.get(array, 0) + 1
    assert sorted(sizes.values()) == [1, 3, 3]
