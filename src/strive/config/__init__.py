"""What decides a cell's numbers, and the name that follows from it."""
