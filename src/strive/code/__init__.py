"""Which code trains a cell, and which versions of it train the same numbers."""
