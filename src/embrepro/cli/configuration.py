"""Commands of what goes in: what `conf/` composes to, keeping an experiment's configuration, pins, one's own data."""

from __future__ import annotations

from typing import Annotated

import typer

from embrepro.cli import program
from embrepro.config.params import dump_params, write_params
from embrepro.config.schema import parse_config
from embrepro.errors import ConfigError
from embrepro.layout import Layout
from embrepro.progress import console


def compose(
    overrides: Annotated[list[str] | None, typer.Argument(help="Hydra overrides, such as model=qwen25.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Write params.yaml instead of printing.")] = False,
) -> None:
    """Show, or write to params.yaml, what conf/ composes to; refuse what download would refuse."""
    console.go_offline()
    # Imported here, since Hydra takes half a second that no stage needs.
    from embrepro.config.compose import compose_values

    values = compose_values(overrides or [])
    config = parse_config(values, "conf/")
    _ = config.claim_files, config.rules_file
    from embrepro.tasks import requested

    requested.resolve(config.tasks)
    if write:
        with program.writing():
            write_params(values)
    else:
        typer.echo(dump_params(values), nl=False)


def keep(
    experiment: Annotated[
        str | None, typer.Argument(help="Name of a DVC experiment to apply first; default: params.yaml as it is.")
    ] = None,
) -> None:
    """Make an experiment's configuration the default: apply it, and write conf/ so that it composes to params.yaml."""
    from embrepro.config import keeping

    with program.writing():
        changed = keeping.keep(experiment)
    if not changed:
        console.say("conf/ composes to params.yaml already.")
        return
    console.say(f"conf/ now composes to params.yaml. Commit: {' '.join(map(str, changed))}")


def pin(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Frozen tasks, and models of conf/model; default: every task under data/tasks."),
    ] = None,
) -> None:
    """Pin data by the rows that were frozen, and a model by the commit and files that the hub names now."""
    from embrepro.pipeline import pin as pinning

    with program.writing():
        written = pinning.pin(names or [], Layout())
    if written:
        console.say(f"Look at what was pinned, then commit: {' '.join(map(str, written))}")


def check_data(
    names: Annotated[list[str] | None, typer.Argument(help="Folders of own-data/; default: all of them.")] = None,
) -> None:
    """Look through files of one's own: malformed rows, duplicates, leaks between splits, empty texts, lonely labels."""
    console.go_offline()
    from embrepro.doctor import data_check
    from embrepro.doctor.pages import concerns_page
    from embrepro.own_data import definition
    from embrepro.rendering import render_terminal

    chosen = names or definition.names()
    if not chosen:
        raise ConfigError(f"There is no task under {definition.FOLDER}; {definition.PAGE} shows how to make one.")
    found = [concern for name in chosen for concern in data_check.check(name)]
    render_terminal.show(concerns_page(chosen, found))
    if any(concern.severity == "error" for concern in found):
        raise typer.Exit(1)
