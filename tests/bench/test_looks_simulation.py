"""The simulation of looks goes through, and its counts are those of small sweeps by hand."""

import looks_simulation as simulation
import numpy as np
import pytest

from strive.look_design import LookDesign

DESIGN = LookDesign(looks=(3, 6))


def test_the_simulation_prints_its_tables(capsys: pytest.CaptureFixture[str]) -> None:
    simulation.errors(DESIGN, 20, 0)
    simulation.savings(DESIGN, 20, 0, 0.2)
    simulation.assumptions(DESIGN, 20, 0)
    lines = capsys.readouterr().out.splitlines()
    tables = [line.count("|") for line in lines if line.startswith("|")]
    # Heads, rules and rows: 2 x 4 rows of 6 columns; 18 and 3 of 10; 8 of 4.
    assert tables == [7] * 10 + [11] * 23 + [5] * 10


def test_a_baseline_is_trained_as_long_as_one_of_its_lines() -> None:
    look = np.zeros((2, 9), dtype=np.int64)
    look[1, [0, 4]] = 1  # of the first two baselines, three more cells each; two lines of three more
    nothing = np.zeros(look.shape, dtype=bool)
    found = simulation.Found(no_loss=nothing, loss=nothing, look=look)
    assert simulation._cells(DESIGN, found).tolist() == [12 * 3, 12 * 3 + 4 * 3]


def test_a_sweep_that_leaves_lines_alone_has_no_verdict_that_the_whole_one_lacks() -> None:
    (seen,) = simulation._sweeps(simulation.EVEN, 0.5, (5, 8, 12), 200, 0)
    design = LookDesign(looks=(5, 8, 12))
    whole, short = simulation._looked(design, seen), simulation._left_alone(design, seen)
    assert not (short.loss & ~whole.loss).any()
    assert not (short.no_loss & ~whole.no_loss).any()
    assert (short.look <= whole.look).all()
    assert (short.look < whole.look).any()
