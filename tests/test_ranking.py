"""Ranks of many models: what is told apart is different, intervals hold the true ranks, and all models share resamples."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import report_data
from embrepro.benchmarking import speed as sp
from embrepro.rendering import drawing, render_html, render_markdown
from embrepro.report import run_report
from embrepro.report.sections import status
from embrepro.results import comparison
from embrepro.results import summary as sm
from embrepro.results.comparison import Scored
from embrepro.results.ranking import rank
from embrepro.results.summary import Ranking
from embrepro.statistics import estimates, ranking
from embrepro.statistics.resampling import StatisticsError
from embrepro.tasks.samples import SCHEMA, Samples


def frame(scores: np.ndarray, targets: np.ndarray | None = None) -> pl.DataFrame:
    """Per-sample scores of one split."""
    rows = len(scores)
    return pl.DataFrame(
        {
            "split": ["test"] * rows,
            "subset": ["default"] * rows,
            "sample": [str(row) for row in range(rows)],
            "replicate": [0] * rows,
            "score": scores.astype(float),
            "target": [None] * rows if targets is None else targets.astype(float),
        },
        schema=SCHEMA,
    )


def scores(means: np.ndarray, samples: int, seed: object) -> np.ndarray:
    """Scores of samples (samples, models) that are hard for all models or for none: a correlation of 0.8."""
    rng = np.random.default_rng(seed)  # type: ignore[arg-type]
    shared, own = rng.standard_normal((samples, 1)), rng.standard_normal((samples, len(means)))
    return np.asarray(means + 0.3 * (np.sqrt(0.8) * shared + np.sqrt(0.2) * own))


def draws(means: np.ndarray, samples: int, tasks: int, seed: int) -> ranking.Draws:
    return ranking.mean_draws(
        [
            ranking.joint_draws(
                [frame(column) for column in scores(means, samples, [seed, task]).T], "mean", name=str(task), seed=seed
            )
            for task in range(tasks)
        ]
    )


def test_estimates_and_errors_are_those_of_the_paired_test_of_two() -> None:
    one, other = (frame(column) for column in scores(np.array([0.5, 0.45]), 200, 1).T)
    tests = ranking.all_pairs(ranking.joint_draws([one, other], "mean", name="task", seed=3))
    paired = estimates.paired_difference(one, other, "mean", seed=3)
    assert tests.differences[0, 1] == pytest.approx(paired.estimate, abs=1e-12)
    assert tests.errors[0, 1] == pytest.approx(paired.standard_error, rel=0.06)


def test_v_measure_has_the_error_of_the_paired_jackknife() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 5, 400)
    one, other = (
        frame(np.where(rng.random(400) < right, labels, rng.integers(0, 5, 400)), labels) for right in (0.7, 0.6)
    )
    tests = ranking.all_pairs(ranking.joint_draws([one, other], "v_measure", name="task", seed=3))
    paired = estimates.paired_difference(one, other, "v_measure", seed=3)
    assert tests.differences[0, 1] == pytest.approx(paired.estimate, abs=1e-12)
    assert tests.errors[0, 1] == pytest.approx(paired.standard_error, rel=0.1)


def test_two_tasks_are_resampled_independently_and_each_the_same_way_again() -> None:
    column = frame(scores(np.array([0.5]), 100, 1)[:, 0])
    one, again, other = (ranking.joint_draws([column], "mean", name=name, seed=3) for name in ("a", "a", "b"))
    assert np.array_equal(one.deviations, again.deviations)
    assert abs(np.corrcoef(one.deviations[:, 0], other.deviations[:, 0])[0, 1]) < 0.1


def test_models_on_other_samples_are_refused() -> None:
    column = scores(np.array([0.5]), 50, 1)[:, 0]
    with pytest.raises(StatisticsError, match="the same samples"):
        ranking.joint_draws([frame(column), frame(column[:-1])], "mean", name="task", seed=3)


def test_models_of_known_order_have_their_ranks_in_the_intervals_and_equal_ones_are_not_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The level holds over 60 simulations: with a true rate of 5 %, more than 8 would come once in a hundred times."""
    monkeypatch.setattr(ranking, "RESAMPLES", 300)
    means = np.array([0.6, 0.6, 0.6, 0.55, 0.5])
    possible = [(1, 3), (1, 3), (1, 3), (4, 4), (5, 5)]
    equal = means[:, None] == means[None, :]
    wrong, missed, found = 0, 0, 0
    for seed in range(60):
        tests = ranking.all_pairs(draws(means, 60, 4, seed))
        wrong += bool((tests.distinct & equal).any())
        intervals = ranking.rank_intervals(tests)
        missed += any(
            low > best or high < worst for (low, high), (best, worst) in zip(intervals, possible, strict=True)
        )
        found += int((tests.distinct & ~equal).sum())
    assert wrong <= 8
    assert missed <= 8
    assert found > 0.8 * 60 * 14


