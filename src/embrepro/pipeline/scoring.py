"""How tasks are scored: each by mteb's own code over stored embeddings, side by side in processes or on a Ray cluster."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import embrepro.models
from embrepro import numerics
from embrepro.config.schema import Config, ModelConfig
from embrepro.embeddings import store
from embrepro.errors import TaskError
from embrepro.files import replacing, sha256, write_text
from embrepro.pipeline.records import TaskOutcome, reason
from embrepro.progress import console, processes
from embrepro.tasks import encode_requests, first_stage, freezing, main_scores, samples, shortcuts
from embrepro.tasks.registry import Request

if TYPE_CHECKING:
    from mteb.results import TaskResult

STAGE = "evaluate"
_Returned = TypeVar("_Returned")
Serve: TypeAlias = Callable[..., Any]
"""Makes mteb's encoder of what is stored; called as `replay.encoder` is."""


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


def score_all(jobs: list[Job], key: str, config: Config) -> Iterator[tuple[str, TaskOutcome]]:
    """Score tasks by the configured executor; their names and outcomes as they come."""
    return (_score_on_ray if config.executor.name == "ray" else _score_here)(jobs, key, config)


def _score_here(jobs: list[Job], key: str, config: Config) -> Iterator[tuple[str, TaskOutcome]]:
    """Outcomes as they come, from as many processes as there are cores; one process that dies takes only its task down."""
    if not jobs:
        return
    workers = min(len(jobs), numerics.workers(config.device.threads))
    # The longest first, so that none is begun when the others are through.
    pending = sorted(jobs, key=lambda job: -job.texts)
    with console.work(STAGE, key, len(jobs), "tasks") as work:
        while pending:
            answered: set[str] = set()
            with pool_of(workers) as pool:
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


def pool_of(count: int) -> ProcessPoolExecutor:
    """Processes forked from one that has loaded mteb, which a later pool finds loaded."""
    # Workers side by side need no threads of their own: as many in each as there are cores fight for them.
    os.environ.update(numerics.ONE_THREAD)
    context = multiprocessing.get_context("forkserver")
    first = "embrepro.progress.fork_server"
    context.set_forkserver_preload([first, "mteb", "embrepro.embeddings.replay", "sklearn.linear_model", __name__])
    return ProcessPoolExecutor(count, mp_context=context, initializer=_start_worker)


def in_worker(function: Callable[..., _Returned], *arguments: object) -> _Returned:
    """What a function that needs mteb or scikit-learn returns: in such a process, unless this one has mteb already."""
    if "mteb" in sys.modules:
        return function(*arguments)
    with pool_of(1) as pool:
        return pool.submit(function, *arguments).result()


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
    line = f"evaluate {key} {job.request.name}: {shown(outcome, job.request.name, job.folder)}"
    console.say(f"{line} in {console.duration(seconds)}") if outcome.done else console.say_error(line)


def shown(outcome: TaskOutcome, name: str, folder: Path) -> str:
    """A task's main score, else why it has none."""
    return f"{main_scores.read_main_score(main_scores.path_of(folder, name)):.4f}" if outcome.done else outcome.status


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
    shortcuts.speed_up(task)
    with samples.collect_samples(task) as collected, shortcuts.installed(), replay.recognised():
        result = mteb.evaluate(encoder, task, cache=None, co2_tracker=False, show_progress_bar=False).task_results[0]
    encoder.expect_finished()
    expect_complete(result, job.request)
    name = job.request.name
    written = (main_scores.path_of(job.folder, name), samples.path_of(job.folder, name))
    write_text(written[0], result_json(result))
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


def result_json(result: TaskResult) -> str:
    """A result in mteb's format, in full precision where mteb's own writer rounds to six digits."""
    values = result.model_dump()
    values["date"] = result.date.timestamp() if result.date else None
    return json.dumps(values, indent=2, ensure_ascii=False, default=_plain) + "\n"


def _plain(value: Any) -> Any:  # noqa: ANN401 - a NumPy scalar
    return value.item()
