"""Requested is resolved: a wrong task, benchmark, language or subset is an error, never a shorter list."""

from __future__ import annotations

import mteb
import pytest

from embrepro import suite
from embrepro.config.schema import Tasks
from embrepro.errors import ConfigError
from embrepro.tasks import registry
from embrepro.tasks.registry import Request

SEVEN = [
    "Banking77Classification", "NFCorpus", "SciFact", "SICK-R", "STSBenchmark", "SprintDuplicateQuestions",
    "TwentyNewsgroupsClustering",
]  # fmt: skip


def resolve(*names: str, **others: object) -> list[Request]:
    return registry.resolve(Tasks(names=list(names), **others))


def refusal(*names: str, **others: object) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(*names, **others)
    return str(caught.value)


# --- Requested = resolved


def test_the_tasks_are_those_asked_for_in_their_order() -> None:
    assert [request.name for request in resolve(*SEVEN)] == SEVEN
    assert [request.name for request in resolve(*reversed(SEVEN))] == SEVEN[::-1]


def test_the_seven_of_the_analysis_are_whole_in_english() -> None:
    """mteb.get_tasks(languages=["en"]) gives an empty list for them, which is how four scores were lost."""
    found = resolve(*SEVEN, languages=["eng"])
    assert [request.name for request in found] == SEVEN
    assert all(request.subsets and request.splits for request in found)


def test_a_request_becomes_a_task_with_its_subsets_and_splits() -> None:
    (request,) = resolve("STS17", subsets={"STS17": ["en-en", "es-en"]})
    task = registry.create(request)
    assert task.hf_subsets == ["en-en", "es-en"]
    assert task.eval_splits == ["test"]


def test_the_custom_suite_is_resolved_like_any_other_task() -> None:
    assert [request.name for request in resolve(*suite.TASKS)] == list(suite.TASKS)
    assert registry.is_own(registry.create(resolve(next(iter(suite.TASKS)))[0]))
    assert not registry.is_own(registry.create(resolve("SICK-R")[0]))


def test_a_superseded_task_can_still_be_asked_for() -> None:
    assert [request.name for request in resolve("Banking77Classification", "Banking77Classification.v2")] == [
        "Banking77Classification", "Banking77Classification.v2",
    ]  # fmt: skip


# --- Names


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("SciFct", "SciFact"),
        ("scifact", "SciFact"),
        ("STS-Benchmark", "STSBenchmark"),
        ("SICKR", "SICK-R"),
        ("Banking77Clasification", "Banking77Classification"),
        ("EmbreproSemanticSimilarty", "EmbreproSemanticSimilarity"),
    ],
)
def test_a_misspelt_task_names_the_nearest(wrong: str, right: str) -> None:
    message = refusal("SICK-R", wrong)
    assert f"there is no task '{wrong}'" in message
    assert right in message


def test_a_task_that_is_like_none_is_refused_too() -> None:
    assert "there is no task 'qqqqqqqqqq'" in refusal("qqqqqqqqqq")


def test_a_misspelt_benchmark_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no benchmark 'MTEB\(eng,v2\)'; did you mean MTEB\(eng, v2\)"):
        registry.resolve(Tasks(benchmark="MTEB(eng,v2)"))


# --- Benchmarks


@pytest.mark.parametrize(("benchmark", "size"), [("MTEB(eng, v1)", 56), ("MTEB(eng, v2)", 41)])
def test_a_benchmark_keeps_the_subsets_and_splits_of_mteb(benchmark: str, size: int) -> None:
    """56 and 41 tasks: the sizes of mteb 2.26.24's benchmark objects."""
    found = registry.resolve(Tasks(benchmark=benchmark))
    theirs = list(mteb.get_benchmark(benchmark).tasks)
    assert len(found) == len(theirs) == size
    for ours, task in zip(found, theirs, strict=True):
        assert ours.name == task.metadata.name
        assert ours.splits == tuple(task.eval_splits)
        if task.is_aggregate:
            assert [part.name for part in ours.parts] == [part.metadata.name for part in task.metadata.tasks]
            continue
        assert ours.subsets == tuple(task.hf_subsets)
        created = registry.create(ours)
        assert (created.hf_subsets, created.eval_splits) == (task.hf_subsets, task.eval_splits)


def test_a_benchmark_that_scores_one_subset_of_many_keeps_to_it() -> None:
    found = registry.resolve(Tasks(benchmark="MTEB(eng, v1)"))
    subsets = {request.name: request.subsets for request in found}
    assert subsets["STS17"] == ("en-en",)
    assert len(mteb.get_task("STS17").hf_subsets) > 1
    splits = {request.name: request.splits for request in found}
    assert splits["MSMARCO"] == ("dev",)


def test_an_aggregate_task_has_its_parts() -> None:
    (request,) = resolve("CQADupstackRetrieval")
    assert len(request.parts) == 12
    assert request.leaves() == request.parts
    assert all(part.subsets and part.splits for part in request.parts)
    assert registry.find(request.name).is_aggregate


