"""Claims beside what was measured, as tables for the report and as a document of its own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from embrepro.rendering.formats import DASH
from embrepro.rendering.model import Column, Document, Section, Table, Tone, Value
from embrepro.results.summary import ClaimRow, ClaimVerdict

_TONES: dict[ClaimVerdict, Tone] = {
    "reproduced": "good",
    "refuted": "bad",
    "not measured": "missing",
    "not defined": "even",
}
_GROUPS = (
    ("measured", "refuted", "Refuted by this run"),
    ("measured", "reproduced", "Reproduced by this run"),
    ("recomputed", "refuted", "Refuted by recomputing it from the numbers that the document or its sources give"),
    ("recomputed", "reproduced", "Reproduced by recomputing it from the numbers that the document or its sources give"),
    ("", "not measured", "Not measured by this run"),
    ("", "not defined", "Not defined: names nothing that can be measured"),
)


def claims_section(rows: Sequence[ClaimRow]) -> Section:
    """Claims by verdict, those that the run itself decides first; all others are folded."""
    counts = Counter(row.verdict for row in rows)
    told = ", ".join(f"{counts[name]} {name}" for name in _TONES if counts[name])
    tables = [
        _table(f"claims-{number}", f"{title} ({len(found)})", found, folded=basis != "measured")
        for number, (basis, verdict, title) in enumerate(_GROUPS)
        if (found := [row for row in rows if (row.basis, row.verdict) == (basis, verdict)])
    ]
    return Section("claims", "Claims", [f"Of {len(rows)} claims: {told}."], tables)


def claims_page(rows: Sequence[ClaimRow]) -> Document:
    """Claims and their verdicts on a page of their own."""
    section = claims_section(rows)
    return Document("Claims", [Section("claims", tables=section.tables)], verdict=str(section.lead[0]))


def _with_minus(text: str) -> str:
    """A minus before a number as wide as a plus, as in every other table."""
    return re.sub(r"(?<![\w.-])-(?=\d)", "\u2212", text)


def _table(name: str, caption: str, claims: Sequence[ClaimRow], *, folded: bool) -> Table:
    columns = [
        Column("Claim", wide=True),
        Column("Claimed"),
        Column("Measured here"),
        Column("Published"),
        Column("Verdict"),
        Column("Explanation", wide=True),
    ]
    rows = [
        [
            Value(_with_minus(claim.says), note=claim.id),
            Value(_with_minus(claim.claimed) or DASH),
            Value(_with_minus(claim.measured) or DASH),
            Value(_with_minus(claim.published) or DASH),
            Value(claim.verdict, tone=_TONES.get(claim.verdict, "even")),
            Value(_with_minus(claim.explanation)),
        ]
        for claim in claims
    ]
    return Table(name, caption, columns, rows, restack=True, folded=folded)
