"""Rows of the tables about scores; Markdown and HTML are made of the same, so that they cannot differ."""

from __future__ import annotations

from embrepro.report.cells import (
    DASH,
    OUTCOME_TONES,
    Column,
    Table,
    Tone,
    Value,
    missing_tasks,
    model_keys,
    names,
    probability,
    score,
    score_interval,
    signed,
    signed_interval,
    why_no_mean,
)
from embrepro.report.origins import Origins, result_file
from embrepro.results.summary import Cell, LegacyScore, Means, ScoreDifference, Summary, TaskRow

VERDICT_TONES: dict[str, Tone] = {"reproduced": "good", "refuted": "bad", "not measured": "missing"}


def role_columns(summary: Summary) -> list[Column]:
    """One numeric column per model, its role beneath its name."""
    return [Column(key, note=summary.models[key].role, numeric=True) for key in model_keys(summary)]


def compares(summary: Summary) -> bool:
    """Whether there are two models to set against each other."""
    return summary.baseline != summary.candidate


def comparison(summary: Summary, origins: Origins) -> Table:
    """The comparison of the analysis: every requested task, both models, the difference, the means."""
    columns = [
        Column("Task"),
        Column("Type", aside=True),
        Column("Metric", aside=True),
        *role_columns(summary),
    ]
    if compares(summary):
        columns.append(Column("Difference", note="95 % interval", numeric=True))
        columns.append(Column("Verdict", note="p, effect size", aside=True))
    rows = [_comparison_row(summary, task, origins) for task in summary.tasks]
    footer = [_mean_row(summary, "mean_task", "Average over tasks", origins)]
    if len({task.type for task in summary.tasks}) > 1:
        footer.append(_mean_row(summary, "mean_type", "Average over types", origins))
    caption = "Main scores \u00d7 100 with 95 % intervals; difference is candidate minus baseline, paired by sample"
    return Table("comparison", caption, columns, rows, footer, restack=True)


def _comparison_row(summary: Summary, task: TaskRow, origins: Origins) -> list[Value]:
    row = [task_name(task), Value(task.type), Value(task.metric, code=True)]
    row += [_score_cell(task, key, origins) for key in model_keys(summary)]
    return row + _difference_cells(task, origins) if compares(summary) else row


def task_name(task: TaskRow) -> Value:
    """The name of a task, with its category in the custom suite beneath."""
    return Value(task.name, note=task.title if task.title and task.title != task.name else "", sort=task.name)


def _score_cell(task: TaskRow, model: str, origins: Origins) -> Value:
    cell = task.cells.get(model)
    if cell is None or cell.score is None:
        return Value("missing", note=_reason(cell), tone="missing", sort=None)
    return Value(
        score(cell.score),
        note=score_interval(cell.interval) + (f" of BM25's {cell.first_stage.depth}" if cell.first_stage else ""),
        sort=cell.score,
        origin=origins.of_score(task, model),
    )


def _first_stage(cell: Cell | None) -> str:
    if cell is None or (stage := cell.first_stage) is None or stage.score is None:
        return ""
    return f"ranks anew BM25's first {stage.depth}; BM25 alone {score(stage.score)}"


def _reason(cell: Cell | None) -> str:
    return "not run" if cell is None else cell.status


def _difference_cells(task: TaskRow, origins: Origins) -> list[Value]:
    if task.difference is None:
        return [Value(DASH), Value(DASH)]
    return _tested_cells(task.difference, origins.of_difference(task, task.difference))


def _tested_cells(difference: ScoreDifference, origin: str) -> list[Value]:
    tone = OUTCOME_TONES[difference.outcome]
    p = difference.p_adjusted if difference.p_adjusted is not None else difference.p_value
    effect = "" if difference.effect_size is None else f"d = {difference.effect_size:.2f}".replace("-", "\u2212")
    note = ", ".join(filter(None, [probability(p), effect]))
    estimate = Value(
        signed(difference.estimate),
        note=signed_interval(difference.interval),
        sort=difference.estimate,
        tone=tone,
        origin=origin,
    )
    return [estimate, Value(difference.outcome, note=note, tone=tone)]


