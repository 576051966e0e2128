"""What came of computing everything on disk again, and the page that says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from embrepro.rendering.model import Column, Document, Section, Table, Tone, Value

RecomputedPart = Literal["data", "model", "embeddings", "scores", "reports"]
RecomputedVerdict = Literal["OK", "FAIL", "not judged"]
_TONES: dict[str, Tone] = {"OK": "good", "FAIL": "bad", "not judged": "warn"}


@dataclass(frozen=True)
class Recomputed:
    """One part of a project: what was compared in it, and what differs."""

    part: RecomputedPart
    of: str
    verdict: RecomputedVerdict
    words: str


def recomputed_page(found: Sequence[Recomputed]) -> Document:
    """A line for each part, and for each thing that is not as it should be."""
    failed = sum(each.verdict == "FAIL" for each in found)
    unknown = sum(each.verdict == "not judged" for each in found)
    told = f"{failed} thing{'' if failed == 1 else 's'} found that no computation gives." if failed else ""
    told = told or ("Nothing wrong was found, but not all could be judged." if unknown else "All as it was computed.")
    rows = [
        [Value(each.part), Value(each.of), Value(each.verdict, tone=_TONES[each.verdict]), Value(each.words)]
        for each in found
    ]
    columns = [Column("part"), Column("of"), Column("verdict"), Column("what was compared", wide=True)]
    return Document(
        title="Everything computed again",
        verdict=told,
        tone="bad" if failed else "warn" if unknown else "good",
        sections=[
            Section("recomputed", tables=[Table("recomputed", "Parts", columns, rows, restack=True, plain=True)])
        ],
    )
