"""Deep verification: everything on disk hashed, scored and summarized again, and a random part of it embedded again.

Nothing in the project is changed: what is computed again goes into a temporary folder and is compared from there.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy.sparse import issparse

import embrepro.models
from embrepro import numerics
from embrepro.config.schema import Config
from embrepro.embeddings import encoding, store
from embrepro.embeddings.plan import Shard, batch_rule
from embrepro.errors import ConfigError, KitError
from embrepro.files import read_json
from embrepro.layout import Layout
from embrepro.pipeline import aggregate, encode, evaluate
from embrepro.pipeline.records import Record, reason
from embrepro.regression.recomputed import Recomputed, RecomputedPart, RecomputedVerdict
from embrepro.sources import models as model_sources
from embrepro.sources import snapshots
from embrepro.tasks import encode_requests, freezing, main_scores, pins, registry, requested, samples
from embrepro.tasks.registry import Request
from embrepro.tasks.rows import hash_rows

TOLERANCE = 1e-4
"""How far embeddings made on another device, or with other packages, may lie off, in parts of the longest of them."""
ALIKE = ("task_name", "dataset_revision", "mteb_version", "scores")
"""What two evaluations of the same embeddings have in common; the rest of a result is dates and times."""


def verify(config: Config, layout: Layout, seed: int) -> list[Recomputed]:
    """Compute everything again and compare.

    Args:
        config: the configuration of the run.
        layout: the project's folders.
        seed: decides which embeddings are made again.

    Raises:
        KitError: there is no finished run.
        ConfigError: an unknown task.
    """
    if not (layout.reports / "summary.json").is_file():
        raise KitError(
            f"{layout.reports / 'summary.json'} is missing, so there is nothing to verify; `dvc repro` makes it."
        )
    config = config.model_copy(update={"executor": config.executor.model_copy(update={"name": "local"})})
    asked = registry.resolve(config.tasks)
    found = [*_part("data", "all tasks", partial(_data, layout, asked))]
    for key in config.models:
        found += _part("model", key, partial(_model, config, layout, key))
        found += _part("embeddings", key, partial(_embeddings, config, layout, key, seed))
    with tempfile.TemporaryDirectory(prefix="embrepro-") as folder:
        again = layout.beside(Path(folder))
        for key in config.models:
            found += _part("scores", key, partial(_scores, config, layout, again, key))
        found += _part("reports", "both models", partial(_reports, config, layout, again))
    return found


@dataclass(frozen=True)
class Mismatch:
    """Something that is not as it was computed, or that cannot be told."""

    words: str
    verdict: RecomputedVerdict = "FAIL"


Compared = Iterator[Mismatch | str]
"""Findings, and in words what was compared."""


def _part(part: RecomputedPart, of: str, compare: Callable[[], Compared]) -> Iterator[Recomputed]:
    """A line for each fault, or one that says what was compared."""
    told: list[str] = []
    verdicts: list[RecomputedVerdict] = []
    try:
        for each in compare():
            if isinstance(each, str):
                told.append(each)
            else:
                verdicts.append(each.verdict)
                yield Recomputed(part, of, each.verdict, each.words)
    except ConfigError as error:
        # Such as a GPU that is not there.
        verdicts.append("not judged")
        yield Recomputed(part, of, "not judged", reason(error))
    except KitError as error:
        verdicts.append("FAIL")
        yield Recomputed(part, of, "FAIL", reason(error))
    if not verdicts:
        yield Recomputed(part, of, "OK", "; ".join(told))


def _data(layout: Layout, asked: list[Request]) -> Compared:
    """Every frozen file, its rows, and the pins of those."""
    downloaded = Record.read(layout.download_record)
    leaves = requested.leaves(asked)
    files = rows = pinned = 0
    for name in leaves:
        outcome = downloaded.tasks.get(name)
        if outcome is None or not outcome.done:
            continue
        folder = layout.tasks / name
        try:
            manifest = freezing.read_recorded(folder, outcome.key)
            freezing.verify(folder, manifest.files | manifest.requests)
            freezing.check_pin(manifest, pins.read_pin(name, layout.root / pins.PINS))
        except KitError as error:
            yield Mismatch(reason(error))
            continue
        for file in manifest.files:
            part = file.removeprefix("data/").removesuffix(".parquet")
            if hash_rows(pq.read_table(folder / file)) != manifest.row_hashes.get(part):
                yield Mismatch(f"{folder / file} does not hold the rows that its manifest names")
        metadata = registry.find(name).metadata.dataset
        if (manifest.repository, manifest.revision) != (metadata["path"], metadata["revision"]):
            yield Mismatch(
                f"{folder} is of {manifest.repository} at {manifest.revision}, which is not what mteb asks for"
            )
        files += len(manifest.files | manifest.requests)
        rows += sum(manifest.rows.values())
        pinned += manifest.pinned
    yield f"{files} files and {rows:,} rows of {len(leaves)} tasks hashed, {pinned} of them pinned"


def _model(config: Config, layout: Layout, key: str) -> Compared:
    """Every file, and the pins of the configuration."""
    model, folder = config.models[key], layout.models / key
    if why := model_sources.why_unavailable(folder):
        yield f"could not be had: {why}"
        return
    manifest, _ = model_sources.read_for(folder, model, config.device.numerics)
    if manifest.content_hash != snapshots.content_hash(manifest.files):
        yield Mismatch(f"{folder / 'manifest.json'} names another content than that of its files")
    pinned = model.weights.sha256 if model.weights else {}
    for name, expected in pinned.items():
        if manifest.files.get(name) != expected:
            yield Mismatch(f"{folder / 'snapshot' / name} is not the file that is pinned in models.{key}")
    yield f"{len(manifest.files)} files hashed, {len(pinned)} of them pinned by SHA-256"


def _embeddings(config: Config, layout: Layout, key: str, seed: int) -> Compared:
    """Every file, what the record says of the model, and one random batch a task with the model itself."""
    model, device, folder = config.models[key], config.device, layout.embeddings(key)
    if model_sources.why_unavailable(layout.models / key):
        yield "none: the model could not be had"
        return
    manifest, _ = model_sources.read_for(layout.models / key, model, device.numerics)
    record = Record.read_for(layout.encode_record(key), encode.made_for(config, key), f"encode@{key}")
    encoder = encode.load_here(layout, key, config, manifest.revision)
    known = embrepro.models.describe(encoder.model).as_dict()
    known |= {"revision": manifest.revision, "content_hash": manifest.content_hash}
    for name, value in known.items():
        if record.details.get(name) != value:
            yield Mismatch(
                f"{layout.encode_record(key)} says {name} is {record.details.get(name)}; the model's is {value}"
            )
    same_recipe = record.details.get("recipe") == encode.recipe_of(model, device, manifest.content_hash)
    exact = same_recipe and device.name == "cpu" and device.numerics == "portable"
    generator, leaves = np.random.default_rng(seed), _leaves(config)
    again = batches = 0
    for name, outcome in record.tasks.items():
        if not outcome.done or name not in leaves:
            continue
        try:
            frozen = freezing.read_manifest(layout.tasks / name)
            listed = encode_requests.read(
                layout.tasks / name, frozen, pairs=model.scores_pairs, pair_tasks=model.pair_tasks
            )
            path = store.path_of(folder, name)
            stored = store.read_recorded(
                path, len(listed.texts), str(outcome.key), outcome.files.get(path.name, "")
            ).embeddings
            if outcome.key != encode.key_of(str(record.details.get("recipe")), name, frozen, model):
                yield Mismatch(f"{path} is of other texts or another recipe than the records say")
            rule = batch_rule(model, device)
            threads = numerics.workers(device.threads)
            plan, lengths = encoding.plan_task(
                listed.texts, rule, encoder.model, pairs=model.scores_pairs, threads=threads
            )
            place = int(generator.integers(len(plan.starts) - 1))
            shard = Shard(0, (plan.order[plan.starts[place] : plan.starts[place + 1]],))
            metadata = registry.create(leaves[name]).metadata
            work = encoding.TaskShards(
                name, metadata, listed.texts, model.scores_pairs, str(outcome.key), folder, plan, lengths
            )
            made = encoding.encode_shard(encoder, work, shard)
        except (KitError, OSError, ValueError) as error:
            yield Mismatch(f"{name}: {reason(error)}")
            continue
        if off := _unlike(_dense(made), _dense(stored[shard.rows]), exact=exact):
            yield Mismatch(f"{path}: {off} of {len(shard.rows)} rows that were drawn are not what the model gives")
        again, batches = again + len(shard.rows), batches + 1
    compared = "the same bytes" if exact else "the same within a tolerance"
    yield f"{batches} files hashed; {again:,} rows in {batches} random batches (seed {seed}) made again: {compared}"


def _dense(rows: Any) -> np.ndarray:  # noqa: ANN401 - an array, or scipy's sparse one
    dense: np.ndarray = rows.toarray() if issparse(rows) else np.asarray(rows)
    return dense


def _unlike(made: np.ndarray, stored: np.ndarray, *, exact: bool) -> int:
    """How many rows differ."""
    if made.shape != stored.shape or made.dtype != stored.dtype:
        return len(made)
    if exact:
        return int((made != stored).any(axis=1).sum())
    longest = float(np.abs(made).max())
    return int((~np.isclose(made, stored, rtol=0, atol=TOLERANCE * longest)).any(axis=1).sum())


def _leaves(config: Config) -> dict[str, Request]:
    return requested.leaves(registry.resolve(config.tasks))


def _scores(config: Config, layout: Layout, again: Layout, key: str) -> Compared:
    """Results and samples by replay, compared with those that are kept."""
    kept = Record.read(layout.evaluate_record(key))
    packages = {name: version(name) for name in evaluate.PACKAGES}
    if kept.details.get("packages", packages) != packages:
        yield Mismatch(f"scored with {kept.details['packages']}, and here are {packages}", "not judged")
        return
    made = evaluate.run(config, again, key)
    revision = str(made.details.get("revision"))
    ours, theirs = (each.results(config.models[key]) / revision for each in (layout, again))
    count = 0
    for name, outcome in made.tasks.items():
        before = kept.tasks.get(name)
        if before is None or before.done != outcome.done:
            yield Mismatch(
                f"{name}: {before.status if before else 'not evaluated'} in the record, and now: {outcome.status}"
            )
        if not outcome.done or before is None:
            continue
        count += 1
        path = main_scores.path_of(ours, name)
        if _comparable(path) != _comparable(main_scores.path_of(theirs, name)):
            score = main_scores.read_main_score(main_scores.path_of(theirs, name))
            yield Mismatch(f"{path} is not what scoring the stored embeddings gives: {score:.5f}")
        for file in outcome.files:
            if file == samples.path_of(theirs, name).name and not _same_bytes(ours / file, theirs / file):
                yield Mismatch(f"{ours / file} does not hold the per-sample scores that scoring gives")
    for name, value in made.details.items():
        if kept.details.get(name) != value:
            yield Mismatch(f"{layout.evaluate_record(key)} has another {name} than scoring gives")
    yield f"{count} tasks scored again from the stored embeddings: the same results and per-sample scores"


def _comparable(path: Path) -> str | None:
    """What two evaluations have in common, as text: NaN is not equal to itself."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return json.dumps([content.get(name) for name in ALIKE], sort_keys=True)


def _same_bytes(one: Path, other: Path) -> bool:
    return one.is_file() and one.read_bytes() == other.read_bytes()


def _reports(config: Config, layout: Layout, again: Layout) -> Compared:
    """Metrics and summary, compared with those that are kept."""
    aggregate.run(config, again)
    for name in ("metrics.json", "summary.json", "plots/scores.csv"):
        path = layout.reports / name
        if _same_bytes(path, again.reports / name):
            continue
        where = (
            "" if not name.endswith(".json") else _first_difference(read_json(path), read_json(again.reports / name))
        )
        yield Mismatch(f"{path} is not what the results give{where}")
    yield "metrics, summary with every interval and test, and plots made again: the same bytes"


def _first_difference(ours: Any, theirs: Any, path: str = "") -> str:  # noqa: ANN401 - any JSON
    """Where two JSON values differ first, and how."""
    if ours == theirs:
        return ""
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        return next(found for name in ours if (found := _first_difference(ours[name], theirs[name], f"{path}.{name}")))
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return next(found for index, pair in pairs if (found := _first_difference(*pair, f"{path}.{index}")))
    return f": {path.removeprefix('.')} is {ours}, and comes out as {theirs}"
