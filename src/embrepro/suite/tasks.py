"""The suite as mteb tasks: five of type Retrieval, one of type Clustering."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict
from mteb.abstasks import AbsTask, AbsTaskClustering, AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.task_metadata import TaskMetadata
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from embrepro.errors import TaskError
from embrepro.suite.items import (
    CATEGORIES,
    CLUSTERING_TASK,
    RetrievalItem,
    clustering_items,
    file_revision,
    retrieval_items,
)

_SLOTS = "abcd"


def _metadata(
    name: str,
    description: str,
    *,
    domains: Sequence[str],
    task_subtypes: Sequence[str],
    eval_langs: Sequence[str] = ("eng-Latn",),
) -> TaskMetadata:
    clustering = name == CLUSTERING_TASK
    return TaskMetadata.model_validate(
        {
            "name": name,
            "description": description,
            "dataset": {
                "path": f"embrepro/{CATEGORIES[name].replace(' ', '_')}",
                "revision": file_revision(name),
            },
            "type": "Clustering" if clustering else "Retrieval",
            "category": "t2c" if clustering else "t2t",
            "main_score": "v_measure" if clustering else "ndcg_at_10",
            "modalities": ["text"],
            "eval_splits": ["test"],
            "eval_langs": list(eval_langs),
            "domains": list(domains),
            "task_subtypes": list(task_subtypes),
            "date": ("2026-11-01", "2026-11-30"),
            "license": "apache-2.0",
            "annotations_creators": "derived",
            "sample_creation": "created",
            "dialect": [],
            "reference": None,
            "bibtex_citation": "",
        }
    )


class _HardNegativeRetrieval(AbsTaskRetrieval):
    """Each query searches all positives and all hard negatives of its category for its one positive.

    The main score is `ndcg_at_10` (chance: about 1.1 / queries). Two more scores look only at a query's
    similarities to its positive and to its own three hard negatives:

    - `hard_negative_accuracy`: the share of queries whose positive is the most similar of the four; equal
      similarities count as what random tie-breaking would give (chance: 0.25).
    - `roc_auc`: the probability that a positive's similarity exceeds a hard negative's, over all pairs of
      the task whatever their query, ties counting half (chance: 0.5); it asks for one scale of similarity
      for all queries.
    """

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        """Build the one split of the task from the package's data file.

        Raises:
            TaskError: the data file is absent or malformed, or holds more documents than are ranked.
        """
        if self.data_loaded:
            return
        split = _split(retrieval_items(self.metadata.name))
        documents, ranked = len(split["corpus"]), max(self.k_values)
        if documents > ranked:
            raise TaskError(
                f"{self.metadata.name}: expected at most {ranked} documents, since mteb ranks no more and "
                f"every hard negative must be ranked; got {documents}; shorten the data or raise k_values"
            )
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True

    def task_specific_scores(
        self,
        scores: dict[str, dict[str, float]],
        qrels: Mapping[str, Mapping[str, int]],
        results: Mapping[str, Mapping[str, float]],
        hf_split: str,
        hf_subset: str,
    ) -> dict[str, float]:
        """Return `hard_negative_accuracy` and `roc_auc`, both in [0, 1].

        Raises:
            TaskError: the model's search left out a query's positive or one of its hard negatives, or gave
                a similarity that is not finite.
        """
        positives, negatives = _own_similarities(qrels, results)
        labels = np.repeat([1, 0], [positives.size, negatives.size])
        return {
            "hard_negative_accuracy": _accuracy(positives, negatives),
            "roc_auc": float(roc_auc_score(labels, np.concatenate([positives, negatives.ravel()]))),
        }


def _own_similarities(
    qrels: Mapping[str, Mapping[str, int]], results: Mapping[str, Mapping[str, float]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the similarities to the positives, shape (queries,), and to the own negatives, (queries, 3)."""
    positives, negatives = [], []
    for query, relevant in qrels.items():
        run = results.get(query, {})
        ids = _document_ids(query)
        if absent := [id_ for id_ in ids if id_ not in run]:
            raise TaskError(
                f"query {query}: expected a similarity to each of its {len(ids)} own documents, got none to "
                f"{', '.join(absent)}; let the model rank all documents"
            )
        positives.append([run[id_] for id_ in ids if id_ in relevant])
        negatives.append([run[id_] for id_ in ids if id_ not in relevant])
    if not (np.isfinite(positives).all() and np.isfinite(negatives).all()):
        raise TaskError("expected finite similarities, got NaN or infinity; check weights and precision")
    return np.array(positives)[:, 0], np.array(negatives)


def _accuracy(positives: NDArray[np.float64], negatives: NDArray[np.float64]) -> float:
    """Return the expected share of positives ranked first of their own documents, ties broken at random."""
    first = positives >= negatives.max(axis=1)
    ties = (negatives == positives[:, None]).sum(axis=1)
    return float(np.where(first, 1 / (1 + ties), 0.0).mean())


def _split(items: Sequence[RetrievalItem]) -> RetrievalSplitData:
    slots = _positive_slots(items)
    corpus, relevant_docs = [], {}
    for item in items:
        texts = list(item.negatives)
        texts.insert(slots[item.id], item.positive)
        ids = _document_ids(item.id)
        corpus += [{"id": id_, "text": text, "title": ""} for id_, text in zip(ids, texts, strict=True)]
        relevant_docs[item.id] = {ids[slots[item.id]]: 1}
    return RetrievalSplitData(
        corpus=Dataset.from_list(corpus),
        queries=Dataset.from_list([{"id": item.id, "text": item.query} for item in items]),
        relevant_docs=relevant_docs,
        top_ranked=None,
    )


