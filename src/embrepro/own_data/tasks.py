"""One's own files as tasks of mteb: its task classes, which score as they score mteb's own."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
from mteb.abstasks import (
    AbsTask,
    AbsTaskBitextMining,
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
)
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.languages.check_language_code import check_language_code
from pydantic import ValidationError

from embrepro.errors import ConfigError
from embrepro.own_data import definition as definitions
from embrepro.own_data import reading
from embrepro.own_data.definition import DEFINITION, FOLDER, Definition
from embrepro.own_data.reading import OwnData, OwnTable

CLASSES: dict[str, tuple[type[AbsTask], str, str, str]] = {
    "retrieval": (AbsTaskRetrieval, "Retrieval", "t2t", "ndcg_at_10"),
    "reranking": (AbsTaskRetrieval, "Reranking", "t2t", "map_at_1000"),
    "sts": (AbsTaskSTS, "STS", "t2t", "cosine_spearman"),
    "pair-classification": (AbsTaskPairClassification, "PairClassification", "t2t", "max_ap"),
    "classification": (AbsTaskClassification, "Classification", "t2c", "accuracy"),
    "clustering": (AbsTaskClustering, "Clustering", "t2c", "v_measure"),
    "bitext": (AbsTaskBitextMining, "BitextMining", "t2t", "f1"),
}
"""By kind: mteb's class, type, category and usual main score."""
COLUMN_NAMES = {
    "pair-classification": {"label": "labels"},
    "clustering": {"text": "sentences", "label": "labels"},
}
"""What mteb's class calls a column, where it is another word."""
ALL_TEXTS = {"max_fraction_of_documents_to_embed": None, "max_document_to_embed": None}
"""Of clustering, unless the definition says otherwise: mteb's default, 4 % of the texts, is made for very large sets."""


def task_class(name: str, root: Path = FOLDER) -> type[AbsTask]:
    """The task that a folder makes, as a class of mteb's; its files are read when it loads.

    Raises:
        ConfigError: there is no definition, it is malformed, or mteb refuses what it says.
    """
    return _task_class(name, definitions.read(name, root), definitions.revision(name, root), root)


@functools.lru_cache(maxsize=8)
def _of_revision(name: str, revision: str, root: Path) -> OwnData:
    """The checked files, read once for each state of them."""
    return reading.read(name, definitions.read(name, root), root)


def load(name: str, root: Path = FOLDER) -> OwnData:
    """The checked files of a task; raises ConfigError naming the first file and line that is malformed."""
    return _of_revision(name, definitions.revision(name, root), root)


def _task_class(name: str, definition: Definition, revision: str, root: Path) -> type[AbsTask]:
    base, kind, category, main_score = CLASSES[definition.type]
    try:
        for code in definition.languages:
            check_language_code(code)
        metadata = TaskMetadata.model_validate(
            {
                "name": name,
                "description": definition.description or f"Files of {root / name}.",
                "dataset": {"path": f"{root}/{name}", "revision": revision},
                "type": kind,
                "category": category,
                "main_score": definition.main_score or main_score,
                "modalities": ["text"],
                "eval_splits": definition.splits,
                "eval_langs": definition.languages,
                "license": definition.licence,
                "is_public": False,
            }
        )
    except (ValidationError, ValueError) as error:
        said = error.errors()[0] if isinstance(error, ValidationError) else {"loc": ("eval_langs",), "msg": str(error)}
        words = {"license": "licence", "eval_langs": "languages", "eval_splits": "splits"}
        key = str(said["loc"][0]) if said["loc"] else ""
        raise ConfigError(f"{root / name / DEFINITION}: {words.get(key, key)}: {said['msg']}") from None

    def load_data(self: Any, num_proc: int | None = None, **_: object) -> None:  # noqa: ANN401 - the task
        if not self.data_loaded:
            self.dataset = _dataset(load(name, root))
            self.data_loaded = True

    settings = (ALL_TEXTS if definition.type == "clustering" else {}) | definition.settings
    return type(name, (base,), {"metadata": metadata, "load_data": load_data, **settings})


def _dataset(data: OwnData) -> Any:  # noqa: ANN401 - what mteb's class keeps
    kind = data.definition.type
    if kind == "retrieval":
        return {"default": {split: _searched(data, qrels) for split, qrels in data.splits.items()}}
    if kind == "reranking":
        return {"default": {split: _ranked(table) for split, table in data.splits.items()}}
    renamed = COLUMN_NAMES.get(kind, {})
    return DatasetDict(
        {
            split: Dataset.from_dict({renamed.get(column, column): values for column, values in table.columns.items()})
            for split, table in data.splits.items()
        }
    )


def _searched(data: OwnData, qrels: OwnTable) -> RetrievalSplitData:
    """A split of a retrieval task: its own queries alone, as mteb's loader has them, and the whole corpus."""
    assert data.corpus is not None and data.queries is not None
    corpus, queries = data.corpus.columns, data.queries.columns
    relevant: dict[str, dict[str, int]] = {}
    for query, document, score in zip(*(qrels.columns[name] for name in reading.QRELS), strict=True):
        relevant.setdefault(query, {})[document] = int(score)
    asked = [row for row, query in enumerate(queries["_id"]) if query in relevant]
    return RetrievalSplitData(
        corpus=Dataset.from_dict({"id": corpus["_id"], "title": corpus["title"], "text": corpus["text"]}),
        queries=Dataset.from_dict(
            {name: [queries[key][row] for row in asked] for name, key in (("id", "_id"), ("text", "text"))}
        ),
        relevant_docs=relevant,
        top_ranked=None,
    )


def _ranked(table: OwnTable) -> RetrievalSplitData:
    """A split of a reranking task: each distinct text is a query or a document, numbered as it first appears."""
    queries, documents = (
        {text: place for place, text in enumerate(dict.fromkeys(table.columns[name]))} for name in ("query", "document")
    )
    relevant: dict[str, dict[str, int]] = {}
    ranked: dict[str, list[str]] = {}
    for query, document, score in zip(
        *(table.columns[name] for name in ("query", "document", "relevance")), strict=True
    ):
        relevant.setdefault(f"q{queries[query]}", {})[f"d{documents[document]}"] = score
        ranked.setdefault(f"q{queries[query]}", []).append(f"d{documents[document]}")
    return RetrievalSplitData(
        corpus=Dataset.from_dict({"id": [f"d{place}" for place in documents.values()], "text": list(documents)}),
        queries=Dataset.from_dict({"id": [f"q{place}" for place in queries.values()], "text": list(queries)}),
        relevant_docs=relevant,
        top_ranked=ranked,
    )