def test_groups_are_the_largest_sets_that_cannot_be_told_apart() -> None:
    # Differences below 0.3 are not told apart: a chain, in which each group overlaps the next.
    estimates_ = np.array([1.0, 0.8, 0.6, 0.0])
    differences = estimates_[:, None] - estimates_[None, :]
    p_values = np.where(np.abs(differences) < 0.3, 1.0, 0.001)
    tests = ranking.PairTests(differences, np.ones((4, 4)), p_values, 2.0, 0.95)
    assert ranking.groups(tests, [0, 1, 2, 3]) == [[0, 1], [1, 2], [3]]
    assert ranking.rank_intervals(tests) == [(1, 2), (1, 3), (2, 3), (4, 4)]


def test_equal_models_share_the_best_rank() -> None:
    assert ranking.ranks(np.array([0.5, 0.7, 0.5, 0.1])).tolist() == [2, 1, 2, 4]


def test_a_difference_that_can_just_be_detected_is_found_four_times_in_five() -> None:
    gap = float(ranking.all_pairs(draws(np.array([0.5, 0.5]), 100, 1, 0)).detectable()[0, 1])
    found = [
        ranking.all_pairs(draws(np.array([0.5 + gap, 0.5]), 100, 1, seed)).distinct[0, 1] for seed in range(1, 101)
    ]
    assert 0.7 < np.mean(found) < 0.95


# --- What a run says of many models

TYPES = {"Search": "Retrieval", "Second": "Retrieval", "Pairs": "PairClassification"}


def scored(means: dict[str, float], samples: int = 150) -> dict[str, dict[str, Scored]]:
    """Scores of models with these true means on three tasks."""
    found: dict[str, dict[str, Scored]] = {key: {} for key in means}
    for place, task in enumerate(TYPES):
        columns = scores(np.array(list(means.values())), samples, [9, place]).T
        for key, column in zip(means, columns, strict=True):
            found[key][task] = Scored(float(column.mean()), Samples("mean", [frame(column)]))
    return found


MEANS = {"fast": 0.5, "good": 0.62, "alike": 0.62, "bad": 0.3}


@pytest.fixture(scope="module")
def found() -> Ranking:
    ranked = rank(scored(MEANS), TYPES, seed=42)
    assert ranked is not None
    return ranked


def test_the_ranking_of_known_models(found: Ranking) -> None:
    assert [model.key for model in found.models[2:]] == ["fast", "bad"]
    assert {model.key: (model.rank_low, model.rank_high) for model in found.models} == {
        "good": (1, 2),
        "alike": (1, 2),
        "fast": (3, 3),
        "bad": (4, 4),
    }
    assert sorted(map(sorted, found.groups)) == [["alike", "good"], ["bad"], ["fast"]]
    assert found.models[3].losses == 9 == found.models[3].comparisons
    assert found.models[0].without_a_task in ((1, 1), (1, 2))
    assert found.models[3].by_averaging == dict.fromkeys(found.models[3].by_averaging, 4)
    assert {kind: sorted(keys) for kind, keys in found.best_by_type.items()} == {
        "PairClassification": ["alike", "good"],
        "Retrieval": ["alike", "good"],
    }


def test_a_model_without_a_score_is_named_and_not_ranked() -> None:
    values = scored(MEANS)
    del values["bad"]["Pairs"]
    ranked = rank(values, TYPES, seed=42)
    assert ranked is not None
    assert ranked.unranked == {"bad": "1 of 3 tasks missing"}
    assert "bad" not in {model.key for model in ranked.models}
    del values["fast"]["Pairs"]
    assert rank(values, TYPES, seed=42) is None, "two models are a comparison"


def test_a_task_without_samples_counts_and_is_named() -> None:
    values = scored(MEANS)
    for key in values:
        values[key]["Pairs"] = Scored(values[key]["Pairs"].score, None)
    ranked = rank(values, TYPES, seed=42)
    assert ranked is not None
    assert list(ranked.untested) == ["Pairs"]
    expected = np.mean([values["good"][task].score for task in TYPES])
    assert next(model.mean_task for model in ranked.models if model.key == "good") == pytest.approx(expected)


