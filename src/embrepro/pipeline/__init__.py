"""The stages of the pipeline, each told from top to bottom; dvc.yaml says what each reads and writes."""
