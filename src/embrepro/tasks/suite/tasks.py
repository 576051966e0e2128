"""The suite as mteb tasks: five of type Reranking, one of type Clustering."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset, DatasetDict
from mteb.abstasks import AbsTask, AbsTaskClustering, AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.task_metadata import TaskMetadata
from sklearn.metrics import roc_auc_score

from embrepro.tasks.suite.items import (
    CATEGORIES,
    CLUSTERING_TASK,
    RerankingItem,
    clustering_items,
    file_revision,
    reranking_items,
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
            "type": "Clustering" if clustering else "Reranking",
            "category": "t2c" if clustering else "t2t",
            "main_score": "v_measure" if clustering else "hit_rate_at_1",
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


class _HardNegativeReranking(AbsTaskRetrieval):
    """One positive against its own three hard negatives, for every query.

    The main score, `hit_rate_at_1`, is the share of queries whose positive comes first of the four
    (chance: 0.25). Beside mteb's scores it gives `roc_auc`: the probability that a positive's similarity
    exceeds a hard negative's, over all pairs of the task whatever their query (chance: 0.5); it asks more
    than the main score, namely one scale of similarity for all queries.
    """

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        """Build the one split of the task from the package's data file.

        Raises:
            TaskError: the data file is absent or malformed.
        """
        if self.data_loaded:
            return
        items = reranking_items(self.metadata.name)
        self.dataset = {"default": {"test": _split(items)}}
        self.data_loaded = True

    def task_specific_scores(
        self,
        scores: dict[str, dict[str, float]],
        qrels: Mapping[str, Mapping[str, int]],
        results: Mapping[str, Mapping[str, float]],
        hf_split: str,
        hf_subset: str,
    ) -> dict[str, float]:
        """Return the area under the ROC curve of similarity as a detector of positives."""
        positive = [document in qrels[query] for query, run in results.items() for document in run]
        similarity = [score for run in results.values() for score in run.values()]
        return {"roc_auc": float(roc_auc_score(positive, similarity))}


def _split(items: Sequence[RerankingItem]) -> RetrievalSplitData:
    slots = _positive_slots(items)
    corpus, relevant_docs, top_ranked = [], {}, {}
    for item in items:
        texts = list(item.negatives)
        texts.insert(slots[item.id], item.positive)
        ids = [f"{item.id}-{slot}" for slot in _SLOTS]
        corpus += [{"id": id_, "text": text, "title": ""} for id_, text in zip(ids, texts, strict=True)]
        relevant_docs[item.id] = {ids[slots[item.id]]: 1}
        top_ranked[item.id] = ids
    return RetrievalSplitData(
        corpus=Dataset.from_list(corpus),
        queries=Dataset.from_list([{"id": item.id, "text": item.query} for item in items]),
        relevant_docs=relevant_docs,
        top_ranked=top_ranked,
    )


def _positive_slots(items: Sequence[RerankingItem]) -> dict[str, int]:
    """Map each item's id to the place of its positive among the four candidates, every place equally often.

    Where similarities are equal mteb ranks by document id, highest first. Were the positive always at one
    place, a model without any discrimination would score 0 or 1 instead of chance.
    """
    by_hash = sorted(items, key=lambda item: hashlib.sha256(item.id.encode()).digest())
    return {item.id: rank % len(_SLOTS) for rank, item in enumerate(by_hash)}


class EmbreproInstructionAwareness(_HardNegativeReranking):
    """Does the model know which task an instruction sets, on one and the same topic?"""

    metadata = _metadata(
        "EmbreproInstructionAwareness",
        "Find the text that does what an instruction asks among texts on the same topic that do not.",
        domains=["Constructed", "Instructional", "Written"],
        task_subtypes=["Intent classification"],
    )


class EmbreproSemanticSimilarity(_HardNegativeReranking):
    """Does the model follow meaning rather than words?"""

    metadata = _metadata(
        "EmbreproSemanticSimilarity",
        "Find the paraphrase in other words among sentences in nearly the same words with another meaning.",
        domains=["Constructed", "Written"],
        task_subtypes=["Duplicate Detection"],
    )


class EmbreproCodeUnderstanding(_HardNegativeReranking):
    """Does the model see what code does, not only what it looks like?"""

    metadata = _metadata(
        "EmbreproCodeUnderstanding",
        "Match code and the description of what it does, among near misses that differ in one point.",
        domains=["Constructed", "Programming", "Written"],
        task_subtypes=["Code retrieval"],
    )


class EmbreproConversationalUnderstanding(_HardNegativeReranking):
    """Does the model understand what an idiom, a hint or a turn of talk means?"""

    metadata = _metadata(
        "EmbreproConversationalUnderstanding",
        "Find what an idiom, a hint or a turn of talk means among literal and opposite readings.",
        domains=["Constructed", "Social", "Spoken", "Written"],
        task_subtypes=["Conversational retrieval"],
    )


class EmbreproMultilingualAlignment(_HardNegativeReranking):
    """Does the model put a sentence beside its translation, not beside a near miss in that language?"""

    metadata = _metadata(
        "EmbreproMultilingualAlignment",
        "Find the translation of a sentence among sentences of the same language that differ in one fact.",
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
