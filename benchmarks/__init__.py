"""Measurements of the kit itself: against mteb's own runner, of its encoding, its search, and its growth with the data."""
