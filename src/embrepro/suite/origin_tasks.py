"""The analysis's own evaluation as two mteb tasks, so that it is frozen, encoded, replayed and recorded like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from datasets import Dataset, DatasetDict
from mteb._create_dataloaders import create_dataloader
from mteb.abstasks import AbsTask
from mteb.abstasks.task_metadata import TaskMetadata

from embrepro.errors import TaskError
from embrepro.suite.legacy import LegacyItems, first_definition, second_definition
from embrepro.suite.origin import FILES, OriginDefinition, read_origin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embrepro.sources.git_files import GitFile

_TOPIC, _DISSIMILAR = "topic", "dissimilar"


def _metadata(name: str, definition: OriginDefinition) -> TaskMetadata:
    file = FILES[definition]
    return TaskMetadata.model_validate(
        {
            "name": name,
            "description": f"The analysis's own evaluation by its {definition} definition: mostly cosines of positive pairs.",
            "dataset": {"path": file.repository, "revision": file.commit},
            # Of mteb's types the one whose pairs belong together; a type of labelled pairs would be listed as such.
            "type": "BitextMining",
            "category": "t2t",
            "main_score": "overall",
            "modalities": ["text"],
            "eval_splits": ["test"],
            "eval_langs": ["eng-Latn", "deu-Latn", "fra-Latn", "ita-Latn", "spa-Latn"],
            "date": ("2025-10-01", "2025-10-31"),
            "license": "not specified",
            "sample_creation": "created",
            "reference": None,
            "bibtex_citation": "",
        }
    )


class _OriginTask(AbsTask):
    """All categories of one definition and, as the main score, their weighted sum."""

    definition: ClassVar[OriginDefinition]

    @property
    def file(self) -> GitFile:
        """Where the items are."""
        return FILES[self.definition]

    def load_data(self, num_proc: int | None = None, *, content: bytes = b"", **kwargs: Any) -> None:  # noqa: ANN401
        """Build the one split of the task from the content of its file.

        Raises:
            TaskError: the file does not hold the items.
        """
        items = read_origin(self.definition, content)
        rows = [(category, *pair) for category, pairs in items.similar.items() for pair in pairs]
        rows += [(_DISSIMILAR, *pair) for pair in items.dissimilar]
        rows += [(_TOPIC, text, topic) for text, topic in items.topics]
        columns = dict(zip(("kind", "first", "second"), map(list, zip(*rows, strict=True)), strict=True))
        self.dataset = DatasetDict({"test": Dataset.from_dict(columns)})
        self.data_loaded = True

    def _evaluate_subset(
        self,
        model: Any,  # noqa: ANN401 - any of mteb's protocols
        data_split: Dataset,
        *,
        hf_split: str,
        hf_subset: str,
        encode_kwargs: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        items = _items(data_split)
        texts = items.texts()
        loader = create_dataloader(Dataset.from_dict({"text": texts}), task_metadata=self.metadata, **encode_kwargs)
        vectors = model.encode(
            loader, task_metadata=self.metadata, hf_split=hf_split, hf_subset=hf_subset, **encode_kwargs
        )
        row_of = dict(zip(texts, _dense(vectors), strict=True))

        def embed(asked: Sequence[str]) -> np.ndarray:
            return np.stack([row_of[text] for text in asked])

        define = first_definition if self.definition == "first" else second_definition
        return define(items, embed)

    def _calculate_descriptive_statistics_from_split(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        raise TaskError("the analysis's items have no published statistics")


def _items(rows: Dataset) -> LegacyItems:
    similar: dict[str, list[tuple[str, str]]] = {}
    dissimilar, topics = [], []
    for row in rows:
        pair = (row["first"], row["second"])
        if row["kind"] == _DISSIMILAR:
            dissimilar.append(pair)
        elif row["kind"] == _TOPIC:
            topics.append(pair)
        else:
            similar.setdefault(row["kind"], []).append(pair)
    return LegacyItems(similar, dissimilar, topics)


def _dense(vectors: Any) -> np.ndarray:  # noqa: ANN401 - NumPy, torch or a sparse matrix
    return np.asarray(vectors.toarray() if hasattr(vectors, "toarray") else vectors)


class AnalysisFirstDefinition(_OriginTask):
    """The definition of the analysis's overall number."""

    definition = "first"
    metadata = _metadata("AnalysisFirstDefinition", "first")


class AnalysisSecondDefinition(_OriginTask):
    """The definition of the analysis's three numbers by category."""

    definition = "second"
    metadata = _metadata("AnalysisSecondDefinition", "second")


TASKS: dict[str, type[AbsTask]] = {
    task.metadata.name: task for task in (AnalysisFirstDefinition, AnalysisSecondDefinition)
}
"""Task name to task class."""
