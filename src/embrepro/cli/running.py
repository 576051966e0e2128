"""Commands around a run: what it will take, fill a mirror before it, watch it while it works."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embrepro.cli.program import read_pinned
from embrepro.config.params import read_params
from embrepro.layout import Layout


def mirror(
    folder: Annotated[Path, typer.Argument(help="Folder to fill; made if it does not exist.")],
) -> None:
    """Copy what a configuration needs into a mirror folder, for a machine without network."""
    from embrepro.pipeline import mirror as stage

    stage.fill(read_params(), folder)


def plan(
    no_sample: Annotated[
        bool, typer.Option("--no-sample", help="Count texts alone: load no model and time nothing.")
    ] = False,
) -> None:
    """Say what the next run will encode and what is kept, with tokens, time, disk and memory, and do nothing of it."""
    config = read_pinned()
    from embrepro.forecast.pages import forecast_page
    from embrepro.pipeline import forecast
    from embrepro.rendering import render_terminal

    render_terminal.show(forecast_page(forecast.forecast(config, Layout(), measure=not no_sample)))


def watch(
    once: Annotated[bool, typer.Option("--once", help="Print the state once and stop.")] = False,
) -> None:
    """Show what a running pipeline is doing: stage, task, done, rate, time left. Ctrl-C ends it."""
    from embrepro.progress import watch

    watch.watch(once=once)
