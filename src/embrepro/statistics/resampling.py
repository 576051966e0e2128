"""Statistics of per-sample scores, each as a function of how often every sample counts.

A bootstrap resample is a vector of counts, one per sample. Each statistic below takes a matrix of such
vectors, one resample a row, and returns one value a row, so that thousands of resamples cost a few array
operations. With all counts 1 it is the main score itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from embrepro.errors import KitError

Statistic = Literal[
    "mean",
    "lrap",
    "accuracy",
    "f1_macro",
    "f1_weighted",
    "spearman",
    "pearson",
    "average_precision",
    "v_measure",
]
STATISTICS: tuple[str, ...] = get_args(Statistic)
LINEAR = frozenset({"mean", "lrap", "accuracy"})
"""Statistics that are a mean of one value per sample: for these a sign-flip test exists."""

_TARGETED = frozenset(STATISTICS) - {"mean", "lrap"}
_CHUNK_CELLS = 200_000
"""Counts at once: what is computed from them then stays in the processor's cache."""
_JACKKNIFE_BLOCKS = 200
LEAST_RESAMPLES = 500
"""How many resamples are drawn however many rows there are."""
Floats = NDArray[np.float64]


class StatisticsError(KitError):
    """Per-sample scores from which a statistic cannot be computed."""


@dataclass(frozen=True)
class Replicate:
    """One experiment of a stratum: row arrays of shape (rows,)."""

    unit: NDArray[np.int64]
    score: Floats
    target: Floats


@dataclass(frozen=True)
class Stratum:
    """One (split, subset): `units` samples that are resampled together with all their replicates."""

    key: tuple[str, str]
    samples: tuple[str, ...]
    replicates: tuple[Replicate, ...]

    @property
    def units(self) -> int:
        """Number of samples."""
        return len(self.samples)

    @property
    def rows(self) -> int:
        """Number of rows over all replicates."""
        return sum(len(replicate.unit) for replicate in self.replicates)


def strata(samples: pl.DataFrame, statistic: str) -> list[Stratum]:
    """Split per-sample scores into strata, each in an order that does not depend on the order of the rows.

    Args:
        samples: columns split, subset, sample (str), replicate (int), score (float), target (float or
        null).
        statistic: one of `STATISTICS`.

    Raises:
        StatisticsError: unknown statistic, missing column, no rows, or a score or needed target that is not
        finite.
    """
    _check(samples, statistic)
    ordered = samples.sort("split", "subset", "sample", "replicate", "score", "target")
    parts = ordered.partition_by("split", "subset", as_dict=True, maintain_order=True)
    return [_stratum((str(split), str(subset)), frame) for (split, subset), frame in parts.items()]


def _check(samples: pl.DataFrame, statistic: str) -> None:
    if statistic not in STATISTICS:
        raise StatisticsError(f"expected one of the statistics {', '.join(STATISTICS)}, got {statistic!r}")
    missing = {"split", "subset", "sample", "replicate", "score", "target"} - set(samples.columns)
    if missing:
        raise StatisticsError(
            f"expected per-sample scores with the column(s) {', '.join(sorted(missing))}, "
            f"got {samples.columns}; evaluate the task again"
        )
    if samples.is_empty():
        raise StatisticsError("expected per-sample scores, got an empty table; the task produced no score at all")
    for column in ("score", "target") if statistic in _TARGETED else ("score",):
        bad = samples.filter(~pl.col(column).cast(pl.Float64).is_finite().fill_null(False))
        if not bad.is_empty():
            first = bad.row(0, named=True)
            raise StatisticsError(
                f"expected a finite {column} for every sample, got {first[column]} for sample "
                f"{first['sample']!r} of {first['split']}/{first['subset']} "
                f"({bad.height} in all); check the model's embeddings"
            )


def _stratum(key: tuple[str, str], frame: pl.DataFrame) -> Stratum:
    names = frame["sample"].unique().sort()
    position = frame["sample"].replace_strict(names, np.arange(len(names)), return_dtype=pl.Int64)
    frame = frame.with_columns(position.alias("unit"))
    replicates = tuple(
        Replicate(
            part["unit"].to_numpy(),
            part["score"].cast(pl.Float64).to_numpy(),
            part["target"].cast(pl.Float64).fill_null(np.nan).to_numpy(),
        )
        for _, part in sorted(frame.partition_by("replicate", as_dict=True).items())
    )
    return Stratum(key, tuple(names.to_list()), replicates)


def paired_strata(
    candidate: pl.DataFrame, baseline: pl.DataFrame, statistic: str
) -> tuple[list[Stratum], list[Stratum]]:
    """Strata of two models on the same samples, in the same order.

    Raises:
        StatisticsError: as `strata`, or the two differ in their (split, subset, sample) or their targets.
    """
    ours, theirs = strata(candidate, statistic), strata(baseline, statistic)
    _require_pairs(ours, theirs)
    if statistic in _TARGETED:
        _require_equal_targets(candidate, baseline)
    return ours, theirs


