"""Report: the summary as `report.md` and `report.html`."""

from __future__ import annotations

from embrepro.benchmarking.speed import SpeedReport
from embrepro.config.schema import Config
from embrepro.files import read_model, write_text
from embrepro.layout import Layout
from embrepro.pipeline import judgement
from embrepro.progress import console
from embrepro.report import render_html, render_markdown, run_report
from embrepro.results import provenance
from embrepro.results.summary import Summary


def run(config: Config, layout: Layout) -> None:
    """Write both pages."""
    summary, speed = read(layout)
    summary = judgement.judged(summary, speed, config.claim_files, config.rules_file)
    found = provenance.collect(layout.root, device=config.device.name, threads=config.device.threads)
    document = run_report.build(summary, found, speed)
    write_text(layout.reports / "report.md", render_markdown.render(document))
    write_text(layout.reports / "report.html", render_html.render(document))
    console.say(f"report: {layout.reports / 'report.html'}")


def read(layout: Layout) -> tuple[Summary, SpeedReport | None]:
    """What the aggregate stage left: the summary, and the speed where it was measured."""
    speed_file = layout.reports / "speed.json"
    speed = read_model(speed_file, SpeedReport) if speed_file.is_file() else None
    return read_model(layout.reports / "summary.json", Summary), speed
