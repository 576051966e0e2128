"""Per-sample scores: what each query, pair or document contributed to a task's main score.

mteb keeps only the aggregates. `collect_samples` listens at the point where a task hands predictions and gold labels to
its metric, so the samples are the very inputs of the score. Columns: split, subset, sample, replicate, score, target; `statistic`
says how the main score follows from them (`statistics.estimates.point` recomputes it), and is None for the few main
scores that no single sample contributes to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from embrepro.errors import TaskError
from embrepro.files import replacing

if TYPE_CHECKING:
    from mteb import AbsTask

SCHEMA = {
    "split": pl.String,
    "subset": pl.String,
    "sample": pl.String,
    "replicate": pl.Int32,
    "score": pl.Float64,
    "target": pl.Float64,
}
TREC_NAMES = {
    "ndcg_at": "ndcg_cut",
    "map_at": "map_cut",
    "recall_at": "recall",
    "precision_at": "P",
    "hit_rate_at": "success",
}
CLASSIFICATION = {
    "accuracy": "accuracy",
    "f1": "f1_macro",
    "f1_weighted": "f1_weighted",
    "ap": "average_precision",
}
PAIR_SCORES = {
    "similarity": ("similarity_scores", 1.0),
    "cosine": ("cosine_scores", 1.0),
    "dot": ("dot_scores", 1.0),
    "euclidean": ("euclidean_distances", -1.0),
    "manhattan": ("manhattan_distances", -1.0),
}
STS_SCORES = {
    "cosine": "cosine_scores",
    "manhattan": "manhattan_distances",
    "euclidean": "euclidean_distances",
    "": "similarity_scores",
}


def path_of(folder: Path, task: str) -> Path:
    """Where a task's samples lie in a folder of results, beside mteb's own file."""
    return folder / f"{task}.samples.parquet"


@dataclass
class Samples:
    """Per-sample scores of one task and the statistic that makes its main score."""

    statistic: str | None = None
    frames: list[pl.DataFrame] = field(default_factory=list)

    @property
    def frame(self) -> pl.DataFrame:
        """All rows, in the order of evaluation."""
        return pl.concat(self.frames) if self.frames else pl.DataFrame(schema=SCHEMA)


def write(path: Path, samples: Samples) -> None:
    """Write samples as Parquet, the statistic in the file's metadata."""
    with replacing(path) as unfinished:
        metadata = {"statistic": samples.statistic} if samples.statistic else {}
        samples.frame.write_parquet(unfinished, metadata=metadata)


def read(path: Path) -> Samples:
    """Read what `write` wrote; raises TaskError where the file is absent, damaged or of another kind."""
    try:
        found = Samples(pl.read_parquet_metadata(path).get("statistic"), [pl.read_parquet(path)])
    except (OSError, pl.exceptions.PolarsError) as error:
        raise TaskError(f"{path} is missing or damaged ({' '.join(str(error).split())}). Run: dvc repro") from None
    if found.frame.schema != SCHEMA:
        raise TaskError(
            f"{path} does not hold per-sample scores: its columns are {found.frame.columns}. Run: dvc repro"
        )
    return found


@contextmanager
def collect_samples(task: AbsTask) -> Iterator[Samples]:
    """Collect a task's per-sample scores while the block evaluates it; the task must not be used afterwards."""
    from mteb.abstasks import (
        AbsTaskBitextMining,
        AbsTaskClassification,
        AbsTaskClustering,
        AbsTaskClusteringLegacy,
        AbsTaskMultilabelClassification,
        AbsTaskPairClassification,
        AbsTaskRetrieval,
        AbsTaskSTS,
        AbsTaskSummarization,
    )

    listener = _Listener(task)
    taps = (
        (AbsTaskRetrieval, listener.retrieval),
        (AbsTaskMultilabelClassification, listener.multilabel),
        (AbsTaskClassification, listener.classification),
        (AbsTaskPairClassification, listener.pairs),
        (AbsTaskSTS, listener.sts),
        (AbsTaskBitextMining, listener.bitext),
        (AbsTaskClusteringLegacy, listener.cluster_sets),
        (AbsTaskSummarization, listener.summaries),
    )
    for task_class, listen in taps:
        if isinstance(task, task_class):
            listen()
            break
    if isinstance(task, AbsTaskClustering):
        with listener.clusters():
            yield listener.samples
    else:
        yield listener.samples


