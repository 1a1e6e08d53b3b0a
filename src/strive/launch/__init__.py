"""Launcher for this machine: worker processes, devices, retries."""
