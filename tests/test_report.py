"""The report says the same in Markdown and HTML, hides nothing, loads nothing, and works in a browser."""

from __future__ import annotations

import html as markup
import json
import re
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

import browser
import report_data as data
from embrepro.rendering import palette, render_html, render_markdown
from embrepro.rendering.formats import quantity, signed
from embrepro.report import run_report
from embrepro.report.origins import Origins
from embrepro.report.sections.comparison import comparison_table
from embrepro.report.sections.similarity import overlap
from embrepro.report.sections.status import status_table
from embrepro.report.sections.task_types import types_table
from embrepro.report.sections.tradeoff import positions
from embrepro.results.provenance import collect
from embrepro.results.summary import Cell, MeanDifferences, ScoreDifference


def as_html(*run: Any) -> str:
    return render_html.render(run_report.build(*run))


def as_markdown(*run: Any) -> str:
    return render_markdown.render(run_report.build(*run))


VOID = {"meta", "link", "input", "br", "hr", "img", "wbr"}


class Elements(HTMLParser):
    """Every element with its attributes; fails on tags that do not pair."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


@pytest.fixture(scope="module")
def page() -> str:
    return as_html(data.summary(), data.provenance(), data.speed())


@pytest.fixture(scope="module")
def text() -> str:
    return as_markdown(data.summary(), data.provenance(), data.speed())


@pytest.fixture(scope="module")
def elements(page: str) -> list[tuple[str, dict[str, str | None]]]:
    return Elements(page).found


def plain(page: str) -> str:
    """What a reader sees of the page, without its data and script."""
    body = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", page, flags=re.S).replace("<wbr>", "")
    return " ".join(markup.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def unescaped(text: str) -> str:
    return markup.unescape(text).replace("\u200b", "")


# What it says


def test_every_cell_of_every_table_is_in_both_forms(page: str, text: str) -> None:
    whole = run_report.build(data.summary(), data.provenance(), data.speed())
    seen, read = plain(page), " ".join(unescaped(text).split())
    for section in whole.sections:
        for table in section.tables:
            for value in (value for row in [*table.rows, *table.footer] for value in row):
                for words in filter(None, (value.text, value.note)):
                    assert " ".join(words.split()) in seen, f"{table.id}: {words!r} is not in the page"
                    assert " ".join(words.split()) in read, f"{table.id}: {words!r} is not in the Markdown"


@pytest.mark.parametrize("form", ["page", "text"])
def test_missing_tasks_are_named_with_their_reasons_before_any_score(form: str, request: pytest.FixtureRequest) -> None:
    whole = request.getfixturevalue(form)
    seen = plain(whole) if form == "page" else unescaped(whole)
    banner = seen.index("2 of 9 requested tasks have no score")
    assert banner < seen.index("91.27")
    assert banner < seen.index("data set not in the mirror: mteb/twentynewsgroups-clustering@6125ec4")
    assert "unexpected label <script>alert(1)</script>" in seen


def test_the_banner_says_a_reason_once_for_all_models_that_share_it() -> None:
    summary = data.summary()
    first, *others = summary.tasks
    lost = first.model_copy(update={"cells": {key: Cell(status="no such data") for key in summary.models}})
    alert = run_report._alert(summary.model_copy(update={"tasks": [lost, *others]}))
    assert alert
    assert (alert.lines[0].of, alert.lines[0].reason) == (", ".join(summary.models), "no such data")


@pytest.mark.parametrize("form", ["page", "text"])
def test_no_mean_is_given_over_an_incomplete_set(form: str, request: pytest.FixtureRequest) -> None:
    whole = request.getfixturevalue(form)
    seen = plain(whole) if form == "page" else unescaped(whole)
    assert "not computed: 1 of 9 tasks missing" in seen
    assert "No mean is given, because 2 of 9 requested tasks are missing." in seen


def test_means_stand_in_the_average_row_once_all_tasks_are_scored() -> None:
    summary = data.summary(complete=True)
    table = comparison_table(summary, Origins(summary, data.provenance()))
    scores = [task.cells[data.BASELINE].score or 0 for task in summary.tasks]
    assert table.footer[0][0].text == "Average over tasks"
    assert table.footer[0][3].text == f"{100 * sum(scores) / len(scores):.2f}"
    text = as_markdown(summary, data.provenance(), None)
    assert "requested tasks have no score" not in text
    found = summary.mean_differences.mean_task
    assert found is not None
    low, high = (
        f"{100 * bound:+.2f}".replace("-", "\u2212") for bound in (found.estimate - 0.01, found.estimate + 0.01)
    )
    assert table.footer[0][-2].note == f"[{low}, {high}]"
    assert table.footer[0][-1].text == found.outcome
    assert f"[{low}, {high}]: {found.outcome}." in text


def test_a_mean_that_could_not_be_tested_says_so() -> None:
    summary = data.summary(complete=True, mean_differences=MeanDifferences())
    row = comparison_table(summary, Origins(summary, data.provenance())).footer[0]
    assert row[-1].text == "not tested"
    assert row[-2].note == ""


def test_a_difference_that_was_not_tested_is_counted_apart() -> None:
    summary = data.summary(complete=True)
    untested = summary.tasks[2].model_copy(
        update={"difference": ScoreDifference(estimate=0.0057, outcome="not tested", sentence="No samples.")}
    )
    summary = summary.model_copy(update={"tasks": [*summary.tasks[:2], untested, *summary.tasks[3:]]})
    seen = plain(as_html(summary, data.provenance(), None))
    assert "better than minilm on 1, worse on 7, not distinguishable on 0 and not tested on 1 of 9" in seen
    assert "0 not distinguishable, 1 not tested" in seen
    row = comparison_table(summary, Origins(summary, data.provenance())).rows[2]
    assert (row[-1].text, row[-1].tone, row[-2].note) == ("not tested", "missing", "")


def test_the_mean_of_a_type_with_a_missing_task_is_not_computed() -> None:
    summary = data.summary()
    rows = {row[0].text: row for row in types_table(summary, Origins(summary, data.provenance())).rows}
    assert rows["Clustering"][1].text == "0 of 1"
    assert rows["Clustering"][2].text == "not computed: 1 of 1 tasks missing"
    assert rows["Retrieval"][2].text == "74.02"  # (80.12 + 77.44 + 64.508) / 3


def test_every_requested_task_has_a_row_and_a_status() -> None:
    summary = data.summary()
    names = [task.name for task in summary.tasks]
    origins = Origins(summary, data.provenance())
    assert [row[0].text for row in comparison_table(summary, origins).rows] == names
    assert [row[0].text for row in status_table(summary).rows] == names


def test_a_run_of_one_model_shows_no_difference() -> None:
    summary = data.summary(complete=True)
    alone = summary.model_copy(
        update={
            "candidate": data.BASELINE,
            "models": {data.BASELINE: summary.models[data.BASELINE]},
            "histograms": [],
            "legacy": [],
            "recommendations": [],
            "claims": [],
        }
    )
    columns = [column.title for column in comparison_table(alone, Origins(alone, data.provenance())).columns]
    assert columns == ["Task", "Type", "Metric", data.BASELINE]
    whole = as_html(alone, data.provenance(), None)
    sections = {attributes.get("id") for tag, attributes in Elements(whole).found if tag == "section"}
    assert sections == {None, "comparison", "status", "types", "trade", "models", "provenance"}
    assert "no benchmark was run" in plain(whole)


def test_an_empty_run_is_still_a_report() -> None:
    empty = data.summary(complete=True).model_copy(update={"tasks": [], "histograms": [], "legacy": [], "claims": []})
    empty = empty.model_copy(update={"means": {}})
    assert "No task could be compared" in plain(as_html(empty, data.provenance(), None))
    assert "No task could be compared" in as_markdown(empty, data.provenance(), None)


def test_numbers_are_written_alike_everywhere() -> None:
    assert [signed(value) for value in (0.1234, -0.1234, 0.0, -0.00001)] == [
        "+12.34",
        "\u221212.34",
        "0.00",
        "0.00",
    ]
    assert [quantity(value) for value in (0, 0.0002, 0.1944, 7.341, 90.9, 17289.4)] == [
        "0",
        "2.0e-04",
        "0.194",
        "7.34",
        "90.9",
        "17,289",
    ]


def test_the_overlap_of_two_distributions_is_their_shared_area() -> None:
    one = data.histograms()[0].model_copy(update={"edges": [0.0, 0.5, 1.0], "positives": [1, 3], "negatives": [6, 2]})
    assert overlap(one) == pytest.approx(0.25 + 0.25)
    assert overlap(one.model_copy(update={"negatives": [0, 0]})) is None


def test_a_model_beaten_in_everything_is_off_the_pareto_front() -> None:
    summary, speed = data.summary(complete=True), data.speed()
    assert [position.on_front for position in positions(summary, speed)] == [True, True]
    slow = speed.models[data.CANDIDATE].model_copy(
        update={"size_mb": 500.0, "throughput": speed.models[data.BASELINE].throughput}
    )
    worse = speed.model_copy(update={"models": speed.models | {data.CANDIDATE: slow}})
    assert [position.on_front for position in positions(summary, worse)] == [True, False]


# Where it comes from


def test_every_score_opens_its_origin(elements: list[tuple[str, dict[str, str | None]]], page: str) -> None:
    identifiers = [attributes["id"] for _, attributes in elements if attributes.get("id")]
    assert len(identifiers) == len(set(identifiers))
    targets = {attributes["popovertarget"] for _, attributes in elements if attributes.get("popovertarget")}
    assert targets <= set(identifiers)
    scored = sum(cell.score is not None for task in data.summary().tasks for cell in task.cells.values())
    assert len(targets) >= scored


def test_an_origin_holds_the_very_number_it_explains(page: str) -> None:
    origins = dict(re.findall(r'id="(origin-\d+)" popover.*?class="exact">(.*?)</p>', page, re.S))
    cells = re.findall(
        r'data-sort="([^"]+)"><button[^>]*popovertarget="(origin-\d+)"[^>]*>[\d.]+</button><small>\[', page
    )
    scores = [(number, target) for number, target in cells if number in {"0.9127", "0.8731", "0.77582"}]
    assert len(scores) == 3
    assert all(origins[target].endswith(f"= {number}") for number, target in scores)
    legacy = page[page.index('id="table-legacy"') :].partition("</table>")[0]
    for number, target in re.findall(r'data-sort="([^"]+)"><button[^>]*popovertarget="(origin-\d+)"', legacy):
        assert origins[target] == number


@pytest.mark.parametrize("form", ["page", "text"])
def test_an_origin_names_data_model_command_and_file(form: str, request: pytest.FixtureRequest) -> None:
    whole = request.getfixturevalue(form)
    seen = plain(whole) if form == "page" else whole
    for part in (
        "mteb/sick-r",
        "0fd18e25b25c072e09e0d92ab615fda904d66300",
        data.summary().tasks[5].data_hash or "",
        "cc-by-4.0",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "dvc repro evaluate@minilm",
        "0.77582",
        "results/sentence-transformers__all-MiniLM-L6-v2/c9745ed1d9f207416be6d2e6f8de32d1f16199bf/SICK-R.json",
    ):
        assert part in seen


def test_provenance_outside_a_repository_is_null(tmp_path: Path) -> None:
    found = collect(tmp_path, device="cpu", threads=None)
    assert (found.commit, found.dirty, found.branch, found.config_hash, found.commands) == (
        None,
        None,
        None,
        None,
        {},
    )


def test_provenance_of_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBREPRO_IMAGE", "sha256:" + "0" * 64)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    lock = {"schema": "2.0", "stages": {"evaluate@minilm": {"cmd": "embrepro evaluate minilm"}}}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(lock))
    stages = {
        "evaluate": {"foreach": "${models}", "do": {"cmd": "embrepro evaluate ${key}"}},
        "report": {"cmd": "embrepro report"},
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (tmp_path / "params.yaml").write_text("baseline: minilm\n")
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", str(tmp_path))
    for command in (("init", "-q", "-b", "trunk"), ("add", "."), ("commit", "-q", "-m", "start")):
        subprocess.run([*git, *command], check=True)
    found = collect(tmp_path, device="cpu", threads=2)
    assert found.branch == "trunk" and re.fullmatch(r"[0-9a-f]{40}", found.commit or "")
    assert found.dirty is False
    assert found.commands == {"evaluate@minilm": "embrepro evaluate minilm", "report": "embrepro report"}
    assert found.image == "sha256:" + "0" * 64
    assert found.date == "1970-01-02T00:00:00Z"
    # SHA-256 of "baseline: minilm\n", from sha256sum
    assert found.config_hash == "42a7d2daca0af874c57ce5587018a22bc4f2c267242e84d56b97094c25de3916"
    (tmp_path / "dvc.lock").write_text("changed by the run itself: true\n")
    assert collect(tmp_path, device="cpu", threads=2).dirty is False
    (tmp_path / "params.yaml").write_text("baseline: other\n")
    assert collect(tmp_path, device="cpu", threads=2).dirty is True


def test_provenance_survives_a_broken_lock(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text("stages: [1, 2")
    (tmp_path / "dvc.yaml").write_text("- not a mapping\n")
    assert collect(tmp_path, device="cpu", threads=1).commands == {}


# One file, the same bytes, nothing from outside


def test_the_same_inputs_give_the_same_bytes(page: str, text: str) -> None:
    assert as_html(data.summary(), data.provenance(), data.speed()) == page
    assert as_markdown(data.summary(), data.provenance(), data.speed()) == text


def test_the_page_is_well_formed_and_loads_nothing(
    elements: list[tuple[str, dict[str, str | None]]], page: str
) -> None:
    for tag, attributes in elements:
        assert tag not in {"iframe", "object", "embed", "base", "img", "form"}
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            value = attributes.get(name) or ""
            assert not re.match(r"\s*(?:[a-z]+:)?//", value, re.I) and (not value or value.startswith(("#", "data:,")))
        assert not [name for name in attributes if name.startswith("on")]
    style = re.search(r"<style>(.*?)</style>", page, re.S)
    assert style and "@import" not in style[1] and "url(" not in style[1]
    assert "default-src 'none'" in page


@pytest.mark.parametrize(
    "hostile",
    [data.HOSTILE, '"><img src=x onerror=alert(1)>', "</script><script>alert(1)//", "${{7*7}}{{7*7}}"],
)
def test_names_from_configuration_are_escaped(hostile: str) -> None:
    summary = data.summary(complete=True)
    rows = [
        task.model_copy(update={"name": f"{hostile}{n}", "title": hostile, "licence": hostile})
        for n, task in enumerate(summary.tasks)
    ]
    cards = {
        key: card.model_copy(update={"name": hostile, "recipe": {hostile: hostile}})
        for key, card in summary.models.items()
    }
    summary = summary.model_copy(update={"tasks": rows, "models": cards, "histograms": [], "legacy": []})
    where = data.provenance(branch=hostile, commands={hostile: hostile}, packages={hostile: hostile})
    page = as_html(summary, where, None)
    found = Elements(page).found
    assert [tag for tag, _ in found if tag == "script"] == ["script", "script"]
    assert "img" not in [tag for tag, _ in found]
    embedded = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert embedded and json.loads(embedded[1])["provenance"]["branch"] == hostile
    lines = as_markdown(summary, where, None).splitlines()
    outside = [re.sub(r"(`+).*?\1", "", line) for line in lines]
    assert not [line for line in outside if re.search(r"<(?!/?(?:details|summary|code)>)", line)]


def test_a_cell_keeps_the_table_whole_in_markdown(text: str) -> None:
    widths: list[int] = []
    for line in text.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not (cells and widths and widths[-1] and cells != widths[-1]), line
        widths.append(cells)


def _luminance(colour: str) -> float:
    # WCAG 2.2, relative luminance
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [palette.LIGHT, palette.DARK], ids=["light", "dark"])
def test_colours_stand_out_from_the_surface(theme: dict[str, str]) -> None:
    surface = _luminance(theme["surface"])
    for name, needed in {
        "ink": 7,
        "muted": 4.5,
        "good": 4.5,
        "bad": 4.5,
        "baseline": 3,
        "candidate": 3,
        "other": 3,
        "even": 3,
    }.items():
        light, dark = sorted((surface, _luminance(theme[name])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= needed, name  # WCAG 2.2, 1.4.3, 1.4.6 and 1.4.11


def test_every_colour_of_a_chart_follows_the_theme(page: str) -> None:
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, re.S))
    colours = set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]+)"', drawn))
    assert colours <= set(palette.LIGHT.values())
    assert len(set(palette.LIGHT.values())) == len(palette.LIGHT)


# In a real browser


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory, page: str) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[browser.Page]:
    """One browser for all tests; each loads the report anew."""
    if missing := browser.missing():
        pytest.skip(f"NOT CHECKED IN A BROWSER: no {missing} on this machine; install it to check the report for real")
    with browser.opened() as opened:
        yield opened


@pytest.fixture
def desktop(chromium: browser.Page, report_file: Path) -> browser.Page:
    """The report, just loaded on a screen of 1,280 pixels."""
    chromium.load(report_file)
    return chromium


slow_browser = [pytest.mark.browser, pytest.mark.slow]


def column(page: browser.Page, table: str, number: int) -> list[str]:
    return page.run(
        f"[...document.querySelector('#table-{table}').tBodies[0].rows].filter(r => !r.hidden)"
        f".map(r => [...r.cells[{number}].childNodes].filter(n => n.nodeName !== 'SMALL'))"
        ".map(nodes => nodes.map(n => n.textContent).join('').trim())"
    )


class TestInChromium:
    pytestmark = slow_browser

    def test_it_runs_without_errors_and_loads_nothing_else(self, desktop: browser.Page, report_file: Path) -> None:
        desktop.run("document.querySelectorAll('button').forEach(button => button.click())")
        reports = desktop.reports()
        assert [report for report in reports if report["method"] in ("Log", "Page.javascriptDialogOpening")] == []
        requests = [report["params"] for report in reports if report["method"] == "Network.requestWillBeSent"]
        assert [sent["request"]["url"] for sent in requests] == [report_file.as_uri()]

    def test_it_would_notice_an_error_and_a_request(self, chromium: browser.Page, tmp_path: Path) -> None:
        (tmp_path / "page.html").write_text("<img src=absent.png><script>throw Error('seen')</script>")
        chromium.load(tmp_path / "page.html")
        reports = chromium.reports()
        assert any("seen" in report["params"]["message"] for report in reports if report["method"] == "Log")
        assert len([report for report in reports if report["method"] == "Network.requestWillBeSent"]) == 2

    @pytest.mark.parametrize("width", [320, 390, 768, 1280, 1920])
    def test_nothing_is_wider_than_the_window(self, desktop: browser.Page, width: int) -> None:
        desktop.resize(width)
        desktop.run("document.querySelectorAll('details').forEach(part => part.open = true)")
        assert desktop.run("document.documentElement.scrollWidth") <= width
        assert desktop.run("document.getElementById('title').getBoundingClientRect().width") > 0
        seen = "[...document.querySelectorAll('#table-comparison tbody tr')].every(row => row.offsetHeight > 20)"
        assert desktop.run(seen)

    def test_a_phone_shows_navigation_and_names_whole(self, desktop: browser.Page) -> None:
        desktop.resize(390)
        assert desktop.run(
            "[...document.querySelectorAll('.bar nav a')].every(link => link.getBoundingClientRect().right <= 390"
            " && document.elementFromPoint(link.getBoundingClientRect().left + 3, link.getBoundingClientRect().top + 8) === link)"
        )
        shown = desktop.run(
            "[...document.querySelectorAll('.switch svg+svg text')].map(text => text.textContent).join('')"
        )
        assert "\u2026" not in shown
        for task in data.summary().tasks:
            if task.difference is not None:
                assert task.name in shown.replace("\n", "")
        cut = "[...document.querySelectorAll('.restack .tone')].filter(chip => chip.scrollWidth > chip.clientWidth + 1).length"
        assert desktop.run(cut) == 0

    def test_the_summary_fits_one_screen(self, desktop: browser.Page) -> None:
        assert desktop.run("document.querySelector('.tiles').getBoundingClientRect().bottom") < 900

    def test_tables_sort_by_click_and_by_key(self, desktop: browser.Page) -> None:
        listed = column(desktop, "comparison", 3)
        head = "document.querySelectorAll('#table-comparison thead .sort')[3]"
        desktop.run(f"{head}.click()")
        falling = column(desktop, "comparison", 3)
        assert falling[:2] == ["91.27", "80.12"] and falling[-2:] == ["22.31", "missing"]
        desktop.run(f"{head}.focus()")
        desktop.press("ENTER")
        rising = column(desktop, "comparison", 3)
        assert rising == [*reversed(falling[:-1]), "missing"] and sorted(rising) == sorted(listed)
        assert desktop.run(f"{head}.closest('th').getAttribute('aria-sort')") == "ascending"

    def test_tables_filter(self, desktop: browser.Page) -> None:
        field = "document.querySelector('[data-filters=table-comparison]')"
        desktop.run(f"{field}.value = 'retrieval custom', {field}.dispatchEvent(new Event('input'))")
        assert column(desktop, "comparison", 0) == ["CustomInstructionAwareness", "CustomCodeUnderstanding"]
        assert desktop.run(f"{field}.closest('.tools').querySelector('output').textContent") == "2 of 9 rows"
        desktop.run(f"{field}.value = '', {field}.dispatchEvent(new Event('input'))")
        assert len(column(desktop, "comparison", 0)) == 9

    def test_cards_on_a_phone_sort_from_a_list(self, desktop: browser.Page) -> None:
        desktop.resize(390)
        choice = "document.querySelector('[data-sorts=table-comparison]')"
        assert desktop.run(f"{choice}.offsetHeight") > 0
        desktop.run(f"{choice}.value = '3', {choice}.dispatchEvent(new Event('change'))")
        assert column(desktop, "comparison", 3)[0] == "91.27"

    def test_one_click_shows_where_a_number_comes_from(self, desktop: browser.Page) -> None:
        desktop.run("document.querySelector('#table-comparison tbody .number').click()")
        shown = desktop.run("document.querySelector('.origin:popover-open').textContent")
        assert "max_ap = 0.9127" in shown and "dvc repro evaluate@minilm" in shown
        desktop.press("ESCAPE")
        assert desktop.run("document.querySelector('.origin:popover-open')") is None

    def test_the_theme_follows_the_system_until_the_reader_chooses(self, desktop: browser.Page) -> None:
        colour = "getComputedStyle(document.body).backgroundColor"
        light = desktop.run(colour)
        desktop.theme("dark")
        dark = desktop.run(colour)
        assert light != dark
        desktop.run("document.getElementById('theme').click()")
        assert desktop.run(colour) == light
        mark = f"document.querySelector('#figure-differences [fill=\"{palette.LIGHT['bad']}\"]')"
        assert desktop.run(f"getComputedStyle({mark}).fill") == "rgb(194, 65, 13)"  # palette.LIGHT["bad"]

    def test_it_prints_what_is_folded_away(self, desktop: browser.Page) -> None:
        desktop.run("dispatchEvent(new Event('beforeprint'))")
        assert desktop.run("[...document.querySelectorAll('details')].every(part => part.open)")
        assert len(desktop.driver.print_page()) > 20_000


def test_a_machine_that_cannot_do_portable_numerics_is_named() -> None:
    found = data.provenance(numerics="portable", not_portable="the processor has no AVX2")
    text = as_markdown(data.summary(), found, None)
    assert "Numerics are not portable on this machine, as the processor has no AVX2" in text
    assert "not portable" not in as_markdown(data.summary(), data.provenance(numerics="portable"), None)


def test_the_seed_of_intervals_is_named() -> None:
    assert "| Seed of intervals and tests | 7 |" in as_markdown(data.summary(seed=7), data.provenance(), None)
    assert "Seed of intervals" not in as_markdown(data.summary(), data.provenance(), None)
