"""Expected scores and whether a run reproduced them.

A file of `conf/expected/` holds what others published about one model, with the source and how far a measured
score may lie off. The verdict on each number follows from values and tolerance alone. Scores are main scores,
0-1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from embrepro import kit
from embrepro.config.messages import suggest
from embrepro.config.yaml_files import Strict, read_document
from embrepro.errors import ConfigError, KitError
from embrepro.files import read_json, read_model
from embrepro.layout import Layout
from embrepro.results.agreement import expect_published
from embrepro.results.summary import Summary

PublishedVerdict = Literal["OK", "close", "FAIL", "not run"]
Deviation = Annotated[float, Field(gt=0, lt=1)]
EXPECTED = kit.CONF / "expected"
CLOSE = 3.0
"""A score that misses its tolerance by no more than this factor is close."""


class PublicationSource(Strict):
    """Where the numbers are published."""

    name: str
    url: str
    commit: str | None = None
    date: str | None = None


class ExpectedModel(Strict):
    """The model that the numbers are about."""

    name: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="organisation/name")
    revisions: list[str] = Field(
        default_factory=list, description="commits that the numbers apply to; empty: not known"
    )
    note: str = ""


class ScoreTolerances(Strict):
    """How far a measured score may lie off; that of a task goes before that of a metric."""

    default: Deviation
    metrics: dict[str, Deviation] = Field(default_factory=dict, description="by main score, such as v_measure")
    tasks: dict[str, Deviation] = Field(default_factory=dict)

    def of(self, task: str, metric: str) -> float:
        """The tolerance in force for a task's main score."""
        return self.tasks.get(task, self.metrics.get(metric, self.default))


class ExpectedScore(Strict):
    """One published main score."""

    score: float = Field(ge=-1, le=1)
    metric: str = Field(description="the main score's name in mteb")
    split: str = "test"
    subset: str = "default"
    revision: str | None = Field(default=None, description="commit of the data set")
    mteb: str | None = Field(default=None, description="version of mteb that was used")
    measured_at: str | None = Field(
        default=None, description="revision of the model where it varies; external: self-reported"
    )


class ExpectedFile(Strict):
    """All expected scores of one model from one source."""

    model: ExpectedModel
    source: PublicationSource
    tolerances: ScoreTolerances
    scores: dict[str, ExpectedScore] = Field(min_length=1, description="by task")

    @model_validator(mode="after")
    def _tolerances_apply(self) -> ExpectedFile:
        used = {score.metric for score in self.scores.values()}
        for given, known, what in (
            (self.tolerances.metrics, used, "metric"),
            (self.tolerances.tasks, self.scores.keys(), "task"),
        ):
            for name in given:
                if name not in known:
                    raise ValueError(f"tolerances: no expected score is of {what} '{name}'{suggest(name, known)}")
        return self


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


def load(paths: Sequence[Path], folder: Path = EXPECTED) -> list[ExpectedFile]:
    """Read files of expected scores; all of `folder` and of the kit where none is named.

    Raises:
        ConfigError: a file that is not one of expected scores, or two files about one model.
    """
    chosen = list(paths) or list(kit.documents(folder, EXPECTED).values())
    files = [read_document(path, ExpectedFile, "a file of expected scores", "docs/gate.md") for path in chosen]
    seen: dict[str, Path] = {}
    for path, file in zip(chosen, files, strict=True):
        if file.model.name in seen:
            raise ConfigError(
                f"{seen[file.model.name]} and {path} are both about {file.model.name}; keep one, or name one."
            )
        seen[file.model.name] = path
    return files


def published(folder: Path = EXPECTED) -> dict[str, dict[str, float]]:
    """Published main scores by key in `conf/model`, which is the file's name, and task; none where there is no file."""
    files = list(kit.documents(folder, EXPECTED).values())
    loaded = load(files) if files else []
    return {
        path.stem: {task: expected.score for task, expected in file.scores.items()}
        for path, file in zip(files, loaded, strict=True)
    }


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
