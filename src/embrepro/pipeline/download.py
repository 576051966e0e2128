"""Download: every model's files and every task's data and request list, pinned and checked. The only stage with a network."""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embrepro.config.schema import Config
from embrepro.errors import KitError
from embrepro.files import fingerprint, keep_only, make_folder, read_json, replacing_folder, write_json
from embrepro.layout import Layout
from embrepro.models import expect_device
from embrepro.pipeline.records import Record, TaskOutcome, reason
from embrepro.progress import console
from embrepro.source_code import code_hash
from embrepro.sources import models as model_sources
from embrepro.tasks import encode_requests, first_stage, freezing, registry
from embrepro.tasks.registry import Request

if TYPE_CHECKING:
    from mteb import AbsTask

STAGE = "download"


def run(config: Config, layout: Layout) -> Record:
    """Fetch what the configuration asks for, drop what it no longer asks for, and record what became of each task.

    Raises:
        ConfigError: an unknown task, language or subset, or a device that is not there.
        SourceError: a model cannot be had.
    """
    mirror = config.mirror
    expect_device(config.device)
    requested = registry.resolve(config.tasks)
    make_folder(layout.models)
    make_folder(layout.tasks)
    _fetch_models(config, layout, mirror)
    leaves = {leaf.name: leaf for request in requested for leaf in request.leaves()}
    rerank = config.tasks.rerank if any(model.scores_pairs for model in config.models.values()) else None
    record = Record()
    with console.work(STAGE, "tasks", len(leaves), "tasks") as work:
        for leaf in leaves.values():
            record.tasks[leaf.name] = _freeze(leaf, layout, mirror, rerank)
            work.advance(1)
    keep_only(layout.models, set(config.models))
    keep_only(layout.tasks, {name for name, outcome in record.tasks.items() if outcome.done})
    record.write(layout.download_record)
    return record


def _fetch_models(config: Config, layout: Layout, mirror: Path | None) -> None:
    for key, model in config.models.items():
        started = time.monotonic()
        manifest, kept = model_sources.fetch(model, layout.models / key, mirror, config.device.numerics)
        took = "kept" if kept else console.duration(time.monotonic() - started)
        console.say(
            f"model {key}: {manifest.source}, {manifest.bytes / 1e6:.1f} MB, content {manifest.content_hash[:12]} ({took})"
        )


def _freeze(request: Request, layout: Layout, mirror: Path | None, rerank: int | None) -> TaskOutcome:
    folder = layout.tasks / request.name
    task = registry.create(request)
    key = {"key": _key(request, task), "rerank": rerank if first_stage.is_searched(task) else None}
    started = time.monotonic()
    try:
        if (found := _key_if_whole(folder)) == key:
            manifest, took = freezing.read_manifest(folder), "kept"
        else:
            with replacing_folder(folder) as unfinished:
                if found["key"] == key["key"]:  # only its ranking is another: the source need not be there again
                    freezing.copy(folder, unfinished)
                else:
                    freezing.freeze(request, unfinished, mirror)
                manifest = encode_requests.write(request, unfinished, key["rerank"])
                write_json(unfinished / "key.json", key)
            took = console.duration(time.monotonic() - started)
    except Exception as error:  # one task's failure must not take the others down; it becomes a row with its reason
        console.say_error(f"task {request.name}: {reason(error)}")
        return TaskOutcome(status=reason(error), stage=STAGE)
    console.say(f"task {request.name}: {sum(manifest.rows.values())} rows from {manifest.source} ({took})")
    return TaskOutcome(stage=STAGE, key=manifest.data_hash)


def _key_if_whole(folder: Path) -> dict[str, Any]:
    """The key under which a task was frozen, where all its files are as they were written then."""
    try:
        found = read_json(folder / "key.json")
        manifest = freezing.read_manifest(folder)
        freezing.verify(folder, manifest.files | manifest.requests)
        return {"key": found["key"], "rerank": found["rerank"]}
    except (KitError, KeyError, ValueError):
        return {"key": None, "rerank": None}


def _key(request: Request, task: AbsTask) -> str:
    """What decides a frozen task: what is asked for, the task's pins, mteb, BM25, and the code that freezes."""
    packages = {name: version(name) for name in ("mteb", "datasets", "pyarrow", "polars", "bm25s", "pystemmer")}
    code = code_hash("embrepro.tasks.encode_requests", "embrepro.suite")
    return fingerprint([request.name, request.subsets, request.splits, dict(task.metadata.dataset), packages, code])
