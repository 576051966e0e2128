"""Intervals, paired tests and corrections over per-sample scores."""
