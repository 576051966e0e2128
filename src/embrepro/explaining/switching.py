"""Trying out what may be different: the model of one run, on its frozen data, with one thing after another switched."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

import embrepro.models
from embrepro.config.schema import Config, ModelConfig
from embrepro.explaining.differences import ROUNDED, UNLIMITED, Cause, Differences, known
from embrepro.explaining.observing import Observed, observe
from embrepro.files import fingerprint
from embrepro.layout import Layout
from embrepro.progress import console
from embrepro.regression.diff import ScoreChange
from embrepro.regression.revisions import RecordedModel, Side
from embrepro.sources import models as model_sources
from embrepro.tasks import requested
from embrepro.tasks.registry import Request

CLOSE = 1e-4
"""How far a score may lie off and still count as found again; results are published with five digits and fewer."""
LENGTHS = (512, 256, 128)
"""Longest texts that are tried where a run does not record its own: what Model2Vec cuts at, and common ones."""
ModelState = Mapping[Cause, Any]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Switched(_Document):
    """One thing that was switched."""

    cause: Cause
    words: str = Field(description="such as: without normalisation")
    recorded: bool = Field(description="whether the other run says so; else it was tried")
    alone: dict[str, float] = Field(description="scores by task with nothing but this switched")
    step: int | None = Field(default=None, description="its place among the steps to the other run; null for none")
    share: float | None = Field(default=None, description="of the distance between the runs, 0-1, that its step closed")


class Attribution(_Document):
    """How far switching leads from one run's scores to the other's."""

    start: str = Field(description="the run whose model is on this machine")
    target: str
    recorded: dict[str, float] = Field(description="the start's scores by task")
    again: dict[str, float] = Field(description="the same, computed now")
    wanted: dict[str, float] = Field(description="the target's scores")
    reached: dict[str, float] = Field(description="scores after all steps")
    switched: list[Switched]
    here: float = Field(description="share of the distance that lies in the start's scores not coming out the same now")
    unexplained: float = Field(description="share of the distance that no step closed, 0-1")
    left_out: dict[str, str] = Field(description="task with two scores -> why it was not tried")
    seen: Any = Field(default=None, exclude=True, repr=False)
    """The start's and the last step's `Observed` by task, a pair."""


@dataclass(frozen=True, eq=False)
class _Switch:
    cause: Cause
    value: Any
    words: str
    recorded: bool


def attribute(config: Config, layout: Layout, differences: Differences, old: Side, new: Side) -> Attribution | str:
    """Switch one thing after another, the one first that leads nearest to the other run's scores.

    Args:
        config: the configuration of the project on this machine.
        layout: its folders.
        differences: what is different.
        old: one run.
        new: the other.

    Returns:
        What came of it, or why nothing could be tried.

    Raises:
        KitError: frozen data or the model's files are not as they were recorded.
    """
    keys = differences.old_key, differences.new_key
    if differences.two_models:
        return f"Nothing was switched: {keys[0]} and {keys[1]} are two models."
    found = _here(config, layout, differences, old, new)
    if isinstance(found, str):
        return found
    model, snapshot, start, target = found
    requests = {request.name: request for request in requested.resolve(config.tasks, layout.root)}
    rows, left_out = _rows(differences.scores, requests, layout)
    if not rows:
        why = "; ".join(f"{task}: {reason}" for task, reason in left_out.items())
        return f"No task with two different scores can be scored here ({why or 'all scores are equal'})."
    wanted = {row.task: float((row.new if start is old else row.old) or 0) for row in rows}
    recorded = {row.task: float((row.old if start is old else row.new) or 0) for row in rows}
    tried = _Trial(config, model, snapshot, layout, [requests[row.task] for row in rows])
    ours, theirs = keys if start is old else keys[::-1]
    state = known(start.run.models[ours], start)
    # What the other run records comes first: where that is the whole of it, nothing needs to be tried.
    switches = sorted(
        _switches(state, target.run.models[theirs], target, model), key=lambda switch: not switch.recorded
    )
    return _walk(tried, state, switches, start, target, recorded, wanted, left_out)


def _here(
    config: Config, layout: Layout, differences: Differences, old: Side, new: Side
) -> tuple[ModelConfig, Path, Side, Side] | str:
    """The model that is on this machine and the run that it belongs to, or why there is none."""
    seen = []
    for side, other, key in ((new, old, differences.new_key), (old, new, differences.old_key)):
        recorded = side.run.models[key]
        for name, model in config.models.items():
            folder = layout.models / name
            if not (folder / "manifest.json").is_file() or model_sources.why_unavailable(folder):
                continue
            manifest, snapshot = model_sources.read_for(folder, model, config.device.numerics)
            seen.append(f"{name} ({manifest.content_hash[:8]})")
            if manifest.content_hash == recorded.content_hash:
                if model.kind != "dense":
                    return f"{name} is of family {model.family}; dense and static models alone can be switched."
                return model, snapshot, side, other
    there = f"here are {', '.join(dict.fromkeys(seen))}" if seen else "no model of the configuration is here"
    return f"Nothing was switched: the files of neither run's model are on this machine ({there}). `dvc repro` fetches them."


def _rows(
    scores: Sequence[ScoreChange], requests: Mapping[str, Request], layout: Layout
) -> tuple[list[ScoreChange], dict[str, str]]:
    rows, left_out = [], {}
    for row in scores:
        if row.difference is None or abs(row.difference) < ROUNDED:
            continue
        if row.incomparable:
            left_out[row.task] = row.incomparable
        elif row.task not in requests or not (layout.tasks / row.task / "manifest.json").is_file():
            left_out[row.task] = "its data is not frozen here"
        elif requests[row.task].parts:
            left_out[row.task] = "it is made of other tasks"
        else:
            rows.append(row)
    return rows, left_out


def _switches(state: ModelState, other: RecordedModel, target: Side, model: ModelConfig) -> Iterator[_Switch]:
    """What the other run says it did otherwise, and what it may have done where it says nothing."""
    theirs = known(other, target)
    if "normalisation" not in theirs or theirs["normalisation"] != state.get("normalisation"):
        on = not state.get("normalisation")
        yield _Switch("normalisation", on, f"{'with' if on else 'without'} normalisation", "normalisation" in theirs)
    if "prompts" in theirs:
        if theirs["prompts"] != state.get("prompts", {}):
            told = ", ".join(f"{name}: {text!r}" for name, text in theirs["prompts"].items()) or "none"
            yield _Switch("prompts", theirs["prompts"], f"prompts {told}", recorded=True)
    elif state.get("prompts"):
        yield _Switch("prompts", {}, "without prompts", recorded=False)
    for dtype in [theirs["dtype"]] if "dtype" in theirs else ["float32", "float16", "bfloat16"]:
        if dtype != state.get("dtype"):
            yield _Switch("dtype", dtype, f"in {dtype}", "dtype" in theirs)
    if (length := theirs.get("dimensions")) and length < int(state.get("dimensions", 0)):
        yield _Switch("dimensions", length, f"cut to {length} dimensions", recorded=True)
    longest = int(state.get("max length", UNLIMITED))
    for tokens in [theirs["max length"]] if "max length" in theirs else LENGTHS:
        if tokens != longest and ("max length" in theirs or tokens < longest):
            words = "texts whole" if tokens >= UNLIMITED else f"texts cut at {tokens} tokens"
            yield _Switch("max length", tokens, words, "max length" in theirs)
    if (batch := theirs.get("batch")) and batch != state.get("batch") and model.family == "dense":
        yield _Switch("batch", batch, f"in batches of {batch}", recorded=True)


def _walk(
    observed: Callable[[ModelState], dict[str, Observed]],
    state: ModelState,
    switches: list[_Switch],
    start: Side,
    target: Side,
    recorded: dict[str, float],
    wanted: dict[str, float],
    left_out: dict[str, str],
) -> Attribution:
    def distance(found: Mapping[str, Observed]) -> float:
        return off({task: each.score for task, each in found.items()})

    def off(scores: Mapping[str, float]) -> float:
        found = sum(abs(wanted[task] - scores[task]) for task in wanted)
        return found if math.isfinite(found) else math.inf

    console.say(f"explain: {start.revision.label} again")
    again = current = observed(state)
    whole = off(recorded)
    alone: dict[_Switch, dict[str, float]] = {}
    steps: dict[_Switch, tuple[int, float]] = {}
    open_ = list(switches)
    while open_ and distance(current) > CLOSE * len(wanted):
        found: dict[_Switch, dict[str, Observed]] = {}
        for switch in open_:
            console.say(f"explain: {switch.words}")
            found[switch] = observed({**state, switch.cause: switch.value})
            if distance(found[switch]) <= ROUNDED * len(wanted):
                break
        for switch, seen in found.items():
            if not steps:
                alone[switch] = _scores(seen)
        # Of equal ones that which the other run records.
        best = min(found, key=lambda switch: (round(distance(found[switch]), 6), not switch.recorded))
        gained = distance(current) - distance(found[best])
        if gained < CLOSE * len(wanted) and not (best.recorded and gained > 1e-6):
            break
        state, current = {**state, best.cause: best.value}, found[best]
        steps[best] = (len(steps) + 1, gained / whole)
        open_ = [switch for switch in open_ if switch.cause != best.cause]
    return Attribution(
        start=start.revision.label,
        target=target.revision.label,
        recorded=recorded,
        again=_scores(again),
        wanted=wanted,
        reached=_scores(current),
        switched=[
            Switched(
                cause=switch.cause,
                words=switch.words,
                recorded=switch.recorded,
                alone=alone[switch],
                step=steps[switch][0] if switch in steps else None,
                share=steps[switch][1] if switch in steps else None,
            )
            for switch in switches
            if switch in alone
        ],
        here=(whole - distance(again)) / whole,
        unexplained=distance(current) / whole,
        left_out=left_out,
        seen=(again, current),
    )


def _scores(found: Mapping[str, Observed]) -> dict[str, float]:
    return {task: each.score for task, each in found.items()}


_MOST_KEPT = 500_000
"""Embeddings that are kept for the next state; of 384 dimensions they take 0.8 GB."""


class _Trial:
    """Scores tasks by mteb with a model in any state; texts are encoded again only where a switch touches their encoding."""

    def __init__(
        self, config: Config, model: ModelConfig, snapshot: Path, layout: Layout, requests: Sequence[Request]
    ) -> None:
        self._config, self._model, self._snapshot = config, model, snapshot
        self._layout, self._requests = layout, requests
        self._kept: dict[str, _Embedded] = {}

    def __call__(self, state: ModelState) -> dict[str, Observed]:
        """What mteb makes of the model in a state, by task."""
        # Once a state, as the limits of a loaded model and its modules are changed in place.
        encoder = self._encoder(state)
        batch = int(state.get("batch") or self._model.batch_size or 32)
        return {
            request.name: observe(encoder, request, self._layout.tasks / request.name, batch)
            for request in self._requests
        }

    def _encoder(self, state: ModelState) -> Any:  # noqa: ANN401 - mteb's wrapper
        from sentence_transformers.sentence_transformer.modules import Normalize

        changed: dict[str, Any] = {}
        if "dtype" in state:
            changed["dtype"] = state["dtype"]
        if "prompts" in state:
            changed["prompts"] = state["prompts"]
        model = self._model.model_copy(update={**changed, "max_seq_length": None})
        loaded: Any = embrepro.models.load(self._snapshot, model, self._config.device)
        names = [name for name, module in loaded.named_children() if isinstance(module, Normalize)]
        for name in names:
            del loaded[int(name)]
        _cut(loaded, int(state.get("max length", UNLIMITED)))
        known_of = embrepro.models.describe(loaded)
        # What is done to an embedding once it is there needs no text to be encoded again.
        encoding = fingerprint(
            {cause: value for cause, value in state.items() if cause not in ("normalisation", "dimensions")}
        )
        if encoding not in self._kept and sum(len(kept.rows) for kept in self._kept.values()) > _MOST_KEPT:
            self._kept.clear()
        kept = self._kept.setdefault(encoding, _Embedded())
        length = int(state.get("dimensions") or known_of.dimensions or 0)
        normalised = bool(state.get("normalisation", names))
        loaded.encode = partial(kept.encode, loaded.encode, normalised=normalised, length=length)
        return embrepro.models.wrap(loaded, model, "", known_of)


class _Embedded:
    """Embeddings of texts by prompt and text, as a model gives them before they are normalised or cut."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Any] = {}

    def encode(
        self,
        encode: Callable[..., Any],
        inputs: Sequence[str],
        *,
        normalised: bool,
        length: int,
        convert_to_tensor: bool = False,
        **named: Any,  # noqa: ANN401 - what sentence-transformers takes
    ) -> Any:  # noqa: ANN401 - as sentence-transformers gives it
        """What `SentenceTransformer.encode` gives for a model that ends with a Normalize module or not, and is cut or not.

        Args:
            encode: of the model without a Normalize module and whole.
            inputs: texts, (texts,).
            normalised: whether embeddings are brought to unit length, in the model's dtype.
            length: dimensions that are left after that.
            convert_to_tensor: whether a tensor is wanted, else an array.
            **named: handed on.
        """
        import torch

        prompt = str((named.get("prompt"), named.get("prompt_name")))
        texts = [str(text) for text in inputs]
        missing = [text for text in dict.fromkeys(texts) if (prompt, text) not in self.rows]
        if missing:
            found = encode(missing, convert_to_tensor=True, **named).cpu()
            self.rows |= {(prompt, text): row for text, row in zip(missing, found, strict=True)}
        rows = torch.stack([self.rows[prompt, text] for text in texts])
        if normalised:
            rows = torch.nn.functional.normalize(rows, p=2, dim=1)
        rows = rows[:, :length]
        if convert_to_tensor:
            return rows
        return (rows.float() if rows.dtype == torch.bfloat16 else rows).numpy()


def _cut(loaded: Any, tokens: int) -> None:  # noqa: ANN401 - a loaded model
    """Let a model read no more than so many tokens of a text."""
    from tokenizers import Tokenizer

    if isinstance(loaded.tokenizer, Tokenizer):
        if tokens < UNLIMITED:
            loaded.tokenizer.enable_truncation(tokens)
    elif tokens < UNLIMITED:
        loaded.max_seq_length = tokens
