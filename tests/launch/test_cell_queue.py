from collections.abc import Callable

import pytest
from support import MakeConfig

from strive.cells.task import Task, task_of
from strive.launch.cell_queue import CellQueue
from strive.launch.devices import MAX_ROOM, Slot
from strive.launch.protocol import TrainRequest

MakeTask = Callable[..., Task]


@pytest.fixture
def make_task(make_config: MakeConfig) -> MakeTask:
    def make(*overrides: str) -> Task:
        config = make_config(*overrides)
        return task_of(config)

    return make


def fill(offer: CellQueue, number: int = 0) -> list[TrainRequest]:
    """Return all that the slot's worker can have at once."""
    held: list[TrainRequest] = []
    while (request := offer.request_for(number, held)) is not None:
        offer.take(number, request)
        held.append(request)
    return held


def of(*tasks: Task, slot: Slot) -> CellQueue:
    offer = CellQueue(tasks, [slot])
    offer.forget_images(0)
    return offer


@pytest.mark.parametrize(
    ("slot", "count"), [(Slot("", 1), 1), (Slot("0", 1, 3), 3), (Slot("0", 1, 1), 1), (Slot("0", 1, 0), MAX_ROOM)]
)
def test_a_worker_has_so_many_cells_as_its_slot_has_room_for(make_task: MakeTask, slot: Slot, count: int):
    tasks = [make_task(f"seed={seed}") for seed in range(9)]
    assert [request.task for request in fill(of(*tasks, slot=slot))] == tasks[:count]


def test_a_cell_that_keeps_off_the_gpu_has_no_companions_there(make_task: MakeTask):
    tasks = [make_task("trainer.device=cpu", f"seed={seed}") for seed in range(2)]
    assert len(fill(of(*tasks, slot=Slot("0", 1, 0)))) == 1
    assert len(fill(of(*tasks, slot=Slot("", 1, 2)))) == 2


def test_what_was_found_out_of_one_kind_says_nothing_of_another(make_task: MakeTask):
    small = [make_task("model.width=0.5", f"seed={seed}") for seed in range(4)]
    large = [make_task(f"seed={seed}") for seed in range(4)]
    offer = of(*large, *small, slot=Slot("0", 1, 0))
    offer.limit(0, TrainRequest(task=large[0]), 2)
    # The limit may only go down: three after two changes nothing, none after two does.
    offer.limit(0, TrainRequest(task=large[0]), 3)
    assert [request.task for request in fill(offer)] == large[:2]
    offer.limit(0, TrainRequest(task=large[0]), 0)
    assert [request.task for request in fill(offer)] == large[2:3]
    assert [request.task for request in fill(offer)] == large[3:]
    assert [request.task for request in fill(offer)] == small


def test_a_cell_that_stays_alone_joins_nothing_and_is_joined_by_nothing(make_task: MakeTask):
    first, alone, last = tasks = [make_task(f"seed={seed}") for seed in range(3)]
    offer = of(*tasks, slot=Slot("0", 1, 0))
    offer.keep_alone([TrainRequest(task=alone)])
    assert [request.task for request in fill(offer)] == [first, last]
    offer.put(TrainRequest(task=last))
    assert [request.task for request in fill(offer)] == [alone]


def test_a_worker_is_not_given_beside_others_what_it_refused(make_task: MakeTask):
    first, refused, last = (make_task(f"seed={seed}") for seed in range(3))
    offer = CellQueue([first, last], [Slot("0", 1, 0), Slot("1", 1, 0)])
    offer.forget_images(0)
    offer.refuse(0, TrainRequest(task=refused), "other code")
    assert [request.task for request in fill(offer, 0)] == [first, last]
    assert offer.pop_refused([]) == []
    assert offer.pop_refused([1]) == [(refused.cell, 0, "other code")]
    assert len(offer) == 0
