"""Hashing of the code that trains a cell, and equivalence of code versions."""
