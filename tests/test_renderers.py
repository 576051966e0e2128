"""One document in three forms; nothing that a run, a message or a name holds can act in any of them."""

from __future__ import annotations

import html as markup
import io
import re
from html.parser import HTMLParser

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from embrepro.rendering import render_html, render_markdown, render_terminal
from embrepro.rendering.model import (
    Alert,
    AlertLine,
    Code,
    Column,
    Document,
    Fact,
    Figure,
    Fold,
    Link,
    Origin,
    Section,
    Table,
    Tile,
    Value,
)
from embrepro.rendering.text import visible

PIECES = (
    "`",
    "``",
    "![](http://evil.example/x.png)",
    "[a](http://evil.example)",
    "[1](evil)",
    "[1]: evil",
    "<img src=x onerror=alert(1)>",
    "<!-- -->",
    "</details>",
    "|",
    "\\",
    "\\|",
    "\n",
    "\n\n# heading\n",
    "\r",
    "@everyone",
    "a@example.org",
    "#12",
    "GH-12",
    "www.evil.example",
    "https://evil.example",
    "**bold**",
    "_it_",
    "~~gone~~",
    "$x$",
    "&lt;",
    "&#60;",
    "1. ",
    "- ",
    "+ ",
    "> ",
    "=",
    "---",
    "[bold red]x[/]",
    ":warning:",
    "\x1b[31m",
    "\x1b]8;;http://evil.example\x07",
    "\x9b2J",
    "\x00",
    "\u202e",
    "\u200b",
    "\ud800",
    "{{7*7}}",
    "{% raw %}",
    "</script>",
    "[1.0, 2.0]",
    "a b",
)
hostile = (
    st.lists(st.sampled_from(PIECES) | st.text(max_size=8), min_size=1, max_size=6)
    .map("".join)
    .filter(lambda text: inner(text))
)


def document(text: str) -> Document:
    """A document that has the text in every place that takes one."""
    value = Value(text, note=text, origin="origin-1")
    table = Table(
        "t",
        text,
        [Column(text, note=text), Column(text, numeric=True), Column("code")],
        [
            [
                value,
                Value(text, tone="good", folds=[Fold(text, [Value(text, note=text, tone="good")])]),
                Value(text, code=True),
            ]
        ]
        * 2,
        footer=[[value, value, value]],
        restack=True,
    )
    folded = Table("f", text, table.columns, table.rows, folded=True)
    return Document(
        title=text,
        subtitle=text,
        verdict=text,
        stamp=text,
        alert=Alert(text, text, [AlertLine(text, text, text)]),
        tiles=[Tile(text, text, note=text)],
        sections=[
            Section(
                "s",
                text,
                lead=[text, ["before ", Code(text), " after ", Link(text)]],
                tables=[table, folded],
                figures=[[Figure("g", text, text, lambda: "<svg></svg>", legend=[("good", text)])]],
                notes=[text],
            ),
            Section("a", text, absent=text),
        ],
        origins=[Origin("origin-1", text, text, [Fact(text, text), Fact(text, text, code=True)])],
        data={"text": text},
    )


class Elements(HTMLParser):
    """Names and attributes of all elements, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def shape(page: str) -> list[tuple[str, frozenset[str]]]:
    """Elements and the names of their attributes, apart from where a long name may break or is cut."""
    found = [(tag, frozenset(attributes)) for tag, attributes in Elements(page).found if tag != "wbr"]
    return [(tag, names - {"class", "title"} if tag == "code" else names) for tag, names in found]


def tokens(text: str) -> list[str]:
    """Kinds of everything that a parser of GitHub's tables, strikethrough and CommonMark sees, but plain text."""
    found = []
    for block in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        found.append(block.type)
        found += [child.type for child in block.children or () if child.type not in ("text", "text_special")]
        found += [
            block.content for _ in [0] if block.type == "html_block" and not block.content.startswith("<details>")
        ]
    return found


def inner(text: str) -> str:
    return re.sub(r"\s+", " ", visible(text)).strip()


class TestMarkdown:
    @settings(max_examples=150, deadline=None)
    @given(hostile)
    @example("`x`![](http://evil.example/x.png)`<img src=x>`")
    @example("[1](http://evil.example)")
    @example("\\`@everyone` | ![x][y]")
    @example("[1.0, 2.0]\n")
    def test_it_has_the_same_structure_whatever_the_texts(self, text: str) -> None:
        # Which is meant to be a link where a link may stand.
        assume(not re.fullmatch(r"https://[\w./~%+-]+", text))
        mine = [kind for kind in tokens(render_markdown.render(document(text))) if not kind.startswith("code_inline")]
        safe = [kind for kind in tokens(render_markdown.render(document("a b"))) if not kind.startswith("code_inline")]
        plain = [kind for kind in mine if kind not in ("html_inline",)]
        assert plain == [kind for kind in safe if kind not in ("html_inline",)]
        assert not {"image", "link_open", "s_open"} & set(mine)

    @settings(max_examples=150, deadline=None)
    @given(hostile)
    def test_nothing_is_left_that_github_links_by_itself(self, text: str) -> None:
        page = re.sub(r"`[^`\n]*`|<https://[^>\s]*>", "", render_markdown.render(document(text)))
        assert not re.search(r"@\w|://|\bwww\.|(?<!&)#\d|\bGH-\d", page, re.IGNORECASE)
        assert not re.search(r"<(?!/?(?:details|summary|code)>)", page)

    @settings(max_examples=150, deadline=None)
    @given(hostile)
    def test_a_reader_sees_the_very_text(self, text: str) -> None:
        shown = markup.unescape(render_markdown.escape(text)).replace("\u200b", "")
        assert shown == visible(text)

    def test_an_address_is_a_link_only_where_it_is_plain_https(self) -> None:
        def page(url: str) -> str:
            return render_markdown.render(Document("t", [Section("s", notes=[[Link(url)]])]))

        assert "- <https://example.org/a-b?" not in page("https://example.org/a-b?x=<y>")
        assert "- <https://example.org/a-b>" in page("https://example.org/a-b")
        assert "javascript:" in page("javascript:alert(1)") and "<javascript" not in page("javascript:alert(1)")

    def test_the_marker_stands_alone_in_the_first_line(self) -> None:
        lines = render_markdown.render(document("a b"), marker="embrepro gate").splitlines()
        assert lines[:2] == ["<!-- embrepro gate -->", "## a b"]


