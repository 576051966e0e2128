"""The measurable quantities a claim can be bound to: typed metrics, resolved against the facts of a run.

In a claims file a metric is a mapping with a `kind`; nothing in it is ever executed as code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from embrepro.claims.known_values import EMPTY, SCORED, KnownValues
from embrepro.config.yaml_files import Strict

SpeedKey = Literal[
    "texts_per_second_short",
    "texts_per_second_medium",
    "texts_per_second_long",
    "queries_per_second",
    "latency_p50_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "load_seconds",
    "peak_memory_mb",
]
PropertyKey = Literal["size_mb", "dimensions", "parameters", "max_seq_length"]
Category = Literal[
    "overall",
    "instruction_awareness",
    "semantic_similarity",
    "code_understanding",
    "conversational_understanding",
    "multilingual_alignment",
    "topic_clustering",
]
Operation = Literal[
    "sum", "mean", "weighted_sum", "difference", "product", "ratio", "relative_change", "minimum", "maximum"
]


@dataclass(frozen=True)
class MeasuredValue:
    """A value, or the reason why there is none. A lower bound may only grow when more is measured."""

    value: float | None
    reason: str = ""
    lower_bound: bool = False
    defined: bool = True


class ScoreMetric(Strict):
    """Main score of a model on a task."""

    kind: Literal["score"]
    model: str
    task: str

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return the score, 0-1."""
        if self.model not in facts.scores:
            return _absent_model(self.model, facts.scores)
        value = facts.scores[self.model].get(self.task)
        if value is not None and math.isfinite(value):
            return MeasuredValue(value)
        reason = facts.status.get(self.model, {}).get(self.task, "not requested in this run")
        return MeasuredValue(None, f"{self.task} of {self.model}: {reason}")


class MeanMetric(Strict):
    """Mean main score of a model over tasks; none unless every task has one."""

    kind: Literal["mean"]
    model: str
    tasks: Annotated[list[str], Field(min_length=1)]

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return the mean, 0-1."""
        parts = [ScoreMetric(kind="score", model=self.model, task=task).resolve(facts) for task in self.tasks]
        if missing := [part.reason for part in parts if part.value is None]:
            return MeasuredValue(None, _joined(missing))
        return MeasuredValue(math.fsum(part.value or 0.0 for part in parts) / len(parts))


class ScoredTasksMetric(Strict):
    """How many of the tasks have a score for every one of the models."""

    kind: Literal["scored_tasks"]
    models: Annotated[list[str], Field(min_length=1)]
    tasks: Annotated[list[str], Field(min_length=1)]

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return the count; a lower bound where a task was not evaluated, for want of data for instance."""
        if absent := [model for model in self.models if model not in facts.status]:
            return _absent_model(absent[0], facts.status)
        scored, untried = 0, []
        for task in self.tasks:
            found = [facts.status[model].get(task, "not requested in this run") for model in self.models]
            scored += all(status == SCORED for status in found)
            untried += [f"{task}: {status}" for status in found if not status.startswith((SCORED, EMPTY))][:1]
        if untried and not scored:
            return MeasuredValue(None, _joined(untried))
        return MeasuredValue(float(scored), _joined(untried), lower_bound=bool(untried))


class LegacyMetric(Strict):
    """A category of the custom suite as one of the two older definitions has it."""

    kind: Literal["legacy"]
    model: str
    definition: Literal["first", "second"]
    category: Category

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return the score, 0-1."""
        if self.model not in facts.legacy:
            return _absent_model(self.model, facts.legacy, "has no score by the older definitions of the custom suite")
        value = facts.legacy[self.model].get(self.definition, {}).get(self.category)
        if value is None:
            return MeasuredValue(None, f"the {self.definition} definition gave no {self.category} of {self.model}")
        return MeasuredValue(value)


class SpeedMetric(Strict):
    """A speed of a model, from the benchmark of this run."""

    kind: Literal["speed"]
    model: str
    key: SpeedKey

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return the speed in the unit that its key names."""
        return _looked_up(facts.speed, self.model, self.key, "was not benchmarked in this run")


class PropertyMetric(Strict):
    """Something a model is, as found on disk: `size_mb` counts all its files, 1 MB = 10^6 bytes."""

    kind: Literal["property"]
    model: str
    key: PropertyKey

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return the property's value."""
        return _looked_up(facts.properties, self.model, self.key, "is not in this run")


