"""The `embrepro` program: one command for each stage, and those that look at what the stages left."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from embrepro import containers
from embrepro.config.schema import Config, compose, dump, load
from embrepro.config.schema import check as check_config
from embrepro.errors import KitError
from embrepro.layout import Layout
from embrepro.progress import console

INTERRUPTED = 130


class Program(TyperGroup):
    """All commands; Ctrl-C ends any of them with a line and exit code 130, for nothing is lost by it."""

    def invoke(self, context: typer.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            console.say_error("embrepro: interrupted; what was finished is kept, and the next run goes on from there")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Program, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None
)
STAGES, TOOLS = "Stages (dvc repro runs them in this order)", "Tools"


class Stage(TyperCommand):
    """A command that runs in its image where the configuration says so: runtime=docker."""

    def invoke(self, context: typer.Context) -> object:
        """Run here, or hand over to the image."""
        config = load()
        if not containers.wanted(config):
            return super().invoke(context)
        raise typer.Exit(containers.run_in_container(config, sys.argv[1:]))


_stage = functools.partial(app.command, rich_help_panel=STAGES, cls=Stage)
ModelKey = Annotated[str, typer.Argument(help="Key of a model in params.yaml, such as minilm.")]


def main() -> None:
    """Run the program; an error of the kit ends it with its message and exit code 1, without a traceback."""
    console.silence_libraries()
    try:
        app(prog_name="embrepro")
    except KitError as error:
        console.say_error(f"embrepro: {error}")
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise
        console.say_error(
            f"embrepro: {error.filename}: {error.strerror}. Check that it exists, is writable, and that the disk is not full."
        )
        sys.exit(1)


@app.callback(invoke_without_command=True)
def program(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Every number about a text-embedding model, reproducible."""
    if show_version:
        typer.echo(f"embrepro {version('embrepro')}")
        raise typer.Exit


@_stage()
def download() -> None:
    """Fetch, check and freeze models and tasks. The only stage that uses a network."""
    from embrepro.pipeline import download as stage

    stage.run(load(), Layout())


@_stage()
def encode(model: ModelKey) -> None:
    """Embed every task's distinct texts with a model."""
    config = _offline()
    from embrepro.pipeline import encode as stage

    stage.run(config, Layout(), model)


@_stage()
def evaluate(model: ModelKey) -> None:
    """Score a model by mteb's own task code over its stored embeddings."""
    config = _offline()
    from embrepro.pipeline import evaluate as stage

    stage.run(config, Layout(), model)


@_stage()
def benchmark(model: ModelKey) -> None:
    """Measure a model's speed, memory and size in turn with the baseline's."""
    config = _offline()
    from embrepro.benchmarking import stage

    stage.run(config, Layout(), model)


@_stage()
def aggregate() -> None:
    """Compare the models and write the metrics."""
    config = _offline()
    from embrepro.pipeline import aggregate as stage

    stage.run(config, Layout())


@_stage()
def report() -> None:
    """Write report.md and report.html."""
    config = _offline()
    from embrepro.pipeline import report as stage

    stage.run(config, Layout())


@_stage()
def check() -> None:
    """Fail where a requested task has no score, naming each with its reason."""
    config = _offline()
    from embrepro.pipeline import report as stage

    stage.check(config, Layout())


@app.command(rich_help_panel=TOOLS)
def mirror(
    folder: Annotated[Path, typer.Argument(help="Folder to fill; made if it does not exist.")],
) -> None:
    """Copy what a configuration needs into a mirror folder, for a machine without network."""
    from embrepro.pipeline import mirror as stage

    stage.fill(load(), folder)


