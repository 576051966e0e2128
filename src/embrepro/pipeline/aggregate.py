"""Aggregate: every model's scores on every requested task, compared, into `metrics.json` and `summary.json`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from embrepro import suite
from embrepro.benchmarking import combining
from embrepro.config.schema import Config, Device
from embrepro.embeddings.plan import batch_rule
from embrepro.errors import KitError
from embrepro.files import keep_only, write_json, write_text
from embrepro.layout import Layout
from embrepro.pipeline import scored as scored_stage
from embrepro.pipeline.records import SUMMARY, Record, TaskOutcome, parameters
from embrepro.progress import console
from embrepro.results import comparison, ranking
from embrepro.results.comparison import Scored
from embrepro.results.result_files import read_numbers
from embrepro.results.summary import (
    Cell,
    Histogram,
    LegacyScore,
    MeanDifferences,
    ModelCard,
    NanoBeirScores,
    OriginScores,
    Role,
    ScoreDifference,
    SparsityRow,
    Suite,
    Summary,
    TaskRow,
    metrics,
)
from embrepro.sources import models as model_sources
from embrepro.sources.models import ModelManifest
from embrepro.suite import origin
from embrepro.tasks import freezing, pins, requested
from embrepro.tasks.registry import Request

if TYPE_CHECKING:
    from embrepro.tasks.first_stage import FirstStage
    from embrepro.tasks.freezing import Manifest

STAGE = "aggregate"
BINS = 40
BYTES_OF_A_POSTING = 8


def run(config: Config, layout: Layout) -> Summary:
    """Compare what was scored and write the metrics, the summary and the plots' tables."""
    resolved = requested.resolve(config.tasks, layout.root)
    # The analysis's own evaluation mostly rewards closeness: it is shown, and enters no mean and no comparison.
    asked = [request for request in resolved if request.name not in origin.TASKS]
    names = [request.name for request in asked]
    records = {key: scored_stage.read_record(config, layout, key) for key in config.models}
    manifests = _manifests(layout, asked, records)
    scored = {key: scored_stage.read_scores(config, layout, key, records[key], names) for key in config.models}
    types = {request.name: request.type for request in asked}
    differences, mean_differences = _differences(config, scored, types)
    rows = _rows(config, asked, manifests, records, scored, differences)
    means = {key: comparison.means({row.name: row.cells[key].score for row in rows}, types) for key in config.models}
    summary = Summary(
        baseline=config.baseline,
        candidate=config.candidate,
        models={key: _card(config, layout, key, records[key]) for key in config.models},
        tasks=rows,
        means=means,
        mean_differences=mean_differences,
        ranking=ranking.rank(scored, types, config.seed),
        histograms=_histograms(rows, scored),
        nanobeir=_nanobeir(records),
        sparsity=[row for key, record in records.items() for row in _sparsity(key, record)],
        legacy=_legacy(rows, records),
        origin=_origin(config, layout, records, {request.name for request in resolved}),
        suite=_suite(asked),
        packages=_packages(records),
        recipe=_numeric_recipe(config.device),
        seed=config.seed,
        made_for=parameters(config, [*SUMMARY, *(f"models.{key}" for key in config.models)]),
    )
    _write(layout, summary)
    combining.combine(config, layout)
    return summary


def _differences(
    config: Config, scored: dict[str, dict[str, Scored]], types: dict[str, str]
) -> tuple[dict[str, ScoreDifference], MeanDifferences]:
    names = (config.candidate, config.baseline)
    if config.candidate == config.baseline:
        return {}, MeanDifferences()
    return comparison.differences(scored[config.candidate], scored[config.baseline], types, names, config.seed)


def _rows(
    config: Config,
    asked: list[Request],
    manifests: dict[str, Manifest],
    records: dict[str, Record],
    scored: dict[str, dict[str, Scored]],
    differences: dict[str, ScoreDifference],
) -> list[TaskRow]:
    rows = []
    with console.work(STAGE, "intervals", len(asked), "tasks") as work:
        for request in asked:
            cells = {
                key: _cell(
                    records[key].outcome(request.name, "evaluate"),
                    scored[key].get(request.name),
                    _first_stage(request, manifests) if model.scores_pairs else None,
                    config.seed,
                )
                for key, model in config.models.items()
            }
            rows.append(_row(request, manifests, cells, differences.get(request.name)))
            work.advance(1)
    return rows


def _cell(outcome: TaskOutcome, scored: Scored | None, first_stage: FirstStage | None, seed: int) -> Cell:
    if scored is None:
        return Cell(status=outcome.status)
    return comparison.cell(scored, seed).model_copy(update={"first_stage": first_stage})


def _first_stage(request: Request, manifests: dict[str, Manifest]) -> FirstStage | None:
    """What ranked the documents that a cross-encoder reranks, where the task brings no ranking itself."""
    manifest = manifests.get(request.name)
    return manifest.first_stage if manifest else None


