"""What a configuration's tasks resolve to, kept: mteb takes seconds to import, and is asked only what it was not asked yet.

An answer is kept under a hash of what was asked, of mteb's version and of the code that asks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from embrepro.config.schema import Tasks
from embrepro.files import fingerprint, write_text
from embrepro.own_data import definition as own_files
from embrepro.source_code import code_hash
from embrepro.tasks import registry
from embrepro.tasks.registry import Request

KNOWN = Path(".embrepro") / "known-tasks"
"""Answers, one file each, below a project's root."""


def resolve(tasks: Tasks, root: Path = Path()) -> list[Request]:
    """The requests of a configuration, in its order, as `registry.resolve` has them.

    Raises:
        ConfigError: an unknown task, benchmark, language or subset, or a filter that leaves a task without data.
    """
    if any(map(registry.is_added, tasks.names)):
        return registry.resolve(tasks)
    own = {name: own_files.revision(name) for name in tasks.names if own_files.exists(name)}
    chosen = tasks.model_dump(exclude={"rerank", "allow_missing"})
    asked = {"tasks": chosen, "own": own, "code": code_hash("embrepro.tasks.registry")}
    found = _ask(root, asked, lambda: [asdict(request) for request in registry.resolve(tasks)])
    return [_request(each) for each in found]


def leaves(requests: Iterable[Request]) -> dict[str, Request]:
    """The tasks that hold data, by name: the parts of an aggregate, else the task itself."""
    return {leaf.name: leaf for request in requests for leaf in request.leaves()}


def benchmark_sizes(names: Iterable[str], root: Path = Path()) -> dict[str, int]:
    """Number of tasks of those of mteb's benchmarks that exist."""
    wanted = sorted(names)
    if not wanted:
        return {}
    found: dict[str, int] = _ask(root, {"benchmarks": wanted}, lambda: _sizes(wanted))
    return found


def _sizes(names: list[str]) -> dict[str, int]:
    import mteb

    known = {benchmark.name: benchmark for benchmark in mteb.get_benchmarks()}
    return {name: len(known[name].tasks) for name in names if name in known}


def _ask(root: Path, asked: dict[str, Any], answer: Callable[[], Any]) -> Any:  # noqa: ANN401 - plain values
    path = root / KNOWN / f"{fingerprint({**asked, 'mteb': version('mteb')})}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = answer()
    # A read-only folder: it is asked again the next time.
    with suppress(OSError):
        write_text(path, json.dumps(found))
    return found


def _request(values: dict[str, Any]) -> Request:
    lists = {"subsets": tuple(values["subsets"]), "splits": tuple(values["splits"])}
    return Request(**(values | lists | {"parts": tuple(_request(part) for part in values["parts"])}))
