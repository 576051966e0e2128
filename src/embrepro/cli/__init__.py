"""The `embrepro` program: one command for each stage, and those that look at what the stages left."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from embrepro.cli import configuration, models, own_repository, program, results, revisions, running, stages

PANELS = {
    "Stages (dvc repro runs them in this order)": (
        stages.download,
        stages.encode,
        stages.evaluate,
        stages.benchmark,
        stages.case,
        stages.aggregate,
        stages.report,
        stages.check,
    ),
    "Configuration": (configuration.compose, configuration.keep, configuration.pin, configuration.check_data),
    "Models": (models.models, models.choose, models.convert),
    "A run": (running.plan, running.mirror, running.watch),
    "Results": (results.claims, results.variants, results.verify, results.doctor),
    "Revisions": (
        revisions.compare,
        revisions.board,
        revisions.explain,
        revisions.confirm,
        revisions.gate,
        revisions.history,
    ),
    "A repository of your own": (own_repository.init, own_repository.upgrade),
}

app = typer.Typer(
    cls=program.Program,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _panel, _commands in PANELS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel, cls=program.Stage if _command.__module__ == stages.__name__ else None)(
            _command
        )


@app.callback(invoke_without_command=True)
def start(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Every number about a text-embedding model, reproducible."""
    if show_version:
        typer.echo(f"embrepro {version('embrepro')}")
        raise typer.Exit


def main() -> None:
    """Run the program."""
    program.run(app)
