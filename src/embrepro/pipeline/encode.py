"""Encode: a model's embeddings of every frozen task's distinct texts. The only stage that needs a model, or a GPU."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from embrepro import experiment_cache, numerics
from embrepro.config.schema import Config, Device, ModelConfig
from embrepro.embeddings import store
from embrepro.embeddings.plan import batch_rule
from embrepro.errors import ConfigError, KitError
from embrepro.experiment_cache import ExperimentCache, link
from embrepro.files import expect_room, fingerprint, keep_only, make_folder, read_sealed, replacing, write_sealed
from embrepro.layout import Layout
from embrepro.pipeline.records import TASKS, Record, TaskOutcome, parameters, reason
from embrepro.progress import console
from embrepro.source_code import code_hash
from embrepro.sources import models as model_sources
from embrepro.sources.models import ModelManifest
from embrepro.tasks import encode_requests, freezing, registry, requested
from embrepro.tasks.encode_requests import RequestList
from embrepro.tasks.freezing import Manifest
from embrepro.tasks.registry import Request

STAGE = "encode"
PACKAGES = ("torch", "transformers", "tokenizers", "sentence-transformers", "mteb", "numpy")
SHARDS = ".shards"
OUTCOME = "outcome.json"
"""Beside embeddings that experiments share: what became of the task."""


@dataclass(frozen=True)
class ToEncode:
    """A task that has no stored embeddings yet."""

    leaf: Request
    listed: RequestList
    key: str


def run(config: Config, layout: Layout, key: str, part: tuple[int, int] = (1, 1)) -> Record:
    """Encode what is not encoded yet, drop what is no longer asked for, and record what became of each task.

    Args:
        config: the configuration.
        layout: the project's folders.
        key: the model.
        part: (i, n) encodes every n-th shard, from the i-th on, and leaves merging to a run of the whole.

    Raises:
        ConfigError: an unknown model, or a device that is not there.
        SourceError: the model's files are damaged or do not load.
        KitError: a worker process was killed, or the disk has no room for the embeddings; finished shards are kept.
    """
    model = config.model(key)
    folder = layout.embeddings(key)
    make_folder(folder / SHARDS)
    if why := model_sources.why_unavailable(layout.models / key):
        return _record_unavailable(config, layout, key, why)
    manifest, snapshot = model_sources.read_for(layout.models / key, model, config.device.numerics)
    recipe = recipe_of(model, config.device, manifest.content_hash)
    before = Record.read_if_there(layout.encode_record(key)).made()
    if before.details.get("recipe") != recipe:
        before = Record()
    record = Record(details=before.details, made_for=made_for(config, key))
    missing = _sort_out(config, layout, key, recipe, before, record)
    record.keep(before)
    if missing or not before.details:
        _encode(config, layout, key, manifest, snapshot, recipe, missing, record, part)
    if part != (1, 1):
        return record
    record.keep(before)
    keep_only(folder, record.files | {layout.encode_record(key).name})
    record.write(layout.encode_record(key))
    return record


def _record_unavailable(config: Config, layout: Layout, key: str, why: str) -> Record:
    """Of a model that could not be obtained: the reason for every task. Embeddings of an earlier run stay."""
    console.say_error(f"encode {key}: {why}")
    leaves = requested.leaves(requested.resolve(config.tasks, layout.root))
    lost = {name: TaskOutcome(status=why, stage="download") for name in leaves}
    record = Record(tasks=lost, made_for=made_for(config, key))
    record.keep(Record.read_if_there(layout.encode_record(key)).made())
    record.write(layout.encode_record(key))
    return record


def made_for(config: Config, key: str) -> dict[str, str]:
    """The parameters that a model's embeddings are made for."""
    numeric = ["device.name", "device.numerics", "device.batch_size", "device.batch_tokens"]
    numeric += ["device.threads"] if config.device.numerics == "native" else []
    return parameters(config, [f"models.{key}", *numeric, *TASKS])


