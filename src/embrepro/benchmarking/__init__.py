"""Speed, latency and memory: the stage that measures them, its clock, its results."""
