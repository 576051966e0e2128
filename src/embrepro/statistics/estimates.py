"""How certain a score is, and whether two models differ: intervals, paired tests, a correction, a sentence.

The unit of resampling is the sample (a query, a pair, a document) within its split and subset; the
experiments of a classification or clustering task stay with their samples. What the methods assume: samples
are drawn independently from what the task stands for. They say nothing of other tasks, other seeds of a
training run, or of samples that share text.

Sources: Efron & Tibshirani, An Introduction to the Bootstrap (1993); Koehn, Statistical significance tests
for machine translation evaluation (EMNLP 2004); Smucker, Allan & Carterette, A comparison of statistical
significance tests for information retrieval evaluation (CIKM 2007); Holm, A simple sequentially rejective
multiple test procedure (1979); Cohen, Statistical Power Analysis for the Behavioral Sciences (1988).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from embrepro.statistics.resampling import (
    LEAST_RESAMPLES,
    LINEAR,
    Floats,
    StatisticsError,
    Stratum,
    bootstrap_counts,
    chunks,
    evaluator,
    jackknife_counts,
    paired_strata,
    strata,
    unit_values,
)

TestedOutcome = Literal["better", "worse", "not distinguishable"]
EffectKind = Literal["d_z", "q", "h"]
Test = Literal["sign flips", "paired bootstrap", "jackknife", "normal"]

_ROW_BUDGET = 40_000_000
_SIGN_FLIPS = 9_999
_SIGN_CELLS = 2_000_000
"""Signs at once; another number draws other ones."""
_EXACT_UP_TO = 13


@dataclass(frozen=True)
class ConfidenceInterval:
    """A confidence interval of a score, on the score's own scale."""

    low: float
    high: float


@dataclass(frozen=True)
class PairedDifference:
    """Candidate minus baseline on one task.

    `effect_size` is of the kind named by `effect`: d_z, the mean paired difference in its standard
    deviations, for means and accuracies; q, the difference of Fisher's z, for correlations; h, the
    difference of arcsine-transformed proportions, for F1, average precision and V-measure (all three: Cohen
    1988). About 0.2 is small, 0.5 medium and 0.8 large for d_z and h; 0.1, 0.3 and 0.5 for q. It is None
    where it would be infinite.
    """

    estimate: float
    low: float
    high: float
    p_value: float
    effect_size: float | None
    effect: EffectKind | None
    standard_error: float
    samples: int
    test: Test


def point(samples: pl.DataFrame, statistic: str) -> float:
    """Recompute the main score of a task from its per-sample scores.

    It is the mean over (split, subset) of the mean over replicates of the statistic, as mteb averages.

    Args:
        samples: one row a sample and replicate; see `resampling.strata`.
        statistic: one of `resampling.STATISTICS`.

    Raises:
        StatisticsError: samples that cannot be used, or a statistic that they do not define (all scores
        equal, say).
    """
    return _point(strata(samples, statistic), statistic)


def interval(
    samples: pl.DataFrame, statistic: str, *, seed: int, resamples: int = 2000, level: float = 0.95
) -> ConfidenceInterval:
    """Bootstrap interval of a task's main score.

    Bias-corrected and accelerated percentiles (Efron & Tibshirani 1993, ch. 14), the acceleration from a
    jackknife over at most 200 blocks of samples, the percentiles widened for few samples (Hesterberg, What
    teachers should know about the bootstrap, The American Statistician 2015). V-measure is the exception:
    the samples that a resample repeats raise its entropies' bias, so its interval is the score plus or
    minus Student's t times the jackknife's standard error. Above 20,000 rows fewer resamples are drawn,
    never under 500. The interval has no width where every sample has the same score: then the data cannot
    say more.

    Args:
        samples: one row a sample and replicate; see `resampling.strata`.
        statistic: one of `resampling.STATISTICS`.
        seed: the same seed gives the same interval, whatever the order of the rows.
        resamples: number of bootstrap resamples.
        level: coverage, such as 0.95.

    Raises:
        StatisticsError: as `point`.
    """
    parts = strata(samples, statistic)
    estimate = _point(parts, statistic)
    of = [evaluator(part, statistic) for part in parts]
    influences = _influences(parts, of, seed)
    if statistic == "v_measure":
        error, freedom = _jackknife(influences)
        reach = float(stdtrit(freedom, (1 + level) / 2)) * error
        return ConfidenceInterval(max(0.0, estimate - reach), min(1.0, estimate + reach))
    draws = _draw(parts, of, seed, resamples)
    return ConfidenceInterval(*_bca_bounds(estimate, draws, level, _units(parts), lambda: _acceleration(influences)))


