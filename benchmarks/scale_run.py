"""The kit's program with one task more: a made-up corpus of any size.

The task is added when this module is loaded, so that worker processes, which load it too, know it. Its data lies in files
from before, so that what a stage takes is the stage's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mteb.abstasks import AbsTaskRetrieval

from embrepro import cli
from embrepro.suite.tasks import _metadata
from embrepro.tasks import registry

CORPUS = Path("corpus")
"""Where in the project's folder the made-up data lies."""
DRAWN_AT_ONCE = 100_000
QUERIES = 1_000
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
        """Map the files that `build_corpus` wrote into memory, as data sets of a hub are."""
        from datasets import Dataset

        if self.data_loaded:
            return
        corpus, queries = (Dataset.from_file(str(CORPUS / f"{part}.arrow")) for part in ("corpus", "queries"))
        split: Any = {
            "corpus": corpus,
            "queries": queries.select_columns(["id", "text"]),
            "relevant_docs": {row["id"]: {row["answer"]: 1} for row in queries},
            "top_ranked": None,
        }
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


def build_corpus(folder: Path, count: int) -> None:
    """Draw `count` documents and `QUERIES` queries, always the same."""
    import pyarrow as pa

    words = np.asarray([f"w{number}" for number in range(WORDS)])
    random = np.random.default_rng(0)
    answers = np.sort(random.choice(count, size=min(QUERIES, count), replace=False))
    folder.mkdir(parents=True, exist_ok=True)
    schema = pa.schema(dict.fromkeys(("id", "text", "title"), pa.string()))
    asked: list[dict[str, str]] = []
    with pa.OSFile(str(folder / "corpus.arrow"), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        for start in range(0, count, DRAWN_AT_ONCE):
            end = min(start + DRAWN_AT_ONCE, count)
            texts = [" ".join(row) for row in words[random.integers(WORDS, size=(end - start, WORDS_A_TEXT))]]
            names = [f"d{row}" for row in range(start, end)]
            stream.write_table(pa.table({"id": names, "text": texts, "title": [""] * len(texts)}, schema))
            for row in answers[(answers >= start) & (answers < end)].tolist():
                question = " ".join(texts[row - start].split()[: WORDS_A_TEXT // 2])
                asked.append({"id": f"q{len(asked)}", "text": question, "answer": names[row - start]})
    queries = pa.Table.from_pylist(asked)
    with pa.OSFile(str(folder / "queries.arrow"), "wb") as file, pa.ipc.new_stream(file, queries.schema) as stream:
        stream.write_table(queries)


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
