"""What all commands share: how the program starts and ends, where a stage runs, and exit codes."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from embrepro import containers, numerics
from embrepro.config.params import read_params
from embrepro.config.schema import Config
from embrepro.errors import KitError
from embrepro.progress import checkout_lock, console, processes
from embrepro.results.provenance import IMAGE_VARIABLE

if TYPE_CHECKING:
    from embrepro.rendering.model import Document

CANNOT_JUDGE = 2
STYLE = Annotated[Literal["table", "markdown", "html"], typer.Option("--format", help="How to print it.")]


class Program(TyperGroup):
    """All commands; Ctrl-C or another signal ends any of them with a line and 128 + its number: nothing is lost by it."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer's own copy of click has its Context
        """Run the command."""
        try:
            return super().invoke(ctx)
        except processes.Interrupted as stop:
            raise typer.Exit(_interrupted(stop)) from None


class Stage(TyperCommand):
    """A command that holds the checkout's lock, and runs in its image where the configuration says so: runtime=docker."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer's own copy of click has its Context
        """Run here, or hand over to the image."""
        config = read_params()
        if os.environ.get(IMAGE_VARIABLE):
            return super().invoke(ctx)
        with writing(shared="--shard" in " ".join(sys.argv)):
            if not containers.wanted(config):
                return super().invoke(ctx)
            raise typer.Exit(containers.run_in_container(config, sys.argv[1:]))


def run(app: typer.Typer) -> None:
    """Run the program; an error of the kit ends it with its message and exit code 1, without a traceback."""
    processes.collect_rarely()
    console.silence_libraries()
    try:
        processes.end_on_signals()
        app(prog_name="embrepro")
    except processes.Interrupted as stop:
        # It came before the command line was read, or after the command had ended.
        sys.exit(_interrupted(stop))
    except BaseException as error:
        # Compiled code that calls Python, as that of charts does, gives an interruption back as an error of its own.
        received, failed = processes.received(), not isinstance(error, SystemExit) or error.code == 1
        if received and failed:
            sys.exit(_interrupted(received))
        if not isinstance(error, KitError | OSError):
            raise
        console.say_error(f"embrepro: {message(error)}")
        sys.exit(1)


def _interrupted(stop: processes.Interrupted) -> int:
    """Say so; the exit code."""
    console.say_error("embrepro: interrupted; what was finished is kept, and the next run goes on from there")
    return 128 + stop.number


def writing(*, shared: bool = False) -> AbstractContextManager[None]:
    """The checkout's lock, for a command that writes to it; shared by parts of a stage, which work side by side."""
    return checkout_lock.holding(["embrepro", *sys.argv[1:]], shared=shared)


def read_offline() -> Config:
    """The configuration, for a command that must not touch the network."""
    console.go_offline()
    return read_params()


def read_pinned() -> Config:
    """As `read_offline`, with the numerics of the configuration in force; must come before numeric libraries."""
    config = read_offline()
    numerics.pin(config.device.numerics)
    return config


@contextmanager
def ends_with_2() -> Iterator[None]:
    """End with 2 where a command cannot judge, which must not read as its own "no" (1)."""
    console.go_offline()
    try:
        yield
    except (KitError, OSError) as error:
        console.say_error(f"embrepro: {message(error)}")
    else:
        return
    raise typer.Exit(CANNOT_JUDGE)


def message(error: KitError | OSError) -> str:
    """What an error says to the user; raises it again where it is one that names no file, and so a defect."""
    if isinstance(error, KitError):
        return str(error)
    # A semaphore that did not fit whole into shared memory fails with errno 0.
    if error.errno in (0, errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        place = error.filename or "a temporary folder or shared memory (/dev/shm)"
        return f"No room to write in {place}: {error.strerror}. Free some, and run again; what was finished is kept."
    if error.filename is None:
        raise error
    return f"{error.filename}: {error.strerror}. Check that it exists, is writable, and that the disk is not full."


def show(page: Document, content: dict[str, Any] | None, style: str) -> None:
    """Print a page in a style, or what it says as JSON where that is given."""
    from embrepro.files import dump_json
    from embrepro.rendering import render_html, render_markdown, render_terminal

    if content is not None:
        typer.echo(dump_json(content), nl=False)
    elif style == "table":
        render_terminal.show(page)
    else:
        typer.echo(render_markdown.render(page) if style == "markdown" else render_html.render(page), nl=False)
