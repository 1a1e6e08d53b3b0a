"""Conditions as Markdown, LaTeX and CSV."""
