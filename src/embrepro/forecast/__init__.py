"""What a run will do before any of it is done: texts, tokens, time, disk and memory for each model and task."""
