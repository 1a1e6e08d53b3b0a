"""Mirrors of what cells leave on disk: W&B, CSV, TensorBoard. Training imports nothing from here but their sessions."""
