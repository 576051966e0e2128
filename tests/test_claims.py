"""Claims files and the verdicts that follow from them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import REPOSITORY
from embrepro.cases.records import CaseRecord
from embrepro.claims.known_values import KnownValues, collect_known_values
from embrepro.claims.verdicts import Claim, Verdict, judge_claims, read_claims
from embrepro.config.model_files import published_values, read_model_files
from embrepro.errors import ConfigError
from embrepro.regression import published
from embrepro.results.quantities import QUANTITIES, table_of_quantities
from embrepro.results.result_files import ResultNumbers, read_numbers
from embrepro.results.summary import Cell, LegacyScore, ModelCard, TaskRow

CLAIMS = Path(__file__).parents[1] / "conf" / "documents" / "claims"

# Every statement of the analysis (2025-10-14) by group, and how many of its numbers and readings are claims.
STATEMENTS = {
    "task_scores": 6,
    "average_minilm": 2,
    "average_qwen25": 2,
    "differences": 10,
    "four_failed": 15,
    "evaluation_time": 2,
    "speedup": 4,
    "latency": 4,
    "size": 4,
    "custom_overall": 3,
    "custom_instruction": 1,
    "custom_semantic": 1,
    "custom_code": 2,
    "custom_baseline": 6,
    "instruction_unique": 2,
    "full_mteb": 2,
}

# Every number that the analysis claims, in the order in which its text brings them, in the text's own units.
NUMBERS = """
1024 65 80
80.04 28.95 -51.09 31.59 2.39 -29.21 64.51 8.97 -55.54 58.71 13.44 -45.27
4.7e-06 5.2e-06 4.5e-06 4.7e-06
58.71 80 31 64 52
13.44 68.2 2 9 29 50 500 1000
3 2 95.3 95.0 86.4
-45 55 60 8 13 -19 500 1000 50 100 1 50 100
100 1000 10 10 100 86.4
-8
4 8 58
"""


def claim(metric: dict[str, Any], claimed: dict[str, float] | None, **more: Any) -> Claim:
    content = {"id": "it", "where": "here", "says": "so", "metric": metric, "claimed": claimed} | more
    return Claim.model_validate(content)


def verdict(
    metric: dict[str, Any],
    claimed: dict[str, float] | None,
    facts: KnownValues | None = None,
    **more: Any,
) -> Verdict:
    (found,) = judge_claims([claim(metric, claimed, **more)], facts or KnownValues())
    return found


SCORE = {"kind": "score", "model": "minilm", "task": "SciFact"}
RUN = KnownValues(
    scores={
        "minilm": {"SciFact": 0.64508, "SICK-R": 0.7758, "NFCorpus": None},
        "potion": {"SciFact": 0.30, "SICK-R": 0.70, "NFCorpus": None},
    },
    status={
        model: {"SciFact": "scored", "SICK-R": "scored", "NFCorpus": "not in the mirror"}
        for model in ("minilm", "potion")
    },
    legacy={"potion": {"first": {"overall": 0.7}}},
    quantities={
        "minilm": {"latency_p50_ms": 8.0, "size_mb": 91.2},
        "potion": {"latency_p50_ms": 0.1, "size_mb": 30.4, "load_seconds": "potion was not benchmarked in this run"},
    },
    numbers={
        "minilm": {
            "MSMARCO": [
                ResultNumbers(split="dev", subset="default", numbers={"main_score": 0.36, "mrr_at_10": 0.31}),
                ResultNumbers(split="test", subset="default", numbers={"main_score": 0.6, "mrr_at_10": 0.8}),
            ]
        }
    },
    benchmarks={"MTEB(eng, v1)": 56},
)


CASE = {
    "empty_sick_r": "reproduced",
    "empty_stsbenchmark": "reproduced",
    "empty_sprint": "not measured",
    "empty_newsgroups": "not measured",
    "time_sick_r": "reproduced",
    "time_stsbenchmark": "reproduced",
    "time_sprint": "not measured",
    "time_newsgroups": "not measured",
    "four_failed": "refuted",
    "cause_download": "refuted",
    "cause_version": "refuted",
    "cause_setup": "refuted",
    "cause_silence": "reproduced",
}
"""Verdicts by what mteb 1.39.7 did: its filter by "en" left nothing of SICK-R and STSBenchmark, "eng" scored both."""


class TestVerdicts:
    def test_a_value_within_the_tolerance_is_reproduced(self) -> None:
        found = verdict(SCORE, {"value": 64.51, "tolerance": 0.05}, RUN, unit="%")
        assert (found.verdict, found.measured, found.claimed) == ("reproduced", "64.51 %", "64.51 %")

    def test_a_value_outside_it_is_refuted_with_the_distance(self) -> None:
        found = verdict(SCORE, {"value": 70, "tolerance": 1}, RUN, unit="%")
        assert found.verdict == "refuted"
        assert found.explanation == "5.49 points below the claim, where 1 would still agree."

    @pytest.mark.parametrize(
        ("claimed", "expected"),
        [
            ({"at_least": 500, "at_most": 1000}, "refuted"),
            ({"at_least": 80}, "reproduced"),
            ({"at_most": 80}, "reproduced"),
            ({"at_most": 79}, "refuted"),
        ],
    )
    def test_a_relation_holds_or_not(self, claimed: dict[str, float], expected: str) -> None:
        ratio = {
            "kind": "ratio",
            "left": {"kind": "quantity", "model": "minilm", "name": "latency_p50_ms"},
            "right": {"kind": "quantity", "model": "potion", "name": "latency_p50_ms"},
        }
        assert verdict(ratio, claimed, RUN, unit="x").verdict == expected  # 8 / 0.1 = 80

    def test_a_model_that_was_not_run_is_not_measured_and_says_so(self) -> None:
        found = verdict(SCORE | {"model": "qwen25"}, {"value": 9, "tolerance": 1}, RUN)
        assert found.verdict == found.measured == "not measured"
        assert "qwen25 is not in this run (there: minilm, potion)" in found.explanation

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("load_seconds", "potion was not benchmarked in this run"),
            ("dimensions", "dimensions of potion: not recorded"),
        ],
    )
    def test_a_quantity_that_was_not_measured_says_why(self, name: str, reason: str) -> None:
        found = verdict({"kind": "quantity", "model": "potion", "name": name}, {"at_least": 1}, RUN)
        assert (found.verdict, found.explanation) == ("not measured", f"Not measured: {reason}.")

    def test_any_number_of_a_result_file_can_be_claimed(self) -> None:
        metric = {"kind": "score", "model": "minilm", "task": "MSMARCO", "measure": "mrr_at_10"}
        found = verdict(metric | {"split": "dev"}, {"value": 31, "tolerance": 0.01}, RUN, unit="%")
        assert (found.verdict, found.measured) == ("reproduced", "31 %")
        assert "mrr_at_10 stands in dev/default, test/default" in verdict(metric, {"at_least": 1}, RUN).explanation
        wrong = verdict(metric | {"split": "dev", "measure": "mrr_at_11"}, {"at_least": 1}, RUN)
        assert "no measure mrr_at_11; did you mean mrr_at_10" in wrong.explanation
        absent = verdict(metric | {"split": "train"}, {"at_least": 1}, RUN)
        assert "no result of this split and subset" in absent.explanation
        with pytest.raises(ValueError, match="name the measure too"):
            claim(SCORE | {"split": "dev"}, {"at_least": 1})

    def test_a_task_without_a_score_is_not_measured_for_its_own_reason(self) -> None:
        found = verdict(SCORE | {"task": "NFCorpus"}, {"value": 9, "tolerance": 1}, RUN)
        assert found.verdict == "not measured"
        assert "NFCorpus of minilm: not in the mirror" in found.explanation
        found = verdict(SCORE | {"task": "STS12"}, {"value": 9, "tolerance": 1}, RUN)
        assert "STS12 of minilm: not requested in this run" in found.explanation

    def test_a_published_value_never_makes_a_claim_reproduced(self) -> None:
        published = {"value": 64.508, "source": "mteb's results repository"}
        found = verdict(SCORE, {"value": 64.51, "tolerance": 0.05}, unit="%", published=published)
        assert (found.verdict, found.published_agrees, found.measured_value) == ("not measured", True, None)
        assert found.published == "64.51 % (mteb's results repository)"
        assert "The published value agrees with the claim" in found.explanation
        contradicted = verdict(SCORE, {"value": 70, "tolerance": 1}, unit="%", published=published)
        assert "The published value contradicts the claim" in contradicted.explanation

    def test_scores_of_conf_expected_are_the_published_ones(self) -> None:
        known = published.published(CLAIMS.parents[1] / "expected")
        found = verdict(SCORE, {"value": 64.51, "tolerance": 0.05}, KnownValues(published=known), unit="%")
        assert found.published == "64.51 % (published scores)"

    def test_how_many_tasks_were_scored_is_not_what_others_published(self) -> None:
        metric = {"kind": "scored_tasks", "models": ["minilm"], "tasks": ["SciFact"]}
        found = verdict(
            metric, {"value": 0, "tolerance": 0}, KnownValues(published={"minilm": {"SciFact": 0.6}}), unit="tasks"
        )
        assert found.published == ""

    def test_published_scores_of_the_run_stand_in_where_the_claim_brings_none(self) -> None:
        facts = KnownValues(published={"minilm": {"SciFact": 0.64508, "SICK-R": 0.7758}})
        mean = {"kind": "mean", "model": "minilm", "tasks": ["SciFact", "SICK-R"]}
        found = verdict(mean, {"value": 71.0, "tolerance": 0.1}, facts, unit="%")
        assert (found.verdict, found.published, found.published_agrees) == (
            "not measured",
            "71.04 % (published scores)",
            True,
        )

    def test_a_statement_without_a_definition_is_not_defined(self) -> None:
        found = verdict({"kind": "undefined", "reason": "no measure is named"}, None, RUN)
        assert (found.verdict, found.claimed) == ("not defined", "no number")
        assert found.explanation == "Not defined: no measure is named."

    def test_a_mean_takes_named_measures_and_counts_a_list_of_tasks_as_one(self) -> None:
        mean = {
            "kind": "mean",
            "model": "minilm",
            "tasks": [["SciFact", "SICK-R"], "TREC"],
            "measures": {"TREC": "mrr_at_10"},
        }
        numbers = {"TREC": [ResultNumbers(split="test", subset="default", numbers={"mrr_at_10": 0.2})]}
        facts = RUN.model_copy(update={"numbers": {"minilm": numbers}})
        found = verdict(mean, {"at_least": 0}, facts, unit="%")
        assert found.measured_value == pytest.approx(100 * ((0.64508 + 0.7758) / 2 + 0.2) / 2)
        with pytest.raises(ValueError, match="measures names TRCE, which is none of the tasks; did you mean TREC"):
            claim(mean | {"measures": {"TRCE": "mrr_at_10"}}, {"at_least": 0})

    def test_a_mean_over_an_incomplete_set_is_no_number(self) -> None:
        mean = {"kind": "mean", "model": "minilm", "tasks": ["SciFact", "NFCorpus"]}
        found = verdict(mean, {"value": 58.71, "tolerance": 0.05}, RUN, unit="%")
        assert (found.verdict, found.measured_value) == ("not measured", None)


COUNT = {"kind": "scored_tasks", "models": ["minilm", "potion"]}


class TestCountingScoredTasks:
    def test_enough_scored_tasks_refute_a_claim_of_failure_though_some_were_not_tried(self) -> None:
        metric = COUNT | {"tasks": ["SciFact", "SICK-R", "NFCorpus"]}
        found = verdict(metric, {"at_most": 1}, RUN, unit="tasks")
        assert (found.verdict, found.measured) == ("refuted", "at least 2 tasks")

    def test_tasks_that_could_not_be_had_do_not_count_as_failures(self) -> None:
        found = verdict(COUNT | {"tasks": ["SciFact", "NFCorpus"]}, {"at_most": 1}, RUN, unit="tasks")
        assert found.verdict == "not measured"
        assert "NFCorpus: not in the mirror" in found.explanation

    def test_empty_scores_are_failures(self) -> None:
        status = {"minilm": {"SciFact": "scored", "SICK-R": "empty scores: no subset was evaluated"}}
        metric = {"kind": "scored_tasks", "models": ["minilm"], "tasks": ["SciFact", "SICK-R"]}
        found = verdict(metric, {"at_most": 1}, KnownValues(status=status), unit="tasks")
        assert (found.verdict, found.measured) == ("reproduced", "1 task")


class TestArithmetic:
    """Claims that can be recomputed from what the document itself says need no model."""

    @pytest.mark.parametrize(
        ("operation", "operands", "expected"),
        [
            ("sum", [22.4, 5.9, 8.2], 36.5),
            ("mean", [80.04, 31.59, 64.51], 58.7133),
            ("difference", [2.388, 31.594], -29.206),
            ("product", [151665, 1024, 2e-6], 310.61),
            ("ratio", [36.5, 44.4], 0.8221),
            ("relative_change", [65, 80], -18.75),
            ("minimum", [3, 1, 2], 1),
            ("maximum", [3, 1, 2], 3),
        ],
    )
    def test_operations(self, operation: str, operands: list[float], expected: float) -> None:
        named = {f"part{index}": value for index, value in enumerate(operands)}
        metric = {"kind": "arithmetic", "operation": operation, "operands": named, "source": "a table"}
        found = verdict(metric, {"value": expected, "tolerance": 0.001}, KnownValues())
        assert found.verdict == "reproduced"
        assert found.measured.endswith("recomputed")
        assert found.explanation == "Recomputed from a table."

    def test_a_weighted_sum_needs_a_weight_for_every_operand(self) -> None:
        metric = {
            "kind": "arithmetic",
            "operation": "weighted_sum",
            "operands": {"a": 1.0, "b": 3.0},
            "weights": {"a": 0.25, "b": 0.75},
            "source": "a table",
        }
        assert verdict(metric, {"value": 2.5, "tolerance": 0}).verdict == "reproduced"
        with pytest.raises(ValueError, match="exactly the operands"):
            claim(metric | {"weights": {"a": 1.0}}, {"value": 2.5, "tolerance": 0})


class TestTheAnalysis:
    def test_every_statement_is_there(self) -> None:
        groups = Counter(claim.group for claim in read_claims(CLAIMS / "analysis.yaml").claims if claim.group)
        assert groups == STATEMENTS

    def test_every_number_is_claimed(self) -> None:
        claimed = set()
        for each in read_claims(CLAIMS / "analysis.yaml").claims:
            if each.claimed is not None:
                claimed |= {each.claimed.value, each.claimed.at_least, each.claimed.at_most}
        numbers = {float(word) for word in NUMBERS.split()}
        assert numbers - claimed == set()

    def test_what_needs_no_model_is_decided_without_one(self) -> None:
        verdicts = {
            found.id: found.verdict
            for found in judge_claims(read_claims(CLAIMS / "analysis.yaml").claims, KnownValues())
        }
        decided = {name: outcome for name, outcome in verdicts.items() if outcome in ("reproduced", "refuted")}
        assert decided == {
            "difference_banking77": "reproduced",
            "difference_nfcorpus": "reproduced",
            "difference_scifact": "reproduced",
            "difference_average": "reproduced",
            "average_minilm_of_three": "reproduced",
            "average_qwen25_of_three": "reproduced",
            "tradeoff_in_points": "reproduced",
            "tradeoff_in_percent": "refuted",
            "retrieval_share": "reproduced",
            "evaluation_time_minilm": "refuted",
            "evaluation_time_qwen25": "refuted",
            "custom_overall_recomputed": "reproduced",
            "custom_overall_from_quoted_parts": "refuted",
            "custom_gain_low": "reproduced",
            "custom_gain_high": "reproduced",
            "size_reduction_as_claimed": "reproduced",
        }

    def test_the_quick_set_scored_in_full_refutes_the_four_failures(self) -> None:
        """Scores of all-MiniLM-L6-v2 as mteb's results repository has them."""
        scores = {
            "Banking77Classification": 0.8004220779220779,
            "NFCorpus": 0.31594,
            "SciFact": 0.64508,
            "SICK-R": 0.7758,
            "STSBenchmark": 0.8203,
            "SprintDuplicateQuestions": 0.9455,
            "TwentyNewsgroupsClustering": 0.4649,
        }
        models = ("minilm", "qwen25")
        status = {model: dict.fromkeys(scores, "scored") for model in models}
        facts = KnownValues(scores={"minilm": scores}, status=status)
        found = {each.id: each for each in judge_claims(read_claims(CLAIMS / "analysis.yaml").claims, facts)}
        assert {
            name: found[name].verdict
            for name in (
                "banking77_minilm",
                "scifact_minilm",
                "completed_tasks",
                "average_minilm",
            )
        } == {
            "banking77_minilm": "reproduced",
            "scifact_minilm": "reproduced",
            "completed_tasks": "refuted",
            "average_minilm": "reproduced",
        }
        assert found["average_minilm"].measured == "58.71 %"

    def test_another_version_of_mteb_decides_what_was_said_of_it(self) -> None:
        """By the committed record, in which the second model plays the analysis's candidate."""
        record = CaseRecord.model_validate_json((REPOSITORY / "conf" / "cases" / "languages.json").read_text())
        first, second = record.models
        played = {first: "minilm", second: "qwen25"}
        record = record.model_copy(
            update={
                "models": {played[key]: value for key, value in record.models.items()},
                "runs": [run.model_copy(update={"model": played[run.model]}) for run in record.runs],
            }
        )
        claims = read_claims(CLAIMS / "analysis.yaml").claims
        found = {each.id: each for each in judge_claims(claims, KnownValues(cases={"languages": record}))}
        decided = {name: each.verdict for name, each in found.items() if name in CASE}
        assert decided == CASE
        assert "en where mteb expects the ISO 639-3 code eng" in found["four_failed"].explanation
        assert found["four_failed"].measured == "at least 2 tasks"
        alone = record.model_copy(update={"models": {"minilm": record.models["minilm"]}})
        (lost,) = judge_claims(
            [claims[[each.id for each in claims].index("empty_sick_r")]], KnownValues(cases={"languages": alone})
        )
        assert "qwen25 is not in the record of the case (there: minilm)" in lost.explanation

    def test_the_custom_evaluation_is_judged_on_its_own_items(self) -> None:
        """all-MiniLM-L6-v2 by the analysis's evaluation: 0.6068 overall, 0.8293 for instruction awareness."""
        facts = KnownValues(
            legacy={"minilm": {"first": {"overall": 0.458}}},
            origin={
                "minilm": {"first": {"overall": 0.6068}, "second": {"instruction_awareness": 0.8293}},
                "qwen25": {"first": {"overall": 0.68215}, "second": "the host does not answer"},
            },
        )
        found = {each.id: each for each in judge_claims(read_claims(CLAIMS / "analysis.yaml").claims, facts)}
        assert found["custom_overall"].verdict == "reproduced"
        assert (found["custom_baseline_low"].verdict, found["custom_baseline_high"].verdict) == (
            "reproduced",
            "refuted",
        )
        assert (found["custom_gain"].verdict, found["custom_gain"].measured) == ("refuted", "7.54 points")
        assert found["instruction_unique"].verdict == "refuted"
        assert found["custom_instruction"].verdict == "not measured"
        assert "the host does not answer" in found["custom_instruction"].explanation

    def test_the_model_overview_holds_its_numbers(self) -> None:
        overview = read_claims(CLAIMS / "overview.yaml").claims
        values = {each.claimed.value for each in overview if each.claimed}
        expected = {69.57, 57.02, 2800, 68.06, 14200, 57.46, 4000, 74.30, 39.01, 37.25, 7000}
        assert expected | {800, 34000, 30, 750, 43, 1360, 384, 1024, 128, 512} <= values

    def test_ranges_are_taken_over_the_whole_table_of_their_source(self) -> None:
        """The 38 rows of the documentation's model table: 49.79 to 70.88, and 50 sentences a second at the least."""
        facts = KnownValues(figures=published_values(read_model_files(REPOSITORY / "conf")))
        found = {each.id: each for each in judge_claims(read_claims(CLAIMS / "overview.yaml").claims, facts)}
        assert found["sentence_performance_high"].measured == "70.88, recomputed"
        assert "of 38 models" in found["sentence_performance_high"].explanation
        assert (found["speed_gpu_low"].verdict, found["speed_gpu_low"].measured_value) == ("refuted", 50)
        assert (found["size_high"].verdict, found["dimensions_low"].verdict) == ("refuted", "refuted")
        best = ("best_sentence_performance", "best_semantic_search", "best_reranking")
        assert [found[name].measured_value for name in best] == [70.88, 57.60, 74.31]
        assert {found[name].verdict for name in best} == {"refuted"}
        assert found["size_high"].basis == "recomputed"
        assert "not defined" in {each.verdict for each in found.values()}


