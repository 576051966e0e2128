"""mteb's search of a corpus against the kit's: the same embeddings, in turn, and the same results entry by entry."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from functools import partial
from itertools import cycle
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

    from mteb.models import search_wrappers

    from embrepro.tasks import search

    searches = {"mteb": search_wrappers.chunked_full_corpus_search, "kit": search.search_corpus}
    # Garbage is collected as in the process where each runs: by Python's default, and as the kit's stages have it.
    collecting = {"mteb": partial(gc.set_threshold, *gc.get_threshold()), "kit": processes.collect_rarely}
    asked = _asked(chosen.documents, chosen.queries, chosen.dimensions, chosen.top_k)
    times: dict[str, list[float]] = {name: [] for name in searches}
    found = {}
    for _ in range(chosen.repeats):
        for name, function in searches.items():
            collecting[name]()
            gc.collect()
            started = time.perf_counter()
            heaps = function(**asked)
            found[name] = {query: list(heap) for query, heap in heaps.items()}
            times[name].append(time.perf_counter() - started)
    rows = [
        {
            "search": name,
            "seconds": measuring.median(each),
            "times_as_fast": measuring.median(times["mteb"]) / measuring.median(each),
            "same_results": found[name] == found["mteb"],
        }
        for name, each in times.items()
    ]
    measuring.keep(chosen.out, "search", vars(chosen), rows, ["Embedding is not in the times; reading the corpus is."])


def _asked(documents: int, queries: int, dimensions: int, top_k: int) -> dict[str, Any]:
    """The arguments of mteb's search, over made-up embeddings that are normalised."""
    import numpy as np
    import pyarrow as pa
    from datasets import Dataset
    from mteb.mocks import MOCK_TASK_TEST_GRID
    from mteb.similarity_functions import dot_score

    random = np.random.default_rng(0)
    corpus, questions = (
        random.standard_normal((count, dimensions), dtype=np.float32) for count in (documents, queries)
    )
    for each in (corpus, questions):
        each /= np.linalg.norm(each, axis=1, keepdims=True)
    starts = cycle(range(0, documents, CHUNK))

    def encode(*_: object, **__: object) -> np.ndarray:
        start = next(starts)
        return corpus[start : start + CHUNK]

    metadata = next(
        task.metadata
        for task in MOCK_TASK_TEST_GRID
        if task.metadata.type == "Retrieval" and task.metadata.modalities == ["text"]
    )
    names = [f"document {row}" for row in range(documents)]
    return {
        "task_corpus": Dataset(pa.table({"id": names, "text": names})),
        "corpus_chunk_size": CHUNK,
        "query_idx_to_id": {row: f"query {row}" for row in range(queries)},
        "query_embeddings": questions,
        "task_metadata": metadata,
        "hf_subset": "default",
        "hf_split": "test",
        "top_k": top_k,
        "encode_kwargs": {"show_progress_bar": False},
        "encode_fn": encode,
        "similarity_fn": dot_score,
        "search_k_offset": 1,
    }


if __name__ == "__main__":
    main()