class BenchmarkSizeMetric(Strict):
    """How many tasks a benchmark of mteb has."""

    kind: Literal["benchmark_size"]
    benchmark: str

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return the number of tasks."""
        if self.benchmark not in facts.benchmarks:
            return MeasuredValue(None, f"the size of {self.benchmark} was not looked up")
        return MeasuredValue(float(facts.benchmarks[self.benchmark]))


class _Pair(Strict):
    left: Metric
    right: Metric

    def _both(self, facts: KnownValues, combine: Callable[[float, float], float]) -> MeasuredValue:
        left, right = self.left.resolve(facts), self.right.resolve(facts)
        if left.value is None or right.value is None:
            return MeasuredValue(None, _joined([part.reason for part in (left, right) if part.value is None]))
        if left.lower_bound or right.lower_bound:
            return MeasuredValue(None, left.reason or right.reason)
        return MeasuredValue(combine(left.value, right.value))


class DifferenceMetric(_Pair):
    """Left minus right."""

    kind: Literal["difference"]

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return the difference in the metrics' unit."""
        return self._both(facts, lambda left, right: left - right)


class RatioMetric(_Pair):
    """Left over right."""

    kind: Literal["ratio"]

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return the ratio."""
        return self._both(facts, lambda left, right: left / right if right else math.inf)


class RelativeChangeMetric(_Pair):
    """(Left - right) / right."""

    kind: Literal["relative_change"]

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return the change as a fraction of the right side."""
        return self._both(facts, lambda left, right: (left - right) / right if right else math.inf)


class ArithmeticMetric(Strict):
    """A recomputation from numbers the document itself or a named source gives; needs no model.

    Operands are in the claim's own unit. `difference` takes all others from the first, `ratio` divides the
    first by the second, `relative_change` is (first - second) / second in percent, `weighted_sum` needs
    `weights` by operand.
    """

    kind: Literal["arithmetic"]
    operation: Operation
    operands: Annotated[dict[str, float], Field(min_length=1)]
    weights: dict[str, float] = Field(default_factory=dict)
    source: str = Field(description="where the operands come from")

    @model_validator(mode="after")
    def _fits(self) -> ArithmeticMetric:
        if (self.operation == "weighted_sum") != bool(self.weights):
            raise ValueError("weights belong to weighted_sum, and to it alone")
        if self.weights and self.weights.keys() != self.operands.keys():
            raise ValueError("weights must name exactly the operands")
        if self.operation in ("ratio", "relative_change") and len(self.operands) != 2:
            raise ValueError(f"{self.operation} takes two operands, got {len(self.operands)}")
        return self

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return the recomputed value, whatever the facts."""
        if self.weights:
            return MeasuredValue(math.fsum(self.weights[name] * value for name, value in self.operands.items()))
        return MeasuredValue(_OPERATIONS[self.operation](list(self.operands.values())))


class Elsewhere(Strict):
    """Something well defined that this kit does not measure."""

    kind: Literal["elsewhere"]
    reason: str

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return no value."""
        return MeasuredValue(None, self.reason)


class Undefined(Strict):
    """A statement that names nothing measurable."""

    kind: Literal["undefined"]
    reason: str

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return no value."""
        return MeasuredValue(None, self.reason, defined=False)


Metric = Annotated[
    ScoreMetric
    | MeanMetric
    | ScoredTasksMetric
    | LegacyMetric
    | SpeedMetric
    | PropertyMetric
    | BenchmarkSizeMetric
    | DifferenceMetric
    | RatioMetric
    | RelativeChangeMetric
    | ArithmeticMetric
    | Elsewhere
    | Undefined,
    Field(discriminator="kind"),
]
FRACTIONS = (ScoreMetric, MeanMetric, LegacyMetric, RelativeChangeMetric)
"""Metrics that resolve to fractions, which a claim in percent or points multiplies by 100."""

_OPERATIONS: dict[str, Callable[[list[float]], float]] = {
    "sum": math.fsum,
    "mean": lambda values: math.fsum(values) / len(values),
    "difference": lambda values: values[0] - math.fsum(values[1:]),
    "product": math.prod,
    "ratio": lambda values: values[0] / values[1],
    "relative_change": lambda values: 100 * (values[0] - values[1]) / values[1],
    "minimum": min,
    "maximum": max,
}


def is_fraction(metric: Metric) -> bool:
    """Whether a metric resolves to a fraction of 1."""
    return isinstance(metric, FRACTIONS) or (isinstance(metric, DifferenceMetric) and is_fraction(metric.left))


def _absent_model(model: str, known: Iterable[str], what: str = "is not in this run") -> MeasuredValue:
    there = ", ".join(sorted(known)) or "none"
    return MeasuredValue(None, f"{model} {what} (there: {there})")


def _looked_up(values: Mapping[str, Mapping[str, float]], model: str, key: str, absent: str) -> MeasuredValue:
    if model not in values:
        return _absent_model(model, values, absent)
    if key not in values[model]:
        return MeasuredValue(None, f"no {key} was recorded for {model}")
    return MeasuredValue(values[model][key])


def _joined(reasons: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(reasons))


for _pair in (DifferenceMetric, RatioMetric, RelativeChangeMetric):
    _pair.model_rebuild()
