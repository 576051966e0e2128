"""How hard an item is, by a rule that looks at its letters alone and at no model's answers.

The rule asks whether shared spelling leads to the positive or away from it. A text's spelling is the set of its runs of
three characters; two texts share as much as their Jaccard index says, shared runs over all runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from embrepro.suite.items import CATEGORIES, CLUSTERING_TASK, RetrievalItem, retrieval_items

Difficulty = Literal["easy", "medium", "hard"]
LEVELS: tuple[Difficulty, ...] = ("easy", "medium", "hard")
LEAD = 2.0
"""An item is easy where its positive shares this many times what its closest hard negative shares with the query."""


def difficulty(item: RetrievalItem) -> Difficulty:
    """Whether spelling gives the positive away (easy), points to it (medium), or to a hard negative (hard)."""
    positive = _shared(item.query, item.positive)
    closest = max(_shared(item.query, text) for text in item.negatives)
    if positive <= closest:
        return "hard"
    return "easy" if positive >= LEAD * closest else "medium"


def table_of_difficulty() -> str:
    """The table of `docs/suite.md`: the numbers of the items of each difficulty, by category."""
    lines = ["| category | " + " | ".join(LEVELS) + " |", "|---|" + "---|" * len(LEVELS)]
    for task, title in CATEGORIES.items():
        if task == CLUSTERING_TASK:
            continue
        levels: dict[Difficulty, list[int]] = {level: [] for level in LEVELS}
        for item in retrieval_items(task):
            levels[difficulty(item)].append(int(item.id.rpartition("-")[2]))
        prefix = retrieval_items(task)[0].id.partition("-")[0]
        cells = [f"{len(found)}: {_ranges(found)}" if found else "0" for found in levels.values()]
        lines.append(f"| {title} (`{prefix}`) | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _shared(left: str, right: str) -> float:
    one, other = _runs(left), _runs(right)
    return len(one & other) / len(one | other) if one | other else 0.0


def _runs(text: str) -> set[str]:
    plain = " ".join(text.casefold().split())
    return {plain[start : start + 3] for start in range(len(plain) - 2)}


def _ranges(numbers: Iterable[int]) -> str:
    """Numbers in ascending order, neighbours as a range: 1-3, 7."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + 1:
            found[-1][1:] = [number]
        else:
            found.append([number])
    return ", ".join("-".join(map(str, pair)) for pair in found)
