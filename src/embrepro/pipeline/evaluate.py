"""Evaluate: mteb's own task code over stored embeddings. No model, no GPU, no network; tasks side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import embrepro.models
from embrepro import suite
from embrepro.config.schema import Config, ModelConfig
from embrepro.embeddings import store
from embrepro.errors import KitError, TaskError
from embrepro.files import dump_json, fingerprint, keep_only, make_folder, sha256, write_text
from embrepro.layout import Layout
from embrepro.pipeline import nanobeir_scores, scoring
from embrepro.pipeline.records import TASKS, Record, TaskOutcome, parameters, reason
from embrepro.pipeline.scoring import STAGE, Serve
from embrepro.progress import console
from embrepro.source_code import code_hash
from embrepro.tasks import encode_requests, freezing, registry, requested
from embrepro.tasks.registry import Request

META = "model_meta.json"
PACKAGES = ("mteb", "scikit-learn", "scipy", "numpy", "torch", "pytrec_eval-terrier", "sentence-transformers")


def run(config: Config, layout: Layout, key: str, serve: Serve | None = None) -> Record:
    """Score what is not scored yet, drop what is no longer asked for, and record what became of each requested task.

    Args:
        config: the configuration.
        layout: the project's folders.
        key: the model's.
        serve: how what is stored is served, in a folder apart, where that is not as it is; then the tasks' scores are all
            there is to know.

    Raises:
        ConfigError: an unknown model.
    """
    model = config.model(key)
    made_for = parameters(config, [f"models.{key}", "device.numerics", *TASKS])
    encoded = Record.read_for(layout.encode_record(key), made_for, f"encode@{key}")
    downloaded = Record.read_for(layout.download_record, parameters(config, TASKS), "download")
    if not encoded.details:
        return _record_unavailable(config, layout, key, encoded)
    details = dict(encoded.details)
    revision, content_hash = details.pop("revision"), details.pop("content_hash")
    recipe = details.pop("recipe")
    known = embrepro.models.ModelProperties(**details)
    folder = layout.results(model) / revision
    make_folder(folder)
    before = Record.read_if_there(layout.evaluate_record(key)).made()
    record = Record(
        details={
            **encoded.details,
            "active": {
                name: outcome.details["active"]
                for name, outcome in sorted(encoded.tasks.items())
                if "active" in outcome.details
            },
            "packages": {package: version(package) for package in PACKAGES},
        },
        made_for=made_for,
    )
    asked = requested.resolve(config.tasks, layout.root)
    leaves = requested.leaves(asked)
    jobs = []
    for name, leaf in leaves.items():
        if (lost := _lost_before(name, downloaded, encoded)) is not None:
            record.tasks[name] = lost
            continue
        try:
            data_hash = _expect_encoded(layout, model, downloaded.tasks[name], encoded.tasks[name], recipe, name)
        except KitError as error:
            console.say_error(f"evaluate {key} {name}: {reason(error)}")
            record.tasks[name] = TaskOutcome(status=reason(error), stage=STAGE)
            continue
        task_key = _key(leaf, data_hash, encoded.tasks[name].key, content_hash, known)
        if (kept := before.tasks.get(name)) and kept.key == task_key and kept.stands(folder):
            console.say(f"evaluate {key} {name}: {scoring.shown(kept, name, folder)} (kept)")
            record.tasks[name] = kept
            continue
        embeddings = store.path_of(layout.embeddings(key), name)
        stored = encoded.tasks[name]
        jobs.append(
            scoring.Job(
                request=leaf,
                task_folder=layout.tasks / name,
                embeddings=embeddings,
                embeddings_key=str(stored.key),
                embeddings_sha256=stored.files.get(embeddings.name, ""),
                folder=folder,
                model=model,
                revision=revision,
                properties=known,
                texts=stored.details.get("texts", 0),
                data_hash=data_hash,
                key=task_key,
                serve=serve,
            )
        )
    record.keep(before)
    for name, outcome in scoring.score_all(jobs, key, config):
        record.tasks[name] = outcome
        record.write(layout.evaluate_record(key))
    _combine_aggregates(asked, before, record, folder, key)
    if serve is None:
        _add_other_scores(config, layout, key, leaves, encoded, record, before)
    record.keep(before)
    if any(outcome.done for outcome in record.tasks.values()):
        record.details["meta"] = _write_meta(folder / META, model, revision, known, before)
    _prune(record, layout.results(model), folder)
    record.write(layout.evaluate_record(key))
    return record


def _add_other_scores(
    config: Config,
    layout: Layout,
    key: str,
    leaves: Mapping[str, Request],
    encoded: Record,
    record: Record,
    before: Record,
) -> None:
    """Scores of the same embeddings by others than mteb: the analysis's own definitions, NanoBEIR's evaluators."""
    if suite.CATEGORIES.keys() <= leaves.keys() and all(record.tasks[name].done for name in suite.CATEGORIES):
        same = all(before.tasks.get(name) == record.tasks[name] for name in suite.CATEGORIES)
        scored = before.details.get("legacy") if same else None
        record.details["legacy"] = scored or scoring.in_worker(_legacy_scores, layout, key, encoded)
    if config.tasks.nanobeir:
        nanobeir_scores.add(config.tasks.nanobeir, layout, key, config.models[key], record, before)


def _record_unavailable(config: Config, layout: Layout, key: str, encoded: Record) -> Record:
    """Of a model that could not be obtained: the reason for every requested task. Results of an earlier run stay."""
    lost = next(iter(encoded.tasks.values()))
    record = Record(made_for=encoded.made_for)
    for request in requested.resolve(config.tasks, layout.root):
        record.tasks |= dict.fromkeys([request.name, *(leaf.name for leaf in request.leaves())], lost)
    record.keep(Record.read_if_there(layout.evaluate_record(key)).made())
    make_folder(layout.results(config.models[key]))
    record.write(layout.evaluate_record(key))
    return record


def _lost_before(name: str, downloaded: Record, encoded: Record) -> TaskOutcome | None:
    """The outcome of the earlier stage that could not do its work on a task, if any."""
    for stage, record in (("download", downloaded), ("encode", encoded)):
        outcome = record.outcome(name, stage)
        if not outcome.done:
            return outcome
    return None


def _legacy_scores(layout: Layout, key: str, encoded: Record) -> dict[str, Any]:
    return suite.legacy_scores(_Embedded(layout, key, encoded))


class _Embedded:
    """The stored embeddings of the custom suite's texts, by text."""

    def __init__(self, layout: Layout, key: str, encoded: Record) -> None:
        self._vectors: dict[str, np.ndarray] = {}
        for name in suite.CATEGORIES:
            folder = layout.tasks / name
            texts = encode_requests.read(folder, freezing.read_manifest(folder)).texts["text"].to_pylist()
            path, stored = store.path_of(layout.embeddings(key), name), encoded.tasks[name]
            embeddings: Any = store.read_recorded(
                path, len(texts), str(stored.key), stored.files.get(path.name, "")
            ).embeddings
            dense: np.ndarray = embeddings if isinstance(embeddings, np.ndarray) else embeddings.toarray()
            self._vectors |= dict(zip(texts, dense, strict=True))

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of texts, (texts, dimensions)."""
        return np.stack([self._vectors[text] for text in texts])


def _combine_aggregates(asked: list[Request], before: Record, record: Record, folder: Path, key: str) -> None:
    """An aggregate's score is mteb's combination of its parts; with a part missing it is a row that names the part."""
    for request in asked:
        if not request.parts:
            continue
        missing = [part.name for part in request.parts if not record.tasks[part.name].done]
        if missing:
            record.tasks[request.name] = TaskOutcome(
                status=f"its part {missing[0]} has no score: {record.tasks[missing[0]].status}", stage=STAGE
            )
            continue
        parts = fingerprint([record.tasks[part.name].files for part in request.parts])
        kept = before.tasks.get(request.name)
        if not (kept and kept.key == parts and kept.stands(folder)):
            kept = _combined(request, parts, folder)
        record.tasks[request.name] = kept
        console.say(
            f"evaluate {key} {request.name}: {scoring.shown(kept, request.name, folder)} from {len(request.parts)} parts"
        )


def _combined(request: Request, parts: str, folder: Path) -> TaskOutcome:
    from mteb.results import TaskResult

    task: Any = registry.find(request.name)
    results = [TaskResult.from_disk(folder / f"{part.name}.json", load_historic_data=False) for part in request.parts]
    write_text(folder / f"{request.name}.json", scoring.result_json(task.combine_task_results(results)))
    files = {f"{request.name}.json": sha256(folder / f"{request.name}.json")}
    return TaskOutcome(stage=STAGE, key=parts, files=files)


def _expect_encoded(
    layout: Layout, model: ModelConfig, downloaded: TaskOutcome, encoded: TaskOutcome, recipe: str, name: str
) -> str:
    """Compare a task's data and request list with those that were recorded and encoded; returns the data's hash.

    Raises:
        KitError: the manifest is damaged, or is that of other data than was downloaded or encoded.
    """
    manifest = freezing.read_recorded(layout.tasks / name, downloaded.key)
    requests = encode_requests.identity(manifest, pairs=model.scores_pairs, pair_tasks=model.pair_tasks)
    if encoded.key != store.embeddings_key(recipe, name, requests):
        raise TaskError("its embeddings are of other texts or another recipe than the records say. Run: dvc repro")
    return manifest.data_hash


def _key(
    leaf: Request,
    data_hash: str,
    embedding_key: str | None,
    content_hash: str,
    known: embrepro.models.ModelProperties,
) -> str:
    """Everything that could change a task's result."""
    packages = {name: version(name) for name in PACKAGES}
    code = code_hash("embrepro.pipeline.evaluate")
    asked = [leaf.name, leaf.subsets, leaf.splits]
    return fingerprint([asked, data_hash, embedding_key, content_hash, known.as_dict(), packages, code])


