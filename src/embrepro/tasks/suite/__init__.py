"""The kit's own suite, version 1: six categories of hand-written items, each a real mteb task.

Five categories are reranking tasks: a query, the one text that answers it and three hard negatives that
share its topic and much of its wording. Their main score is the share of queries whose positive ranks above
all its hard negatives (chance: 0.25), so a model that maps every text to nearly one direction gains nothing.
The sixth is a clustering task over neighbouring topics, scored by V-measure.

`legacy_scores` computes the older definitions of the same categories on the same items, so that the two can
be set side by side.
"""

from typing import TYPE_CHECKING, Any

from embrepro.tasks.suite.items import CATEGORIES, VERSION, content_hash, read_items
from embrepro.tasks.suite.legacy import legacy_scores

if TYPE_CHECKING:
    from embrepro.tasks.suite.tasks import TASKS

__all__ = ["CATEGORIES", "TASKS", "VERSION", "content_hash", "legacy_scores", "read_items"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import mteb, which takes seconds, only for those who ask for the task classes."""
    if name == "TASKS":
        from embrepro.tasks.suite.tasks import TASKS

        return TASKS
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
