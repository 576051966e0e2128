"""One document model, and its renderers for HTML, Markdown and the terminal; drawing of charts, formats of numbers."""
