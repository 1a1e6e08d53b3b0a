"""One cell: its lease, checkpoints, history and record."""
