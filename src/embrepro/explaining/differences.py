"""What differs between two runs of a model, by the parts that a score depends on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from embrepro.config.messages import suggest
from embrepro.regression import diff
from embrepro.regression.diff import NOT_REQUESTED, UNKNOWN, Change, ScoreChange
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
    two_models: bool = Field(default=False, description="whether two models are compared, not two runs of one")


def compare(old: Side, new: Side, models: Sequence[str] = ()) -> Differences:
    """Name everything that differs between two runs of one model, or between two models.

    Args:
        old: one run.
        new: the other.
        models: the model's key on either side, or one of the old run and one of the new; where left out the candidate's, else
            the only or the first one that both have.

    Raises:
        RevisionError: there is no such model.
    """
    pair = _pair(old, new, models)
    comparison = diff.compare(old, new, only=pair)
    compared = old.run.models[pair[0]], new.run.models[pair[1]]
    found = [each for change in comparison.changes if (each := _difference(change, pair)) is not None]
    if "static" in [model.family for model in compared]:
        # One side says nothing of it, as it is nothing: the embedding of a text is a mean of that text's tokens.
        found = [each for each in found if each.cause != "batch" or not {each.old, each.new} & {*UNKNOWN}]
    return Differences(
        old=old.revision.label,
        new=new.revision.label,
        old_key=pair[0],
        new_key=pair[1],
        scores=[row for row in comparison.rows if NOT_REQUESTED not in (row.old_status, row.new_status)],
        found=found,
        unknown=[*_unknown(old, new, *compared)],
        two_models=pair[0] != pair[1]
        and "" not in (content := {each.content_hash for each in compared})
        and len(content) > 1,
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


ROUNDED = 1e-5
"""Differences below this are those of the digits that mteb's own writer leaves; a run that is so near is found."""
UNLIMITED = 10**9
"""The longest text of a model that cuts none."""


def _pair(old: Side, new: Side, models: Sequence[str]) -> tuple[str, str]:
    if len(models) == 2:
        for side, key in zip((old, new), models, strict=True):
            if key not in side.run.models:
                raise RevisionError(f"{side.revision.label} has no model '{key}'{suggest(key, list(side.run.models))}.")
        return models[0], models[1]
    if len(models) > 2:
        raise RevisionError(f"Two models are compared, not {len(models)}: {', '.join(models)}.")
    pairs = diff.pairs(old, new)
    model = models[0] if models else None
    chosen = _named(model, pairs, old, new) if model else _preferred(pairs, new)
    if not chosen:
        known = sorted({key for pair in pairs for key in pair})
        what = f"model '{model}'{suggest(model, known)}" if model else "model"
        raise RevisionError(f"{old.revision.label} and {new.revision.label} have no {what} in common.")
    return chosen[0]


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
    if change.kind in ("model", "data") and (change.old in UNKNOWN or change.new in UNKNOWN):
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
    alone = [name for name in dict.fromkeys([*old.tasks, *new.tasks]) if name not in old.tasks or name not in new.tasks]
    if alone:
        named = ", ".join(alone if len(alone) <= 3 else [*alone[:3], "\u2026"])
        yield f"Asked for on one side alone, and left out: {len(alone)} {'task' if len(alone) == 1 else 'tasks'} ({named})."
    if "native" in (old.run.recipe.get("numerics"), new.run.recipe.get("numerics")):
        yield "Native numerics move with the processor and the number of threads, which summaries do not record."
