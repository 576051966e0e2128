"""What differs between two runs of a model, by the parts that a score depends on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from embrepro.config.messages import suggest
from embrepro.regression import diff
from embrepro.regression.diff import Change, ScoreChange
from embrepro.regression.revisions import RecordedModel, RevisionError, Side

Cause = Literal[
    "model files",
    "normalisation",
    "prompts",
    "dtype",
    "dimensions",
    "max length",
    "similarity",
    "batch",
    "data",
    "what is scored",
    "packages",
    "processor and numerics",
    "code and settings",
]
SWITCHED: tuple[Cause, ...] = ("normalisation", "prompts", "dtype", "dimensions", "max length", "batch")
"""Causes that can be tried out with the model's files and the frozen data alone."""
_OF_MODEL: dict[str, Cause] = {
    "content_hash": "model files",
    "revision": "model files",
    "family": "model files",
    "parameters": "model files",
    "normalised": "normalisation",
    "dtype": "dtype",
    "dimensions": "dimensions",
    "max_seq_length": "max length",
    "similarity": "similarity",
}
_OF_RECIPE: dict[str, Cause] = {"batch_size": "batch", "batch_tokens": "batch"}
_OF_KIND: dict[str, Cause] = {
    "suite": "data",
    "package": "packages",
    "recipe": "processor and numerics",
    "configuration": "code and settings",
    "input": "code and settings",
}
_UNKNOWN = ("", "null", "absent")


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Difference(_Document):
    """One thing that is not the same in both runs."""

    cause: Cause
    name: str
    old: str
    new: str


class Differences(_Document):
    """Two runs of a model: its scores, what is different, and what one of them does not record."""

    old: str
    new: str
    old_key: str
    new_key: str
    scores: list[ScoreChange]
    found: list[Difference]
    unknown: list[str] = Field(description="what only one of the two records, or neither")


def compare(old: Side, new: Side, model: str | None = None) -> Differences:
    """Name everything that differs between two runs of one model.

    Args:
        old: one run.
        new: the other.
        model: its key on either side; where left out the candidate's, else the only or the first one that both have.

    Raises:
        RevisionError: both have no such model.
    """
    pairs = diff.pairs(old, new)
    chosen = _named(model, pairs, old, new) if model else _preferred(pairs, new)
    if not chosen:
        known = sorted({key for pair in pairs for key in pair})
        what = f"model '{model}'{suggest(model, known)}" if model else "model"
        raise RevisionError(f"{old.revision.label} and {new.revision.label} have no {what} in common.")
    pair = chosen[0]
    comparison = diff.compare(old, new, only=pair)
    models = old.run.models[pair[0]], new.run.models[pair[1]]
    found = [each for change in comparison.changes if (each := _difference(change, pair)) is not None]
    return Differences(
        old=old.revision.label,
        new=new.revision.label,
        old_key=pair[0],
        new_key=pair[1],
        scores=comparison.rows,
        found=found,
        unknown=[*_unknown(old, new, *models)],
    )


def known(model: RecordedModel, side: Side) -> dict[Cause, Any]:
    """What a run records of the causes that can be switched; a cause that it does not record is left out."""
    found: dict[Cause, Any] = {
        "normalisation": model.normalised,
        "dtype": model.dtype,
        "dimensions": model.dimensions,
        "max length": model.max_seq_length,
        "batch": model.recipe.get("batch_size"),
    }
    if not side.files:
        prompts = {name: text for name, text in model.recipe.items() if name.startswith("prompt ")}
        found["prompts"] = {name.removeprefix("prompt "): str(text) for name, text in sorted(prompts.items())}
        found["max length"] = model.max_seq_length or UNLIMITED
    return {cause: value for cause, value in found.items() if value is not None}


UNLIMITED = 10**9
"""The longest text of a model that cuts none."""


def _named(model: str, pairs: list[tuple[str, str]], old: Side, new: Side) -> list[tuple[str, str]]:
    """The pair with a model of that key; a side with one model alone is of that model, whatever it calls it."""
    found = [pair for pair in pairs if model in pair]
    before, after = list(old.run.models), list(new.run.models)
    if not found and len(before) == 1 and model in after:
        return [(before[0], model)]
    if not found and len(after) == 1 and model in before:
        return [(model, after[0])]
    return found


def _preferred(pairs: list[tuple[str, str]], new: Side) -> list[tuple[str, str]]:
    candidates = [pair for pair in pairs if pair[1] == new.run.candidate]
    return candidates or pairs


def _difference(change: Change, pair: tuple[str, str]) -> Difference | None:
    """A change by its cause; None where one side does not record it, which says nothing."""
    if change.kind == "configuration" and not change.name.startswith(("device.", "tasks.", *_prefixes(pair))):
        return None
    if change.kind in ("model", "data") and (change.old in _UNKNOWN or change.new in _UNKNOWN):
        recorded = change.name.endswith(("max_seq_length", "normalised")) or "recipe." in change.name
        if not recorded or change.kind == "data":
            return None
    name = change.name.rpartition(", ")[2]
    if change.kind == "model":
        if name == "name":
            return None
        recipe = name.removeprefix("recipe.")
        cause: Cause = (
            "prompts" if recipe.startswith("prompt ") else _OF_MODEL.get(name) or _OF_RECIPE.get(recipe, "model files")
        )
        return Difference(cause=cause, name=name, old=change.old, new=change.new)
    if change.kind == "data":
        cause = "data" if name in ("revision", "data_hash") else "what is scored"
        return Difference(cause=cause, name=change.name, old=change.old, new=change.new)
    return Difference(cause=_OF_KIND[change.kind], name=change.name, old=change.old, new=change.new)


def _prefixes(pair: tuple[str, str]) -> tuple[str, ...]:
    return tuple(f"models.{key}." for key in pair)


def _unknown(old: Side, new: Side, before: RecordedModel, after: RecordedModel) -> Iterator[str]:
    """What a folder of results does not say, in words."""
    for side, model in ((old, before), (new, after)):
        lacking = []
        if not model.content_hash:
            lacking.append("the model's files")
        if side.files:
            lacking.append("prompts")
        lacking += ["normalisation"] if model.normalised is None else []
        lacking += ["dtype"] if model.dtype is None else []
        if not any(task.data_hash for task in side.run.tasks):
            lacking.append("the data's content")
        lacking += ["packages"] if not side.run.packages else []
        lacking += ["device and numerics"] if not side.run.recipe else []
        if lacking:
            yield f"{side.revision.label} does not record {', '.join(lacking)}."
    if "native" in (old.run.recipe.get("numerics"), new.run.recipe.get("numerics")):
        yield "Native numerics move with the processor and the number of threads, which summaries do not record."
