"""The suite's data keep the promises its scores rest on; its tasks score separation, not closeness."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.resources import as_file, files
from itertools import combinations
from pathlib import Path
from statistics import mean, quantiles

import mteb
import numpy as np
import pytest
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.results import TaskResult
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics.pairwise import cosine_similarity
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import BertPreTokenizer

from conftest import REPOSITORY
from embrepro.errors import TaskError
from embrepro.suite import CATEGORIES, TASKS, VERSION, content_hash, legacy_scores, read_items
from embrepro.suite.difficulty import difficulty, table_of_difficulty
from embrepro.suite.items import RetrievalItem, clustering_items, file_name, file_revision, retrieval_items

CLUSTERING = "EmbreproTopicClustering"
RETRIEVAL = [name for name in CATEGORIES if name != CLUSTERING]


def fold(text: str) -> str:
    """Return the text without case and with single spaces."""
    return " ".join(text.casefold().split())


def texts_of(task: str) -> list[str]:
    """Return every text of a task, queries first."""
    if task == CLUSTERING:
        return [item.text for item in clustering_items()]
    items = retrieval_items(task)
    candidates = [text for item in items for text in (item.positive, *item.negatives)]
    return [item.query for item in items] + candidates


def words(text: str) -> set[str]:
    """Return the set of words, without case and punctuation."""
    return set(re.findall(r"\w+", text.casefold()))


def jaccard(left: str, right: str) -> float:
    """Return shared words over all words."""
    return len(words(left) & words(right)) / len(words(left) | words(right))


# Data


@pytest.mark.parametrize("task", CATEGORIES)
def test_every_category_has_at_least_200_items_with_ids_of_their_own(task: str) -> None:
    ids = [item.id for item in read_items(task)]
    assert len(ids) >= 200
    assert len(set(ids)) == len(ids)
    assert len({id_.split("-")[0] for id_ in ids}) == 1


@pytest.mark.parametrize("task", CATEGORIES)
def test_no_text_occurs_twice_so_no_positive_is_another_items_negative(task: str) -> None:
    repeated = [text for text, count in Counter(map(fold, texts_of(task))).items() if count > 1]
    assert repeated == []


@pytest.mark.parametrize("task", RETRIEVAL)
def test_no_positive_contains_its_query(task: str) -> None:
    assert [item.id for item in retrieval_items(task) if fold(item.query) in fold(item.positive)] == []


@pytest.mark.parametrize("task", CATEGORIES)
def test_domains_are_varied_and_none_dominates(task: str) -> None:
    counts = Counter(item.domain for item in read_items(task))
    minimum = 10 if task == CLUSTERING else 12
    assert len(counts) >= minimum
    assert max(counts.values()) <= 0.2 * sum(counts.values())


@pytest.mark.parametrize("task", CATEGORIES)
def test_lengths_are_varied(task: str) -> None:
    lower, _, upper = quantiles([len(text.split()) for text in texts_of(task)], n=4)
    assert upper >= 1.3 * lower


@pytest.mark.parametrize("task", RETRIEVAL)
def test_length_does_not_give_the_positive_away(task: str) -> None:
    items = retrieval_items(task)
    longest = mean(len(item.positive) > max(map(len, item.negatives)) for item in items)
    shortest = mean(len(item.positive) < min(map(len, item.negatives)) for item in items)
    assert max(longest, shortest) < 0.4, f"positive longest in {longest:.0%}, shortest in {shortest:.0%}"


@pytest.mark.parametrize("task", ["EmbreproSemanticSimilarity", "EmbreproInstructionAwareness"])
def test_shared_words_mislead_on_average(task: str) -> None:
    items = retrieval_items(task)
    positive = mean(jaccard(item.query, item.positive) for item in items)
    negative = mean(jaccard(item.query, text) for item in items for text in item.negatives)
    assert positive < negative


@pytest.mark.parametrize("task", RETRIEVAL)
def test_hard_negatives_share_words_with_the_positive_or_the_query(task: str) -> None:
    """A random candidate of another item shares fewer words: the negatives are near misses."""
    items = retrieval_items(task)

    def nearness(item: RetrievalItem, text: str) -> float:
        return max(jaccard(text, item.query), jaccard(text, item.positive))

    own = mean(nearness(item, text) for item in items for text in item.negatives)
    other = mean(
        nearness(item, text)
        for item, stranger in zip(items, items[len(items) // 2 :] + items, strict=False)
        for text in stranger.negatives
    )
    assert own > 2 * other


@pytest.mark.parametrize("task", [name for name in CATEGORIES if "Multilingual" not in name])
def test_other_categories_are_in_english(task: str) -> None:
    assert {item.language for item in read_items(task)} == {"eng-Latn"}


def test_multilingual_alignment_has_five_languages_and_names_them() -> None:
    task = "EmbreproMultilingualAlignment"
    counts = Counter(item.language for item in read_items(task))
    assert len(counts) >= 5
    assert min(counts.values()) >= 35
    assert {"eng-Latn", *counts} == set(TASKS[task].metadata.eval_langs)


def test_multilingual_alignment_tells_chance_spelling_meaning_and_perfection_apart() -> None:
    """Four models made for it: none, letters alone, meaning that takes near misses for the positive, and both."""
    items = retrieval_items("EmbreproMultilingualAlignment")
    queries = [item.query for item in items]
    documents = [text for item in items for text in (item.positive, *item.negatives)]
    drawn = np.random.default_rng(5)
    own = np.repeat(np.eye(len(items)), 4, axis=1)
    first = np.arange(len(documents)) % 4 == 0
    chance = ndcg(drawn.random((len(queries), len(documents))))
    spelling = ndcg(by_spelling(queries, documents))
    meaning = ndcg(own + 0.1 * drawn.random(own.shape))
    perfect = ndcg(own * first)
    assert chance < 0.02
    assert 0.15 < spelling < 0.4
    assert 0.5 < meaning < 0.9
    assert perfect == 1


def by_spelling(queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
    """Return the cosine of the texts' runs of three characters."""
    counts = CountVectorizer(analyzer="char", ngram_range=(3, 3)).fit([*queries, *documents])
    return cosine_similarity(counts.transform(queries), counts.transform(documents))


