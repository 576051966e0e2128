"""What is wrong with a folder of mteb results, and why: scores missing, impossible or somebody else's.

Reads what mteb 1.x and 2.x write (`<org>__<model>/<revision>/<Task>.json`, or the older flat layout with
one folder a model), which is also what this kit writes. It looks at the files as they lie, never through
mteb's own reader, which turns an empty result into a NaN or drops it.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from embrepro.errors import KitError
from embrepro.results.raw_results import Broken, Result, read_folder

if TYPE_CHECKING:
    from mteb import AbsTask

Severity = Literal["error", "warning", "note"]
"""In the order in which findings are told."""
Lookup = Callable[[str], "AbsTask"]

# Seconds; loading and scoring anything at all takes longer
_INSTANT = 1e-3
_SIGNED_METRICS = ("spearman", "pearson", "kendalltau", "p-MRR", "ap_diff", "silhouette", "mcc", "ami", "ari")
_NO_NAME = "no_model_name"
_RETRIEVAL = ("Retrieval", "Reranking", "InstructionRetrieval", "InstructionReranking")

_LANGUAGE_CAUSE = (
    "the language code: mteb expects ISO 639-3 codes such as 'eng', and languages=['en'] (or ['english']) "
    "matches no subset; mteb 1.x then leaves the task without subsets, loops over nothing and writes empty "
    "scores without an error. Monolingual classification and retrieval tasks ignore the filter, so they are "
    "scored all the same"
)
_LANGUAGE_ADVICE = "ask for languages=['eng'], delete the empty files (they count as done) and run these tasks again"


class Finding(BaseModel):
    """One thing that is wrong, with its likely cause and what to do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    severity: Severity
    file: str = Field(description='path below the examined folder; "." for the folder itself')
    what: str
    cause: str
    advice: str


@dataclass(frozen=True)
class _Expected:
    """What mteb's metadata say of a task."""

    type: str
    main_score: str
    splits: frozenset[str]
    subsets: frozenset[str]
    revision: str | None
    base_evaluate: bool
    aggregate: bool
    queries: dict[str, int]


def examine(folder: Path, *, lookup: Lookup | None = None) -> list[Finding]:
    """Examine a result folder, the whole or one model's.

    Args:
        folder: holds result files of mteb at any depth.
        lookup: finds a task by name, KeyError or KitError for an unknown one; mteb's own by default. Pass one
            that knows further tasks where a run had them.

    Returns:
        Findings, errors first, each kind in the order of files; empty where nothing is wrong.

    Raises:
        KitError: there is no such folder.
    """
    if not folder.is_dir():
        raise KitError(f"expected a folder of mteb results at {folder}, found none; name the folder that holds them")
    results, broken = read_folder(folder)
    if not results and not broken:
        return [
            _error(
                ".",
                "no result file of mteb in this folder",
                "the evaluation stopped before its first task, or wrote somewhere else",
                "look for <org>__<model>/<revision>/<Task>.json and name the folder above it",
            )
        ]
    expected = {name: _expected(name, lookup or _mteb_task) for name in {result.task for result in results}}
    findings = [
        *(_broken(each) for each in broken),
        *_empty_tasks(results, expected),
        *(finding for result in results for finding in _examine_file(result, expected[result.task])),
        *_missing_meta(folder, results),
        *_nameless(folder, results),
        *_contradicting(results),
        *_unequal_tasks(results),
        *_identical(results),
    ]
    return sorted(findings, key=lambda finding: get_args(Severity).index(finding.severity))


def _mteb_task(name: str) -> AbsTask:
    # Takes seconds, and only an examination with result files needs it
    import mteb

    return mteb.get_task(name)


