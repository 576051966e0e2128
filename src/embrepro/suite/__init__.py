"""The kit's own suite, version 2: six categories of hand-written items, each a real mteb task.

Five categories are retrieval tasks. An item is a query, the one text that answers it and three hard
negatives that share its topic and much of its wording; each query searches the positives and hard negatives
of all items of its category, some 840 to 1,320 documents. The main score is nDCG@10 (chance: about 0.005), so
that easy negatives count as well as hard ones; beside it stand the accuracy against the query's own hard
negatives alone (chance: 0.25) and the area under the ROC curve (chance: 0.5). All three reward separation: a
model that maps every text to one direction scores chance. The sixth is a clustering task over neighbouring
topics, scored by V-measure.

`legacy_scores` computes the older definitions of the same categories on the same items, so that the two can
be set side by side. `origin` has them on the items that they came with.
"""

from typing import TYPE_CHECKING, Any

from embrepro.suite.items import CATEGORIES, VERSION, content_hash, read_items
from embrepro.suite.legacy import legacy_scores

if TYPE_CHECKING:
    from embrepro.suite.tasks import TASKS

__all__ = ["CATEGORIES", "TASKS", "VERSION", "content_hash", "legacy_scores", "read_items"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import mteb, which takes seconds, only for those who ask for the task classes."""
    if name == "TASKS":
        from embrepro.suite.tasks import TASKS

        return TASKS
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
