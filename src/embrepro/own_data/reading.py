"""Files of one's own as checked columns: what is malformed is refused with its file and line, nothing is guessed.

A table is CSV, TSV, JSONL or Parquet, told apart by the ending. Lines count from 1, as an editor shows them; rows of Parquet,
which has no lines, count from 1 too.
"""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from embrepro.config.names import shortened
from embrepro.errors import ConfigError
from embrepro.own_data.definition import COLUMNS, FOLDER, PAGE, Definition

ENDINGS = (".jsonl", ".csv", ".tsv", ".parquet")
CORPUS, QUERIES, QRELS = ("_id", "text", "title"), ("_id", "text"), ("query-id", "corpus-id", "score")
OPTIONAL = frozenset({"title"})


@dataclass(frozen=True)
class OwnTable:
    """Checked columns of one file, with the line that each row stands in."""

    path: Path
    columns: dict[str, list[Any]]
    lines: list[int]

    def where(self, row: int) -> str:
        """File and line of a row, as messages say it."""
        return f"{self.path}, {'row' if self.path.suffix == '.parquet' else 'line'} {self.lines[row]}"

    def refuse(self, row: int, problem: str, advice: str) -> ConfigError:
        """The error that names a row."""
        return ConfigError(f"{self.where(row)}: {problem}; {advice}")

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.lines)


@dataclass(frozen=True)
class OwnData:
    """The files of one task: a table a split, or corpus, queries and a table of qrels a split."""

    definition: Definition
    splits: dict[str, OwnTable]
    corpus: OwnTable | None = None
    queries: OwnTable | None = None
    unjudged: list[int] = field(default_factory=list)
    """Rows of the queries that no qrels name, which are left out."""


def read(name: str, definition: Definition, root: Path = FOLDER) -> OwnData:
    """Read and check all files of a task.

    Raises:
        ConfigError: a file is absent, is written in another way than its ending says, or holds a row that cannot be meant;
            names file and line.
    """
    folder = root / name
    if definition.type == "retrieval":
        return retrieval(folder, definition)
    kinds = {column: _CHECKS[column] for column in COLUMNS[definition.type]}
    if definition.type == "pair-classification":
        kinds["label"] = _yes_or_no
    renamed = {column: definition.columns.get(column, column) for column in kinds}
    splits = {split: _table(_file(folder, split), kinds, renamed) for split in definition.read_splits}
    if "label" in kinds:
        _expect_one_kind_of_label(splits)
    if definition.type == "reranking":
        for table in splits.values():
            _expect_ranked(table)
    return OwnData(definition, splits)


def retrieval(folder: Path, definition: Definition) -> OwnData:
    """The layout of BEIR.

    `corpus` has _id, text and perhaps title; `queries` has _id and text; `qrels/<split>` has query-id, corpus-id and score.

    Raises:
        ConfigError: see `read`; an identifier stands twice or is not known, or a query has no qrels.
    """
    corpus = _table(_file(folder, "corpus"), {name: _CHECKS[name] for name in CORPUS})
    queries = _table(_file(folder, "queries"), {name: _CHECKS[name] for name in QUERIES})
    known = {"query-id": _identifiers(queries), "corpus-id": _identifiers(corpus)}
    judged: set[str] = set()
    splits = {}
    for path in sorted((folder / "qrels").glob("*")):
        if path.suffix in ENDINGS:
            table = _table(path, {name: _CHECKS[name] for name in QRELS})
            _expect_known(table, known, {"query-id": queries.path, "corpus-id": corpus.path})
            _expect_positives(table)
            judged.update(table.columns["query-id"])
            splits[path.stem] = table
    for split in definition.splits:
        if split not in splits:
            _file(folder / "qrels", split)
    unjudged = [row for row, query in enumerate(queries.columns["_id"]) if query not in judged]
    if unjudged and definition.unjudged_queries == "refuse":
        raise queries.refuse(
            unjudged[0],
            f"query {queries.columns['_id'][unjudged[0]]!r} stands in no file of {folder / 'qrels'}, and so do "
            f"{len(unjudged) - 1} more; they would not count, and the score would be another",
            f"add their qrels, take them out, or write 'unjudged_queries: drop' in {folder / 'task.yaml'}",
        )
    return OwnData(definition, {split: splits[split] for split in definition.splits}, corpus, queries, unjudged)


