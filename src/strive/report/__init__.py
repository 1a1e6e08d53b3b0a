"""The results of a runs folder as one HTML page."""