def _document_ids(query: str) -> list[str]:
    """Return the ids of a query's own documents: its positive and its three hard negatives."""
    return [f"{query}-{slot}" for slot in _SLOTS]


def _positive_slots(items: Sequence[RetrievalItem]) -> dict[str, int]:
    """Map each item's id to the place of its positive among its own documents: the four places in turn.

    Where similarities are equal mteb ranks by document id, highest first. With one positive in any four
    neighbouring ids, at changing places, a model without any discrimination has chance's nDCG.
    """
    return {id_: rank % len(_SLOTS) for rank, id_ in enumerate(sorted(item.id for item in items))}


class EmbreproInstructionAwareness(_HardNegativeRetrieval):
    """Does the model know which task an instruction sets, on one and the same topic?"""

    metadata = _metadata(
        "EmbreproInstructionAwareness",
        "Find the text that does what an instruction asks; other texts on the same topic do not.",
        domains=["Constructed", "Instructional", "Written"],
        task_subtypes=["Intent classification"],
    )


class EmbreproSemanticSimilarity(_HardNegativeRetrieval):
    """Does the model follow meaning rather than words?"""

    metadata = _metadata(
        "EmbreproSemanticSimilarity",
        "Find the paraphrase in other words; other sentences share more words and mean something else.",
        domains=["Constructed", "Written"],
        task_subtypes=["Duplicate Detection"],
    )


class EmbreproCodeUnderstanding(_HardNegativeRetrieval):
    """Does the model see what code does, not only what it looks like?"""

    metadata = _metadata(
        "EmbreproCodeUnderstanding",
        "Find the description of a piece of code or the code for one; near misses differ in one point.",
        domains=["Constructed", "Programming", "Written"],
        task_subtypes=["Code retrieval"],
    )


class EmbreproConversationalUnderstanding(_HardNegativeRetrieval):
    """Does the model understand what an idiom, a hint or a turn of talk means?"""

    metadata = _metadata(
        "EmbreproConversationalUnderstanding",
        "Find what an idiom, a hint or a turn of talk means; other texts are literal or opposite readings.",
        domains=["Constructed", "Social", "Spoken", "Written"],
        task_subtypes=["Conversational retrieval"],
    )


class EmbreproMultilingualAlignment(_HardNegativeRetrieval):
    """Does the model put a sentence beside its translation, not beside a near miss in that language?"""

    # All 1,320 documents are ranked, so that every hard negative is.
    k_values = (1, 3, 5, 10, 20, 100, 1000, 2000)

    metadata = _metadata(
        "EmbreproMultilingualAlignment",
        "Find the translation of a sentence among texts of all languages; near misses differ in one fact.",
        domains=["Constructed", "Written"],
        task_subtypes=["Cross-Lingual Semantic Discrimination"],
        eval_langs=["eng-Latn", "deu-Latn", "fra-Latn", "ita-Latn", "nld-Latn", "por-Latn", "spa-Latn"],
    )


class EmbreproTopicClustering(AbsTaskClustering):
    """Do the model's neighbourhoods follow topics, also where topics are neighbours?"""

    # All texts are embedded; mteb's default of 4 % would leave about ten. Each of the ten k-means runs draws
    # ten times as many with replacement, so that nearly every text takes part in each. Measured on 240
    # points in ten overlapping groups, over seeds: one run on all texts (mteb's older clustering task)
    # scatters with a standard deviation of 0.015 to 0.056; draws of 240 raise V by up to 0.08, because a
    # text drawn twice always agrees with itself; this way nothing is raised and the scatter is about a third.
    max_fraction_of_documents_to_embed = None
    max_document_to_embed = None
    max_documents_per_cluster = 2400

    metadata = _metadata(
        "EmbreproTopicClustering",
        "Group short texts by topic, where each topic has a neighbour that is easily mistaken for it.",
        domains=["Constructed", "Written"],
        task_subtypes=["Thematic clustering"],
    )

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        """Build the one split of the task from the package's data file.

        Raises:
            TaskError: the data file is absent or malformed.
        """
        if self.data_loaded:
            return
        items = clustering_items()
        columns = {"sentences": [item.text for item in items], "labels": [item.topic for item in items]}
        self.dataset = DatasetDict({"test": Dataset.from_dict(columns)})
        self.data_loaded = True

    def evaluate(self, *args: Any, **kwargs: Any) -> Mapping[str, Any]:  # noqa: ANN401
        """Evaluate as mteb does, from the seed each time, so that a second evaluation scores the same."""
        self.rng_state = random.Random(self.seed)
        return super().evaluate(*args, **kwargs)


TASKS: dict[str, type[AbsTask]] = {
    task.metadata.name: task
    for task in (
        EmbreproInstructionAwareness,
        EmbreproSemanticSimilarity,
        EmbreproCodeUnderstanding,
        EmbreproConversationalUnderstanding,
        EmbreproMultilingualAlignment,
        EmbreproTopicClustering,
    )
}
"""Task name to task class, in the order of `CATEGORIES`."""
