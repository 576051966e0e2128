"""The source tree: which folders may import which, and that the design's table names all of them."""

from __future__ import annotations

import functools
import re

import pytest

from embrepro import source_code
from embrepro.source_code import PACKAGE, STAGES, dependencies

ROOM = re.compile(r"embrepro\.(\w+)")
FOLDERS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")
TOP = ("cli", "pipeline")
"""Who may import stages: nobody else."""
JUDGING = ("claims", "recommendation", "regression", "report", "results")
"""What is made of scores; nothing that makes scores may import it."""
SCORING = ("embeddings", "models", "own_data", "sources", "suite", "tasks")


def room(module: str) -> str:
    """The folder or top-level module that a module lies in; empty for the package itself."""
    found = ROOM.match(module)
    return found[1] if found else ""


@functools.cache
def imports() -> dict[str, tuple[str, ...]]:
    """What every module of the package imports, by its dotted name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[name] = source_code._read(path, 0, name, PACKAGE)[1]
    return found


def graph() -> dict[str, set[str]]:
    """The folders and top-level modules that each of them imports."""
    found: dict[str, set[str]] = {name: set() for name in (*FOLDERS, *MODULES)}
    for module, imported in imports().items():
        if room(module):
            found[room(module)] |= {room(other) for other in imported} - {"", room(module)}
    return found


def test_the_walk_sees_imports_inside_functions() -> None:
    assert "embrepro.pipeline.download" in imports()["embrepro.cli.stages"]


@pytest.mark.parametrize("part", sorted({*FOLDERS, *MODULES} - {*TOP}))
def test_parts_do_not_know_the_stages(part: str) -> None:
    assert graph()[part].isdisjoint(TOP)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_no_other_stage(stage: str) -> None:
    others = set(STAGES.values()) - {STAGES[stage]}
    assert others.isdisjoint(dependencies(STAGES[stage]))


@pytest.mark.parametrize("part", SCORING)
def test_what_makes_scores_knows_nothing_of_what_is_made_of_them(part: str) -> None:
    assert graph()[part].isdisjoint(JUDGING)


def test_no_folders_import_each_other_in_a_circle() -> None:
    left = graph()
    while free := {name for name, imported in left.items() if imported.isdisjoint(left)}:
        left = {name: imported for name, imported in left.items() if name not in free}
    assert left == {}, "these import each other, directly or not"
