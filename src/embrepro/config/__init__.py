"""The configuration: its schema, how conf/ composes to it, and messages for wrong keys."""
