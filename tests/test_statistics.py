"""Intervals, paired tests and verdicts on per-sample scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from embrepro.statistics.estimates import (
    PairedDifference,
    holm,
    interval,
    mean_difference,
    paired_difference,
    point,
    sentence,
    verdict,
)
from embrepro.statistics.resampling import StatisticsError, bootstrap_counts, evaluator, strata

Array = np.ndarray


def frame(
    score: Sequence[float] | Array,
    target: Sequence[float] | Array | None = None,
    *,
    replicates: int = 1,
    subset: str = "default",
) -> pl.DataFrame:
    """Per-sample scores, replicate after replicate."""
    count = len(score)
    samples = count // replicates
    return pl.DataFrame(
        {
            "split": ["test"] * count,
            "subset": [subset] * count,
            "sample": [f"q{i % samples}" for i in range(count)],
            "replicate": [i // samples for i in range(count)],
            "score": np.asarray(score, float),
            "target": [None] * count if target is None else np.asarray(target, float),
        },
        schema_overrides={"replicate": pl.Int32, "target": pl.Float64},
    )


def labels(rng: np.random.Generator, true: Array, hit_rate: float) -> Array:
    return np.where(rng.random(len(true)) < hit_rate, true, rng.integers(0, true.max() + 1, len(true)))


def example(statistic: str, samples: int, rng: np.random.Generator, strength: float = 0.7) -> pl.DataFrame:
    """A task of some strength; the targets depend on the generator's state alone."""
    gold = rng.normal(size=samples)
    classes = rng.integers(0, 12, samples)
    noise = rng.normal(size=samples)
    match statistic:
        case "mean" | "lrap":
            return frame(np.clip(rng.beta(1, 2, samples) + strength - 0.7, 0, 1))
        case "accuracy" | "f1_macro" | "f1_weighted" | "v_measure":
            return frame(labels(rng, classes, strength), classes)
        case "average_precision":
            return frame(strength * gold + noise, gold > 0.5)
        case _:
            return frame(strength * gold + (1 - strength) * noise, np.round(gold, 1))


ALL = [
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
REFERENCES: dict[str, Callable[[Array, Array], float]] = {
    "mean": lambda score, target: score.mean(),
    "accuracy": lambda score, target: metrics.accuracy_score(target, score),
    "f1_macro": lambda score, target: metrics.f1_score(target, score, average="macro"),
    "f1_weighted": lambda score, target: metrics.f1_score(target, score, average="weighted"),
    "spearman": lambda score, target: stats.spearmanr(score, target).statistic,
    "pearson": lambda score, target: stats.pearsonr(score, target).statistic,
    "average_precision": lambda score, target: metrics.average_precision_score(target, score),
    "v_measure": lambda score, target: metrics.v_measure_score(target, score),
}


@pytest.mark.parametrize("statistic", REFERENCES)
def test_a_point_is_what_scipy_and_scikit_learn_compute(statistic: str) -> None:
    samples = example(statistic, 400, np.random.default_rng(3))
    expected = REFERENCES[statistic](samples["score"].to_numpy(), samples["target"].to_numpy())
    assert point(samples, statistic) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=3, max_size=30))
def test_average_precision_takes_ties_together_as_scikit_learn_does(pairs: list[tuple[int, bool]]) -> None:
    score, target = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if not any(target):
        target[0] = True
    expected = metrics.average_precision_score(target, score)
    assert point(frame(score, target), "average_precision") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("statistic", REFERENCES)
def test_a_resample_scores_as_if_its_repeated_samples_were_written_out(statistic: str) -> None:
    samples = example(statistic, 150, np.random.default_rng(4)).sort("sample")
    (stratum,) = strata(samples, statistic)
    counts = bootstrap_counts(150, 3, np.random.default_rng(5))
    values = evaluator(stratum, statistic)(counts)
    for row, value in zip(counts.astype(int), values, strict=True):
        score, target = (samples[column].to_numpy().repeat(row) for column in ("score", "target"))
        assert value == pytest.approx(REFERENCES[statistic](score, target), abs=1e-12)


def test_the_main_score_is_the_mean_over_subsets_of_the_mean_over_replicates() -> None:
    large = frame([1, 1, 0, 0, 1, 1, 1, 1], [1] * 8, replicates=2, subset="deu")
    small = frame([1, 0], [1, 1], subset="fra")
    assert point(pl.concat([large, small]), "accuracy") == pytest.approx((0.75 + 0.5) / 2)


