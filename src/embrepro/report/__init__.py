"""The report of a run: its sections, their tables and charts."""
