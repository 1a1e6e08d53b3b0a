"""W&B as a mirror of what cells leave on disk. Training imports nothing from here but what starts the process."""
