"""Evaluate: mteb's own task code over stored embeddings. No model, no GPU, no network; tasks side by side."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

import embrepro.models
from embrepro import numerics, suite
from embrepro.config.schema import Config, ModelConfig
from embrepro.embeddings import store
from embrepro.errors import KitError, TaskError
from embrepro.files import dump_json, fingerprint, keep_only, make_folder, replacing, sha256, write_text
from embrepro.layout import Layout
from embrepro.pipeline import nanobeir_scores
from embrepro.pipeline.records import TASKS, Record, TaskOutcome, parameters, reason
from embrepro.progress import console, processes
from embrepro.source_code import code_hash
from embrepro.tasks import encode_requests, first_stage, freezing, main_scores, registry, requested, samples, search
from embrepro.tasks.registry import Request

if TYPE_CHECKING:
    from mteb.results import TaskResult

STAGE = "evaluate"
META = "model_meta.json"
Serve: TypeAlias = Callable[..., Any]
"""Makes mteb's encoder of what is stored; called as `replay.encoder` is."""
PACKAGES = ("mteb", "scikit-learn", "scipy", "numpy", "torch", "pytrec_eval-terrier", "sentence-transformers")


@dataclass(frozen=True)
class Job:
    """One task to score for one model, as it travels to a worker process."""

    request: Request
    task_folder: Path
    embeddings: Path
    embeddings_key: str
    embeddings_sha256: str
    folder: Path
    model: ModelConfig
    revision: str
    properties: embrepro.models.ModelProperties
    texts: int
    data_hash: str
    key: str
    serve: Serve | None = None


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
    leaves = {leaf.name: leaf for request in asked for leaf in request.leaves()}
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
            console.say(f"evaluate {key} {name}: {_shown(kept, name, folder)} (kept)")
            record.tasks[name] = kept
            continue
        embeddings = store.path_of(layout.embeddings(key), name)
        stored = encoded.tasks[name]
        jobs.append(
            Job(
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
    for name, outcome in (_score_on_ray if config.executor.name == "ray" else _score)(jobs, key, config):
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
        record.details["legacy"] = scored or suite.legacy_scores(_Embedded(layout, key, encoded))
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


def score(job: Job) -> TaskOutcome:
    """Score one task by replay and write its result and samples.

    Raises:
        ReplayError: mteb asks for something else than was listed.
        TaskError: a file is damaged, or a score that should be there is missing, not finite or out of range.
    """
    import mteb

    from embrepro.embeddings import replay

    manifest = freezing.read_recorded(job.task_folder, job.data_hash)
    listed = encode_requests.read(
        job.task_folder, manifest, pairs=job.model.scores_pairs, pair_tasks=job.model.pair_tasks
    )
    stored = store.read_recorded(job.embeddings, len(listed.texts), job.embeddings_key, job.embeddings_sha256)
    meta = embrepro.models.meta(job.model, job.revision, job.properties)
    # Mteb's own classes are no protocol; what it asks of an encoder is what these give.
    encoder: Any
    if not job.model.scores_pairs:
        encoder = (job.serve or replay.encoder)(listed, stored.embeddings, meta, str(job.properties.similarity))
    elif manifest.type in encode_requests.PAIR_TYPES:
        encoder = replay.PairScorer(listed, stored.embeddings, meta)
    else:
        encoder = replay.CrossEncoder(listed, stored.embeddings, meta)
    task = freezing.load_frozen(job.request, job.task_folder)
    if job.model.scores_pairs and manifest.type not in encode_requests.PAIR_TYPES:
        first_stage.attach(task, job.task_folder)
    encode_requests.speed_up(task)
    with samples.collect_samples(task) as collected, search.installed():
        result = mteb.evaluate(encoder, task, cache=None, co2_tracker=False, show_progress_bar=False).task_results[0]
    encoder.expect_finished()
    expect_complete(result, job.request)
    name = job.request.name
    written = (main_scores.path_of(job.folder, name), samples.path_of(job.folder, name))
    write_text(written[0], _result_json(result))
    samples.write(written[1], collected)
    files = {path.name: sha256(path) for path in written}
    return TaskOutcome(stage=STAGE, key=job.key, files=files, details={"data_hash": job.data_hash})


def expect_complete(result: TaskResult, request: Request) -> None:
    """Check that every requested (split, subset) has a finite main score in [-1, 1]; raises TaskError naming one that has not."""
    found = {
        (split, entry["hf_subset"]): entry.get("main_score")
        for split, entries in result.scores.items()
        for entry in entries
    }
    for split in request.splits:
        for subset in request.subsets or ("default",):
            value = found.get((split, subset))
            if value is None:
                raise TaskError(f"mteb returned no score for split {split}, subset {subset}")
            if not math.isfinite(value):
                raise TaskError(
                    f"the main score of split {split}, subset {subset} is {value}: no metric is defined on these embeddings"
                )
            if not -1.0 <= value <= 1.0 + 1e-9:
                raise TaskError(f"the main score of split {split}, subset {subset} is {value}, outside [-1, 1]")


class _Embedded:
    """The stored embeddings of the custom suite's texts, by text."""

    def __init__(self, layout: Layout, key: str, encoded: Record) -> None:
        self._vectors: dict[str, np.ndarray] = {}
        for name in suite.CATEGORIES:
            folder = layout.tasks / name
            texts = encode_requests.read(folder, freezing.read_manifest(folder)).texts["text"].to_list()
            path, stored = store.path_of(layout.embeddings(key), name), encoded.tasks[name]
            embeddings: Any = store.read_recorded(
                path, len(texts), str(stored.key), stored.files.get(path.name, "")
            ).embeddings
            dense: np.ndarray = embeddings if isinstance(embeddings, np.ndarray) else embeddings.toarray()
            self._vectors |= dict(zip(texts, dense, strict=True))

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of texts, (texts, dimensions)."""
        return np.stack([self._vectors[text] for text in texts])


def _score(jobs: list[Job], key: str, config: Config) -> Iterator[tuple[str, TaskOutcome]]:
    """Outcomes as they come, from as many processes as there are cores; one process that dies takes only its task down."""
    if not jobs:
        return
    workers = min(len(jobs), numerics.workers(config.device.threads))
    # The longest first, so that none is begun when the others are through.
    pending = sorted(jobs, key=lambda job: -job.texts)
    with console.work(STAGE, key, len(jobs), "tasks") as work:
        while pending:
            answered: set[str] = set()
            with _workers(workers) as pool:
                running: dict[Future[tuple[TaskOutcome, float]], Job] = {}
                # A worker may die while the others' jobs are still handed out
                with suppress(BrokenProcessPool):
                    for job in pending:
                        running[pool.submit(_timed, job)] = job
                # So that a run that is killed keeps every task that was finished
                for future in as_completed(running):
                    job = running[future]
                    try:
                        outcome, seconds = future.result()
                    except BrokenProcessPool:
                        continue
                    answered.add(job.request.name)
                    _report(key, job, outcome, seconds)
                    work.advance(1)
                    yield job.request.name, outcome
            suspects = [job for job in pending if job.request.name not in answered]
            if len(suspects) == len(pending) and workers == 1:
                lost, suspects = suspects[0], suspects[1:]
                outcome = TaskOutcome(
                    status="its process was killed; most often the machine ran out of memory", stage=STAGE
                )
                _report(key, lost, outcome, 0.0)
                yield lost.request.name, outcome
            pending, workers = suspects, 1


def _workers(count: int) -> ProcessPoolExecutor:
    """Processes forked from one that has loaded mteb, which a later pool finds loaded."""
    # Workers side by side need no threads of their own: as many in each as there are cores fight for them.
    os.environ.update(numerics.ONE_THREAD)
    context = multiprocessing.get_context("forkserver")
    first = "embrepro.progress.fork_server"
    context.set_forkserver_preload([first, "mteb", "embrepro.embeddings.replay", "sklearn.linear_model"])
    return ProcessPoolExecutor(count, mp_context=context, initializer=_start_worker)


def _score_on_ray(jobs: list[Job], key: str, config: Config) -> Iterator[tuple[str, TaskOutcome]]:
    """Outcomes as they come from the actors of a Ray cluster; what they wrote is laid down here."""
    from embrepro.executors import crew, files

    if not jobs:
        return
    with console.work(STAGE, key, len(jobs), "tasks") as work, crew.connected(config.executor) as ray:
        answers = crew.run(
            ray,
            partial(files.FileWorker, _score_in),
            jobs,
            _order,
            crew.place_for(config.device, __name__, needs_gpu=False),
            most=config.device.threads,
        )
        for answer in answers:
            job = answer.job
            if answer.error is None:
                (outcome, seconds), written = answer.result
                for name, content in written.items():
                    with replacing(job.folder / name) as unfinished:
                        unfinished.write_bytes(content)
            else:
                outcome, seconds = TaskOutcome(status=reason(answer.error), stage=STAGE), 0.0
            _report(key, job, outcome, seconds)
            work.advance(1)
            yield job.request.name, outcome


def _order(job: Job) -> Any:  # noqa: ANN401 - executors.files.FilesOrder, which is loaded only on request
    from embrepro.executors import files

    frozen = {f"task/{name}": content for name, content in files.contents(job.task_folder).items()}
    return files.FilesOrder(job, frozen | {job.embeddings.name: job.embeddings.read_bytes()})


def _score_in(job: Job, given: Path, written: Path) -> tuple[TaskOutcome, float]:
    """Score a task whose files came along."""
    return _timed(replace(job, task_folder=given / "task", embeddings=given / job.embeddings.name, folder=written))


def _start_worker() -> None:
    import torch

    processes.start_worker()
    console.silence_libraries()
    torch.set_num_threads(1)


def _timed(job: Job) -> tuple[TaskOutcome, float]:
    started = time.monotonic()
    try:
        outcome = score(job)
    except Exception as error:
        # One task's failure must not take the others down; it becomes a row with its reason
        outcome = TaskOutcome(status=reason(error), stage=STAGE)
    return outcome, time.monotonic() - started


def _report(key: str, job: Job, outcome: TaskOutcome, seconds: float) -> None:
    line = f"evaluate {key} {job.request.name}: {_shown(outcome, job.request.name, job.folder)}"
    console.say(f"{line} in {console.duration(seconds)}") if outcome.done else console.say_error(line)


def _shown(outcome: TaskOutcome, name: str, folder: Path) -> str:
    return f"{main_scores.read_main_score(main_scores.path_of(folder, name)):.4f}" if outcome.done else outcome.status


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
            f"evaluate {key} {request.name}: {_shown(kept, request.name, folder)} from {len(request.parts)} parts"
        )


def _combined(request: Request, parts: str, folder: Path) -> TaskOutcome:
    from mteb.results import TaskResult

    task: Any = registry.find(request.name)
    results = [TaskResult.from_disk(folder / f"{part.name}.json", load_historic_data=False) for part in request.parts]
    write_text(folder / f"{request.name}.json", _result_json(task.combine_task_results(results)))
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


def _result_json(result: TaskResult) -> str:
    """A result in mteb's format, in full precision where mteb's own writer rounds to six digits."""
    values = result.model_dump()
    values["date"] = result.date.timestamp() if result.date else None
    return json.dumps(values, indent=2, ensure_ascii=False, default=_plain) + "\n"


def _plain(value: Any) -> Any:  # noqa: ANN401 - a NumPy scalar
    return value.item()


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
    if "mteb" in sys.modules:
        text = _meta_json(model, revision, known)
    else:
        # mteb takes seconds to import, and the process that workers are forked from has it
        with _workers(1) as pool:
            text = pool.submit(_meta_json, model, revision, known).result()
    write_text(path, text)
    return {"key": follows, "sha256": sha256(path)}


def _meta_json(model: ModelConfig, revision: str, known: embrepro.models.ModelProperties) -> str:
    values = embrepro.models.meta(model, revision, known).to_dict()
    return dump_json(json.loads(json.dumps(values, default=str)))
