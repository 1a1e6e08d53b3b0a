"""Conditions as figures for a paper, by matplotlib."""
