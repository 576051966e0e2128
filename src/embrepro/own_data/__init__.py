"""Tasks made of one's own files: a folder of `own-data/` with its `task.yaml`, read strictly and scored by mteb."""
