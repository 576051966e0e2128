"""The custom suite by the score that deserves trust and by the two definitions of the analysis."""

from __future__ import annotations

from embrepro.rendering.formats import score
from embrepro.rendering.model import Column, Section, Table, Value
from embrepro.report.cells import missing_tasks
from embrepro.report.origins import Origins
from embrepro.results.summary import LegacyScore, Summary


def section(summary: Summary, origins: Origins) -> Section | None:
    """The suite's scores and the analysis's own evaluation; None where neither was run."""
    if not summary.legacy and not summary.origin:
        return None
    suite = (
        f"Suite version {summary.suite.version}, content {summary.suite.content_hash[:12]}. " if summary.suite else ""
    )
    lead = [
        f"{suite}The trusted score rewards separating positives from hard negatives. The analysis's"
        " definitions mostly average the similarity of positives alone, which a model that maps all texts to"
        " one direction maximises."
    ]
    tables = [legacy_table(summary, origins)] if summary.legacy else []
    if summary.origin:
        tables.append(origin_table(summary))
    return Section("custom", "Custom suite", lead, tables)


def origin_table(summary: Summary) -> Table:
    """The analysis's own evaluation: both definitions on the items that they came with."""
    columns = [
        Column("Category"),
        Column("Model"),
        Column("First definition", note="on the analysis's items", numeric=True),
        Column("Second definition", note="on the analysis's items", numeric=True),
    ]
    categories = list(dict.fromkeys(name for each in summary.origin for name in each.scores)) or ["overall"]
    rows = [
        [
            Value(category.replace("_", " ")),
            Value(model),
            *(_of_origin(summary, model, definition, category) for definition in ("first", "second")),
        ]
        for category in sorted(categories, key=lambda name: (name != "overall", name))
        for model in summary.models
    ]
    return Table(
        "origin",
        "The analysis's own evaluation on its own items \u00d7 100; it enters no mean and no comparison",
        columns,
        rows,
        restack=True,
    )


def _of_origin(summary: Summary, model: str, definition: str, category: str) -> Value:
    for each in summary.origin:
        if (each.model, each.definition) != (model, definition):
            continue
        if not each.scores:
            return Value("missing", tone="missing", note=each.status)
        if category in each.scores:
            return Value(score(each.scores[category]), sort=each.scores[category])
    return Value("not defined")


def legacy_table(summary: Summary, origins: Origins) -> Table:
    """The custom suite: the score that deserves trust beside the two definitions of the analysis."""
    columns = [
        Column("Category"),
        Column("Model"),
        Column("Trusted score", note="separation from hard negatives", numeric=True),
        Column("First definition", note="as the analysis had it", numeric=True),
        Column("Second definition", note="as the analysis had it", numeric=True),
    ]
    rows = [
        [
            Value(line.category, note=line.task if line.task != line.category else ""),
            Value(line.model),
            _trusted(summary, line, origins),
            _legacy_score(line, "first", origins),
            _legacy_score(line, "second", origins),
        ]
        for line in sorted(summary.legacy, key=lambda line: (line.category != "overall", line.category))
    ]
    return Table(
        "legacy",
        "Custom suite \u00d7 100: trusted score and the analysis's two definitions",
        columns,
        rows,
        restack=True,
    )


def _trusted(summary: Summary, line: LegacyScore, origins: Origins) -> Value:
    if line.trusted is None and line.task in missing_tasks(summary, line.model):
        return Value("missing", tone="missing")
    return _legacy_score(line, "trusted", origins)


def _legacy_score(line: LegacyScore, definition: str, origins: Origins) -> Value:
    value: float | None = getattr(line, definition)
    if value is None:
        return Value("not defined")
    return Value(score(value), sort=value, origin=origins.of_legacy(line, definition, value))
