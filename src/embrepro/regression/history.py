"""Every metric over the commits that changed `reports/metrics.json`, with size, memory and speed where they are here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import altair as alt
from pydantic import BaseModel, ConfigDict, Field

from embrepro.regression import revisions
from embrepro.regression.diff import MEASURES
from embrepro.regression.revisions import WORKSPACE, Revision, RevisionError
from embrepro.rendering.drawing import THIRD, svg_of
from embrepro.rendering.formats import DASH, fraction, fraction_interval, short_interval, signed_fraction
from embrepro.rendering.model import Column, Document, Figure, Section, Table, Value, columns_of, filled
from embrepro.rendering.palette import LIGHT
from embrepro.results.summary import Interval

METRICS = "reports/metrics.json"
MEANS = ("mean_task", "mean_type")
_LINE_COLOURS = ("candidate", "baseline", "other", "good", "bad", "even")


class Mark(BaseModel):
    """One value with its 95 % interval, if it has any."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float | None = None
    high: float | None = None


Series = dict[tuple[str, str], list[Mark | None]]
"""Values over the commits by model and task or measure; None where there is none."""


class Point(BaseModel):
    """The metrics at one commit, or in the working tree."""

    model_config = ConfigDict(frozen=True)

    commit: str = Field(description='forty hexadecimal digits, or "workspace"')
    date: str = Field(description="of the commit, ISO 8601; empty for the working tree")
    subject: str
    scores: dict[str, dict[str, float | None]] = Field(
        description="score by model and task; means under mean_task and mean_type"
    )
    intervals: dict[str, dict[str, tuple[float, float]]] = Field(
        default_factory=dict, description="of scores by model and task, where the summary has them"
    )
    measures: dict[str, dict[str, Mark]] = Field(
        default_factory=dict, description="size, memory and speed by model, where summary and DVC's cache have them"
    )
    problem: str = Field(default="", description="why the metrics could not be read, if so")

    @property
    def label(self) -> str:
        """Short name of the commit."""
        return self.commit[:8] if self.commit != WORKSPACE else self.commit


def read(root: Path, until: str = "HEAD") -> list[Point]:
    """The metrics at every commit that changed them, oldest first; the working tree last where it differs.

    Args:
        root: the project's folder.
        until: the newest revision to look at; the working tree is left out where it is not HEAD.

    Raises:
        RevisionError: no such revision, or none whose metrics were committed and none in the working tree.
    """
    points = [_point(root, line) for line in _commits(root, until)]
    points = [point.model_copy(update=_beside(root, Revision(point.commit, point.commit))) for point in points]
    now = revisions.read_text(root, Revision(WORKSPACE, None), METRICS) if until == "HEAD" else None
    if now is not None:
        scores, problem = _scores(now)
        if not points or points[-1].scores != scores:
            point = Point(commit=WORKSPACE, date="", subject="not committed", scores=scores, problem=problem)
            points.append(point.model_copy(update=_beside(root, Revision(WORKSPACE, None))))
    if not points:
        raise RevisionError(
            f"No commit up to {until} holds {METRICS}. After a run, commit reports/ together with dvc.lock."
        )
    return points


def series(points: list[Point]) -> Series:
    """Scores over the points by (model, task), tasks in the order of their names and means last."""
    names = {(model, task) for point in points for model, scores in point.scores.items() for task in scores}
    ordered = sorted(names, key=lambda name: (name[0], name[1] in MEANS, name[1]))
    return {(model, task): [_mark(point, model, task) for point in points] for model, task in ordered}


def measures(points: list[Point]) -> Series:
    """Size, memory and speed over the points by (model, measure)."""
    found = {(model, name): None for point in points for model, known in point.measures.items() for name in known}
    return {(model, name): [point.measures.get(model, {}).get(name) for point in points] for model, name in found}


def _mark(point: Point, model: str, task: str) -> Mark | None:
    value = point.scores.get(model, {}).get(task)
    low, high = point.intervals.get(model, {}).get(task, (None, None))
    return None if value is None else Mark(value=value, low=low, high=high)


def _commits(root: Path, until: str) -> list[str]:
    if until == "HEAD" and revisions.git(root, "rev-parse", "--verify", "--quiet", "HEAD") is None:
        return []
    commit = revisions.resolve(root, until).commit
    # Without --full-history git would leave out a side branch whose change a merge took back.
    log = revisions.git(
        root,
        "log",
        "--reverse",
        "--topo-order",
        "--full-history",
        "--format=%H%x1f%cI%x1f%s",
        str(commit),
        "--",
        METRICS,
    )
    return (log or "").splitlines()


def _point(root: Path, line: str) -> Point:
    commit, date, subject = line.split("\x1f")
    scores, problem = _scores(revisions.read_text(root, Revision(commit, commit), METRICS))
    return Point(commit=commit, date=date, subject=subject, scores=scores, problem=problem)


def _beside(root: Path, revision: Revision) -> dict[str, Any]:
    """Intervals and measures of a state; nothing where its summary cannot be read."""
    try:
        side = revisions.load(root, revision.commit or WORKSPACE)
    except RevisionError:
        return {}
    intervals: dict[str, dict[str, tuple[float, float]]] = {}
    for task in side.run.tasks:
        for key, cell in task.cells.items():
            if cell.interval:
                intervals.setdefault(key, {})[task.name] = (cell.interval.low, cell.interval.high)
    measured = {
        key: {
            name: Mark(value=each.median, low=each.low, high=each.high) if each.repeats > 1 else Mark(value=each.median)
            for name, each in side.measures(key).items()
        }
        for key in side.run.models
    }
    return {"intervals": intervals, "measures": measured}