def ndcg(similarity: np.ndarray) -> float:
    """Return the mean nDCG@10 of queries whose one positive is every fourth document."""
    ranks = [1 + int((row > row[4 * place]).sum()) for place, row in enumerate(similarity)]
    return mean(1 / np.log2(rank + 1) if rank <= 10 else 0 for rank in ranks)


@pytest.mark.parametrize(
    ("positive", "negative", "level"),
    [
        # The query is "abcdef", which has four runs of three characters.
        pytest.param("abcdef", "abcdefg", "medium", id="a negative close behind"),
        pytest.param("abcdef", "abcdxx", "easy", id="twice as much as any negative"),
        pytest.param("abcxyz", "abcdef", "hard", id="a negative ahead"),
        pytest.param("uvwxyz", "mnopqr", "hard", id="nothing shared at all"),
    ],
)
def test_difficulty_compares_the_spelling_of_positive_and_closest_negative(
    positive: str, negative: str, level: str
) -> None:
    item = RetrievalItem(
        id="mul-001",
        domain="test",
        language="deu-Latn",
        query="abcdef",
        positive=positive,
        negatives=[negative, "123", "456"],
    )
    assert difficulty(item) == level


def test_multilingual_alignment_has_easy_items_in_every_language() -> None:
    items = retrieval_items("EmbreproMultilingualAlignment")
    easy = Counter(item.language for item in items if difficulty(item) == "easy")
    assert set(easy) == {item.language for item in items}
    assert min(easy.values()) >= 15


def test_the_page_lists_the_difficulty_of_every_item() -> None:
    page = (REPOSITORY / "docs" / "suite.md").read_text("utf-8")
    assert table_of_difficulty() in page, "stale: put what table_of_difficulty() returns into docs/suite.md"
    for task in CATEGORIES:
        assert f"| `{task}` | {len(read_items(task))} |" in page


def test_code_understanding_has_three_programming_languages() -> None:
    counts = Counter(item.programming_language for item in retrieval_items("EmbreproCodeUnderstanding"))
    assert None not in counts
    assert sum(count >= 40 for count in counts.values()) >= 3


@pytest.mark.parametrize("task", [name for name in RETRIEVAL if "Code" not in name])
def test_only_code_names_a_programming_language(task: str) -> None:
    assert {item.programming_language for item in retrieval_items(task)} == {None}


