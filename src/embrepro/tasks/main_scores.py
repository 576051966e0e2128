"""A task's main score, read from mteb's result file: the one place where a score is kept."""

from __future__ import annotations

import json
import math
from pathlib import Path

from embrepro.errors import TaskError


def path_of(folder: Path, task: str) -> Path:
    """Where a task's result lies in a folder of results."""
    return folder / f"{task}.json"


def read_main_score(path: Path) -> float:
    """The mean over splits and subsets, as `TaskResult.get_score` of mteb has it.

    Raises:
        TaskError: the file is absent, is not a result, or has no finite score.
    """
    import numpy as np

    try:
        scores = json.loads(path.read_text(encoding="utf-8"))["scores"]
        found = [float(entry["main_score"]) for entries in scores.values() for entry in entries if entry["languages"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TaskError(f"{path} is missing or no result of mteb ({type(error).__name__}: {error})") from None
    if not found or not all(map(math.isfinite, found)):
        raise TaskError(f"{path} holds no finite main score")
    # mteb's own mean: another way of summing may differ in the last bit.
    return float(np.mean(found))
