"""The categories' scores "as the analysis defined it": two older definitions, on this suite's items.

Both mostly average the cosine of pairs that belong together, so they reward a model for putting all texts in
one direction. They are computed to be shown beside the scores that deserve trust, never instead of them.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from embrepro.errors import TaskError
from embrepro.suite.items import clustering_items, retrieval_items

Embed = Callable[[Sequence[str]], np.ndarray]
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


def legacy_scores(embed: Embed) -> dict[str, dict[str, float]]:
    """Return both older definitions of every category and of the weighted overall score.

    Similar pairs are (query, positive); dissimilar pairs are (query, hard negative), three an item.

    - first: semantic similarity is (mean cosine of similar pairs - mean cosine of dissimilar pairs + 1) / 2;
      topic clustering is (silhouette of the true topics + purity of KMeans with one cluster a topic, ten
      starts, seed 42) / 2, on the vectors as they come, by Euclidean distance; the other four are the mean
      cosine of similar pairs.
    - second: every category is the mean cosine of similar pairs; there is no topic clustering.

    The silhouette of vectors that are all equal (to a millionth of the largest entry) is undefined and
    counts as 0; so does the cosine with a vector of zeros.

    Args:
        embed: maps n texts to a float array of shape (n, dimensions).

    Returns:
        {"first": {category: score, ..., "overall": score}, "second": ...}; all scores at most 1.

    Raises:
        TaskError: a data file is absent or malformed, or `embed` returned another shape or values not finite.
    """
    similar, dissimilar = {}, {}
    for category, task in _PAIR_TASKS.items():
        similar[category], dissimilar[category] = _mean_cosines(embed, task)
    separation = (similar["semantic_similarity"] - dissimilar["semantic_similarity"] + 1) / 2
    first = similar | {"semantic_similarity": separation, "topic_clustering": _clustering(embed)}
    return {"first": _with_overall(first, FIRST_WEIGHTS), "second": _with_overall(similar, SECOND_WEIGHTS)}


def _mean_cosines(embed: Embed, task: str) -> tuple[float, float]:
    items = retrieval_items(task)
    queries = _embed(embed, [item.query for item in items])
    positives = _embed(embed, [item.positive for item in items])
    negatives = _embed(embed, [text for item in items for text in item.negatives])
    of_query = np.repeat(queries, len(negatives) // len(queries), axis=0)
    return float(_cosines(queries, positives).mean()), float(_cosines(of_query, negatives).mean())


def _clustering(embed: Embed) -> float:
    items = clustering_items()
    _, topics = np.unique([item.topic for item in items], return_inverse=True)
    vectors = _embed(embed, [item.text for item in items])
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
