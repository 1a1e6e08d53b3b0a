"""What to train: sweep files, their cells, and the plan of what is left to do."""
