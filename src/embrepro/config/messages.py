"""Messages for wrong keys and values of a document: the key's path, what was expected, and the nearest known words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from embrepro.config.names import shortened

LINES = 12


def complaints(error: ValidationError, kind: type[BaseModel], content: object) -> str:
    """What is wrong with the content of a document of a kind: a line for each of the first `LINES` problems."""
    lines = [f"  {_complaint(problem, kind, content)}" for problem in error.errors()]
    more = len(lines) - LINES
    return "\n".join(lines[:LINES] + ([f"  and {more} more"] if more > 0 else []))


def suggest(word: str, known: Iterable[str]) -> str:
    """A clause naming the known words nearest to `word`, or all of them where they are few; empty where none is near."""
    words = sorted(known)
    folded = {candidate.casefold(): candidate for candidate in reversed(words)}
    near = [folded[match] for match in difflib.get_close_matches(word.casefold(), folded, n=3, cutoff=0.6)]
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; known: {', '.join(words)}" if 0 < len(words) <= 20 else ""


def known_keys(kind: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """Keys of the section at a path into a document; none where there is no such section, or any key may stand there."""
    found = list(_sections(kind))
    for part in path:
        found = [section for parent in found for section in _inside(parent, part)]
    return list(dict.fromkeys(key for section in found if _is_section(section) for key in section.model_fields))


def _complaint(problem: Any, kind: type[BaseModel], content: object) -> str:  # noqa: ANN401 - an entry of pydantic's list
    path = problem["loc"]
    where = ".".join(_named(path, content)) or "(top level)"
    if problem["type"] == "invalid_key":
        return f"{where}: a key must be text; put it in quotes"
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key{suggest(str(path[-1]), known_keys(kind, path[:-1]))}"
    if problem["type"] == "missing":
        return f"{where}: this key is needed"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{where}: {message}"
    hint = ""
    if problem["type"] in ("literal_error", "union_tag_invalid"):
        given = problem["ctx"].get("tag", problem["input"])
        hint = suggest(str(given), re.findall(r"'([^']+)'", problem["ctx"].get("expected_tags", message)))
    return f"{where}: {message}; got {shortened(problem['input'])}{hint}"


def _named(path: Sequence[str | int], content: object) -> Iterator[str]:
    """The parts of a path that the document itself has; an item of a list by its `id`, where it has one."""
    for part in path:
        if part == "[key]":
            # Pydantic's word for "the key itself"
            continue
        try:
            content = content[part]  # type: ignore[index]
        except (IndexError, KeyError, TypeError):
            if part != path[-1]:
                # The name of a variant or of a check, which pydantic puts in between
                continue
            content = None
        named = isinstance(part, int) and isinstance(content, Mapping) and "id" in content
        yield f"'{content['id']}'" if named else str(part)  # type: ignore[index]


def _inside(section: Any, part: str | int) -> Iterator[Any]:  # noqa: ANN401 - classes and annotations
    if not _is_section(section):
        if get_origin(section) in (dict, list):
            yield from _sections(get_args(section)[-1])
    elif part in section.model_fields:
        yield from _sections(section.model_fields[part].annotation)
    elif str(part).startswith("function-") or _is_variant(section, part):
        yield section


def _sections(annotation: Any) -> Iterator[Any]:  # noqa: ANN401
    """An annotation's sections and containers, each variant of a union by itself."""
    if _is_section(annotation) or get_origin(annotation) in (dict, list):
        yield annotation
    elif get_origin(annotation) is not Literal:
        for inner in get_args(annotation):
            yield from _sections(inner)


def _is_section(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_variant(section: type[BaseModel], part: str | int) -> bool:
    """Whether pydantic means this section by a part that is no key: its class, or what its discriminator says."""
    fields = section.model_fields.values()
    return part == section.__name__ or any(part in get_args(field.annotation) for field in fields)