class TestFiles:
    def write(self, folder: Path, **changes: Any) -> Path:
        content = {
            "title": "t",
            "document": "d",
            "claims": [{"id": "it", "where": "w", "says": "s", "claimed": {"at_most": 1}, "metric": SCORE}],
        }
        content["claims"][0] |= changes  # type: ignore[index]
        path = folder / "mine.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"claim": 3}, r"claims\.'it'\.claim: unknown key; did you mean claimed"),
            ({"metric": SCORE | {"tsk": "x"}}, r"claims\.'it'\.metric\.tsk: unknown key; did you mean task"),
            (
                {"metric": {"kind": "ratio", "left": SCORE | {"modl": "x"}, "right": SCORE}},
                r"claims\.'it'\.metric\.left\.modl: unknown key; did you mean model",
            ),
            ({"metric": {"kind": "scor"}}, r"claims\.'it'\.metric: .*did you mean score"),
            ({"metric": {"kind": "quantity", "model": "m", "name": "latency_p50"}}, "did you mean latency_p50_ms"),
            ({"claimed": {"at_mst": 1}}, r"claims\.'it'\.claimed\.at_mst: unknown key; did you mean at_most"),
            ({"claimed": {"value": 1}}, "either value and tolerance"),
            ({"claimed": {"at_least": 2, "at_most": 1}}, "above at_most"),
            ({"claimed": None}, "every claim needs `claimed`"),
            ({"unit": "furlongs"}, "unit"),
        ],
    )
    def test_a_wrong_file_is_refused_by_claim_and_key(
        self, tmp_path: Path, changes: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            read_claims(self.write(tmp_path, **changes))

    def test_ids_are_unique(self, tmp_path: Path) -> None:
        path = self.write(tmp_path)
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        content["claims"] *= 2
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        with pytest.raises(ConfigError, match="more than once: it"):
            read_claims(path)

    def test_a_missing_or_broken_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"nothing\.yaml"):
            read_claims(tmp_path / "nothing.yaml")
        (tmp_path / "broken.yaml").write_text("claims: [", encoding="utf-8")
        with pytest.raises(ConfigError, match="not valid YAML"):
            read_claims(tmp_path / "broken.yaml")

    def test_the_documented_example_is_a_claims_file(self, tmp_path: Path) -> None:
        page = (CLAIMS.parents[2] / "docs" / "claims.md").read_text(encoding="utf-8")
        example = page.split("```yaml\n")[1].split("```")[0]
        (tmp_path / "example.yaml").write_text(example, encoding="utf-8")
        assert len(read_claims(tmp_path / "example.yaml").claims) == 4