def test_topics_are_balanced() -> None:
    counts = Counter(item.topic for item in clustering_items())
    assert len(counts) >= 10
    assert max(counts.values()) <= 1.2 * min(counts.values())


@pytest.mark.parametrize("task", CATEGORIES)
def test_files_are_lf_utf8_and_end_with_a_newline(task: str) -> None:
    content = (files("embrepro.suite") / "data" / file_name(task)).read_bytes()
    assert b"\r" not in content
    assert content.endswith(b"}\n")
    assert "\ufffd" not in content.decode("utf-8")


# Reading


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the data files that a test may change."""
    with as_file(files("embrepro.suite") / "data") as packaged:
        return Path(shutil.copytree(packaged, tmp_path / "data"))


def test_the_content_hash_is_that_of_the_package_and_changes_with_one_byte(folder: Path) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", content_hash())
    assert content_hash(folder) == content_hash()
    for task in CATEGORIES:
        path = folder / file_name(task)
        content = path.read_bytes()
        path.write_bytes(content.replace(b"e", b"E", 1))
        assert content_hash(folder) != content_hash(), path.name
        path.write_bytes(content)


def test_an_absent_file_is_named(folder: Path) -> None:
    (folder / "semantic_similarity.jsonl").unlink()
    with pytest.raises(TaskError, match=r"semantic_similarity\.jsonl.*reinstall"):
        read_items("EmbreproSemanticSimilarity", folder)
    with pytest.raises(TaskError, match=r"semantic_similarity\.jsonl"):
        content_hash(folder)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("{", "JSON object"),
        ("", "JSON object"),
        ("[]", "the row"),
        ({"negatives": ["one", "two"]}, "negatives"),
        ({"query": ""}, "query"),
        ({"postive": "misspelt"}, "postive"),
        ({"language": "en"}, "language"),
    ],
)
def test_a_malformed_line_is_named(folder: Path, row: str | dict[str, object], complaint: str) -> None:
    path = folder / "semantic_similarity.jsonl"
    lines = path.read_text("utf-8").splitlines()
    lines[2] = row if isinstance(row, str) else json.dumps(json.loads(lines[2]) | row)
    path.write_text("\n".join(lines) + "\n", "utf-8")
    with pytest.raises(TaskError, match=rf"semantic_similarity\.jsonl, line 3: .*{complaint}"):
        read_items("EmbreproSemanticSimilarity", folder)


def test_bytes_that_are_not_utf8_are_located(folder: Path) -> None:
    path = folder / "topic_clustering.jsonl"
    first, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(first + b"\n\xff" + rest)
    with pytest.raises(TaskError, match=r"topic_clustering\.jsonl, line 2: expected UTF-8"):
        read_items(CLUSTERING, folder)


def test_an_unknown_task_is_answered_with_the_known_ones() -> None:
    with pytest.raises(TaskError, match="EmbreproTopicClustering"):
        read_items("EmbreproTopics")


# Tasks


def test_the_tasks_are_the_six_categories() -> None:
    assert list(TASKS) == list(CATEGORIES)
    assert VERSION == "2"


@pytest.mark.parametrize("task", CATEGORIES)
def test_metadata_pins_the_data_and_states_the_score(task: str) -> None:
    metadata = TASKS[task].metadata
    assert metadata.name == task
    assert metadata.dataset["path"] == f"embrepro/{file_name(task).removesuffix('.jsonl')}"
    assert metadata.dataset["revision"] == file_revision(task)
    assert re.fullmatch(r"[0-9a-f]{40}", file_revision(task))
    assert set(file_revision(task)) != {"0"}
    assert metadata.license == "apache-2.0"
    assert metadata.prompt is None
    expected = ("Clustering", "v_measure") if task == CLUSTERING else ("Retrieval", "ndcg_at_10")
    assert (metadata.type, metadata.main_score) == expected


@pytest.mark.parametrize("task", RETRIEVAL)
def test_every_query_searches_all_texts_of_its_category(task: str) -> None:
    split = loaded(task)
    items = retrieval_items(task)
    text = dict(zip(split["corpus"]["id"], split["corpus"]["text"], strict=True))
    assert split["top_ranked"] is None
    assert list(split["queries"]["id"]) == [item.id for item in items]
    assert sorted(text.values()) == sorted(text for item in items for text in (item.positive, *item.negatives))
    for item in items:
        (positive,) = split["relevant_docs"][item.id]
        assert text[positive] == item.positive


@pytest.mark.parametrize("task", RETRIEVAL)
def test_the_positives_are_spread_evenly_over_the_order_of_ties(task: str) -> None:
    split = loaded(task)
    relevant = {id_ for documents in split["relevant_docs"].values() for id_ in documents}
    flags = [id_ in relevant for id_ in sorted(split["corpus"]["id"])]
    places = Counter()
    for start in range(0, len(flags), 4):
        block = flags[start : start + 4]
        assert sum(block) == 1
        places[block.index(True)] += 1
    assert max(places.values()) - min(places.values()) <= 1
    assert len(places) == 4


@pytest.mark.parametrize("task", RETRIEVAL)
def test_a_corpus_that_mteb_would_cut_off_is_refused(task: str) -> None:
    documents = 4 * len(retrieval_items(task))
    cut = type("Cut", (TASKS[task],), {"k_values": (1, 10, documents - 1)})
    with pytest.raises(TaskError, match=rf"{task}: expected at most {documents - 1} .* got {documents}"):
        cut().load_data()
    enough = type("Enough", (TASKS[task],), {"k_values": (1, 10, documents)})
    enough().load_data()


def loaded(task: str) -> RetrievalSplitData:
    """Return the one split of a task."""
    task_ = TASKS[task]()
    task_.load_data()
    return task_.dataset["default"]["test"]


@pytest.mark.parametrize(
    ("similarities", "accuracy", "roc_auc"),
    [
        # Queries of (positive, three negatives); the expected values are counted by hand.
        pytest.param([(9, 1, 2, 3), (8, 7, 6, 5)], 1, 1, id="separated"),
        pytest.param([(1, 2, 3, 4), (5, 6, 7, 8)], 0, 3 / 12, id="inverted within, not across queries"),
        pytest.param([(5, 5, 5, 5), (5, 5, 5, 5)], 1 / 4, 1 / 2, id="all equal"),
        pytest.param([(5, 5, 1, 1), (5, 5, 5, 1)], (1 / 2 + 1 / 3) / 2, 9 / 12, id="ties with some"),
        pytest.param([(5, 5, 6, 1), (5, 1, 1, 1)], 1 / 2, 9 / 12, id="a tie below the top counts nothing"),
    ],
)
def test_scores_against_the_own_hard_negatives(
    similarities: list[tuple[float, ...]], accuracy: float, roc_auc: float
) -> None:
    qrels, results = hand_made(similarities)
    scores = score(qrels, results)
    assert scores["hard_negative_accuracy"] == pytest.approx(accuracy)
    assert scores["roc_auc"] == pytest.approx(roc_auc)


def test_texts_of_other_queries_do_not_enter_the_scores_against_the_own() -> None:
    qrels, results = hand_made([(9, 1, 2, 3), (8, 7, 6, 5)])
    for query, run in results.items():
        run.update({f"other-{query}": 100.0})
    assert score(qrels, results) == {"hard_negative_accuracy": 1, "roc_auc": 1}


def test_a_search_that_leaves_out_a_hard_negative_is_refused() -> None:
    qrels, results = hand_made([(9, 1, 2, 3), (8, 7, 6, 5)])
    del results["sem-001"]["sem-001-d"]
    with pytest.raises(TaskError, match=r"query sem-001: .* none to sem-001-d"):
        score(qrels, results)


@pytest.mark.parametrize("similarity", [float("nan"), float("inf")])
def test_similarities_that_are_not_finite_are_refused(similarity: float) -> None:
    qrels, results = hand_made([(9, 1, 2, similarity), (8, 7, 6, 5)])
    with pytest.raises(TaskError, match="finite"):
        score(qrels, results)


def hand_made(
    similarities: Sequence[tuple[float, ...]],
) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, float]]]:
    """Return qrels and similarities of queries whose positive is document a."""
    queries = [f"sem-{number:03d}" for number in range(len(similarities))]
    qrels = {query: {f"{query}-a": 1} for query in queries}
    results = {
        query: {f"{query}-{slot}": float(value) for slot, value in zip("abcd", values, strict=True)}
        for query, values in zip(queries, similarities, strict=True)
    }
    return qrels, results


def score(qrels: dict[str, dict[str, int]], results: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return the scores a task adds to mteb's own."""
    return TASKS["EmbreproSemanticSimilarity"]().task_specific_scores({}, qrels, results, "test", "default")


