"""Whether a loaded task is whole: its sizes beside the descriptive statistics that mteb ships with the package.

mteb scores what it is given. Lost rows, documents or qrels make a score that looks like any other, often a higher one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from embrepro.errors import TaskError

if TYPE_CHECKING:
    from mteb import AbsTask

SAMPLES, QUERIES, DOCUMENTS, QRELS, RANKED = (
    "samples",
    "queries",
    "documents",
    "relevant documents",
    "ranked documents",
)


def expect_whole(task: AbsTask, splits: Iterable[str]) -> None:
    """Compare a loaded task's sizes with mteb's statistics, and each query with its qrels where there are none.

    Args:
        task: a task whose data is loaded, in mteb's current layout.
        splits: the splits to compare; those that mteb has no statistics for are only searched for queries without qrels.

    Raises:
        TaskError: a size differs, naming both numbers; a requested subset is absent; or queries have no qrels and so
            would not count.
    """
    published = task.metadata.descriptive_stats or {}
    for split in splits:
        for subset in task.hf_subsets:
            data = _data(task, subset, split)
            where = f"split {split}" if subset == "default" else f"split {split}, subset {subset}"
            if data is None:
                if split in task.eval_splits:
                    raise TaskError(f"its data has no {where}; the copy of the data set that was read is not whole")
                continue
            expected = _expected(published.get(split), subset, only=len(task.metadata.hf_subsets) == 1)
            if expected is None:
                _expect_qrels(data, where)
            else:
                _expect_equal(_found(task, data), expected, where)


def _expect_equal(found: dict[str, int], expected: dict[str, int], where: str) -> None:
    for what, number in found.items():
        if what in expected and expected[what] != number:
            raise TaskError(
                f"{where} has {number} {what}, but mteb's statistics of this data set say {expected[what]}. "
                "Fetch the data set again at its pinned revision; a score on other data is not this task's score."
            )


def _expect_qrels(data: Any, where: str) -> None:  # noqa: ANN401 - the data of one split
    if not _is_retrieval(data):
        return
    queries = list(data["queries"]["id"][:])
    bare = [query for query in queries if not data["relevant_docs"].get(query)]
    if bare:
        raise TaskError(
            f"{where}: {len(bare)} of {len(queries)} queries have no qrels (the first: {bare[0]}); mteb would leave them out "
            "and the score would rise. Complete the qrels, or take these queries out of the data set."
        )


def _data(task: AbsTask, subset: str, split: str) -> Any:  # noqa: ANN401 - what mteb keeps for one split
    dataset: Any = task.dataset
    if subset in dataset:
        dataset = dataset[subset]
    elif "default" in dataset:
        dataset = dataset["default"]
    return dataset.get(split)


def _expected(statistics: Mapping[str, Any] | None, subset: str, only: bool) -> dict[str, int] | None:
    """Sizes that mteb published for a subset of a split, or None where it has none."""
    if statistics is None:
        return None
    by_subset = statistics.get("hf_subset_descriptive_stats") or {}
    chosen = by_subset.get(subset) or (statistics if only and not by_subset else None)
    if chosen is None:
        return None
    sizes = {
        SAMPLES: chosen.get("num_samples"),
        QUERIES: chosen.get("num_queries"),
        DOCUMENTS: chosen.get("num_documents"),
        QRELS: (chosen.get("relevant_docs_statistics") or {}).get("num_relevant_docs"),
        RANKED: (chosen.get("top_ranked_statistics") or {}).get("num_top_ranked"),
    }
    return {what: number for what, number in sizes.items() if number is not None} or None


def _found(task: AbsTask, data: Any) -> dict[str, int]:  # noqa: ANN401 - the data of one split
    """Sizes of a split, counted as mteb's `_calculate_descriptive_statistics_from_split` counts them."""
    if not _is_retrieval(data):
        return {SAMPLES: _samples(task, data)}
    judged = sum(1 for documents in data["relevant_docs"].values() for score in documents.values() if score != 0)
    sizes = {QUERIES: len(data["queries"]), DOCUMENTS: len(data["corpus"]), QRELS: judged}
    if data.get("top_ranked"):
        sizes[RANKED] = sum(len(documents) for documents in data["top_ranked"].values())
    return sizes


def _samples(task: AbsTask, data: Any) -> int:  # noqa: ANN401 - the data of one split
    from mteb.abstasks import AbsTaskClusteringLegacy, AbsTaskPairClassification

    if isinstance(task, AbsTaskPairClassification):
        row = data[0] if isinstance(data, list) else data
        labels = row[task.label_column_name]
        return len(labels[0]) if len(labels) == 1 and isinstance(labels[0], list) else len(labels)
    if isinstance(task, AbsTaskClusteringLegacy):
        inputs = data[task.input_column_name]
        return sum(len(one) for one in inputs) if len(inputs) and isinstance(inputs[0], list) else len(inputs)
    if isinstance(data, Mapping):
        return max(len(column) for column in data.values())
    return len(data)


def _is_retrieval(data: Any) -> bool:  # noqa: ANN401 - the data of one split
    return isinstance(data, Mapping) and "corpus" in data and "queries" in data
