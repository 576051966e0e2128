"""YAML that people write for the kit, read strictly: one encoding, no key twice, no more than a person would write.

PyYAML keeps the last of two equal keys without a word, expands nested aliases without end and fails with many kinds of
exceptions. Here everything that is wrong with a file is one `ConfigError` that names the file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from embrepro.config.messages import complaints
from embrepro.config.names import shortened
from embrepro.errors import ConfigError

LARGEST_FILE = 4 * 2**20
MOST_VALUES = 200_000
DEEPEST = 50

# Lone surrogates cannot be encoded in UTF-8, and the others would act on the terminal that shows a message.
_UNWANTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class Strict(BaseModel):
    """A section of a document: no unknown keys, no infinite or undefined number, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


DocumentType = TypeVar("DocumentType", bound=Strict)


def read_document(path: Path, kind: type[DocumentType], what: str, page: str) -> DocumentType:
    """Read a YAML file into a document.

    Args:
        path: the file.
        kind: the document's class.
        what: what the file should be, such as "a gate's rules".
        page: the page of docs/ that explains the format.

    Raises:
        ConfigError: no such file, not YAML, or an unknown key or wrong value, with the nearest known words.
    """
    if not path.is_file():
        raise ConfigError(f"Expected {what} at {path}, found no file; {page} says how to write one.")
    content = read_yaml(path)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise ConfigError(
            f"{path} is not {what}:\n{complaints(error, kind, content)}\n{page} explains the format."
        ) from None


def read_yaml(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Plain values of a YAML file.

    Raises:
        ConfigError: the file cannot be read, is not UTF-8, is not YAML, or holds a key twice.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    return parse_yaml(content, str(path))


def parse_yaml(content: bytes, origin: str) -> Any:  # noqa: ANN401 - whatever the text holds
    """Plain values of one YAML document in UTF-8; `origin` names it in errors.

    Raises:
        ConfigError: see `read_yaml`.
    """
    if len(content) > LARGEST_FILE:
        raise ConfigError(f"{origin} has {len(content):,} bytes; at most {LARGEST_FILE:,} are read.")
    text = _decoded(content, origin)
    try:
        return _plain_values(text, origin)
    except RecursionError:
        raise ConfigError(f"{origin} is nested deeper than {DEEPEST} levels.") from None
    except (yaml.YAMLError, ValueError, OverflowError, TypeError) as error:
        raise ConfigError(f"{origin} is not valid YAML: {error}. Check indentation and quotes.") from None


def _plain_values(text: str, origin: str) -> Any:  # noqa: ANN401 - whatever the text holds
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _expect_plain(root, origin)
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _decoded(content: bytes, origin: str) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(f"{origin} is in UTF-16; save it in UTF-8.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{origin} is not in UTF-8: byte 0x{content[error.start]:02x} in line {line}. Save it in UTF-8."
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ConfigError(f"{origin} holds a NUL character in line {line}; it is damaged, or not in UTF-8.")
    return text


def _expect_plain(root: yaml.Node, origin: str) -> None:
    """Refuse what a person would not write: duplicate keys, control characters, endless nesting or expansion."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, depth: int) -> int:
        """Number of values below a node with every alias written out."""
        if depth > DEEPEST:
            raise ConfigError(f"{origin} is nested deeper than {DEEPEST} levels, or an alias holds itself.")
        if id(node) not in sizes:
            if isinstance(node, yaml.ScalarNode):
                _expect_text(node, origin)
            if isinstance(node, yaml.MappingNode):
                _expect_keys_once(node, origin)
            sizes[id(node)] = 1 + sum(size(child, depth + 1) for child in _children(node))
        if sizes[id(node)] > MOST_VALUES:
            raise ConfigError(f"{origin} holds more than {MOST_VALUES:,} values.")
        return sizes[id(node)]

    size(root, 0)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _expect_text(node: yaml.ScalarNode, origin: str) -> None:
    if unwanted := _UNWANTED.search(node.value):
        line = node.start_mark.line + 1
        raise ConfigError(f"{origin}, line {line}: {shortened(unwanted[0])} is not a character that text may hold.")


def _expect_keys_once(node: yaml.MappingNode, origin: str) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{origin}, line {line}: a key must be a word, not a list or a mapping.")
        named = (key.tag, key.value)
        if named in lines:
            raise ConfigError(
                f"{origin}: the key {shortened(key.value)} stands twice, in lines {lines[named]} and {line}; keep one."
            )
        lines[named] = line
