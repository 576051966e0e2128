"""Search of a whole corpus with the results of mteb's own search, entry by entry, in a fraction of its time.

mteb scores the corpus in chunks, takes the best of each chunk with `torch.topk`, and pushes every one of them on a heap of
(score, document) pairs in Python. The products here are the same calls on the same chunks; but of each chunk only those
documents are looked at that reach the worst of the best so far, and they are pushed as bare ranks.

What comes out is what mteb's heaps hold, in their order, to the last entry: a list is in the order of a heap, and sums
over it (mteb's nAUC) depend on that order. Where two scores are equal, which document `torch.topk` takes and in which
order is its own affair, so it is asked; on the heap their names decide, so they decide the rank.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embrepro.tasks.tables import as_dataset

if TYPE_CHECKING:
    from datasets import Dataset

SAMPLED = 4096
"""Scores of a query that are sorted to guess which score the best of a chunk reach."""
WHITESPACE = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""What Python strips from a text: written down, since looking through all characters takes a tenth of a second."""

_NOTHING = (np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int64))


class BestDocuments:
    """The best `top_k` documents of each query among those seen so far, as mteb's heaps would hold them."""

    def __init__(self, queries: int, top_k: int, taken: int) -> None:
        """Begin with nothing seen.

        Args:
            queries: number of queries.
            top_k: documents to keep for each query.
            taken: documents that are taken from each chunk at the most; at least `top_k`.
        """
        self._taken = taken
        self._pushed = [_Pushed(top_k) for _ in range(queries)]

    def add(self, scores: np.ndarray, first: int) -> None:
        """Take the best of a chunk.

        Args:
            scores: (queries, documents) of the chunk.
            first: place of the chunk's first document in the corpus.
        """
        # A sum of all is as quick as memory, and NaN where one is (or where infinities cancel out).
        asked = np.isnan(_torch_sums(scores))
        best: list[tuple[np.ndarray, np.ndarray]] = []
        for number, (row, pushed) in enumerate(zip(scores, self._pushed, strict=True)):
            found = None if asked[number] else self._best(row, pushed.worst)
            asked[number] = found is None
            best.append(found or _NOTHING)
        # NaN is the largest of all to torch, and equals nothing; which of equal scores it takes first is its own affair.
        rows = np.flatnonzero(asked).tolist()
        for number, values, places in zip(rows, *self._torch_topk(scores[asked]), strict=True):
            reached = ~(values < self._pushed[number].worst)
            best[number] = values[reached], places[reached]
        for (values, places), pushed in zip(best, self._pushed, strict=True):
            pushed.push(values, places + first)

    def heaps(self, ids: pa.ChunkedArray) -> list[Iterable[tuple[float, str]]]:
        """For each query its (score, document) pairs in the order of mteb's heap, to be read once.

        Args:
            ids: the documents' names by their place in the corpus.
        """
        names = _Names(ids, [place for pushed in self._pushed for place in pushed.places])
        return [pushed.pairs(names) for pushed in self._pushed]

    def _best(self, row: np.ndarray, worst: float) -> tuple[np.ndarray, np.ndarray] | None:
        """What `torch.topk` takes from a chunk, in its order, as far as it reaches `worst`: scores and places.

        None where scores are equal, and it has to be asked.
        """
        taken = min(self._taken, len(row))
        places = np.flatnonzero(row >= (worst if worst > -math.inf else self._guess(row, taken)))
        if worst == -math.inf and len(places) < taken:
            places = np.flatnonzero(row >= np.partition(row, len(row) - taken)[len(row) - taken])
        values = row[places]
        order = np.argsort(values)[::-1][: taken + 1]
        values, places = values[order], places[order]
        return None if (values[1:] == values[:-1]).any() else (values[:taken], places[:taken])

    def _torch_topk(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        import torch

        values, places = torch.topk(torch.from_numpy(rows), min(self._taken, rows.shape[1]), largest=True)
        return values.numpy(), places.numpy()

    @staticmethod
    def _guess(row: np.ndarray, taken: int) -> float:
        """A score that probably a few more than `taken` documents reach."""
        step = len(row) // SAMPLED
        if step < 2:
            return -math.inf
        sample = row[::step]
        expected = taken / step
        rank = min(len(sample), math.ceil(expected + 4 * math.sqrt(expected) + 2))
        return float(np.partition(sample, len(sample) - rank)[len(sample) - rank])


class _Pushed:
    """Everything that was pushed on one query's heap, chunk by chunk in order."""

    def __init__(self, top_k: int) -> None:
        self.worst = -math.inf
        """The score that a document must reach to be pushed; none until the heap is full, or where it may hold NaN."""
        self.places: list[np.ndarray] = []
        self._top_k = top_k
        self._values: list[np.ndarray] = []
        self._best = np.empty(0)
        self._ordered = True

    def push(self, values: np.ndarray, places: np.ndarray) -> None:
        """Push scores and documents in this order."""
        self._ordered &= not np.isnan(values[:1]).any()
        if self._ordered:
            self._best = np.concatenate([self._best, values])
            surplus = len(self._best) - self._top_k
            if surplus > 0:
                self._best = np.partition(self._best, surplus)[surplus:]
            if surplus >= 0:
                self.worst = float(self._best.min())
                # The others of this chunk come after better ones that fill the heap, and fall through.
                stay = int(np.count_nonzero(values >= self.worst))
                values, places = values[:stay], places[:stay]
        else:
            self.worst = -math.inf
        self._values.append(values)
        self.places.append(places)

    def pairs(self, names: _Names) -> Iterable[tuple[float, str]]:
        """The (score, document) pairs on the heap, to be read once."""
        values, places = np.concatenate(self._values), np.concatenate(self.places)
        if not self._ordered:
            return _heap(list(zip(values.tolist(), names[places], strict=True)), self._top_k)
        order, ranks = _ranks(values, places, names)
        first, later = np.split(ranks, [len(self._values[0])])
        if (first[1:] < first[:-1]).all():
            start = first[_falling(min(self._top_k, len(first)))].tolist()
            heap = _heap(later.tolist(), self._top_k, start)
        else:
            heap = _heap(ranks.tolist(), self._top_k)
        kept = order[heap]
        return zip(values[kept].tolist(), names[places[kept]], strict=True)


class _Names:
    """The names of those documents that are asked for, each made once."""

    def __init__(self, ids: pa.ChunkedArray, places: list[np.ndarray]) -> None:
        asked = np.zeros(len(ids), dtype=bool)
        for some in places:
            asked[some] = True
        self._row = np.cumsum(asked) - 1
        self._names = np.asarray(ids.filter(pa.array(asked)).to_pylist(), dtype=object)

    def __getitem__(self, places: np.ndarray) -> list[str]:
        """Names by place in the corpus."""
        names: list[str] = self._names[self._row[places]].tolist()
        return names


def _ranks(values: np.ndarray, places: np.ndarray, names: _Names) -> tuple[np.ndarray, np.ndarray]:
    """Entries from the lowest to the highest, by score and then by name, and the rank of each; equal pairs have one rank."""
    order = np.argsort(values, kind="stable")
    rising = values[order]
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = np.arange(len(values))
    same = np.concatenate([[False], rising[1:] == rising[:-1], [False]])
    starts = np.flatnonzero(~same[:-1] & same[1:])
    for start in starts:
        end = start + int(np.argmin(same[start + 1 :])) + 1
        tied = order[start:end].copy()
        called = names[places[tied]]
        by_name = sorted(range(len(tied)), key=called.__getitem__)
        order[start:end] = tied[by_name]
        for step, entry in enumerate(by_name):
            alike = step > 0 and called[entry] == called[by_name[step - 1]]
            ranks[tied[entry]] = ranks[tied[by_name[step - 1]]] if alike else start + step
    return order, ranks


@cache
def _falling(count: int) -> list[int]:
    """Where in a falling row of numbers each entry of the heap comes from that it is pushed on."""
    return [count - number for number in _heap(list(range(count, 0, -1)), count)]


def _heap(entries: list[Any], top_k: int, heap: list[Any] | None = None) -> list[Any]:
    """What mteb's pushes make of entries, one after the other."""
    heap = heap or []
    room = top_k - len(heap)
    for entry in entries[:room]:
        heapq.heappush(heap, entry)
    # A loop that runs in C.
    deque(map(partial(heapq.heappushpop, heap), entries[room:]), maxlen=0)
    return heap


def _torch_sums(scores: np.ndarray) -> np.ndarray:
    """Sum of each row, by as many threads as this process has."""
    import torch

    return torch.from_numpy(scores).sum(dim=1).numpy()


def search_corpus(
    *,
    task_corpus: Dataset,
    corpus_chunk_size: int,
    query_idx_to_id: dict[int, str],
    query_embeddings: Any,  # noqa: ANN401 - an array or a tensor
    task_metadata: Any,  # noqa: ANN401
    hf_subset: str,
    hf_split: str,
    top_k: int,
    encode_kwargs: Any,  # noqa: ANN401
    encode_fn: Callable[..., Any],
    similarity_fn: Callable[[Any, Any], Any],
    search_k_offset: int = 0,
    num_proc: int | None = None,
    timer: Any = None,  # noqa: ANN401
) -> dict[str, Iterable[tuple[float, str]]]:
    """In place of mteb's `chunked_full_corpus_search`, with its arguments and its result.

    Returns:
        For each query the (score, document) pairs of its best `top_k` documents, in the order of mteb's heap, to be read once.
    """
    import torch
    from mteb.timing import TimingStack
    from mteb.types import PromptType

    best = BestDocuments(len(query_idx_to_id), top_k, top_k + search_k_offset)
    asked = _as_tensor(query_embeddings)
    with (timer or TimingStack())("Searching corpus", split=hf_split, subset=hf_subset):
        for start in range(0, len(task_corpus), corpus_chunk_size):
            chunk = task_corpus.select(range(start, min(start + corpus_chunk_size, len(task_corpus))))
            embeddings = encode_fn(
                documents(chunk, task_metadata, encode_kwargs.get("batch_size", 32)),
                task_metadata=task_metadata,
                hf_split=hf_split,
                hf_subset=hf_subset,
                prompt_type=PromptType.document,
                **encode_kwargs,
            )
            best.add(torch.as_tensor(similarity_fn(asked, _as_tensor(embeddings))).cpu().numpy(), start)
            del embeddings
        return dict(zip(query_idx_to_id.values(), best.heaps(column(task_corpus, "id")), strict=True))


def _as_tensor(embeddings: Any) -> Any:  # noqa: ANN401 - an array or a tensor
    """Embeddings of a dtype that mteb leaves as it is, as a tensor over the same memory, which it then does not copy."""
    import torch

    if isinstance(embeddings, np.ndarray) and embeddings.dtype == np.float32 and embeddings.flags.writeable:
        return torch.from_numpy(embeddings)
    return embeddings


def documents(corpus: Dataset, task_metadata: Any, batch_size: int = 32) -> Any:  # noqa: ANN401
    """The loader over a corpus that mteb's wrappers take: the texts are mteb's, `title text` without the space around them."""
    from mteb._create_dataloaders import create_dataloader
    from mteb.types import PromptType
    from torch.utils.data import DataLoader

    texts = document_texts(corpus)
    if texts is None:
        return create_dataloader(
            corpus, task_metadata=task_metadata, prompt_type=PromptType.document, batch_size=batch_size
        )
    return DataLoader(as_dataset(pa.table({"text": texts})), batch_size=batch_size)


def document_texts(corpus: Dataset) -> pa.ChunkedArray | None:
    """What mteb makes of each document, all at once instead of row by row; None where it holds more than plain text."""
    names = [name for name in ("title", "text") if name in corpus.column_names]
    columns = [column(corpus, name) for name in names]
    if "text" not in names or any(not _is_text(each.type) or each.null_count for each in columns):
        return None
    found = columns[-1].cast(pa.large_string())
    if len(columns) == 2:
        space = pa.scalar(" ", pa.large_string())
        titled = pc.binary_join_element_wise(columns[0].cast(pa.large_string()), found, space)
        found = pc.if_else(pc.greater(pc.binary_length(columns[0]), 0), titled, found)
    return pc.utf8_trim(found, characters=WHITESPACE)


def column(data: Dataset, name: str) -> pa.ChunkedArray:
    """A column of a data set as Arrow has it."""
    if data._indices is None:
        return data.data.table[name]
    return pa.chunked_array([data.with_format("arrow")[:][name].combine_chunks()])


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
