"""The measurable quantities a claim can be bound to: typed metrics, resolved against the facts of a run.

In a claims file a metric is a mapping with a `kind`; nothing in it is ever executed as code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from embrepro.cases.records import CaseRun
from embrepro.claims.known_values import EMPTY, SCORED, KnownValues
from embrepro.config.messages import suggest
from embrepro.config.model_files import FIGURES, PROPERTIES
from embrepro.config.yaml_files import Strict
from embrepro.results.quantities import QuantityName

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


class _Metric(Strict):
    """What every kind of metric says of itself; `resolve` gives its value, or the reason why there is none."""

    @property
    def is_fraction(self) -> bool:
        """Whether it resolves to a fraction of 1, which a claim in percent or points multiplies by 100."""
        return False

    @property
    def stated_in(self) -> str | None:
        """Where the numbers stand that it rests on; None where it rests on what a run measured."""
        return None

    def named_scores(self) -> Iterator[ScoreMetric]:
        """The scores in it that are read from mteb's result files by their name."""
        yield from ()


class ScoreMetric(_Metric):
    """Main score of a model on a task; or, with `measure`, any number of mteb's result file."""

    kind: Literal["score"]
    model: str
    task: str
    measure: str | None = Field(default=None, description="name in mteb's result file, such as mrr_at_10")
    split: str | None = Field(default=None, description="where the file has several splits; needs measure")
    subset: str | None = Field(default=None, description="where the file has several subsets; needs measure")

    @model_validator(mode="after")
    def _names_a_measure(self) -> ScoreMetric:
        if self.measure is None and (self.split or self.subset):
            raise ValueError("split and subset choose among the numbers of a measure; name the measure too")
        return self

    @property
    def is_fraction(self) -> bool:
        """A score is one."""
        return True

    def named_scores(self) -> Iterator[ScoreMetric]:
        """Itself, where it names a measure."""
        if self.measure is not None:
            yield self

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return the score, 0-1."""
        if self.measure is not None:
            return self._named(facts, self.measure)
        if self.model not in facts.scores:
            return _absent_model(self.model, facts.scores)
        value = facts.scores[self.model].get(self.task)
        if value is not None and math.isfinite(value):
            return MeasuredValue(value)
        reason = facts.status.get(self.model, {}).get(self.task, "not requested in this run")
        return MeasuredValue(None, f"{self.task} of {self.model}: {reason}")

    def _named(self, facts: KnownValues, measure: str) -> MeasuredValue:
        where = f"{self.task} of {self.model}"
        if self.model not in facts.numbers:
            return _absent_model(self.model, facts.numbers, "has no result files in this run")
        rows = facts.numbers[self.model].get(self.task, [])
        rows = [row for row in rows if self.split in (None, row.split) and self.subset in (None, row.subset)]
        if not rows:
            return MeasuredValue(None, f"{where}: no result of this split and subset in this run")
        found = [row for row in rows if measure in row.numbers]
        if not found:
            known = sorted({name for row in rows for name in row.numbers})
            return MeasuredValue(None, f"{where}: no measure {measure}{suggest(measure, known)}")
        if len(found) > 1:
            places = ", ".join(f"{row.split}/{row.subset}" for row in found)
            return MeasuredValue(None, f"{where}: {measure} stands in {places}; name the split and the subset")
        return MeasuredValue(found[0].numbers[measure])


class MeanMetric(_Metric):
    """Mean score of a model over tasks; none unless every task has one."""

    kind: Literal["mean"]
    model: str
    tasks: Annotated[list[str | list[str]], Field(min_length=1, description="a list in it counts as one, by its mean")]
    measures: dict[str, str] = Field(
        default_factory=dict, description="task -> name in mteb's result file; else the main score"
    )

    @model_validator(mode="after")
    def _measures_of_its_tasks(self) -> MeanMetric:
        known = [score.task for group in self.scores() for score in group]
        if unknown := sorted(self.measures.keys() - set(known)):
            raise ValueError(f"measures names {unknown[0]}, which is none of the tasks{suggest(unknown[0], known)}")
        return self

    def scores(self) -> list[list[ScoreMetric]]:
        """The scores that are averaged: those of each inner list first."""
        return [[self._score(task) for task in (entry if isinstance(entry, list) else [entry])] for entry in self.tasks]

    @property
    def is_fraction(self) -> bool:
        """A mean of scores is one."""
        return True

    def named_scores(self) -> Iterator[ScoreMetric]:
        """Those of its tasks."""
        for group in self.scores():
            for score in group:
                yield from score.named_scores()

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return the mean, 0-1."""
        found = [[score.resolve(facts) for score in group] for group in self.scores()]
        if missing := [each.reason for group in found for each in group if each.value is None]:
            return MeasuredValue(None, _joined(missing))
        return MeasuredValue(_mean([_mean([each.value or 0.0 for each in group]) for group in found]))

    def _score(self, task: str) -> ScoreMetric:
        return ScoreMetric(kind="score", model=self.model, task=task, measure=self.measures.get(task))


