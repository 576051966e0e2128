"""Whether a run reproduced the published scores, and the page that says it.

The verdict on each number follows from values and tolerance alone. Scores are main scores, 0-1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embrepro.errors import KitError
from embrepro.files import read_json, read_model
from embrepro.layout import Layout
from embrepro.regression.published import ExpectedFile, ExpectedScore
from embrepro.rendering.formats import DASH, signed_fraction
from embrepro.rendering.model import Code, Document, Link, Section, Table, Tone, Value, Words, columns_of, filled
from embrepro.results.agreement import expect_published
from embrepro.results.summary import Summary

PublishedVerdict = Literal["OK", "close", "FAIL", "not run"]
CLOSE = 3.0
"""A score that misses its tolerance by no more than this factor is close."""
_VERDICT_TONES: dict[str, Tone] = {"OK": "good", "close": "warn", "FAIL": "bad", "not run": "even"}


class MeasuredTask(BaseModel):
    """One task of a run, as far as a comparison with a published number needs it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    score: float | None
    status: str
    metric: str
    splits: list[str]
    subsets: list[str]
    revision: str | None


class MeasuredModel(BaseModel):
    """One model of a run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    revision: str
    content_hash: str
    tasks: dict[str, MeasuredTask]


class MeasuredRun(BaseModel):
    """The measured side: what `docs/reproduced.json` keeps of the run that the page was made from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: list[MeasuredModel]
    packages: dict[str, str]
    device: str


class Judged(BaseModel):
    """One expected number and what became of it."""

    model_config = ConfigDict(frozen=True)

    model: str
    task: str
    metric: str
    expected: float
    tolerance: float
    measured: float | None = None
    verdict: PublishedVerdict
    note: str = Field(default="", description="why it was not run, or what differs from the published measurement")

    @property
    def difference(self) -> float | None:
        """Measured minus expected."""
        return None if self.measured is None else self.measured - self.expected


def last_run(layout: Layout) -> MeasuredRun:
    """What the last run measured, from `reports/`.

    Raises:
        KitError: a report is missing, damaged, or the two are of different runs, or a score is not that of the result
            file and the per-sample scores that are here.
    """
    summary = read_model(layout.summary, Summary)
    metrics = read_json(layout.metrics)
    for key in summary.models:
        written = metrics.get("models", {}).get(key, {}).get("scores")
        if written != {row.name: row.cells[key].score for row in summary.tasks}:
            raise KitError(
                f"{layout.reports}: metrics.json and summary.json disagree on {key}. "
                "Run `dvc repro` to write both again."
            )
    expect_published(summary, layout.root)
    return MeasuredRun(
        models=[_measured(summary, key) for key in sorted(summary.models)],
        packages=summary.packages,
        device=str(summary.recipe.get("device", "unknown")),
    )


def recorded(path: Path) -> MeasuredRun:
    """What an earlier `verify --write` recorded; raises KitError where it cannot be read."""
    try:
        return MeasuredRun.model_validate(read_json(path))
    except ValidationError as error:
        raise KitError(
            f"{path} holds no recorded run ({error.error_count()} problems). Write it with: embrepro verify --write"
        ) from None


def judge(files: Iterable[ExpectedFile], measured: MeasuredRun) -> list[Judged]:
    """A verdict on every expected number, in the order of the files."""
    models = {model.name: model for model in measured.models}
    return [
        _judge(file, task, expected, models.get(file.model.name))
        for file in files
        for task, expected in file.scores.items()
    ]


def _judge(file: ExpectedFile, task: str, expected: ExpectedScore, model: MeasuredModel | None) -> Judged:
    tolerance = file.tolerances.of(task, expected.metric)
    judged = Judged(
        model=file.model.name,
        task=task,
        metric=expected.metric,
        expected=expected.score,
        tolerance=tolerance,
        verdict="not run",
    )
    found = model.tasks.get(task) if model else None
    if (reason := _not_run(expected, model, found)) is not None:
        return judged.model_copy(update={"note": reason})
    assert model is not None and found is not None and found.score is not None
    off = abs(found.score - expected.score)
    verdict = "OK" if _within(off, tolerance) else "close" if _within(off, CLOSE * tolerance) else "FAIL"
    note = _what_differs(file, expected, model, found)
    return judged.model_copy(update={"measured": found.score, "verdict": verdict, "note": note})


def _within(off: float, tolerance: float) -> bool:
    # The last bits of binary fractions do not decide.
    return off <= tolerance + 1e-12


def _not_run(expected: ExpectedScore, model: MeasuredModel | None, found: MeasuredTask | None) -> str | None:
    """Why there is no measured number that could be held against the published one."""
    if model is None:
        return "the model is not in this run"
    if found is None:
        return "the task was not requested"
    if found.score is None:
        return found.status
    if found.metric != expected.metric:
        return f"the run scored {found.metric}, the published number is {expected.metric}"
    ran = (found.splits or ["test"], found.subsets or ["default"])
    if ran != ([expected.split], [expected.subset]):
        published = _parts([expected.split], [expected.subset])
        return f"the run scored {_parts(*ran)}, the published number is of {published}"
    return None


def _parts(splits: list[str], subsets: list[str]) -> str:
    return f"{', '.join(splits)}/{', '.join(subsets)}"