@app.command(rich_help_panel=TOOLS)
def claims(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Claims files; those of the configuration by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Hold claims against the last run: claimed, measured, published, verdict."""
    config = _offline()
    from embrepro.pipeline import judgement
    from embrepro.pipeline import report as stage
    from embrepro.report import terminal

    terminal.print_verdicts(judgement.verdicts(*stage.read(Layout()), files or config.claim_files), as_json=as_json)


@app.command(rich_help_panel=TOOLS)
def doctor(
    folder: Annotated[Path, typer.Argument(help="A folder of results of mteb 1.x or 2.x, or of the kit.")],
) -> None:
    """Examine results for lost and impossible scores, and name the likely cause."""
    console.go_offline()
    from embrepro.doctor import examination
    from embrepro.report import terminal
    from embrepro.tasks import registry

    if terminal.print_findings(examination.examine(folder, lookup=registry.find)):
        raise typer.Exit(1)


@app.command(rich_help_panel=TOOLS)
def watch(
    once: Annotated[bool, typer.Option("--once", help="Print the state once and stop.")] = False,
) -> None:
    """Show what a running pipeline is doing: stage, task, done, rate, time left. Ctrl-C ends it."""
    from embrepro.progress import watch

    watch.watch(once=once)


@app.command(name="compose", rich_help_panel=TOOLS)
def compose_command(
    overrides: Annotated[list[str] | None, typer.Argument(help="Hydra overrides, such as model=qwen25.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Write params.yaml instead of printing.")] = False,
) -> None:
    """Show, or write to params.yaml, what conf/ composes to."""
    values = compose(overrides or [])
    check_config(values, "conf/")
    if write:
        Path("params.yaml").write_text(dump(values), encoding="utf-8")
    else:
        typer.echo(dump(values), nl=False)


@app.command(rich_help_panel=TOOLS)
def verify(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Files of expected scores; default: conf/expected/*.yaml.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="Write this Markdown page, and what was measured as JSON beside it.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="A line for each number that was not run, too.")] = False,
) -> None:
    """Hold the last run against published scores: exit 0, 1 where one is a FAIL, 2 where nothing could be judged."""
    with _exits_2():
        from embrepro.files import write_json, write_text
        from embrepro.regression import published
        from embrepro.report import grids, pages

        expectations = published.load(files or [])
        measured = published.last_run(Layout())
        judged = published.judge(expectations, measured)
        if write:
            write_text(write, grids.markdown(pages.reproduced(expectations, judged, measured)))
            write_json(write.with_suffix(".json"), measured.model_dump())
        grids.show(pages.verified(expectations, judged, measured, every=every))
    if any(each.verdict == "FAIL" for each in judged):
        raise typer.Exit(1)


@app.command(rich_help_panel=TOOLS)
def compare(
    old: Annotated[str, typer.Argument(help="A git revision, the name of a DVC experiment, or: workspace.")],
    new: Annotated[str, typer.Argument(help="What to compare with it; the same kinds.")] = "workspace",
    style: Annotated[Literal["table", "markdown", "html"], typer.Option("--format", help="How to print it.")] = "table",
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Every score at two revisions, how certain its change is, and what else changed between them."""
    with _exits_2():
        from embrepro.files import dump_json
        from embrepro.regression import diff, revisions
        from embrepro.report import grids, pages

        root = Layout().root
        comparison = diff.compare(revisions.load(root, old), revisions.load(root, new))
        page = pages.compared(comparison)
        if as_json:
            typer.echo(dump_json(comparison.model_dump()), nl=False)
        elif style == "table":
            grids.show(page)
        else:
            typer.echo(grids.markdown(page) if style == "markdown" else grids.html(page), nl=False)


@app.command(rich_help_panel=TOOLS)
def gate(
    against: Annotated[str, typer.Option(help="The git revision or DVC experiment to be held against.")],
    revision: Annotated[str, typer.Option(help="What is judged; default: the working tree.")] = "workspace",
    rules: Annotated[Path, typer.Option(help="The rules.")] = Path("conf/gate/default.yaml"),
    markdown: Annotated[Path | None, typer.Option(help="Write a summary for a pull request to this file.")] = None,
) -> None:
    """Fail a change that made a score really fall or lost one: exit 0, 1 where it fails, 2 where it cannot be judged."""
    with _exits_2():
        from embrepro.files import write_text
        from embrepro.regression import gate as decision
        from embrepro.regression import revisions
        from embrepro.report import grids, pages

        chosen, root = decision.rules(rules), Layout().root
        outcome = decision.judge(revisions.load(root, against), revisions.load(root, revision), chosen)
        page = pages.gated(outcome)
        if markdown:
            write_text(markdown, grids.markdown(page, marker=pages.GATE_MARKER))
        grids.show(page)
    if not outcome.passes:
        raise typer.Exit(1)


@app.command(rich_help_panel=TOOLS)
def history(
    until: Annotated[str, typer.Argument(help="The newest revision to look at.")] = "HEAD",
    last: Annotated[int, typer.Option(min=1, help="How many commits the table shows, newest last.")] = 6,
    html: Annotated[Path | None, typer.Option(help="Write a page with a chart for every task to this file.")] = None,
) -> None:
    """Every metric over the commits that changed reports/metrics.json."""
    with _exits_2():
        from embrepro.files import write_text
        from embrepro.regression import history as past
        from embrepro.report import grids, pages

        points = past.read(Layout().root, until)
        if html:
            write_text(html, grids.html(pages.trends(points, last, drawn=True)))
        grids.show(pages.trends(points, last))


@contextmanager
def _exits_2() -> Iterator[None]:
    """End with 2 where a command cannot judge, which must not read as its own "no" (1)."""
    console.go_offline()
    try:
        yield
    except KitError as error:
        console.say_error(f"embrepro: {error}")
    except OSError as error:
        if error.filename is None:
            raise
        console.say_error(f"embrepro: {error.filename}: {error.strerror}. Check that it exists and is writable.")
    else:
        return
    raise typer.Exit(2)


def _offline() -> Config:
    """The configuration, for a stage that must not touch the network."""
    console.go_offline()
    return load()


if __name__ == "__main__":
    main()
