"""Report: the summary as `report.md` and `report.html`, and the last word on whether every requested task has a score."""

from __future__ import annotations

from embrepro.benchmarking.speed import SpeedReport
from embrepro.config.schema import Config
from embrepro.errors import KitError
from embrepro.files import read_model, write_text
from embrepro.layout import Layout
from embrepro.pipeline import judgement
from embrepro.pipeline.records import Record
from embrepro.progress import console
from embrepro.report import html_page, markdown_page
from embrepro.results import provenance
from embrepro.results.summary import Summary


def run(config: Config, layout: Layout) -> None:
    """Write both pages."""
    summary, speed = read(layout)
    summary = judgement.judged(summary, speed, config.claim_files, config.rules_file)
    found = provenance.collect(layout.root, device=config.device.name, threads=config.device.threads)
    write_text(layout.reports / "report.md", markdown_page.render(summary, found, speed))
    write_text(layout.reports / "report.html", html_page.render(summary, found, speed))
    console.say(f"report: {layout.reports / 'report.html'}")


def read(layout: Layout) -> tuple[Summary, SpeedReport | None]:
    """What the aggregate stage left: the summary, and the speed where it was measured."""
    speed_file = layout.reports / "speed.json"
    speed = read_model(speed_file, SpeedReport) if speed_file.is_file() else None
    return read_model(layout.reports / "summary.json", Summary), speed


def check(config: Config, layout: Layout) -> None:
    """Fail where a requested task has no score, naming each with its reason, unless `tasks.allow_missing` says otherwise.

    Lost tasks are dropped from the records of the stages that lost them, so that the next `dvc repro` tries those again;
    what was finished stays and is not done again.

    Raises:
        KitError: a requested task has no score.
    """
    lost: dict[tuple[str, str], list[str]] = {}
    for key in config.models:
        for name, outcome in Record.read(layout.evaluate_record(key)).tasks.items():
            if outcome.done:
                continue
            lost.setdefault((name, outcome.status), []).append(key)
            if not config.tasks.allow_missing:
                _forget(layout, outcome.stage, key, name)
    if not lost:
        console.say("check: every requested task has a score")
        return
    listing = "\n".join(f"  {name} ({', '.join(keys)}): {status}" for (name, status), keys in lost.items())
    tasks = len({name for name, _ in lost})
    count = f"{tasks} task{'s' if tasks > 1 else ''} without a score"
    if config.tasks.allow_missing:
        console.say(f"check: {count}, allowed by tasks.allow_missing:\n{listing}")
        return
    raise KitError(
        f"{count} (the report has all others: {layout.reports / 'report.html'}):\n{listing}\n"
        "`dvc repro` tries these again and redoes nothing else; tasks.allow_missing=true lets a run end well without them."
    )


def _forget(layout: Layout, stage: str, key: str, task: str) -> None:
    """Drop a lost task from the record of the stage that lost it; DVC then sees the record changed and runs the stage."""
    path = {
        "download": layout.download_record,
        "encode": layout.encode_record(key),
        "evaluate": layout.evaluate_record(key),
    }[stage]
    record = Record.read(path)
    if record.tasks.pop(task, None) is not None:
        record.write(path)
