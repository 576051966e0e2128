"""Check: the last word on whether every requested task has a score, and on whether what is published is that score."""

from __future__ import annotations

from collections.abc import Mapping

from embrepro.config.schema import Config
from embrepro.errors import KitError
from embrepro.files import read_json, read_model
from embrepro.layout import Layout
from embrepro.pipeline import scored
from embrepro.pipeline.records import Record
from embrepro.progress import console
from embrepro.results import comparison
from embrepro.results.agreement import TOLERANCE
from embrepro.results.comparison import Scored
from embrepro.results.summary import Summary, metrics


def run(config: Config, layout: Layout) -> None:
    """Fail where a requested task has no score, naming each with its reason, unless `tasks.allow_missing` says otherwise.

    Lost tasks are dropped from the records of the stages that lost them, so that the next `dvc repro` tries those again;
    what was finished stays and is not done again.

    Raises:
        KitError: a requested task has no score; or a published one is not that of its result file and samples.
    """
    records = {key: scored.read_record(config, layout, key) for key in config.models}
    _expect_published(config, layout, records)
    lost: dict[tuple[str, str], list[str]] = {}
    for key, record in records.items():
        for name, outcome in record.tasks.items():
            if outcome.done:
                continue
            lost.setdefault((name, outcome.status), []).append(key)
            if not config.tasks.allow_missing:
                _forget(layout, outcome.stage, key, name)
    if not lost:
        console.say("check: every requested task has a score, and each is that of its result file and its samples")
        return
    # A model that cannot be had loses all its tasks for one reason, which is said once.
    together: dict[tuple[str, str], list[str]] = {}
    for (name, status), keys in lost.items():
        together.setdefault((", ".join(keys), status), []).append(name)
    listing = "\n".join(f"  {', '.join(names)} ({keys}): {status}" for (keys, status), names in together.items())
    tasks = len({name for name, _ in lost})
    count = f"{tasks} task{'s' if tasks > 1 else ''} without a score"
    if config.tasks.allow_missing:
        console.say(f"check: {count}, allowed by tasks.allow_missing:\n{listing}")
        return
    raise KitError(
        f"{count} (the report has all others: {layout.report_html}):\n{listing}\n"
        "`dvc repro` tries these again and redoes nothing else (`dvc exp run` would bring back what is recorded now); "
        "tasks.allow_missing=true lets a run end well without them."
    )


def _expect_published(config: Config, layout: Layout, records: Mapping[str, Record]) -> None:
    """Compare `summary.json` and `metrics.json` with the results they were made of."""
    path = layout.summary
    summary = read_model(path, Summary)
    if summary.models.keys() != records.keys():
        raise KitError(
            f"{path} is about {', '.join(summary.models)}, not {', '.join(records)}. Run: dvc repro aggregate"
        )
    if read_json(layout.metrics) != metrics(summary):
        raise KitError(
            f"{layout.reports / 'metrics.json'} does not say what {path} says. Run: dvc repro --force aggregate"
        )
    found = {}
    for key, record in records.items():
        found[key] = scored.read_scores(config, layout, key, record, record.tasks)
        _expect_same_scores(summary, key, record, found[key], str(path))
    _expect_differences(summary, found, str(path))


def _expect_same_scores(summary: Summary, key: str, record: Record, found: Mapping[str, Scored], path: str) -> None:
    for row in summary.tasks:
        cell, computed = row.cells[key], found.get(row.name)
        expected = (computed.score, "scored") if computed else (None, record.outcome(row.name, "evaluate").status)
        if (cell.score, cell.status) != expected:
            raise KitError(
                f"{path} says {_said(cell.score, cell.status)} of {key} on {row.name}, but its result says "
                f"{_said(*expected)}. Run: dvc repro --force aggregate"
            )
    types = {row.name: row.type for row in summary.tasks}
    if summary.means[key] != comparison.means({row.name: row.cells[key].score for row in summary.tasks}, types):
        raise KitError(f"{path}: the means of {key} are not those of its scores. Run: dvc repro --force aggregate")


def _expect_differences(summary: Summary, found: Mapping[str, Mapping[str, Scored]], path: str) -> None:
    ours, theirs = found[summary.candidate], found[summary.baseline]
    for row in summary.tasks:
        both = row.name in ours and row.name in theirs
        between = ours[row.name].score - theirs[row.name].score if both else None
        if row.difference and (between is None or abs(row.difference.estimate - between) > 2 * TOLERANCE):
            raise KitError(
                f"{path}: the difference on {row.name} is not that of its scores. Run: dvc repro --force aggregate"
            )


def _said(score: float | None, status: str) -> str:
    return status if score is None else f"{score:.5f}"


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
