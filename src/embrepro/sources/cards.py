"""Cards of data sets: the front matter of a README that says which files make which configuration."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from embrepro.errors import SourceError

CARDS = ("README.md", ".huggingface.yaml")


def expect_own_files(folder: Path) -> None:
    """Check that a data set's card names files of its own folder only.

    Raises:
        SourceError: the card names an absolute path, one with `..`, or an address.
    """
    for name in CARDS:
        for config in configs(folder / name):
            for pattern in _patterns(config):
                parts = pattern.replace("\\", "/").split("/")
                if pattern.startswith(("/", "~", "\\")) or "://" in pattern or ".." in parts:
                    raise SourceError(
                        f"{folder / name} names data files outside its folder: {pattern!r}. "
                        "Nothing outside is read; correct the card."
                    )


def configs(card: Path) -> list[dict[str, Any]]:
    """The configurations that a card lists; none where there is no card or it is malformed, which its reader reports."""
    if not card.is_file():
        return []
    text = card.read_text(encoding="utf-8", errors="replace")
    if card.suffix == ".md":
        text = text.split("\n---", 1)[0].removeprefix("---") if text.startswith("---") else ""
    try:
        header = yaml.safe_load(text)
    except yaml.YAMLError:
        return []
    listed = header.get("configs") if isinstance(header, dict) else None
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


def unneeded_files(
    listed: list[dict[str, Any]], files: Collection[str], wanted: Collection[str], unwanted: Collection[str]
) -> list[str]:
    """Those of a repository's files that only configurations of unwanted subsets name.

    A configuration belongs to a subset that it is named after, with or without a part such as `-corpus`. The first one
    is always needed: `datasets` learns the files' format from it.

    Args:
        listed: the card's configurations.
        files: names of all files.
        wanted: subsets that are asked for.
        unwanted: the task's other subsets.
    """
    needed: list[str] = []
    dropped: list[str] = []
    for position, config in enumerate(listed):
        name = str(config.get("config_name", ""))
        drop = position > 0 and _belongs(name, unwanted) and not _belongs(name, wanted)
        (dropped if drop else needed).extend(_patterns(config))
    return [name for name in files if _matches(name, dropped) and not _matches(name, needed)]


def _belongs(config: str, subsets: Collection[str]) -> bool:
    return any(
        config == subset or config.startswith(f"{subset}-") or config.endswith(f"-{subset}") for subset in subsets
    )


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern.removeprefix("./")) for pattern in patterns)


def _patterns(config: dict[str, Any]) -> Iterator[str]:
    for folder in _strings(config.get("data_dir")):
        yield f"{folder.rstrip('/')}/*"
    yield from _strings(config.get("data_files"))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, child in value.items():
            if key != "split":
                yield from _strings(child)
    elif isinstance(value, list):
        for child in value:
            yield from _strings(child)
