"""Pages that show what a run found: one set of tables, as Markdown and as one self-contained HTML file."""
