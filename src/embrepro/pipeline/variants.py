"""Variants of a model's stored embeddings, scored by the evaluate stage's own code in a folder apart; no model runs again."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from embrepro.benchmarking.speed import RepeatedMeasure
from embrepro.config.schema import Config
from embrepro.embeddings import store
from embrepro.errors import ConfigError, KitError
from embrepro.files import dump_json, make_folder, write_text
from embrepro.layout import Layout
from embrepro.pipeline import evaluate, scored, scoring
from embrepro.pipeline.records import TASKS, Record, parameters
from embrepro.progress import console
from embrepro.results import comparison
from embrepro.tasks import encode_requests, freezing, requested
from embrepro.variants import comparing, definition
from embrepro.variants.comparing import SearchedCorpus, VariantsReport
from embrepro.variants.definition import Precision, Variant

ITEMSIZES = {"float16": 2, "float32": 4, "float64": 8}
"""Of what models give; bfloat16, which NumPy lacks, comes as float32."""


def run(
    config: Config,
    layout: Layout,
    key: str,
    dimensions: Sequence[int],
    precisions: Sequence[Precision],
    multiplier: int = 2,
) -> VariantsReport:
    """Score variants of a model's embeddings, hold them against the full model, and write the report.

    Args:
        config: the configuration of the run.
        layout: the project's folders.
        key: the model's.
        dimensions: lengths to cut to.
        precisions: what to quantise to.
        multiplier: how many times as many documents as are asked for a search ranks again.

    Raises:
        ConfigError: an unknown model, one without dense embeddings, or a length that is none.
        KitError: the run is not finished.
    """
    model = config.model(key)
    if model.kind != "dense":
        raise ConfigError(f"{key} is of family {model.family}; variants are made of dense embeddings")
    config = config.model_copy(update={"executor": config.executor.model_copy(update={"name": "local"})})
    encoded = Record.read_for(
        layout.encode_record(key), parameters(config, [f"models.{key}", "device.numerics", *TASKS]), f"encode@{key}"
    )
    asked = requested.resolve(config.tasks, layout.root)
    types = {request.name: request.type for request in asked}
    record = scored.read_record(config, layout, key)
    full = scored.read_scores(config, layout, key, record, types)
    if not full:
        raise KitError(f"{key} has no score to hold variants against. Run: dvc repro evaluate@{key}")
    itemsize = ITEMSIZES.get(str(encoded.details["dtype"]), 4)
    compared = []
    made = definition.variants(int(encoded.details["dimensions"]), dimensions, precisions, multiplier)
    for variant in made:
        console.say(f"variants {key}: {variant.label}")
        found, status = _score(config, layout, key, variant, list(types))
        compared.append(comparing.compare(variant, found, full, status, types, itemsize, config.seed))
    searched, speeds = _search_speeds(config, layout, key, encoded, made)
    if speeds:
        compared = [one.model_copy(update={"search_speed": speed}) for one, speed in zip(compared, speeds, strict=True)]
    report = VariantsReport(
        model=key,
        name=model.full_name,
        revision=str(encoded.details["revision"]),
        content_hash=str(encoded.details["content_hash"]),
        dimensions=int(encoded.details["dimensions"]),
        dtype=str(encoded.details["dtype"]),
        bytes_per_vector=int(encoded.details["dimensions"]) * itemsize,
        rescore_multiplier=multiplier,
        scores={task: full[task].score if task in full else None for task in types},
        mean_task=comparison.means(
            {task: full[task].score if task in full else None for task in types}, types
        ).mean_task,
        variants=comparing.corrected(compared),
        searched=searched,
        packages={package: version(package) for package in evaluate.PACKAGES},
    )
    make_folder(layout.variants)
    write_text(layout.variants / f"{key}.json", dump_json(report.model_dump()))
    return report


def _search_speeds(
    config: Config, layout: Layout, key: str, encoded: Record, variants: Sequence[Variant]
) -> tuple[SearchedCorpus | None, list[RepeatedMeasure]]:
    """How fast each variant is searched, on the largest corpus that a task of the run searches; nothing without one."""
    from embrepro.variants import serving, timing

    largest = None
    leaves = requested.leaves(requested.resolve(config.tasks, layout.root))
    for name, leaf in leaves.items():
        if not leaf.searched or not encoded.outcome(name, "encode").done:
            continue
        listed = encode_requests.read(layout.tasks / name, freezing.read_manifest(layout.tasks / name))
        documents = listed.texts["prompt"].to_pylist().count("document")
        if documents and (largest is None or documents > largest[0]):
            largest = documents, leaf, listed
    if largest is None:
        return None, []
    documents, leaf, listed = largest
    console.say(f"variants {key}: speed of searches among {documents:,} documents of {leaf.name}")
    stored = encoded.tasks[leaf.name]
    path = store.path_of(layout.embeddings(key), leaf.name)
    rows = store.read_recorded(path, len(listed.texts), str(stored.key), stored.files.get(path.name, "")).embeddings
    assert isinstance(rows, np.ndarray)
    prompts = np.asarray(listed.texts["prompt"].to_pylist())
    of_documents, of_queries = rows[prompts == "document"], rows[prompts == "query"]
    wanted = serving.cutoff(leaf.metric) or 10
    speeds = timing.search_speeds(of_documents, of_queries, str(encoded.details["similarity"]), variants, wanted)
    queries = min(timing.MOST_QUERIES, len(of_queries))
    return SearchedCorpus(task=leaf.name, documents=documents, queries=queries), speeds


def _score(
    config: Config, layout: Layout, key: str, variant: Variant, tasks: Sequence[str]
) -> tuple[dict[str, comparison.Scored], dict[str, str]]:
    """What a variant scored by task, and what became of each task."""
    from embrepro.variants import serving

    with tempfile.TemporaryDirectory(prefix="embrepro-") as folder:
        beside = layout.beside(Path(folder))
        record = evaluate.run(config, beside, key, partial(serving.serve, variant))
        outcomes = {task: record.outcome(task, scoring.STAGE) for task in tasks}
        status = {task: "scored" if outcome.done else outcome.status for task, outcome in outcomes.items()}
        return scored.read_scores(config, beside, key, record, tasks), status