def test_replicates_with_other_samples_each_count_alike() -> None:
    first = frame([1.0, 1.0, 1.0])
    second = frame([0.0]).with_columns(pl.lit(1, dtype=pl.Int32).alias("replicate"))
    assert point(pl.concat([first, second]), "mean") == pytest.approx(0.5)


def test_a_bca_interval_of_a_mean_agrees_with_scipy() -> None:
    score = np.random.default_rng(6).beta(1, 4, 300)
    ours = interval(frame(score), "mean", seed=1, resamples=9999)
    theirs = stats.bootstrap((score,), np.mean, n_resamples=9999, rng=2, batch=500).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)


def test_a_bca_interval_over_two_subsets_agrees_with_scipy() -> None:
    rng = np.random.default_rng(7)
    one, two = rng.beta(1, 4, 200), rng.beta(4, 1, 60)
    both = pl.concat([frame(one, subset="a"), frame(two, subset="b")])
    ours = interval(both, "mean", seed=1, resamples=9999)
    theirs = stats.bootstrap(
        (one, two), lambda x, y, axis: (x.mean(axis) + y.mean(axis)) / 2, n_resamples=9999, rng=2, batch=500
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)


@pytest.mark.parametrize("statistic", ALL)
def test_an_interval_holds_its_point_and_narrows_with_more_samples(statistic: str) -> None:
    few, many = (example(statistic, size, np.random.default_rng(8)) for size in (100, 2500))
    wide, narrow = (interval(samples, statistic, seed=1, resamples=500) for samples in (few, many))
    assert wide.low < point(few, statistic) < wide.high
    assert narrow.low < point(many, statistic) < narrow.high
    assert 3 < (wide.high - wide.low) / (narrow.high - narrow.low) < 8  # about sqrt(2500 / 100) = 5


def test_replicates_do_not_pass_for_more_samples() -> None:
    score = np.random.default_rng(9).random(100) < 0.7
    once = interval(frame(score, np.ones(100)), "accuracy", seed=1)
    tenfold = interval(frame(np.tile(score, 10), np.ones(1000), replicates=10), "accuracy", seed=1)
    assert (tenfold.low, tenfold.high) == pytest.approx((once.low, once.high))


@pytest.mark.parametrize("statistic", ALL)
def test_the_same_seed_gives_the_same_bits_whatever_the_order_of_the_rows(statistic: str) -> None:
    samples = example(statistic, 120, np.random.default_rng(10))
    other = example(statistic, 120, np.random.default_rng(10), strength=0.6)
    shuffled = samples.sample(fraction=1, shuffle=True, seed=3)
    assert interval(samples, statistic, seed=5) == interval(shuffled, statistic, seed=5)
    assert paired_difference(samples, other, statistic, seed=5) == paired_difference(
        shuffled, other.reverse(), statistic, seed=5
    )


def paired_scores(samples: int, rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Two models on the same queries, correlated as retrieval scores are; the candidate is better by 0.05."""
    baseline = rng.beta(0.5, 1, samples)
    return frame(baseline + rng.normal(0.05, 0.2, samples)), frame(baseline)


def test_intervals_contain_a_known_difference_in_93_to_97_of_100_cases() -> None:
    """Expected of a 95 % interval; 500 simulations have a standard error of one point."""
    rng = np.random.default_rng(2024)
    found = [paired_difference(*paired_scores(60, rng), "mean", seed=k, resamples=800) for k in range(500)]
    covered = np.mean([difference.low <= 0.05 <= difference.high for difference in found])
    assert 0.93 <= covered <= 0.97


def correlated(samples: int, rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame, float]:
    """Models that correlate 0.8 and 0.6 with the gold scores; Spearman's is 6/pi asin(r/2) for normals."""
    gold = rng.normal(size=samples)
    noise = rng.normal(size=(2, samples))
    spearman = [6 / np.pi * np.arcsin(r / 2) for r in (0.8, 0.6)]
    return (
        frame(0.8 * gold + 0.6 * noise[0], gold),
        frame(0.6 * gold + 0.8 * noise[1], gold),
        -np.subtract(*spearman[::-1]),
    )


def classified(samples: int, rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame, float]:
    """Two classifiers that know 80 % and 60 % of the answers and guess the rest among eight classes."""
    true = rng.integers(0, 8, samples)
    return frame(labels(rng, true, 0.8), true), frame(labels(rng, true, 0.6), true), 0.2 * 7 / 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statistic", "simulate"), [("spearman", correlated), ("accuracy", classified), ("f1_macro", classified)]
)
def test_intervals_of_other_statistics_cover_as_well(
    statistic: str, simulate: Callable[[int, np.random.Generator], tuple[pl.DataFrame, pl.DataFrame, float]]
) -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for k in range(800):
        ours, theirs, true = simulate(200, rng)
        difference = paired_difference(ours, theirs, statistic, seed=k)
        covered += difference.low <= true <= difference.high
    assert 0.93 <= covered / 800 <= 0.97


