"""What is known when claims are judged: measured and published values in plain dictionaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from embrepro.benchmarking.speed import ModelSpeed, SpeedReport
from embrepro.results.summary import LegacyScore, ModelCard, TaskRow

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
    speed: dict[str, dict[str, float]] = Field(default_factory=dict, description="model, one of metrics.SpeedKey")
    properties: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="model, one of metrics.PropertyKey"
    )
    published: dict[str, dict[str, float]] = Field(default_factory=dict, description="model, task")
    benchmarks: dict[str, int] = Field(default_factory=dict, description="mteb's benchmark: number of tasks")

    def as_published(self) -> KnownValues:
        """The published scores in the place of the measured ones, and nothing else that was measured."""
        status = {model: dict.fromkeys(tasks, SCORED) for model, tasks in self.published.items()}
        scores: dict[str, dict[str, float | None]] = {model: dict(tasks) for model, tasks in self.published.items()}
        return KnownValues(scores=scores, status=status)


def collect(
    tasks: Sequence[TaskRow],
    models: Mapping[str, ModelCard],
    *,
    legacy: Sequence[LegacyScore] = (),
    speed: SpeedReport | None = None,
    published: Mapping[str, Mapping[str, float]] | None = None,
    benchmarks: Mapping[str, int] | None = None,
) -> KnownValues:
    """Gather the facts of a run from what its stages wrote.

    Args:
        tasks: the requested tasks with a cell for every model.
        models: model cards by model key.
        legacy: rows of the custom suite by the older definitions; the category "overall" is the weighted
        sum.
        speed: the benchmark of this run, if it was run.
        published: main scores by model key and task.
        benchmarks: number of tasks by mteb's benchmark name.
    """
    by_definition: dict[str, dict[str, dict[str, float]]] = {}
    for row in legacy:
        for definition, value in (("first", row.first), ("second", row.second)):
            if value is not None:
                parts = by_definition.setdefault(row.model, {}).setdefault(definition, {})
                parts[row.category.lower().replace(" ", "_")] = value
    return KnownValues(
        scores={key: {row.name: row.cells[key].score for row in tasks if key in row.cells} for key in models},
        status={key: {row.name: row.cells[key].status for row in tasks if key in row.cells} for key in models},
        legacy=by_definition,
        speed={key: speed_values(found) for key, found in (speed.models if speed else {}).items()},
        properties={key: _properties(card) for key, card in models.items()},
        published={model: dict(scores) for model, scores in (published or {}).items()},
        benchmarks=dict(benchmarks or {}),
    )


def speed_values(speed: ModelSpeed) -> dict[str, float]:
    """The speed of a model by key; throughput of a length class is that of its fastest batch size."""
    values = {
        "latency_p50_ms": speed.latency.p50,
        "latency_p95_ms": speed.latency.p95,
        "latency_p99_ms": speed.latency.p99,
        "queries_per_second": 1000 / speed.latency.p50,
        "load_seconds": speed.load_seconds.median,
        "peak_memory_mb": speed.peak_memory_mb,
    }
    for throughput in speed.throughput:
        key = f"texts_per_second_{throughput.length}"
        values[key] = max(values.get(key, 0.0), throughput.texts_per_second.median)
    return values


def _properties(card: ModelCard) -> dict[str, float]:
    known = {
        "size_mb": card.size_mb,
        "dimensions": card.dimensions,
        "parameters": card.parameters,
        "max_seq_length": card.max_seq_length,
    }
    return {key: float(value) for key, value in known.items() if value is not None}
