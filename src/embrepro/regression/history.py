"""Every metric over the commits that changed `reports/metrics.json`, with size, memory and speed as far as they are here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from embrepro.regression import revisions
from embrepro.regression.revisions import WORKSPACE, Revision, RevisionError

METRICS = "reports/metrics.json"
MEANS = ("mean_task", "mean_type")


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
