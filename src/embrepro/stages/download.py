"""Download: every model's files and every task's data and request list, pinned and checked. The only stage with a network."""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path

from embrepro import console
from embrepro.config import Config
from embrepro.errors import KitError
from embrepro.files import fingerprint, keep_only, make_folder, read_json, replacing_folder, source_hash, write_json
from embrepro.layout import Layout
from embrepro.models import expect_device
from embrepro.sources import models as model_sources
from embrepro.stages.records import Outcome, Record, reason
from embrepro.tasks import first_stage, frozen, registry, requests
from embrepro.tasks.registry import Request

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
        manifest, kept = model_sources.fetch(model, layout.models / key, mirror)
        took = "kept" if kept else console.duration(time.monotonic() - started)
        console.say(
            f"model {key}: {manifest.source}, {manifest.bytes / 1e6:.1f} MB, content {manifest.content_hash[:12]} ({took})"
        )


def _freeze(request: Request, layout: Layout, mirror: Path | None, rerank: int | None) -> Outcome:
    folder = layout.tasks / request.name
    key = _key(request, rerank)
    started = time.monotonic()
    try:
        if _is_whole(folder, key):
            manifest, took = frozen.read_manifest(folder), "kept"
        else:
            with replacing_folder(folder) as unfinished:
                frozen.freeze(request, unfinished, mirror)
                manifest = requests.write(request, unfinished, rerank)
                write_json(unfinished / "key.json", {"key": key})
            took = console.duration(time.monotonic() - started)
    except (
        Exception
    ) as error:  # one task's failure must not take the others down; it becomes a row with its reason
        console.complain(f"task {request.name}: {reason(error)}")
        return Outcome(status=reason(error), stage=STAGE)
    console.say(f"task {request.name}: {sum(manifest.rows.values())} rows from {manifest.source} ({took})")
    return Outcome(stage=STAGE, key=manifest.data_hash)


def _is_whole(folder: Path, key: str) -> bool:
    try:
        if read_json(folder / "key.json")["key"] != key:
            return False
        manifest = frozen.read_manifest(folder)
        frozen.verify(folder, manifest.files | manifest.requests)
    except (KitError, KeyError, ValueError):
        return False
    return True


def _key(request: Request, rerank: int | None) -> str:
    """What decides a frozen task: what is asked for, the task's pins, mteb, BM25, and the code that freezes."""
    task = registry.create(request)
    metadata = task.metadata
    depth = rerank if first_stage.is_searched(task) else None
    packages = {name: version(name) for name in ("mteb", "datasets", "pyarrow", "polars", "bm25s", "pystemmer")}
    code = source_hash("tasks")
    return fingerprint(
        [request.name, request.subsets, request.splits, depth, dict(metadata.dataset), packages, code]
    )
