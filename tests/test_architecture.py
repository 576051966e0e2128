"""The source tree: which folders may import which, and that the design's table names all of them."""

from __future__ import annotations

import ast
import functools
import re
import sys
import tokenize
from collections import defaultdict
from importlib.metadata import packages_distributions

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


def public_types() -> dict[str, list[str]]:
    """The modules that define each public class or alias of a type, by its name."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            named: list[str] = []
            if isinstance(node, ast.ClassDef):
                named = [node.name]
            elif isinstance(node, ast.Assign):
                named = [target.id for target in node.targets if isinstance(target, ast.Name)]
            for name in named:
                if re.match(r"[A-Z][a-z]", name):
                    found[name].append(path.relative_to(PACKAGE).as_posix())
    return found


def test_no_two_public_types_share_a_name() -> None:
    assert {name: modules for name, modules in public_types().items() if len(modules) > 1} == {}


def test_no_module_is_called_like_one_of_python_or_of_a_package() -> None:
    """Folders too, but for `statistics`, which is the word for what is in it and is only ever imported by its full name."""
    ours = {path.stem for path in PACKAGE.rglob("*.py")} | {path.parent.name for path in PACKAGE.rglob("__init__.py")}
    theirs = set(sys.stdlib_module_names) | {name.split("/")[0] for name in packages_distributions()}
    assert ours & theirs - {PACKAGE.name, "__init__", "__main__"} == {"statistics"}


def test_a_comment_stands_on_its_own_line() -> None:
    """But for marks that tools read."""
    marks = re.compile(r"#\s*(noqa|type: ignore|fmt: )")
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        with path.open("rb") as file:
            for token in tokenize.tokenize(file.readline):
                before = token.line[: token.start[1]]
                if token.type == tokenize.COMMENT and before.strip() and not marks.match(token.string):
                    found.append(f"{path.relative_to(PACKAGE)}:{token.start[0]}")
    assert found == []