def _expected(name: str, lookup: Lookup) -> _Expected | None:
    try:
        task = lookup(name)
    except (KeyError, KitError):
        return None
    from mteb.abstasks import AbsTask
    from mteb.abstasks.aggregated_task import AbsTaskAggregate

    statistics: dict[str, Any] = dict(task.metadata.descriptive_stats or {})
    return _Expected(
        type=task.metadata.type,
        main_score=task.metadata.main_score,
        splits=frozenset(task.metadata.eval_splits),
        subsets=frozenset(task.metadata.hf_subsets_to_langscripts),
        revision=task.metadata.revision if isinstance(task.metadata.revision, str) else None,
        base_evaluate=type(task).evaluate is AbsTask.evaluate,
        aggregate=isinstance(task, AbsTaskAggregate),
        queries={split: int(found["num_queries"]) for split, found in statistics.items() if found.get("num_queries")},
    )


def _empty_tasks(results: Sequence[Result], expected: dict[str, _Expected | None]) -> Iterator[Finding]:
    """Empty results of a folder: a wrong language code leaves empty just the tasks that inherit mteb's base evaluation."""
    for folder, files in _by_folder(results).items():
        empty = [result for result in files if result.is_empty]
        scored = [result for result in files if not result.is_empty]
        if not empty:
            continue
        inherits = [_inherits_base(expected[result.task]) for result in empty]
        overrides = [not _inherits_base(expected[result.task]) for result in scored]
        names = ", ".join(result.task for result in empty)
        what = f"{len(empty)} of {len(files)} tasks have empty scores ({names})"
        if all(inherits) and scored and all(overrides):
            kinds = sorted({_type(expected[result.task]) for result in scored})
            what += f", while {len(scored)} of type {' and '.join(kinds)} are scored"
            also = _others_with_the_same(results, files, empty)
            yield _error(folder, what + also, _LANGUAGE_CAUSE, _LANGUAGE_ADVICE)
        else:
            cause = "a subset or split filter that left nothing to evaluate (hf_subsets=[], eval_splits=[], a language)"
            yield _error(folder, what, cause, "run these tasks again without the filter")


def _inherits_base(task: _Expected | None) -> bool:
    return task is not None and task.base_evaluate


def _type(task: _Expected | None) -> str:
    return "unknown" if task is None else task.type


def _others_with_the_same(results: Sequence[Result], files: Sequence[Result], empty: Sequence[Result]) -> str:
    """Models that lack the same tasks: then no model is to blame."""
    lacking = defaultdict(set)
    for result in results:
        if result.is_empty:
            lacking[result.model].add(result.task)
    tasks = {result.task for result in empty}
    same = sorted(model for model, lost in lacking.items() if lost == tasks and model != files[0].model)
    return f"; the same tasks as {', '.join(same)}, so it is not this model's doing" if same else ""


def _examine_file(result: Result, task: _Expected | None) -> Iterator[Finding]:
    if result.is_empty:
        yield _empty_file(result, task)
        return
    yield from _bad_scores(result, task)
    yield from _instant(result)
    if task is None:
        yield _note(
            result.file,
            f"mteb does not know {result.task}",
            "a task of one's own, or one that was renamed or removed",
            "splits, subsets and range were not checked; compare the name with mteb.get_tasks()",
        )
        return
    yield from _missing_parts(result, task)
    yield from _other_revision(result, task)
    yield from _dropped_queries(result, task)


def _empty_file(result: Result, task: _Expected | None) -> Finding:
    instant = result.seconds is not None and result.seconds < _INSTANT
    time = "" if result.seconds is None else f" after {result.seconds:.2g} s"
    cause = "no subset was left to evaluate"
    if instant and (task is None or task.base_evaluate):
        cause += ": most often a language code such as 'en' where mteb expects 'eng'"
    advice = (
        "delete this file, which counts as done, and evaluate the task again with languages=['eng'] or without a filter"
    )
    return _error(result.file, f"{result.task}: empty scores{time}", cause, advice)


