"""One side of a comparison by whatever names it: a revision, an experiment, the working tree, a folder or a file of results."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import ValidationError

from embrepro.errors import KitError
from embrepro.files import read_json
from embrepro.layout import Layout
from embrepro.regression import revisions
from embrepro.regression.revisions import (
    RecordedModel,
    RecordedRun,
    RecordedScore,
    RecordedTask,
    Revision,
    RevisionError,
    Side,
)
from embrepro.results import raw_results
from embrepro.results.raw_results import Broken, Result
from embrepro.tasks import registry, samples


def load(root: Path, name: str) -> Side:
    """Read one side of a comparison.

    Args:
        root: the project's folder.
        name: `workspace`, a git revision, a DVC experiment, or else a folder: of another project of the kit, or one that
            holds result files of mteb's; or one such file, or a `summary.json` of the kit.

    Raises:
        RevisionError: no such revision, folder or file, or nothing to read there.
    """
    folder = Path(name)
    if folder.suffix == ".json" and folder.is_file():
        return read_file(folder)
    if name == revisions.WORKSPACE or not folder.is_dir():
        return revisions.load(root, name)
    try:
        return revisions.load(root, name)
    except RevisionError:
        if not (folder / Layout().summary).is_file():
            return read_results(folder)
    there = revisions.load(folder, revisions.WORKSPACE)
    return Side(there.root, Revision(name, None), there.run, params=there.params, inputs=there.inputs)


def read_file(path: Path) -> Side:
    """One result file of mteb's, or a summary of the kit, as a side.

    Raises:
        RevisionError: it is damaged, or neither.
    """
    found = raw_results.read_file(path, path.parent)
    if isinstance(found, Broken):
        raise RevisionError(f"{path} cannot be read: {found.problem}")
    if found:
        return _side(path, path.parent, [found])
    try:
        run = RecordedRun.model_validate_json(path.read_bytes())
    except ValidationError:
        raise RevisionError(f"{path} is neither a result file of mteb's nor a summary of the kit.") from None
    return Side(path.parent, Revision(str(path), None), run)


def read_results(folder: Path) -> Side:
    """A folder of mteb's result files as a side; each model under the name of its folder.

    Raises:
        RevisionError: a file is damaged, or there is no result.
    """
    found, broken = raw_results.read_folder(folder)
    if broken:
        raise RevisionError(f"{folder / broken[0].file} cannot be read: {broken[0].problem}")
    if not found:
        raise RevisionError(f"{folder} is no git revision, and it holds no result files of mteb's and no reports.")
    return _side(folder, folder, found)


def _side(name: Path, folder: Path, found: Sequence[Result]) -> Side:
    """Results below a folder as a side that goes by a name."""
    revised = defaultdict(set)
    for result in found:
        revised[result.model].add(result.model_revision)
    keys = {
        result.file: result.model if len(revised[result.model]) == 1 else f"{result.model}@{_short(result)}"
        for result in found
    }
    models = {keys[result.file]: _model(folder, result) for result in found}
    tasks: dict[str, RecordedTask] = {}
    for result in found:
        known = tasks.get(result.task) or _task(result)
        cells = {**known.cells, keys[result.file]: _score(result)}
        tasks[result.task] = known.model_copy(update={"cells": cells})
    absent = RecordedScore(status=f"no result file in {folder}")
    every = [
        task.model_copy(update={"cells": {key: task.cells.get(key, absent) for key in models}})
        for task in tasks.values()
    ]
    first, *rest = models
    return Side(
        root=folder,
        revision=Revision(str(name), None),
        run=RecordedRun(
            baseline=first,
            candidate=rest[-1] if rest else first,
            models=models,
            tasks=every,
            packages=_packages(folder, found),
        ),
        files={
            (keys[result.file], result.task): samples.path_of((folder / result.file).parent, result.task)
            for result in found
        },
    )


def _model(folder: Path, result: Result) -> RecordedModel:
    """What mteb's `model_meta.json` beside a result says of the model, if it is there."""
    path = folder / result.folder / "model_meta.json"
    meta: dict[str, Any] = read_json(path) if path.is_file() else {}
    tokens = meta.get("max_tokens")
    batches = {settings.get("encode_kwargs", {}).get("batch_size") for settings in _settings(folder / result.folder)}
    batch = batches.pop() if len(batches) == 1 else None
    return RecordedModel(
        name=result.model.replace("__", "/", 1),
        revision=result.model_revision,
        content_hash="",
        dimensions=meta.get("embed_dim"),
        parameters=meta.get("n_parameters"),
        max_seq_length=int(tokens) if isinstance(tokens, int | float) and isfinite(tokens) else None,
        similarity=meta.get("similarity_fn_name"),
        recipe={} if batch is None else {"batch_size": batch},
    )


def _packages(folder: Path, found: Sequence[Result]) -> dict[str, str]:
    """Versions of packages, as far as results and their settings name one alone."""
    named = [{"mteb": result.mteb} for result in found]
    for place in dict.fromkeys(result.folder for result in found):
        named += [settings.get("version", {}) for settings in _settings(folder / place)]
    versions: dict[str, set[str]] = defaultdict(set)
    for each in named:
        for package, version in each.items():
            versions[package] |= {str(version)} if version else set()
    return {package: one.pop() for package, one in versions.items() if len(one) == 1}


def _settings(folder: Path) -> list[dict[str, Any]]:
    """What mteb's `run_settings.jsonl` beside results says of each task's run; nothing where it is not there."""
    path = folder / "run_settings.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    try:
        return [json.loads(line) for line in lines if line.strip()]
    except ValueError as error:
        raise RevisionError(f"{path} cannot be read: {error}") from None


def _short(result: Result) -> str:
    """A model's revision in eight characters, with the settings of a run that has any."""
    commit, *settings = result.model_revision.split(" ", 1)
    return " ".join([commit[:8], *settings])


def _task(result: Result) -> RecordedTask:
    try:
        metadata = registry.find(result.task).metadata
    except KitError:
        metadata = None
    return RecordedTask(
        name=result.task,
        type=str(metadata.type) if metadata else "",
        metric=str(metadata.main_score) if metadata else "",
        splits=sorted({split for split, _, _ in result.scores}),
        subsets=sorted({subset for _, subset, _ in result.scores}),
        revision=result.revision,
    )


def _score(result: Result) -> RecordedScore:
    values = [score for _, _, score in result.scores if score is not None and isfinite(score)]
    if not values or len(values) < len(result.scores):
        return RecordedScore(status="its result file holds no finite main score")
    return RecordedScore(status="scored", score=fmean(values))
