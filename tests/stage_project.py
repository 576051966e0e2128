"""A project of made-up data and tiny models, which the stages from download to metrics ran in once; and its configuration."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY, build_sources, made_once
from embrepro.config.compose import compose_values
from embrepro.config.schema import Config, parse_config
from embrepro.layout import Layout
from embrepro.pipeline import aggregate, download, encode, evaluate
from tiny_mirror import TASKS

MODELS = ("big", "small")


QUICK = {"benchmark": {"repeats": 6, "batch_sizes": [1], "seconds": 0.001, "longest_batch": 0.5, "queries": 3}}


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror and two tiny static models."""
    return made_once(tmp_path_factory, "sources of stages", build_sources)


def values(sources: Path, **changes: Any) -> dict[str, Any]:
    """A configuration over the sources; changes are given as section__key=value."""
    composed = compose_values(["device.threads=1"], REPOSITORY / "conf")
    composed["models"] = {
        name: {"org": "test", "name": name, "family": "static", "folder": str(sources / name)} for name in MODELS
    }
    composed |= {"candidate": "small", "baseline": "big", "benchmarked": {"small": True}}
    composed["tasks"] = {"names": list(TASKS)}
    composed["source"] = {"mirror": str(sources / "mirror")}
    for path, value in changes.items():
        *sections, key = path.split("__")
        section = composed
        for name in sections:
            section = section[name]
        section[key] = value
    return composed


def configuration(sources: Path, **changes: Any) -> Config:
    return parse_config(values(sources, **changes), "test")


def run(chosen: Config, layout: Layout) -> dict[str, Any]:
    """All stages in order; returns the metrics."""
    download.run(chosen, layout)
    for key in chosen.models:
        encode.run(chosen, layout, key)
        evaluate.run(chosen, layout, key)
    aggregate.run(chosen, layout)
    return json.loads((layout.reports / "metrics.json").read_text())


def metrics_bytes(layout: Layout) -> bytes:
    return (layout.reports / "metrics.json").read_bytes()


def times(*folders: Path) -> dict[Path, int]:
    """When each file under the folders was written, records apart: those are rewritten by every run."""
    return {
        path: path.stat().st_mtime_ns
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("record.json", "model_meta.json")
    }


@pytest.fixture(scope="session")
def done(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A project after a whole run. A test changes a copy of it."""
    return Layout(made_once(tmp_path_factory, "stages", lambda root: run(configuration(sources), Layout(root))))


@pytest.fixture
def project(done: Layout, tmp_path: Path) -> Layout:
    """A copy of that project, free to be spoilt."""
    shutil.copytree(done.root, tmp_path / "project")
    return Layout(tmp_path / "project")
