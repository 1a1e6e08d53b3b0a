"""Decisions on the next cells to launch, taken from records: a sweep, and the parents its values are chosen from."""