def v_measure(samples: pl.DataFrame) -> float:
    return REFERENCES["v_measure"](samples["score"].to_numpy(), samples["target"].to_numpy())


@pytest.mark.slow
def test_v_measure_intervals_cover_the_score_that_a_task_of_this_size_is_expected_to_give() -> None:
    rng = np.random.default_rng(78)
    expected = np.mean([np.subtract(*map(v_measure, classified(150, rng)[:2])) for _ in range(3000)])
    found = [paired_difference(*classified(150, rng)[:2], "v_measure", seed=k) for k in range(800)]
    assert 0.93 <= np.mean([d.low <= expected <= d.high for d in found]) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("statistic", ["mean", "accuracy", "spearman", "average_precision", "v_measure"])
def test_equal_models_are_told_apart_in_about_five_of_100_cases(statistic: str) -> None:
    rng = np.random.default_rng(79)
    rejected = 0
    for k in range(500):
        true, gold = rng.integers(0, 8, 150), rng.normal(size=150)
        if statistic in ("accuracy", "v_measure"):
            pair = [frame(labels(rng, true, 0.6), true) for _ in range(2)]
        else:
            target = gold > 0.5 if statistic == "average_precision" else gold
            pair = [frame(gold + rng.normal(size=150), target) for _ in range(2)]
        rejected += paired_difference(*pair, statistic, seed=k, resamples=800).p_value < 0.05
    assert 0.02 <= rejected / 500 <= 0.08


def test_the_sign_flip_p_value_of_few_samples_is_exact() -> None:
    """With seven queries that all improve, 2 of the 2^7 sign patterns are as extreme."""
    better = paired_difference(frame([0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]), frame([0.1] * 7), "mean", seed=1)
    assert better.p_value == pytest.approx(2 / 2**7)
    assert better.test == "sign flips"


