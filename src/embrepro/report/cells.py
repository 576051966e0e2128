"""Cells that several tables have, and what every table asks of a run."""

from __future__ import annotations

from embrepro.benchmarking.speed import RepeatedMeasure
from embrepro.rendering.formats import probability, quantity, signed, signed_interval
from embrepro.rendering.model import Column, Table, Tone, Value
from embrepro.report.origins import Origins
from embrepro.results.summary import Cell, ScoreDifference, Summary, TaskRow

_OUTCOME_TONES: dict[str, Tone] = {
    "better": "good",
    "worse": "bad",
    "not distinguishable": "even",
    "not tested": "missing",
}


SIDE_BY_SIDE = 3
"""Models that have a column, a chart or a name in a chart each; of more, tables have a row each."""


def model_keys(summary: Summary) -> list[str]:
    """Keys of the models in the order of every table: baseline, candidate, the others by rank and then by name."""
    ranked = [model.key for model in summary.ranking.models] if summary.ranking else []
    first = [summary.baseline, summary.candidate]
    return list(dict.fromkeys(first + [key for key in ranked if key in summary.models] + sorted(summary.models)))


def are_many(summary: Summary) -> bool:
    """Whether there are more models than fit side by side."""
    return len(summary.models) > SIDE_BY_SIDE


def drawing_order(summary: Summary) -> list[str]:
    """Keys of the models as a chart draws them: what is drawn last is on top, and that is the pair that is compared."""
    return model_keys(summary)[::-1]


def role_note(summary: Summary, model: str) -> str:
    """What stands below a model's name in a table with a row for each."""
    role = summary.models[model].role
    return "" if role == "other" and are_many(summary) else role


def turned(table: Table, corner: str) -> Table:
    """A table with a row for each model instead of a column; `corner` is the title of the column with their names."""
    columns = [
        Column(corner),
        *[Column(row[0].text, note=row[0].note, numeric=table.columns[1].numeric) for row in table.rows],
    ]
    rows = [
        [Value(column.title, note="" if column.note == "other" else column.note), *[row[place] for row in table.rows]]
        for place, column in enumerate(table.columns)
        if place
    ]
    return Table(table.id, table.caption, columns, rows, restack=True, folded=table.folded)


def compared_keys(summary: Summary) -> list[str]:
    """Models with a column of their own in a table of differences: all of up to three, else the two that are compared."""
    keys = model_keys(summary)
    return keys if not are_many(summary) else list(dict.fromkeys([summary.baseline, summary.candidate]))


def role_of(summary: Summary, model: str) -> str:
    """The part a model plays in the comparison: baseline, candidate or other."""
    if model == summary.candidate:
        return "candidate"
    return "baseline" if model == summary.baseline else "other"


def legend_of_roles(summary: Summary) -> list[tuple[str, str]]:
    """Mark and name of every model; of many, those that are not compared have one line together."""
    named = compared_keys(summary)
    found = [(role_of(summary, key), f"{key} ({summary.models[key].role})") for key in named]
    others = len(summary.models) - len(named)
    return [*found, ("other", f"{others} others")] if others else found


def missing_tasks(summary: Summary, model: str) -> list[str]:
    """Names of the requested tasks on which `model` has no score."""
    return [task.name for task in summary.tasks if (cell := task.cells.get(model)) is None or cell.score is None]


def why_no_mean(summary: Summary, model: str) -> str:
    """The words in place of a mean that is not computed."""
    missing, asked = len(missing_tasks(summary, model)), len(summary.tasks)
    return f"not computed: {missing} of {asked} tasks missing" if missing else "not computed"


def why_no_score(cell: Cell | None) -> str:
    """The status of a task as a cell says it."""
    return "not run" if cell is None else cell.status


def compares(summary: Summary) -> bool:
    """Whether there are two models to set against each other."""
    return summary.baseline != summary.candidate


def role_columns(summary: Summary) -> list[Column]:
    """One numeric column per compared model, its role beneath its name."""
    return [Column(key, note=summary.models[key].role, numeric=True) for key in compared_keys(summary)]


def task_name(task: TaskRow) -> Value:
    """The name of a task, with its category in the custom suite beneath."""
    return Value(task.name, note=task.title if task.title and task.title != task.name else "", sort=task.name)


def measure(value: RepeatedMeasure, unit: str = "") -> Value:
    """A median with the interval of the median."""
    return Value(
        f"{quantity(value.median)}{unit}",
        note=f"[{quantity(value.low)}, {quantity(value.high)}]",
        sort=value.median,
    )


def difference_cells(difference: ScoreDifference, origin: str) -> list[Value]:
    """Difference with its interval, and verdict with p-value and effect size."""
    tone = _OUTCOME_TONES[difference.outcome]
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


def mean_difference_cells(
    tested: ScoreDifference | None, kind: str, difference: float, origins: Origins
) -> list[Value]:
    """Difference and verdict of a mean, which may not have been tested."""
    if tested is None:
        return [Value(signed(difference), sort=difference), Value("not tested", tone="missing")]
    return difference_cells(tested, origins.of_mean_difference(kind, tested))
