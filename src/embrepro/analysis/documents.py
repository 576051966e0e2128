"""YAML files that people write for the kit, typed; what is wrong is named by file and key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from embrepro.config import suggest
from embrepro.errors import ConfigError


class Strict(BaseModel):
    """A section of such a file: no unknown keys, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Document = TypeVar("Document", bound=Strict)


def read(path: Path, kind: type[Document], what: str, page: str) -> Document:
    """Read a YAML file into a document.

    Args:
        path: the file.
        kind: the document's class.
        what: what the file should be, such as "a gate's rules".
        page: the page of docs/ that explains the format.

    Raises:
        ConfigError: no such file, not YAML, or an unknown key or wrong value, with the nearest known keys.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"Expected {what} at {path}, found no file; {page} says how to write one."
        ) from None
    except OSError as error:
        raise ConfigError(f"Expected {what} at {path}, which cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"Expected YAML in {path}, got: {error}. Check indentation and quotes.") from None
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        lines = [f"  {_explain(problem, kind)}" for problem in error.errors()]
        raise ConfigError(
            f"{path} is not {what}:\n" + "\n".join(lines) + f"\n{page} explains the format."
        ) from None


def _explain(problem: Any, kind: type[BaseModel]) -> str:  # noqa: ANN401 - an entry of pydantic's error list
    location = [str(part) for part in problem["loc"]]
    where = ".".join(location) or "(top level)"
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key{suggest(location[-1], _known_keys(location[:-1], kind))}"
    if problem["type"] == "missing":
        return f"{where}: this key is needed"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return (
        f"{where}: {message}"
        if problem["type"] == "value_error"
        else f"{where}: {message}; got {problem['input']!r}"
    )


def _known_keys(path: Sequence[str], kind: type[BaseModel]) -> list[str]:
    annotation: Any = kind
    for part in path:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            annotation = annotation.model_fields[part].annotation
        elif get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
        elif get_origin(annotation) is list:
            annotation = get_args(annotation)[0]
    return (
        list(annotation.model_fields)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel)
        else []
    )
