"""Commands about the models of conf/model: which there are, and which one to take."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embrepro.layout import Layout
from embrepro.progress import console

if TYPE_CHECKING:
    from embrepro.catalogue.choosing import Question

CANNOT_CHOOSE = 2


def models(
    where: Annotated[
        list[str] | None,
        typer.Option("--where", help="Only models that meet this, such as 'dimensions<=384' or family=sparse."),
    ] = None,
    sort: Annotated[
        str | None, typer.Option(help="Order: a property, a published figure, or measured.NAME of the last run.")
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Turn the order around.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page that sorts and filters to this file.")] = None,
    write: Annotated[Path | None, typer.Option(help="Write what is published as this Markdown page.")] = None,
) -> None:
    """The models of conf/model, with what is published of them and what the last run measured."""
    console.go_offline()
    from embrepro.catalogue import listing, pages
    from embrepro.files import dump_json, write_text
    from embrepro.rendering import render_html, render_markdown, render_terminal

    found = listing.keep(listing.catalogue(reports=Layout().reports), where or [])
    if sort:
        found = listing.order(found, sort, reverse=reverse)
    if html:
        write_text(html, render_html.render(pages.models_page(found, by_family=sort is None)))
    if write:
        published = [listing.CatalogueEntry(entry.file) for entry in found]
        write_text(write, render_markdown.render(pages.models_page(published)))
    if as_json:
        typer.echo(dump_json([entry.as_dict() for entry in found]), nl=False)
    elif not html and not write:
        render_terminal.show(pages.models_page(found, by_family=sort is None, short=True))


def choose(
    answers: Annotated[list[str] | None, typer.Argument(help="An answer to each question in turn.")] = None,
    tree: Annotated[str, typer.Option(help="A decision tree of conf/documents/choice.")] = "overview",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; with it, nothing is asked.")] = False,
) -> None:
    """Walk a document's decision tree to a model, and say why; on a terminal, what is not answered yet is asked."""
    console.go_offline()
    from embrepro.catalogue import choosing, listing, pages
    from embrepro.files import dump_json
    from embrepro.rendering import render_terminal

    chosen, words = choosing.read_tree(tree), list(answers or [])
    walk = choosing.walk(chosen, words)
    while walk.open and sys.stdin.isatty() and not as_json:
        words.append(_ask(walk.open))
        walk = choosing.walk(chosen, words)
    if walk.open:
        known = "\n".join(f"  {word}: {answer.says}" for word, answer in walk.open.answers.items())
        console.say_error(
            f"{walk.open.asks} Answer with one of:\n{known}\nSo: embrepro choose {' '.join([*words, 'ANSWER'])}"
        )
        raise typer.Exit(CANNOT_CHOOSE)
    entries = listing.catalogue(reports=Layout().reports)
    if as_json:
        by_key = {entry.file.key: entry for entry in entries}
        found = {
            "tree": tree,
            "answers": [{"asks": question.asks, "says": answer.says} for question, answer in walk.steps],
            "because": walk.last.because,
            "models": [by_key[key].as_dict() for key in walk.last.models],
        }
        typer.echo(dump_json(found), nl=False)
    else:
        render_terminal.show(pages.choice_page(chosen, walk, entries))


def convert(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model of conf/model.")],
) -> None:
    """Convert a model that is published as a pickle alone to safetensors, in a container, and pin what comes out."""
    from embrepro.config.params import read_params
    from embrepro.pipeline import convert as conversion

    conversion.convert(model, read_params())


def _ask(question: Question) -> str:
    """Ask on the terminal until one of the answers comes: its word or its number."""
    words = list(question.answers)
    typer.echo(question.asks)
    for number, (word, answer) in enumerate(question.answers.items(), start=1):
        typer.echo(f"  {number} {word}: {answer.says}")
    while True:
        given = str(typer.prompt("Answer")).strip()
        if given in words:
            return given
        if given.isdigit() and 1 <= int(given) <= len(words):
            return words[int(given) - 1]
        typer.echo(f"One of {', '.join(words)}, or its number.")