def paired_difference(
    candidate: pl.DataFrame,
    baseline: pl.DataFrame,
    statistic: str,
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
) -> PairedDifference:
    """Candidate minus baseline on the same samples: interval, p-value and effect size.

    The interval is a paired bootstrap: every resample is scored for both models (Koehn 2004), with
    percentiles widened for few samples; a difference is nearly symmetric, so these cover better than the
    BCa bounds of a single score. The two-sided p-value of a mean or an accuracy comes from flipping the
    signs of the paired differences, exactly for up to 13 samples that differ and with 9,999 random flips
    above (Fisher's randomization test; Smucker et al. 2007). Of every other statistic it comes from the
    paired bootstrap, shifted to the hypothesis of no difference (Efron & Tibshirani 1993, ch. 16): the
    scores of two models live on different scales there, so they must not be swapped. V-measure has interval
    and p-value from the paired jackknife, for the reason given at `interval`.

    Args:
        candidate: per-sample scores of the candidate; see `resampling.strata`.
        baseline: those of the baseline.
        statistic: one of `resampling.STATISTICS`.
        seed: the same seed gives the same result to the last bit.
        resamples: number of bootstrap resamples, fewer above 20,000 rows.
        level: coverage of the interval.

    Raises:
        StatisticsError: as `point`, or the two do not hold the same (split, subset, sample) with the same
        targets.
    """
    ours, theirs = paired_strata(candidate, baseline, statistic)
    scores = _point(ours, statistic), _point(theirs, statistic)
    estimate = scores[0] - scores[1]
    of = [_minus(evaluator(a, statistic), evaluator(b, statistic)) for a, b in zip(ours, theirs, strict=True)]
    if statistic == "v_measure":
        error, freedom = _jackknife(_influences(ours, of, seed))
        reach = float(stdtrit(freedom, (1 + level) / 2)) * error
        low, high = max(-1.0, estimate - reach), min(1.0, estimate + reach)
        p_value = float(2 * stdtr(freedom, -abs(estimate) / error)) if error > 0 else float(estimate == 0)
    else:
        draws = _draw(ours, of, seed, resamples, rows=max(_rows(ours), _rows(theirs)))
        low, high = (float(q) for q in np.quantile(draws, ndtr(_reach(level, _units(ours)) * np.array([-1.0, 1.0]))))
        error, p_value = float(draws.std(ddof=1)), _shifted_p(estimate, draws)
    if statistic not in LINEAR:
        size, effect = _scale_effect(*scores, statistic)
        test: Test = "jackknife" if statistic == "v_measure" else "paired bootstrap"
        return PairedDifference(estimate, low, high, p_value, size, effect, error, _units(ours), test)
    differences = [unit_values(a, statistic) - unit_values(b, statistic) for a, b in zip(ours, theirs, strict=True)]
    size, effect = _spread_effect(estimate, differences)
    p_value = _sign_flip_p(differences, seed)
    return PairedDifference(estimate, low, high, p_value, size, effect, error, _units(ours), "sign flips")


