"""Commands around a run: fill a mirror before it, watch it while it works."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embrepro.config.params import read_params


def mirror(
    folder: Annotated[Path, typer.Argument(help="Folder to fill; made if it does not exist.")],
) -> None:
    """Copy what a configuration needs into a mirror folder, for a machine without network."""
    from embrepro.pipeline import mirror as stage

    stage.fill(read_params(), folder)


def watch(
    once: Annotated[bool, typer.Option("--once", help="Print the state once and stop.")] = False,
) -> None:
    """Show what a running pipeline is doing: stage, task, done, rate, time left. Ctrl-C ends it."""
    from embrepro.progress import watch

    watch.watch(once=once)
