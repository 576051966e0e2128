"""The winner of each use case, as a section of the report."""

from __future__ import annotations

from collections.abc import Sequence

from embrepro.rendering.formats import DASH
from embrepro.rendering.model import Column, Section, Table, Tone, Value
from embrepro.results.summary import Recommendation

_TONES: dict[str, Tone] = {"tie": "even", "neither": "even", "not measured": "missing"}


def recommendation_section(found: Sequence[Recommendation]) -> Section:
    """The winner for each use case, and why; beside it the winner by a document about the same two models."""
    claimed = any(line.claimed for line in found)
    columns = [Column("Use case"), Column("Winner"), Column("Reason", wide=True)]
    rows = [
        [
            Value(line.use_case),
            Value(
                line.winner or line.outcome,
                note=line.outcome if line.winner and line.winner != line.outcome else "",
                tone=_TONES.get(line.outcome, ""),
            ),
            Value(line.reason),
            *([Value(line.claimed or DASH)] if claimed else []),
        ]
        for line in found
    ]
    columns += [Column("Winner as claimed")] if claimed else []
    caption = "Winner by use case, decided by rules over measured values"
    return Section(
        "recommendation", "Recommendation", tables=[Table("recommendations", caption, columns, rows, restack=True)]
    )
