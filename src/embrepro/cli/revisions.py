"""Commands that set revisions side by side: compare, confirm, gate, history."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from embrepro.cli.program import CANNOT_JUDGE, ends_with_2
from embrepro.layout import Layout


def compare(
    old: Annotated[str, typer.Argument(help="A git revision, the name of a DVC experiment, or: workspace.")],
    new: Annotated[str, typer.Argument(help="What to compare with it; the same kinds.")] = "workspace",
    style: Annotated[Literal["table", "markdown", "html"], typer.Option("--format", help="How to print it.")] = "table",
    changed: Annotated[bool, typer.Option("--changed", help="Show tasks whose score or status changed alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Every score at two revisions, how certain its change is, and what else changed between them."""
    with ends_with_2():
        from embrepro.files import dump_json
        from embrepro.regression import diff, revisions
        from embrepro.regression.pages import comparison_page
        from embrepro.rendering import render_html, render_markdown, render_terminal

        root = Layout().root
        comparison = diff.compare(revisions.load(root, old), revisions.load(root, new))
        if changed:
            comparison = comparison.model_copy(update={"rows": [row for row in comparison.rows if row.is_changed]})
        page = comparison_page(comparison)
        if as_json:
            typer.echo(dump_json(comparison.model_dump()), nl=False)
        elif style == "table":
            render_terminal.show(page)
        else:
            typer.echo(render_markdown.render(page) if style == "markdown" else render_html.render(page), nl=False)


def confirm() -> None:
    """Say whether the last run found the committed numbers to the byte: exit 0, 1 where one moved, 2 if it is another run."""
    with ends_with_2():
        from embrepro.regression import committed
        from embrepro.regression.pages import confirmation_page
        from embrepro.rendering import render_terminal

        found = committed.confirm(Layout().root)
        render_terminal.show(confirmation_page(found))
    if found.verdict != "equal":
        raise typer.Exit(1 if found.verdict == "moved" else CANNOT_JUDGE)


def gate(
    against: Annotated[str, typer.Option(help="The git revision or DVC experiment to be held against.")],
    revision: Annotated[str, typer.Option(help="What is judged; default: the working tree.")] = "workspace",
    rules: Annotated[Path, typer.Option(help="The rules.")] = Path("conf/gate/default.yaml"),
    markdown: Annotated[Path | None, typer.Option(help="Write a summary for a pull request to this file.")] = None,
) -> None:
    """Fail a change that made a score really fall or lost one: exit 0, 1 where it fails, 2 where it cannot be judged."""
    with ends_with_2():
        from embrepro.files import write_text
        from embrepro.regression import gate as decision
        from embrepro.regression import revisions
        from embrepro.regression.pages import GATE_MARKER, gate_page
        from embrepro.rendering import render_markdown, render_terminal

        chosen, root = decision.rules(rules), Layout().root
        outcome = decision.judge(revisions.load(root, against), revisions.load(root, revision), chosen)
        page = gate_page(outcome)
        if markdown:
            write_text(markdown, render_markdown.render(page, marker=GATE_MARKER))
        render_terminal.show(page)
    if not outcome.passes:
        raise typer.Exit(1)


def history(
    until: Annotated[str, typer.Argument(help="The newest revision to look at.")] = "HEAD",
    last: Annotated[int, typer.Option(min=1, help="How many commits the table shows, newest last.")] = 6,
    html: Annotated[Path | None, typer.Option(help="Write a page with a chart for every task to this file.")] = None,
) -> None:
    """Every metric over the commits that changed reports/metrics.json."""
    with ends_with_2():
        from embrepro.files import write_text
        from embrepro.regression import history as past
        from embrepro.regression.pages import history_page
        from embrepro.rendering import render_html, render_terminal

        points = past.read(Layout().root, until)
        page = history_page(points, last)
        if html:
            write_text(html, render_html.render(page))
        render_terminal.show(page)
