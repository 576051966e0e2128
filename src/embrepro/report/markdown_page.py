"""The report as Markdown, for pull requests and terminals."""

from __future__ import annotations

import re

from embrepro.benchmarking.speed import SpeedReport
from embrepro.report.cells import Table, Value
from embrepro.report.document import Document, Section, build
from embrepro.results.provenance import Provenance
from embrepro.results.summary import Summary


def render(summary: Summary, provenance: Provenance, speed: SpeedReport | None) -> str:
    """The whole report as GitHub-flavoured Markdown; the same inputs give the same text."""
    document = build(summary, provenance, speed)
    blocks = [f"# {_text(document.title)}", _text(document.subtitle), f"**{_text(document.verdict)}**"]
    blocks += [_banner(document), _tiles(document)]
    for section in document.sections:
        blocks += _section(section)
    return "\n\n".join(block for block in blocks if block) + "\n"


def _banner(document: Document) -> str:
    if not document.missing:
        return ""
    tasks = len({line.task for line in document.missing})
    lines = [
        "> [!WARNING]",
        f"> **{tasks} of {document.requested} requested tasks have no score.**",
        "> Nothing below is over all of them.",
        ">",
    ]
    lines += [f"> - {_text(line.task)}, {_text(line.model)}: {_text(line.reason)}" for line in document.missing]
    return "\n".join(lines)


def _tiles(document: Document) -> str:
    lines = []
    for tile in document.tiles:
        note = f" ({_text(tile.note)})" if tile.note else ""
        lines.append(f"- {_text(tile.label)}: **{_text(tile.value)}**{note}")
    return "\n".join(lines)


def _section(section: Section) -> list[str]:
    blocks = [f"## {_text(section.title)}", *map(_text, section.lead)]
    if section.absent:
        return [*blocks, section.absent]
    for table in section.tables:
        blocks += _table(table)
    return blocks


def _table(table: Table) -> list[str]:
    heads = [_text(f"{column.title} ({column.note})" if column.note else column.title) for column in table.columns]
    rules = ["---:" if column.numeric else "---" for column in table.columns]
    lines = [_line(heads), _line(rules)]
    lines += [_line([_cell(value) for value in row]) for row in table.rows]
    lines += [_line([f"**{cell}**" if (cell := _cell(value)) else "" for value in row]) for row in table.footer]
    body = "\n".join(lines)
    if table.collapsed:
        return [f"<details><summary>{_text(table.caption)}</summary>", body, "</details>"]
    return [f"{_text(table.caption)}:", body]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: Value) -> str:
    text = _code(value.text) if value.code else _text(value.text)
    if not value.note:
        return text
    return f"{text} {_text(value.note)}" if value.note.startswith("[") else f"{text} ({_text(value.note)})"


def _text(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no line break, no cell border."""
    text = " ".join(text.split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|~])", r"\\\1", text)
    # An underscore between letters is no emphasis, and a number in brackets is no link.
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)
    return re.sub(r"\\\[([-+\u2212\d., ]+)\\\]", r"[\1]", text)


def _code(text: str) -> str:
    """Text as code; a fence longer than any run of backticks inside keeps it whole."""
    text = " ".join(text.split()).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall(r"`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"
