"""Files of one cell: its lease, history, predictions and record."""
