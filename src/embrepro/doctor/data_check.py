"""What is likely wrong with files that are well-formed: duplicates, leaks between splits, empty texts, lonely labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

from embrepro.config.names import shortened
from embrepro.errors import ConfigError
from embrepro.own_data import definition, reading
from embrepro.own_data.definition import FOLDER
from embrepro.own_data.reading import OwnData, OwnTable

TEXTS = ("text", "title", "sentence1", "sentence2", "query", "document")
KEYS = {
    "classification": ("text",),
    "clustering": ("text",),
    "sts": ("sentence1", "sentence2"),
    "pair-classification": ("sentence1", "sentence2"),
    "bitext": ("sentence1", "sentence2"),
    "reranking": ("query", "document"),
}
"""Columns that together are a sample: two rows that agree in them are duplicates."""


@dataclass(frozen=True)
class Concern:
    """One thing that is likely wrong, how often it occurs, and where first."""

    task: str
    severity: Literal["error", "warning"]
    where: str
    what: str
    advice: str


def check(name: str, root: Path = FOLDER) -> list[Concern]:
    """Look through the files of one task; a malformed file is the one concern there is.

    Raises:
        ConfigError: there is no folder of this name.
    """
    if not definition.exists(name, root):
        raise ConfigError(
            f"Expected the files of a task in {root / name}, found no folder; {definition.PAGE} shows one."
        )
    try:
        data = reading.read(name, definition.read(name, root), root)
    except ConfigError as error:
        return [Concern(name, "error", str(root / name), str(error), "mend it; nothing else was looked at")]
    return list(_concerns(name, data))


def _concerns(name: str, data: OwnData) -> Iterator[Concern]:
    kind = data.definition.type
    tables = {"corpus": data.corpus, "queries": data.queries} if data.corpus else data.splits
    for table in tables.values():
        if table is not None:
            yield from _empty(name, table)
            yield from _duplicates(
                name, table, KEYS.get(kind, ("title", "text") if table is data.corpus else ("text",))
            )
    if data.unjudged and data.queries is not None:
        yield Concern(
            name, "warning", data.queries.where(data.unjudged[0]),
            f"{len(data.unjudged)} of {len(data.queries)} queries have no qrels and are left out",
            "add qrels, if they should count",
        )  # fmt: skip
    if kind == "retrieval":
        yield from _asked_twice(name, data)
    else:
        yield from _leaks(name, data, KEYS[kind])
    if kind in ("classification", "clustering"):
        yield from _labels(name, data)


def _empty(name: str, table: OwnTable) -> Iterator[Concern]:
    for column in set(table.columns).intersection(TEXTS) - {"title"}:
        rows = [row for row, text in enumerate(table.columns[column]) if not text.strip()]
        if rows:
            yield Concern(
                name, "warning", table.where(rows[0]), f"{column}: {_times(len(rows), 'empty text')}",
                "an empty text has an embedding that means nothing; fill it in or take the row out",
            )  # fmt: skip


def _duplicates(name: str, table: OwnTable, key: tuple[str, ...]) -> Iterator[Concern]:
    """Rows with the same texts: repeated ones, and those that contradict each other, which no model can get right."""
    key = tuple(column for column in key if column in table.columns)
    judged = next((column for column in ("label", "score") if column in table.columns), None)
    first: dict[tuple[str, ...], int] = {}
    repeated: list[tuple[int, int]] = []
    contradicting: list[tuple[int, int]] = []
    for row, texts in enumerate(zip(*(table.columns[column] for column in key), strict=True)):
        before = first.setdefault(texts, row)
        if before == row:
            continue
        differs = judged and table.columns[judged][before] != table.columns[judged][row]
        (contradicting if differs else repeated).append((row, before))
    words = " and ".join(key)
    if repeated:
        row, before = repeated[0]
        yield Concern(
            name, "warning", table.where(row), f"{_times(len(repeated), 'duplicate')} of an earlier {words} "
            f"(this one of line {table.lines[before]})", "a repeated sample counts more than once; keep one",
        )  # fmt: skip
    if contradicting:
        row, before = contradicting[0]
        yield Concern(
            name, "error", table.where(row), f"{_times(len(contradicting), 'duplicate')} of an earlier {words} with another "
            f"{judged} (this one of line {table.lines[before]})", "decide which is right, and keep that",
        )  # fmt: skip


def _leaks(name: str, data: OwnData, key: tuple[str, ...]) -> Iterator[Concern]:
    """Samples that stand in two splits: what a classifier learned from must not be what it is tested on."""
    for (one, first), (other, second) in combinations(data.splits.items(), 2):
        seen = dict.fromkeys(zip(*(first.columns[column] for column in key), strict=True))
        texts = zip(*(second.columns[column] for column in key), strict=True)
        if rows := [row for row, text in enumerate(texts) if text in seen]:
            yield Concern(
                name, "error", second.where(rows[0]), f"{len(rows)} of {len(second)} rows of {other} stand in {one} too",
                f"take them out of {one} or {other}; the score is too high otherwise",
            )  # fmt: skip


def _asked_twice(name: str, data: OwnData) -> Iterator[Concern]:
    """Queries that two splits judge."""
    for (one, first), (other, second) in combinations(data.splits.items(), 2):
        seen = set(first.columns["query-id"])
        if rows := [row for row, query in enumerate(second.columns["query-id"]) if query in seen]:
            queries = len({second.columns["query-id"][row] for row in rows})
            yield Concern(
                name, "error", second.where(rows[0]), f"{_times(queries, 'query', 'queries')} of {other} stand in {one} too",
                f"take them out of {one} or {other}",
            )  # fmt: skip


def _labels(name: str, data: OwnData) -> Iterator[Concern]:
    """Labels that occur once, and labels to predict that no training text has."""
    for table in data.splits.values():
        counts = Counter(table.columns["label"])
        if once := [label for label, count in counts.items() if count == 1]:
            row = table.columns["label"].index(once[0])
            yield Concern(
                name, "warning", table.where(row), f"{_times(len(once), 'label')} that occur once, such as {shortened(once[0])}",
                "one text says little of a label; look for a misspelling, or collect more",
            )  # fmt: skip
    trained = data.splits.get("train") if data.definition.type == "classification" else None
    for split, table in data.splits.items():
        if trained is None or table is trained:
            continue
        known = set(trained.columns["label"])
        if rows := [row for row, label in enumerate(table.columns["label"]) if label not in known]:
            found = table.columns["label"][rows[0]]
            yield Concern(
                name, "error", table.where(rows[0]),
                f"{len(rows)} of {len(table)} rows of {split} have a label that train lacks, such as {shortened(found)}",
                "no classifier can predict it; add training texts or correct the label",
            )  # fmt: skip


def _times(count: int, one: str, more: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else more or f'{one}s'}"
