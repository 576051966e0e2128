"""What a run found: its summary, the comparison of its models, and where it came from."""
