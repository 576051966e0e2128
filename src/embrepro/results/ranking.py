"""Three or more models on the same tasks: ranks with intervals, groups that cannot be told apart, and how far it all holds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from embrepro.results.comparison import Scored
from embrepro.results.summary import ModelPair, RankedModel, Ranking
from embrepro.statistics import ranking
from embrepro.statistics.ranking import Draws, PairTests
from embrepro.statistics.resampling import StatisticsError

LEAST = 3
"""Models below which the comparison of two says all there is to say."""
_Scores = Mapping[str, Mapping[str, Scored]]


def rank(scored: _Scores, types: Mapping[str, str], seed: int) -> Ranking | None:
    """Rank the models that have a score on every requested task; None where there are fewer than three.

    Args:
        scored: by model, what it scored by task.
        types: mteb's task type by requested task.
        seed: of the resampling.
    """
    lost = {key: [task for task in types if task not in of_model] for key, of_model in scored.items()}
    models = [key for key in scored if not lost[key]]
    if len(models) < LEAST:
        return None
    certain: dict[str, str] = {}
    drawn = {task: _draws(task, [scored[key][task] for key in models], seed, certain) for task in types}
    overall = ranking.all_pairs(ranking.mean_draws(list(drawn.values())))
    values = np.array([[scored[key][task].score for task in types] for key in models])
    order = sorted(range(len(models)), key=lambda one: (-values[one].mean(), models[one]))
    by_task = {task: ranking.all_pairs(draws) for task, draws in drawn.items()}
    groups = ranking.groups(overall, order)
    rows = [_row(one, models, values, types, overall, by_task, groups) for one in order]
    pairs = [_pair(one, other, models, overall) for one, other in combinations(order, 2)]
    return Ranking(
        models=rows,
        unranked={key: f"{len(tasks)} of {len(types)} tasks missing" for key, tasks in lost.items() if tasks},
        groups=[[models[one] for one in group] for group in groups],
        pairs=pairs,
        best_by_type={kind: _best(kind, models, drawn, types) for kind in sorted(set(types.values()))},
        detectable=statistics.median(pair.detectable for pair in pairs),
        untested=certain,
    )


def _draws(task: str, scores: Sequence[Scored], seed: int, untested: dict[str, str]) -> Draws:
    """Draws of one task; without per-sample scores, the scores as they are, and why in `untested`."""
    kinds = {each.samples.statistic if each.samples else None for each in scores}
    frames = [each.samples.frame for each in scores if each.samples and not each.samples.frame.is_empty()]
    if len(kinds) == 1 and len(frames) == len(scores) and (statistic := kinds.pop()):
        try:
            found = ranking.joint_draws(frames, statistic, name=task, seed=seed)
        except StatisticsError as error:
            untested[task] = str(error).rstrip(".")
        else:
            # The score is mteb's; the samples say how far it scatters.
            return Draws(np.array([each.score for each in scores]), found.deviations)
    else:
        untested[task] = "this main score has no per-sample scores to test differences with"
    return Draws(np.array([each.score for each in scores]), np.zeros((ranking.RESAMPLES, len(scores))))


def _row(
    one: int,
    models: Sequence[str],
    values: np.ndarray,
    types: Mapping[str, str],
    overall: PairTests,
    by_task: Mapping[str, PairTests],
    groups: Sequence[Sequence[int]],
) -> RankedModel:
    low, high = ranking.rank_intervals(overall)[one]
    without = [int(ranking.ranks(np.delete(values, task, axis=1).mean(axis=1))[one]) for task in range(values.shape[1])]
    apart = [tests.distinct[one] * np.sign(tests.differences[one]) for tests in by_task.values()]
    return RankedModel(
        key=models[one],
        mean_task=float(values[one].mean()),
        rank=int(ranking.ranks(values.mean(axis=1))[one]),
        rank_low=low,
        rank_high=high,
        groups=[place for place, group in enumerate(groups) if one in group],
        wins=int(sum((signs > 0).sum() for signs in apart)),
        losses=int(sum((signs < 0).sum() for signs in apart)),
        comparisons=len(by_task) * (len(models) - 1),
        best_on=[task for task, column in zip(by_task, values.T, strict=True) if column[one] == column.max()],
        by_averaging={
            way: int(ranking.ranks(means)[one]) for way, means in _averages(values, list(types.values())).items()
        },
        without_a_task=(min(without), max(without)) if len(without) > 1 else None,
    )


def _averages(values: np.ndarray, kinds: Sequence[str]) -> dict[str, np.ndarray]:
    """One value a model by each way of averaging tasks, more is better: (models,) each."""
    columns = np.array([values[:, [kind == each for each in kinds]].mean(axis=1) for kind in sorted(set(kinds))])
    spread = values.std(axis=0)
    standard = np.divide(values - values.mean(axis=0), spread, out=np.zeros_like(values), where=spread > 0)
    placed = np.stack([ranking.ranks(column) for column in values.T], axis=1)
    return {
        "tasks": values.mean(axis=1),
        "types": columns.mean(axis=0),
        "median": np.median(values, axis=1),
        "standardised": standard.mean(axis=1),
        "ranks": -placed.mean(axis=1),
    }


def _pair(one: int, other: int, models: Sequence[str], tests: PairTests) -> ModelPair:
    return ModelPair(
        one=models[one],
        other=models[other],
        difference=float(tests.differences[one, other]),
        standard_error=float(tests.errors[one, other]),
        p_adjusted=float(tests.p_values[one, other]),
        distinct=bool(tests.distinct[one, other]),
        detectable=float(tests.detectable()[one, other]),
    )


def _best(kind: str, models: Sequence[str], drawn: Mapping[str, Draws], types: Mapping[str, str]) -> list[str]:
    """The model with the highest mean over the tasks of a type, and those that cannot be told apart from it."""
    tests = ranking.all_pairs(ranking.mean_draws([draws for task, draws in drawn.items() if types[task] == kind]))
    lead = tests.differences.sum(axis=1)
    order = sorted(range(len(models)), key=lambda one: (-lead[one], models[one]))
    return [models[one] for one in order if one == order[0] or not tests.distinct[order[0], one]]
