"""Launcher for SLURM: jobs, their queue, and a copy of the code that they run."""