def mean_difference(
    differences: Sequence[PairedDifference], weights: Sequence[float] | None = None, *, level: float = 0.95
) -> PairedDifference:
    """Mean of differences over tasks that share no samples, with a normal interval and p-value.

    The tasks are taken as they are, not as a draw from all tasks: the interval holds the uncertainty of the
    samples only.

    Args:
        differences: one a task.
        weights: of each task; they sum to 1. None weighs all alike.
        level: coverage of the interval.

    Raises:
        StatisticsError: no differences.
    """
    if not differences:
        raise StatisticsError("expected at least one difference to average, got none; name tasks both models have")
    weights = weights or [1 / len(differences)] * len(differences)
    weighted = list(zip(weights, differences, strict=True))
    estimate = math.fsum(weight * d.estimate for weight, d in weighted)
    error = math.sqrt(math.fsum((weight * d.standard_error) ** 2 for weight, d in weighted))
    reach = float(ndtri((1 + level) / 2)) * error
    p_value = float(2 * ndtr(-abs(estimate) / error)) if error > 0 else float(estimate == 0)
    samples = sum(d.samples for d in differences)
    return PairedDifference(estimate, estimate - reach, estimate + reach, p_value, None, None, error, samples, "normal")


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that the chance of any false finding among them stays below the level (Holm 1979).

    Chosen over Benjamini-Hochberg because each row of the report is read and quoted alone, and because it
    holds however the tasks depend on each other; several of them share a model and often data.

    Returns:
        Adjusted p-values in the order given, each at least its p-value and at most 1.
    """
    adjusted = [0.0] * len(p_values)
    reached = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = reached
    return adjusted


def verdict(
    difference: PairedDifference, p_adjusted: float, *, minimum: float = 0.0, alpha: float = 0.05
) -> TestedOutcome:
    """Say whether the candidate differs: test, interval and the least difference that matters must agree.

    Args:
        difference: candidate minus baseline.
        p_adjusted: its p-value after correction for the number of tasks.
        minimum: differences smaller than this do not count, on the score's scale.
        alpha: level of the test.
    """
    excludes_zero = difference.low > 0 or difference.high < 0
    if p_adjusted >= alpha or not excludes_zero or abs(difference.estimate) < minimum:
        return "not distinguishable"
    return "better" if difference.estimate > 0 else "worse"


def sentence(
    task: str,
    candidate: str,
    baseline: str,
    difference: PairedDifference,
    p: float,
    outcome: TestedOutcome,
    p_is: str = "adjusted p",
) -> str:
    """State the outcome in words, with the numbers it rests on; `p_is` says what kind of p-value is given."""
    numbers = (
        f"{difference.estimate:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}] "
        f"over {difference.samples:,} samples, {p_is} {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
    )
    if outcome == "not distinguishable":
        return f"{task}: {candidate} and {baseline} are not distinguishable with this data ({numbers})."
    return f"{task}: {candidate} is {outcome} than {baseline} ({numbers})."


def _point(parts: Sequence[Stratum], statistic: str) -> float:
    values = [float(evaluator(part, statistic)(np.ones((1, part.units)))[0]) for part in parts]
    for part, value in zip(parts, values, strict=True):
        if not math.isfinite(value):
            raise StatisticsError(
                f"expected scores that define a {statistic}, but those of {'/'.join(part.key)} do not: "
                "all scores or all targets are equal; check that the embeddings are neither zero nor constant"
            )
    return math.fsum(values) / len(values)


def _minus(one: Callable[[Floats], Floats], other: Callable[[Floats], Floats]) -> Callable[[Floats], Floats]:
    return lambda counts: one(counts) - other(counts)


def _draw(
    parts: Sequence[Stratum],
    of: Sequence[Callable[[Floats], Floats]],
    seed: int,
    resamples: int,
    rows: int | None = None,
) -> Floats:
    """Bootstrap values of the mean over strata, each resampled by itself: shape (resamples,)."""
    resamples = min(resamples, max(LEAST_RESAMPLES, _ROW_BUDGET // (rows or _rows(parts))))
    rng = np.random.default_rng([seed, 1])
    total = np.zeros(resamples)
    for part, evaluate in zip(parts, of, strict=True):
        batches = [evaluate(bootstrap_counts(part.units, size, rng)) for size in chunks(resamples, part.units)]
        total += np.concatenate(batches)
    return _finite(total / len(parts))


def _finite(draws: Floats) -> Floats:
    """Leave out resamples that define no value, such as a correlation of one repeated sample."""
    kept = draws[np.isfinite(draws)]
    if len(kept) < 0.9 * len(draws):
        raise StatisticsError(
            f"expected resamples that define the statistic, but {len(draws) - len(kept)} of {len(draws)} "
            "do not; the task has too few distinct scores for an interval"
        )
    return kept


def _bca_bounds(
    estimate: float, draws: Floats, level: float, units: int, acceleration: Callable[[], float]
) -> tuple[float, float]:
    reach = _reach(level, units) * np.array([-1.0, 1.0])
    # Rounding in the last bits must not decide on which side of the estimate a resample falls.
    slack = 1e-12 * max(1.0, abs(estimate))
    below = (np.sum(draws < estimate - slack) + np.sum(draws <= estimate + slack)) / (2 * len(draws))
    if 0 < below < 1:
        shift = ndtri(below)
        reach = shift + (shift + reach) / (1 - acceleration() * (shift + reach))
    low, high = np.quantile(draws, ndtr(reach))
    return float(low), float(high)


def _reach(level: float, units: int) -> float:
    """Normal quantile, widened as Student's t is: few samples spread too little (Hesterberg 2015)."""
    return float(stdtrit(units - 1, (1 + level) / 2)) * math.sqrt(units / (units - 1)) if units > 1 else math.inf