def test_the_sign_flip_p_value_agrees_with_scipy() -> None:
    rng = np.random.default_rng(11)
    ours, theirs = rng.random(80), rng.random(80) + 0.08
    expected = stats.permutation_test(
        (ours, theirs),
        lambda x, y, axis: np.mean(x - y, axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        batch=2000,
        rng=1,
    ).pvalue
    assert paired_difference(frame(ours), frame(theirs), "mean", seed=1).p_value == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("statistic", ALL)
def test_a_model_compared_with_itself_does_not_differ(statistic: str) -> None:
    samples = example(statistic, 100, np.random.default_rng(12))
    same = paired_difference(samples, samples, statistic, seed=1)
    assert (same.estimate, same.low, same.high, same.effect_size, same.p_value) == (0, 0, 0, 0, 1)
    assert verdict(same, 1.0) == "not distinguishable"


@pytest.mark.parametrize("statistic", ALL)
def test_a_large_difference_is_found_with_the_right_sign_and_its_mirror(statistic: str) -> None:
    strong, weak = (example(statistic, 400, np.random.default_rng(13), strength=s) for s in (0.9, 0.4))
    up, down = (
        paired_difference(strong, weak, statistic, seed=1),
        paired_difference(weak, strong, statistic, seed=1),
    )
    assert up.estimate == pytest.approx(point(strong, statistic) - point(weak, statistic))
    assert (verdict(up, up.p_value), verdict(down, down.p_value)) == ("better", "worse")
    assert up.estimate == -down.estimate
    assert up.effect_size is not None
    assert up.effect_size == pytest.approx(-(down.effect_size or 0))


def test_effect_sizes_follow_their_definitions() -> None:
    rng = np.random.default_rng(14)
    ours, theirs = rng.random(50), rng.random(50)
    mean = paired_difference(frame(ours), frame(theirs), "mean", seed=1)
    assert mean.effect == "d_z"
    assert mean.effect_size == pytest.approx((ours - theirs).mean() / (ours - theirs).std(ddof=1))
    one, two, _ = correlated(50, rng)
    correlation = paired_difference(one, two, "pearson", seed=1)
    assert correlation.effect == "q"
    assert correlation.effect_size == pytest.approx(
        np.arctanh(point(one, "pearson")) - np.arctanh(point(two, "pearson"))
    )
    constant = paired_difference(frame([0.5] * 9), frame([0.25] * 9), "mean", seed=1)
    assert constant.effect_size is None  # infinite: no spread at all


@pytest.mark.parametrize("statistic", ALL)
def test_five_thousand_samples_take_less_than_two_seconds(statistic: str) -> None:
    samples = example(statistic, 5000, np.random.default_rng(15))
    started = time.process_time()
    interval(samples, statistic, seed=1)
    assert time.process_time() - started < 2


def test_frames_must_hold_the_same_samples() -> None:
    whole = frame([0.1, 0.2, 0.3])
    with pytest.raises(StatisticsError, match=r"1 are the candidate's alone and 0 the baseline's alone .*'q2'"):
        paired_difference(whole, whole.filter(pl.col("sample") != "q2"), "mean", seed=1)
    with pytest.raises(StatisticsError, match="same samples"):
        paired_difference(whole, frame([0.1, 0.2, 0.3], subset="deu"), "mean", seed=1)


def test_frames_must_hold_the_same_targets() -> None:
    with pytest.raises(StatisticsError, match="same targets"):
        paired_difference(frame([1, 2, 3], [1, 2, 3]), frame([1, 2, 3], [1, 2, 4]), "spearman", seed=1)


@pytest.mark.parametrize(
    ("samples", "statistic", "message"),
    [
        (frame([0.5]), "median", "expected one of the statistics mean, lrap"),
        (frame([]), "mean", "no score at all"),
        (frame([0.5, float("nan")]), "mean", "finite score .*'q1' of test/default"),
        (frame([0.5, 0.1]), "spearman", "finite target"),
        (frame([0.5, 0.5, 0.5], [1, 2, 3]), "spearman", "neither zero nor constant"),
        (frame([0.5]).drop("replicate"), "mean", "column.s. replicate"),
    ],
)
def test_scores_that_cannot_be_used_are_refused(samples: pl.DataFrame, statistic: str, message: str) -> None:
    with pytest.raises(StatisticsError, match=message):
        point(samples, statistic)


def test_holm_adjusts_as_worked_by_hand() -> None:
    """0.01 x 4, then max(0.03 x 3, ...), and so on down the sorted list (Holm 1979)."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.7, 0.9]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)


def difference(estimate: float, low: float, high: float, error: float = 0.01) -> PairedDifference:
    return PairedDifference(estimate, low, high, 0.001, 0.5, "d_z", error, 1000, "sign flips")


@pytest.mark.parametrize(
    ("found", "p_adjusted", "minimum", "expected"),
    [
        (difference(0.05, 0.03, 0.07), 0.001, 0.0, "better"),
        (difference(-0.05, -0.07, -0.03), 0.001, 0.0, "worse"),
        (difference(0.05, 0.03, 0.07), 0.2, 0.0, "not distinguishable"),
        (difference(0.05, -0.01, 0.11), 0.001, 0.0, "not distinguishable"),
        (difference(0.002, 0.001, 0.003), 0.001, 0.005, "not distinguishable"),
    ],
)
def test_a_verdict_needs_the_test_the_interval_and_the_least_difference(
    found: PairedDifference, p_adjusted: float, minimum: float, expected: str
) -> None:
    assert verdict(found, p_adjusted, minimum=minimum) == expected


def test_a_sentence_says_what_was_found_in_numbers() -> None:
    worse = sentence("SciFact", "qwen25", "minilm", difference(-0.5554, -0.61, -0.5), 0.0001, "worse")
    assert worse == (
        "SciFact: qwen25 is worse than minilm (-0.5554 [-0.6100, -0.5000] over 1,000 samples, adjusted p < 0.001)."
    )
    tie = sentence("STS12", "a", "b", difference(0.01, -0.01, 0.03), 0.312, "not distinguishable")
    assert tie.startswith("STS12: a and b are not distinguishable with this data (+0.0100 [")
    assert "adjusted p = 0.312" in tie


def test_a_mean_of_differences_combines_their_errors() -> None:
    mean = mean_difference([difference(0.1, 0, 0, error=0.03), difference(0.2, 0, 0, error=0.04)])
    assert mean.estimate == pytest.approx(0.15)
    assert mean.standard_error == pytest.approx(0.025)  # sqrt(0.03^2 + 0.04^2) / 2
    assert (mean.low, mean.high) == pytest.approx((0.15 - 1.96 * 0.025, 0.15 + 1.96 * 0.025), abs=1e-4)
    with pytest.raises(StatisticsError, match="at least one difference"):
        mean_difference([])
