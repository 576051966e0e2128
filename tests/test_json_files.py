"""Fuzzing of what stages leave for one another: anything but what was written is read as nothing else, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import REPOSITORY
from embrepro.errors import KitError
from embrepro.files import read_model
from embrepro.pipeline.records import Record
from embrepro.results import result_files
from embrepro.results.summary import Summary
from embrepro.sources.models import ModelManifest
from embrepro.tasks.freezing import Manifest

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
SHA = "0" * 64
RECORD = {
    "tasks": {
        "STS12": {
            "status": "done",
            "stage": "evaluate",
            "key": SHA,
            "files": {"STS12.json": SHA},
            "details": {"score": 0.5},
        },
        "STS14": {"status": "mteb cannot load it", "stage": "download", "key": None, "files": {}, "details": {}},
    },
    "details": {"revision": "1", "dimensions": 8},
}
MODEL = {
    "name": "org/name",
    "revision": "1" * 40,
    "source": "mirror",
    "spec_hash": SHA,
    "content_hash": SHA,
    "files": {"model.safetensors": SHA},
    "bytes": 12,
    "distilled_from": None,
}
TASK = {
    "format": 1,
    "task": "STS12",
    "type": "STS",
    "main_score": "cosine_spearman",
    "repository": "mteb/sts12",
    "revision": "1" * 40,
    "source": "hub",
    "licence": None,
    "languages": ["eng-Latn"],
    "subsets": ["default"],
    "splits": ["test"],
    "rows": {"test": 2},
    "tree": {"children": {"test": {"kind": "table"}}},
    "attributes": {},
    "random_state": None,
    "row_hashes": {"test": SHA},
    "pinned": True,
    "files": {"data/test.parquet": SHA},
    "requests": {"texts.arrow": SHA},
}
RESULT = {
    "task_name": "STS12",
    "scores": {"test": [{"hf_subset": "default", "main_score": 0.5, "languages": ["eng-Latn"], "pearson": 0.4}]},
}
SUMMARY = json.loads((REPOSITORY / "reports" / "summary.json").read_text(encoding="utf-8"))
READERS: dict[str, tuple[Callable[[Path], object], dict[str, Any]]] = {
    "record": (Record.read, RECORD),
    "manifest of a model": (lambda path: read_model(path, ModelManifest), MODEL),
    "manifest of a task": (lambda path: read_model(path, Manifest), TASK),
    "result": (result_files.read_numbers, RESULT),
    "summary": (lambda path: read_model(path, Summary), SUMMARY),
}


def paths(values: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values."""
    inside = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [path, *(found for key, value in inside for found in paths(value, (*path, key)))]


def changed(values: Any, path: tuple[Any, ...], value: object) -> Any:
    if not path:
        return value
    copied = list(values) if isinstance(values, list) else dict(values)
    copied[path[0]] = changed(values[path[0]], path[1:], value)
    return copied


def expect_read_or_refused(read: Callable[[Path], object], path: Path) -> None:
    try:
        read(path)
    except KitError as error:
        assert path.name in str(error)
        assert len(str(error)) < 2000


@pytest.mark.parametrize("kind", READERS)
def test_any_value_anywhere_is_read_or_refused_by_name(kind: str, tmp_path: Path) -> None:
    read, values = READERS[kind]
    path = tmp_path / "file.json"
    found = paths(values)

    @FUZZ
    @given(place=st.sampled_from(found), value=VALUES, key=st.text(max_size=8), added=st.booleans())
    def fuzz(place: tuple[Any, ...], value: object, key: str, added: bool) -> None:
        path.write_text(json.dumps(changed(values, place, {key: value} if added else value)), encoding="utf-8")
        expect_read_or_refused(read, path)

    path.write_text(json.dumps(values), encoding="utf-8")
    fuzz()


@pytest.mark.parametrize("kind", READERS)
def test_any_bytes_anywhere_are_read_or_refused_by_name(kind: str, tmp_path: Path) -> None:
    read, values = READERS[kind]
    content = json.dumps(values).encode()
    path = tmp_path / "file.json"

    @FUZZ
    @given(
        where=st.integers(0, len(content)),
        removed=st.integers(0, 40) | st.just(len(content)),
        added=st.binary(max_size=8) | st.sampled_from([b"[" * 100_000, b"9" * 5000, b"NaN", b'"\\ud800"', b"\0"]),
    )
    def fuzz(where: int, removed: int, added: bytes) -> None:
        path.write_bytes(content[:where] + added + content[where + removed :])
        expect_read_or_refused(read, path)

    fuzz()
