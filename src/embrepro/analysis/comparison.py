"""Two models on the same tasks: a score with its interval for each, their paired difference, means over what is whole."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embrepro.analysis import statistics
from embrepro.analysis.resampling import StatisticsError
from embrepro.analysis.summary import Cell, Difference, Interval, Means
from embrepro.tasks.samples import Samples


@dataclass(frozen=True)
class Scored:
    """One model's main score on one task, with its per-sample scores where the task has any."""

    score: float
    samples: Samples | None


def cell(scored: Scored, seed: int) -> Cell:
    """A score with its 95 % interval; no interval where the main score has no per-sample scores or no spread is defined."""
    frame = scored.samples.frame if scored.samples and scored.samples.statistic else None
    if frame is None or frame.is_empty():
        return Cell(status="scored", score=scored.score)
    count = frame.select("split", "subset", "sample").n_unique()
    try:
        found = statistics.interval(frame, str(scored.samples.statistic), seed=seed)  # type: ignore[union-attr]
    except StatisticsError:
        return Cell(status="scored", score=scored.score, samples=count)
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return Cell(status="scored", score=scored.score, samples=count)
    return Cell(
        status="scored", score=scored.score, samples=count, interval=Interval(low=found.low, high=found.high)
    )


def differences(
    candidate: Mapping[str, Scored], baseline: Mapping[str, Scored], names: tuple[str, str], seed: int
) -> dict[str, Difference]:
    """Candidate minus baseline on every task that both have, p-values corrected for the number of tasks (Holm).

    Args:
        candidate: scores by task.
        baseline: scores by task.
        names: candidate's and baseline's, for the sentences.
        seed: of the resampling.
    """
    tested: dict[str, statistics.Difference] = {}
    shared = [task for task in candidate if task in baseline]
    for task in shared:
        if (found := _paired(candidate[task], baseline[task], seed)) is not None:
            tested[task] = found
    adjusted = dict(zip(tested, statistics.holm([found.p_value for found in tested.values()]), strict=True))
    result = {}
    for task in shared:
        if task in tested:
            result[task] = _tested(task, tested[task], adjusted[task], names)
        else:
            result[task] = _untested(task, candidate[task].score - baseline[task].score, names)
    return result


def means(scores: Mapping[str, float | None], types: Mapping[str, str]) -> Means:
    """Mean over tasks, and mean over types of their tasks' means; null as soon as one task is missing.

    Args:
        scores: main score by requested task, None where there is none.
        types: mteb's task type by requested task.
    """
    by_type: dict[str, list[float | None]] = defaultdict(list)
    for task, score in scores.items():
        by_type[types[task]].append(score)
    type_means = {name: _mean(values) for name, values in sorted(by_type.items())}
    return Means(
        mean_task=_mean(list(scores.values())), mean_type=_mean(list(type_means.values())), by_type=type_means
    )


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return math.fsum(present) / len(present) if present and len(present) == len(values) else None


def _paired(candidate: Scored, baseline: Scored, seed: int) -> statistics.Difference | None:
    ours, theirs = candidate.samples, baseline.samples
    if (
        ours is None
        or theirs is None
        or not ours.statistic
        or ours.statistic != theirs.statistic
        or ours.frame.is_empty()
    ):
        return None
    try:
        found = statistics.paired_difference(ours.frame, theirs.frame, ours.statistic, seed=seed)
    except StatisticsError:
        return None
    return found if math.isfinite(found.p_value) else None


def _tested(task: str, found: statistics.Difference, adjusted: float, names: tuple[str, str]) -> Difference:
    outcome = statistics.verdict(found, adjusted)
    return Difference(
        estimate=found.estimate,
        interval=Interval(low=found.low, high=found.high),
        p_value=found.p_value,
        p_adjusted=adjusted,
        effect_size=found.effect_size,
        outcome=outcome,
        sentence=statistics.sentence(task, *names, found, adjusted, outcome),
    )


def _untested(task: str, estimate: float, names: tuple[str, str]) -> Difference:
    sentence = (
        f"{task}: {names[0]} differs from {names[1]} by {estimate:+.4f}; this main score has no per-sample scores to test "
        "the difference with."
    )
    return Difference(estimate=estimate, outcome="not distinguishable", sentence=sentence)