def static_model(vectors: np.ndarray, vocabulary: Sequence[str]) -> SentenceTransformer:
    """Return a real static model: the mean of one vector a word."""
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = BertPreTokenizer()
    embedding = StaticEmbedding(tokenizer, embedding_weights=vectors.astype(np.float32))
    return SentenceTransformer(modules=[embedding], device="cpu")


def vocabulary() -> list[str]:
    """Return every word of the suite, the unknown one first."""
    split = BertPreTokenizer().pre_tokenize_str
    return [
        "[UNK]",
        *sorted({word for task in CATEGORIES for text in texts_of(task) for word, _ in split(text)}),
    ]


def evaluate(model: SentenceTransformer, task: mteb.AbsTask) -> TaskResult:
    """Return mteb's own result, computed anew."""
    result = mteb.evaluate(model, task, cache=None, overwrite_strategy="always", show_progress_bar=False)
    return result.task_results[0]


@pytest.fixture(scope="module")
def constant_model() -> SentenceTransformer:
    """A model that maps every text to one direction."""
    words = vocabulary()
    # Ones: their sums and means are exact, so that every text has the very same vector.
    return static_model(np.ones((len(words), 16)), words)


@pytest.fixture(scope="module")
def static() -> SentenceTransformer:
    """A bag of words: a random direction a word."""
    words = vocabulary()
    return static_model(np.random.default_rng(7).normal(size=(len(words), 64)), words)


