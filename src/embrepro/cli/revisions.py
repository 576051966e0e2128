"""Commands that set revisions side by side: compare, board, explain, confirm, gate, history."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embrepro import kit
from embrepro.cli.program import CANNOT_JUDGE, STYLE, ends_with_2, read_pinned, show
from embrepro.layout import Layout


def compare(
    sides: Annotated[
        list[str],
        typer.Argument(
            help="Git revisions, names of DVC experiments, folders or files of results, or: workspace, which is added to one."
        ),
    ],
    style: STYLE = "table",
    changed: Annotated[
        bool, typer.Option("--changed", help="Of two, show tasks whose score or status changed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Two states: every score, how certain its change is, and what else changed; more: all their models, ranked."""
    with ends_with_2():
        from embrepro.regression import board as boards
        from embrepro.regression import diff
        from embrepro.regression import sides as states
        from embrepro.regression.diff_page import comparison_page
        from embrepro.regression.revisions import WORKSPACE

        root = Layout().root
        if len(sides) > 2:
            board = boards.load(root, sides)
            show(boards.board_page(board), board.model_dump() if as_json else None, style)
            return
        old, new = [*sides, WORKSPACE][:2]
        comparison = diff.compare(states.load(root, old), states.load(root, new))
        if changed:
            comparison = comparison.model_copy(update={"rows": [row for row in comparison.rows if row.is_changed]})
        show(comparison_page(comparison), comparison.model_dump() if as_json else None, style)


def board(
    sides: Annotated[
        list[str] | None,
        typer.Argument(help="As of compare; where left out, the working tree, the last commit and every experiment."),
    ] = None,
    style: STYLE = "table",
    as_json: Annotated[bool, typer.Option("--json", help="Print the board as JSON.")] = False,
) -> None:
    """All models of many revisions, experiments and folders or files of results, by their mean, with intervals of their ranks."""
    with ends_with_2():
        from embrepro.regression import board as boards

        root = Layout().root
        found = boards.load(root, sides) if sides else boards.load_all(root)
        show(boards.board_page(found), found.model_dump() if as_json else None, style)


def explain(
    old: Annotated[
        str, typer.Argument(help="As of compare: a revision, an experiment, a folder or file of results, workspace.")
    ],
    new: Annotated[str, typer.Argument(help="What to hold against it; the same kinds.")] = "workspace",
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Key of the model on either side; given twice, one of the old and one of the new. Default: the candidate."
        ),
    ] = None,
    no_switching: Annotated[
        bool, typer.Option("--no-switching", help="Say what differs alone; load no model and score nothing.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            help="Write a page to this file that shows, too, the samples that moved most, with texts and rankings."
        ),
    ] = None,
    style: STYLE = "table",
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Why two runs of a model, or two models, score differently: what differs, what switching it moves, on which samples."""
    with ends_with_2():
        config = read_pinned() if html or not no_switching else None
        from embrepro.explaining import differences, moving, switching
        from embrepro.explaining.pages import explanation_page
        from embrepro.files import write_text
        from embrepro.regression import sides as states
        from embrepro.rendering import render_html

        layout, named = Layout(), model or []
        before, after = states.load(layout.root, old), states.load(layout.root, new)
        found = differences.compare(before, after, named)
        attribution: switching.Attribution | str = "Nothing was switched, as was asked."
        if config and not no_switching:
            attribution = switching.attribute(config, layout, found, before, after)
        content = {
            "differences": found.model_dump(),
            "attribution": attribution if isinstance(attribution, str) else attribution.model_dump(),
        }
        if html and config:
            moved = moving.find(config, layout, found, before, after, attribution)
            write_text(html, render_html.render(explanation_page(found, attribution, moved)))
        show(explanation_page(found, attribution), content if as_json else None, style)


def confirm() -> None:
    """Say whether the last run found the committed numbers to the byte: exit 0, 1 where one moved, 2 if it is another run."""
    with ends_with_2():
        from embrepro.regression import committed
        from embrepro.rendering import render_terminal

        found = committed.confirm(Layout().root)
        render_terminal.show(committed.confirmation_page(found))
    if found.verdict != "equal":
        raise typer.Exit(1 if found.verdict == "moved" else CANNOT_JUDGE)


def gate(
    against: Annotated[str, typer.Option(help="The git revision or DVC experiment to be held against.")],
    revision: Annotated[str, typer.Option(help="What is judged; default: the working tree.")] = "workspace",
    rules: Annotated[Path, typer.Option(help="The rules.")] = kit.CONF / "gate" / "default.yaml",
    markdown: Annotated[Path | None, typer.Option(help="Write a summary for a pull request to this file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with charts to this file.")] = None,
) -> None:
    """Fail a change that made a score really fall or lost one: exit 0, 1 where it fails, 2 where it cannot be judged."""
    with ends_with_2():
        from embrepro.files import write_text
        from embrepro.regression import gate as decision
        from embrepro.regression import sides
        from embrepro.rendering import render_html, render_markdown, render_terminal

        chosen, root = decision.rules(kit.find(rules, rules)), Layout().root
        outcome = decision.judge(sides.load(root, against), sides.load(root, revision), chosen)
        page = decision.gate_page(outcome)
        if markdown:
            write_text(markdown, render_markdown.render(page, marker=decision.MARKER))
        if html:
            write_text(html, render_html.render(page))
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
        from embrepro.rendering import render_html, render_terminal

        points = past.read(Layout().root, until)
        page = past.history_page(points, last)
        if html:
            write_text(html, render_html.render(page))
        render_terminal.show(page)
