"""`own-data/<name>/task.yaml`: what kind of task the files beside it make, and the hash that stands for all of them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from embrepro.config.messages import suggest
from embrepro.config.names import RelativePath, TaskName
from embrepro.config.yaml_files import Strict, read_document
from embrepro.errors import ConfigError
from embrepro.files import fingerprint, sha256

FOLDER = Path("own-data")
"""One folder a task, called like the task; the download stage depends on all of it."""
DEFINITION = "task.yaml"
PAGE = "docs/own-data.md"
OwnTaskType = Literal["retrieval", "reranking", "sts", "pair-classification", "classification", "clustering", "bitext"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "sts": ("sentence1", "sentence2", "score"),
    "pair-classification": ("sentence1", "sentence2", "label"),
    "classification": ("text", "label"),
    "clustering": ("text", "label"),
    "bitext": ("sentence1", "sentence2"),
    "reranking": ("query", "document", "relevance"),
}
"""Columns of the files of each kind; retrieval has three files of its own, see `reading.retrieval`."""
SETTINGS: dict[str, tuple[str, ...]] = {
    "sts": ("min_score", "max_score"),
    "classification": ("samples_per_label", "n_experiments"),
    "clustering": (
        "max_fraction_of_documents_to_embed",
        "max_document_to_embed",
        "max_documents_per_cluster",
        "n_clusters",
        "k_mean_batch_size",
    ),
}
"""Attributes of mteb's task classes that a definition may set."""


class Definition(Strict):
    """What the files beside a `task.yaml` make."""

    type: OwnTaskType
    languages: list[str] = Field(min_length=1, description="ISO 639-3 code and script, such as eng-Latn")
    description: str = ""
    licence: str | None = Field(default=None, description="in mteb's words, such as cc-by-4.0; null where not known")
    splits: list[RelativePath] = Field(default=["test"], min_length=1, description="splits to score")
    main_score: str | None = Field(default=None, description="null for the usual one of mteb's tasks of this type")
    columns: dict[str, str] = Field(default_factory=dict, description="a column of the kit -> what the files call it")
    settings: dict[str, int | float | None] = Field(default_factory=dict, description="attributes of mteb's task class")
    unjudged_queries: Literal["refuse", "drop"] = Field(
        default="refuse", description="what to do with a query of a retrieval task that no qrels name"
    )

    @model_validator(mode="after")
    def _known_words(self) -> Definition:
        for given, known, what in (
            (self.columns, COLUMNS.get(self.type, ()), "columns"),
            (self.settings, SETTINGS.get(self.type, ()), "settings"),
        ):
            for word in given:
                if word not in known:
                    raise ValueError(f"{what}: a task of type {self.type} has no '{word}'{suggest(word, known)}")
        return self

    @property
    def read_splits(self) -> list[str]:
        """The splits that must be there: a classifier is trained on `train`."""
        return list(dict.fromkeys([*(["train"] if self.type == "classification" else []), *self.splits]))


def names(root: Path = FOLDER) -> list[str]:
    """The tasks that are defined, sorted."""
    return sorted(path.parent.name for path in root.glob(f"*/{DEFINITION}"))


def exists(name: str, root: Path = FOLDER) -> bool:
    """Whether there is a folder for a task of this name."""
    return (root / name).is_dir() and "/" not in name


def read(name: str, root: Path = FOLDER) -> Definition:
    """The definition of a task.

    Raises:
        ConfigError: the folder has no `task.yaml`, or it holds an unknown key or a wrong value.
    """
    path = root / name / DEFINITION
    if not path.is_file() and exists(name, root):
        raise ConfigError(f"{root / name} has no {DEFINITION}, which says what its files are; {PAGE} shows one.")
    return read_document(path, Definition, "a task of one's own", PAGE)


def revision(name: str, root: Path = FOLDER) -> str:
    """What stands for a task's files as a commit does for a published data set: 40 digits of a hash over all of them."""
    folder = root / name
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    content = {path.relative_to(folder).as_posix(): _digest(path, *_changed(path)) for path in files}
    return fingerprint(content)[:40]


def _changed(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


@functools.cache
def _digest(path: Path, _changed: int, _size: int) -> str:
    """SHA-256 of a file, once in each process for each state of it."""
    return sha256(path.resolve())


def expect_name(name: str) -> None:
    """Refuse a folder whose name cannot be a task's; raises ConfigError."""
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(TaskName).validate_python(name)
    except ValidationError as error:
        raise ConfigError(f"{FOLDER / name}: {error.errors()[0]['msg']}. Rename the folder.") from None
