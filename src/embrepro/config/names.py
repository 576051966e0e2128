"""Names and paths that a configuration may hold: the one place that says which are accepted.

Keys become folders, DVC stages and words of a command line, so each type admits only what is safe in all three. A value
that does not fit is refused when the configuration is read, before anything is fetched, written or run.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator

LONGEST_PATH = 1024
PUBLISHED = "published"
"""The part of a model's file that says what others publish of it."""


def _matching(pattern: str, expected: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"expected {expected}; got {shortened(value)}")
        return value

    return check


def shortened(value: object, longest: int = 100) -> str:
    """A value as Python writes it, cut where it is longer than a message should be."""
    text = repr(value)
    return text if len(text) <= longest else f"{text[:longest]}..."


def _relative(value: str) -> str:
    parts = PurePosixPath(value).parts
    if (
        not value
        or len(value) > LONGEST_PATH
        or value.startswith(("/", "~", "-"))
        or "\\" in value
        or ".." in parts
        or not value.isprintable()
    ):
        raise ValueError(f"expected a path below its folder, without '..'; got {shortened(value)}")
    return value


def _folder(value: str) -> str:
    if not value.strip() or len(value) > LONGEST_PATH or value.startswith("-") or not value.isprintable():
        raise ValueError(f"expected the path of a folder; got {shortened(value)}")
    return value


ModelKey = Annotated[
    str,
    AfterValidator(
        _matching(
            r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}",
            "a key of letters, digits, '_' and '-', at most 80, that does not start with '-'",
        )
    ),
]
"""Key of a model: a folder, a part of a stage's name, and a word of the stage's command."""

HubName = Annotated[
    str,
    AfterValidator(
        _matching(
            r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}",
            "a name of letters, digits, '_', '-' and '.', at most 96, that starts with a letter, a digit or '_'",
        )
    ),
]
"""Organisation or name of a hub repository; also what a model is called in the results, where it names a folder."""

TaskName = HubName
"""Name of a task of mteb's or of the kit's own; it names a folder of frozen data."""

DocumentName = Annotated[
    str,
    AfterValidator(
        _matching(
            r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}",
            "the name of a file without its folder and .yaml, of letters, digits, '_' and '-'",
        )
    ),
]
"""Name of a YAML file in a folder of `conf/documents/`, without its ending."""

DistributionName = Annotated[
    str, AfterValidator(_matching(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?", "the name of a Python package"))
]
"""Name of a Python package (PEP 508)."""

PackageVersion = Annotated[
    str, AfterValidator(_matching(r"[A-Za-z0-9][A-Za-z0-9.+!_-]{0,63}", "the version of a Python package"))
]
"""Version of a Python package (PEP 440, not checked further)."""

ImageName = Annotated[
    str, AfterValidator(_matching(r"[A-Za-z0-9][A-Za-z0-9_./:@-]{0,254}", "the name of a container image"))
]
"""Name of a container image, with its registry, tag or digest."""

NetworkName = Annotated[
    str, AfterValidator(_matching(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}", "the name of a container engine's network"))
]
"""Name of a container engine's network."""

RelativePath = Annotated[str, AfterValidator(_relative)]
"""Path of a file or folder that must lie below another folder: relative, without `..`."""

FolderPath = Annotated[str, AfterValidator(_folder)]
"""Path of a folder anywhere on this machine; `~` stands for the home folder."""
