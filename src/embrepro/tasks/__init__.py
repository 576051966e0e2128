"""Tasks: frozen task data, request lists and the kit's own suite."""
