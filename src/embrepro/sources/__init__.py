"""Where pinned bytes come from: a mirror folder, a Python package, the hub, a local folder, a distillation."""