def _mean_row(summary: Summary, kind: str, title: str, origins: Origins) -> list[Value]:
    row = [Value(title), Value(""), Value("")]
    values = {key: _mean(summary.means.get(key), kind) for key in model_keys(summary)}
    row += [_mean_cell(summary, key, kind, values[key], origins) for key in values]
    if not compares(summary):
        return row
    before, after = values[summary.baseline], values[summary.candidate]
    if before is None or after is None:
        return [*row, Value("not computed", tone="missing"), Value("")]
    return [*row, *_mean_difference_cells(getattr(summary.mean_differences, kind), kind, after - before, origins)]


def _mean_difference_cells(
    tested: ScoreDifference | None, kind: str, difference: float, origins: Origins
) -> list[Value]:
    if tested is None:
        return [Value(signed(difference), sort=difference), Value("not tested", tone="missing")]
    return _tested_cells(tested, origins.of_mean_difference(kind, tested))


def _mean(means: Means | None, kind: str) -> float | None:
    if means is None:
        return None
    return means.mean_task if kind == "mean_task" else means.mean_type


def _mean_cell(summary: Summary, model: str, kind: str, value: float | None, origins: Origins) -> Value:
    if value is None:
        return Value(why_no_mean(summary, model), tone="missing")
    return Value(score(value), sort=value, origin=origins.of_mean(kind, model, value))


def status(summary: Summary) -> Table:
    """Every requested task and what became of it, for every model."""
    columns = [Column("Task"), *[Column(key) for key in model_keys(summary)]]
    columns += [Column("Samples", numeric=True), Column("Splits"), Column("Subsets"), Column("Languages")]
    rows = [_status_row(summary, task) for task in summary.tasks]
    return Table("status", "What became of each requested task", columns, rows, restack=True)


def _status_row(summary: Summary, task: TaskRow) -> list[Value]:
    cells = [task.cells.get(key) for key in model_keys(summary)]
    samples = next((cell.samples for cell in cells if cell and cell.samples is not None), None)
    return [
        task_name(task),
        *[
            Value(_reason(cell), note=_first_stage(cell), tone="good" if cell and cell.score is not None else "missing")
            for cell in cells
        ],
        Value(DASH if samples is None else f"{samples:,}", sort=samples),
        Value(names(task.splits)),
        Value(names(task.subsets)),
        Value(names(task.languages)),
    ]


def types(summary: Summary, origins: Origins) -> Table:
    """Means by task type; null where a task of the type is missing."""
    columns = [
        Column("Task type"),
        Column("Tasks", note="scored of requested", numeric=True),
        *role_columns(summary),
    ]
    if compares(summary):
        columns.append(Column("Difference", note="95 % interval", numeric=True))
        columns.append(Column("Verdict", aside=True))
    found = sorted({task.type for task in summary.tasks})
    rows = [_type_row(summary, name, origins) for name in found]
    return Table("types", "Mean main score \u00d7 100 by task type", columns, rows, restack=True)


def _type_row(summary: Summary, name: str, origins: Origins) -> list[Value]:
    keys = model_keys(summary)
    tasks = {task.name for task in summary.tasks if task.type == name}
    missing = {key: tasks & set(missing_tasks(summary, key)) for key in keys}
    lost = len(set().union(*missing.values()))
    values = {key: means.by_type.get(name) if (means := summary.means.get(key)) else None for key in keys}
    row = [Value(name), Value(f"{len(tasks) - lost} of {len(tasks)}", sort=len(tasks) - lost)]
    for key in keys:
        value = values[key]
        words = f"not computed: {len(missing[key])} of {len(tasks)} tasks missing" if missing[key] else "not computed"
        if value is None:
            row.append(Value(words, tone="missing"))
        else:
            row.append(Value(score(value), sort=value, origin=origins.of_type(name, key, value)))
    if not compares(summary):
        return row
    before, after = values[summary.baseline], values[summary.candidate]
    if before is None or after is None:
        return [*row, Value(DASH), Value(DASH)]
    return [*row, *_mean_difference_cells(summary.mean_differences.by_type.get(name), name, after - before, origins)]


