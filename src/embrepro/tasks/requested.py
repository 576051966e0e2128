"""Whether mteb knows what a configuration asks for, answered without importing mteb where it was asked before."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from embrepro.config.schema import Tasks
from embrepro.files import fingerprint, write_text
from embrepro.own_data import definition as own_files
from embrepro.source_code import code_hash

KNOWN = Path(".embrepro") / "known-tasks"
"""Requests that were resolved, one empty file each, named by what was asked of which version."""


def expect_known(tasks: Tasks, known: Path = KNOWN) -> None:
    """Refuse tasks, languages and subsets that `download` would refuse.

    Raises:
        ConfigError: an unknown task, benchmark, language or subset, or a filter that leaves a task without data.
    """
    code = code_hash("embrepro.tasks.registry")
    own = {name: own_files.revision(name) for name in tasks.names if own_files.exists(name)}
    asked = fingerprint({"tasks": tasks.model_dump(), "own": own, "mteb": version("mteb"), "code": code})
    if (known / asked).is_file():
        return
    from embrepro.tasks import registry

    registry.resolve(tasks)
    try:
        write_text(known / asked, "")
    except OSError:
        # A read-only folder: it is resolved again the next time
        return
