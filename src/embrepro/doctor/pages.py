"""What the doctor found in results, and in one's own files, as a document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from embrepro.doctor.data_check import Concern
from embrepro.doctor.examination import Finding
from embrepro.rendering.model import Column, Document, Section, Table, Tone, Value

_TONES: dict[str, Tone] = {"error": "bad", "warning": "warn", "note": "even"}


def findings_page(findings: Sequence[Finding]) -> Document:
    """Every finding with its likely cause and what to do, in the order given."""
    counts: Counter[str] = Counter(finding.severity for finding in findings)
    named = [
        f"{counts[kind]} {kind}{'' if counts[kind] == 1 else 's'}" for kind in _TONES if counts[kind] or kind != "note"
    ]
    columns = [Column("file"), Column("finding"), Column("what", wide=True), Column("likely cause", wide=True)]
    rows = [
        [
            Value(finding.file),
            Value(finding.severity, tone=_TONES[finding.severity]),
            Value(finding.what),
            Value(finding.cause),
            Value(finding.advice),
        ]
        for finding in findings
    ]
    table = Table("findings", "Findings", [*columns, Column("what to do", wide=True)], rows, restack=True)
    return Document(
        title="Examined results",
        verdict=", ".join(named) if findings else "nothing wrong found",
        tone="bad" if counts["error"] else "warn" if counts["warning"] else "good",
        sections=[Section("findings", tables=[table] if rows else [])],
    )


def concerns_page(names: Sequence[str], concerns: Sequence[Concern]) -> Document:
    """Every concern with where it stands and what to do; errors first."""
    ordered = sorted(concerns, key=lambda concern: concern.severity)
    errors = sum(concern.severity == "error" for concern in concerns)
    rows = [
        [
            Value(concern.task),
            Value(concern.severity, tone="bad" if concern.severity == "error" else "warn"),
            Value(concern.where),
            Value(concern.what),
            Value(concern.advice),
        ]
        for concern in ordered
    ]
    columns = [Column("task"), Column("finding"), Column("where", wide=True), Column("what", wide=True)]
    table = Table("concerns", "Findings", [*columns, Column("what to do", wide=True)], rows, restack=True)
    looked = f"{len(names)} task{'' if len(names) == 1 else 's'} ({', '.join(names)})"
    found = f"{errors} errors, {len(concerns) - errors} warnings" if concerns else "nothing wrong found"
    return Document(
        title="Examined data",
        verdict=f"{looked}: {found}",
        tone="bad" if errors else "warn" if concerns else "good",
        sections=[Section("concerns", tables=[table] if rows else [])],
    )