class _Listener:
    """Wraps methods of one task so that their arguments are noted before they run."""

    def __init__(self, task: AbsTask) -> None:
        # Any of mteb's kinds of task, each with attributes of its own.
        self.task: Any = task
        self.metric = task.metadata.main_score
        self.samples = Samples()
        self.split, self.subset, self.replicate = "", "", 0
        for name in ("_evaluate_subset", "_evaluate_subset_cross_validation"):
            if hasattr(task, name):
                self._before(name, self._enter)

    def _before(self, name: str, note: Any, after: bool = False) -> None:  # noqa: ANN401 - any callable
        method = getattr(self.task, name)

        def noted(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
            if not after:
                note(*arguments, **named)
                return method(*arguments, **named)
            result = method(*arguments, **named)
            note(result, *arguments, **named)
            return result

        setattr(self.task, name, noted)

    def _enter(self, *_: object, hf_split: str, hf_subset: str, **__: object) -> None:
        self.split, self.subset, self.replicate = hf_split, hf_subset, 0

    def _add(self, samples: Sequence[object], scores: Any, targets: Any = None) -> None:  # noqa: ANN401
        size = len(samples)
        columns = {
            "split": [self.split] * size,
            "subset": [self.subset] * size,
            "sample": [str(sample) for sample in samples],
            "replicate": [self.replicate] * size,
            "score": np.asarray(scores, dtype=np.float64),
            "target": [None] * size if targets is None else np.asarray(targets, dtype=np.float64),
        }
        self.samples.frames.append(pl.DataFrame(columns, schema=SCHEMA))

    def retrieval(self) -> None:
        """One row a query: the main metric."""
        prefix, _, cutoff = self.metric.rpartition("_")
        trec = f"{TREC_NAMES[prefix]}_{cutoff}" if prefix in TREC_NAMES else None
        if trec is None and prefix != "mrr_at":
            return
        self.samples.statistic = "mean"

        def note(scores: Any, qrels: Any, results: Any, **_: object) -> None:  # noqa: ANN401
            if trec is not None:
                self._add(list(scores), [values[trec] for values in scores.values()])
                return
            from mteb._evaluators.retrieval_metrics import mrr

            self._add(list(results), next(iter(mrr(qrels, results, [int(cutoff)]).values())))

        self._before("task_specific_scores", note)

    def classification(self) -> None:
        """One row a document and experiment: predicted and true label, as codes in sorted order."""
        self.samples.statistic = CLASSIFICATION.get(self.metric)
        if self.samples.statistic is None:
            return
        folds = self._folds() if self.task.is_cross_validation else None

        def note(truth: Any, predicted: Any, *_: object) -> None:  # noqa: ANN401
            truth, predicted = np.asarray(list(truth)), np.asarray(list(predicted))
            codes = np.unique(np.concatenate([truth, self._trained_labels()]))
            rows = next(folds) if folds else np.arange(len(truth))
            self._add(rows.tolist(), np.searchsorted(codes, predicted), np.searchsorted(codes, truth))
            self.replicate += 1

        self._before("_calculate_scores", note)

    def _trained_labels(self) -> np.ndarray:
        """Labels a classifier can predict, the same for every model and experiment."""
        return np.asarray(list(self._data()[self.task.train_split][self.task.label_column_name][:]))

    def _data(self) -> Any:  # noqa: ANN401 - the data sets of the current subset by split
        return self.task.dataset.get(self.subset, self.task.dataset)

    def _folds(self) -> Iterator[np.ndarray]:
        from sklearn.model_selection import KFold

        while True:
            splits = KFold(n_splits=self.task.n_splits, shuffle=True, random_state=self.task.seed)
            rows = range(len(self._data()[self.task.train_split]))
            yield from (validation for _, validation in splits.split(rows))

    def multilabel(self) -> None:
        """One row a document and experiment: all labels right (accuracy), or its label-ranking precision (lrap)."""
        if self.metric not in ("accuracy", "lrap"):
            return
        self.samples.statistic = "mean" if self.metric == "accuracy" else "lrap"

        def note(truth: Any, predicted: Any, *_: object) -> None:  # noqa: ANN401
            truth, predicted = np.asarray(truth), np.asarray(predicted)
            if self.metric == "accuracy":
                scores = (truth == predicted).all(axis=1).astype(float)
            else:
                from sklearn.metrics import label_ranking_average_precision_score as precision

                scores = [precision(truth[row : row + 1], predicted[row : row + 1]) for row in range(len(truth))]
            self._add(range(len(truth)), scores)
            self.replicate += 1

        self._before("_calculate_scores", note)

    def pairs(self) -> None:
        """One row a pair: similarity and label; for max_ap the similarity whose average precision is highest."""
        kind, _, measure = self.metric.rpartition("_")
        if measure != "ap" or (kind != "max" and kind not in PAIR_SCORES):
            return
        self.samples.statistic = "average_precision"

        def note(result: dict[str, float], similarities: Any, labels: Any) -> None:  # noqa: ANN401
            best = max(PAIR_SCORES, key=lambda name: result.get(f"{name}_ap", -1.0)) if kind == "max" else kind
            column, sign = PAIR_SCORES[best]
            self._add(range(len(similarities[column])), sign * np.asarray(similarities[column]), list(labels))

        self._before("_compute_metrics", note, after=True)

    def sts(self) -> None:
        """One row a pair: similarity and gold score."""
        kind, _, correlation = self.metric.rpartition("_")
        if correlation not in ("spearman", "pearson") or kind not in STS_SCORES:
            return
        self.samples.statistic = correlation

        def note(similarities: Any, gold: Any) -> None:  # noqa: ANN401
            scores = similarities[STS_SCORES[kind]]
            self._add(range(len(scores)), scores, gold)

        self._before("_calculate_scores", note)

    def bitext(self) -> None:
        """One row a sentence: index of its nearest neighbour and of its translation."""
        self.samples.statistic = {"f1": "f1_weighted", "accuracy": "accuracy"}.get(self.metric)
        if self.samples.statistic is None:
            return
        pairs: Iterator[str] = iter(())

        def note(neighbours: Any, gold: Any) -> None:  # noqa: ANN401
            nonlocal pairs
            if self.subset == "parallel" or self.task.parallel_subsets:
                self.subset = next(pairs, None) or next(pairs := iter(self.task.hf_subsets))
            found = [neighbour["corpus_id"] for neighbour in neighbours]
            self._add(range(len(found)), found, [gold[row][1] for row in range(len(found))])

        self._before("_compute_metrics", note)

    def cluster_sets(self) -> None:
        """One row a document of a cluster set: cluster and label; each set is a replicate."""
        if self.metric != "v_measure":
            return
        self.samples.statistic = "v_measure"

        def note(labels: Any, clusters: Any, *_: object, **__: object) -> None:  # noqa: ANN401
            names = [f"{self.replicate}/{row}" for row in range(len(clusters))]
            self._add(names, clusters, np.unique(list(labels), return_inverse=True)[1])
            self.replicate += 1

        def note_single(_: object, __: object, data: Any, **___: object) -> None:  # noqa: ANN401
            sets = enumerate(data[self.task.label_column_name])
            single = [(index, labels) for index, labels in sets if len(set(labels)) <= 1]
            self.replicate = len(data)
            for index, labels in single:
                self._add(
                    [f"single-{index}/{row}" for row in range(len(labels))],
                    [0] * len(labels),
                    [0] * len(labels),
                )
                self.replicate += 1

        self._before("_compute_metrics", note)
        self._before("_evaluate_subset", note_single, after=True)

    @contextmanager
    def clusters(self) -> Iterator[None]:
        """One row a drawn document: cluster and label; each experiment is a replicate, documents may be drawn twice."""
        from mteb import abstasks

        clustering: Any = abstasks.clustering
        if self.metric != "v_measure":
            yield
            return
        self.samples.statistic = "v_measure"
        measure, cluster = clustering.v_measure_score, clustering._evaluate_clustering_bootstrapped
        draws = _NotedDraws()

        def noted_measure(labels: np.ndarray, clusters: np.ndarray) -> float:
            self._add(draws.last, clusters, np.unique(labels, return_inverse=True)[1])
            self.replicate += 1
            return float(measure(labels, clusters))

        def noted_cluster(*arguments: Any, rng_state: Random, **named: Any) -> Any:  # noqa: ANN401
            draws.setstate(rng_state.getstate())
            result = cluster(*arguments, rng_state=draws, **named)
            rng_state.setstate(draws.getstate())
            return result

        clustering.v_measure_score = noted_measure
        clustering._evaluate_clustering_bootstrapped = noted_cluster
        try:
            yield
        finally:
            clustering.v_measure_score = measure
            clustering._evaluate_clustering_bootstrapped = cluster

    def summaries(self) -> None:
        """One row a text: the correlation of its summaries' similarities with the gold scores."""
        kind, _, correlation = self.metric.rpartition("_")
        column = {"cosine": "cosine_scores", "dot": "dot_scores", "": "similarity_scores"}.get(kind)
        if column is None or correlation not in ("spearman", "pearson"):
            return
        self.samples.statistic = "mean"
        listener = self

        class Noted(self.task.evaluator):  # type: ignore[name-defined,misc]
            def _calculate_metrics(self, distances: Any) -> Any:  # noqa: ANN401
                from scipy.stats import pearsonr, spearmanr

                correlate = spearmanr if correlation == "spearman" else pearsonr
                gold_and_found = zip(distances["human_scores"], distances[column], strict=True)
                scores = [float(correlate(gold, found).statistic) for gold, found in gold_and_found]
                listener._add(range(len(scores)), scores)
                return super()._calculate_metrics(distances)

        self.task.evaluator = Noted


class _NotedDraws(Random):
    """A generator that remembers its last `choices`."""

    last: Sequence[Any] = ()

    def choices(
        self,
        population: Any,  # noqa: ANN401 - whatever random.Random takes
        weights: Any = None,  # noqa: ANN401
        *,
        cum_weights: Any = None,  # noqa: ANN401
        k: int = 1,
    ) -> list[Any]:
        """As `random.Random.choices`."""
        self.last = super().choices(population, weights, cum_weights=cum_weights, k=k)
        return self.last
