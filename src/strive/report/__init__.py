"""All answers of a runs folder as one HTML page."""
