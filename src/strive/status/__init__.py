"""How sweeps stand, from what lies on disk."""
