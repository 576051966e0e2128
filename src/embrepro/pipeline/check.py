"""Check: the last word on whether every requested task has a score."""

from __future__ import annotations

from embrepro.config.schema import Config
from embrepro.errors import KitError
from embrepro.layout import Layout
from embrepro.pipeline.records import Record
from embrepro.progress import console


def run(config: Config, layout: Layout) -> None:
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
