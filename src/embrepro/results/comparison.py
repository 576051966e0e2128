"""Two models on the same tasks: a score with its interval for each, their paired difference, means over what is whole."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embrepro.results.summary import Cell, Interval, MeanDifferences, Means, ScoreDifference
from embrepro.statistics import estimates
from embrepro.statistics.resampling import StatisticsError
from embrepro.tasks.samples import Samples

Names = tuple[str, str]
"""Candidate's and baseline's, for the sentences."""


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
        found = estimates.interval(frame, str(scored.samples.statistic), seed=seed)  # type: ignore[union-attr]
    except StatisticsError:
        return Cell(status="scored", score=scored.score, samples=count)
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return Cell(status="scored", score=scored.score, samples=count)
    return Cell(status="scored", score=scored.score, samples=count, interval=Interval(low=found.low, high=found.high))


def differences(
    candidate: Mapping[str, Scored],
    baseline: Mapping[str, Scored],
    types: Mapping[str, str],
    names: Names,
    seed: int,
) -> tuple[dict[str, ScoreDifference], MeanDifferences]:
    """Candidate minus baseline on every task that both have, and of their means.

    The p-values of tasks are corrected for the number of tasks (Holm); those of means are not.

    Args:
        candidate: scores by task.
        baseline: scores by task.
        types: mteb's task type by requested task.
        names: candidate's and baseline's.
        seed: of the resampling.
    """
    shared = [task for task in candidate if task in baseline]
    paired = {task: _paired(candidate[task], baseline[task], seed) for task in shared}
    tested = {task: found for task, found in paired.items() if not isinstance(found, str)}
    reasons = {task: found for task, found in paired.items() if isinstance(found, str)}
    return _by_task(candidate, baseline, tested, reasons, names), _of_means(tested, types, names)


def _by_task(
    candidate: Mapping[str, Scored],
    baseline: Mapping[str, Scored],
    tested: Mapping[str, estimates.PairedDifference],
    reasons: Mapping[str, str],
    names: Names,
) -> dict[str, ScoreDifference]:
    adjusted = dict(zip(tested, estimates.holm([found.p_value for found in tested.values()]), strict=True))
    result = {}
    for task in (task for task in candidate if task in baseline):
        if task in tested:
            result[task] = _tested(task, tested[task], adjusted[task], names)
        else:
            result[task] = _untested(task, candidate[task].score - baseline[task].score, reasons[task], names)
    return result


def _of_means(
    tested: Mapping[str, estimates.PairedDifference], types: Mapping[str, str], names: Names
) -> MeanDifferences:
    of_type = {kind: [task for task in types if types[task] == kind] for kind in sorted(set(types.values()))}
    share = {task: 1 / (len(of_type) * len(of_type[kind])) for task, kind in types.items()}

    def mean(title: str, tasks: Sequence[str], weights: Sequence[float] | None = None) -> ScoreDifference | None:
        if not tasks or not set(tasks) <= tested.keys():
            return None
        found = estimates.mean_difference([tested[task] for task in tasks], weights)
        return _tested(title, found, None, names)

    by_type = {kind: mean(f"Mean over {kind}", tasks) for kind, tasks in of_type.items()}
    return MeanDifferences(
        mean_task=mean("Mean over tasks", list(types)),
        mean_type=mean("Mean over task types", list(types), list(share.values())),
        by_type={kind: found for kind, found in by_type.items() if found is not None},
    )


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
    return Means(mean_task=_mean(list(scores.values())), mean_type=_mean(list(type_means.values())), by_type=type_means)


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return math.fsum(present) / len(present) if present and len(present) == len(values) else None


def _paired(candidate: Scored, baseline: Scored, seed: int) -> estimates.PairedDifference | str:
    """The paired test of one task, or the reason in words why there is none."""
    ours, theirs = candidate.samples, baseline.samples
    if ours is None or theirs is None or not ours.statistic or not theirs.statistic or ours.frame.is_empty():
        return "this main score has no per-sample scores to test the difference with"
    if ours.statistic != theirs.statistic:
        return f"the per-sample scores are of two kinds, {ours.statistic} and {theirs.statistic}"
    try:
        found = estimates.paired_difference(ours.frame, theirs.frame, ours.statistic, seed=seed)
    except StatisticsError as error:
        return str(error).rstrip(".")
    return found if math.isfinite(found.p_value) else "the test gives no p-value on these samples"


def _tested(title: str, found: estimates.PairedDifference, adjusted: float | None, names: Names) -> ScoreDifference:
    p, p_is = (found.p_value, "p") if adjusted is None else (adjusted, "adjusted p")
    outcome = estimates.verdict(found, p)
    return ScoreDifference(
        estimate=found.estimate,
        interval=Interval(low=found.low, high=found.high),
        p_value=found.p_value,
        p_adjusted=adjusted,
        effect_size=found.effect_size,
        outcome=outcome,
        sentence=estimates.sentence(title, *names, found, p, outcome, p_is),
    )


def _untested(task: str, estimate: float, reason: str, names: Names) -> ScoreDifference:
    sentence = f"{task}: {names[0]} differs from {names[1]} by {estimate:+.4f}; not tested: {reason}."
    return ScoreDifference(estimate=estimate, outcome="not tested", sentence=sentence)
