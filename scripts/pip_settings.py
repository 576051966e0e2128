"""What pip is configured with on this machine, from its files and its environment variables."""

import ast
import subprocess
import sys


def pip_setting(name: str) -> list[str]:
    """Return the values of one pip setting (`find-links`, `index-url`, ...), strongest first, none twice."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    found: list[str] = []
    for line in listed.stdout.splitlines():
        key, _, value = line.partition("=")
        if key.rsplit(".", 1)[-1] == name:
            found += [part for part in ast.literal_eval(value).split() if part not in found]
    return found
