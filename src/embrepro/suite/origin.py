"""The analysis's own evaluation: both its definitions on its own items, which its numbers were measured on.

The items have no licence, so none of them is here: they are literals in two files of a public repository, fetched at a
pinned commit, compared with their SHA-256, and read from the syntax tree. Nothing in those files is ever run.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from embrepro.errors import TaskError
from embrepro.sources.git_files import GitFile

if TYPE_CHECKING:
    from embrepro.suite.legacy import LegacyItems, Pair

OriginDefinition = Literal["first", "second"]
TASKS: dict[str, OriginDefinition] = {"AnalysisFirstDefinition": "first", "AnalysisSecondDefinition": "second"}
"""Task name to the definition that it computes."""
_BOTH = (
    "semantic_similarity",
    "multilingual_alignment",
    "instruction_awareness",
    "conversational_understanding",
    "code_understanding",
)
CATEGORIES: dict[OriginDefinition, tuple[str, ...]] = {"first": (*_BOTH, "topic_clustering"), "second": _BOTH}
"""The categories that a definition scores."""

_REPOSITORY = "theseedship/deposium_embeddings-turbov2"
_COMMIT = "4b74f0b8abb282c78c6cb22db393001514be00dd"
FILES: dict[OriginDefinition, GitFile] = {
    "first": GitFile(
        repository=_REPOSITORY,
        commit=_COMMIT,
        path="benchmarks/models/qwen25-1024d/eval_script.py",
        sha256="8da6527cced2671ffaf5b6211df7078b8b4ba6e8612f014458e53eef3fd5343b",
    ),
    "second": GitFile(
        repository=_REPOSITORY,
        commit=_COMMIT,
        path="benchmarks/comparisons/compare_qwen25_vs_all.py",
        sha256="222b825babdec0dde86404ea5731488d3e4dd7a5c12b74c43ac9b227c0791482",
    ),
}

_WHOLE = "evaluate_model"
_PAIRS: dict[OriginDefinition, dict[str, tuple[str, str]]] = {
    "first": {
        "semantic_similarity": (_WHOLE, "similar_pairs"),
        "multilingual_alignment": (_WHOLE, "multilingual_pairs"),
        "instruction_awareness": (_WHOLE, "instruction_pairs"),
        "conversational_understanding": (_WHOLE, "idiom_pairs"),
        "code_understanding": (_WHOLE, "code_pairs"),
    },
    "second": {
        "semantic_similarity": ("test_semantic_similarity", "pairs"),
        "multilingual_alignment": ("test_multilingual", "pairs"),
        "instruction_awareness": ("test_instruction_awareness", "pairs"),
        "conversational_understanding": ("test_conversational", "pairs"),
        "code_understanding": ("test_code_understanding", "pairs"),
    },
}
"""Category to the function and the variable of the file that hold its pairs."""
_DISSIMILAR = (_WHOLE, "dissimilar_pairs")
_TOPICS = ("tech_sentences", "nature_sentences", "sports_sentences")


def read_origin(definition: OriginDefinition, content: bytes) -> LegacyItems:
    """The items in a file of the analysis's repository.

    Args:
        definition: which of the two files it is.
        content: the file's bytes.

    Raises:
        TaskError: it is not Python, or lacks a list of items or has it in another shape; names it.
    """
    from embrepro.suite.legacy import LegacyItems

    literals = _literals(content)
    similar = {category: _pairs(literals, place) for category, place in _PAIRS[definition].items()}
    if definition == "second":
        return LegacyItems(similar)
    topics = [(text, name) for name in _TOPICS for text in _texts(literals, (_WHOLE, name))]
    return LegacyItems(similar, _pairs(literals, _DISSIMILAR), topics)


def _literals(content: bytes) -> dict[tuple[str, str], Any]:
    """(function, variable) -> value of every assignment of a literal in a function."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError) as error:
        raise TaskError(f"expected a Python file with the analysis's items, got something else: {error}") from None
    found = {}
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                try:
                    found[function.name, node.targets[0].id] = ast.literal_eval(node.value)
                except ValueError:
                    continue
    return found


def _pairs(literals: Mapping[tuple[str, str], Any], place: tuple[str, str]) -> Sequence[Pair]:
    found = _list(literals, place)
    if not all(
        isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in found
    ):
        raise TaskError(f"expected pairs of texts in {place[1]} of {place[0]}, got another shape")
    return found


def _texts(literals: Mapping[tuple[str, str], Any], place: tuple[str, str]) -> Sequence[str]:
    found = _list(literals, place)
    if not all(isinstance(text, str) for text in found):
        raise TaskError(f"expected texts in {place[1]} of {place[0]}, got another shape")
    return found


def _list(literals: Mapping[tuple[str, str], Any], place: tuple[str, str]) -> list[Any]:
    found = literals.get(place)
    if not isinstance(found, list) or not found:
        raise TaskError(f"expected a list of items in {place[1]} of {place[0]}, found none")
    return found