def legacy(summary: Summary, origins: Origins) -> Table:
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
        for line in summary.legacy
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


def differences(summary: Summary, origins: Origins) -> Table:
    """Each difference as a sentence."""
    columns = [
        Column("Task"),
        Column("Difference", note="95 % interval", numeric=True),
        Column("In words", wide=True),
    ]
    rows = []
    for task in summary.tasks:
        if task.difference is not None:
            rows.append([task_name(task), _difference_cells(task, origins)[0], Value(task.difference.sentence)])
    rows.sort(key=lambda row: -float(row[1].sort or 0))
    return Table("differences", "Every difference in words", columns, rows, restack=True, collapsed=True)


def claims(summary: Summary) -> Table:
    """What was claimed, what was measured, what was published, and what follows."""
    columns = [
        Column("Claim", wide=True),
        Column("Claimed"),
        Column("Measured here"),
        Column("Published"),
        Column("Verdict"),
        Column("Explanation", wide=True),
    ]
    rows = [
        [
            Value(claim.says, note=claim.id),
            Value(claim.claimed or DASH),
            Value(claim.measured or DASH),
            Value(claim.published or DASH),
            Value(claim.verdict, tone=VERDICT_TONES.get(claim.verdict, "even")),
            Value(claim.explanation),
        ]
        for claim in summary.claims
    ]
    return Table("claims", "Every claim beside what was measured", columns, rows, restack=True)


def recommendations(summary: Summary) -> Table:
    """The winner for each use case, and why."""
    columns = [Column("Use case"), Column("Winner"), Column("Reason", wide=True), Column("Winner as claimed")]
    tones: dict[str, Tone] = {"tie": "even", "not measured": "missing"}
    rows = [
        [
            Value(line.use_case),
            Value(
                line.winner or line.outcome,
                note=line.outcome if line.winner and line.winner != line.outcome else "",
                tone=tones.get(line.outcome, ""),
            ),
            Value(line.reason),
            Value(line.claimed or DASH),
        ]
        for line in summary.recommendations
    ]
    return Table(
        "recommendations",
        "Winner by use case, decided by rules over measured values",
        columns,
        rows,
        restack=True,
    )


def files(summary: Summary, origins: Origins) -> Table:
    """Every score in full precision, with the command that computes it and the file that holds it."""
    columns = [
        Column("Task"),
        Column("Model"),
        Column("Score", numeric=True),
        Column("Command"),
        Column("File"),
    ]
    rows = []
    for task in summary.tasks:
        for key in model_keys(summary):
            value = cell.score if (cell := task.cells.get(key)) else None
            if value is not None:
                number = Value(repr(value), sort=value, origin=origins.of_score(task, key))
                file = Value(result_file(summary.models[key], task), code=True)
                rows.append([task_name(task), Value(key), number, Value(f"dvc repro evaluate@{key}", code=True), file])
    return Table("files", "Every score, its command and its file", columns, rows, restack=True, collapsed=True)


def data(summary: Summary) -> Table:
    """The data behind each task: enough to fetch and check it."""
    columns = [
        Column("Task"),
        Column("Data"),
        Column("Revision"),
        Column("SHA-256"),
        Column("Served by"),
        Column("Licence"),
    ]
    rows = [
        [
            task_name(task),
            Value(task.repository or DASH, code=bool(task.repository)),
            Value(task.revision or DASH, code=bool(task.revision)),
            Value(task.data_hash or DASH, code=bool(task.data_hash)),
            Value(task.source or DASH),
            Value(task.licence or "not stated"),
        ]
        for task in summary.tasks
    ]
    return Table("data", "Data behind each task", columns, rows, restack=True)