def _scores(text: str | None) -> tuple[dict[str, dict[str, float | None]], str]:
    if text is None:
        return {}, "removed in this commit"
    try:
        models = json.loads(text)["models"]
        return {
            key: {**found["scores"], **{mean: found.get(mean) for mean in MEANS}} for key, found in models.items()
        }, ""
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return {}, f"unreadable: {type(error).__name__}: {error}"


def history_page(points: Sequence[Point], last: int) -> Document:
    """Every metric over the commits: a chart for every task and measure, and tables of the newest commits."""
    shown = points[-last:]
    found = series(list(points))
    measured = measures(list(points))
    models = list(dict.fromkeys(model for model, _ in (*found, *measured)))
    labels = [Column(point.label, numeric=True) for point in shown]
    rows = [
        [
            Value(model),
            Value(task),
            *(
                Value(fraction(mark.value if mark else None), note=fraction_interval(_reach(mark)))
                for mark in marks[-last:]
            ),
            Value(_since_first([mark.value if mark else None for mark in marks])),
        ]
        for (model, task), marks in found.items()
    ]
    columns = [Column("model"), Column("task"), *labels, Column("since the first", numeric=True)]
    of_measures = [
        [
            Value(model),
            Value(measure, code=True),
            *(
                Value(DASH if mark is None else f"{mark.value:.4g}", note=short_interval(_reach(mark)))
                for mark in marks[-last:]
            ),
        ]
        for (model, measure), marks in measured.items()
    ]
    commits = [[Value(point.label), Value(point.date[:10]), Value(point.subject)] for point in shown]
    return Document(
        title="Scores, size and speed over the commits" if measured else "Scores over the commits",
        verdict=f"{len(points)} states of reports/metrics.json, the last {len(shown)} in the table.",
        sections=[
            Section(
                "history",
                tables=filled(
                    [
                        Table("scores", "Main scores by commit, with 95 % intervals", columns, rows),
                        Table("measures", MEASURES, [Column("model"), Column("measure"), *labels], of_measures),
                        Table("commits", "Commits", columns_of(("commit", "date", "subject")), commits),
                    ]
                ),
                figures=[_charts(points, found, models), _charts(points, measured, models)],
                notes=[f"{point.label}: {point.problem}." for point in points if point.problem],
            )
        ],
    )


def _reach(mark: Mark | None) -> Interval | None:
    return None if mark is None or mark.low is None or mark.high is None else Interval(low=mark.low, high=mark.high)


def _since_first(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return signed_fraction(known[-1] - known[0]) if len(known) > 1 else DASH


def _charts(points: Sequence[Point], found: Series, models: Sequence[str]) -> list[Figure]:
    """A chart for each task or measure, a line for each model that has a value."""
    # Two commits may share a short name only if they are one commit; the number keeps their order.
    order = [f"{index:04d} {point.label}" for index, point in enumerate(points)]
    drawn = []
    for name in dict.fromkeys(name for _, name in found):
        lines = {model: found[model, name] for model in models if (model, name) in found}
        rows: list[dict[str, Any]] = [
            {"at": at, "model": model, "value": mark.value, "low": mark.low, "high": mark.high}
            for model, marks in lines.items()
            for at, mark in zip(order, marks, strict=True)
            if mark is not None
        ]
        if rows:
            told = {
                model: ", ".join(DASH if mark is None else f"{mark.value:.4g}" for mark in marks)
                for model, marks in lines.items()
            }
            words = "; ".join(f"{model}: {values}" for model, values in told.items())
            caption, title = _DRAWN.get(name, (name, "main score"))
            legend = [(_colour(models, model), model) for model in lines]
            draw = partial(_draw, rows, order, models, title, f"history-{name}")
            drawn.append(
                Figure(f"history-{name}", caption, f"{caption}, over the commits. {words}.", draw, legend=legend)
            )
    return drawn


_DRAWN = {
    "size_mb": ("Size on disk", "MB"),
    "peak_memory_mb": ("Memory at its peak", "MB"),
    "throughput_ratio": ("Throughput, as a multiple of the baseline's", "times"),
    "latency_ratio": ("Speed of a single query, as a multiple of the baseline's", "times"),
}
"""Caption and axis of a measure's chart."""


def _colour(models: Sequence[str], model: str) -> str:
    return _LINE_COLOURS[models.index(model) % len(_LINE_COLOURS)]


def _draw(rows: list[dict[str, Any]], order: list[str], models: Sequence[str], title: str, name: str) -> str:
    axis = alt.Axis(labelExpr="slice(datum.label, 5)", labelAngle=-45, grid=False)
    colours = [LIGHT[_colour(models, model)] for model in models]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("at:O", title=None, scale=alt.Scale(domain=order), axis=axis),
        color=alt.Color("model:N", scale=alt.Scale(domain=list(models), range=colours), legend=None),
    )
    values = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(tickCount=4))
    points = base.mark_point(filled=True, size=45, opacity=1).encode(y=values)
    lines = base.mark_line(strokeWidth=2).encode(y=values)
    spans = (
        base.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=2.5, opacity=0.4)
        .encode(y=alt.Y("low:Q", title=title, scale=alt.Scale(zero=False, nice=True)), y2="high:Q")
    )
    return svg_of(alt.layer(spans, lines, points).properties(width=THIRD, height=130), name)