@pytest.fixture(scope="module")
def reported(found: Ranking) -> tuple[str, str]:
    """The report of the four models, as Markdown and as HTML."""
    values = scored(MEANS)
    roles = {"good": "candidate", "fast": "baseline"}
    card = report_data.cards()[report_data.BASELINE]
    cards = {key: card.model_copy(update={"key": key, "role": roles.get(key, "other")}) for key in MEANS}
    rows = [
        sm.TaskRow(
            name=task,
            type=kind,
            metric="ndcg_at_10",
            cells={key: sm.Cell(status="scored", score=values[key][task].score) for key in MEANS},
        )
        for task, kind in TYPES.items()
    ]
    means = {key: comparison.means({task: values[key][task].score for task in TYPES}, TYPES) for key in MEANS}
    summary = report_data.summary(
        baseline="fast", candidate="good", models=cards, tasks=rows, means=means, ranking=found, recommendations=[],
        mean_differences=sm.MeanDifferences(), histograms=[], legacy=[], claims=[],
    )  # fmt: skip
    sizes = {"fast": (9000.0, 10.0), "good": (60.0, 90.0), "alike": (120.0, 45.0), "bad": (800.0, 30.0)}
    speed = report_data.speed().model_copy(
        update={"baseline": "fast", "models": {
            key: report_data.model_speed(key, rate, 5.0, size, 64) for key, (rate, size) in sizes.items()
        }, "throughput_ratio": {
            key: sp.RepeatedMeasure(median=rate / 9000, low=rate / 9000, high=rate / 9000, repeats=9)
            for key, (rate, _) in sizes.items()
            if key != "fast"
        }, "latency_ratio": {}}
    )  # fmt: skip
    document = run_report.build(summary, report_data.provenance(), speed)
    return render_markdown.render(document), render_html.render(document)


def test_the_report_says_who_leads_and_what_to_pick(reported: tuple[str, str], found: Ranking) -> None:
    first, second = (model.key for model in found.models[:2])
    text, page = reported
    assert f"{first} has the highest mean over tasks" in text
    assert f"{second} cannot be told apart from it with this data" in text
    assert "the fastest is alike" in text
    assert "fast is the fastest of all" in text
    assert "By task type, the best and those like it: PairClassification:" in text
    for name in ("ranking", "robustness", "scores", "pairs"):
        assert f'id="table-{name}"' in page, name


def test_a_table_of_differences_has_but_the_two_compared_models_where_there_are_many(reported: tuple[str, str]) -> None:
    head = next(line for line in reported[0].splitlines() if line.startswith("| Task | Type | Metric"))
    assert "fast" in head
    assert "good" in head
    assert "alike" not in head


def test_four_models_have_a_row_each_and_not_a_column(reported: tuple[str, str]) -> None:
    """So that ten of them fit on a page as well."""
    heads = [
        line
        for line in reported[0].splitlines()
        if line.startswith(("| Model |", "| Task |", "| Quantity", "| Property"))
    ]
    speed = next(head for head in heads if "Time to load" in head)
    assert "Throughput" in speed
    assert next(head for head in heads if "Scored" in head).count("|") == 8
    assert next(head for head in heads if "Similarity" in head).startswith("| Model |")
    # Only the table of all scores has a column for each.
    assert sum("alike" in head and "bad" in head for head in heads) == 1


def test_charts_of_many_models_number_them_and_name_the_others_together(
    reported: tuple[str, str], found: Ranking
) -> None:
    page = reported[1]
    for place, model in enumerate(found.models, 1):
        assert page.count(f"</i>{place} {model.key}</li>") == 2
    assert page.count("</i>2 others</li>") == 4
    assert page.count('id="figure-latency-') == 2


def test_labels_cover_no_point_and_no_other_label() -> None:
    """Ten points within 30 pixels, as models of one speed stand."""
    rng = np.random.default_rng(3)
    points = [(200 + 15 * float(x), 100 + 80 * float(y)) for x, y in rng.random((10, 2))]
    labels = [str(place) for place in range(1, 11)]
    found = drawing.labels_beside(points, labels, 265)
    boxes = [
        (x - 3.3 * len(text), x + 3.3 * len(text), y - 6, y + 6) for (x, y), text in zip(found, labels, strict=True)
    ]
    marks = [(x - 5, x + 5, y - 5, y + 5) for x, y in points]
    for place, (left, right, top, bottom) in enumerate(boxes):
        assert left >= 0 and right <= 265
        others = [*boxes[:place], *boxes[place + 1 :], *marks]
        assert not any(left < one[1] and one[0] < right and top < one[3] and one[2] < bottom for one in others), place


def test_the_models_that_lost_a_task_are_named_by_reason() -> None:
    scored, lost = sm.Cell(status="scored", score=0.5), sm.Cell(status="not in the mirror")
    count, why = status._of_many({"a": scored, "b": lost, "c": None, "d": lost})
    assert (count.text, count.tone) == ("1 of 4", "missing")
    assert why.text == "b, d: not in the mirror; c: not run"
