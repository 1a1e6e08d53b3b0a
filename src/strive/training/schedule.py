"""The learning rate as a pure function of the step."""

from fractions import Fraction

from strive.config import OptimizerConfig


def learning_rate(step: int, num_steps: int, optimizer: OptimizerConfig) -> float:
    """Return the learning rate of step 0 <= step < num_steps.

    Multiplied by drop_factor at each share of the budget in drop_at: 200, 250 and 300 of 350
    epochs in the paper (section 3).
    """
    # Fractions, because 4/7 of 136,850 steps must be exactly 78,200.
    drops = sum(step >= Fraction(share) * num_steps for share in optimizer.drop_at)
    return float(optimizer.lr * optimizer.drop_factor**drops)
