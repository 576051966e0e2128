"""Where a run's result files lie, and every number in them under mteb's own names; `raw_results` reads anybody's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from embrepro.errors import KitError
from embrepro.files import read_json
from embrepro.layout import Layout
from embrepro.results.summary import ModelCard
from embrepro.tasks import main_scores


class ResultNumbers(BaseModel):
    """The numbers of one split and subset of a task."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    split: str
    subset: str
    numbers: dict[str, float]


def result_file(card: ModelCard, task: str) -> str:
    """Where mteb's result of a model on a task lies, in mteb's own layout."""
    return main_scores.path_of(Layout().results_of(card.name) / card.revision, task).as_posix()


def read_numbers(path: Path) -> list[ResultNumbers]:
    """Every finite number of a result file, by split and subset; nothing where there is no such file.

    `evaluation_time`, in seconds, is of the whole file.

    Raises:
        KitError: the file is damaged, or no result of mteb's.
    """
    if not path.is_file():
        return []
    try:
        return _numbers(read_json(path))
    except (AttributeError, TypeError, OverflowError) as error:
        raise KitError(f"{path} is no result of mteb's ({error}). Delete it and run `dvc repro` again.") from None


def _numbers(content: Any) -> list[ResultNumbers]:  # noqa: ANN401 - whatever the file holds
    whole = {"evaluation_time": content.get("evaluation_time")}
    return [
        ResultNumbers(
            split=split,
            subset=str(entry.get("hf_subset", "default")),
            numbers={
                name: float(value)
                for name, value in (*entry.items(), *whole.items())
                if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            },
        )
        for split, entries in content.get("scores", {}).items()
        for entry in entries
    ]
