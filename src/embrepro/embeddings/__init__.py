"""Embeddings of a task's texts: stored once, served back to mteb exactly as listed."""
