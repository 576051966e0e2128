"""A document as lines in a terminal, or in a log file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from embrepro.rendering.model import Code, Document, Section, Table, Value, Words, spans
from embrepro.rendering.text import visible

WIDE = 200
"""Columns of a terminal that is none, such as a log file: there is no edge to wrap at."""

_STYLES = {"good": "green", "bad": "bold red", "even": "dim", "warn": "yellow", "missing": "yellow"}
_WIDE_COLUMN = 30
"""Columns that a long text takes at least, over several lines."""


def show(document: Document, *, unfold: bool = True, console: Console | None = None) -> None:
    """Print a document, what matters most last, where a reader's eye is when it ends.

    Args:
        document: what to print; its charts and origins are left out.
        unfold: print folded tables in full; else a line that says how many rows they have.
        console: where to print; standard output if none is given.
    """
    if console is None:
        console = Console(highlight=False, emoji=False)
        if not console.is_terminal:
            console.width = WIDE
    for section in document.sections:
        _show_section(section, unfold, console)
    if document.alert:
        console.print(escape(document.alert.title), style=_STYLES["warn"])
        for line in document.alert.lines:
            console.print(Text("  ") + escape(f"{line.subject}, {line.of}: {line.reason}"))
    if document.verdict:
        console.print(escape(document.verdict), style=_STYLES.get(document.tone, ""))


def escape(text: str, style: str = "") -> Text:
    """Text in which nothing is markup of rich or an escape sequence of the terminal."""
    return Text(visible(text), style=style)


def _show_section(section: Section, unfold: bool, console: Console) -> None:
    if section.title:
        console.print(escape(section.title), style="bold")
    for table in section.tables:
        if not table.rows:
            continue
        if table.folded and not unfold:
            console.print(escape(f"{table.caption}: {len(table.rows)} not shown"), style="dim")
        elif table.restack and _least_width(table) > console.width:
            _print_cards(table, console)
        else:
            console.print(_rich_table(table))
        console.print()
    for words in (*section.notes, *([section.absent] if section.absent else ()), *section.lead):
        console.print(_words(words))


def _words(words: Words) -> Text:
    texts = [
        part if isinstance(part, str) else part.text if isinstance(part, Code) else part.url for part in spans(words)
    ]
    return escape("".join(texts))


def _cell(value: Value) -> Text:
    style = _STYLES.get(value.tone, "")
    if not value.note:
        return escape(value.text, style)
    note = value.note if value.note.startswith("[") else f"({value.note})"
    return Text.assemble(escape(value.text, style), " ", escape(note, "dim"))


def _rich_table(table: Table) -> RichTable:
    found = RichTable(
        box=None,
        pad_edge=False,
        header_style="bold",
        title=escape(table.caption),
        title_justify="left",
        show_footer=False,
    )
    for column in table.columns:
        head = f"{column.title} ({column.note})" if column.note else column.title
        found.add_column(escape(head), overflow="fold", justify="right" if column.numeric else "left")
    for row in (*table.rows, *table.footer):
        found.add_row(*map(_cell, row))
    return found


def _print_cards(table: Table, console: Console) -> None:
    """One block of lines for each row, for a terminal that is too narrow for the table."""
    console.print(escape(table.caption), style="italic")
    for row in (*table.rows, *table.footer):
        console.print(_cell(row[0]), style="bold")
        lines = RichTable.grid(padding=(0, 2, 0, 0))
        lines.add_column(style="dim")
        lines.add_column(overflow="fold")
        for column, value in zip(table.columns[1:], row[1:], strict=True):
            if value.text:
                lines.add_row(Text("  ") + escape(column.title), _cell(value))
        console.print(lines)


def _least_width(table: Table) -> int:
    """Columns of a terminal that show a table with every short text on one line."""
    return sum(max(_cell_widths(table, index)) + 1 for index in range(len(table.columns)))


def _cell_widths(table: Table, index: int) -> Iterator[int]:
    column = table.columns[index]
    yield len(f"{column.title} ({column.note})" if column.note else column.title)
    rows: Sequence[Sequence[Value]] = (*table.rows, *table.footer)
    for row in rows:
        length = _cell(row[index]).cell_len
        yield min(length, _WIDE_COLUMN) if column.wide else length
