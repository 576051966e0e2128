"""Tables for a terminal: verdicts on claims and findings on results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from embrepro.claims.verdicts import Verdict
from embrepro.doctor.examination import Finding
from embrepro.files import dump_json

VERDICT_STYLES = {
    "reproduced": "green",
    "refuted": "bold red",
    "not measured": "yellow",
    "not defined": "dim",
}


def print_verdicts(verdicts: Sequence[Verdict], *, as_json: bool) -> None:
    """Claims with what was claimed, measured and published, the verdict and why."""
    console = Console(highlight=False)
    if as_json:
        console.file.write(dump_json([verdict.model_dump() for verdict in verdicts]))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("claim", "claimed", "measured here", "published", "verdict", "explanation"):
        table.add_column(title, overflow="fold")
    for verdict in verdicts:
        style = VERDICT_STYLES[verdict.verdict]
        shown = (verdict.says, verdict.claimed, verdict.measured, verdict.published)
        table.add_row(*map(escape, shown), f"[{style}]{verdict.verdict}[/]", escape(verdict.explanation))
    console.print(table)
    counts = Counter(verdict.verdict for verdict in verdicts)
    console.print(f"{len(verdicts)} claims: " + ", ".join(f"{counts[name]} {name}" for name in VERDICT_STYLES))


def print_findings(findings: Sequence[Finding]) -> int:
    """Findings, errors first; returns how many are errors."""
    console = Console(highlight=False)
    errors = [finding for finding in findings if finding.severity == "error"]
    for finding in [*errors, *(finding for finding in findings if finding.severity != "error")]:
        style = "bold red" if finding.severity == "error" else "yellow"
        console.print(f"[{style}]{finding.severity}[/]  {escape(finding.file)}: {escape(finding.what)}")
        console.print(f"       likely cause: {escape(finding.cause)}", soft_wrap=True)
        console.print(f"       what to do:   {escape(finding.advice)}", soft_wrap=True)
    counts = Counter(finding.severity for finding in findings)
    said = [f"{counts[kind]} {kind}{'' if counts[kind] == 1 else 's'}" for kind in ("error", "warning", "note")]
    console.print(", ".join(said) if findings else "nothing wrong found")
    return len(errors)
