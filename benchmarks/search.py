"""mteb's search of a corpus against the kit's: the same embeddings, in turn, and the same results entry by entry."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import cycle
from statistics import median
from types import SimpleNamespace
from typing import Any

from benchmarks import measuring
from embrepro.progress import console, processes

CHUNK = 50_000
"""Documents that are searched at once, as mteb has it."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, show and write."""
    parser = measuring.arguments(__doc__ or "", "search")
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--top-k", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args(argv)
    console.silence_libraries()

    from embrepro.tasks import shortcuts

    searches = {"mteb": nullcontext, "kit": shortcuts.installed}
    # Garbage is collected as in the process where each runs: by Python's default, and as the kit's stages have it.
    collecting = {"mteb": partial(gc.set_threshold, *gc.get_threshold()), "kit": processes.collect_rarely}
    ask = _asked(chosen.documents, chosen.queries, chosen.dimensions, chosen.top_k)
    times: dict[str, list[float]] = {name: [] for name in searches}
    found = {}
    for _ in range(chosen.repeats):
        for name, installed in searches.items():
            collecting[name]()
            gc.collect()
            started = time.perf_counter()
            with installed():
                results = ask()
            times[name].append(time.perf_counter() - started)
            # Their order is part of them: mteb's nAUC depends on it.
            found[name] = [(query, list(scores.items())) for query, scores in results.items()]
    rows = [
        {
            "search": name,
            "seconds": median(each),
            "times_as_fast": median(times["mteb"]) / median(each),
            "same_results": found[name] == found["mteb"],
        }
        for name, each in times.items()
    ]
    measuring.keep(chosen.out, "search", vars(chosen), rows, ["Embedding is not in the times; reading the corpus is."])


def _asked(documents: int, queries: int, dimensions: int, top_k: int) -> Callable[[], dict[str, dict[str, float]]]:
    """Mteb's search of a corpus over made-up embeddings that are normalised, as its retrieval tasks ask for it."""
    import numpy as np
    import pyarrow as pa
    from datasets import Dataset
    from mteb.mocks import MOCK_TASK_TEST_GRID
    from mteb.models.search_wrappers import SearchEncoderWrapper
    from mteb.similarity_functions import dot_score

    random = np.random.default_rng(0)
    corpus, questions = (
        random.standard_normal((count, dimensions), dtype=np.float32) for count in (documents, queries)
    )
    for each in (corpus, questions):
        each /= np.linalg.norm(each, axis=1, keepdims=True)
    starts = cycle(range(0, documents, CHUNK))

    def encode(*_: object, prompt_type: str, **__: object) -> np.ndarray:
        if prompt_type == "query":
            return questions
        start = next(starts)
        return corpus[start : start + CHUNK]

    model: Any = SimpleNamespace(encode=encode, similarity=dot_score, mteb_model_meta=None)
    searcher = SearchEncoderWrapper(model, corpus_chunk_size=CHUNK)
    metadata = next(
        task.metadata
        for task in MOCK_TASK_TEST_GRID
        if task.metadata.type == "Retrieval" and task.metadata.modalities == ["text"]
    )
    texts, asked = (
        [f"{kind} {row}" for row in range(count)] for kind, count in (("document", documents), ("query", queries))
    )
    documents_of, queries_of = (Dataset(pa.table({"id": names, "text": names})) for names in (texts, asked))
    settings: dict[str, Any] = {"task_metadata": metadata, "hf_split": "test", "hf_subset": "default"}
    settings["encode_kwargs"] = {"show_progress_bar": False}

    def ask() -> dict[str, dict[str, float]]:
        searcher.index(documents_of, **settings)
        return searcher.search(queries_of, top_k=top_k, **settings)

    return ask


if __name__ == "__main__":
    main()
