"""Many models on the same samples: ranks with intervals, which pairs differ, and who cannot be told apart.

Every resample is scored for all models at once, so that what makes a sample hard for all of them cancels, as it does in a
paired test of two. All pairs are then tested together: the studentised difference of each is held against the
distribution, over the resamples, of the greatest such deviation among all pairs (the step-down maximum of Westfall &
Young, Resampling-Based Multiple Testing, 1993, with bootstrap deviations as in Romano & Wolf, Econometrica 2005). The
chance that any two equal models are called different stays below the level, whatever their number, and the dependence
between pairs that share a model is used, where Holm's correction assumes the worst. A model's rank interval
counts the models that are better beyond doubt, and those that are worse (Mogstad, Romano, Shaikh & Wilhelm, Inference for
ranks, Review of Economic Studies 2024); percentiles of resampled ranks would be too short where models are close.
`docs/ranking.md` has the simulations.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import ndtri

from embrepro.statistics.resampling import (
    LEAST_RESAMPLES,
    Floats,
    Stratum,
    bootstrap_counts,
    chunks,
    evaluator,
    jackknife_counts,
    paired_strata,
    strata,
)

RESAMPLES = 2000
_ROW_BUDGET = 20_000_000


@dataclass(frozen=True)
class Draws:
    """Scores of models: `estimates` (models,), and `deviations` (resamples, models) of resampled scores around them."""

    estimates: Floats
    deviations: Floats


@dataclass(frozen=True)
class PairTests:
    """All pairs of models, tested together; matrices (models, models) of row minus column.

    `reach` times a pair's standard error is how far its estimate must lie from zero to be called different for certain.
    """

    differences: Floats
    errors: Floats
    p_values: Floats
    reach: float
    level: float

    @property
    def distinct(self) -> np.ndarray:
        """Which pairs differ beyond doubt, (models, models)."""
        return np.asarray(self.p_values < 1 - self.level)

    def detectable(self, power: float = 0.8) -> Floats:
        """True difference of each pair that this data shows with the given probability, (models, models)."""
        return (self.reach + float(ndtri(power))) * self.errors


def joint_draws(samples: Sequence[pl.DataFrame], statistic: str, *, name: str, seed: int) -> Draws:
    """Score all models on the same resamples of one task.

    Of V-measure, whose resamples are biased (see `estimates.interval`), the deviations are normal with the covariance of
    a block jackknife. A resample that does not define a score counts as no deviation.

    Args:
        samples: per-sample scores of each model; see `resampling.strata`.
        statistic: one of `resampling.STATISTICS`.
        name: the task's; two tasks are resampled independently of each other.
        seed: the same seed gives the same draws to the last bit.

    Raises:
        StatisticsError: samples that cannot be used, or that are not the same for all models.
    """
    parts = [strata(samples[0], statistic), *(paired_strata(each, samples[0], statistic)[0] for each in samples[1:])]
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    estimates, deviations = np.zeros(len(parts)), np.zeros((RESAMPLES, len(parts)))
    for stratum in zip(*parts, strict=True):
        of = [evaluator(part, statistic) for part in stratum]
        whole = np.array([evaluate(np.ones((1, stratum[0].units)))[0] for evaluate in of])
        draw = _jackknifed if statistic == "v_measure" else _resampled
        drawn = draw(stratum, of, whole, rng)
        estimates += whole / len(parts[0])
        deviations += np.where(np.isfinite(drawn), drawn, 0.0) / len(parts[0])
    return Draws(estimates, deviations)


def _resampled(stratum: Sequence[Stratum], of: Sequence, whole: Floats, rng: np.random.Generator) -> Floats:  # type: ignore[type-arg]
    """Deviations from their mean over bootstrap resamples; where there are many rows fewer are drawn, and used again."""
    units, rows = stratum[0].units, max(part.rows for part in stratum) * len(of)
    count = min(RESAMPLES, max(LEAST_RESAMPLES, _ROW_BUDGET // rows))
    batches = []
    for size in chunks(count, units):
        counts = bootstrap_counts(units, size, rng)
        batches.append(np.stack([evaluate(counts) for evaluate in of], axis=1))
    drawn = np.concatenate(batches)
    drawn = drawn - np.nanmean(drawn, axis=0)
    # A bootstrap of few samples spreads too little (Hesterberg, The American Statistician 2015).
    drawn *= np.sqrt(units / max(units - 1, 1))
    return np.resize(drawn, (RESAMPLES, len(of))) if count < RESAMPLES else drawn


def _jackknifed(stratum: Sequence[Stratum], of: Sequence, whole: Floats, rng: np.random.Generator) -> Floats:  # type: ignore[type-arg]
    kept = jackknife_counts(stratum[0].units, rng)
    blocks = len(kept)
    left_out = np.stack([evaluate(kept) for evaluate in of], axis=1)
    influences = (left_out.mean(axis=0) - left_out) * np.sqrt((blocks - 1) / blocks)
    deviations: Floats = np.einsum("rb,bm->rm", rng.standard_normal((RESAMPLES, blocks)), influences)
    return deviations


def mean_draws(tasks: Sequence[Draws], weights: Sequence[float] | None = None) -> Draws:
    """Draws of a mean over tasks that share no samples; `weights` sum to 1, None weighs all alike."""
    weights = weights or [1 / len(tasks)] * len(tasks)
    weighted = list(zip(weights, tasks, strict=True))
    return Draws(
        sum((weight * task.estimates for weight, task in weighted), np.zeros_like(tasks[0].estimates)),
        sum((weight * task.deviations for weight, task in weighted), np.zeros_like(tasks[0].deviations)),
    )


def all_pairs(draws: Draws, *, level: float = 0.95) -> PairTests:
    """Test every pair of models, so that the chance of any false difference among all pairs stays below 1 - level.

    Step-down: a pair is held against the greatest deviation among the pairs that differ less than it does.
    """
    estimates, deviations = draws.estimates, draws.deviations
    differences = estimates[:, None] - estimates[None, :]
    errors, p_values = np.zeros_like(differences), np.ones_like(differences)
    if len(estimates) < 2:
        return PairTests(differences, errors, p_values, 0.0, level)
    one, other = np.triu_indices(len(estimates), 1)
    sizes = np.zeros(len(one))
    studentised = np.empty((len(one), len(deviations)))
    for pair, (a, b) in enumerate(zip(one, other, strict=True)):
        studentised[pair] = np.abs(deviations[:, a] - deviations[:, b])
        error = float((deviations[:, a] - deviations[:, b]).std(ddof=1))
        errors[a, b] = errors[b, a] = error
        if error > 0:
            studentised[pair] /= error
            sizes[pair] = abs(differences[a, b]) / error
        else:
            sizes[pair] = np.inf if differences[a, b] else 0.0
    greatest = np.zeros(len(deviations))
    found = np.empty(len(one))
    for pair in np.argsort(sizes, kind="stable"):
        np.maximum(greatest, studentised[pair], out=greatest)
        found[pair] = (1 + np.sum(greatest >= sizes[pair] * (1 - 1e-9))) / (1 + len(greatest))
    ordered = np.argsort(-sizes, kind="stable")
    found[ordered] = np.maximum.accumulate(found[ordered])
    p_values[one, other] = p_values[other, one] = found
    return PairTests(differences, errors, p_values, float(np.quantile(greatest, level)), level)


def ranks(scores: Floats) -> np.ndarray:
    """Rank of each score, 1 for the highest; equal scores share the best rank of theirs."""
    return np.asarray((scores[None, :] > scores[:, None]).sum(axis=1) + 1)


def rank_intervals(tests: PairTests) -> list[tuple[int, int]]:
    """Least and greatest rank of each model that the tests leave possible, for all models at once at the tests' level."""
    better = (tests.distinct & (tests.differences < 0)).sum(axis=1)
    worse = (tests.distinct & (tests.differences > 0)).sum(axis=1)
    size = len(tests.differences)
    return [(int(above) + 1, size - int(below)) for above, below in zip(better, worse, strict=True)]


def groups(tests: PairTests, order: Sequence[int]) -> list[list[int]]:
    """Largest sets of models of which no two can be told apart, in the order given; a model may be in several."""
    near = {one: {other for other in order if other != one and not tests.distinct[one, other]} for one in order}
    found: list[set[int]] = []

    def extend(chosen: set[int], open_: set[int], closed: set[int]) -> None:
        """Bron & Kerbosch, Algorithm 457 (CACM 1973), with a pivot."""
        if not open_ and not closed:
            found.append(chosen)
            return
        pivot = max(open_ | closed, key=lambda one: len(near[one] & open_))
        for one in sorted(open_ - near[pivot]):
            extend(chosen | {one}, open_ & near[one], closed & near[one])
            open_ = open_ - {one}
            closed = closed | {one}

    extend(set(), set(order), set())
    place = {model: position for position, model in enumerate(order)}
    return sorted(
        [sorted(group, key=place.__getitem__) for group in found], key=lambda group: [place[one] for one in group]
    )
