"""What changed between two states of a project: every score, how surely, and what else is different."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from embrepro.benchmarking.speed import RepeatedMeasure
from embrepro.regression.revisions import RecordedTask, Side
from embrepro.results.summary import Interval
from embrepro.statistics import estimates
from embrepro.statistics.resampling import StatisticsError
from embrepro.tasks.samples import Samples

NOT_REQUESTED = "not requested"
OTHER_DATA = "other data"
UNKNOWN = ("", "null", "absent", "{}", "no_revision_available")
"""What a change says of a side that does not record a thing, mteb's own word included."""
ComparedMeasure = Literal["size_mb", "peak_memory_mb", "throughput_ratio", "latency_ratio"]
"""Files on disk; memory at its peak; texts in a second, and time of a query, as ratios to the baseline measured in turn."""
LESS_IS_BETTER: frozenset[str] = frozenset({"size_mb", "peak_memory_mb"})
MEASURES = "Size and memory in MB; speed as ratios to the baseline, more is faster"
"""What the measures of a table are."""
NOTED = 0.1
"""The gate notes a measure that is worse by more than this share, and has no tolerance."""
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


class MeanChange(_Document):
    """One model's mean over tasks, before and after; null where a task is missing or does not measure the same."""

    model: str
    old: float | None = None
    new: float | None = None
    difference: float | None = None
    interval: Interval | None = Field(default=None, description="of the difference, paired")
    p_value: float | None = None
    tasks: int
    why: str = Field(default="", description="why there is no mean, or no interval")


class MeasureChange(_Document):
    """One measured quantity of a model that is no score, before and after; intervals at 95 %."""

    model: str
    measure: ComparedMeasure
    old: float
    new: float
    old_interval: Interval | None = None
    new_interval: Interval | None = None
    worse: float = Field(description="share by which it is worse; below 0 where it is better")
    certain: bool = Field(description="whether the two intervals are apart")


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
    means: list[MeanChange]
    measures: list[MeasureChange]
    changes: list[Change]
    notes: list[str]


def compare(old: Side, new: Side, *, alpha: float = 0.05, only: tuple[str, str] | None = None) -> RevisionComparison:
    """Compare two states of a project.

    Models are matched by their key, else by their name, and the candidates with each other where each is known to one
    side only.

    Args:
        old: the state to compare with.
        new: the state to judge.
        alpha: one minus the level of the paired intervals.
        only: the one pair of models to compare; all where left out.
    """
    compared = pairs(old, new) if only is None else [only]
    rows, means = [], []
    for pair in compared:
        found, tested = _rows(old, new, pair, alpha=alpha, seed=new.seed)
        rows += found
        means.append(_mean(label(pair), found, tested, alpha))
    return RevisionComparison(
        old=old.revision.label,
        new=new.revision.label,
        old_commit=old.revision.commit,
        new_commit=new.revision.commit,
        level=1 - alpha,
        rows=rows,
        means=means,
        measures=[each for pair in compared for each in _measures(old, new, pair)],
        changes=[change for change in _changes(old, new, compared) if _is_recorded(change, old, new)],
        notes=[*_notes(old, new, compared, rows)],
    )


def label(pair: tuple[str, str]) -> str:
    """How a pair of models is called."""
    return pair[0] if pair[0] == pair[1] else f"{pair[0]} → {pair[1]}"


def pairs(old: Side, new: Side) -> list[tuple[str, str]]:
    """Keys of the models that are compared, on the old and on the new side."""
    before, after = old.run.models, new.run.models
    alone = {model.name: key for key, model in after.items() if key not in before}
    found = [(key, key) for key in before if key in after]
    found += [(key, alone[model.name]) for key, model in before.items() if key not in after and model.name in alone]
    candidates = old.run.candidate, new.run.candidate
    if candidates[0] not in after and candidates[1] not in before and candidates not in found:
        found.append(candidates)
    return found


def _mean(
    model: str, rows: list[ScoreChange], tested: Mapping[str, estimates.PairedDifference], alpha: float
) -> MeanChange:
    """The change of the mean over all tasks; there is none over an incomplete set."""
    differences = [row.difference for row in rows if row.difference is not None and not row.incomparable]
    if not rows or len(differences) < len(rows):
        why = f"{len(rows) - len(differences)} of {len(rows)} tasks have no two scores that measure the same"
        return MeanChange(model=model, tasks=len(rows), why=why)
    old, new = (math.fsum(getattr(row, side) for row in rows) / len(rows) for side in ("old", "new"))
    without = len(rows) - len(tested)
    if without:
        why = f"no interval: {without} of {len(rows)} tasks have no paired test"
        return MeanChange(model=model, old=old, new=new, difference=new - old, tasks=len(rows), why=why)
    found = estimates.mean_difference([tested[row.task] for row in rows], level=1 - alpha)
    return MeanChange(
        model=model,
        old=old,
        new=new,
        difference=new - old,
        interval=Interval(low=found.low, high=found.high),
        p_value=found.p_value,
        tasks=len(rows),
    )


def _measures(old: Side, new: Side, pair: tuple[str, str]) -> Iterator[MeasureChange]:
    before, after = old.measures(pair[0]), new.measures(pair[1])
    baselines = {side.run.models[side.run.baseline].content_hash for side in (old, new)}
    for measure in get_args(ComparedMeasure):
        if measure not in before or measure not in after:
            continue
        # A ratio says something beside another one of the same baseline alone.
        if measure not in LESS_IS_BETTER and len(baselines) > 1:
            continue
        was, now = before[measure], after[measure]
        if not was.median or not now.median:
            continue
        less = measure in LESS_IS_BETTER
        yield MeasureChange(
            model=label(pair),
            measure=measure,
            old=was.median,
            new=now.median,
            old_interval=_spread(was),
            new_interval=_spread(now),
            worse=now.median / was.median - 1 if less else 1 - now.median / was.median,
            certain=now.low > was.high or now.high < was.low,
        )


def _spread(measure: RepeatedMeasure) -> Interval | None:
    return Interval(low=measure.low, high=measure.high) if measure.repeats > 1 else None


def _rows(
    old: Side, new: Side, pair: tuple[str, str], *, alpha: float, seed: int
) -> tuple[list[ScoreChange], dict[str, estimates.PairedDifference]]:
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
    changes = [_with_test(row, tested[task], adjusted[task]) if task in tested else row for task, row in rows.items()]
    return changes, tested


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
        # Its change stands among the measures.
        left = {"size_mb"}
        before, after = (
            side.run.models[key].model_dump(exclude=left) for side, key in zip((old, new), pair, strict=True)
        )
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


def _is_recorded(change: Change, old: Side, new: Side) -> bool:
    """Whether a change is one: what result files of mteb do not say is none, nor a package that they alone name.

    Nor is a setting of a configuration beside a side that has none, such as a lone summary.
    """
    if change.kind == "configuration":
        return bool(old.params and new.params)
    if change.kind == "package" and (old.files or new.files):
        return change.old not in UNKNOWN and change.new not in UNKNOWN
    return not any(side.files and value in UNKNOWN for side, value in ((old, change.old), (new, change.new)))


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
