"""The part of evaluate that lets sentence-transformers' own NanoBEIR evaluators look at what a model's stage has stored."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from embrepro.config.nanobeir import TASKS, NanoBeir
from embrepro.config.schema import ModelConfig
from embrepro.embeddings import store
from embrepro.files import fingerprint, replacing_folder, sha256
from embrepro.layout import Layout
from embrepro.pipeline.records import Record, TaskOutcome, reason
from embrepro.progress import console
from embrepro.source_code import code_hash
from embrepro.tasks import encode_requests, freezing, nanobeir, registry

if TYPE_CHECKING:
    from embrepro.embeddings.nanobeir import StoredTask

FOLDER = "nanobeir"
"""Of the record's details: what became of it, a task's outcome. Of a model's results: the library's CSV files."""
PACKAGES = ("sentence-transformers", "numpy", "torch", "scikit-learn")
NOT_RERANKED = ("arguana", "touche2020")
"""Left out by the library's evaluator of cross-encoders unless they are asked for."""


def add(settings: NanoBeir, layout: Layout, key: str, model: ModelConfig, record: Record, before: Record) -> None:
    """Add to a model's record what the library's evaluator finds, as scores by its own names.

    A data set whose task has no score is left out, and then there is no aggregate, for it would be one over others.

    Args:
        settings: the evaluator's arguments.
        layout: the project's folders.
        key: the model.
        model: its configuration.
        record: the stage's record, with the outcome of every task.
        before: the record of the run before, whose outcome is kept where nothing has changed.
    """
    outcomes = {name: record.tasks[TASKS[name]] for name in _asked(settings, model)}
    missing = {name: outcome.status for name, outcome in outcomes.items() if not outcome.done}
    wanted = _key(settings, model, {name: outcome.key for name, outcome in outcomes.items() if outcome.done}, missing)
    folder = layout.results(model) / str(record.details["revision"])
    kept = TaskOutcome.model_validate(before.details[FOLDER]) if FOLDER in before.details else None
    if kept and kept.key == wanted and kept.stands(folder):
        outcome = kept
    elif len(missing) == len(outcomes):
        outcome = TaskOutcome(status=f"none of its data sets has a score: {next(iter(missing.values()))}", stage="")
    else:
        outcome = _evaluated(settings, layout, key, model, record, list(outcomes.keys() - missing), missing)
    found = outcome.model_copy(update={"stage": "evaluate", "key": wanted})
    record.details[FOLDER] = found.model_dump()
    _say(key, found, kept is outcome)


def _asked(settings: NanoBeir, model: ModelConfig) -> list[str]:
    everything = settings.dataset_names is None
    return [name for name in settings.datasets if not (everything and model.scores_pairs and name in NOT_RERANKED)]


def _key(settings: NanoBeir, model: ModelConfig, scored: dict[str, str | None], missing: dict[str, str]) -> str:
    """Everything that could change what the evaluator finds; the tasks' keys cover data and embeddings."""
    code = code_hash("embrepro.pipeline.nanobeir_scores")
    packages = {name: version(name) for name in PACKAGES}
    return fingerprint([scored, missing, settings.model_dump(), model.max_active_dims, packages, code])


def _evaluated(
    settings: NanoBeir,
    layout: Layout,
    key: str,
    model: ModelConfig,
    record: Record,
    names: list[str],
    missing: dict[str, str],
) -> TaskOutcome:
    import torch

    from embrepro.embeddings import nanobeir as evaluators

    torch.set_num_threads(1)
    csv_folder = layout.results(model) / str(record.details["revision"]) / FOLDER
    encoded = Record.read(layout.encode_record(key))
    try:
        stored = {name: _stored(layout, key, model, name, encoded) for name in settings.datasets if name in names}
        with replacing_folder(csv_folder) as unfinished:
            found = evaluators.evaluate(
                settings,
                stored,
                model.kind,
                similarity=record.details["similarity"],
                max_active_dims=model.max_active_dims,
                csv_folder=unfinished,
            )
            if missing:
                for path in unfinished.glob("NanoBEIR_*.csv"):
                    path.unlink()
            files = {f"{FOLDER}/{path.name}": sha256(path) for path in sorted(unfinished.glob("*.csv"))}
    except Exception as error:
        # Must not take the tasks' scores down; it becomes a row with its reason
        return TaskOutcome(status=reason(error), stage="")
    scores = {name: value for name, value in found.scores.items() if not (missing and name.startswith("NanoBEIR_"))}
    details = {"evaluator": found.evaluator, "primary_metric": found.primary_metric, "scores": scores}
    if missing:
        lost, why = next(iter(missing.items()))
        return TaskOutcome(
            status=f"no aggregate, because {TASKS[lost]} has no score: {why}", stage="", files=files, details=details
        )
    return TaskOutcome(stage="", files=files, details=details)


def _stored(layout: Layout, key: str, model: ModelConfig, name: str, encoded: Record) -> StoredTask:
    from embrepro.embeddings import nanobeir as evaluators

    task = TASKS[name]
    folder, path = layout.tasks / task, store.path_of(layout.embeddings(key), task)
    listed = encode_requests.read(folder, freezing.read_manifest(folder), pairs=model.scores_pairs)
    outcome = encoded.tasks[task]
    rows = store.read_recorded(path, len(listed.texts), str(outcome.key), outcome.files.get(path.name, ""))
    data = nanobeir.data(freezing.load_frozen(registry.request(task), folder))
    return evaluators.StoredTask(
        data, listed.texts, rows.embeddings, nanobeir.bm25(folder) if model.scores_pairs else {}
    )


def _say(key: str, outcome: TaskOutcome, kept: bool) -> None:
    if not outcome.done:
        console.say_error(f"evaluate {key} NanoBEIR: {outcome.status}")
        return
    name = outcome.details["primary_metric"]
    console.say(f"evaluate {key} {name}: {outcome.details['scores'][name]:.4f}{' (kept)' if kept else ''}")
