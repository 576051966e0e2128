"""A document as GitHub-flavoured Markdown, for pull requests and files."""

from __future__ import annotations

import re
from collections.abc import Sequence

from embrepro.rendering.model import Alert, Code, Document, Link, Section, Table, Tile, Value, Words, spans
from embrepro.rendering.text import visible

# What GitHub takes for markup, a mention, a reference to an issue, or an address to link, also without any markup. An
# underscore between letters is no emphasis, and stays readable.
_SPECIAL = re.compile(
    r"[&<>|\\$`*\[\]~#]|@(?=\w)|:(?=//)|\bwww(?=\.)|\bGH-(?=\d)|(?<![^\W_])_|_(?![^\W_])", re.IGNORECASE
)
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_BREAK = "&#8203;"
"""A space without width: it parts what GitHub links even where it is not markup."""
# A number in brackets is no link unless something follows that makes it one.
_INTERVAL = re.compile(r"&#91;([-+\u2212\d.,]+(?: [-+\u2212\d.,]+)*)&#93;(?!\(|&#91;)")
_SAFE_ADDRESS = re.compile(r"https://[\w./~%+-]+")


def render(document: Document, marker: str = "") -> str:
    """The document as Markdown; the same document gives the same text.

    Args:
        document: what to show.
        marker: an HTML comment for the first line, by which a comment on a pull request is found again.
    """
    blocks = [f"{'##' if marker else '#'} {_block(document.title)}"]
    blocks += [_block(document.subtitle), _bold(document.verdict)]
    blocks += [_alert(document.alert) if document.alert else "", _tiles(document.tiles)]
    for section in document.sections:
        blocks += _section(section)
    text = "\n\n".join(block for block in blocks if block) + "\n"
    return f"<!-- {marker} -->\n{text}" if marker else text


def escape(text: str) -> str:
    """Text that GitHub shows as it is, wherever it stands: in a paragraph, a cell, or inside of an HTML element.

    All is done with character references, which are never taken for structure (CommonMark 0.31.2, section 2.5).
    """
    return _INTERVAL.sub(r"[\1]", _SPECIAL.sub(_inert, visible(text)))


def _inert(found: re.Match[str]) -> str:
    taken = found[0]
    if len(taken) > 1 or taken in "@:":
        return f"{taken}{_BREAK}"
    return _NAMED.get(taken, f"&#{ord(taken)};")


def _bold(text: str) -> str:
    shown = escape(text).strip()
    return f"**{shown}**" if shown else ""


def _block(words: Words) -> str:
    """Words that begin a line: no heading, list, rule, quotation or definition of a link."""
    text = "".join(_span(part) for part in spans(words)).strip()
    text = re.sub(r"^[-+=\[]", lambda found: f"&#{ord(found[0])};", text)
    return re.sub(r"^(\d+)([.)])", lambda found: f"{found[1]}&#{ord(found[2])};", text)


def _span(part: str | Code | Link) -> str:
    if isinstance(part, Code):
        return _code(part.text)
    if isinstance(part, Link):
        return f"<{part.url}>" if _SAFE_ADDRESS.fullmatch(part.url) else escape(part.url)
    return escape(part)


def _code(text: str) -> str:
    """Text as code, by an element where a backtick, a cell's border or a backslash would end it early."""
    text = visible(text).strip()
    return f"`{text}`" if text and not re.search(r"[`|\\]", text) else f"<code>{escape(text)}</code>"


def _alert(alert: Alert) -> str:
    lines = ["> [!WARNING]", f"> {_bold(alert.title)}", f"> {_block(alert.text)}", ">"]
    lines += [f"> - {_block(line.subject)}, {escape(line.of)}: {escape(line.reason)}" for line in alert.lines]
    return "\n".join(lines)


def _tiles(tiles: Sequence[Tile]) -> str:
    notes = [f" ({escape(tile.note)})" if tile.note else "" for tile in tiles]
    return "\n".join(
        f"- {_block(tile.label)}: {_bold(tile.value)}{note}" for tile, note in zip(tiles, notes, strict=True)
    )


def _section(section: Section) -> list[str]:
    blocks = [f"## {_block(section.title)}" if section.title else "", *map(_block, section.lead)]
    if section.absent:
        return [*blocks, _block(section.absent)]
    for table in section.tables:
        blocks += _table(table)
    return [*blocks, "\n".join(f"- {_block(note)}" for note in section.notes)]


def _table(table: Table) -> list[str]:
    heads = [escape(f"{column.title} ({column.note})" if column.note else column.title) for column in table.columns]
    rules = ["---:" if column.numeric else "---" for column in table.columns]
    lines = [_line(heads), _line(rules)]
    lines += [_line([_cell(value) for value in row]) for row in table.rows]
    lines += [_line([f"**{cell}**" if (cell := _cell(value)) else "" for value in row]) for row in table.footer]
    body = "\n".join(lines)
    if table.folded:
        return [f"<details><summary>{escape(table.caption)}</summary>", body, "</details>"]
    return [f"{_block(table.caption)}:", body]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: Value) -> str:
    text = _code(value.text) if value.code else escape(value.text).strip()
    note = escape(value.note).strip()
    if not note:
        return text
    return f"{text} {note}" if value.note.startswith("[") else f"{text} ({note})"
