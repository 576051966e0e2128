"""Pages that show what a run found: the same tables as Markdown for a pull request and as one self-contained HTML file."""
