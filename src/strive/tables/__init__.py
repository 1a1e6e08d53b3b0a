"""Tables of conditions as Markdown, LaTeX and CSV."""
