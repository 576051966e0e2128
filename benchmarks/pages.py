"""`docs/performance.md`, from the results that the benchmarks wrote: `python -m benchmarks.pages`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import measuring
from embrepro.files import read_json, write_text
from embrepro.rendering import render_markdown
from embrepro.rendering.model import Code, Document, Section, Words

PAGE = measuring.ROOT / "docs" / "performance.md"
TITLES = {
    "against_mteb": "Against mteb's own runner",
    "encode_rate": "Encoding and the machine's limit",
    "search": "Search",
    "scale": "Growth with the data, and with workers",
}


def page(results: Path = measuring.RESULTS) -> str:
    """The page, one section for each file of results, `NAME.json` or `NAME-WHAT.json`.

    A benchmark that was not run says how to run it.
    """
    sections = [
        _section(name, title, path)
        for name, title in TITLES.items()
        for path in [results / f"{name}.json", *sorted(results.glob(f"{name}-*.json"))]
    ]
    lead: Words = [
        "Made by ",
        Code("python -m benchmarks.pages"),
        " from what ",
        Code("make benchmarks"),
        " wrote to ",
        Code("benchmarks/results/"),
        "; how each is measured is told in ",
        Code("benchmarks/README.md"),
        ".",
    ]
    return render_markdown.render(Document("Performance", [Section("about", lead=[lead]), *sections]))


def _section(name: str, title: str, path: Path) -> Section:
    if not path.is_file():
        return Section(name, title, absent=f"Not measured yet: python -m benchmarks.{name}")
    found = read_json(path)
    what = path.stem.removeprefix(name).removeprefix("-")
    told = measuring.section(found)
    heading = f"{title}: {what}" if what else title
    return Section(path.stem, heading, lead=[_machine(found)], tables=told.tables, notes=told.notes)


def _machine(found: dict[str, Any]) -> str:
    machine = found["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB"
    settings = ", ".join(
        f"{key} {_shown(value)}" for key, value in found["settings"].items() if value not in ([], None)
    )
    return f"On {where}; {versions}. Settings: {settings}."


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    write_text(PAGE, page())
