"""Speed, latency and memory: the clock that measures them, and what was measured."""
