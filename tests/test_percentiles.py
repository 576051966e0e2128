"""The interval of a percentile covers it as often as it says, and there is none where nothing bounds it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from embrepro.statistics.percentiles import _binomial_quantile, percentile_interval, samples_needed


@pytest.mark.parametrize(("count", "quantile"), [(30, 0.5), (100, 0.5), (72, 0.95), (225, 0.95), (400, 0.99)])
def test_it_covers_the_true_percentile(count: int, quantile: float) -> None:
    """Drawn from a log-normal distribution, as latencies are; 2,000 draws leave a standard error of 0.5 %."""
    rng = np.random.default_rng(3)
    truth = float(stats.lognorm.ppf(quantile, 0.4))
    found = [percentile_interval(draw.tolist(), quantile) for draw in rng.lognormal(0, 0.4, (2_000, count))]
    assert np.mean([one is not None and one.low <= truth <= one.high for one in found]) >= 0.94


@pytest.mark.parametrize(("count", "quantile"), [(0, 0.5), (5, 0.5), (30, 0.99), (30, 0.95), (71, 0.95), (367, 0.99)])
def test_there_is_none_where_the_samples_do_not_bound_it(count: int, quantile: float) -> None:
    assert percentile_interval(list(range(count)), quantile) is None


def test_it_names_how_many_samples_it_takes() -> None:
    for quantile in (0.05, 0.5, 0.9, 0.95, 0.99):
        needed = samples_needed(quantile)
        assert percentile_interval(list(range(needed)), quantile) is not None
        assert percentile_interval(list(range(needed - 1)), quantile) is None


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.95, 0.99])
def test_ranks_are_the_quantiles_of_the_binomial_distribution_that_scipy_has(quantile: float) -> None:
    counts = [*range(1, 200), 1_000, 20_000]
    found = [[_binomial_quantile(part, count, quantile) for part in (0.025, 0.975)] for count in counts]
    expected = [stats.binom.ppf([0.025, 0.975], count, quantile).tolist() for count in counts]
    assert found == expected
