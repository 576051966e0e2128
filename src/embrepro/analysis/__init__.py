"""Statistics, comparison, claims and recommendation over measured values."""