def test_facts_are_collected_from_what_a_run_wrote() -> None:
    cells = {"minilm": Cell(status="scored", score=0.5), "potion": Cell(status="its data is missing")}
    card = ModelCard(
        key="minilm",
        name="org/minilm",
        role="baseline",
        family="dense",
        revision="1",
        source="package",
        content_hash="0",
        size_mb=91.2,
        dimensions=384,
    )
    facts = collect_known_values(
        [TaskRow(name="STS12", type="STS", metric="cosine_spearman", cells=cells)],
        {"minilm": card, "potion": card},
        legacy=[
            LegacyScore(model="minilm", category="Code understanding", task="T", trusted=0.5, first=0.9, second=None)
        ],
        benchmarks={"NanoBEIR": 13},
    )
    assert facts.scores == {"minilm": {"STS12": 0.5}, "potion": {"STS12": None}}
    assert facts.status["potion"]["STS12"] == "its data is missing"
    assert facts.legacy == {"minilm": {"first": {"code_understanding": 0.9}}}
    known = facts.quantities["minilm"]
    assert (known["size_mb"], known["dimensions"]) == (91.2, 384.0)
    assert known["latency_p50_ms"] == "minilm was not benchmarked in this run"
    assert known["parameters"] == "parameters of minilm: not recorded"


