"""The categories' scores "as the analysis defined it": two older definitions, on any items of their shape.

Both mostly average the cosine of pairs that belong together, so they reward a model for putting all texts in
one direction. They are computed to be shown beside the scores that deserve trust, never instead of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embrepro.errors import TaskError
from embrepro.suite.items import clustering_items, retrieval_items

Embed = Callable[[Sequence[str]], np.ndarray]
Pair = tuple[str, str]
_Vectors = NDArray[np.float64]

FIRST_WEIGHTS = {
    "semantic_similarity": 0.20,
    "topic_clustering": 0.15,
    "multilingual_alignment": 0.15,
    "instruction_awareness": 0.30,
    "conversational_understanding": 0.10,
    "code_understanding": 0.10,
}
"""Weights of the first definition's overall score."""

SECOND_WEIGHTS = {
    "semantic_similarity": 0.20,
    "multilingual_alignment": 0.15,
    "instruction_awareness": 0.30,
    "conversational_understanding": 0.15,
    "code_understanding": 0.20,
}
"""Weights of the second definition's overall score; it has no clustering."""

_PAIR_TASKS = {
    "semantic_similarity": "EmbreproSemanticSimilarity",
    "multilingual_alignment": "EmbreproMultilingualAlignment",
    "instruction_awareness": "EmbreproInstructionAwareness",
    "conversational_understanding": "EmbreproConversationalUnderstanding",
    "code_understanding": "EmbreproCodeUnderstanding",
}


@dataclass(frozen=True)
class LegacyItems:
    """What an older definition is computed on: pairs by category, and texts with their topics."""

    similar: Mapping[str, Sequence[Pair]]
    dissimilar: Sequence[Pair] = ()
    topics: Sequence[tuple[str, str]] = ()

    def texts(self) -> list[str]:
        """Every distinct text, in order of appearance."""
        pairs = [pair for found in (*self.similar.values(), self.dissimilar) for pair in found]
        return list(dict.fromkeys([text for pair in pairs for text in pair] + [text for text, _ in self.topics]))


def legacy_scores(embed: Embed) -> dict[str, dict[str, float]]:
    """Return both older definitions of every category and of the weighted overall score, on this suite's items.

    Similar pairs are (query, positive); dissimilar pairs are (query, hard negative), three an item.

    Args:
        embed: maps n texts to a float array of shape (n, dimensions).

    Returns:
        {"first": {category: score, ..., "overall": score}, "second": ...}; all scores at most 1.

    Raises:
        TaskError: a data file is absent or malformed, or `embed` returned another shape or values not finite.
    """
    items = _own_items()
    return {"first": first_definition(items, embed), "second": second_definition(items, embed)}


def first_definition(items: LegacyItems, embed: Embed) -> dict[str, float]:
    """Return every category and the weighted overall score as the first definition has them.

    Semantic similarity is (mean cosine of similar pairs - mean cosine of dissimilar pairs + 1) / 2; topic clustering is
    (silhouette of the true topics + purity of KMeans with one cluster a topic, ten starts, seed 42) / 2, on the vectors as
    they come, by Euclidean distance; the other four are the mean cosine of similar pairs.

    The silhouette of vectors that are all equal (to a millionth of the largest entry) is undefined and counts as 0; so does
    the cosine with a vector of zeros.

    Raises:
        TaskError: `embed` returned another shape or values not finite.
    """
    scores = {category: _mean_cosine(embed, pairs) for category, pairs in items.similar.items()}
    scores["semantic_similarity"] = (scores["semantic_similarity"] - _mean_cosine(embed, items.dissimilar) + 1) / 2
    return _with_overall(scores | {"topic_clustering": _clustering(embed, items.topics)}, FIRST_WEIGHTS)


def second_definition(items: LegacyItems, embed: Embed) -> dict[str, float]:
    """Return the mean cosine of similar pairs by category and their weighted sum; there is no topic clustering.

    Raises:
        TaskError: `embed` returned another shape or values not finite.
    """
    return _with_overall(
        {category: _mean_cosine(embed, pairs) for category, pairs in items.similar.items()}, SECOND_WEIGHTS
    )


def _own_items() -> LegacyItems:
    pairs = {category: retrieval_items(task) for category, task in _PAIR_TASKS.items()}
    return LegacyItems(
        similar={category: [(item.query, item.positive) for item in items] for category, items in pairs.items()},
        dissimilar=[(item.query, text) for item in pairs["semantic_similarity"] for text in item.negatives],
        topics=[(item.text, item.topic) for item in clustering_items()],
    )


def _mean_cosine(embed: Embed, pairs: Sequence[Pair]) -> float:
    left = _embed(embed, [pair[0] for pair in pairs])
    right = _embed(embed, [pair[1] for pair in pairs])
    return float(_cosines(left, right).mean())


def _clustering(embed: Embed, labelled: Sequence[tuple[str, str]]) -> float:
    _, topics = np.unique([topic for _, topic in labelled], return_inverse=True)
    vectors = _embed(embed, [text for text, _ in labelled])
    # Mean pooling of equal vectors leaves differences in the last digits, which no cluster can mean.
    if np.ptp(vectors, axis=0).max() <= 1e-6 * np.abs(vectors).max():
        return (0.0 + _purity(topics, np.zeros_like(topics))) / 2
    # Imported here, since scikit-learn takes most of a second, and most who import the suite score nothing.
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    kmeans = KMeans(n_clusters=topics.max() + 1, n_init=10, random_state=42)
    return (float(silhouette_score(vectors, topics)) + _purity(topics, kmeans.fit_predict(vectors))) / 2


def _purity(labels: NDArray[np.intp], clusters: NDArray[np.intp]) -> float:
    """Return the share of items whose label is the commonest of their cluster.

    Source: Manning, Raghavan and Schütze, Introduction to Information Retrieval, section 16.3.
    """
    commonest = (np.bincount(labels[clusters == cluster]).max() for cluster in np.unique(clusters))
    return float(sum(commonest) / len(labels))


def _cosines(left: _Vectors, right: _Vectors) -> _Vectors:
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines: _Vectors = np.divide((left * right).sum(axis=1), norms, out=np.zeros_like(norms), where=norms > 0)
    return cosines


def _embed(embed: Embed, texts: list[str]) -> _Vectors:
    vectors = np.asarray(embed(texts), dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise TaskError(
            f"expected one vector for each of {len(texts)} texts, got an array of shape {vectors.shape}; "
            "let `embed` return shape (texts, dimensions)"
        )
    if not np.isfinite(vectors).all():
        raise TaskError("expected finite vectors, got NaN or infinity; check weights and precision")
    return vectors


def _with_overall(scores: dict[str, float], weights: dict[str, float]) -> dict[str, float]:
    return scores | {"overall": sum(weight * scores[category] for category, weight in weights.items())}