def _what_differs(file: ExpectedFile, expected: ExpectedScore, model: MeasuredModel, found: MeasuredTask) -> str:
    notes = []
    if file.model.revisions and model.revision not in file.model.revisions:
        notes.append(f"measured at model revision {model.revision[:8]}, published for another")
    if expected.revision and found.revision and expected.revision != found.revision:
        notes.append(f"data revision {found.revision[:8]}, published for {expected.revision[:8]}")
    if expected.measured_at == "external":
        notes.append("published by the model's authors themselves")
    return "; ".join(notes)


def _measured(summary: Summary, key: str) -> MeasuredModel:
    card = summary.models[key]
    tasks = {
        row.name: MeasuredTask(
            score=row.cells[key].score,
            status=row.cells[key].status,
            metric=row.metric,
            splits=row.splits,
            subsets=row.subsets,
            revision=row.revision,
        )
        for row in sorted(summary.tasks, key=lambda row: row.name)
    }
    return MeasuredModel(name=card.name, revision=card.revision, content_hash=card.content_hash, tasks=tasks)


def published_page(
    files: Sequence[ExpectedFile],
    judged: Sequence[Judged],
    measured: MeasuredRun,
    *,
    every: bool = False,
    named: int = 4,
) -> Document:
    """The verdict on every expected number.

    Args:
        files: what is expected.
        judged: the verdicts.
        measured: the run.
        every: a row for each number that was not run, too; else they are gathered by reason.
        named: how many tasks are named for each reason.
    """
    counts = Counter(str(each.verdict) for each in judged)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in _VERDICT_TONES)
    verdict = f"{len(judged)} published scores: {told}."
    lead = [f"Close means within {CLOSE:g} times the tolerance."]
    if len(judged) == counts["not run"]:
        lead.append("Nothing was compared: this run scored none of them.")
    tables = [_published_table([each for each in judged if each.measured is not None or every])]
    tables += [] if every else [_not_run_table(judged, named)]
    return Document(
        title="Reproduced scores",
        verdict=verdict,
        tone="bad" if counts["FAIL"] else "good" if counts["OK"] + counts["close"] else "even",
        sections=[Section("published", lead=lead, tables=filled(tables), notes=_beyond(files, measured))],
    )


def reproduced_page(files: Sequence[ExpectedFile], judged: Sequence[Judged], measured: MeasuredRun) -> Document:
    """The page `docs/reproduced.md`."""
    page = published_page(files, judged, measured, named=len(judged))
    packages = ", ".join(f"{name} {version}" for name, version in sorted(measured.packages.items()))
    models = "; ".join(f"{model.name} at {model.revision}" for model in measured.models)
    made: Words = [
        Code("embrepro verify --write"),
        " makes this page from ",
        Code("conf/expected/"),
        " and a run, whose scores it keeps in the JSON file beside it. Scores are on the 0-1 scale.",
    ]
    about = [f"Measured on {measured.device} with {packages}.", f"Models of the run: {models}."]
    section = page.sections[0]
    return Document(
        title=page.title,
        verdict=page.verdict,
        tone=page.tone,
        sections=[
            Section(
                section.id,
                lead=[made, *section.lead, *about],
                tables=section.tables,
                notes=[*_sources(files), *section.notes],
            )
        ],
    )


def _published_table(judged: Sequence[Judged]) -> Table:
    columns = columns_of(
        ("model", "task", "metric", "published", "measured", "difference", "tolerance", "verdict", "note"),
        {"published", "measured", "difference", "tolerance"},
        {"note"},
    )
    rows = []
    for each in judged:
        off = each.difference
        numbers = (
            f"{each.expected:.5f}",
            DASH if each.measured is None else f"{each.measured:.5f}",
            DASH if off is None else signed_fraction(off, 5),
            f"{each.tolerance:g}",
        )
        words = map(Value, (each.model, each.task, each.metric, *numbers))
        rows.append([*words, Value(each.verdict, tone=_VERDICT_TONES[each.verdict]), Value(each.note)])
    return Table("published", "Published and measured scores", columns, rows, restack=True)


def _not_run_table(judged: Iterable[Judged], named: int) -> Table:
    """Numbers that were not run, by model and reason."""
    tasks: dict[tuple[str, str], list[str]] = {}
    for each in judged:
        if each.measured is None:
            tasks.setdefault((each.model, each.note), []).append(each.task)
    rows = [
        [
            *map(Value, (model, why, str(len(names)))),
            Value(", ".join(names if len(names) <= named else [*names[:named], "…"])),
        ]
        for (model, why), names in tasks.items()
    ]
    columns = columns_of(("model", "why", "scores", "tasks"), {"scores"}, {"tasks"})
    return Table("not-run", "Not run", columns, rows, restack=True, folded=True)


def _sources(files: Sequence[ExpectedFile]) -> list[Words]:
    lines: list[Words] = []
    for file in files:
        at = f", commit {file.source.commit}" if file.source.commit else ""
        lines.append(
            [f"{file.model.name}: {file.source.name} (", Link(file.source.url), f"{at}). {file.model.note}".rstrip()]
        )
    return lines


def _beyond(files: Sequence[ExpectedFile], measured: MeasuredRun) -> list[Words]:
    """Scores of the run that no file says anything about."""
    expected = {file.model.name: file.scores for file in files}
    lines: list[Words] = []
    for model in measured.models:
        known = expected.get(model.name, {})
        beyond = [
            f"{name} {task.score:.5f}"
            for name, task in model.tasks.items()
            if name not in known and task.score is not None
        ]
        if beyond:
            lines.append(
                f"Measured for {model.name} without a published score to hold it against: {', '.join(beyond)}."
            )
    return lines
