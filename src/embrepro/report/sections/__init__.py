"""The sections of a run's report, one module each: its tables, its charts, and the words around them."""
