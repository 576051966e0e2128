"""How a table of texts is cut into batches and shards: a function of texts and recipe alone, never of the machine.

Texts are sorted by prompt kind, then by length, the longest first. A batch holds texts of one prompt kind, either a
fixed number of them or as many as fit a budget of padded tokens. A shard is a few batches: the unit that one worker
encodes and writes, and that is lost when a worker is killed. Towards the end of a task shards get smaller, so that
workers end together (guided self-scheduling: Polychronopoulos and Kuck, IEEE Transactions on Computers C-36, 1987).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from embrepro.config.schema import Device, ModelConfig

BATCHES_PER_SHARD = 8
"""At most."""
SHARDS_AT_THE_END = 64
"""A shard is at most one of so many parts of the batches that are left: more workers than that wait at a task's end."""
STATIC_BATCH = 1024
"""Texts in a batch of a static model: it pads nothing, so a budget of tokens would only cost a second tokenization."""


@dataclass(frozen=True)
class BatchRule:
    """How many texts make a batch: `texts` of them, or as many as `tokens` padded tokens hold."""

    tokens: int | None = None
    texts: int | None = None


@dataclass(frozen=True)
class Shard:
    """One unit of work: its number, and for each batch the rows of the text table in the order of encoding."""

    index: int
    batches: tuple[np.ndarray, ...]

    @property
    def rows(self) -> np.ndarray:
        """All rows of the shard in the order of encoding, (texts,)."""
        return np.concatenate(self.batches)


@dataclass(frozen=True)
class Plan:
    """Rows in the order of encoding, (texts,), and where in it each batch starts, (batches + 1,)."""

    order: np.ndarray
    starts: np.ndarray

    @cached_property
    def _edges(self) -> list[int]:
        """The number of the first batch of each shard, and of batches: (shards + 1)."""
        batches, edges = len(self.starts) - 1, [0]
        while (left := batches - edges[-1]) > 0:
            edges.append(edges[-1] + min(BATCHES_PER_SHARD, max(1, left // SHARDS_AT_THE_END)))
        return edges

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self._edges) - 1

    def shard(self, index: int) -> Shard:
        """The shard of a number from 0 to `shards` - 1."""
        first, last = self._edges[index : index + 2]
        starts = self.starts[first : last + 1]
        return Shard(index, tuple(self.order[start:end] for start, end in pairwise(starts)))

    def __iter__(self) -> Iterator[Shard]:
        """All shards in order."""
        return map(self.shard, range(self.shards))


def make_plan(kinds: np.ndarray, lengths: np.ndarray, rule: BatchRule) -> Plan:
    """Cut texts into batches.

    Args:
        kinds: (texts,) prompt kind of each text, as a number; batches never mix kinds.
        lengths: (texts,) length of each text, in tokens where the rule has a budget of tokens.
        rule: what makes a batch; a text longer than the budget is a batch of its own.
    """
    order = np.lexsort((np.arange(len(lengths)), -lengths.astype(np.int64), kinds)).astype(np.uint32)
    # Where a kind begins, and the end.
    edges = [0, *(np.flatnonzero(np.diff(kinds[order])) + 1).tolist(), len(order)]
    starts = [np.empty(0, dtype=np.int64)]
    for first, end in pairwise(edges):
        if rule.texts:
            starts.append(np.arange(first, end, rule.texts))
        else:
            starts.append(first + _token_starts(lengths[order[first:end]], rule.tokens or 0))
    return Plan(order, np.concatenate([*starts, [len(order)] if len(order) else [0]]).astype(np.int64))


def _token_starts(lengths: np.ndarray, tokens: int) -> np.ndarray:
    """Where batches start of texts of one kind, the longest first, whose padding is set by the first of each batch."""
    starts: list[int] = []
    place = 0
    while place < len(lengths):
        starts.append(place)
        longest = int(lengths[place])
        place += max(1, tokens // longest) if longest else len(lengths)
    return np.asarray(starts, dtype=np.int64)


def batch_rule(model: ModelConfig, device: Device) -> BatchRule:
    """What makes a batch: a fixed number of texts where the configuration names one or the model is static, else tokens."""
    texts = device.batch_size or model.batch_size or (STATIC_BATCH if model.family == "static" else None)
    return BatchRule(texts=texts) if texts else BatchRule(tokens=device.batch_tokens)
