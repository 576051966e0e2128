"""What is known when claims are judged: measured and published values in plain dictionaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from embrepro.benchmarking.speed import SpeedReport
from embrepro.cases.records import CaseRecord
from embrepro.config.model_files import PublishedValue
from embrepro.results.quantities import QUANTITIES, Measurements, read_quantity
from embrepro.results.result_files import ResultNumbers
from embrepro.results.summary import LegacyScore, ModelCard, OriginScores, TaskRow

SCORED = "scored"
EMPTY = "empty scores"
"""How the status of a task begins that was evaluated and came out with no score at all."""


class KnownValues(BaseModel):
    """Measured values of a run, and published ones beside them.

    Models go by their names in `conf/model`, tasks by mteb's names. Scores are main scores, 0-1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scores: dict[str, dict[str, float | None]] = Field(default_factory=dict, description="model, task")
    status: dict[str, dict[str, str]] = Field(
        default_factory=dict, description='model, task: "scored", or the reason why there is no score'
    )
    legacy: dict[str, dict[str, dict[str, float]]] = Field(
        default_factory=dict, description="model, definition (first, second), category or overall"
    )
    origin: dict[str, dict[str, dict[str, float] | str]] = Field(
        default_factory=dict, description="as legacy, on the analysis's own items; or the reason why there is none"
    )
    numbers: dict[str, dict[str, list[ResultNumbers]]] = Field(
        default_factory=dict, description="model, task: every number of mteb's result file"
    )
    quantities: dict[str, dict[str, float | str]] = Field(
        default_factory=dict, description="model, one of results.quantities: value, or the reason why there is none"
    )
    published: dict[str, dict[str, float]] = Field(default_factory=dict, description="model, task")
    figures: list[PublishedValue] = Field(default_factory=list, description="what others publish of the models")
    cases: dict[str, CaseRecord] = Field(default_factory=dict, description="records of cases, by the case's name")
    benchmarks: dict[str, int] = Field(default_factory=dict, description="mteb's benchmark: number of tasks")

    def as_published(self) -> KnownValues:
        """The published scores in the place of the measured ones, and nothing else that was measured."""
        status = {model: dict.fromkeys(tasks, SCORED) for model, tasks in self.published.items()}
        scores: dict[str, dict[str, float | None]] = {model: dict(tasks) for model, tasks in self.published.items()}
        return KnownValues(scores=scores, status=status)


def collect_known_values(
    tasks: Sequence[TaskRow],
    models: Mapping[str, ModelCard],
    *,
    legacy: Sequence[LegacyScore] = (),
    origin: Sequence[OriginScores] = (),
    speed: SpeedReport | None = None,
    numbers: Mapping[str, Mapping[str, list[ResultNumbers]]] | None = None,
    published: Mapping[str, Mapping[str, float]] | None = None,
    figures: Sequence[PublishedValue] = (),
    cases: Mapping[str, CaseRecord] | None = None,
    benchmarks: Mapping[str, int] | None = None,
) -> KnownValues:
    """Gather the facts of a run from what its stages wrote.

    Args:
        tasks: the requested tasks with a cell for every model.
        models: model cards by model key.
        legacy: rows of the custom suite by the older definitions; the category "overall" is the weighted
        sum.
        origin: the analysis's own evaluation on its own items.
        speed: the benchmark of this run, if it was run.
        numbers: every number of the result files that claims ask for, by model key and task.
        published: main scores by model key and task.
        figures: what others publish of the models.
        cases: records of other versions of mteb, by the case's name.
        benchmarks: number of tasks by mteb's benchmark name.
    """
    by_definition: dict[str, dict[str, dict[str, float]]] = {}
    for row in legacy:
        for definition, value in (("first", row.first), ("second", row.second)):
            if value is not None:
                parts = by_definition.setdefault(row.model, {}).setdefault(definition, {})
                parts[row.category.lower().replace(" ", "_")] = value
    by_origin: dict[str, dict[str, dict[str, float] | str]] = {}
    for each in origin:
        by_origin.setdefault(each.model, {})[each.definition] = dict(each.scores) or each.status
    return KnownValues(
        scores={key: {row.name: row.cells[key].score for row in tasks if key in row.cells} for key in models},
        status={key: {row.name: row.cells[key].status for row in tasks if key in row.cells} for key in models},
        legacy=by_definition,
        origin=by_origin,
        numbers={model: dict(tasks) for model, tasks in (numbers or {}).items()},
        quantities={key: _quantities(key, models, speed) for key in models},
        published={model: dict(scores) for model, scores in (published or {}).items()},
        figures=list(figures),
        cases=dict(cases or {}),
        benchmarks=dict(benchmarks or {}),
    )


def _quantities(key: str, models: Mapping[str, ModelCard], speed: SpeedReport | None) -> dict[str, float | str]:
    found = Measurements(models.get(key), speed.models.get(key) if speed else None)
    readings = {name: read_quantity(name, key, found) for name in QUANTITIES}
    return {name: one if isinstance(one, str) else one.value for name, one in readings.items()}
