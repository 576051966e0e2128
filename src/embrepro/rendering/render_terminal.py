"""A document as lines in a terminal, or in a log file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from embrepro.rendering.model import Code, Document, Section, Table, Value, Words, spans
from embrepro.rendering.text import visible

MOST_CARDS = 8
"""Rows up to which a folded table that does not fit into a terminal is shown all the same, row by row in several lines."""
WIDE = 200
"""Columns of a terminal that is none, such as a log file: there is no edge to wrap at."""

_STYLES = {"good": "green", "bad": "bold red", "even": "dim", "warn": "yellow", "missing": "yellow"}
_SHORT = 9
"""Characters up to which a text stays on one line."""
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
        elif _least_width(table) <= console.width:
            console.print(_rich_table(table))
        elif widths := _stacked_widths(table, console.width):
            console.print(_rich_table(table, widths))
        elif table.folded and console.is_terminal and len(table.rows) > MOST_CARDS:
            said = "too wide for this terminal; a file or a pipe gets them"
            console.print(escape(f"{table.caption}: {len(table.rows)} rows, {said}"), style="dim")
        elif table.restack:
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


def _cell(value: Value, between: str = " ") -> Text:
    style = _STYLES.get(value.tone, "")
    if not value.note:
        return escape(value.text, style)
    note = value.note if value.note.startswith("[") else f"({value.note})"
    return Text.assemble(escape(value.text, style), between, escape(note, "dim"))


def _rich_table(table: Table, widths: Sequence[int] | None = None) -> RichTable:
    """A table with a line for each row; with widths of its columns, with notes below what they are about."""
    found = RichTable(
        box=None,
        pad_edge=False,
        collapse_padding=widths is not None,
        header_style="bold",
        title=escape(table.caption),
        title_justify="left",
        show_footer=False,
    )
    between = "\n" if widths else " "
    for place, column in enumerate(table.columns):
        head = f"{column.title}{between}({column.note})" if column.note else column.title
        justify: Literal["left", "right"] = "right" if column.numeric else "left"
        found.add_column(escape(head), overflow="fold", justify=justify, width=widths[place] if widths else None)
    for row in (*table.rows, *table.footer):
        found.add_row(*(_cell(value, between) for value in row))
    return found


def _stacked_widths(table: Table, room: int) -> list[int]:
    """Widths of columns that have notes below and long words in lines; none where a line would break within a word.

    Numbers stay whole, and no text takes more than about three lines.
    """
    rows: Sequence[Sequence[Value]] = (*table.rows, *table.footer)
    least, most = [], []
    for index, column in enumerate(table.columns):
        cells = [row[index] for row in rows]
        words = [word for text in (column.title, f"({column.note})") for word in text.split()]
        numbers = [text for cell in cells for text in (cell.text, f"({cell.note})") if column.numeric]
        texts = [text for cell in cells for text in (cell.text, f"({cell.note})") if not column.numeric]
        words += [word for text in texts for word in text.split()]
        third = max([min(len(text), max(_SHORT, len(text) // 3 + 1)) for text in texts], default=0)
        least.append(max([*map(len, words), *map(len, numbers), third]))
        most.append(max([least[-1], *map(len, texts)]))
    spare = room - sum(least) - (len(least) - 1)
    if spare < 0:
        return []
    for index in sorted(range(len(least)), key=lambda one: most[one] - least[one]):
        more = min(spare, most[index] - least[index])
        least[index] += more
        spare -= more
    return least


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