# --- Languages and subsets


def test_languages_keep_the_subsets_that_speak_them() -> None:
    (request,) = resolve("SIB200Classification", languages=["eng"])
    assert request.subsets == ("eng_Latn",)
    (request,) = resolve("SIB200Classification", languages=["zho-Hant", "eng"])
    assert set(request.subsets) == {"eng_Latn", "zho_Hant"}


@pytest.mark.parametrize(
    ("wrong", "right"), [("en", "eng"), ("EN", "eng"), ("english", "eng"), ("fr", "fra"), ("en-Latn", "eng")]
)
def test_a_language_in_another_notation_names_the_right_code(wrong: str, right: str) -> None:
    message = refusal("SICK-R", languages=[wrong])
    assert f"tasks.languages: '{wrong}'" in message
    assert f"did you mean {right}" in message


@pytest.mark.parametrize("wrong", ["xx", "qqq1", ""])
def test_an_unknown_language_is_refused(wrong: str) -> None:
    assert "is no ISO 639-3 code" in refusal("SICK-R", languages=["eng", wrong])


def test_an_unknown_script_names_the_nearest() -> None:
    message = refusal("SIB200Classification", languages=["eng-latn"])
    assert "names no ISO 15924 script" in message
    assert "Latn" in message


def test_a_language_that_no_subset_speaks_names_those_it_has() -> None:
    message = refusal("SICK-R", "STS12", languages=["deu"])
    assert message.startswith("SICK-R has no subset in deu")
    assert "eng" in message
    assert "EmotionAnalysisPlus has no subset in jpn" in refusal("EmotionAnalysisPlus", languages=["jpn"])


def test_a_script_that_no_subset_uses_is_refused() -> None:
    assert "SICK-R has no subset in eng-Cyrl" in refusal("SICK-R", languages=["eng-Cyrl"])


def test_an_unknown_subset_names_the_nearest() -> None:
    message = refusal("STS17", subsets={"STS17": ["en-eng"]})
    assert "tasks.subsets.STS17: no subset 'en-eng'; did you mean en-en" in message


def test_a_subset_given_twice_is_refused() -> None:
    assert "twice" in refusal("STS17", subsets={"STS17": ["en-en", "en-en"]})


def test_subsets_of_a_task_that_is_not_requested_are_refused() -> None:
    message = refusal("STS12", "STS16", subsets={"STS17": ["en-en"]})
    assert "tasks.subsets names STS17, which is not among the requested tasks" in message


def test_subsets_of_an_aggregate_are_refused() -> None:
    assert "aggregate" in refusal("CQADupstackRetrieval", subsets={"CQADupstackRetrieval": ["default"]})


def test_empty_lists_are_refused_where_mteb_would_score_nothing() -> None:
    assert "tasks.languages is an empty list" in refusal("SICK-R", languages=[])
    assert "tasks.subsets.SICK-R: an empty list" in refusal("SICK-R", subsets={"SICK-R": []})


def test_subset_and_language_that_exclude_each_other_are_refused() -> None:
    assert "STS17 has no subset in" in refusal("STS17", subsets={"STS17": ["es-es"]}, languages=["eng"])


# --- Only text


@pytest.mark.parametrize("name", ["CIFAR10", "MIEB(eng)", "STS12VisualSTS"])
def test_what_is_no_text_task_is_refused(name: str) -> None:
    if name.startswith("MIEB"):
        with pytest.raises(ConfigError, match="text embeddings can only be scored on text"):
            registry.resolve(Tasks(benchmark=name))
        return
    assert "text embeddings can only be scored on text" in refusal(name)


# --- The known ways in which mteb gives an empty answer without an error


def test_a_bare_language_code_never_empties_the_list() -> None:
    with pytest.warns(UserWarning, match="no subsets match the language filter"):
        assert list(mteb.get_tasks(tasks=SEVEN, languages=["en"])) == []
    refusal(*SEVEN, languages=["en"])
    refusal(*SEVEN, languages=["fra"])
    refusal(*SEVEN, languages=["eng-latn"])


def test_no_request_has_an_empty_filter() -> None:
    for benchmark in ("MTEB(eng, v1)", "MTEB(eng, v2)"):
        for request in registry.resolve(Tasks(benchmark=benchmark)):
            for leaf in request.leaves():
                assert leaf.subsets, leaf.name
                assert leaf.splits, leaf.name


def test_nothing_asked_for_is_refused() -> None:
    with pytest.raises(ValueError, match="give either names"):
        Tasks(names=[])


def test_nanobeir_is_thirteen_retrieval_tasks() -> None:
    """Source: the benchmark as mteb 2.26.24 defines it, one task for each of BEIR's thirteen public sets."""
    found = registry.resolve(Tasks(benchmark="NanoBEIR"))
    assert len(found) == 13
    assert {registry.create(request).metadata.type for request in found} == {"Retrieval"}
    assert {registry.create(request).metadata.main_score for request in found} == {"ndcg_at_10"}