def parse_part(text: str) -> tuple[int, int]:
    """`i/n`, such as 2/8, as numbers; raises ConfigError unless 1 <= i <= n."""
    number, slash, count = text.partition("/")
    if slash and number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count):
        return int(number), int(count)
    raise ConfigError(f"--shard: expected i/n with 1 <= i <= n, such as 2/8; got {text!r}")


def _sort_out(config: Config, layout: Layout, key: str, recipe: str, before: Record, record: Record) -> list[ToEncode]:
    """Record what is kept and what cannot be read; returns what is to be encoded."""
    model = config.models[key]
    asked = [*TASKS, "tasks.rerank"] if model.scores_pairs else TASKS
    downloaded = Record.read_for(layout.download_record, parameters(config, asked), "download")
    missing = []
    shared = experiment_cache.of(layout.root)
    leaves = requested.leaves(requested.resolve(config.tasks, layout.root))
    for name, leaf in leaves.items():
        if not (fetched := downloaded.outcome(name, "download")).done:
            record.tasks[name] = fetched
            continue
        try:
            frozen = freezing.read_recorded(layout.tasks / name, downloaded.tasks[name].key)
            wanted = key_of(recipe, name, frozen, model)
            kept = before.tasks.get(name)
            if kept and kept.key == wanted and _is_stored(layout.embeddings(key), kept):
                console.say(f"encode {key} {name}: {kept.details['texts']} {_unit(model)} (kept)")
                record.tasks[name] = kept
                continue
            if (found := _take(shared, wanted, store.path_of(layout.embeddings(key), name))) is not None:
                console.say(f"encode {key} {name}: {found.details['texts']} {_unit(model)} (from another experiment)")
                record.tasks[name] = found
                continue
            listed = encode_requests.read(
                layout.tasks / name, frozen, pairs=model.scores_pairs, pair_tasks=model.pair_tasks
            )
            missing.append(ToEncode(leaf, listed, wanted))
        except (KitError, OSError, KeyError, pl.exceptions.PolarsError, pa.ArrowException) as error:
            record.tasks[name] = _lost(key, name, error)
    return missing


def key_of(recipe: str, task: str, frozen: Manifest, model: ModelConfig) -> str:
    """Everything that could change the embeddings of a task; raises TaskError where a model cannot do it."""
    asked = encode_requests.identity(frozen, pairs=model.scores_pairs, pair_tasks=model.pair_tasks)
    return store.embeddings_key(recipe, task, asked)


def _take(shared: ExperimentCache, key: str, path: Path) -> TaskOutcome | None:
    """Put embeddings that another experiment has made where `path` says, where there are such and they are whole."""
    entry = shared.find("embeddings", key)
    if entry is None:
        return None
    try:
        found = read_sealed(entry / OUTCOME, TaskOutcome)
    except KitError:
        found = None
    # The names come from a folder that others write to.
    if found is None or found.key != key or set(found.files) != {path.name} or not _is_stored(entry, found):
        shared.drop("embeddings", key)
        return None
    with replacing(path) as unfinished:
        link(entry / path.name, unfinished)
    return found


def _fill(path: Path, outcome: TaskOutcome, entry: Path) -> None:
    link(path, entry / path.name)
    write_sealed(entry / OUTCOME, outcome)


def _is_stored(folder: Path, outcome: TaskOutcome) -> bool:
    """Whether a task's file has the very bytes that were recorded."""
    return all((folder / name).is_file() and store.digest(folder / name) == sha for name, sha in outcome.files.items())