class TestHtml:
    @settings(max_examples=100, deadline=None)
    @given(hostile)
    def test_it_has_the_same_structure_whatever_the_texts(self, text: str) -> None:
        assert shape(render_html.render(document(text))) == shape(render_html.render(document("a b")))

    @settings(max_examples=50, deadline=None)
    @given(hostile)
    def test_it_can_be_written_and_shows_the_very_text(self, text: str) -> None:
        page = render_html.render(document(text))
        page.encode("utf-8")
        seen = re.sub(r"\s+", " ", "".join(Elements(page).text))
        assert inner(text) in seen

    def test_a_page_without_data_has_no_script(self) -> None:
        page = render_html.render(Document("t", [Section("s", "title", lead=["words"])]))
        assert "<script" not in page and "script-src" not in page and "default-src 'none'" in page


class TestTerminal:
    @settings(max_examples=100, deadline=None)
    @given(hostile, st.sampled_from([40, 80, 200]))
    def test_no_escape_sequence_and_no_markup_gets_through(self, text: str, width: int) -> None:
        out = io.StringIO()
        console = Console(file=out, width=width, color_system=None, force_terminal=True, highlight=False, emoji=False)
        render_terminal.show(document(text), console=console)
        shown = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)
        assert "evil" not in text or "evil" in re.sub(r"\s", "", shown)

    def test_colours_of_text_are_not_taken_from_the_text(self) -> None:
        out = io.StringIO()
        console = Console(file=out, width=80, color_system="truecolor", force_terminal=True)
        render_terminal.show(Document("t", [Section("s", notes=["[bold red]x[/] \x1b[31mred"])]), console=console)
        assert "[bold red]x[/]" in out.getvalue() and "\x1b[31m" not in out.getvalue()

    @pytest.mark.parametrize("width", [46, 52])
    def test_a_table_that_nearly_fits_has_its_notes_below(self, width: int) -> None:
        columns = [
            Column("Model"),
            Column("Mean", note="over tasks", numeric=True),
            Column("Wins, losses", note="by task"),
        ]
        row = [Value("static_minilm_float32"), Value("55.29", note="p < 0.001"), Value("59, 25", note="24 of 108 even")]
        out = io.StringIO()
        table = Table("t", "Models", columns, [row], restack=True)
        render_terminal.show(Document("t", [Section("s", tables=[table])]), console=Console(file=out, width=width))
        shown = [line.rstrip() for line in out.getvalue().splitlines() if line.strip()]
        assert max(map(len, shown)) <= width
        first = next(place for place, line in enumerate(shown) if line.startswith("static_minilm_float32"))
        assert "55.29" in shown[first] and "59, 25" in shown[first]
        assert shown[first + 1].split("(") == [
            " " * 22,
            "p < 0.001) ",
            "24 of 108 even)" if width == 52 else "24 of 108",
        ]

    @pytest.mark.parametrize(("width", "lines"), [(40, 5), (200, 2)])
    def test_a_table_that_does_not_fit_becomes_cards(self, width: int, lines: int) -> None:
        columns = [Column(name) for name in ("task", "old", "new", "note")]
        row = [Value("Banking77Classification"), Value("0.8004"), Value("0.7334"), Value("not in the mirror")]
        out = io.StringIO()
        table = Table("t", "Scores", columns, [row], restack=True)
        render_terminal.show(Document("t", [Section("s", tables=[table])]), console=Console(file=out, width=width))
        shown = [line for line in out.getvalue().splitlines() if line.strip()]
        assert max(map(len, shown)) <= width
        assert len(shown) == lines + (width == 200)

    @pytest.mark.parametrize("terminal", [True, False])
    def test_many_rows_that_were_folded_and_do_not_fit_are_named_in_a_terminal_and_written_to_a_pipe(
        self, terminal: bool
    ) -> None:
        rows = [[Value("x" * 30), Value("y" * 30)] for _ in range(9)]
        table = Table("t", "Pairs", [Column("one"), Column("other")], rows, restack=True, folded=True)
        out = io.StringIO()
        console = Console(file=out, width=40, force_terminal=terminal, color_system=None)
        render_terminal.show(Document("t", [Section("s", tables=[table])]), console=console)
        assert ("Pairs: 9 rows, too wide" in out.getvalue()) == terminal
        assert ("y" * 30 in out.getvalue()) != terminal

    def test_folded_tables_may_be_left_as_one_line(self) -> None:
        out = io.StringIO()
        table = Table("t", "Not measured", [Column("claim")], [[Value("one")], [Value("two")]], folded=True)
        page = Document("t", [Section("s", tables=[table])])
        render_terminal.show(page, unfold=False, console=Console(file=out, width=80))
        assert "Not measured: 2 not shown" in out.getvalue() and "one" not in out.getvalue()
