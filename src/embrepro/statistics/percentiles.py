"""How certain a percentile of a sample is, whatever the distribution it was drawn from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from embrepro.statistics.estimates import ConfidenceInterval


def percentile_interval(samples: Sequence[float], quantile: float, level: float = 0.95) -> ConfidenceInterval | None:
    """Interval of a quantile between two order statistics; None where the samples are too few to bound it.

    The number of samples below the quantile is binomial, so the ranks follow from the binomial distribution alone
    (Hahn & Meeker, Statistical Intervals, 1991, section 5.2). The interval covers the quantile with at least `level`.

    Args:
        samples: independent measurements, in any order and unit.
        quantile: between 0 and 1, such as 0.95 for the 95th percentile.
        level: coverage.
    """
    if not samples:
        return None
    tail = (1 - level) / 2
    low, high = (_binomial_quantile(part, len(samples), quantile) for part in (tail, 1 - tail))
    if low < 1 or high >= len(samples):
        return None
    ordered = np.sort(np.asarray(samples, dtype=float))
    # Ranks count from 1: the interval runs from rank `low` to rank `high + 1`.
    return ConfidenceInterval(float(ordered[low - 1]), float(ordered[high]))


def _binomial_quantile(part: float, trials: int, probability: float) -> int:
    """The least number of successes that so large a part of all outcomes does not exceed, as `scipy.stats.binom.ppf` has it.

    `scipy.stats` takes a second to import.
    """
    from scipy.special import bdtr, bdtrik

    found = math.ceil(float(bdtrik(part, trials, probability)))
    return found - 1 if found > 0 and bdtr(found - 1, trials, probability) >= part else found


def samples_needed(quantile: float, level: float = 0.95) -> int:
    """The least number of samples of which `percentile_interval` gives an interval."""
    tail = (1 - level) / 2
    return 1 + int(np.floor(np.log(tail) / np.log(max(quantile, 1 - quantile))))
