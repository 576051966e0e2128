"""The items of the suite: their schema, where they lie and the hash that names their content."""

import hashlib
import json
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embrepro.errors import TaskError

VERSION = "2"
"""Version of the suite; it changes whenever an item or a definition does."""

CATEGORIES: dict[str, str] = {
    "EmbreproInstructionAwareness": "instruction awareness",
    "EmbreproSemanticSimilarity": "semantic similarity",
    "EmbreproCodeUnderstanding": "code understanding",
    "EmbreproConversationalUnderstanding": "conversational understanding",
    "EmbreproMultilingualAlignment": "multilingual alignment",
    "EmbreproTopicClustering": "topic clustering",
}
"""Task name to the title of the category it measures."""

CLUSTERING_TASK = "EmbreproTopicClustering"

_PACKAGED = files(__package__) / "data"

_Text = Annotated[str, Field(min_length=1, pattern=r"^\S(?s:.*\S)?$")]


class _Item(BaseModel):
    """What every row has in common."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: Annotated[str, Field(pattern=r"^[a-z]{3,4}-\d{3}$")]
    domain: _Text
    language: Annotated[str, Field(pattern=r"^[a-z]{3}-[A-Z][a-z]{3}$")]


class RetrievalItem(_Item):
    """A query, the one text that answers it and three texts that come close and do not."""

    query: _Text
    positive: _Text
    negatives: Annotated[list[_Text], Field(min_length=3, max_length=3)]
    programming_language: str | None = None


class ClusteringItem(_Item):
    """A text and the topic it belongs to."""

    text: _Text
    topic: _Text


def file_name(task: str) -> str:
    """Return the name of the data file of a task, for instance `semantic_similarity.jsonl`."""
    if task not in CATEGORIES:
        raise TaskError(f"the suite has no task {task!r}; it has {', '.join(CATEGORIES)}")
    return CATEGORIES[task].replace(" ", "_") + ".jsonl"


def content_hash(folder: Traversable | None = None) -> str:
    """Return the SHA-256, as 64 hex digits, of the suite's version and its six data files in name order.

    Args:
        folder: where the data files lie; the package's own unless given.

    Raises:
        TaskError: a data file is absent.
    """
    digest = hashlib.sha256(VERSION.encode())
    for name in sorted(map(file_name, CATEGORIES)):
        content = _read(name, folder or _PACKAGED)
        # Name and length fence each file off, so that moving a line from one to the next is seen.
        digest.update(f"\n{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def file_revision(task: str) -> str:
    """Return the first 40 hex digits of the SHA-256 of a task's data file, in the shape of a revision.

    An absent file has forty zeros: naming a task must not fail, loading it will.
    """
    try:
        content = _read(file_name(task), _PACKAGED)
    except TaskError:
        return "0" * 40
    return hashlib.sha256(content).hexdigest()[:40]


def read_items(task: str, folder: Traversable | None = None) -> tuple[RetrievalItem | ClusteringItem, ...]:
    """Return the items of a task in file order; those of the package are read once and kept.

    Args:
        task: a name in `CATEGORIES`.
        folder: where the data files lie; the package's own unless given.

    Raises:
        TaskError: no such task, or its data file is absent or malformed; names the file and the line.
    """
    return _packaged_items(task) if folder is None else _items(task, folder)


def retrieval_items(task: str) -> list[RetrievalItem]:
    """Return the items of a retrieval task of the package."""
    return [item for item in read_items(task) if isinstance(item, RetrievalItem)]


def clustering_items() -> list[ClusteringItem]:
    """Return the items of the package's clustering task."""
    return [item for item in read_items(CLUSTERING_TASK) if isinstance(item, ClusteringItem)]


@cache
def _packaged_items(task: str) -> tuple[RetrievalItem | ClusteringItem, ...]:
    return _items(task, _PACKAGED)


def _items(task: str, folder: Traversable) -> tuple[RetrievalItem | ClusteringItem, ...]:
    name = file_name(task)
    schema = ClusteringItem if task == CLUSTERING_TASK else RetrievalItem
    # Not splitlines: a JSON string may hold other line separators than the line feed.
    lines = _decode(name, _read(name, folder)).removesuffix("\n").split("\n")
    return tuple(_parse(schema, name, number, line) for number, line in enumerate(lines, start=1))


def _read(name: str, folder: Traversable) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise TaskError(
            f"{name}, line 1: expected a data file of the suite in {folder}, found none; reinstall embrepro"
        ) from error


def _decode(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise TaskError(f"{name}, line {line}: expected UTF-8, found {error.reason}; save it as such") from error


def _parse(
    schema: type[RetrievalItem | ClusteringItem], name: str, number: int, line: str
) -> RetrievalItem | ClusteringItem:
    try:
        return schema.model_validate(json.loads(line))
    except json.JSONDecodeError as error:
        raise TaskError(f"{name}, line {number}: expected a JSON object: {error}; mend the line") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the row"
        raise TaskError(f"{name}, line {number}: {field}: {first['msg']}; mend the line") from error
