"""What a run found, as one typed document: the aggregate stage writes it, the report and the pull-request table read it.

Everything in it follows from the inputs alone, so two runs give the same bytes; times, commits and machines belong to
`results.provenance`. Scores are main scores on mteb's 0-1 scale, intervals are 95 % intervals.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from embrepro.tasks.first_stage import FirstStage

Role = Literal["baseline", "candidate", "other"]
Outcome = Literal["better", "worse", "not distinguishable", "not tested"]
"""Of a difference; "not tested" where no test could be made, which says nothing about the size of the difference."""


ClaimVerdict = Literal["reproduced", "refuted", "not measured", "not defined"]
"""Of a claim of a document."""


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Interval(_Document):
    """A 95 % confidence interval."""

    low: float
    high: float


class Cell(_Document):
    """One model on one task: a score, or the reason why there is none."""

    status: str = Field(description='"scored", or the reason in words')
    score: float | None = Field(default=None, description="main score, 0-1")
    interval: Interval | None = None
    samples: int | None = Field(default=None, description="queries, pairs or documents that were scored")
    first_stage: FirstStage | None = Field(default=None, description="what a cross-encoder's documents were ranked by")


class ScoreDifference(_Document):
    """Candidate minus baseline on one task, paired by sample, or of a mean over tasks."""

    estimate: float
    interval: Interval | None = None
    p_value: float | None = None
    p_adjusted: float | None = Field(default=None, description="corrected for the number of tasks")
    effect_size: float | None = None
    outcome: Outcome
    sentence: str


class TaskRow(_Document):
    """One requested task."""

    name: str
    type: str = Field(description="mteb's task type, such as Classification")
    metric: str = Field(description="name of the main score in mteb, such as ndcg_at_10")
    languages: list[str] = Field(default_factory=list, description="ISO 639-3 codes")
    splits: list[str] = Field(default_factory=list)
    subsets: list[str] = Field(default_factory=list)
    title: str | None = Field(default=None, description="category of the custom suite")
    repository: str | None = None
    revision: str | None = None
    source: str | None = Field(default=None, description="what served the data: mirror, hub, package")
    licence: str | None = None
    pinned: bool | None = Field(
        default=None, description="whether every row that was scored is that of a pin; null where there is no data"
    )
    data_hash: str | None = None
    cells: dict[str, Cell] = Field(description="by model key")
    difference: ScoreDifference | None = None


class Means(_Document):
    """Means of main scores; null where any requested task is missing."""

    mean_task: float | None
    mean_type: float | None
    by_type: dict[str, float | None]


class MeanDifferences(_Document):
    """Candidate minus baseline of the means over whole sets of tasks, each tested by itself.

    Null where a task is missing or its score has no per-sample scores to test with.
    """

    mean_task: ScoreDifference | None = None
    mean_type: ScoreDifference | None = None
    by_type: dict[str, ScoreDifference] = Field(default_factory=dict)


class RankedModel(_Document):
    """One of three or more models, in the order of their means over tasks."""

    key: str
    mean_task: float
    rank: int = Field(description="1 for the highest mean over tasks")
    rank_low: int = Field(description="least rank that the data leaves possible, at 95 % for all models at once")
    rank_high: int
    groups: list[int] = Field(description="places in `Ranking.groups`")
    wins: int = Field(description="comparisons with another model on a task that it wins beyond doubt")
    losses: int
    comparisons: int = Field(description="of one model with each other on each task")
    best_on: list[str] = Field(description="tasks on which no score is higher")
    by_averaging: dict[str, int] = Field(description="its rank by each way of averaging tasks")
    without_a_task: tuple[int, int] | None = Field(description="least and greatest rank when any one task is left out")


class ModelPair(_Document):
    """Two models: the difference of their means over tasks, tested together with all other pairs."""

    one: str
    other: str
    difference: float
    standard_error: float
    p_adjusted: float
    distinct: bool
    detectable: float = Field(description="true difference that this data shows in four of five cases")


class Ranking(_Document):
    """Three or more models that have a score on every requested task."""

    models: list[RankedModel]
    unranked: dict[str, str] = Field(description="model -> why it has no rank")
    groups: list[list[str]] = Field(description="largest sets of models of which no two can be told apart")
    pairs: list[ModelPair]
    best_by_type: dict[str, list[str]] = Field(description="task type -> the best model, and those like it")
    detectable: float = Field(description="median over the pairs of the difference that can be detected")
    untested: dict[str, str] = Field(description="task whose scores count without uncertainty -> why")


class ModelCard(_Document):
    """What a model is, as found on disk."""

    key: str
    name: str = Field(description="organisation/name")
    role: Role
    family: str
    revision: str
    source: str
    content_hash: str
    licence: str | None = None
    dimensions: int | None = None
    parameters: int | None = None
    max_seq_length: int | None = Field(default=None, description="tokens; null where unlimited")
    dtype: str | None = None
    normalised: bool | None = None
    similarity: str | None = None
    active_dimensions: dict[str, float] = Field(
        default_factory=dict, description="of a sparse model: mean number that is not zero, by mteb's prompt kind"
    )
    index_mb: dict[str, float] = Field(
        default_factory=dict,
        description="of a sparse model: size of an index of all tasks' texts, by mteb's prompt kind",
    )
    size_mb: float | None = Field(default=None, description="files on disk, 1 MB = 10^6 bytes")
    distilled_from: str | None = None
    recipe: dict[str, str | int | float | bool | None] = Field(default_factory=dict)


class NanoBeirScores(_Document):
    """What sentence-transformers' own NanoBEIR evaluator found of a model, under its own names."""

    model: str
    status: str = Field(description='"scored", or the reason in words why there is no aggregate')
    evaluator: str | None = Field(default=None, description="the library's class")
    primary_metric: str | None = None
    scores: dict[str, float] = Field(default_factory=dict, description="such as NanoMSMARCO_cosine_ndcg@10")