def _bad_scores(result: Result, task: _Expected | None) -> Iterator[Finding]:
    metric = task.main_score if task else "main score"
    least = -1.0 if task is None or any(name in metric for name in _SIGNED_METRICS) else 0.0
    for split, subset, score in result.scores:
        where = f"{result.task} {split}/{subset}"
        if score is None or math.isnan(score):
            cause = "embeddings that are all equal, zero or NaN; for an aggregate task, a part that failed"
            advice = "look at the embeddings, then delete this file: a stored NaN is never computed again"
            said = "none" if score is None else "NaN"
            yield _error(result.file, f"{where}: {metric} is {said}", cause, advice)
        elif not least <= score <= 1:
            cause = "a score in percent" if 1 < score <= 100 else "a faulty metric, or a file that was edited"
            yield _error(
                result.file,
                f"{where}: {metric} is {score:g}, outside {least:g} to 1",
                cause,
                "evaluate the task again",
            )
        elif score == 0 and task is not None and task.type in _RETRIEVAL:
            yield _warning(
                result.file,
                f"{where}: {metric} is exactly 0",
                "relevance judgements (qrels) whose identifiers are not those of corpus and "
                "queries, or zero embeddings",
                "compare the identifiers of qrels, queries and corpus",
            )


def _instant(result: Result) -> Iterator[Finding]:
    # A time of exactly 0 is how files without times are written.
    if result.seconds is not None and 0 < result.seconds < _INSTANT:
        yield _warning(
            result.file,
            f"{result.task}: scored in {result.seconds:.2g} s",
            "scores that were copied or served from a cache",
            "evaluate the task again with an empty cache",
        )


def _missing_parts(result: Result, task: _Expected) -> Iterator[Finding]:
    there = defaultdict(set)
    for split, subset, _ in result.scores:
        there[split].add(subset)
    if missing := sorted(task.splits - there.keys()):
        yield _warning(
            result.file,
            f"{result.task}: no scores for split {', '.join(missing)} (there: {', '.join(sorted(there))})",
            "eval_splits was given, or the evaluation was stopped",
            "evaluate the task on the splits that its metadata name before comparing with others",
        )
    if task.aggregate:
        return
    for split in sorted(task.splits & there.keys()):
        if absent := sorted(task.subsets - there[split]):
            named = ", ".join(absent[:5]) + (" ..." if len(absent) > 5 else "")
            yield _warning(
                result.file,
                f"{result.task} {split}: {len(absent)} of {len(task.subsets)} subsets have no scores ({named})",
                "a filter by language or subset, or an interrupted evaluation",
                "do not compare the mean with one over all subsets",
            )


def _other_revision(result: Result, task: _Expected) -> Iterator[Finding]:
    if task.revision and result.revision and result.revision != task.revision:
        yield _note(
            result.file,
            f"{result.task}: data revision {result.revision[:12]}, this mteb has {task.revision[:12]}",
            "another version of mteb; its result cache does not compare data revisions",
            "evaluate again before comparing with scores on the present data",
        )


def _dropped_queries(result: Result, task: _Expected) -> Iterator[Finding]:
    """Queries without qrels are dropped silently and the mean rises; the per-sample scores tell."""
    for split, scored in result.samples.items():
        if (there := task.queries.get(split)) and scored < there and task.subsets == {"default"}:
            yield _warning(
                result.file,
                f"{result.task} {split}: {scored:,} queries scored of {there:,}",
                "relevance judgements (qrels) are missing for the others; mteb drops such queries and the score rises",
                "compare the qrels with the data set's published number of queries",
            )


def _missing_meta(folder: Path, results: Sequence[Result]) -> Iterator[Finding]:
    for place in _by_folder(results):
        if not (folder / place / "model_meta.json").is_file():
            yield _warning(
                place,
                "no model_meta.json beside the results",
                "an mteb before 1.11, a model without a name, or files copied by hand",
                "nothing says which weights were scored: evaluate again with a named model at a pinned revision",
            )


