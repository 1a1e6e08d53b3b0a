"""Figures of conditions for a paper, drawn with matplotlib."""
