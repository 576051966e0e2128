"""Report: the summary, with verdicts on claims and the winner of each use case, as `report.md` and `report.html`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from embrepro.benchmarking.speed import SpeedReport
from embrepro.cases import records
from embrepro.cases.records import CaseRecord
from embrepro.claims import known_values
from embrepro.claims import verdicts as claim_verdicts
from embrepro.claims.verdicts import Claim, Verdict
from embrepro.config.model_files import PublishedValue, published_values, read_model_files
from embrepro.config.schema import Config
from embrepro.files import read_model, write_text
from embrepro.layout import Layout
from embrepro.pipeline import scored
from embrepro.pipeline.records import SUMMARY, expect_made_for, parameters
from embrepro.progress import console
from embrepro.recommendation import evidence
from embrepro.recommendation import rules as use_case_rules
from embrepro.regression import published
from embrepro.rendering import render_html, render_markdown
from embrepro.report import run_report
from embrepro.results import provenance
from embrepro.results.agreement import expect_published
from embrepro.results.result_files import ResultNumbers, read_numbers, result_file
from embrepro.results.summary import Summary
from embrepro.tasks import requested

NANOBEIR = "NanoBEIR"
"""The task by which a claim asks for a number of sentence-transformers' own evaluator."""


def run(config: Config, layout: Layout) -> None:
    """Write both pages."""
    summary, speed = read(layout)
    wanted = parameters(config, [*SUMMARY, *(f"models.{key}" for key in config.models)])
    expect_made_for(layout.summary, summary.made_for, wanted, "aggregate")
    summary = judged(summary, speed, config.claim_files, config.rules_file, read_cases(layout))
    device = config.device
    found = provenance.collect(layout.root, device=device.name, threads=device.threads, chosen=device.numerics)
    document = run_report.build(summary, found, speed)
    write_text(layout.report_markdown, render_markdown.render(document))
    write_text(layout.report_html, render_html.render(document))
    console.say(f"report: {layout.reports / 'report.html'}")


def read(layout: Layout) -> tuple[Summary, SpeedReport | None]:
    """What the aggregate stage left: the summary, and the speed where it was measured.

    Raises:
        KitError: a file is missing or damaged, or a score in it is not that of its result file and its samples.
    """
    speed_file = layout.reports / "speed.json"
    speed = read_model(speed_file, SpeedReport) if speed_file.is_file() else None
    summary = read_model(layout.summary, Summary)
    expect_published(summary, layout.root)
    return summary, speed if speed and speed.models else None


def read_cases(layout: Layout) -> dict[str, CaseRecord]:
    """The records of the cases that were run, by name."""
    record = records.read_record(layout)
    return {"languages": record} if record else {}


def judged(
    summary: Summary,
    speed: SpeedReport | None,
    claim_files: Sequence[Path],
    rules: Path | None,
    cases: Mapping[str, CaseRecord] | None = None,
) -> Summary:
    """The summary with its claims and recommendations filled in.

    Args:
        summary: what the run found.
        speed: its benchmark, if there was one.
        claim_files: files of claims to judge, in order.
        rules: file of the rules that decide each use case; without it, or without two models, nothing is recommended.
        cases: records of other versions of mteb, by the case's name.
    """
    rows = [verdict.row() for verdict in verdicts(summary, speed, claim_files, cases)]
    winners = []
    if rules is not None and summary.candidate != summary.baseline:
        found = evidence.Evidence(
            candidate=summary.candidate,
            baseline=summary.baseline,
            tasks=summary.tasks,
            models=summary.models,
            speed=speed,
        )
        winners = use_case_rules.recommend(use_case_rules.read_rules(rules), found)
    return summary.model_copy(update={"claims": rows, "recommendations": winners})


def verdicts(
    summary: Summary,
    speed: SpeedReport | None,
    claim_files: Sequence[Path],
    cases: Mapping[str, CaseRecord] | None = None,
) -> list[Verdict]:
    """Every claim of the files held against the run, and against the published scores of `conf/expected`."""
    asked = [claim for path in claim_files for claim in claim_verdicts.read_claims(path).claims]
    sizes = {claim.metric.benchmark for claim in asked if claim.metric.kind == "benchmark_size"}
    known = known_values.collect_known_values(
        summary.tasks,
        summary.models,
        legacy=summary.legacy,
        origin=summary.origin,
        speed=speed,
        numbers=_numbers(summary, asked),
        published=published.published(),
        figures=_figures(asked),
        cases=cases,
        benchmarks=requested.benchmark_sizes(sizes),
    )
    return claim_verdicts.judge_claims(asked, known)


def _numbers(summary: Summary, asked: Sequence[Claim]) -> dict[str, dict[str, list[ResultNumbers]]]:
    """The result files of the tasks of which a claim names a measure, by model and task.

    Raises:
        KitError: a file is not the one that the evaluate stage recorded.
    """
    wanted = {(score.model, score.task) for claim in asked for score in claim.metric.named_scores()}
    found: dict[str, dict[str, list[ResultNumbers]]] = {key: {} for key in summary.models}
    for model, task in sorted(wanted):
        if model in summary.models:
            if task == NANOBEIR:
                found[model][task] = _nanobeir_numbers(summary, model)
                continue
            path = Path(result_file(summary.models[model], task))
            scored.expect_recorded(path, Layout().evaluate_record(model), task)
            found[model][task] = read_numbers(path) + _sparsity_numbers(summary, model, task)
    return found


def _nanobeir_numbers(summary: Summary, model: str) -> list[ResultNumbers]:
    """What sentence-transformers' own evaluator found, as the result of a task of the name NanoBEIR."""
    return [
        ResultNumbers(split="", subset="", numbers=found.scores) for found in summary.nanobeir if found.model == model
    ]


def _sparsity_numbers(summary: Summary, model: str, task: str) -> list[ResultNumbers]:
    """Of a sparse model: `active_dimensions_query`, `sparsity_document` and the like, of one task."""
    numbers = {
        f"{name}_{row.prompt or 'text'}": value
        for row in summary.sparsity
        if (row.model, row.task) == (model, task)
        for name, value in row.model_dump(include={"active_dimensions", "sparsity", "index_mb"}).items()
    }
    return [ResultNumbers(split="", subset="", numbers=numbers)] if numbers else []


def _figures(asked: Sequence[Claim]) -> list[PublishedValue]:
    """Published figures of the models, read only if a claim asks for them."""
    if not any(claim.metric.kind == "figures" for claim in asked):
        return []
    return published_values(read_model_files())