def _encode(
    config: Config,
    layout: Layout,
    key: str,
    manifest: ModelManifest,
    snapshot: Path,
    recipe: str,
    missing: list[ToEncode],
    record: Record,
    part: tuple[int, int],
) -> None:
    import embrepro.models
    from embrepro.embeddings import encoding

    model, device, folder = config.models[key], config.device, layout.embeddings(key)
    on_ray = config.executor.name == "ray"
    # With Ray this machine reads the texts and needs no GPU.
    here = device.model_copy(update={"name": "cpu"}) if on_ray else device
    load = partial(embrepro.models.load_encoder, snapshot, model, here, manifest.revision)
    encoding.fix_order_of_sums(here)
    encoder = load(here.name)
    if here.name == "cpu" and here.numerics == "portable" and numerics.differs():
        console.say_error(
            f"encode {key}: this machine computes other bytes than portable numerics promise; the last digits of what follows "
            "may be this machine's own"
        )
    loaded = embrepro.models.model_in(encoder)
    known = embrepro.models.describe(loaded)
    record.details = {
        **known.as_dict(),
        "revision": manifest.revision,
        "content_hash": manifest.content_hash,
        "recipe": recipe,
    }
    rule = batch_rule(model, device)
    tasks, listed, started = [], {}, time.monotonic()
    for each in missing:
        plan, lengths = encoding.plan_task(
            each.listed.texts, rule, loaded, pairs=model.scores_pairs, threads=numerics.workers(device.threads)
        )
        # A prompt may depend on it, and what has none does not pay for importing mteb.
        metadata = registry.create(each.leaf).metadata if loaded is not encoder else None
        name = each.leaf.name
        listed[name] = each.listed
        tasks.append(
            encoding.TaskShards(
                name, metadata, each.listed.texts, model.scores_pairs, each.key, folder / SHARDS, plan, lengths
            )
        )
    _drop_other_shards(folder / SHARDS, tasks)
    left = {task.task: {index for index in range(task.plan.shards) if task.stored(index) is None} for task in tasks}
    if not embrepro.models.is_sparse(encoder):
        expect_room(folder, room_needed(tasks, left, known, part), "Until all shards are merged, the embeddings need")
    total = sum(task.size(index) for task in tasks for index in left[task.task])
    finished = [task for task in tasks if not left[task.task]]
    # Merging removes shards, which must not be taken for ones to encode; a part numbers the shards of all tasks.
    unfinished = [task for task in tasks if left[task.task]] if part == (1, 1) else tasks
    with console.work(STAGE, key, total, "tokens" if rule.tokens else "bytes") as progress:
        if part == (1, 1):
            for task in finished:
                _merge(task, layout, key, model, listed[task.task], record, started)
        if on_ray:
            from embrepro.executors import encoding as ray_encoding

            done = ray_encoding.encode_shards(
                snapshot, model, device, manifest.revision, unfinished, config.executor, part=part
            )
        else:
            done = encoding.encode_shards(encoder, unfinished, workers_of(device, load), part=part)
        for task, index, error in done:
            progress.advance(task.size(index))
            if error is not None:
                record.tasks[task.task] = _lost(key, task.task, error)
                continue
            left[task.task].discard(index)
            if not left[task.task] and part == (1, 1):
                _merge(task, layout, key, model, listed[task.task], record, started)
    if part != (1, 1):
        console.say(
            f"encode {key}: part {part[0]} of {part[1]} is done; run `embrepro encode {key}` to merge all parts"
        )


