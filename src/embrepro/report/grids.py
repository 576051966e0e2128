"""A page of tables that reads the same in a terminal, as Markdown and as one HTML file on its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from embrepro.report import palette

WIDE = 200
"""Columns of a terminal that is none, such as a log file: there is no edge to wrap at."""

_STYLES = {"good": "green", "bad": "bold red", "even": "dim", "warn": "yellow"}
_SAFE = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@dataclass(frozen=True)
class GridRow:
    """Cells of a row; `tone` (good, bad, even, warn or nothing) colours the cell under `Grid.marked`."""

    cells: Sequence[str]
    tone: str = ""


@dataclass(frozen=True)
class Grid:
    """A table: `numeric` names the columns that are set to the right, `folded` hides it until asked for."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[GridRow]
    numeric: frozenset[str] = frozenset()
    marked: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Drawing:
    """A chart as SVG, with its caption and what it shows in words."""

    caption: str
    words: str
    svg: str


@dataclass(frozen=True)
class Page:
    """A title, what matters most in words, tables, charts and notes."""

    title: str
    lead: Sequence[str]
    grids: Sequence[Grid]
    notes: Sequence[str] = ()
    drawings: Sequence[Drawing] = ()
    legend: Sequence[tuple[str, str]] = field(default=())
    tone: str = ""


def show(page: Page) -> None:
    """Print a page to the terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    for grid in page.grids:
        if grid.rows:
            console.print(_terminal_table(grid))
            console.print()
    for note in page.notes:
        console.print(escape(note))
    for line in page.lead:
        console.print(escape(line), style=_STYLES.get(page.tone, ""))


def markdown(page: Page, marker: str = "") -> str:
    """A page as GitHub-flavoured Markdown; `marker` is an HTML comment put into the first line."""
    blocks = [f"<!-- {marker} -->"] if marker else []
    blocks += [
        f"# {_escaped(page.title)}" if not marker else f"## {_escaped(page.title)}",
        *map(_escaped, page.lead),
    ]
    for grid in page.grids:
        blocks += _markdown_table(grid) if grid.rows else []
    if page.notes:
        blocks.append("\n".join(f"- {_escaped(note)}" for note in page.notes))
    text = "\n\n".join(blocks) + "\n"
    # The marker must stay alone in the first line, where whoever updates a comment looks for it.
    return text.replace("-->\n\n", "-->\n", 1) if marker else text


def html(page: Page) -> str:
    """A page as one HTML file; its content security policy lets nothing be loaded and no script run."""
    style = _STYLE.replace("/*light*/", palette.variables(palette.LIGHT))
    style = style.replace("/*dark*/", palette.variables(palette.DARK)).replace("/*charts*/", palette.chart_rules())
    drawings = [(drawing, Markup(drawing.svg)) for drawing in page.drawings]  # drawn by altair, which escapes
    return _SAFE.from_string(_PAGE).render(page=page, style=Markup(style), drawings=drawings)


def _terminal_table(grid: Grid) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title=escape(grid.caption), title_justify="left")
    for head in grid.heads:
        table.add_column(head, overflow="fold", justify="right" if head in grid.numeric else "left")
    for row in grid.rows:
        style = _STYLES.get(row.tone)
        marks = [style if style and head == grid.marked else None for head in grid.heads]
        shown = zip(row.cells, marks, strict=True)
        table.add_row(*(f"[{mark}]{escape(cell)}[/]" if mark else escape(cell) for cell, mark in shown))
    return table


def _markdown_table(grid: Grid) -> list[str]:
    lines = [
        _line([_escaped(head) for head in grid.heads]),
        _line(["---:" if head in grid.numeric else "---" for head in grid.heads]),
        *(_line([_escaped(cell) for cell in row.cells]) for row in grid.rows),
    ]
    body = "\n".join(lines)
    if grid.folded:
        return [f"<details><summary>{_escaped(grid.caption)}</summary>", body, "</details>"]
    return [f"{_escaped(grid.caption)}:", body]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is, but for code between backticks."""
    pieces = re.split(r"(`[^`]+`)", " ".join(text.split()))
    return "".join(piece if piece.startswith("`") else _plain(piece) for piece in pieces)


def _plain(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")
    text = re.sub(r"([\\`*\[\]|~#!])", r"\\\1", text)
    # An underscore between letters is no emphasis, and a number in brackets is no link.
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)
    return re.sub(r"\\\[([-+\u2212\d., ]+)\\\]", r"[\1]", text)


_STYLE = """
:root{/*light*/}
@media(prefers-color-scheme:dark){:root{/*dark*/}}
/*charts*/
body{margin:0 auto;max-width:72rem;padding:1.5rem 1rem;background:var(--surface);color:var(--ink);
font:16px/1.5 'Segoe UI',Roboto,'Noto Sans','Liberation Sans',Arial,sans-serif}
h1{font-size:1.5rem;margin:0 0 .5rem;overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin:1.2rem 0}
table{border-collapse:collapse;font-size:.875rem;width:100%}
caption,figcaption,summary{text-align:left;font-weight:600;padding:.3rem 0}
th{text-align:left;color:var(--muted);font-weight:600}
th,td{padding:.3rem .7rem .3rem 0;border-bottom:1px solid var(--grid);vertical-align:top}
.number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.good{color:var(--good);font-weight:600}.bad{color:var(--bad);font-weight:600}
.warn{color:var(--bad)}.even{color:var(--muted)}
figure{margin:1.4rem 0}.chart svg{max-width:100%;height:auto}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,22rem),1fr));gap:0 1.5rem}
.words{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{ page.title }}</title>
<style>{{ style }}</style>
</head>
<body>
<h1>{{ page.title }}</h1>
{% for line in page.lead %}
<p{% if page.tone and loop.first %} class="{{ page.tone }}"{% endif %}>{{ line }}</p>
{% endfor %}
{% if page.legend %}
<p>
{% for colour, name in page.legend %}
<span style="color:var(--{{ colour }})">&#9632;</span> {{ name }}&emsp;
{% endfor %}
</p>
{% endif %}
{% if drawings %}
<div class="charts">
{% for drawing, svg in drawings %}
<figure><figcaption>{{ drawing.caption }}</figcaption>
<div class="chart">{{ svg }}</div><p class="words">{{ drawing.words }}</p></figure>
{% endfor %}
</div>
{% endif %}
{% for grid in page.grids if grid.rows %}
{% if grid.folded %}<details><summary>{{ grid.caption }}</summary>{% endif %}
<div class="scroll"><table>
{% if not grid.folded %}<caption>{{ grid.caption }}</caption>{% endif %}
<thead><tr>{% for head in grid.heads %}<th scope="col"{% if head in grid.numeric %} class="number"{% endif %}>
{{- head }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in grid.rows %}
<tr>{% for cell in row.cells %}{% set head = grid.heads[loop.index0] %}
<td class="{{ 'number ' if head in grid.numeric }}{{ row.tone if head == grid.marked }}">{{ cell }}</td>
{%- endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% if grid.folded %}</details>{% endif %}
{% endfor %}
{% if page.notes %}<ul>{% for note in page.notes %}<li>{{ note }}</li>{% endfor %}</ul>{% endif %}
</body>
</html>
"""
