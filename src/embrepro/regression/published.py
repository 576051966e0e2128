"""Scores that others published: a file of `conf/expected/` a model, with the source and how far a measured score may lie off.

Scores are main scores, 0-1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from embrepro import kit
from embrepro.config.messages import suggest
from embrepro.config.yaml_files import Strict, read_document
from embrepro.errors import ConfigError

Deviation = Annotated[float, Field(gt=0, lt=1)]
EXPECTED = kit.CONF / "expected"


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