def room_needed(tasks: list[Any], left: dict[str, set[int]], known: Any, part: tuple[int, int] = (1, 1)) -> int:  # noqa: ANN401
    """Bytes that encoding writes at the least: shards, and the largest task's merged file beside its own shards.

    Args:
        tasks: what to encode, as `encoding.TaskShards`.
        left: for each task the shards that are not stored yet.
        known: the model's dimensions and dtype, as `models.ModelProperties`.
        part: (i, n) writes every n-th shard and merges nothing.
    """
    row = (known.dimensions or 1) * {"float16": 2, "float64": 8}.get(known.dtype, 4)
    shards = sum(len(task.plan.shard(index).rows) for task in tasks for index in left[task.task])
    merged = max((len(task.texts) for task in tasks), default=0) if part == (1, 1) else 0
    return row * (shards // part[1] + merged)


def _merge(
    task: Any,  # noqa: ANN401 - encoding.TaskShards, whose module is imported only where there is work
    layout: Layout,
    key: str,
    model: ModelConfig,
    listed: RequestList,
    record: Record,
    started: float,
) -> None:
    path = store.path_of(layout.embeddings(key), task.task)
    try:
        task.merge(path)
        details = {"texts": len(listed.texts), **_active(path, listed.texts)}
        record.tasks[task.task] = TaskOutcome(
            stage=STAGE, key=task.key, files={path.name: store.digest(path)}, details=details
        )
    except (KitError, ValueError) as error:
        record.tasks[task.task] = _lost(key, task.task, error)
        return
    # So that a run that is killed keeps every task that was finished.
    record.write(layout.encode_record(key))
    experiment_cache.of(layout.root).add("embeddings", task.key, partial(_fill, path, record.tasks[task.task]))
    asked = f" for {listed.asked} asked" if listed.asked != len(listed.texts) else ""
    seconds = console.duration(time.monotonic() - started)
    console.say(f"encode {key} {task.task}: {len(listed.texts)} {_unit(model)}{asked}, {seconds} since the start")


def _lost(key: str, name: str, error: BaseException) -> TaskOutcome:
    console.say_error(f"encode {key} {name}: {reason(error)}")
    return TaskOutcome(status=reason(error), stage=STAGE)


def _unit(model: ModelConfig) -> str:
    return "pairs" if model.scores_pairs else "texts"


def load_here(layout: Layout, key: str, config: Config, revision: str) -> Any:  # noqa: ANN401
    """A model as `mteb.evaluate` would get it, in mteb's wrapper, whatever encode makes use of."""
    import embrepro.models
    from embrepro.embeddings import encoding

    _, snapshot = model_sources.read(layout.models / key)
    encoding.fix_order_of_sums(config.device)
    model = config.models[key]
    loaded = embrepro.models.load(snapshot, model, config.device)
    return embrepro.models.wrap(loaded, model, revision, embrepro.models.describe(loaded))


def workers_of(device: Device, load: Any = None) -> Any:  # noqa: ANN401 - encoding.Workers, imported where there is work
    """Who encodes on this machine: one process a core where numerics are portable, one a GPU on CUDA."""
    from embrepro.embeddings.encoding import Workers

    if device.name == "cuda":
        import torch

        gpus = tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
        return Workers(len(gpus), load, gpus) if len(gpus) > 1 else Workers(1)
    return Workers(numerics.workers(device.threads) if device.numerics == "portable" else 1)


def _drop_other_shards(folder: Path, tasks: list[Any]) -> None:
    """Remove shards of other recipes, texts or plans."""
    keep_only(folder, {task.shard_path(index).name for task in tasks for index in range(task.plan.shards)})


def _active(path: Path, texts: pa.Table) -> dict[str, dict[str, list[int]]]:
    """Of a sparse model, by prompt kind: how many texts there are, and their dimensions that are not zero in all."""
    counts = store.active_dimensions(path)
    if counts is None:
        return {}
    found = pa.table({"prompt": texts["prompt"], "active": counts}).group_by("prompt")
    sums = found.aggregate([("active", "count"), ("active", "sum")]).sort_by("prompt").to_pylist()
    return {"active": {row["prompt"]: [row["active_count"], row["active_sum"]] for row in sums}}


def recipe_of(model: ModelConfig, device: Device, content_hash: str) -> str:
    """Everything beside the texts that could change an embedding."""
    return fingerprint(
        {
            "content": content_hash,
            "model": model.model_dump(
                include={"family", "dtype", "max_seq_length", "max_active_dims", "pair_tasks", "prompts", "batch_size"}
            ),
            "batch": [device.batch_size, device.batch_tokens],
            "device": device.name,
            "numerics": device.numerics,
            "threads": device.threads if device.numerics == "native" else 1,
            "packages": {name: version(name) for name in PACKAGES},
            "code": code_hash("embrepro.embeddings.encoding", "embrepro.numerics"),
        }
    )