def _file(folder: Path, stem: str) -> Path:
    """The one file of this name with an ending that says how it is written."""
    found = [folder / f"{stem}{ending}" for ending in ENDINGS if (folder / f"{stem}{ending}").is_file()]
    if len(found) == 1:
        return found[0]
    said = "found none" if not found else f"found {' and '.join(path.name for path in found)}"
    raise ConfigError(f"Expected one file {folder / stem}{{{','.join(ENDINGS)}}}, {said}; {PAGE} shows the layout.")


Check = Callable[[Any], Any]
"""The value that a row means, or ValueError in words."""


def _table(path: Path, kinds: Mapping[str, Check], renamed: Mapping[str, str] | None = None) -> OwnTable:
    """Columns of a file, every value checked; other columns of the file are left out."""
    names = {column: (renamed or {}).get(column, column) for column in kinds}
    columns: dict[str, list[Any]] = {column: [] for column in kinds}
    table = OwnTable(path, columns, [])
    for line, row in _rows(path):
        table.lines.append(line)
        for column, check in kinds.items():
            try:
                if names[column] not in row and column not in OPTIONAL:
                    raise ValueError(f"no such column; there are {', '.join(map(str, row)) or 'none'}")
                columns[column].append(check(row.get(names[column])))
            except ValueError as error:
                raise table.refuse(len(table) - 1, f"{names[column]}: {error}", f"mend it; {PAGE} says how") from None
    if not table.lines:
        raise ConfigError(f"{path} has no rows; a task needs some.")
    return table


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line and values of each row."""
    if path.suffix == ".parquet":
        try:
            yield from enumerate(pq.read_table(path).to_pylist(), start=1)
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(f"{path} is no whole Parquet file ({error}); write it anew.") from None
        return
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: expected UTF-8, found {error.reason}; save it as such") from None
    yield from _json_rows(path, text) if path.suffix == ".jsonl" else _separated_rows(path, text)


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    # Not splitlines: a JSON string may hold other line separators than the line feed.
    for line, content in enumerate(text.removesuffix("\n").split("\n") if text else [], start=1):
        try:
            row = json.loads(content)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path}, line {line}: expected a JSON object: {error}; mend the line") from None
        if not isinstance(row, dict):
            raise ConfigError(f"{path}, line {line}: expected a JSON object, got {shortened(row)}; mend the line")
        yield line, row


def _separated_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of CSV (RFC 4180) or of TSV, which knows no quotes."""
    csv.field_size_limit(sys.maxsize)
    tabs = path.suffix == ".tsv"
    lines = io.StringIO(text, newline="")
    rows = csv.reader(lines, csv.excel_tab, quoting=csv.QUOTE_NONE) if tabs else csv.reader(lines, strict=True)
    header: list[str] = []
    line = 1
    try:
        for row in rows:
            if not header:
                header = row
                if twice := [name for name in row if row.count(name) > 1]:
                    raise ConfigError(f"{path}, line {line}: the column {twice[0]} stands twice; name each once")
            elif len(row) != len(header):
                raise ConfigError(
                    f"{path}, line {line}: expected {len(header)} fields, as the first line has, got {len(row)}; "
                    "mend the line" + ("" if tabs else ", and put texts with commas or quotes into double quotes")
                )
            else:
                yield line, dict(zip(header, row, strict=True))
            line = rows.line_num + 1
    except csv.Error as error:
        raise ConfigError(f"{path}, line {line}: {error}; mend the line") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a text, got {shortened(value)}")
    return value


def _title(value: object) -> str:
    return "" if value is None else _text(value)


def _identifier(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f"expected an identifier, got {shortened(value)}")
    return str(value)


def _number(value: object) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"expected a number, got {shortened(value)}")
    return number


def _whole(value: object) -> int:
    number = _number(value)
    if number != int(number) or number < 0:
        raise ValueError(f"expected a whole number from 0 on, got {shortened(value)}")
    return int(number)


