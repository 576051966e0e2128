"""The measured quantities that recommendation rules speak of, with their uncertainty, for both models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from embrepro.benchmarking.speed import SpeedReport
from embrepro.config.yaml_files import Strict
from embrepro.results.quantities import QUANTITIES, Measurements, QuantityName, read_quantity
from embrepro.results.summary import Interval, ModelCard, TaskRow

# Half-width of a 95 % interval in standard errors
_Z = 1.959964


class QualityMeasure(Strict):
    """Mean main score over the run's tasks of the given types or names; over all where none is given."""

    kind: Literal["quality"]
    label: str = Field(description="as the reason names it")
    types: list[str] = Field(default_factory=list)
    tasks: list[str] = Field(default_factory=list)

    def concerns(self, row: TaskRow) -> bool:
        """Whether a task counts."""
        return not (self.types or self.tasks) or row.type in self.types or row.name in self.tasks


class QuantityMeasure(Strict):
    """One of the measurable quantities of a model, such as its size or its latency."""

    kind: Literal["quantity"]
    label: str = Field(description="as the reason names it")
    name: QuantityName

    @field_validator("name")
    @classmethod
    def _has_a_direction(cls, name: str) -> str:
        if not QUANTITIES[name].better:
            raise ValueError(f"neither more nor fewer {name} is better, so no rule can rest on it")
        return name


Measure = Annotated[QualityMeasure | QuantityMeasure, Field(discriminator="kind")]


def unit_of(measure: Measure) -> str:
    """The unit of a measure's values; none for qualities, which are 0-1."""
    return QUANTITIES[measure.name].unit if isinstance(measure, QuantityMeasure) else ""


def more_is_better(measure: Measure) -> bool:
    """Whether a greater value of a measure is the better one."""
    return not isinstance(measure, QuantityMeasure) or QUANTITIES[measure.name].better == "higher"


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class QualityComparison:
    """A measure for both models: a difference for qualities, a ratio for all else; or why there is none."""

    measure: Measure
    candidate: Estimate | None = None
    baseline: Estimate | None = None
    change: Estimate | None = None
    missing: str = ""
    distinct: bool = False
    """Whether the two differ beyond chance. For one task it is the outcome of its test, corrected for the
    number of tasks, so that a recommendation never contradicts the comparison; else whether the interval
    excludes no change."""


class Evidence(BaseModel):
    """All that a run measured, as far as rules may ask for it."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    candidate: str
    baseline: str
    tasks: Sequence[TaskRow]
    models: Mapping[str, ModelCard]
    speed: SpeedReport | None = None

    @model_validator(mode="after")
    def _two_models(self) -> Evidence:
        if self.candidate == self.baseline:
            raise ValueError("a recommendation needs two models")
        return self

    def compare(self, measure: Measure) -> QualityComparison:
        """Both models by one measure."""
        if isinstance(measure, QualityMeasure):
            return self._quality(measure)
        found = [self._estimate(measure, key) for key in (self.candidate, self.baseline)]
        if reasons := [part for part in found if isinstance(part, str)]:
            return QualityComparison(measure, missing="; ".join(dict.fromkeys(reasons)))
        ours, theirs = (part for part in found if isinstance(part, Estimate))
        change = _ratio(ours, theirs)
        distinct = change is not None and not change.low <= 1 <= change.high
        return QualityComparison(measure, ours, theirs, change, distinct=distinct)

    def _estimate(self, measure: QuantityMeasure, model: str) -> Estimate | str:
        speed = self.speed.models.get(model) if self.speed else None
        found = read_quantity(measure.name, model, Measurements(self.models.get(model), speed))
        if isinstance(found, str):
            return f"no {measure.label}: {found}"
        if found.interval is None:
            return f"no {measure.label} of {model}: {found.why_no_interval}"
        return Estimate(found.value, found.interval.low, found.interval.high)

    def _quality(self, measure: QualityMeasure) -> QualityComparison:
        rows = [row for row in self.tasks if measure.concerns(row)]
        if not rows:
            wanted = ", ".join((*measure.tasks, *measure.types)) or "any task"
            return QualityComparison(measure, missing=f"no {measure.label}: the run has no task of {wanted}")
        if lost := [row.name for row in rows if self._lacks(row)]:
            why = f"no {measure.label}: not both models have a score on {', '.join(lost)}"
            return QualityComparison(measure, missing=why)
        for row in rows:
            if row.difference is None or row.difference.interval is None:
                return QualityComparison(measure, missing=f"the difference on {row.name} was not tested")
        changes = [row.difference for row in rows if row.difference is not None]
        change = _mean([(each.estimate, each.interval) for each in changes])
        distinct = not change.low <= 0 <= change.high
        if len(changes) == 1:
            distinct = changes[0].outcome in ("better", "worse")
        ours, theirs = (self._mean_score(rows, model) for model in (self.candidate, self.baseline))
        return QualityComparison(measure, ours, theirs, change, distinct=distinct)

    def _lacks(self, row: TaskRow) -> bool:
        cells = [row.cells.get(model) for model in (self.candidate, self.baseline)]
        return any(cell is None or cell.score is None for cell in cells)

    def _mean_score(self, rows: Sequence[TaskRow], model: str) -> Estimate:
        cells = [row.cells[model] for row in rows]
        return _mean([(cell.score if cell.score is not None else math.nan, cell.interval) for cell in cells])


def _mean(parts: Sequence[tuple[float, Interval | None]]) -> Estimate:
    """Mean of independent estimates with 95 % intervals; a part without an interval adds no uncertainty."""
    value = math.fsum(estimate for estimate, _ in parts) / len(parts)
    if len(parts) == 1 and (interval := parts[0][1]) is not None:
        return Estimate(value, interval.low, interval.high)
    errors = [(interval.high - interval.low) / (2 * _Z) for _, interval in parts if interval is not None]
    reach = _Z * math.sqrt(math.fsum(error**2 for error in errors)) / len(parts)
    return Estimate(value, value - reach, value + reach)


def _ratio(ours: Estimate, theirs: Estimate) -> Estimate | None:
    """Candidate over baseline between the ends of both intervals: wider than needed, never too narrow."""
    if min(theirs.low, theirs.value) <= 0:
        return None
    return Estimate(ours.value / theirs.value, ours.low / theirs.high, ours.high / theirs.low)