def _units(parts: Sequence[Stratum]) -> int:
    return sum(part.units for part in parts)


def _rows(parts: Sequence[Stratum]) -> int:
    return sum(part.rows for part in parts)


def _influences(parts: Sequence[Stratum], of: Sequence[Callable[[Floats], Floats]], seed: int) -> Floats:
    """What each block of samples adds to the mean over strata, found by leaving it out: shape (blocks,)."""
    rng = np.random.default_rng([seed, 2])
    found = []
    for part, evaluate in zip(parts, of, strict=True):
        if part.units < 2:
            continue
        kept = jackknife_counts(part.units, rng)
        blocks, left_out = len(kept), evaluate(kept)
        left_out = left_out[np.isfinite(left_out)]
        found.append((left_out.mean() - left_out) * (blocks - 1) / blocks / len(parts))
    return np.concatenate(found) if found else np.zeros(1)


def _acceleration(influences: Floats) -> float:
    """Acceleration of the BCa interval (Efron & Tibshirani 1993, eq. 14.15)."""
    second = float((influences**2).sum())
    return float((influences**3).sum()) / (6 * second**1.5) if second > 0 else 0.0


def _jackknife(influences: Floats) -> tuple[float, int]:
    """Standard error and degrees of freedom of the block jackknife (Efron & Tibshirani 1993, ch. 11)."""
    blocks = len(influences)
    return math.sqrt(float((influences**2).sum()) * blocks / max(blocks - 1, 1)), max(blocks - 1, 1)


def _sign_flip_p(differences: Sequence[Floats], seed: int) -> float:
    """Two-sided p of the stratified mean difference when each pair's sign is a coin toss."""
    weighted = np.concatenate([part / len(part) for part in differences])
    weighted = weighted[weighted != 0]
    observed = abs(math.fsum(weighted)) * (1 - 1e-9)
    if len(weighted) <= _EXACT_UP_TO:
        codes = np.arange(2 ** len(weighted))[:, None] >> np.arange(len(weighted))
        return float(np.mean(np.abs(np.einsum("bn,n->b", 1.0 - 2.0 * (codes & 1), weighted)) >= observed))
    rng = np.random.default_rng([seed, 3])
    extreme = 0
    for size in chunks(_SIGN_FLIPS, len(weighted), _SIGN_CELLS):
        signs = rng.integers(0, 2, size=(size, len(weighted)), dtype=np.int8) * 2.0 - 1.0
        extreme += int(np.sum(np.abs(np.einsum("bn,n->b", signs, weighted)) >= observed))
    return (1 + extreme) / (1 + _SIGN_FLIPS)


def _shifted_p(estimate: float, draws: Floats) -> float:
    """Two-sided p of the bootstrap distribution moved to a difference of zero."""
    return float((1 + np.sum(np.abs(draws - estimate) >= abs(estimate))) / (1 + len(draws)))


def _spread_effect(estimate: float, differences: Sequence[Floats]) -> tuple[float | None, EffectKind]:
    """Cohen's d_z with the standard deviation pooled within strata."""
    freedom = sum(len(part) - 1 for part in differences)
    squares = math.fsum(float(((part - part.mean()) ** 2).sum()) for part in differences)
    if freedom < 1 or squares == 0:
        return (0.0 if estimate == 0 else None), "d_z"
    return estimate / math.sqrt(squares / freedom), "d_z"


def _scale_effect(candidate: float, baseline: float, statistic: str) -> tuple[float | None, EffectKind]:
    """Cohen's q for correlations, Cohen's h for scores that behave like proportions."""
    if statistic in ("spearman", "pearson"):
        if max(abs(candidate), abs(baseline)) >= 1:
            return (0.0 if candidate == baseline else None), "q"
        return math.atanh(candidate) - math.atanh(baseline), "q"
    first, second = (2 * math.asin(math.sqrt(min(1.0, max(0.0, value)))) for value in (candidate, baseline))
    return first - second, "h"
