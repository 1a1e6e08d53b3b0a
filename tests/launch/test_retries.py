import pytest

from strive.cells.records import Status
from strive.options import Retries


def test_what_the_machine_did_is_tried_again_and_what_the_cell_did_is_not():
    retries = Retries()
    assert all(retries.allow(status, 0) for status in (Status.timeout, Status.preempted, Status.node_fail))
    assert retries.allow(Status.killed, 0)
    assert not retries.allow(Status.killed, 1)
    assert not retries.allow(Status.error, 0)
    assert not retries.allow(Status.out_of_memory, 0)


def test_a_cell_with_a_result_is_never_tried_again():
    assert not Retries().allow(Status.done, 0)
    assert not Retries().allow(Status.diverged, 0)


def test_each_reason_has_its_own_number():
    retries = Retries(error=2, killed=0)
    assert [retries.allow(Status.error, times) for times in range(4)] == [True, True, False, False]
    assert not retries.allow(Status.killed, 0)


def test_a_negative_number_is_refused_in_the_users_own_key():
    with pytest.raises(ValueError, match=r"hydra\.launcher\.retries\.node_fail must be 0 or more, got -1"):
        Retries(node_fail=-1)
