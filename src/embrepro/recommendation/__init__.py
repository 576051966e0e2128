"""Which model to use for what, decided by rules from what was measured."""
