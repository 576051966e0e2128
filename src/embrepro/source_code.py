"""What code a result depends on: the modules that its own module imports, directly or not, and their content.

`dvc.yaml` and the keys inside the stages both follow from here, so no list of modules is kept by hand. Content is the
syntax tree without docstrings: what changes a comment, a docstring or the layout of the code makes nothing stale.

Run as a program (`python -m embrepro.source_code`, the first stage of `dvc.yaml`), it writes one file for each stage,
which lists the stage's modules with their hashes; the stage depends on that file. It imports nothing but the standard
library, so that a run with nothing to do stays quick.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent
STAGES = {
    "download": "embrepro.pipeline.download",
    "encode": "embrepro.pipeline.encode",
    "evaluate": "embrepro.pipeline.evaluate",
    "benchmark": "embrepro.pipeline.benchmark",
    "case": "embrepro.pipeline.case",
    "aggregate": "embrepro.pipeline.aggregate",
    "report": "embrepro.pipeline.report",
    "check": "embrepro.pipeline.check",
}
"""The module that each stage of `dvc.yaml` runs."""
FOLDER = Path(".embrepro") / "code"


def code_hash(*modules: str) -> str:
    """SHA-256 over the content of modules, of all they import of this package, and of the data files beside them."""
    return _hash_text(json.dumps(dependencies(*modules), sort_keys=True))


def dependencies(*modules: str, package: Path = PACKAGE) -> dict[str, str]:
    """SHA-256 by name of every module and data file that these modules depend on, themselves included.

    Args:
        modules: dotted names, such as `embrepro.pipeline.encode`.
        package: folder of the package.

    Raises:
        KeyError: there is no such module.
    """
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        path = _path(package, name)
        if path is None:
            raise KeyError(name)
        found[name], imported = _read(path, path.stat().st_mtime_ns, name, package)
        waiting += imported
        if path.name == "__init__.py":
            found |= {
                f"{name}/{file.relative_to(path.parent).as_posix()}": _hash_file(file) for file in _data(path.parent)
            }
    return dict(sorted(found.items()))


@functools.cache
def _read(path: Path, _changed: int, name: str, package: Path) -> tuple[str, tuple[str, ...]]:
    """The hash of a module's syntax tree, and the modules of the package that it imports."""
    tree = ast.parse(path.read_bytes(), filename=str(path))
    imported = {name.rpartition(".")[0]} | {
        module for node in _executed(tree) for module in _imported(node, name, path, package)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _drop_strings(node)
    return _hash_text(ast.dump(tree)), tuple(sorted(module for module in imported if module.startswith(package.name)))


def _executed(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements anywhere in a tree but under `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            for other in child.orelse:
                yield from _executed(other)
        elif isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        else:
            yield from _executed(child)


def _imported(node: ast.Import | ast.ImportFrom, name: str, path: Path, package: Path) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if _path(package, alias.name))
        return
    if node.level:
        base = name if path.name == "__init__.py" else name.rpartition(".")[0]
        parts = base.split(".")[: len(base.split(".")) - node.level + 1]
        source = ".".join([*parts, *([node.module] if node.module else [])])
    else:
        source = node.module or ""
    if _path(package, source) is None:
        return
    yield source
    yield from (f"{source}.{alias.name}" for alias in node.names if _path(package, f"{source}.{alias.name}"))


def _path(package: Path, name: str) -> Path | None:
    """The file of a module of the package, if there is one."""
    first, _, rest = name.partition(".")
    if first != package.name:
        return None
    place = package.joinpath(*rest.split(".")) if rest else package
    return next((path for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file()), None)


def _data(folder: Path) -> Iterator[Path]:
    """Files of a package that are not Python, in its own folder and in folders that are no packages."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").is_file():
            yield from (
                file for file in sorted(path.rglob("*")) if file.is_file() and file.suffix not in (".py", ".pyc")
            )
        elif path.is_file() and path.suffix != ".py" and path.name != "py.typed":
            yield path


def _drop_strings(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    """Take strings that are no part of an expression out of a body: docstrings, of attributes too."""
    node.body = [
        line
        for line in node.body
        if not (
            isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
        )
    ] or [ast.Pass()]


def _hash_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write(folder: Path = FOLDER) -> None:
    """Write what each stage depends on; a file whose content stands is left alone."""
    for stage, module in STAGES.items():
        write_if_changed(folder / f"{stage}.json", dependencies(module))


def write_if_changed(path: Path, hashes: dict[str, str]) -> None:
    """Write hashes by name as JSON, whole or not at all; nothing where the file holds them."""
    text = json.dumps(hashes, indent=1) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)


if __name__ == "__main__":
    write()
