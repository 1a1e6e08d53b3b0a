"""Ablation sweeps that resume, never repeat finished work, and end in tables."""

__version__ = "0.1.0"
