"""What makes work stale: exactly the modules that a stage imports, their data and their content, but no comment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import preloaded
from conftest import REPOSITORY
from embrepro import source_code
from embrepro.source_code import PACKAGE, STAGES, code_hash, dependencies

PIPELINE = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
MODULES = sorted(
    "embrepro" + "".join(f".{part}" for part in path.relative_to(PACKAGE).with_suffix("").parts if part != "__init__")
    for path in PACKAGE.rglob("*.py")
)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package."""
    return Path(shutil.copytree(PACKAGE, tmp_path / "embrepro", ignore=shutil.ignore_patterns("__pycache__")))


def stale(before: dict[str, dict[str, str]], package: Path) -> set[str]:
    """Stages whose dependencies differ from those before."""
    return {stage for stage, module in STAGES.items() if dependencies(module, package=package) != before[stage]}


def test_each_changed_module_makes_exactly_the_stages_stale_that_import_it(package: Path) -> None:
    before = {stage: dependencies(module, package=package) for stage, module in STAGES.items()}
    for name in MODULES:
        path = source_code._path(package, name)
        assert path is not None
        text = path.read_text()
        path.write_text(text + "\nchanged = True\n")
        assert stale(before, package) == {stage for stage in STAGES if name in before[stage]}, name
        path.write_text(text)


def test_a_comment_a_docstring_or_the_layout_of_the_code_makes_nothing_stale(package: Path) -> None:
    before = {stage: dependencies(module, package=package) for stage, module in STAGES.items()}
    for name in MODULES:
        path = source_code._path(package, name)
        assert path is not None
        path.write_text(path.read_text().replace('"""', '"""Other words. ', 1) + "\n\n\n# a comment\n")
    assert stale(before, package) == set()


@pytest.mark.parametrize(
    ("data", "stages"),
    [
        ("suite/data/code_understanding.jsonl", {"download", "evaluate", "benchmark"}),
        ("rendering/templates/report.css", {"report"}),
    ],
)
def test_data_files_of_a_package_count(data: str, stages: set[str], package: Path) -> None:
    before = {stage: dependencies(module, package=package) for stage, module in STAGES.items()}
    with (package / data).open("a") as file:
        file.write("\n")
    assert stages <= stale(before, package)
    assert "check" not in stale(before, package)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_whatever_python_loads_for_a_stage_is_among_its_dependencies(stage: str) -> None:
    code = f"import sys, {STAGES[stage]}; print([name for name in sys.modules if name.startswith('embrepro')])"
    python = preloaded.programs() / "python-with-libraries"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, env=environment)
    loaded = set(yaml.safe_load(done.stdout.splitlines()[-1]))
    assert STAGES[stage] in loaded
    assert loaded - set(dependencies(STAGES[stage])) == set()


@pytest.mark.parametrize(
    ("stage", "module"),
    [
        ("download", "embrepro.models.static"),
        ("download", "embrepro.sources.snapshots"),
        ("benchmark", "embrepro.benchmarking.speed"),
        ("benchmark", "embrepro.results.provenance"),
        ("evaluate", "embrepro.config.schema"),
    ],
)
def test_modules_that_lists_kept_by_hand_had_missed(stage: str, module: str) -> None:
    assert module in dependencies(STAGES[stage])


def test_dvc_yaml_takes_every_stages_code_and_lock_from_here() -> None:
    assert set(PIPELINE) == {"code", *STAGES}
    assert PIPELINE["code"]["cmd"] == f"python -m {source_code.__name__}"
    assert PIPELINE["code"]["deps"] == ["src/embrepro"]
    folder = source_code.FOLDER.as_posix()
    assert sorted(PIPELINE["code"]["outs"]) == sorted(f"{folder}/{stage}.json" for stage in STAGES)
    for stage in STAGES:
        deps = PIPELINE[stage].get("do", PIPELINE[stage])["deps"]
        assert f"{folder}/{stage}.json" in deps
        assert "requirements/${device.name}.lock" in deps
        assert not [dep for dep in deps if dep.startswith("src/")]


def test_keys_inside_the_stages_follow_the_code_too() -> None:
    assert code_hash("embrepro.files") != code_hash("embrepro.layout")
    with pytest.raises(KeyError):
        code_hash("embrepro.absent")


def test_files_that_stand_are_left_alone(tmp_path: Path) -> None:
    source_code.write(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert {path.stem for path in before} == set(STAGES)
    source_code.write(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    assert json.loads((tmp_path / "check.json").read_text())["embrepro.pipeline.check"]


def test_imports_for_types_alone_and_relative_ones(tmp_path: Path) -> None:
    package = tmp_path / "kit"
    (package / "part").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "part" / "__init__.py").write_text("from . import inner\n")
    (package / "part" / "inner.py").write_text("def f():\n    from ..other import x\n")
    (package / "other.py").write_text("x = 1\n")
    (package / "typed.py").write_text("")
    (package / "main.py").write_text(
        "from typing import TYPE_CHECKING\nimport kit.part\nif TYPE_CHECKING:\n    from kit import typed\n"
    )
    assert set(dependencies("kit.main", package=package)) == {
        "kit",
        "kit.main",
        "kit.part",
        "kit.part.inner",
        "kit.other",
    }
