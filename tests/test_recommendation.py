"""Winners by use case: rules over measured values, with their uncertainty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from embrepro.benchmarking.speed import Latency, Machine, ModelSpeed, RepeatedMeasure, SpeedReport, Throughput
from embrepro.errors import ConfigError
from embrepro.recommendation.evidence import Evidence
from embrepro.recommendation.rules import RecommendationRules, read_rules, recommend
from embrepro.results.quantities import Measurements, read_quantity
from embrepro.results.summary import Cell, Interval, ModelCard, Recommendation, ScoreDifference, TaskRow

RULES = Path(__file__).parents[1] / "conf" / "documents" / "recommendation"
DEFAULT, ANALYSIS, OVERVIEW = (RULES / f"{name}.yaml" for name in ("default", "analysis", "overview"))
EXACT = RepeatedMeasure(median=1.0, low=1.0, high=1.0, repeats=1)


def row(name: str, scores: tuple[float, float], spread: float = 0.02, task_type: str = "Retrieval") -> TaskRow:
    """One task with the candidate's and the baseline's score."""
    cells = {
        key: Cell(status="scored", score=score, interval=Interval(low=score - spread, high=score + spread))
        for key, score in zip(("fast", "good"), scores, strict=True)
    }
    change = scores[0] - scores[1]
    difference = ScoreDifference(
        estimate=change,
        interval=Interval(low=change - spread, high=change + spread),
        outcome="not distinguishable" if abs(change) <= spread else "better" if change > 0 else "worse",
        sentence="",
    )
    return TaskRow(name=name, type=task_type, metric="ndcg_at_10", cells=cells, difference=difference)


def speed(model: str, texts: float, milliseconds: float) -> ModelSpeed:
    measured = RepeatedMeasure(median=texts, low=0.95 * texts, high=1.05 * texts, repeats=5)
    setting = Throughput(
        length="medium", tokens_per_text=30, batch_size=32, texts_per_second=measured, tokens_per_second=EXACT
    )
    samples = [milliseconds * (0.9 + 0.002 * step) for step in range(100)]
    return ModelSpeed(
        model=model,
        load_seconds=EXACT,
        peak_memory_mb=500,
        throughput=[setting],
        latency=Latency(p50=milliseconds, p95=milliseconds, p99=milliseconds, samples=samples),
        size_mb=1,
        dimensions=256,
        parameters=1,
        max_seq_length=None,
        normalised=True,
    )


def card(key: str, size_mb: float | None) -> ModelCard:
    return ModelCard(
        key=key,
        name=key,
        role="candidate",
        family="static",
        revision="1",
        source="folder",
        content_hash="0",
        size_mb=size_mb,
    )


def evidence(
    rows: list[TaskRow],
    *,
    fast: tuple[float, float] | None = (10_000, 0.4),
    good: tuple[float, float] = (100, 12.0),
    sizes: tuple[float | None, float] = (30, 90),
) -> Evidence:
    report = None
    if fast is not None:
        machine = Machine(processor="p", cores=2, threads=2, device="cpu", memory_gb=8, system="Linux")
        report = SpeedReport(
            baseline="good",
            machine=machine,
            models={"fast": speed("fast", *fast), "good": speed("good", *good)},
            throughput_ratio={},
            latency_ratio={},
        )
    models = {"fast": card("fast", sizes[0]), "good": card("good", sizes[1])}
    return Evidence(candidate="fast", baseline="good", tasks=rows, models=models, speed=report)


def decide(found: Evidence, title: str) -> Recommendation:
    return next(each for each in recommend(read_rules(DEFAULT), found) if each.use_case == title)


SUITE = [
    row("EmbreproInstructionAwareness", (0.55, 0.60), 0.1, "Reranking"),
    row("EmbreproCodeUnderstanding", (0.70, 0.90), 0.05, "Reranking"),
]


def test_the_seven_use_cases_of_the_analysis_are_decided() -> None:
    decided = recommend(read_rules(DEFAULT), evidence(SUITE))
    assert [(each.use_case, each.winner) for each in decided] == [
        ("Retrieval quality", "good"),
        ("High throughput", "fast"),
        ("Edge deployment (size on disk)", "fast"),
        ("Real-time latency", "fast"),
        ("Compute cost", "fast"),
        ("Instruction-aware search", None),
        ("Code search", "good"),
    ]
    assert not any(each.claimed for each in decided)


def test_a_claimed_winner_stands_only_in_a_run_of_the_models_that_the_claim_is_about() -> None:
    renamed = evidence(SUITE).model_copy(
        update={"candidate": "qwen25", "baseline": "minilm", "tasks": [], "models": {}}
    )
    assert [each.claimed for each in recommend(read_rules(ANALYSIS), renamed)] == ["minilm"] * 4 + ["qwen25"] * 7
    other = renamed.model_copy(update={"candidate": "mpnet"})
    assert not any(each.claimed for each in recommend(read_rules(ANALYSIS), other))
    quick_start = [each.claimed for each in recommend(read_rules(OVERVIEW), other)]
    assert quick_start == ["mpnet", "minilm", None, None, None, None]


def test_a_claimed_winner_must_be_one_of_the_compared_models() -> None:
    content = yaml.safe_load(ANALYSIS.read_text(encoding="utf-8"))
    content["use_cases"][0]["claimed"] = "minilmm"
    with pytest.raises(ValueError, match="claimed names minilmm"):
        RecommendationRules.model_validate(content)


def test_the_reason_names_the_limit_the_difference_and_its_interval() -> None:
    found = evidence([row("SciFact", (0.40, 0.61), 0.03)], good=(100, 40))
    assert decide(found, "Real-time latency").reason == (
        "latency p95: fast 0.44 ms <= 10 ms, good 43.5 ms > 10 ms; "
        "retrieval and reranking score lower by 0.210 [0.180, 0.240]"
    )


def test_where_both_fit_quality_decides_and_the_reason_is_told_from_the_winner() -> None:
    real_time = decide(evidence([row("SciFact", (0.40, 0.61), 0.03)], good=(100, 8)), "Real-time latency")
    assert (real_time.outcome, real_time.winner) == ("baseline", "good")
    assert "score higher by 0.210 [0.180, 0.240]" in real_time.reason


def test_a_tie_is_called_a_tie() -> None:
    tie = decide(evidence([row("SciFact", (0.60, 0.61), 0.03)]), "Retrieval quality")
    assert (tie.outcome, tie.winner) == ("tie", None)
    assert "not distinguishable (-0.010 [-0.040, +0.020])" in tie.reason


def test_a_difference_that_the_correction_for_many_tasks_undoes_is_a_tie() -> None:
    """The interval alone excludes zero; the comparison of the task calls it not distinguishable."""
    plain = row("SciFact", (0.55, 0.61), 0.05)
    corrected = plain.difference.model_copy(update={"outcome": "not distinguishable"})  # type: ignore[union-attr]
    tie = decide(evidence([plain.model_copy(update={"difference": corrected})]), "Retrieval quality")
    assert tie.outcome == "tie"
    assert "not distinguishable (-0.060 [-0.110, -0.010])" in tie.reason


def test_a_difference_too_small_to_matter_is_a_tie_though_it_is_certain() -> None:
    assert decide(evidence([row("SciFact", (0.601, 0.604), 0.001)]), "Retrieval quality").outcome == "tie"


def test_throughput_within_its_uncertainty_is_a_tie() -> None:
    found = evidence([row("SciFact", (0.6, 0.6))], fast=(108, 0.4), good=(100, 12))
    assert decide(found, "High throughput").outcome == "tie"


def test_a_fast_model_without_quality_does_not_win_by_speed() -> None:
    """As the static model of the analysis: 13.44 % against 58.71 %."""
    useless = decide(evidence([row("SciFact", (0.1344, 0.5871))]), "High throughput")
    assert useless.winner == "good"
    assert "fast 0.13 < 0.44, good 0.59 >= 0.44 (75% of the better)" in useless.reason
    assert "throughput 100 texts/s against 10,000 texts/s, 0.01x" in useless.reason


def test_an_interval_that_straddles_a_limit_does_not_meet_it() -> None:
    found = decide(evidence([row("SciFact", (0.6, 0.6))], fast=(10_000, 9.15), good=(100, 40)), "Real-time latency")
    assert found.outcome == "neither"
    assert "not safely <= 10 ms" in found.reason


def test_what_was_not_measured_is_named_and_not_guessed() -> None:
    found = evidence([row("SciFact", (0.6, 0.6))], fast=None, sizes=(None, 90))
    assert {each.use_case: (each.outcome, each.reason) for each in recommend(read_rules(DEFAULT), found)} == {
        "Retrieval quality": (
            "tie",
            "retrieval and reranking score not distinguishable (+0.000 [-0.020, +0.020]); "
            "no latency p95: fast was not benchmarked in this run; no latency p95: good was not benchmarked in this run",
        ),
        "High throughput": (
            "not measured",
            "no throughput: fast was not benchmarked in this run; no throughput: good was not benchmarked in this run",
        ),
        "Edge deployment (size on disk)": ("not measured", "no size on disk: size_mb of fast: not recorded"),
        "Real-time latency": (
            "not measured",
            "no latency p95: fast was not benchmarked in this run; no latency p95: good was not benchmarked in this run",
        ),
        "Compute cost": (
            "not measured",
            "no throughput: fast was not benchmarked in this run; no throughput: good was not benchmarked in this run",
        ),
        "Instruction-aware search": (
            "not measured",
            "no instruction awareness: the run has no task of EmbreproInstructionAwareness",
        ),
        "Code search": (
            "not measured",
            "no code understanding: the run has no task of EmbreproCodeUnderstanding",
        ),
    }


def test_one_missing_task_leaves_no_mean_over_the_others() -> None:
    gone = row("NFCorpus", (0.3, 0.3)).model_copy(
        update={"cells": {"fast": Cell(status="not in the mirror"), "good": Cell(status="scored", score=0.3)}}
    )
    found = decide(evidence([row("SciFact", (0.4, 0.6)), gone]), "Retrieval quality")
    assert found.outcome == "not measured"
    assert "not both models have a score on NFCorpus" in found.reason


def test_the_uncertainty_of_a_mean_shrinks_with_the_number_of_tasks() -> None:
    found = evidence([row(f"T{index}", (0.5, 0.6), 0.04) for index in range(4)])
    assert "lower" not in decide(found, "Retrieval quality").reason
    assert "higher by 0.100 [0.080, 0.120]" in decide(found, "Retrieval quality").reason  # 0.04 / sqrt(4)


def test_a_latency_percentile_has_an_order_statistics_interval() -> None:
    """The median of 1..100 lies between the 40th and 61st with 95 % (binomial, n = 100, p = 0.5)."""
    model = speed("fast", 1, 1.0).model_copy(
        update={"latency": Latency(p50=50.5, p95=95, p99=99, samples=[float(n) for n in range(1, 101)])}
    )
    found = read_quantity("latency_p50_ms", "fast", Measurements(speed=model))
    assert not isinstance(found, str)
    assert (found.value, found.interval) == (50.5, Interval(low=40.0, high=61.0))


def test_a_percentile_of_too_few_queries_decides_nothing() -> None:
    """Of 30 queries none need lie above the 99th percentile, so nothing bounds it from above."""
    few = speed("fast", 1, 1.0)
    few = few.model_copy(update={"latency": few.latency.model_copy(update={"samples": few.latency.samples[:30]})})
    reading = read_quantity("latency_p99_ms", "fast", Measurements(speed=few))
    assert not isinstance(reading, str)
    assert reading.interval is None and reading.why_no_interval.endswith("too few for an interval, which takes 368")
    found = evidence([row("SciFact", (0.6, 0.6))])
    assert found.speed is not None
    models = found.speed.models | {"fast": few}
    found = found.model_copy(update={"speed": found.speed.model_copy(update={"models": models})})
    decided = decide(found, "Real-time latency")
    assert (decided.outcome, decided.winner) == ("not measured", None)
    assert "no latency p95 of fast: 30 queries are too few for an interval, which takes 72" in decided.reason


def test_a_difference_that_was_not_tested_decides_nothing() -> None:
    bare = row("SciFact", (0.4, 0.6))
    untested = ScoreDifference(estimate=-0.2, outcome="not tested", sentence="")
    found = decide(evidence([bare.model_copy(update={"difference": untested})]), "Retrieval quality")
    assert found.outcome == "not measured"
    assert "the difference on SciFact was not tested" in found.reason


def test_a_model_is_not_compared_with_itself() -> None:
    with pytest.raises(ValueError, match="two models"):
        Evidence(candidate="good", baseline="good", tasks=[], models={})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_cases": [{"id": "x", "title": "x", "prefer": [{"measure": "fun"}]}]}, "no measure fun"),
        ({"use_cases": [{"id": "x", "title": "x", "prefer": []}]}, r"use_cases\.'x'\.prefer"),
        ({"measures": {"m": {"kind": "quantty", "label": "mood"}}}, r"measures\.m: .*did you mean quantity"),
        (
            {"measures": {"m": {"kind": "quantity", "label": "x", "name": "sise_mb"}}},
            r"measures\.m.*did you mean size_mb",
        ),
        ({"measures": {"m": {"kind": "quantity", "label": "x", "name": "dimensions"}}}, "no rule can rest on it"),
        ({"measures": {"m": {"kind": "quantity", "labl": "x"}}}, r"measures\.m\.labl: unknown key; did you mean label"),
        ({"use_case": []}, "use_case: unknown key; did you mean use_cases"),
    ],
)
def test_wrong_rules_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    content = yaml.safe_load(DEFAULT.read_text(encoding="utf-8")) | change
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_rules(path)


def test_a_requirement_has_one_limit() -> None:
    content = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    content["use_cases"][3]["require"][0]["at_least"] = 1
    with pytest.raises(ValueError, match="exactly one of"):
        RecommendationRules.model_validate(content)
