"""Examination of result files for lost and impossible scores."""
