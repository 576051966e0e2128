"""Every number about a text-embedding model, reproducible."""
