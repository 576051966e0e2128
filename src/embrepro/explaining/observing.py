"""What mteb makes of an encoder on one frozen task: its score, what every sample contributed to it, and rankings."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import embrepro.models
from embrepro.config.schema import ModelConfig
from embrepro.embeddings import store
from embrepro.errors import KitError
from embrepro.layout import Layout
from embrepro.models import ModelProperties
from embrepro.regression.revisions import RecordedModel
from embrepro.tasks import encode_requests, freezing, samples, shortcuts
from embrepro.tasks.registry import Request
from embrepro.tasks.samples import Samples

if TYPE_CHECKING:
    from mteb import AbsTask

RANKED = 5
"""Documents that are kept of a query's ranking."""
RankedDocuments = list[tuple[str, float]]
"""Documents and their similarities, the best first."""


@dataclass(frozen=True)
class Observed:
    """One task, scored; `rankings` is of tasks that search, by (split, subset) and query."""

    score: float
    samples: Samples
    rankings: Mapping[tuple[str, str], Mapping[str, RankedDocuments]] = field(default_factory=dict)


def observe(encoder: Any, request: Request, folder: Path, batch_size: int = 32) -> Observed:  # noqa: ANN401 - of mteb's protocols
    """Score a frozen task by mteb.

    Args:
        encoder: a model as mteb takes it.
        request: the task.
        folder: where it lies frozen.
        batch_size: handed on to the encoder.

    Raises:
        TaskError: the frozen data is not as it was written.
    """
    import mteb

    task = freezing.load_frozen(request, folder)
    shortcuts.speed_up(task)
    rankings = _listen(task)
    with samples.collect_samples(task) as collected, shortcuts.installed():
        found = mteb.evaluate(
            encoder,
            task,
            cache=None,
            co2_tracker=False,
            show_progress_bar=False,
            encode_kwargs={"batch_size": batch_size},
        )
    return Observed(float(found.task_results[0].get_score()), collected, rankings)


def from_store(
    layout: Layout, key: str, config: ModelConfig, recorded: RecordedModel, request: Request, of: Samples
) -> Observed | None:
    """Score a task by the embeddings that a run left; no model is loaded.

    Args:
        layout: the run's folders.
        key: the model's.
        config: its configuration.
        recorded: what the run says of it.
        request: the task.
        of: per-sample scores of the run.

    Returns:
        None where there are no embeddings, or they do not give just those per-sample scores.
    """
    path = store.path_of(layout.embeddings(key), request.name)
    if not path.is_file() or config.scores_pairs or recorded.similarity is None:
        return None
    from embrepro.embeddings import replay

    folder = layout.tasks / request.name
    known = ModelProperties(
        dimensions=recorded.dimensions,
        parameters=recorded.parameters or 0,
        max_seq_length=recorded.max_seq_length,
        dtype=str(recorded.dtype),
        normalised=bool(recorded.normalised),
        similarity=recorded.similarity,
    )
    # Embeddings of other texts or of another model are refused on the way, or tell by the scores.
    with suppress(KitError):
        listed = encode_requests.read(folder, freezing.read_manifest(folder))
        stored = store.read(path, len(listed.texts))
        meta = embrepro.models.meta(config, recorded.revision, known)
        found = observe(replay.encoder(listed, stored.embeddings, meta, recorded.similarity), request, folder)
        if found.samples.frame.equals(of.frame):
            return found
    return None


def _listen(task: AbsTask) -> dict[tuple[str, str], dict[str, RankedDocuments]]:
    """Where a task's rankings will stand once it was evaluated."""
    rankings: dict[tuple[str, str], dict[str, RankedDocuments]] = {}
    searching: Any = task
    if not hasattr(task, "task_specific_scores"):
        return rankings
    own = searching.task_specific_scores

    def noted(
        scores: Any,  # noqa: ANN401 - mteb's nested mappings
        qrels: Any,  # noqa: ANN401
        results: Mapping[str, Mapping[str, float]],
        hf_split: str,
        hf_subset: str,
    ) -> Any:  # noqa: ANN401
        rankings[hf_split, hf_subset] = {query: _best(found) for query, found in results.items()}
        return own(scores, qrels, results, hf_split=hf_split, hf_subset=hf_subset)

    searching.task_specific_scores = noted
    return rankings


def _best(found: Mapping[str, float]) -> RankedDocuments:
    return sorted(found.items(), key=lambda one: -one[1])[:RANKED]