def test_a_constant_model_scores_chance(constant_model: SentenceTransformer) -> None:
    """Where all similarities are equal mteb ranks by document id; see `_positive_slots`."""
    for name, task in TASKS.items():
        (scores,) = evaluate(constant_model, task()).scores["test"]
        if name == CLUSTERING:
            assert scores["main_score"] == pytest.approx(0, abs=0.05)
            continue
        # A positive is at each of the ranks of n documents with probability 1/n: the mean of the discounts.
        chance = sum(1 / np.log2(rank + 1) for rank in range(1, 11)) / (4 * len(retrieval_items(name)))
        assert 0.003 < chance < 0.006
        assert scores["main_score"] == pytest.approx(chance, rel=0.2), name
        assert scores["hard_negative_accuracy"] == pytest.approx(0.25), name
        assert scores["roc_auc"] == pytest.approx(0.5), name


def test_a_constant_model_is_nearly_perfect_by_the_older_definitions(
    constant_model: SentenceTransformer,
) -> None:
    """The reason for the suite: closeness alone is rewarded; only separation and clusters are not."""
    scores = legacy_scores(constant_model.encode)
    for category, score in scores["second"].items():
        assert score == pytest.approx(1, abs=1e-6), category
    assert scores["first"]["semantic_similarity"] == pytest.approx(0.5, abs=1e-6)
    # One cluster holds everything, so purity is the largest topic's share; the silhouette counts as 0.
    largest = Counter(item.topic for item in clustering_items()).most_common(1)[0][1] / len(clustering_items())
    assert scores["first"]["topic_clustering"] == pytest.approx(largest / 2)
    for category in set(scores["first"]) - {"semantic_similarity", "topic_clustering", "overall"}:
        assert scores["first"][category] == pytest.approx(1, abs=1e-6), category


@pytest.mark.parametrize("task", [*RETRIEVAL, pytest.param(CLUSTERING, marks=pytest.mark.slow)])
def test_evaluating_twice_gives_the_same_scores(static: SentenceTransformer, task: str) -> None:
    shared = TASKS[task]()
    first, second = evaluate(static, shared), evaluate(static, shared)
    fresh = evaluate(static, TASKS[task]())
    assert first.scores == second.scores == fresh.scores


