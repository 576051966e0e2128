"""Download: every model's files and every task's data and request list, pinned and checked. The only stage with a network."""

from __future__ import annotations

import json
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from embrepro import experiment_cache, numerics
from embrepro.cases import environment
from embrepro.config.schema import Config, Device
from embrepro.errors import KitError, SourceError
from embrepro.experiment_cache import ExperimentCache, link
from embrepro.files import fingerprint, keep_only, make_folder, read_json, replacing_folder, write_json, write_sealed
from embrepro.layout import Layout
from embrepro.models import expect_device
from embrepro.own_data import definition as own_files
from embrepro.pipeline.records import TASKS, Record, TaskOutcome, parameters, reason
from embrepro.progress import console
from embrepro.source_code import code_hash
from embrepro.sources import models as model_sources
from embrepro.tasks import encode_requests, freezing, pins, requested
from embrepro.tasks.freezing import Manifest
from embrepro.tasks.pins import Pin
from embrepro.tasks.registry import Request

STAGE = "download"


def run(config: Config, layout: Layout) -> Record:
    """Fetch what the configuration asks for, drop what it no longer asks for, and record what became of each task.

    Raises:
        ConfigError: an unknown task, language or subset, malformed files of one's own, or a device that is not there.
        SourceError: no model at all can be obtained, or one's folder on this machine is not there.
    """
    mirror = config.mirror
    if config.executor.name == "local":
        expect_device(config.device)
    asked = requested.resolve(config.tasks, layout.root)
    _expect_own_files(asked)
    make_folder(layout.models)
    make_folder(layout.tasks)
    shared = experiment_cache.of(layout.root)
    _fetch_models(config, layout, mirror, shared)
    leaves = requested.leaves(asked)
    rerank = config.tasks.rerank if any(model.scores_pairs for model in config.models.values()) else None
    record = Record(made_for=parameters(config, [*TASKS, "tasks.rerank"]))
    with console.work(STAGE, "tasks", len(leaves), "tasks") as work:
        for leaf in leaves.values():
            record.tasks[leaf.name] = _freeze(leaf, layout, mirror, rerank, shared)
            work.advance(1)
    keep_only(layout.models, set(config.models))
    # A task that cannot be obtained now keeps the data of an earlier run, which serves again once it can.
    keep_only(layout.tasks, set(record.tasks))
    record.write(layout.download_record)
    if config.cases:
        _make_environment(layout)
    return record


def _make_environment(layout: Layout) -> None:
    """The environment of the cases' older mteb; without it their stage leaves the reason, and nothing else is lost."""
    try:
        environment.make(layout.root)
    except KitError as error:
        console.say_error(f"cases: {reason(error)}")


def _expect_own_files(asked: list[Request]) -> None:
    """Refuse one's own files where they are malformed: before any work, since only their owner can mend them."""
    for request in asked:
        if own_files.exists(request.name):
            from embrepro.own_data import tasks as own_tasks

            own_tasks.load(request.name)


def _fetch_models(config: Config, layout: Layout, mirror: Path | None, shared: ExperimentCache) -> None:
    """Fetch every model; one that cannot be obtained is marked and does not stop the others, unless there are none."""
    lost = {}
    for key, model in config.models.items():
        started = time.monotonic()
        try:
            manifest, kept = model_sources.fetch(
                model, layout.models / key, mirror, config.device.numerics, shared, _workers(config.device)
            )
        except SourceError as error:
            # A folder of this machine that is not there is a mistake in the configuration, and no fault that may pass.
            if model.folder:
                raise
            lost[key] = reason(error)
            continue
        took = "kept" if kept else console.duration(time.monotonic() - started)
        console.say(
            f"model {key}: {manifest.source}, {manifest.bytes / 1e6:.1f} MB, content {manifest.content_hash[:12]} ({took})"
        )
    if len(lost) == len(config.models):
        raise SourceError("\n".join(lost.values()))
    for key, why in lost.items():
        console.say_error(f"model {key}: {why}")
        model_sources.mark_unavailable(layout.models / key, why)


def _workers(device: Device) -> int:
    """Processes of one thread each where numerics are portable, else one of many threads."""
    return numerics.workers(device.threads) if device.numerics == "portable" else 1


def _freeze(
    request: Request, layout: Layout, mirror: Path | None, rerank: int | None, shared: ExperimentCache
) -> TaskOutcome:
    folder = layout.tasks / request.name
    depth = rerank if request.searched else None
    key = {"key": _key(request), "rerank": depth}
    started = time.monotonic()
    try:
        pin = pins.read_pin(request.name, layout.root / pins.PINS)
        found = _key_if_whole(folder)
        if found == key or _take(shared, key, folder):
            manifest, took = _with_pin(folder, pin), "kept" if found == key else "from another experiment"
        else:
            with replacing_folder(folder) as unfinished:
                # Only its ranking is another: the source need not be there again
                if found["key"] == key["key"]:
                    freezing.copy(folder, unfinished)
                else:
                    freezing.freeze(request, unfinished, mirror, pin)
                manifest = encode_requests.write(request, unfinished, depth)
                write_json(unfinished / "key.json", key)
            shared.add("tasks", fingerprint(key), partial(link, folder))
            took = console.duration(time.monotonic() - started)
    except Exception as error:
        # One task's failure must not take the others down; it becomes a row with its reason
        console.say_error(f"task {request.name}: {reason(error)}")
        return TaskOutcome(status=reason(error), stage=STAGE)
    pinned = "pinned" if manifest.pinned else "NOT pinned"
    console.say(f"task {request.name}: {sum(manifest.rows.values())} rows from {manifest.source}, {pinned} ({took})")
    return TaskOutcome(stage=STAGE, key=manifest.data_hash)


def _take(shared: ExperimentCache, key: dict[str, Any], folder: Path) -> bool:
    """Put a task that another experiment has frozen under `folder`, where there is such and it is whole."""
    entry = shared.find("tasks", fingerprint(key))
    if entry is None:
        return False
    if _key_if_whole(entry) != key:
        shared.drop("tasks", fingerprint(key))
        return False
    with replacing_folder(folder) as unfinished:
        link(entry, unfinished)
    return True


def _with_pin(folder: Path, pin: Pin | None) -> Manifest:
    """The manifest of kept data, compared with a pin that may have come since."""
    before = freezing.read_manifest(folder)
    manifest = freezing.check_pin(before, pin)
    if manifest != before:
        write_sealed(folder / "manifest.json", manifest)
    return manifest


def _key_if_whole(folder: Path) -> dict[str, Any]:
    """The key under which a task was frozen, where all its files are as they were written then."""
    try:
        found = read_json(folder / "key.json")
        manifest = freezing.read_manifest(folder)
        freezing.verify(folder, manifest.files | manifest.requests)
        return {"key": found["key"], "rerank": found["rerank"]}
    except (KitError, KeyError, ValueError):
        return {"key": None, "rerank": None}


def _key(request: Request) -> str:
    """What decides a frozen task: what is asked for, the task's pins, mteb, BM25, and the code that freezes."""
    packages = {name: version(name) for name in ("mteb", "datasets", "pyarrow", "polars", "bm25s", "pystemmer")}
    code = code_hash("embrepro.tasks.encode_requests", "embrepro.suite", "embrepro.own_data.tasks")
    return fingerprint([request.name, request.subsets, request.splits, json.loads(request.dataset), packages, code])
