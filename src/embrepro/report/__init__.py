"""The report and every other page: tables, charts, and their renderers."""