def _require_pairs(ours: Sequence[Stratum], theirs: Sequence[Stratum]) -> None:
    left, right = (
        {part.key: set(part.samples) for part in ours},
        {part.key: set(part.samples) for part in theirs},
    )
    if left == right:
        return
    for key in sorted(left.keys() | right.keys()):
        only_left, only_right = (
            left.get(key, set()) - right.get(key, set()),
            right.get(key, set()) - left.get(key, set()),
        )
        if only_left or only_right:
            example = min(only_left or only_right)
            raise StatisticsError(
                f"expected both models on the same samples, but in {'/'.join(key)} {len(only_left)} are the "
                f"candidate's alone and {len(only_right)} the baseline's alone (such as {example!r}); "
                "evaluate both on the same data"
            )


def _require_equal_targets(candidate: pl.DataFrame, baseline: pl.DataFrame) -> None:
    keys = ["split", "subset", "sample"]
    targets = [frame.group_by(keys).agg(pl.col("target").min().cast(pl.Float64)) for frame in (candidate, baseline)]
    other = targets[0].join(targets[1], on=keys).filter(pl.col("target") != pl.col("target_right"))
    if not other.is_empty():
        raise StatisticsError(
            f"expected the same targets for both models, but {other.height} differ (such as sample "
            f"{other['sample'].min()!r}); the two were scored on different data: evaluate both again"
        )


def unit_values(stratum: Stratum, statistic: str) -> Floats:
    """Per-sample values of a linear statistic, shape (units,): means over the sample's replicates."""
    totals, counts = np.zeros(stratum.units), np.zeros(stratum.units)
    for replicate in stratum.replicates:
        totals += np.bincount(replicate.unit, _row_values(replicate, statistic), stratum.units)
        counts += np.bincount(replicate.unit, minlength=stratum.units)
    return totals / counts


def _row_values(replicate: Replicate, statistic: str) -> Floats:
    return (replicate.score == replicate.target).astype(float) if statistic == "accuracy" else replicate.score


def jackknife_counts(units: int, rng: np.random.Generator) -> Floats:
    """Counts that leave out one block of samples each, of up to 200 blocks: (blocks, samples)."""
    blocks = min(units, _JACKKNIFE_BLOCKS)
    member = rng.permutation(units) % blocks
    kept: Floats = (member[None, :] != np.arange(blocks)[:, None]).astype(float)
    return kept


def bootstrap_counts(units: int, resamples: int, rng: np.random.Generator) -> Floats:
    """Draw `resamples` bootstrap resamples of `units` samples: counts of shape (resamples, units)."""
    drawn = rng.integers(0, units, size=(resamples, units))
    drawn += np.arange(resamples)[:, None] * units
    return np.bincount(drawn.ravel(), minlength=resamples * units).reshape(resamples, units).astype(float)


def chunks(resamples: int, units: int, cells: int = _CHUNK_CELLS) -> Iterator[int]:
    """Yield batch sizes that add up to `resamples`, for batches of no more than `cells` counts."""
    step = max(1, cells // max(units, 1))
    for start in range(0, resamples, step):
        yield min(step, resamples - start)


def evaluator(stratum: Stratum, statistic: str) -> Callable[[Floats], Floats]:
    """Return the statistic of a stratum as a function from counts (resamples, units) to values (resamples,).

    The value is the mean over replicates, as mteb averages its experiments.
    """
    if statistic in LINEAR:
        return _linear_evaluator(stratum, statistic)
    build = _BUILDERS[statistic]
    parts = [(replicate.unit, build(replicate)) for replicate in stratum.replicates]

    def evaluate(counts: Floats) -> Floats:
        return sum((of(counts[:, unit]) for unit, of in parts), np.zeros(len(counts))) / len(parts)

    return evaluate


def _linear_evaluator(stratum: Stratum, statistic: str) -> Callable[[Floats], Floats]:
    """Weighted means of all replicates; einsum, since a BLAS sum may depend on the number of threads."""
    sums = np.stack([np.bincount(r.unit, _row_values(r, statistic), stratum.units) for r in stratum.replicates], axis=1)
    sizes = np.stack([np.bincount(r.unit, minlength=stratum.units) for r in stratum.replicates], axis=1)
    if (sizes == 1).all():
        means = sums.mean(axis=1)
        return lambda counts: np.einsum("bn,n->b", counts, means) / counts.sum(axis=1)

    def evaluate(counts: Floats) -> Floats:
        rows = np.einsum("bn,nr->br", counts, sizes.astype(float))
        means: Floats = _ratio(np.einsum("bn,nr->br", counts, sums), rows).mean(axis=1)
        return means

    return evaluate


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _indicator(codes: NDArray[np.int64], width: int) -> sparse.csr_array:
    """One-hot rows, shape (width, rows): multiplied by counts they give totals per code."""
    return sparse.csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(width, len(codes)))