def test_the_scores_are_those_of_the_similarities_themselves(static: SentenceTransformer) -> None:
    name = "EmbreproConversationalUnderstanding"
    (scores,) = evaluate(static, TASKS[name]()).scores["test"]
    items = retrieval_items(name)
    documents = static.encode([text for item in items for text in (item.positive, *item.negatives)])
    similarity = static.similarity(static.encode([item.query for item in items]), documents).numpy()
    gains, first = [], []
    for place, row in enumerate(similarity):
        own = row[4 * place : 4 * place + 4]
        rank = 1 + int((row > own[0]).sum())
        gains.append(1 / np.log2(rank + 1) if rank <= 10 else 0)
        first.append(bool(own[0] > own[1:].max()))
    assert scores["main_score"] == scores["ndcg_at_10"] == pytest.approx(mean(gains), abs=0.01)
    assert scores["hard_negative_accuracy"] == pytest.approx(mean(first), abs=0.01)
    assert 0 < scores["roc_auc"] < 1


# The older definitions


def test_the_older_overall_scores_are_the_stated_weighted_sums(static: SentenceTransformer) -> None:
    """Weights of the analysis: the first definition's sum is 0.68215 on the values it reported."""
    from embrepro.suite.legacy import FIRST_WEIGHTS, SECOND_WEIGHTS

    reported = {
        "semantic_similarity": 0.5424,
        "topic_clustering": 0.4344,
        "multilingual_alignment": 0.3945,
        "instruction_awareness": 0.9496,
        "conversational_understanding": 0.7996,
        "code_understanding": 0.8450,
    }
    assert sum(FIRST_WEIGHTS[category] * score for category, score in reported.items()) == pytest.approx(
        0.68215, abs=5e-5
    )
    assert sum(SECOND_WEIGHTS.values()) == pytest.approx(1)
    scores = legacy_scores(static.encode)
    for definition, weights in (("first", FIRST_WEIGHTS), ("second", SECOND_WEIGHTS)):
        parts = scores[definition]
        assert set(parts) == {*weights, "overall"}
        assert parts["overall"] == pytest.approx(sum(weights[name] * parts[name] for name in weights))


def test_the_older_semantic_similarity_is_half_of_one_plus_the_gap(static: SentenceTransformer) -> None:
    def cosine(left: str, right: str) -> float:
        a, b = static.encode([left, right]).astype(float)
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    items = retrieval_items("EmbreproSemanticSimilarity")
    similar = mean(cosine(item.query, item.positive) for item in items)
    dissimilar = mean(cosine(item.query, text) for item in items for text in item.negatives)
    scores = legacy_scores(static.encode)
    assert scores["second"]["semantic_similarity"] == pytest.approx(similar, abs=1e-6)
    assert scores["first"]["semantic_similarity"] == pytest.approx((similar - dissimilar + 1) / 2, abs=1e-6)


def bad_vectors() -> Iterator[object]:
    """Yield what an embedder must not return."""
    yield pytest.param(lambda texts: np.ones((len(texts) - 1, 3)), "one vector for each", id="one too few")
    yield pytest.param(lambda texts: np.ones(len(texts)), "one vector for each", id="not a matrix")
    yield pytest.param(lambda texts: np.full((len(texts), 3), np.nan), "finite", id="not a number")


@pytest.mark.parametrize(("embed", "complaint"), list(bad_vectors()))
def test_vectors_that_cannot_be_right_are_refused(embed: object, complaint: str) -> None:
    with pytest.raises(TaskError, match=complaint):
        legacy_scores(embed)


def test_zero_vectors_have_a_cosine_of_zero() -> None:
    scores = legacy_scores(lambda texts: np.zeros((len(texts), 4)))
    assert scores["second"]["overall"] == 0


def test_the_topics_of_a_perfect_model_get_nearly_full_marks() -> None:
    topics = {item.text: item.topic for item in clustering_items()}
    order = sorted(set(topics.values()))

    def embed(texts: Sequence[str]) -> np.ndarray:
        return np.array(
            [np.eye(len(order))[order.index(topics[text])] if text in topics else np.ones(len(order)) for text in texts]
        )

    # Silhouette 1 and purity 1: texts of one topic coincide, topics stand apart.
    assert legacy_scores(embed)["first"]["topic_clustering"] == pytest.approx(1)


def test_no_two_negatives_of_an_item_are_nearly_the_same() -> None:
    """Two texts may share their words in another order, but not in the same order."""
    for task in RETRIEVAL:
        for item in retrieval_items(task):
            for left, right in combinations(item.negatives, 2):
                assert fold(left).rstrip(".") != fold(right).rstrip("."), item.id
