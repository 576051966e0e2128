"""What changed between two states of a project: every score, how surely, and what else is different."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from embrepro.regression.revisions import RecordedTask, Side
from embrepro.results.summary import Interval
from embrepro.statistics import estimates
from embrepro.statistics.resampling import StatisticsError
from embrepro.tasks.samples import Samples

NOT_REQUESTED = "not requested"
OTHER_DATA = "other data"
ChangeKind = Literal["model", "data", "suite", "package", "recipe", "configuration", "input"]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ScoreChange(_Document):
    """One model on one task, before and after."""

    model: str = Field(description="key of the model; 'a → b' where the candidate was replaced")
    task: str
    type: str
    metric: str
    old: float | None
    new: float | None
    old_status: str
    new_status: str
    difference: float | None = Field(default=None, description="new minus old")
    interval: Interval | None = Field(default=None, description="paired interval of the difference")
    p_value: float | None = None
    p_adjusted: float | None = Field(default=None, description="corrected for the number of the model's tasks")
    samples: int | None = None
    why_no_interval: str = ""
    incomparable: str = Field(default="", description="why the two scores do not measure the same thing, if so")

    @property
    def is_changed(self) -> bool:
        """Whether the score or its status is another, or the two cannot be compared."""
        return self.old != self.new or self.old_status != self.new_status or bool(self.incomparable)


class Change(_Document):
    """Something other than a score that is different."""

    kind: ChangeKind
    name: str
    old: str
    new: str


class RevisionComparison(_Document):
    """Two states of a project side by side."""

    old: str
    new: str
    old_commit: str | None
    new_commit: str | None
    level: float = Field(description="of the intervals")
    rows: list[ScoreChange]
    changes: list[Change]
    notes: list[str]


def compare(old: Side, new: Side, *, alpha: float = 0.05) -> RevisionComparison:
    """Compare two states of a project.

    Models are matched by their key, else by their name, and the candidates with each other where each is known to one
    side only.

    Args:
        old: the state to compare with.
        new: the state to judge.
        alpha: one minus the level of the paired intervals.
    """
    pairs = list(_pairs(old, new))
    seed = new.params.get("seed")
    rows = [
        row for pair in pairs for row in _rows(old, new, pair, alpha=alpha, seed=seed if isinstance(seed, int) else 0)
    ]
    return RevisionComparison(
        old=old.revision.label,
        new=new.revision.label,
        old_commit=old.revision.commit,
        new_commit=new.revision.commit,
        level=1 - alpha,
        rows=rows,
        changes=[*_changes(old, new, pairs)],
        notes=[*_notes(old, new, pairs, rows)],
    )


def label(pair: tuple[str, str]) -> str:
    """How a pair of models is called."""
    return pair[0] if pair[0] == pair[1] else f"{pair[0]} → {pair[1]}"


def _pairs(old: Side, new: Side) -> Iterator[tuple[str, str]]:
    before, after = old.run.models, new.run.models
    for key in before:
        if key in after:
            yield key, key
    alone = {model.name: key for key, model in after.items() if key not in before}
    named = [(key, alone[model.name]) for key, model in before.items() if key not in after and model.name in alone]
    yield from named
    candidates = old.run.candidate, new.run.candidate
    if candidates in named:
        return
    if candidates[0] not in after and candidates[1] not in before:
        yield candidates


def _rows(old: Side, new: Side, pair: tuple[str, str], *, alpha: float, seed: int) -> list[ScoreChange]:
    tested: dict[str, estimates.PairedDifference] = {}
    rows = {}
    for task in dict.fromkeys([*old.tasks, *new.tasks]):
        row = _row(old.tasks.get(task), new.tasks.get(task), task, pair)
        # Read even where there is nothing to pair: a score that is not what its samples give is refused.
        before = old.samples(pair[0], task) if row.old is not None else ""
        after = new.samples(pair[1], task) if row.new is not None else ""
        if row.difference is not None and not row.incomparable:
            found = _paired(before, after, alpha, seed)
            if isinstance(found, str):
                row = row.model_copy(update={"why_no_interval": found})
            else:
                tested[task] = found
        rows[task] = row
    adjusted = dict(zip(tested, estimates.holm([found.p_value for found in tested.values()]), strict=True))
    return [_with_test(row, tested[task], adjusted[task]) if task in tested else row for task, row in rows.items()]


def _row(old: RecordedTask | None, new: RecordedTask | None, name: str, pair: tuple[str, str]) -> ScoreChange:
    before = old.cells.get(pair[0]) if old else None
    after = new.cells.get(pair[1]) if new else None
    known = new or old
    assert known is not None
    scores = before.score if before else None, after.score if after else None
    return ScoreChange(
        model=label(pair),
        task=name,
        type=known.type,
        metric=known.metric,
        old=scores[0],
        new=scores[1],
        old_status=before.status if before else NOT_REQUESTED,
        new_status=after.status if after else NOT_REQUESTED,
        difference=None if scores[0] is None or scores[1] is None else scores[1] - scores[0],
        incomparable=incomparable(old, new) if old and new else "",
    )


def incomparable(old: RecordedTask, new: RecordedTask) -> str:
    """Why two scores of a task do not measure the same thing; empty where they do, as far as is known of both."""
    differs = []
    for what in ("metric", "splits", "subsets"):
        before, after = (getattr(task, what) for task in (old, new))
        if before and after and sorted(before) != sorted(after):
            differs.append(f"{what} {_text(before)} before, {_text(after)} now")
    pins = [(old.data_hash, new.data_hash), (old.revision, new.revision)]
    known = [(before, after) for before, after in pins if before is not None and after is not None]
    if known and known[0][0] != known[0][1]:
        differs.append(OTHER_DATA)
    return "; ".join(differs)


def _paired(before: Samples | str, after: Samples | str, alpha: float, seed: int) -> estimates.PairedDifference | str:
    if isinstance(before, str) or isinstance(after, str):
        return before if isinstance(before, str) else str(after)
    statistic = after.statistic
    if not statistic or statistic != before.statistic or after.frame.is_empty():
        return "this main score has no per-sample scores"
    if _same(before, after):
        units = after.frame.select("split", "subset", "sample").n_unique()
        return estimates.PairedDifference(0.0, 0.0, 0.0, 1.0, 0.0, None, 0.0, units, "sign flips")
    try:
        found = estimates.paired_difference(after.frame, before.frame, statistic, seed=seed, level=1 - alpha)
    except StatisticsError as error:
        return f"no paired test: {error}"
    return found if math.isfinite(found.p_value) else "no paired test: the samples define no p-value"


def _same(before: Samples, after: Samples) -> bool:
    # Equal samples need no resampling, and most of a harmless change is equal samples.
    return before.frame.equals(after.frame)


def _with_test(row: ScoreChange, found: estimates.PairedDifference, adjusted: float) -> ScoreChange:
    interval = Interval(low=found.low, high=found.high)
    tested = {
        "interval": interval,
        "p_value": found.p_value,
        "p_adjusted": adjusted,
        "samples": found.samples,
    }
    return row.model_copy(update=tested)


def _changes(old: Side, new: Side, pairs: list[tuple[str, str]]) -> Iterator[Change]:
    for pair in pairs:
        before, after = old.run.models[pair[0]].model_dump(), new.run.models[pair[1]].model_dump()
        yield from _differing("model", before, after, f"{label(pair)}, ")
    for name in [name for name in old.tasks if name in new.tasks]:
        keys = ("revision", "data_hash", "metric", "splits", "subsets")
        before, after = (side.tasks[name].model_dump(include=set(keys)) for side in (old, new))
        yield from _differing("data", before, after, f"{name}, ")
    yield from _differing("suite", old.run.suite or {}, new.run.suite or {})
    yield from _differing("package", old.run.packages, new.run.packages)
    yield from _differing("recipe", old.run.recipe, new.run.recipe)
    yield from _differing("configuration", old.params, new.params)
    if old.inputs and new.inputs:
        yield from _differing("input", old.inputs, new.inputs)


def _differing(kind: ChangeKind, old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[Change]:
    before, after = dict(_leaves(old)), dict(_leaves(new))
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield Change(kind=kind, name=f"{prefix}{name}", old=_shown(before, name), new=_shown(after, name))


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(values: Mapping[str, Any], name: str) -> str:
    return _text(values[name]) if name in values else "absent"


def _text(value: Any) -> str:  # noqa: ANN401 - any plain value
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "null" if value is None else str(value)


def _notes(old: Side, new: Side, pairs: list[tuple[str, str]], rows: list[ScoreChange]) -> Iterator[str]:
    for index, side in enumerate((old, new)):
        alone = sorted(set(side.run.models) - {pair[index] for pair in pairs})
        if alone:
            yield f"Only in {side.revision.label}, so compared with nothing: {', '.join(alone)}."
        if not side.inputs:
            yield f"{side.revision.label} holds no dvc.lock, so code and other inputs are not compared."
    why = dict.fromkeys(row.why_no_interval for row in rows if row.why_no_interval)
    for reason in why:
        without = [f"{row.task} ({row.model})" for row in rows if row.why_no_interval == reason]
        named = ", ".join(without if len(without) <= 3 else [*without[:3], "…"])
        yield f"No interval for {len(without)} of {len(rows)} scores ({named}): {reason.rstrip('.')}."
