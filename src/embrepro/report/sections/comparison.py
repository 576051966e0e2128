"""Every requested task, both models, the difference with its interval and test, and the means."""

from __future__ import annotations

from embrepro.rendering.drawing import forest_figure, forest_row
from embrepro.rendering.formats import DASH, score, score_interval, signed
from embrepro.rendering.model import Column, Figure, Section, Table, Value
from embrepro.report.cells import (
    compared_keys,
    compares,
    difference_cells,
    mean_difference_cells,
    role_columns,
    task_name,
    why_no_mean,
    why_no_score,
)
from embrepro.report.origins import Origins
from embrepro.results.summary import Means, Summary, TaskRow


def section(summary: Summary, origins: Origins) -> Section:
    """The comparison table, every difference in words, and their chart."""
    compared = any(task.difference for task in summary.tasks)
    chart = differences_figure(summary)
    words = [differences_table(summary, origins)] if compared else []
    return Section(
        "comparison",
        "Comparison",
        tables=[comparison_table(summary, origins), *words],
        figures=[[chart]] if chart else [],
    )


def comparison_table(summary: Summary, origins: Origins) -> Table:
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
    row += [_score_cell(task, key, origins) for key in compared_keys(summary)]
    return row + _difference_cells(task, origins) if compares(summary) else row


def _score_cell(task: TaskRow, model: str, origins: Origins) -> Value:
    cell = task.cells.get(model)
    if cell is None or cell.score is None:
        return Value("missing", note=why_no_score(cell), tone="missing", sort=None)
    return Value(
        score(cell.score),
        note=score_interval(cell.interval) + (f" of BM25's {cell.first_stage.depth}" if cell.first_stage else ""),
        sort=cell.score,
        origin=origins.of_score(task, model),
    )


def _difference_cells(task: TaskRow, origins: Origins) -> list[Value]:
    if task.difference is None:
        return [Value(DASH), Value(DASH)]
    return difference_cells(task.difference, origins.of_difference(task, task.difference))


def _mean_row(summary: Summary, kind: str, title: str, origins: Origins) -> list[Value]:
    row = [Value(title), Value(""), Value("")]
    values = {key: _mean(summary.means.get(key), kind) for key in compared_keys(summary)}
    row += [_mean_cell(summary, key, kind, values[key], origins) for key in values]
    if not compares(summary):
        return row
    before, after = values[summary.baseline], values[summary.candidate]
    if before is None or after is None:
        return [*row, Value("not computed", tone="missing"), Value("")]
    return [*row, *mean_difference_cells(getattr(summary.mean_differences, kind), kind, after - before, origins)]


def _mean(means: Means | None, kind: str) -> float | None:
    if means is None:
        return None
    return means.mean_task if kind == "mean_task" else means.mean_type


def _mean_cell(summary: Summary, model: str, kind: str, value: float | None, origins: Origins) -> Value:
    if value is None:
        return Value(why_no_mean(summary, model), tone="missing")
    return Value(score(value), sort=value, origin=origins.of_mean(kind, model, value))


def differences_table(summary: Summary, origins: Origins) -> Table:
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
    return Table("differences", "Every difference in words", columns, rows, restack=True, folded=True)


def differences_figure(summary: Summary) -> Figure | None:
    """Difference by task with its interval, from the greatest gain to the greatest loss."""
    tones = {"better": "good", "worse": "bad", "not tested": "untested"}
    rows = [
        forest_row(
            task.name,
            found.estimate,
            found.interval,
            signed(found.estimate),
            tones.get(found.outcome, "even"),
            scale=100,
        )
        for task in summary.tasks
        if (found := task.difference) is not None
    ]
    if not rows:
        return None
    caption = (
        f"Score differences by task: {summary.candidate} minus {summary.baseline}, points of 100, with 95 % intervals"
    )
    return forest_figure("differences", caption, "difference, points", rows)
