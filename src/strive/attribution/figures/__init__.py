"""The paper's figures 2, 3 and 4, and their controls: from a Subject to a Figure."""