class ScoredTasksMetric(_Metric):
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


class _OfCase(_Metric):
    case: Literal["languages"]
    models: Annotated[list[str], Field(min_length=1)]
    tasks: Annotated[list[str], Field(min_length=1)]
    language: Literal["en", "eng"] = Field(description="the code that mteb was asked for")

    def _runs(self, facts: KnownValues) -> tuple[list[list[CaseRun]], list[str]]:
        """The runs of each task that was run for every model, and why others were not."""
        record = facts.cases.get(self.case)
        if record is None:
            return [], [f"the case was not run: embrepro case {self.case}"]
        if record.problem:
            return [], [f"the case {self.case} could not be run: {record.problem}"]
        if absent := sorted(set(self.models) - record.models.keys()):
            there = ", ".join(record.models)
            return [], [f"{absent[0]} is not in the record of the case (there: {there}): embrepro case {self.case}"]
        found, missing = [], []
        for task in self.tasks:
            runs = [
                each
                for each in record.runs
                if each.task == task and each.language == self.language and each.model in self.models
            ]
            if len(runs) == len(self.models):
                found.append(runs)
            else:
                missing.append(f"{task} is not in the record of the case")
        return found, missing


class CaseTasksMetric(_OfCase):
    """How many of the tasks have a score for every one of the models in a case that ran another version of mteb."""

    kind: Literal["case_tasks"]

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return the count; a lower bound where a task was not run."""
        found, missing = self._runs(facts)
        if not found:
            return MeasuredValue(None, _joined(missing))
        scored = sum(all(run.score is not None for run in runs) for runs in found)
        if missing and not scored:
            return MeasuredValue(None, _joined(missing))
        return MeasuredValue(float(scored), _joined(missing), lower_bound=bool(missing))


class CaseSecondsMetric(_OfCase):
    """The longest evaluation time of the tasks in a case, as that version of mteb wrote it."""

    kind: Literal["case_seconds"]

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return seconds."""
        found, missing = self._runs(facts)
        seconds = [run.seconds for runs in found for run in runs]
        if missing or None in seconds:
            return MeasuredValue(None, _joined(missing) or "mteb left no result file")
        return MeasuredValue(max(value for value in seconds if value is not None))


class CaseErrorsMetric(_OfCase):
    """How many of the runs of a case ended with an error that mteb raised."""

    kind: Literal["case_errors"]

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return the number of runs."""
        found, missing = self._runs(facts)
        if missing:
            return MeasuredValue(None, _joined(missing))
        return MeasuredValue(float(sum(run.error is not None for runs in found for run in runs)))


class LegacyMetric(_Metric):
    """A category of the custom evaluation as one of the two older definitions has it, on its own items or the suite's."""

    kind: Literal["legacy"]
    model: str
    definition: Literal["first", "second"]
    category: Category
    items: Literal["origin", "suite"] = Field(
        description="origin: those that the definition came with; suite: this kit's"
    )

    @property
    def is_fraction(self) -> bool:
        """A score is one."""
        return True

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return the score, 0-1."""
        known = facts.origin if self.items == "origin" else facts.legacy
        whose = "the analysis's own items" if self.items == "origin" else "the custom suite"
        if self.model not in known:
            return _absent_model(self.model, known, f"has no score by the older definitions on {whose}")
        found = known[self.model].get(self.definition, {})
        if isinstance(found, str):
            return MeasuredValue(None, f"{whose} of {self.model}: {found}")
        if self.category not in found:
            return MeasuredValue(None, f"the {self.definition} definition gave no {self.category} of {self.model}")
        return MeasuredValue(found[self.category])


class QuantityMetric(_Metric):
    """One of the measurable quantities of a model, such as its size or its latency."""

    kind: Literal["quantity"]
    model: str
    name: QuantityName

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return the value in the quantity's unit."""
        if self.model not in facts.quantities:
            return _absent_model(self.model, facts.quantities)
        found = facts.quantities[self.model].get(self.name, f"{self.name} of {self.model}: not recorded")
        return MeasuredValue(None, found) if isinstance(found, str) else MeasuredValue(found)


