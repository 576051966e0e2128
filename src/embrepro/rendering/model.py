"""What a page says, apart from how it looks: the one document that becomes HTML, Markdown or lines in a terminal.

Texts are plain: each renderer escapes all of them, so that nothing in a name or a message can become markup. What is
meant as code or as a link is said with `Code` and `Link`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Tone = Literal["", "good", "bad", "even", "warn", "missing"]


@dataclass(frozen=True)
class Code:
    """Something that can be typed or searched for, inside a sentence."""

    text: str


@dataclass(frozen=True)
class Link:
    """An address inside a sentence; it can be followed where it is https and has no odd characters."""

    url: str


Words = str | Sequence[str | Code | Link]
"""A sentence: plain text, or plain text with code and links in it."""


def spans(words: Words) -> Sequence[str | Code | Link]:
    """The parts of a sentence."""
    return [words] if isinstance(words, str) else words


@dataclass(frozen=True)
class Fold:
    """What a cell opens to: lines under a heading, such as a ranking. A page shows it on demand, other renderers leave it out."""

    title: str
    lines: Sequence[Value]


@dataclass(frozen=True)
class Value:
    """What one cell of a table says.

    `sort` is what the row is sorted by, `origin` the identifier of an `Origin` that the number opens, `folds` what the cell
    opens to.
    """

    text: str
    note: str = ""
    sort: float | str | None = None
    tone: Tone = ""
    origin: str | None = None
    code: bool = False
    folds: Sequence[Fold] = ()


@dataclass(frozen=True)
class Column:
    """The head of a column; `note` is a second, smaller line, `aside` puts it last in a card on a phone."""

    title: str
    note: str = ""
    numeric: bool = False
    wide: bool = False
    aside: bool = False


def columns_of(titles: Iterable[str], numeric: Iterable[str] = (), wide: Iterable[str] = ()) -> list[Column]:
    """Columns of the given titles; some hold numbers, some may take several lines."""
    return [Column(title, numeric=title in numeric, wide=title in wide) for title in titles]


@dataclass(frozen=True)
class Table:
    """Rows under named columns; the first column names the row.

    `restack`: where there is no room, such as on a phone, each row becomes a card. `folded`: hidden until asked for.
    `plain`: the order of the rows is their meaning, so they neither sort nor filter.
    """

    id: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Value]]
    footer: Sequence[Sequence[Value]] = ()
    restack: bool = False
    folded: bool = False
    plain: bool = False

    @property
    def sorts(self) -> bool:
        """Whether another order of the rows would mean something."""
        return len(self.rows) > 1 and not self.plain

    @property
    def filters(self) -> bool:
        """Whether the table is long enough to search in."""
        return len(self.rows) > 4 and not self.plain


def filled(tables: Iterable[Table]) -> list[Table]:
    """The tables that have rows."""
    return [table for table in tables if table.rows]


@dataclass(frozen=True)
class Figure:
    """A chart with what it shows in words.

    `svg`, and `narrow` for a phone where the other would be too small, draw when called. They are the only markup in a
    document: SVG as `rendering.drawing` makes it. The legend pairs a key of the style sheet with its name.
    """

    id: str
    caption: str
    words: str
    svg: Callable[[], str]
    narrow: Callable[[], str] | None = None
    legend: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Tile:
    """One figure of the first screen; `role` marks the model that it belongs to."""

    label: str
    value: str
    note: str = ""
    tone: Tone = ""
    origin: str | None = None
    role: str = ""


@dataclass(frozen=True)
class AlertLine:
    """One thing that an alert is about: what, of which model, and why."""

    subject: str
    of: str
    reason: str


@dataclass(frozen=True)
class Alert:
    """What a reader must know before any number, such as which requested tasks have no score."""

    title: str
    text: str
    lines: Sequence[AlertLine]


@dataclass(frozen=True)
class Fact:
    """One line of an origin; `code` marks what can be copied to a terminal or a search."""

    label: str
    text: str
    code: bool = False


@dataclass(frozen=True)
class Origin:
    """Everything that a reader needs to recompute one number."""

    id: str
    title: str
    number: str
    facts: Sequence[Fact]


@dataclass(frozen=True)
class Section:
    """A part of a document; where its data is absent, `absent` says why in one line.

    Figures come in groups that stand side by side; `short` is the name in the navigation. A section without a title
    has no heading. `notes` are a list below the tables.
    """

    id: str
    title: str = ""
    lead: Sequence[Words] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Sequence[Figure]] = ()
    notes: Sequence[Words] = ()
    short: str = ""
    absent: str = ""


@dataclass(frozen=True)
class Document:
    """A whole page.

    `verdict` is the one sentence to read, in the colour of `tone`. `data` is what a script or a later tool may read
    from the HTML; only a document with data has the script that sorts and filters.
    """

    title: str
    sections: Sequence[Section]
    subtitle: str = ""
    stamp: str = ""
    verdict: str = ""
    tone: Tone = ""
    alert: Alert | None = None
    tiles: Sequence[Tile] = ()
    origins: Sequence[Origin] = ()
    data: Mapping[str, Any] | None = field(default=None, repr=False)
