"""The measured quantities that recommendation rules speak of, with their uncertainty, for both models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from embrepro.benchmarking.speed import ModelSpeed, SpeedReport
from embrepro.benchmarking.speed import RepeatedMeasure as Repeated
from embrepro.claims.metrics import PropertyKey, SpeedKey
from embrepro.config.yaml_files import Strict
from embrepro.results.summary import Interval, ModelCard, TaskRow
from embrepro.statistics.percentiles import percentile_interval, samples_needed

_Z = 1.959964  # half-width of a 95 % interval in standard errors


class _Measure(Strict):
    label: str = Field(description="as the reason names it")
    unit: str = ""
    better: Literal["higher", "lower"] = "higher"


class QualityMeasure(_Measure):
    """Mean main score over the run's tasks of the given types or names; over all where none is given."""

    kind: Literal["quality"]
    types: list[str] = Field(default_factory=list)
    tasks: list[str] = Field(default_factory=list)

    def concerns(self, row: TaskRow) -> bool:
        """Whether a task counts."""
        return not (self.types or self.tasks) or row.type in self.types or row.name in self.tasks


class SpeedMeasure(_Measure):
    """A speed of the benchmark."""

    kind: Literal["speed"]
    key: SpeedKey


class PropertyMeasure(_Measure):
    """Something a model is, such as its size on disk."""

    kind: Literal["property"]
    key: PropertyKey


Measure = Annotated[QualityMeasure | SpeedMeasure | PropertyMeasure, Field(discriminator="kind")]


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

    def _estimate(self, measure: SpeedMeasure | PropertyMeasure, model: str) -> Estimate | str:
        if isinstance(measure, PropertyMeasure):
            value = getattr(self.models[model], measure.key) if model in self.models else None
            return f"no {measure.label} of {model}" if value is None else Estimate(value, value, value)
        if self.speed is None:
            return f"no {measure.label}: no benchmark in this run"
        if model not in self.speed.models:
            return f"no {measure.label}: {model} was not benchmarked"
        found = speed_estimate(self.speed.models[model], measure.key)
        return f"no {measure.label} of {model}: {found}" if isinstance(found, str) else found

    def _quality(self, measure: QualityMeasure) -> QualityComparison:
        rows = [row for row in self.tasks if measure.concerns(row)]
        if not rows:
            wanted = ", ".join((*measure.tasks, *measure.types)) or "any task"
            return QualityComparison(measure, missing=f"no {measure.label}: the run has no task of {wanted}")
        for row in rows:
            for model in (self.candidate, self.baseline):
                if model not in row.cells or row.cells[model].score is None:
                    status = row.cells[model].status if model in row.cells else "not evaluated"
                    return QualityComparison(measure, missing=f"no {measure.label}: {row.name} of {model}: {status}")
            if row.difference is None or row.difference.interval is None:
                return QualityComparison(measure, missing=f"the difference on {row.name} was not tested")
        changes = [row.difference for row in rows if row.difference is not None]
        change = _mean([(each.estimate, each.interval) for each in changes])
        distinct = not change.low <= 0 <= change.high
        if len(changes) == 1:
            distinct = changes[0].outcome in ("better", "worse")
        ours, theirs = (self._mean_score(rows, model) for model in (self.candidate, self.baseline))
        return QualityComparison(measure, ours, theirs, change, distinct=distinct)

    def _mean_score(self, rows: Sequence[TaskRow], model: str) -> Estimate:
        cells = [row.cells[model] for row in rows]
        return _mean([(cell.score if cell.score is not None else math.nan, cell.interval) for cell in cells])


def speed_estimate(speed: ModelSpeed, key: SpeedKey) -> Estimate | str:
    """A speed with its interval, or the reason in words why there is none.

    Percentiles of latency get an order-statistics interval, which assumes no distribution, and none where the
    queries are too few to bound them. Peak memory is a single reading.
    """
    match key:
        case "latency_p50_ms":
            return _percentile(speed.latency.samples, 0.50)
        case "latency_p95_ms":
            return _percentile(speed.latency.samples, 0.95)
        case "latency_p99_ms":
            return _percentile(speed.latency.samples, 0.99)
        case "queries_per_second":
            latency = _percentile(speed.latency.samples, 0.50)
            if isinstance(latency, str):
                return latency
            return Estimate(1000 / latency.value, 1000 / latency.high, 1000 / latency.low)
        case "load_seconds":
            return _repeated(speed.load_seconds)
        case "peak_memory_mb":
            return Estimate(speed.peak_memory_mb, speed.peak_memory_mb, speed.peak_memory_mb)
        case _:
            length = key.removeprefix("texts_per_second_")
            settings = [each.texts_per_second for each in speed.throughput if each.length == length]
            if not settings:
                return f"the benchmark took no {length} texts"
            return _repeated(max(settings, key=lambda each: each.median))


def _repeated(measure: Repeated) -> Estimate:
    return Estimate(measure.median, measure.low, measure.high)


def _percentile(samples: Sequence[float], quantile: float) -> Estimate | str:
    found = percentile_interval(samples, quantile)
    if found is None:
        return f"{len(samples)} queries are too few for an interval, which takes {samples_needed(quantile)}"
    return Estimate(float(np.quantile(samples, quantile)), found.low, found.high)


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
