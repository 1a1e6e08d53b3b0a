"""Cells on disk: lease, history, predictions and record of each, its processes, and what a runs folder has of all."""
