"""Status of sweeps, read from disk."""
