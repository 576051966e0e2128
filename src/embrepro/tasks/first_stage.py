"""The ranking that a cross-encoder reranks in a retrieval task: the first documents that BM25 finds for each query.

A cross-encoder cannot search, so mteb's way (and that of sentence-transformers' NanoBEIR evaluator) is to give it what a
first stage found. BM25 is mteb's own (`mteb/baseline-bm25s`: Lucene's variant, k1 1.5, b 0.75, stop words and stemming of
the task's language), and the two are joined by mteb's own `convert_to_reranking`. A relevant document that BM25 does not
find among its first ones stays lost, as it would in use (that evaluator adds such documents unless it is told not to).
"""

from __future__ import annotations

import json
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from embrepro.errors import KitError
from embrepro.files import scratch_folder, write_text

if TYPE_CHECKING:
    from mteb import AbsTask

FILE = "first_stage.json"
MODEL = "mteb/baseline-bm25s"


class FirstStage(BaseModel):
    """What ranked the documents first, and how well, or why it could not."""

    model: str
    depth: int = Field(description="documents a query")
    score: float | None = Field(default=None, description="its own main score, 0-1")
    failure: str | None = None


def is_searched(task: AbsTask) -> bool:
    """Whether a task searches a corpus; one with scores of its own, which may need every document, does not count."""
    from mteb.abstasks import AbsTaskRetrieval

    return (
        isinstance(task, AbsTaskRetrieval)
        and task.metadata.type == "Retrieval"
        and type(task).task_specific_scores is AbsTaskRetrieval.task_specific_scores
    )


def rank(task: AbsTask, folder: Path, depth: int) -> FirstStage:
    """Write BM25's first `depth` documents of every query to `folder`, in mteb's layout.

    Its failure (mteb's BM25 reads no dialogues, for one) is no reason to lose the task for models that need no first stage.

    Raises:
        OSError, MemoryError: the machine's trouble, not the task's; the next run is to try again.
    """
    try:
        return FirstStage(model=MODEL, depth=depth, score=_rank(task, folder, depth))
    except (KitError, OSError, MemoryError):
        raise
    except Exception as error:
        return FirstStage(model=MODEL, depth=depth, failure=f"{type(error).__name__}: {error}")


def _rank(task: AbsTask, folder: Path, depth: int) -> float:
    import mteb

    # mteb's BM25 shows bars whatever it is told
    with scratch_folder() as predictions, redirect_stderr(StringIO()):
        result = mteb.evaluate(
            mteb.get_model(MODEL),
            task,
            cache=None,
            co2_tracker=False,
            show_progress_bar=False,
            prediction_folder=str(predictions),
        ).task_results[0]
        (path,) = predictions.iterdir()
        found = json.loads(path.read_text(encoding="utf-8"))
    for subset in found.keys() - {"mteb_model_meta"}:
        for queries in found[subset].values():
            for query, scores in queries.items():
                queries[query] = dict(sorted(scores.items(), key=lambda item: item[1], reverse=True)[:depth])
    write_text(folder / FILE, json.dumps(found) + "\n")
    return float(result.main_score)


def attach(task: Any, folder: Path) -> None:  # noqa: ANN401 - any of mteb's kinds of task
    """Let a thawed task rank only what the first stage found for it, where there is one in `folder`."""
    if (folder / FILE).exists():
        task.convert_to_reranking(folder / FILE, top_k=task._top_k)
