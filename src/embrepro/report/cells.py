"""Cells that several tables have, and what every table asks of a run."""

from __future__ import annotations

from embrepro.benchmarking.speed import RepeatedMeasure
from embrepro.rendering.formats import probability, quantity, signed, signed_interval
from embrepro.rendering.model import Column, Tone, Value
from embrepro.report.origins import Origins
from embrepro.results.summary import Cell, ScoreDifference, Summary, TaskRow

_OUTCOME_TONES: dict[str, Tone] = {
    "better": "good",
    "worse": "bad",
    "not distinguishable": "even",
    "not tested": "missing",
}


def model_keys(summary: Summary) -> list[str]:
    """Keys of the models in the order of every table: baseline, candidate, the others by name."""
    first = [summary.baseline, summary.candidate]
    others = sorted(key for key in summary.models if key not in first)
    return list(dict.fromkeys(first + others))


def compared_keys(summary: Summary) -> list[str]:
    """Models with a column of their own in a table of differences: all of up to three, else the two that are compared."""
    keys = model_keys(summary)
    return keys if len(keys) <= 3 else list(dict.fromkeys([summary.baseline, summary.candidate]))


def role_of(summary: Summary, model: str) -> str:
    """The part a model plays in the comparison: baseline, candidate or other."""
    if model == summary.candidate:
        return "candidate"
    return "baseline" if model == summary.baseline else "other"


def legend_of_roles(summary: Summary) -> list[tuple[str, str]]:
    """Mark and name of every model."""
    return [(role_of(summary, key), f"{key} ({summary.models[key].role})") for key in model_keys(summary)]


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
