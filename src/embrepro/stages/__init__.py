"""The stages of the pipeline, each a short story from top to bottom; dvc.yaml says what each reads and writes."""