class SparsityRow(_Document):
    """Embeddings of a sparse model: one task's distinct texts of one of mteb's prompt kinds."""

    model: str
    task: str
    prompt: str = Field(description="query, document, or nothing where a task makes no difference")
    texts: int
    active_dimensions: float = Field(description="mean number that is not zero")
    sparsity: float = Field(description="share of dimensions that are zero, 0-1")
    index_mb: float = Field(
        description="of an inverted index with a 32-bit text number and a 32-bit weight for each value that is not zero,"
        " uncompressed, 1 MB = 10^6 bytes"
    )


class Histogram(_Document):
    """Similarities of positive and of negative pairs of one model on one task."""

    task: str
    model: str
    edges: list[float] = Field(description="n + 1 bin edges")
    positives: list[int] = Field(description="n counts")
    negatives: list[int] = Field(description="n counts")


class LegacyScore(_Document):
    """The custom suite scored by the analysis's two definitions, beside the score that deserves trust."""

    model: str
    category: str
    task: str
    trusted: float | None
    first: float | None
    second: float | None


class OriginScores(_Document):
    """A model by one of the analysis's two definitions, on the analysis's own items."""

    model: str
    definition: Literal["first", "second"]
    status: str = Field(description='"scored", or the reason in words')
    scores: dict[str, float] = Field(default_factory=dict, description="by category, and overall; 0-1")


class ClaimRow(_Document):
    """A claim and its verdict."""

    id: str
    says: str
    claimed: str
    measured: str
    published: str
    verdict: ClaimVerdict
    explanation: str
    basis: str = Field(description='"measured" by this run, "recomputed" from stated numbers, or nothing')


class Recommendation(_Document):
    """The winner for one use case; `winner` is a model key, or null for a tie or where a measurement is missing."""

    use_case: str
    winner: str | None
    outcome: str = Field(description='"candidate", "baseline", "tie" or "not measured"')
    reason: str
    claimed: str | None = Field(default=None, description="the winner by a document about the same two models")