def test_a_verdict_becomes_a_row_of_the_summary() -> None:
    row = verdict(SCORE, {"value": 64.51, "tolerance": 0.05}, RUN, unit="%").row()
    assert (row.id, row.verdict, row.measured) == ("it", "reproduced", "64.51 %")


def test_every_number_of_a_result_file_of_mteb_is_read(tmp_path: Path) -> None:
    path = tmp_path / "MSMARCO.json"
    entry = {"hf_subset": "default", "languages": ["eng-Latn"], "main_score": 0.3, "mrr_at_10": 0.2, "broken": None}
    path.write_text(json.dumps({"task_name": "MSMARCO", "scores": {"dev": [entry]}}), encoding="utf-8")
    expected = ResultNumbers(split="dev", subset="default", numbers={"main_score": 0.3, "mrr_at_10": 0.2})
    assert read_numbers(path) == [expected]
    path.write_text(json.dumps({"scores": {"dev": [entry]}, "evaluation_time": 2.5}), encoding="utf-8")
    (timed,) = read_numbers(path)
    assert timed.numbers == expected.numbers | {"evaluation_time": 2.5}
    assert read_numbers(tmp_path / "other.json") == []


def test_the_documented_quantities_are_those_that_there_are() -> None:
    page = (CLAIMS.parents[2] / "docs" / "claims.md").read_text(encoding="utf-8")
    assert table_of_quantities() in page, "stale: put what table_of_quantities() returns into docs/claims.md"
    assert {one.better for one in QUANTITIES.values()} <= {"higher", "lower", ""}
