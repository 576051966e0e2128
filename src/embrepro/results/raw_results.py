"""Result files of mteb as they lie on disk, of every layout from 0.x to 2.x, without mteb's own repairs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from embrepro.tasks import samples

Scores = tuple[tuple[str, str, float | None], ...]
_NOT_SUBSETS = {"cos_sim", "euclidean", "manhattan", "dot", "max", "similarity", "v_measures", "scores"}


@dataclass(frozen=True)
class Result:
    """One result file: what it says, nothing added."""

    file: str
    folder: str
    model: str
    model_revision: str
    task: str
    scores: Scores
    seconds: float | None
    revision: str | None
    mteb: str | None = None
    samples: dict[str, int] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether it holds no score of any split."""
        return not self.scores


@dataclass(frozen=True)
class Broken:
    """A file that should be a result and is not."""

    file: str
    problem: str


def read_folder(folder: Path) -> tuple[list[Result], list[Broken]]:
    """Read all result files below a folder, in the order of their paths; other JSON files are left alone."""
    results, broken = [], []
    for path in sorted(folder.rglob("*.json")):
        name = path.relative_to(folder).as_posix()
        if path.name == "model_meta.json" or any(part.startswith(".") for part in Path(name).parts):
            continue
        found = read_file(path, folder)
        if isinstance(found, Broken):
            broken.append(found)
        elif found:
            results.append(found)
    return results, broken


def read_file(path: Path, folder: Path) -> Result | Broken | None:
    """Read one file below a folder; None where it is JSON and no result."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        return Broken(path.relative_to(folder).as_posix(), f"not a JSON file: {error}")
    if isinstance(content, dict) and {"task_name", "mteb_dataset_name"} & content.keys():
        return _result(folder, path, content)
    return None


def _result(folder: Path, path: Path, content: dict[str, Any]) -> Result:
    place = path.parent.relative_to(folder).as_posix()
    revision = content.get("dataset_revision")
    model, model_revision = _model(path)
    return Result(
        file=path.relative_to(folder).as_posix(),
        folder=place,
        model=model,
        model_revision=model_revision,
        task=str(content.get("task_name") or content["mteb_dataset_name"]),
        scores=_scores(content) if "task_name" in content else _old_scores(content),
        seconds=_seconds(content),
        revision=revision if isinstance(revision, str) else None,
        mteb=str(content["mteb_version"]) if content.get("mteb_version") else None,
        samples=_sample_counts(samples.path_of(path.parent, path.stem)),
    )


def _model(path: Path) -> tuple[str, str]:
    """Model and revision of `<org>__<model>/<revision>/<Task>.json`, wherever the folder that is read begins.

    mteb puts a run with settings of its own below the revision, into `experiments/<settings>`. In any other layout the file's
    folder is the model, and its revision is not known ("").
    """
    *_, model, revision = ("", "", *path.resolve().parent.parts)
    if model == "experiments":
        *_, model, revision, _, settings = ("", "", *path.resolve().parent.parts)
        revision = f"{revision} {settings}"
    return (model, revision) if "__" in model else (path.resolve().parent.name, "")


def _scores(content: dict[str, Any]) -> Scores:
    """Since 1.11: {split: [{hf_subset, main_score, ...}]}."""
    splits = content.get("scores")
    if not isinstance(splits, dict):
        return ()
    return tuple(
        (str(split), str(entry.get("hf_subset", "default")), _number(entry.get("main_score")))
        for split, entries in splits.items()
        for entry in entries or []
    )


def _old_scores(content: dict[str, Any]) -> Scores:
    """Before 1.11: {split: {metric: value}} or {split: {subset: {metric: value}}}."""
    found: list[tuple[str, str, float | None]] = []
    for split, values in content.items():
        if not isinstance(values, dict):
            continue
        parts = {key: value for key, value in values.items() if isinstance(value, dict) and key not in _NOT_SUBSETS}
        for subset, metrics in (parts or {"default": values}).items():
            if set(metrics) - {"evaluation_time"}:
                found.append((split, subset, _old_main_score(metrics)))
    return tuple(found)


def _old_main_score(metrics: dict[str, Any]) -> float | None:
    for key in ("main_score", "ndcg_at_10", "v_measure", "accuracy", "map", "f1"):
        if key in metrics:
            return _number(metrics[key])
    for outer, inner in (("cos_sim", "spearman"), ("max", "ap"), ("cos_sim", "ap")):
        if isinstance(metrics.get(outer), dict) and inner in metrics[outer]:
            return _number(metrics[outer][inner])
    return None


def _seconds(content: dict[str, Any]) -> float | None:
    if "evaluation_time" in content:
        return _number(content["evaluation_time"])
    times = [_number(part.get("evaluation_time")) for part in content.values() if isinstance(part, dict)]
    known = [time for time in times if time is not None]
    return sum(known) if known else None


def _sample_counts(path: Path) -> dict[str, int]:
    """Samples by split, where per-sample scores lie beside the result."""
    try:
        frame = pl.read_parquet(path, columns=["split", "subset", "sample"])
    except (OSError, PolarsError):
        return {}
    counted = frame.unique().group_by("split").len()
    return dict(zip(counted["split"].to_list(), counted["len"].to_list(), strict=True))


def _number(value: Any) -> float | None:  # noqa: ANN401
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
