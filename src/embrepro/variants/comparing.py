"""Every variant of a model beside the full one: scores, paired differences, bytes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from embrepro.benchmarking.speed import RepeatedMeasure
from embrepro.results import comparison
from embrepro.results.comparison import Scored
from embrepro.results.summary import Interval, ScoreDifference
from embrepro.statistics import estimates
from embrepro.variants.definition import Variant

FULL = "the full model"
_Key = TypeVar("_Key", bound=Hashable)


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ComparedVariant(_Document):
    """One variant, held against the full model."""

    label: str
    dimensions: int
    precision: str | None = Field(description="int8, uint8 or binary; null where the numbers are the model's own")
    rescored: bool
    bytes_per_vector: int
    scores: dict[str, float | None] = Field(description="main score by task, 0-1")
    status: dict[str, str] = Field(description='by task: "scored", or the reason in words')
    mean_task: float | None = Field(description="null as soon as one task is missing")
    differences: dict[str, ScoreDifference] = Field(
        description="variant minus full model by task; p-values corrected for all tasks of all variants"
    )
    mean_difference: ScoreDifference | None = Field(description="its p-value is corrected for the number of variants")
    search_speed: RepeatedMeasure | None = Field(
        default=None,
        description="searches a second, times those of the full model; null where no task searches a corpus",
    )


class SearchedCorpus(_Document):
    """What searches were timed on: the largest corpus of the run."""

    task: str
    documents: int
    queries: int = Field(description="at once")


class VariantsReport(_Document):
    """What variants of a model's stored embeddings scored."""

    model: str = Field(description="the model's key")
    name: str
    revision: str
    content_hash: str
    dimensions: int
    dtype: str
    bytes_per_vector: int
    rescore_multiplier: int
    scores: dict[str, float | None] = Field(description="of the full model")
    mean_task: float | None
    variants: list[ComparedVariant]
    searched: SearchedCorpus | None = None
    packages: dict[str, str]


def compare(
    variant: Variant,
    scored: Mapping[str, Scored],
    full: Mapping[str, Scored],
    status: Mapping[str, str],
    types: Mapping[str, str],
    itemsize: int,
    seed: int,
) -> ComparedVariant:
    """Hold one variant against the full model; p-values are corrected within it alone, until `corrected`.

    Args:
        variant: what was scored.
        scored: its scores by task.
        full: those of the full model.
        status: of each requested task.
        types: mteb's task type by requested task.
        itemsize: bytes of a number of the full embeddings.
        seed: of the resampling.
    """
    by_task, means = comparison.differences(scored, full, types, (variant.label, FULL), seed)
    scores = {task: scored[task].score if task in scored else None for task in types}
    return ComparedVariant(
        label=variant.label,
        dimensions=variant.dimensions,
        precision=variant.precision,
        rescored=variant.rescored,
        bytes_per_vector=variant.bytes_per_vector(itemsize),
        scores=scores,
        status=dict(status),
        mean_task=comparison.means(scores, types).mean_task,
        differences=by_task,
        mean_difference=means.mean_task,
    )


def corrected(found: Sequence[ComparedVariant]) -> list[ComparedVariant]:
    """The same with p-values corrected over all variants (Holm): those of tasks together, those of means together."""
    tasks = {(place, task): each for place, one in enumerate(found) for task, each in one.differences.items()}
    means = {place: one.mean_difference for place, one in enumerate(found) if one.mean_difference}
    of_tasks, of_means = _corrected(tasks), _corrected(means)
    return [
        one.model_copy(
            update={
                "differences": {task: of_tasks[place, task] for task in one.differences},
                "mean_difference": of_means.get(place),
            }
        )
        for place, one in enumerate(found)
    ]


def _corrected(differences: Mapping[_Key, ScoreDifference]) -> dict[_Key, ScoreDifference]:
    tested = {key: each.p_value for key, each in differences.items() if each.p_value is not None}
    adjusted = dict(zip(tested, estimates.holm(list(tested.values())), strict=True))
    return {key: _with(each, adjusted[key]) if key in adjusted else each for key, each in differences.items()}


def _with(each: ScoreDifference, p: float) -> ScoreDifference:
    interval = each.interval or Interval(low=0.0, high=0.0)
    certain = p < 0.05 and (interval.low > 0 or interval.high < 0)
    outcome = ("better" if each.estimate > 0 else "worse") if certain else "not distinguishable"
    title = each.sentence.partition(":")[0]
    sentence = (
        f"{title}: {outcome} ({each.estimate:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}], adjusted p = {p:.3g})."
    )
    return each.model_copy(update={"p_adjusted": p, "outcome": outcome, "sentence": sentence})