class BenchmarkSizeMetric(_Metric):
    """How many tasks a benchmark of mteb has."""

    kind: Literal["benchmark_size"]
    benchmark: str

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return the number of tasks."""
        if self.benchmark not in facts.benchmarks:
            return MeasuredValue(None, f"the size of {self.benchmark} was not looked up")
        return MeasuredValue(float(facts.benchmarks[self.benchmark]))


class _Pair(_Metric):
    left: Metric
    right: Metric

    def named_scores(self) -> Iterator[ScoreMetric]:
        """Those of both sides."""
        yield from self.left.named_scores()
        yield from self.right.named_scores()

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

    @property
    def is_fraction(self) -> bool:
        """Where its sides are."""
        return self.left.is_fraction

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

    @property
    def is_fraction(self) -> bool:
        """A change is one."""
        return True

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return the change as a fraction of the right side."""
        return self._both(facts, lambda left, right: (left - right) / right if right else math.inf)


class ArithmeticMetric(_Metric):
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

    @property
    def stated_in(self) -> str:
        """Its source."""
        return self.source

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return the recomputed value, whatever the facts."""
        if self.weights:
            return MeasuredValue(math.fsum(self.weights[name] * value for name, value in self.operands.items()))
        return MeasuredValue(_OPERATIONS[self.operation](list(self.operands.values())))


class FiguresMetric(_Metric):
    """The least or greatest published figure of all models that a source lists; needs no run."""

    kind: Literal["figures"]
    figure: str = Field(description="of `config.model_files`, or dimensions, max_seq_length, size_mb")
    operation: Literal["minimum", "maximum", "count"]
    source: str = Field(description="how the source of the figures begins; the whole table, not chosen rows")

    @field_validator("figure")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in (known := (*FIGURES, *PROPERTIES)):
            raise ValueError(f"no published figure is called '{name}'{suggest(name, known)}")
        return name

    @property
    def stated_in(self) -> str:
        """Its source."""
        return self.source

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return the figure in its own unit, or how many models have one."""
        found = [each for each in facts.figures if each.figure == self.figure and each.source.startswith(self.source)]
        if not found:
            return MeasuredValue(None, f"no model of conf/model has {self.figure} from {self.source}")
        if self.operation == "count":
            return MeasuredValue(float(len(found)))
        chosen = (min if self.operation == "minimum" else max)(found, key=lambda each: each.value)
        return MeasuredValue(chosen.value, f"{chosen.model}, of {len(found)} models")


class Elsewhere(_Metric):
    """Something well defined that this kit does not measure."""

    kind: Literal["elsewhere"]
    reason: str

    def resolve(self, facts: KnownValues) -> MeasuredValue:
        """Return no value."""
        return MeasuredValue(None, self.reason)


class Undefined(_Metric):
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
    | CaseTasksMetric
    | CaseSecondsMetric
    | CaseErrorsMetric
    | LegacyMetric
    | QuantityMetric
    | BenchmarkSizeMetric
    | DifferenceMetric
    | RatioMetric
    | RelativeChangeMetric
    | ArithmeticMetric
    | FiguresMetric
    | Elsewhere
    | Undefined,
    Field(discriminator="kind"),
]

_OPERATIONS: dict[str, Callable[[list[float]], float]] = {
    "sum": math.fsum,
    "mean": lambda values: _mean(values),
    "difference": lambda values: values[0] - math.fsum(values[1:]),
    "product": math.prod,
    "ratio": lambda values: values[0] / values[1],
    "relative_change": lambda values: 100 * (values[0] - values[1]) / values[1],
    "minimum": min,
    "maximum": max,
}


def _absent_model(model: str, known: Iterable[str], what: str = "is not in this run") -> MeasuredValue:
    there = ", ".join(sorted(known)) or "none"
    return MeasuredValue(None, f"{model} {what} (there: {there})")


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _joined(reasons: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(reasons))


for _pair in (DifferenceMetric, RatioMetric, RelativeChangeMetric):
    _pair.model_rebuild()
