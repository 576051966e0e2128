"""What dvc.yaml says that a stage depends on is what it reads."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import REPOSITORY
from embrepro.config.schema import Config, parse_config
from embrepro.config.yaml_files import Strict
from embrepro.layout import Layout
from embrepro.pipeline import aggregate, benchmark, check, download, encode, evaluate, scored
from embrepro.pipeline.records import parameters
from stage_project import QUICK, values

pytest_plugins = ["stage_project"]


NAMED = 0
"""In place of an identity: parameters that a stage named to `records.parameters`."""


"""In place of an identity: parameters that a stage named to `records.parameters`."""


CHANGES_NOTHING = {
    "executor": "who does the work; no result depends on it",
    "source.mirror": "where bytes come from; what they are is pinned",
    "device.threads": "how many workers share the work; no result depends on it where numerics are portable",
}


READ_ELSEWHERE = {
    "device": "dvc.yaml takes the lock by it, and the program sets the numerics before a stage starts",
    "device.name": "dvc.yaml takes the lock by it",
    "device.numerics": "the program sets them before a stage starts",
    "models": "the keys alone",
    "tasks.allow_missing": "where a task has no score",
    "tasks.benchmark": "where no names are given",
}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> dict[int, set[str]]:
    """By the identity of a section of the configuration: the keys that were read of it."""
    found: dict[int, set[str]] = {}

    def record(self: Strict, names: Iterable[str]) -> None:
        found.setdefault(id(self), set()).update(names)

    def getattribute(self: Strict, name: str) -> Any:
        if name in type(self).__pydantic_fields__:
            record(self, {name})
        return original(self, name)

    def dump(self: Strict, include: set[str] | None = None, exclude: set[str] | None = None, **options: Any) -> Any:
        # `records.parameters` names what it takes of a dump of everything.
        if not isinstance(self, Config):
            record(self, (include or set(type(self).__pydantic_fields__)) - (exclude or set()))
        return original_dump(self, include=include, exclude=exclude, **options)

    def named(config: Config, names: Iterable[str]) -> dict[str, str]:
        names = list(names)
        found.setdefault(NAMED, set()).update(names)
        return parameters(config, names)

    for module in (download, encode, evaluate, aggregate, check, scored):
        monkeypatch.setattr(module, "parameters", named, raising=False)
    original, original_dump = Strict.__getattribute__, Strict.model_dump
    monkeypatch.setattr(Strict, "__getattribute__", getattribute)
    monkeypatch.setattr(Strict, "model_dump", dump)
    return found


def paths(config: Config, reads: dict[int, set[str]]) -> set[str]:
    """What was read, as keys of params.yaml."""
    plain = vars(config)
    sections = {"": config} | {name: plain[name] for name in ("tasks", "device", "source", "benchmark")}
    sections |= {f"models.{key}": model for key, model in plain["models"].items()}
    found = {f"{name}.{key}".lstrip(".") for name, section in sections.items() for key in reads.get(id(section), ())}
    return (found - {*sections, "models"}) | reads.get(NAMED, set())


def declared(stage: str, key: str, config: Config) -> set[str]:
    """The parameters of a stage in dvc.yaml, for one model."""
    found = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"][stage]
    return {
        name.replace("${key}", key).replace("${baseline}", vars(config)["baseline"])
        for name in found.get("do", found)["params"]
    }


@pytest.mark.usefixtures("preloaded_workers")
@pytest.mark.parametrize("stage", ["download", "encode", "evaluate", "benchmark", "aggregate", "check"])
def test_a_stage_reads_the_parameters_that_dvc_yaml_names_and_no_others(
    stage: str, project: Layout, sources: Path, reads: dict[int, set[str]]
) -> None:
    chosen = parse_config(values(sources) | QUICK, "test")
    for made in ("embeddings", "results", "data/tasks"):
        if (stage, made) in (("encode", "embeddings"), ("evaluate", "results"), ("download", "data/tasks")):
            shutil.rmtree(project.root / made)
    reads.clear()
    module = {"download": download, "encode": encode, "evaluate": evaluate, "benchmark": benchmark}.get(stage)
    if module is None:
        {"aggregate": aggregate, "check": check}[stage].run(chosen, project)
    elif module is download:
        module.run(chosen, project)
    else:
        module.run(chosen, project, "small")
    found, wanted = paths(chosen, reads) - set(CHANGES_NOTHING), declared(stage, "small", chosen)
    assert {path for path in found if not any(f"{path}.".startswith(f"{name}.") for name in wanted)} == set()
    unread = {name for name in wanted if not any(f"{path}.".startswith(f"{name}.") for path in found)}
    assert unread - set(READ_ELSEWHERE) == set()