def _prune(record: Record, results: Path, folder: Path) -> None:
    kept = set(record.files) | ({META} if "meta" in record.details else set())
    if record.details.get(nanobeir_scores.FOLDER, {}).get("files"):
        kept.add(nanobeir_scores.FOLDER)
    keep_only(results, {folder.name})
    keep_only(folder, kept)


def _write_meta(
    path: Path, model: ModelConfig, revision: str, known: embrepro.models.ModelProperties, before: Record
) -> dict[str, str]:
    """Write what mteb's results say of a model, unless that stands; returns the hash of what it follows from and its own."""
    follows = fingerprint(
        [model.model_dump(), revision, known.as_dict(), version("mteb"), code_hash("embrepro.models")]
    )
    kept = before.details.get("meta", {})
    if kept.get("key") == follows and path.is_file() and sha256(path) == kept.get("sha256"):
        return {"key": follows, "sha256": kept["sha256"]}
    write_text(path, scoring.in_worker(_meta_json, model, revision, known))
    return {"key": follows, "sha256": sha256(path)}


def _meta_json(model: ModelConfig, revision: str, known: embrepro.models.ModelProperties) -> str:
    values = embrepro.models.meta(model, revision, known).to_dict()
    return dump_json(json.loads(json.dumps(values, default=str)))