def _f1(average: str) -> Callable[[Replicate], Callable[[Floats], Floats]]:
    """F1 per class from weighted totals, averaged as scikit-learn's f1_score; absent classes do not count."""

    def build(replicate: Replicate) -> Callable[[Floats], Floats]:
        classes, codes = np.unique(np.concatenate([replicate.score, replicate.target]), return_inverse=True)
        predicted, true = np.split(codes, 2)
        hit = (predicted == true).astype(float)
        said, is_ = _indicator(predicted, len(classes)), _indicator(true, len(classes))

        def evaluate(weights: Floats) -> Floats:
            support = is_ @ weights.T
            mass = said @ weights.T + support
            per_class = _ratio(2 * (is_ @ (weights * hit).T), mass)
            importance = (mass > 0).astype(float) if average == "macro" else support
            return _ratio((per_class * importance).sum(axis=0), importance.sum(axis=0))

        return evaluate

    return build


def _correlation(weights: Floats, left: Floats, right: Floats) -> Floats:
    """Weighted Pearson correlation per row; NaN where one side is constant."""
    total = weights.sum(axis=1, keepdims=True)
    left = left - (weights * left).sum(axis=1, keepdims=True) / total
    right = right - (weights * right).sum(axis=1, keepdims=True) / total
    weighted = weights * left
    covariance = (weighted * right).sum(axis=1)
    spread = np.sqrt((weighted * left).sum(axis=1) * (weights * right * right).sum(axis=1))
    correlation: Floats = np.divide(covariance, spread, out=np.full_like(covariance, np.nan), where=spread > 0)
    return correlation


def _pearson(replicate: Replicate) -> Callable[[Floats], Floats]:
    # Centred first: far from zero, the sums would cancel.
    left, right = replicate.score - replicate.score.mean(), replicate.target - replicate.target.mean()
    return lambda weights: _correlation(weights, left[None, :], right[None, :])


def _ranker(values: Floats) -> Callable[[Floats], Floats]:
    """Midranks of resampled values, shape (resamples, rows): a value drawn k times is k values that tie."""
    distinct, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(distinct)))

    def ranks(weights: Floats) -> Floats:
        sizes = np.add.reduceat(weights[:, order], starts, axis=1)
        above = np.cumsum(sizes, axis=1)
        return (above - (sizes - 1) / 2)[:, group]

    return ranks


def _spearman(replicate: Replicate) -> Callable[[Floats], Floats]:
    left, right = _ranker(replicate.score), _ranker(replicate.target)
    return lambda weights: _correlation(weights, left(weights), right(weights))


def _average_precision(replicate: Replicate) -> Callable[[Floats], Floats]:
    """Area under the precision-recall steps, ties taken together, as in scikit-learn."""
    order = np.argsort(-replicate.score, kind="stable")
    score, positive = replicate.score[order], (replicate.target[order] > 0).astype(float)
    ends = np.flatnonzero(np.append(np.diff(score) != 0, True))

    def evaluate(weights: Floats) -> Floats:
        ordered = weights[:, order]
        found = np.cumsum(ordered * positive, axis=1)[:, ends]
        seen = np.cumsum(ordered, axis=1)[:, ends]
        gain = np.diff(found, axis=1, prepend=0)
        return _ratio((gain * _ratio(found, seen)).sum(axis=1), found[:, -1])

    return evaluate


def _entropy(table: Floats, total: Floats) -> Floats:
    """Entropy in nats of each column of counts."""
    share = table / total
    entropy: Floats = -(share * np.log(share, out=np.zeros_like(share), where=share > 0)).sum(axis=0)
    return entropy


def _v_measure(replicate: Replicate) -> Callable[[Floats], Floats]:
    """2 I(C; K) / (H(C) + H(K)), as scikit-learn's v_measure_score (Rosenberg & Hirschberg 2007, beta 1)."""
    _, cluster = np.unique(replicate.score, return_inverse=True)
    _, label = np.unique(replicate.target, return_inverse=True)
    pairs, cell = np.unique(label * (cluster.max() + 1) + cluster, return_inverse=True)
    cells = _indicator(cell, len(pairs))
    labels = _indicator(pairs // (cluster.max() + 1), label.max() + 1)
    clusters = _indicator(pairs % (cluster.max() + 1), cluster.max() + 1)

    def evaluate(weights: Floats) -> Floats:
        table, total = cells @ weights.T, weights.sum(axis=1)
        apart = _entropy(labels @ table, total) + _entropy(clusters @ table, total)
        # One label in one cluster agrees perfectly: 1 by scikit-learn's convention.
        shared = apart - _entropy(table, total)
        return np.divide(2 * shared, apart, out=np.ones_like(apart), where=apart > 0)

    return evaluate


_BUILDERS: dict[str, Callable[[Replicate], Callable[[Floats], Floats]]] = {
    "f1_macro": _f1("macro"),
    "f1_weighted": _f1("weighted"),
    "spearman": _spearman,
    "pearson": _pearson,
    "average_precision": _average_precision,
    "v_measure": _v_measure,
}
