"""A grid of cells: planned, frozen, trained by many processes, here or on a cluster."""
