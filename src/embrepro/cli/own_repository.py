"""Commands of a repository of one's own: make it, and see what a newer kit would write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embrepro.cli import program
from embrepro.errors import ConfigError
from embrepro.progress import console

if TYPE_CHECKING:
    from embrepro.own_repository.generated import KitOrigin

Workflow = Annotated[
    str | None,
    typer.Option(
        metavar="OWNER/NAME@COMMIT",
        help="Where on GitHub the kit's reusable workflow is; default: where the installed kit came from.",
    ),
]


def init(
    folder: Annotated[Path, typer.Argument(help="The top of a git repository, or an empty folder.")] = Path(),
    model: Annotated[str | None, typer.Option(help="The candidate; default: an example of your own, mine.")] = None,
    baseline: Annotated[str, typer.Option(help="The baseline, a model of the kit.")] = "minilm",
    tasks: Annotated[str | None, typer.Option(help="The task set; default: an example of your own, mine.")] = None,
    workflow: Workflow = None,
) -> None:
    """Make a repository of your own: stages that run the installed kit, and a configuration that holds only what is yours."""
    console.go_offline()
    from embrepro.own_repository import generated, starting

    choices = generated.InitChoices(
        model=model or generated.OWN, baseline=baseline, tasks=tasks or generated.OWN, origin=_origin(workflow)
    )
    written = starting.start(folder, choices)
    console.say(f"Written: {', '.join(written)}")
    if choices.origin is None:
        console.say(
            "No GitHub workflow: the installed kit came from no repository on GitHub. Name one with --workflow to "
            "`embrepro upgrade`."
        )
    console.say("Next, in that folder: git add . && git commit -m 'Evaluate with embrepro', then: dvc repro")


def upgrade(
    write: Annotated[bool, typer.Option("--write", help="Write the files that you left as they were written.")] = False,
    settled: Annotated[
        list[str] | None,
        typer.Option(help="With --write: a file that both changed, and that is as you want it now."),
    ] = None,
    workflow: Workflow = None,
) -> None:
    """Show what the installed kit would write otherwise today; ends with 1 where something is left to take over."""
    with program.ends_with_2():
        if settled and not write:
            raise ConfigError("--settled goes with --write.")
        from embrepro.own_repository import upgrading

        origin = _origin(workflow)
        found = upgrading.compare(Path(), origin)
        for change in found.changes:
            typer.echo(change.diff(), nl=False)
        done: list[str] = []
        if write:
            with program.writing():
                done = upgrading.apply(Path(), found, origin, settled or [])
        left = [each for each in found.changes if each.name not in (*done, *(settled or []))]
        for each in left:
            console.say(
                f"{each.name}: you left it as it was written; `embrepro upgrade --write` writes it anew"
                if each.standing == "offered"
                else f"{each.name}: you and the kit changed it; take over what you want of the above, then: "
                f"embrepro upgrade --write --settled {each.name}"
            )
        for name in done:
            console.say(f"{name}: written anew")
        if found.params_problem:
            console.say(f"{found.params_problem}\nCompose it again: embrepro compose --write")
        if not left and not found.params_problem:
            console.say(f"All files are as embrepro {found.new} writes them, but for your own changes.")
    if left or found.params_problem:
        raise typer.Exit(1)


def _origin(named: str | None) -> KitOrigin | None:
    from embrepro.own_repository import generated

    if named is None:
        return generated.origin_of_the_kit()
    if not (found := re.fullmatch(r"([\w.-]+/[\w.-]+)@([0-9a-f]{40})", named)):
        raise ConfigError(f"--workflow: expected OWNER/NAME@COMMIT, the commit with its 40 digits; got {named!r}.")
    return generated.KitOrigin(repository=found[1], commit=found[2])
