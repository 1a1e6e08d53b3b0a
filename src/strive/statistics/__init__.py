"""Intervals, paired tests, verdicts and effects, computed from plain numbers."""
