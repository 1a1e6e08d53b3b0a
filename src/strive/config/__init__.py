"""Configuration keys of a cell, and the cell id that follows from those that determine its numbers."""
