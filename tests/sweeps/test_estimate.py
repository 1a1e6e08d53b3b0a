import socket
from pathlib import Path

import pytest
from study_records import study_record
from support import MakeConfig

from allcnn.config import Config
from strive.cells import records
from strive.cells.records import Record
from strive.processes import processor
from strive.sweeps.estimate import device_of, estimate_from, estimate_hours
from strive.sweeps.plan import Action, Planned


def planned(config: Config, *, images: int, flops: int = 1) -> Planned:
    """A cell that has so many images left to train on."""
    return Planned(
        cell="", arm="", config=config, action=Action.train, reason="", code="", epochs_left=1, num_train=images,
        flops=flops,
    )  # fmt: skip


@pytest.fixture
def measured(make_small: MakeConfig):
    """Write a record with a speed, without training: {device, threads, images/s}."""

    def measured(config: Config, device: str, images_per_second: float, threads: int = 1) -> Record:
        speed = {"device": device, "threads": threads, "images_per_second": images_per_second}
        record = study_record(config, provenance=speed)
        records.write_record(Path(config.runs), record)
        return record

    return measured


def test_a_measured_net_takes_its_images_over_its_speed(make_small: MakeConfig, measured):
    for seed, speed in enumerate((50.0, 100.0, 400.0)):
        measured(make_small(f"seed={seed}"), "NVIDIA H200", speed)
    config = make_small("seed=7", "optimizer.lr=0.3")
    works = [planned(config, images=180_000), planned(config, images=180_000)]
    (estimate,) = estimate_hours(works, Path(config.runs))
    # 360,000 images at the median of 100 a second are 3,600 seconds.
    assert (estimate.device, estimate.hours, estimate.measured, estimate.guessed) == ("NVIDIA H200", 1.0, 2, 0)


def test_a_net_that_was_not_measured_does_as_many_operations_a_second(make_small: MakeConfig, measured):
    measured(make_small(), "NVIDIA H200", 100.0)
    known, other = make_small("seed=7"), make_small("model=model_a")
    works = [planned(known, images=360_000, flops=1_000), planned(other, images=360_000, flops=3_000)]
    (estimate,) = estimate_hours(works, Path(known.runs))
    assert estimate.hours == pytest.approx(1 + 3)
    assert (estimate.measured, estimate.guessed) == (1, 1)


def test_each_device_has_an_estimate_and_the_best_known_comes_first(make_small: MakeConfig, measured):
    measured(make_small("seed=0"), "NVIDIA H200", 1000.0)
    measured(make_small("seed=1"), "AMD EPYC", 10.0, threads=2)
    measured(make_small("model=model_a"), "AMD EPYC", 10.0, threads=2)
    works = [planned(make_small(f"model={net}"), images=36_000) for net in ("all_cnn_c", "model_a")]
    estimates = estimate_hours(works, Path(make_small().runs))
    assert [each.device for each in estimates] == ["AMD EPYC, 2 threads", "NVIDIA H200"]
    assert [each.measured for each in estimates] == [2, 1]
    assert estimates[0].hours == pytest.approx(2)


@pytest.mark.parametrize("change", ["model.width=0.25", "precision=fp32", "augment=flip_shift", "budget.batch_size=32"])
def test_what_changes_the_speed_is_no_measurement(make_small: MakeConfig, measured, change: str):
    measured(make_small(change), "NVIDIA H200", 100.0)
    config = make_small()
    assert estimate_hours([planned(config, images=1)], Path(config.runs)) == []


def test_with_no_record_there_is_no_estimate(make_small: MakeConfig):
    config = make_small()
    assert estimate_hours([planned(config, images=1)], Path(config.runs)) == []
    assert estimate_hours([], Path(config.runs)) == []


def test_threads_are_part_of_a_processors_name_and_not_of_a_gpus(make_small: MakeConfig, measured):
    assert device_of(measured(make_small(), "AMD EPYC 9655", 1.0, threads=1)) == "AMD EPYC 9655, 1 thread"
    assert device_of(measured(make_small(), "NVIDIA H200", 1.0, threads=16)) == "NVIDIA H200"


def test_where_only_seconds_are_known_each_cell_takes_as_long_as_those_that_are_done(make_small: MakeConfig):
    host = socket.gethostname()
    made = [{"seconds": 1800.0 * number, "device": processor(), "threads": 1, "host": host} for number in (1, 3)]
    done = [study_record(make_small(), provenance=each) for each in made]
    (estimate,) = estimate_from(done, 5)
    # Five times the mean of half an hour and one and a half.
    assert (estimate.hours, estimate.guessed, estimate.threads, estimate.here) == (5.0, 5, 1, True)
    assert "2 done cells" in estimate.basis
    assert estimate_from([], 5) == estimate_from(done, 0) == []
    other = study_record(make_small(), provenance=made[0] | {"device": "a processor of another machine of this name"})
    assert not estimate_from([other], 5)[0].here
