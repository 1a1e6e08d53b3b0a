"""Sweep files, the cells that they declare, and the plan of the cells that are still to train."""
