"""Shorter ways to what mteb computes, where profiling shows it slow: the same results to the last bit."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from embrepro.tasks import search

if TYPE_CHECKING:
    from mteb import AbsTask


@contextmanager
def installed() -> Iterator[None]:
    """Let mteb search a corpus, and find reciprocal ranks, by the kit's functions while the block runs."""
    from mteb._evaluators import retrieval_metrics
    from mteb.models import search_wrappers

    wrappers: Any = search_wrappers
    metrics: Any = retrieval_metrics
    theirs = wrappers.chunked_full_corpus_search, metrics.mrr
    wrappers.chunked_full_corpus_search = search.search_corpus
    metrics.mrr = _ReciprocalRanks(metrics.mrr)
    try:
        yield
    finally:
        wrappers.chunked_full_corpus_search, metrics.mrr = theirs


class _ReciprocalRanks:
    """In place of mteb's `mrr`, which sorts all documents of a query to find the first relevant one.

    Its rank is one more than the number of documents before it: by score, and by name where scores are equal.
    """

    def __init__(self, theirs: Callable[..., dict[str, list[float]]]) -> None:
        self._theirs = theirs

    def __call__(
        self,
        qrels: Mapping[str, Mapping[str, int]],
        results: Mapping[str, Mapping[str, float]],
        k_values: Sequence[int],
    ) -> dict[str, list[float]]:
        """For each k, by the name MRR@k, the reciprocal rank of each query, 0 where it is beyond k."""
        found: dict[str, list[float]] = defaultdict(list)
        for query, scores in results.items():
            relevant = [(scores[name], name) for name, grade in qrels[query].items() if grade > 0 and name in scores]
            # A sum is NaN where one of them is; NaN has no rank, and sorting puts it anywhere.
            if any(not isinstance(score, float) for score, _ in relevant) or math.isnan(sum(scores.values())):
                return self._theirs(qrels, results, k_values)
            rank = _rank(max(relevant), scores) if relevant else 0
            for k in k_values:
                found[f"MRR@{k}"].append(1.0 / rank if 0 < rank <= k else 0.0)
        return found


def _rank(best: tuple[float, str], scores: Mapping[str, float]) -> int:
    score, name = best
    before = sum(map(score.__lt__, scores.values()))
    values = [*scores.values()]
    if values.count(score) > 1:
        before += sum(other > name for other, each in scores.items() if each == score)
    return before + 1


def speed_up(task: AbsTask) -> None:
    """Spare mteb's slow way to the same result: it reads labels one by one from a lazy column, for every metric again."""
    from mteb.abstasks import AbsTaskClassification, AbsTaskMultilabelClassification

    if not isinstance(task, AbsTaskClassification):
        return
    labelled: Any = task
    column = task.label_column_name
    sample, experiment = task._undersample_data, task._run_experiment
    labelled._undersample_data = lambda dataset, *rest: sample(_Labels(dataset, column), *rest)
    labelled._run_experiment = lambda train, test, *rest, **named: experiment(
        _Labels(train, column), _Labels(test, column), *rest, **named
    )
    if isinstance(task, AbsTaskMultilabelClassification):
        choose = task._undersample_data_indices
        labelled._undersample_data_indices = lambda labels, *rest: choose(list(labels[:]), *rest)


class _Labels:
    """A data set whose label column is a list; everything else is the data set's."""

    def __init__(self, dataset: Any, column: str) -> None:  # noqa: ANN401
        self._dataset = dataset
        self._column = column
        self._labels = list(dataset[column][:])

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401
        return self._labels if key == self._column else self._dataset[key]

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._dataset, name)
