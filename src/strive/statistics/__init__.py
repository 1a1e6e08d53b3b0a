"""Intervals, paired tests and effects: numbers in, verdicts out."""
