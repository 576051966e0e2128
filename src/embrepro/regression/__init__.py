"""Two states of a project side by side: revisions, differences, the gate, history, published scores."""
