"""What the doctor found, as a document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from embrepro.doctor.examination import Finding
from embrepro.rendering.model import Column, Document, Section, Table, Tone, Value

_TONES: dict[str, Tone] = {"error": "bad", "warning": "warn", "note": "even"}


def findings_page(findings: Sequence[Finding]) -> Document:
    """Every finding with its likely cause and what to do; errors first, then warnings, then notes."""
    counts: Counter[str] = Counter(finding.severity for finding in findings)
    named = [
        f"{counts[kind]} {kind}{'' if counts[kind] == 1 else 's'}" for kind in _TONES if counts[kind] or kind != "note"
    ]
    ordered = sorted(findings, key=lambda finding: list(_TONES).index(finding.severity))
    columns = [Column("file"), Column("finding"), Column("what", wide=True), Column("likely cause", wide=True)]
    rows = [
        [
            Value(finding.file),
            Value(finding.severity, tone=_TONES[finding.severity]),
            Value(finding.what),
            Value(finding.cause),
            Value(finding.advice),
        ]
        for finding in ordered
    ]
    table = Table("findings", "Findings", [*columns, Column("what to do", wide=True)], rows, restack=True)
    return Document(
        title="Examined results",
        verdict=", ".join(named) if findings else "nothing wrong found",
        tone="bad" if counts["error"] else "warn" if counts["warning"] else "good",
        sections=[Section("findings", tables=[table] if rows else [])],
    )