def _nameless(folder: Path, results: Sequence[Result]) -> Iterator[Finding]:
    """Mteb writes a stand-in for the name of a model that has none, and serves its results to every other such model."""
    for place, files in _by_folder(results).items():
        name = _meta_name(folder / place / "model_meta.json")
        called = (name or "", files[0].model, *Path(place).parts)
        if name == "" or any(each.startswith(_NO_NAME) for each in called):
            yield _error(
                place,
                "results of a model without a name",
                "the model was given to mteb as an object, without a model card or ModelMeta",
                "nothing says what was scored: give the model a name and a revision, and evaluate again",
            )


def _meta_name(path: Path) -> str | None:
    """The name in a model_meta.json, empty where it holds none; None where there is no such file to read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    name = content.get("name") if isinstance(content, dict) else None
    return name if isinstance(name, str) else ""


def _contradicting(results: Sequence[Result]) -> Iterator[Finding]:
    """One model, one task, one split and subset: one score."""
    found: dict[tuple[str, ...], dict[float | None, str]] = defaultdict(dict)
    for result in results:
        for split, subset, score in result.scores:
            revision = result.folder.rpartition("/")[2] if "__" in result.model else ""
            key = (result.model, revision, result.revision or "", result.task, split, subset)
            found[key].setdefault(score, result.file)
    for (model, _, _, task, split, subset), scores in found.items():
        if len(scores) > 1:
            said = " and ".join(f"{score:g}" if score is not None else "none" for score in scores)
            files = sorted(set(scores.values()))
            yield _error(
                files[0],
                f"{task} {split}/{subset} of {model} has {len(scores)} scores: {said}"
                + (f" (also in {', '.join(files[1:])})" if files[1:] else ""),
                "a file that was edited, or results of several runs put together",
                "nothing says which one holds: delete these results and evaluate the task again",
            )


def _unequal_tasks(results: Sequence[Result]) -> Iterator[Finding]:
    by_folder = _by_folder(results)
    all_tasks = {result.task for result in results}
    for place, files in by_folder.items():
        if absent := sorted(all_tasks - {result.task for result in files}):
            yield _warning(
                place,
                f"no result for {', '.join(absent)}, which other models here have",
                "a task that failed with raise_error=False, or was not requested",
                "do not compare means; evaluate the missing tasks",
            )


def _identical(results: Sequence[Result]) -> Iterator[Finding]:
    """Two models never agree to the last digit on every task, unless one of them was not run."""
    by_folder = _by_folder(results)
    for (place, files), (other_place, others) in combinations(by_folder.items(), 2):
        if files[0].model == others[0].model:
            continue
        theirs = {result.task: result for result in others if not result.is_empty}
        shared = [result for result in files if not result.is_empty and result.task in theirs]
        same = [result.task for result in shared if _telling(result) and result.scores == theirs[result.task].scores]
        if same and (len(same) == len(shared) or len(same) > 1):
            finding = _error if len(same) > 1 else _warning
            yield finding(
                place,
                f"the same scores as {other_place} on {', '.join(same)}",
                "the result cache goes by name and revision: other weights under one name, or no name",
                "give each model its own name and revision, and evaluate again with an empty cache",
            )


def _telling(result: Result) -> bool:
    """Whether agreement on these scores says anything: everybody may have 0 or 1."""
    return any(score not in (None, -1.0, 0.0, 1.0) for _, _, score in result.scores)


def _by_folder(results: Iterable[Result]) -> dict[str, list[Result]]:
    folders: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        folders[result.folder].append(result)
    return folders


def _broken(each: Broken) -> Finding:
    return _error(each.file, each.problem, "a write that was cut off, or an edit", "delete the file and evaluate again")


def _error(file: str, what: str, cause: str, advice: str) -> Finding:
    return Finding(severity="error", file=file, what=what, cause=cause, advice=advice)


def _warning(file: str, what: str, cause: str, advice: str) -> Finding:
    return Finding(severity="warning", file=file, what=what, cause=cause, advice=advice)


def _note(file: str, what: str, cause: str, advice: str) -> Finding:
    return Finding(severity="note", file=file, what=what, cause=cause, advice=advice)