class Suite(_Document):
    """The version of the custom suite that was run."""

    version: str
    content_hash: str


class Summary(_Document):
    """Everything a run found."""

    baseline: str
    candidate: str
    models: dict[str, ModelCard]
    tasks: list[TaskRow]
    means: dict[str, Means]
    mean_differences: MeanDifferences = MeanDifferences()
    ranking: Ranking | None = Field(default=None, description="of three or more models; null for two")
    histograms: list[Histogram] = Field(default_factory=list)
    nanobeir: list[NanoBeirScores] = Field(default_factory=list)
    sparsity: list[SparsityRow] = Field(default_factory=list)
    legacy: list[LegacyScore] = Field(default_factory=list)
    origin: list[OriginScores] = Field(
        default_factory=list, description="the analysis's own evaluation; it enters no mean and no comparison"
    )
    claims: list[ClaimRow] = Field(default_factory=list)
    recommendations: list[Recommendation] = Field(default_factory=list)
    suite: Suite | None = None
    packages: dict[str, str] = Field(default_factory=dict, description="versions of the packages a score depends on")
    recipe: dict[str, str | int | None] = Field(default_factory=dict, description="device, threads, dtype")
    seed: int | None = Field(default=None, description="of intervals and tests; null where it was not recorded")
    made_for: dict[str, str] = Field(default_factory=dict, description="parameter -> SHA-256 of its value")


def metrics(summary: Summary) -> dict[str, Any]:
    """The DVC metric: scores, means and status by model key; null and a reason where there is no score.

    The candidate, the baseline and their difference stand beside them under names that are the same in every run, so that
    `dvc exp show` has columns to sort by and `dvc metrics diff` compares like with like.

    A model that NanoBEIR's own evaluator was run for has its scores as well, and a sparse one its sparsity by task. The
    analysis's own evaluation stands apart, where it was asked for.
    """
    nanobeir = {found.model: found.scores for found in summary.nanobeir}
    roles = {"candidate": summary.candidate, "baseline": summary.baseline}
    tested = summary.mean_differences
    return {
        **{role: _role_metrics(summary, key) for role, key in roles.items()},
        "difference": {
            "mean_task": tested.mean_task.estimate if tested.mean_task else None,
            "mean_type": tested.mean_type.estimate if tested.mean_type else None,
        },
        "models": {
            key: {
                "scores": {row.name: row.cells[key].score for row in summary.tasks},
                "mean_task": summary.means[key].mean_task,
                "mean_type": summary.means[key].mean_type,
                **({"nanobeir": nanobeir[key]} if key in nanobeir else {}),
                **({"sparsity": sparsity} if (sparsity := _sparsity_metrics(summary, key)) else {}),
            }
            for key in summary.models
        },
        "status": {key: {row.name: row.cells[key].status for row in summary.tasks} for key in summary.models},
        **({"origin": _origin_metrics(summary)} if summary.origin else {}),
    }


def _origin_metrics(summary: Summary) -> dict[str, dict[str, float | None]]:
    return {
        key: {each.definition: each.scores.get("overall") for each in summary.origin if each.model == key}
        for key in summary.models
    }


def _sparsity_metrics(summary: Summary, key: str) -> dict[str, dict[str, dict[str, float]]]:
    found: dict[str, dict[str, dict[str, float]]] = {}
    for row in summary.sparsity:
        if row.model == key:
            values = row.model_dump(include={"active_dimensions", "sparsity", "index_mb"})
            found.setdefault(row.task, {})[row.prompt or "text"] = values
    return found


def _role_metrics(summary: Summary, key: str) -> dict[str, Any]:
    card, means = summary.models[key], summary.means[key]
    return {
        "model": key,
        "mean_task": means.mean_task,
        "mean_type": means.mean_type,
        "size_mb": card.size_mb,
        "parameters": card.parameters,
        "dimensions": card.dimensions,
    }