def _yes_or_no(value: object) -> int:
    if value not in (0, 1, "0", "1", True, False):
        raise ValueError(f"expected 1 for a pair that belongs together, else 0; got {shortened(value)}")
    return int(value)


def _label(value: object) -> str | int:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f"expected a label, as text or whole number; got {shortened(value)}")
    return value


_CHECKS: dict[str, Check] = {
    "_id": _identifier,
    "text": _text,
    "title": _title,
    "query-id": _identifier,
    "corpus-id": _identifier,
    "score": _number,
    "sentence1": _text,
    "sentence2": _text,
    "label": _label,
    "query": _text,
    "document": _text,
    "relevance": _whole,
}


def _identifiers(table: OwnTable) -> set[str]:
    """All identifiers of a corpus or of queries, each of which stands once."""
    seen: dict[str, int] = {}
    for row, name in enumerate(table.columns["_id"]):
        if name in seen:
            raise table.refuse(
                row, f"_id {name!r} stands in line {table.lines[seen[name]]} already", "give each row its own"
            )
        seen[name] = row
    return set(seen)


def _expect_known(qrels: OwnTable, known: Mapping[str, set[str]], files: Mapping[str, Path]) -> None:
    seen: dict[tuple[str, str], int] = {}
    pairs = zip(qrels.columns["query-id"], qrels.columns["corpus-id"], strict=True)
    for row, pair in enumerate(pairs):
        for column, name in zip(("query-id", "corpus-id"), pair, strict=True):
            if name not in known[column]:
                raise qrels.refuse(
                    row, f"{column} {name!r} is not in {files[column]}", "correct it, or add the row there"
                )
        if pair in seen:
            raise qrels.refuse(
                row, f"this pair stands in line {qrels.lines[seen[pair]]} already", "keep one judgement of it"
            )
        seen[pair] = row
        score = qrels.columns["score"][row]
        if score != int(score) or score < 0:
            raise qrels.refuse(row, f"score: expected a whole number from 0 on, got {score}", "0 is not relevant")


def _expect_positives(qrels: OwnTable) -> None:
    """Each query has a relevant document, or its score would be 0 whatever the model."""
    relevant = {
        query for query, score in zip(qrels.columns["query-id"], qrels.columns["score"], strict=True) if score > 0
    }
    for row, query in enumerate(qrels.columns["query-id"]):
        if query not in relevant:
            raise qrels.refuse(
                row, f"query {query!r} has no document with a score above 0", "add one, or drop the query"
            )


def _expect_ranked(table: OwnTable) -> None:
    """Each document of a query stands once, and one at least is relevant."""
    seen: dict[tuple[str, str], int] = {}
    columns = table.columns
    relevant = {query for query, score in zip(columns["query"], columns["relevance"], strict=True) if score > 0}
    for row, pair in enumerate(zip(columns["query"], columns["document"], strict=True)):
        if pair in seen:
            raise table.refuse(row, f"this pair stands in line {table.lines[seen[pair]]} already", "keep one of them")
        seen[pair] = row
        if pair[0] not in relevant:
            raise table.refuse(row, f"query {shortened(pair[0])} has no document with a relevance above 0", "add one")


def _expect_one_kind_of_label(splits: Mapping[str, OwnTable]) -> None:
    """Labels are texts, or whole numbers; those of CSV are numbers where all of them, in every split, can be."""
    values: list[Any] = [value for table in splits.values() for value in table.columns["label"]]
    if all(isinstance(value, int) or _is_whole(value) for value in values):
        for table in splits.values():
            table.columns["label"][:] = [int(value) for value in table.columns["label"]]
        return
    for table in splits.values():
        for row, value in enumerate(table.columns["label"]):
            if isinstance(value, int):
                raise table.refuse(row, f"label: {value} is a number, but other labels are texts", "write all as texts")


def _is_whole(value: str) -> bool:
    """Whether a label reads as the whole number that it would be written as: 7, but not 07 or +7."""
    return value.isascii() and value.lstrip("-").isdigit() and str(int(value)) == value
