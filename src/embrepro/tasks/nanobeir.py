"""NanoBEIR's frozen data as sentence-transformers' evaluators take it: documents, queries, relevant documents, BM25's ranking."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embrepro.config.nanobeir import TASKS
from embrepro.tasks import first_stage

if TYPE_CHECKING:
    from mteb import AbsTask


@dataclass(frozen=True)
class NanoData:
    """One data set; texts are those that were given to the models, which mteb strips of white space at their ends."""

    corpus: dict[str, str]
    queries: dict[str, str]
    relevant: dict[str, list[str]]
    """Query -> its relevant documents, sorted."""

    def positive_pairs(self) -> list[tuple[str, str]]:
        """Every query beside each of its relevant documents, as texts."""
        return [
            (self.queries[query], self.corpus[document])
            for query, documents in self.relevant.items()
            for document in documents
            if query in self.queries and document in self.corpus
        ]


def is_nanobeir(task: AbsTask) -> bool:
    """Whether a task is one of NanoBEIR's."""
    return task.metadata.name in TASKS.values()


def data(task: Any) -> NanoData:  # noqa: ANN401 - a task of mteb's with its data in place
    """The data of a frozen task of NanoBEIR."""
    (split,) = task.dataset["default"].values()
    return NanoData(
        corpus={row["id"]: _text(row) for row in split["corpus"]},
        queries={row["id"]: row["text"] for row in split["queries"]},
        relevant={
            query: sorted(document for document, score in found.items() if score > 0)
            for query, found in split["relevant_docs"].items()
        },
    )


def bm25(folder: Path) -> dict[str, list[str]]:
    """Query -> BM25's first documents, best first, as the first stage kept them in a frozen task's folder."""
    found = json.loads((folder / first_stage.FILE).read_text(encoding="utf-8"))["default"]
    (queries,) = found.values()
    return {query: sorted(scores, key=scores.__getitem__, reverse=True) for query, scores in queries.items()}


def _text(row: dict[str, Any]) -> str:
    """A document as mteb joins it."""
    title = row.get("title") or ""
    return f"{title} {row['text']}".strip() if title else str(row["text"]).strip()
