"""The kit's program with one task more: a made-up corpus of as many documents as a variable says.

The task is added when this module is loaded, so that worker processes, which load it too, know it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from mteb.abstasks import AbsTaskRetrieval

from embrepro import cli
from embrepro.suite.tasks import _metadata
from embrepro.tasks import registry

DOCUMENTS = "EMBREPRO_BENCHMARK_DOCUMENTS"
TASK = "MadeUpRetrieval"
WORDS = 30_000
WORDS_A_TEXT = 12
"""Tokens are single words, so texts have as many."""


class MadeUpRetrieval(AbsTaskRetrieval):
    """Queries that share half their words with the one document that answers them."""

    metadata = _metadata(
        "EmbreproSemanticSimilarity", "Made-up words.", domains=["Constructed"], task_subtypes=["Duplicate Detection"]
    ).model_copy(update={"name": TASK})

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        """Draw the corpus, the same each time."""
        import pyarrow as pa
        from datasets import Dataset

        if self.data_loaded:
            return
        count = int(os.environ[DOCUMENTS])
        words = np.asarray([f"w{number}" for number in range(WORDS)])
        random = np.random.default_rng(0)
        corpus: list[str] = []
        for start in range(0, count, 100_000):
            drawn = words[random.integers(WORDS, size=(min(100_000, count - start), WORDS_A_TEXT))]
            corpus += [" ".join(row) for row in drawn]
        answers = random.choice(count, size=max(2, count // 1000), replace=False).tolist()
        questions = [" ".join(corpus[row].split()[: WORDS_A_TEXT // 2]) for row in answers]
        names = [f"d{row}" for row in range(count)]
        queries = [f"q{row}" for row in range(len(answers))]
        split: Any = {
            "corpus": Dataset(pa.table({"id": names, "text": corpus, "title": [""] * count})),
            "queries": Dataset.from_dict({"id": queries, "text": questions}),
            "relevant_docs": {query: {names[row]: 1} for query, row in zip(queries, answers, strict=True)},
            "top_ranked": None,
        }
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


registry.add(MadeUpRetrieval)


def build_model(folder: Path) -> None:
    """A static model with a random vector for each word."""
    from model2vec import StaticModel
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {"[UNK]": 0} | {f"w{number}": number + 1 for number in range(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    vectors = np.random.default_rng(7).standard_normal((len(vocabulary), 256)).astype(np.float16)
    StaticModel(vectors, tokenizer, normalize=True).save_pretrained(str(folder))


if __name__ == "__main__":
    cli.main()