def _row(
    request: Request, manifests: dict[str, Manifest], cells: dict[str, Cell], difference: ScoreDifference | None
) -> TaskRow:
    whole = [manifests[leaf.name] for leaf in request.leaves() if leaf.name in manifests]
    single = whole[0] if len(request.leaves()) == 1 and whole else None
    return TaskRow(
        name=request.name,
        type=request.type,
        metric=request.metric,
        languages=sorted({language for manifest in whole for language in manifest.languages}),
        splits=list(request.splits),
        subsets=list(request.subsets),
        title=suite.CATEGORIES.get(request.name),
        repository=single.repository if single else None,
        revision=single.revision if single else None,
        source=single.source if single else None,
        licence=single.licence if single else None,
        data_hash=single.data_hash if single else None,
        pinned=all(manifest.pinned for manifest in whole) if whole else None,
        cells=cells,
        difference=difference,
    )


def _manifests(layout: Layout, requested: list[Request], records: dict[str, Record]) -> dict[str, Manifest]:
    """The manifests of all data that is there, by task; that of a task without a score may be of an earlier run.

    Raises:
        KitError: one is damaged, is that of other data than was scored, or was compared with another pin.
    """
    found = {}
    for leaf in (leaf for request in requested for leaf in request.leaves()):
        folder = layout.tasks / leaf.name
        if not (folder / "manifest.json").is_file():
            continue
        manifest = freezing.read_manifest(folder)
        scored = {key: record.tasks[leaf.name] for key, record in records.items() if leaf.name in record.tasks}
        scored = {key: outcome for key, outcome in scored.items() if outcome.done}
        for key, outcome in scored.items():
            if outcome.details.get("data_hash") != manifest.data_hash:
                raise KitError(f"{folder} holds other data than {key} was scored on. Run: dvc repro evaluate@{key}")
        if scored and freezing.check_pin(manifest, pins.read_pin(leaf.name, layout.root / pins.PINS)) != manifest:
            raise KitError(f"The pin of {leaf.name} came or went after its data was frozen. Run: dvc repro download")
        found[leaf.name] = manifest
    return found


def _card(config: Config, layout: Layout, key: str, record: Record) -> ModelCard:
    model = config.models[key]
    role: Role = "candidate" if key == config.candidate else "baseline" if key == config.baseline else "other"
    if why := model_sources.why_unavailable(layout.models / key):
        revision = (model.weights.revision if model.weights else None) or ""
        return ModelCard(
            key=key,
            name=model.full_name,
            role=role,
            family=model.family,
            revision=revision,
            source=why,
            content_hash="",
        )
    manifest, snapshot = model_sources.read_for(layout.models / key, model, config.device.numerics)
    known, sparsity = record.details, _sparsity(key, record)
    if known["content_hash"] != manifest.content_hash:
        raise KitError(f"{layout.models / key} holds another model than was scored. Run: dvc repro evaluate@{key}")
    return ModelCard(
        key=key,
        name=model.full_name,
        role=role,
        family=model.family,
        revision=manifest.revision,
        source=manifest.source,
        content_hash=manifest.content_hash,
        licence=_licence(snapshot),
        dimensions=known["dimensions"],
        parameters=known["parameters"],
        max_seq_length=known["max_seq_length"],
        dtype=known["dtype"],
        normalised=known["normalised"],
        similarity=known["similarity"],
        active_dimensions=_mean_active_dimensions(sparsity),
        index_mb=_index_mb(sparsity),
        size_mb=manifest.bytes / 1e6,
        distilled_from=manifest.distilled_from,
        recipe=_recipe(config, key, manifest),
    )


def _recipe(config: Config, key: str, manifest: ModelManifest) -> dict[str, str | int | float | bool | None]:
    model = config.models[key]
    rule = batch_rule(model, config.device)
    recipe: dict[str, str | int | float | bool | None] = (
        {"batch_size": rule.texts} if rule.texts else {"batch_tokens": rule.tokens}
    )
    if model.distill:
        recipe |= model.distill.model_dump(exclude={"teacher"})
    return recipe | {f"prompt {name}": text for name, text in sorted(model.prompts.items())}


def _numeric_recipe(device: Device) -> dict[str, str | int | None]:
    """What a number depends on beside inputs and packages: the number of cores only where numerics are native."""
    recipe: dict[str, str | int | None] = {"device": device.name, "numerics": device.numerics}
    return recipe if device.numerics == "portable" else recipe | {"threads": device.threads}


def _licence(snapshot: Path) -> str | None:
    from huggingface_hub import ModelCard as HubCard

    card = snapshot / "README.md"
    try:
        return HubCard.load(card).data.license if card.is_file() else None
    except ValueError:
        return None


