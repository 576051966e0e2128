"""Two models on the same tasks: differences, corrected and averaged; what is missing is never averaged over."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from embrepro.results.comparison import Scored, differences
from embrepro.results.summary import ScoreDifference
from embrepro.tasks.samples import Samples

NAMES = ("ours", "theirs")
TYPES = {"one": "Retrieval", "two": "Retrieval", "three": "STS"}


def scored(values: np.ndarray) -> Scored:
    """A task whose main score is the mean over its samples."""
    count = len(values)
    frame = pl.DataFrame(
        {
            "split": ["test"] * count,
            "subset": ["default"] * count,
            "sample": [f"q{number}" for number in range(count)],
            "replicate": [0] * count,
            "score": values,
            "target": [None] * count,
        },
        schema_overrides={"replicate": pl.Int32, "target": pl.Float64},
    )
    return Scored(float(values.mean()), Samples("mean", [frame]))


@pytest.fixture
def values() -> dict[str, np.ndarray]:
    """Paired differences of each task: many samples, few, and a task of another type."""
    rng = np.random.default_rng(5)
    return {
        "one": rng.normal(0.10, 0.3, 400),
        "two": rng.normal(-0.02, 0.3, 100),
        "three": rng.normal(0.05, 0.2, 250),
    }


def sides(values: dict[str, np.ndarray]) -> tuple[dict[str, Scored], dict[str, Scored]]:
    rng = np.random.default_rng(6)
    theirs = {task: rng.random(len(found)) for task, found in values.items()}
    ours = {task: scored(theirs[task] + found) for task, found in values.items()}
    return ours, {task: scored(found) for task, found in theirs.items()}


def bounds(difference: ScoreDifference | None) -> tuple[float, float]:
    assert difference is not None
    assert difference.interval is not None
    return difference.interval.low, difference.interval.high


@pytest.mark.parametrize(
    ("mean", "weights"),
    [("mean_task", (1 / 3, 1 / 3, 1 / 3)), ("mean_type", (1 / 4, 1 / 4, 1 / 2))],
)
def test_the_difference_of_means_is_as_certain_as_a_bootstrap_of_all_samples_says(
    values: dict[str, np.ndarray], mean: str, weights: tuple[float, ...]
) -> None:
    """Reference: percentiles of 20,000 resamples of every task's samples at once."""
    found = getattr(differences(*sides(values), TYPES, NAMES, seed=1)[1], mean)
    rng = np.random.default_rng(7)
    draws = sum(
        weight * rng.choice(part, (20_000, len(part))).mean(axis=1)
        for weight, part in zip(weights, values.values(), strict=True)
    )
    expected = sum(weight * part.mean() for weight, part in zip(weights, values.values(), strict=True))
    assert found.estimate == pytest.approx(expected, abs=1e-12)
    assert bounds(found) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=0.003)
    assert found.outcome == "better"
    assert found.p_adjusted is None
    assert "ours is better than theirs" in found.sentence
    assert ", p < 0.001)" in found.sentence


def test_a_type_is_averaged_over_its_own_tasks(values: dict[str, np.ndarray]) -> None:
    by_type = differences(*sides(values), TYPES, NAMES, seed=1)[1].by_type
    assert list(by_type) == ["Retrieval", "STS"]
    assert by_type["Retrieval"].estimate == pytest.approx((values["one"].mean() + values["two"].mean()) / 2)
    assert bounds(by_type["STS"])[0] < values["three"].mean() < bounds(by_type["STS"])[1]


@pytest.mark.parametrize("why", ["no score", "no samples"])
def test_no_mean_is_tested_over_an_incomplete_set(values: dict[str, np.ndarray], why: str) -> None:
    ours, theirs = sides(values)
    if why == "no score":
        del ours["two"]
    else:
        ours["two"] = Scored(ours["two"].score, None)
    by_task, means = differences(ours, theirs, TYPES, NAMES, seed=1)
    assert ("two" in by_task) == (why == "no samples")
    assert means.mean_task is None
    assert means.mean_type is None
    assert list(means.by_type) == ["STS"]


@pytest.mark.parametrize(
    ("theirs_samples", "reason"),
    [
        (None, "has no per-sample scores"),
        ("average_precision", "of two kinds, mean and average_precision"),
    ],
)
def test_what_could_not_be_tested_is_an_outcome_of_its_own(
    values: dict[str, np.ndarray], theirs_samples: str | None, reason: str
) -> None:
    ours, theirs = sides(values)
    kept = theirs["two"].samples
    assert kept is not None
    theirs["two"] = Scored(theirs["two"].score, Samples(theirs_samples, [kept.frame]) if theirs_samples else None)
    found = differences(ours, theirs, TYPES, NAMES, seed=1)[0]["two"]
    assert found.outcome == "not tested"
    assert (found.interval, found.p_value) == (None, None)
    assert reason in found.sentence