def _histograms(rows: list[TaskRow], scored: dict[str, dict[str, Scored]]) -> list[Histogram]:
    """Similarities of positive and negative pairs, for the tasks whose samples are labelled pairs."""
    found = []
    for row in rows:
        for key, by_task in scored.items():
            kept = by_task.get(row.name)
            if kept is None or kept.samples is None or kept.samples.statistic != "average_precision":
                continue
            frame = kept.samples.frame
            if not set(frame["target"].unique()) <= {0.0, 1.0}:
                continue
            edges = np.histogram_bin_edges(frame["score"].to_numpy(), bins=BINS)
            counts = {
                label: np.histogram(frame.filter(pl.col("target") == label)["score"].to_numpy(), edges)[0].tolist()
                for label in (0.0, 1.0)
            }
            found.append(
                Histogram(
                    task=row.name,
                    model=key,
                    edges=edges.tolist(),
                    positives=counts[1.0],
                    negatives=counts[0.0],
                )
            )
    return found


def _nanobeir(records: dict[str, Record]) -> list[NanoBeirScores]:
    """What the library's own evaluators found, of the models that they were run for."""
    found = []
    for key, record in records.items():
        if "nanobeir" in record.details:
            outcome = TaskOutcome.model_validate(record.details["nanobeir"])
            status = "scored" if outcome.done else outcome.status
            found.append(NanoBeirScores(model=key, status=status, **outcome.details))
    return found


def _sparsity(key: str, record: Record) -> list[SparsityRow]:
    """Of a sparse model, task by task: how much of its embeddings of queries and of documents is not zero."""
    return [
        SparsityRow(
            model=key,
            task=task,
            prompt=prompt,
            texts=texts,
            active_dimensions=active / texts,
            sparsity=1 - active / texts / record.details["dimensions"],
            index_mb=active * BYTES_OF_A_POSTING / 1e6,
        )
        for task, counts in record.details.get("active", {}).items()
        for prompt, (texts, active) in counts.items()
    ]


def _mean_active_dimensions(rows: list[SparsityRow]) -> dict[str, float]:
    """Over all tasks' distinct texts, by prompt kind."""
    return {
        prompt: sum(row.active_dimensions * row.texts for row in rows if row.prompt == prompt)
        / sum(row.texts for row in rows if row.prompt == prompt)
        for prompt in sorted({row.prompt for row in rows})
    }


def _index_mb(rows: list[SparsityRow]) -> dict[str, float]:
    """Of an index of all tasks' texts, by prompt kind."""
    return {
        prompt: sum(row.index_mb for row in rows if row.prompt == prompt)
        for prompt in sorted({row.prompt for row in rows})
    }


def _legacy(rows: list[TaskRow], records: dict[str, Record]) -> list[LegacyScore]:
    found = []
    by_title = {row.title: row for row in rows if row.title}
    for key, record in records.items():
        definitions = record.details.get("legacy")
        if not definitions:
            continue
        for category in [*dict.fromkeys([*definitions["second"], *definitions["first"]])]:
            row = by_title.get(category.replace("_", " "))
            found.append(
                LegacyScore(
                    model=key,
                    category=category.replace("_", " "),
                    task=row.name if row else "",
                    trusted=row.cells[key].score if row else None,
                    first=definitions["first"].get(category),
                    second=definitions["second"].get(category),
                )
            )
    return found


def _origin(config: Config, layout: Layout, records: dict[str, Record], asked: set[str]) -> list[OriginScores]:
    """What became of the analysis's own evaluation, where it was asked for."""
    found = []
    for key, record in records.items():
        for task, definition in origin.TASKS.items():
            if task not in asked:
                continue
            outcome = record.tasks[task]
            scores = {}
            if outcome.done:
                folder = layout.results(config.models[key]) / str(record.details["revision"])
                (numbers,) = read_numbers(folder / f"{task}.json")
                scores = {name: numbers.numbers[name] for name in (*origin.CATEGORIES[definition], "overall")}
            found.append(OriginScores(model=key, definition=definition, status=outcome.status, scores=scores))
    return found


def _packages(records: dict[str, Record]) -> dict[str, str]:
    """Versions of the packages that all scores were computed with; raises KitError where two models' scores differ in one."""
    found: dict[str, str] = {}
    for key, record in records.items():
        for name, version in record.details.get("packages", {}).items():
            if found.setdefault(name, version) != version:
                raise KitError(
                    f"Expected all scores to be of one version of {name}; {key}'s are of {version}, others of {found[name]}."
                    " Run: dvc repro"
                )
    return found


def _suite(asked: list[Request]) -> Suite | None:
    if not any(request.name in suite.CATEGORIES for request in asked):
        return None
    return Suite(version=suite.VERSION, content_hash=suite.content_hash())


def _write(layout: Layout, summary: Summary) -> None:
    write_json(layout.metrics, metrics(summary))
    write_json(layout.summary, summary.model_dump())
    lines = [
        f"{row.name} ({key}),{row.name},{key},{cell.score}"
        for row in summary.tasks
        for key, cell in row.cells.items()
        if cell.score is not None
    ]
    write_text(layout.plotted_scores, "\n".join(["bar,task,model,score", *lines]) + "\n")
    keep_only(layout.plotted_scores.parent, {layout.plotted_scores.name})
