"""Every quantity of a model that a run measures: its name, unit and better direction, and how it is read from the run.

Claims (`metric: {kind: quantity, ...}`) and recommendation rules (`kind: quantity`) speak of these names and of no
others. A new quantity is one entry of `QUANTITIES`; `docs/claims.md` lists them, which a test holds to this table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator

from embrepro.benchmarking.speed import ModelSpeed, RepeatedMeasure
from embrepro.config.messages import suggest
from embrepro.results.summary import Interval, ModelCard
from embrepro.statistics.percentiles import percentile_interval, samples_needed


@dataclass(frozen=True)
class Reading:
    """A measured value with its 95 % interval, or the reason in words why it has none."""

    value: float
    interval: Interval | None
    why_no_interval: str = ""


@dataclass(frozen=True)
class Measurements:
    """What a run knows of one model: its card, and its speed where it was benchmarked."""

    card: ModelCard | None = None
    speed: ModelSpeed | None = None


@dataclass(frozen=True)
class Quantity:
    """One measurable quantity; `take` gives None where this run holds no value of it."""

    unit: str
    better: Literal["higher", "lower", ""]
    description: str
    take: Callable[[Measurements], Reading | None]
    benchmarked: bool = False

    def read(self, name: str, model: str, found: Measurements) -> Reading | str:
        """The value of a model, or the reason in words why there is none."""
        if self.benchmarked and found.speed is None:
            return f"{model} was not benchmarked in this run"
        if not self.benchmarked and found.card is None:
            return f"{model} is not in this run"
        return self.take(found) or f"{name} of {model}: not recorded"


def _exact(value: float | None) -> Reading | None:
    return None if value is None else Reading(float(value), Interval(low=value, high=value))


def _repeated(measure: RepeatedMeasure) -> Reading:
    return Reading(measure.median, Interval(low=measure.low, high=measure.high))


def _percentile(quantile: float, found: Measurements) -> Reading | None:
    if found.speed is None or not found.speed.latency.samples:
        return None
    samples = found.speed.latency.samples
    interval = percentile_interval(samples, quantile)
    value = float(np.quantile(samples, quantile))
    if interval is None:
        needed = samples_needed(quantile)
        return Reading(value, None, f"{len(samples)} queries are too few for an interval, which takes {needed}")
    return Reading(value, Interval(low=interval.low, high=interval.high))


def _queries_per_second(found: Measurements) -> Reading | None:
    latency = _percentile(0.5, found)
    if latency is None or latency.interval is None:
        return latency and Reading(1000 / latency.value, None, latency.why_no_interval)
    low, high = 1000 / latency.interval.high, 1000 / latency.interval.low
    return Reading(1000 / latency.value, Interval(low=low, high=high))


def _throughput(length: str, found: Measurements) -> Reading | None:
    settings = [
        each.texts_per_second for each in (found.speed.throughput if found.speed else ()) if each.length == length
    ]
    return _repeated(max(settings, key=lambda each: each.median)) if settings else None


def _pairs(length: str, found: Measurements) -> Reading | None:
    return _throughput(length, found) if found.speed and found.speed.pairs else None


def _load_seconds(found: Measurements) -> Reading | None:
    return _repeated(found.speed.load_seconds) if found.speed else None


def _peak_memory(found: Measurements) -> Reading | None:
    return _exact(found.speed.peak_memory_mb) if found.speed else None


def _active(prompt: str, found: Measurements) -> Reading | None:
    return _exact(found.card.active_dimensions.get(prompt)) if found.card else None


def _sparsity(prompt: str, found: Measurements) -> Reading | None:
    active = _active(prompt, found)
    if active is None or found.card is None or not found.card.dimensions:
        return None
    return _exact(100 * (1 - active.value / found.card.dimensions))


def _index_mb(prompt: str, found: Measurements) -> Reading | None:
    return _exact(found.card.index_mb.get(prompt)) if found.card else None


def _property(name: str, found: Measurements) -> Reading | None:
    return _exact(getattr(found.card, name))


def _of_card(unit: str, better: Literal["higher", "lower", ""], description: str, name: str) -> Quantity:
    return Quantity(unit, better, description, partial(_property, name))


def _of_benchmark(
    unit: str,
    better: Literal["higher", "lower", ""],
    description: str,
    take: Callable[[Measurements], Reading | None],
) -> Quantity:
    return Quantity(unit, better, description, take, benchmarked=True)


_BEST_BATCH = (
    "texts encoded in a second, of {} texts, at the fastest batch size; a cross-encoder's are pairs with a query"
)
QUANTITIES: dict[str, Quantity] = {
    **{
        f"texts_per_second_{length}": _of_benchmark(
            "texts/s", "higher", _BEST_BATCH.format(length), partial(_throughput, length)
        )
        for length in ("short", "medium", "long")
    },
    **{
        f"pairs_per_second_{length}": _of_benchmark(
            "pairs/s",
            "higher",
            f"pairs of a query and a {length} text that a cross-encoder scores in a second, at the fastest batch size",
            partial(_pairs, length),
        )
        for length in ("short", "medium", "long")
    },
    "queries_per_second": _of_benchmark(
        "queries/s", "higher", "single queries in a second, from the median latency", _queries_per_second
    ),
    **{
        f"latency_p{percent}_ms": _of_benchmark(
            "ms", "lower", f"time of a single query, {name}", partial(_percentile, percent / 100)
        )
        for percent, name in ((50, "median"), (95, "95th percentile"), (99, "99th percentile"))
    },
    "load_seconds": _of_benchmark("s", "lower", "time to load the model", _load_seconds),
    "peak_memory_mb": _of_benchmark(
        "MB",
        "lower",
        "resident memory at its peak, a single reading",
        _peak_memory,
    ),
    "size_mb": _of_card("MB", "lower", "all files on disk but its documentation, 1 MB = 10^6 bytes", "size_mb"),
    "dimensions": _of_card("dimensions", "", "length of an embedding", "dimensions"),
    "parameters": _of_card("", "lower", "parameters of the model", "parameters"),
    "max_seq_length": _of_card("tokens", "higher", "longest text that is not cut", "max_seq_length"),
    **{
        f"active_dimensions_{prompt}": Quantity(
            "dimensions",
            "lower",
            f"mean number of dimensions that are not zero, of a sparse model's {words}",
            partial(_active, prompt),
        )
        for prompt, words in (("query", "queries"), ("document", "documents"))
    },
    **{
        f"sparsity_{prompt}": Quantity(
            "%", "higher", f"share of dimensions that are zero, of a sparse model's {words}", partial(_sparsity, prompt)
        )
        for prompt, words in (("query", "queries"), ("document", "documents"))
    },
    **{
        f"index_mb_{prompt}": Quantity(
            "MB",
            "lower",
            f"inverted index of a sparse model's {words} of all tasks, 8 bytes for each value that is not zero",
            partial(_index_mb, prompt),
        )
        for prompt, words in (("query", "queries"), ("document", "documents"))
    },
}


def _known(name: str) -> str:
    if name not in QUANTITIES:
        raise ValueError(f"no quantity '{name}'{suggest(name, QUANTITIES)}")
    return name


QuantityName = Annotated[str, AfterValidator(_known)]
"""The name of one of `QUANTITIES`."""


def read_quantity(name: str, model: str, found: Measurements) -> Reading | str:
    """The value of a model's quantity, or the reason in words why there is none.

    Args:
        name: one of `QUANTITIES`.
        model: the model's key, for the reason.
        found: what the run knows of it.
    """
    return QUANTITIES[name].read(name, model, found)


def table_of_quantities() -> str:
    """The table of `docs/claims.md`."""
    lines = ["| quantity | unit | better | what it is |", "|---|---|---|---|"]
    lines += [f"| `{name}` | {one.unit} | {one.better} | {one.description} |" for name, one in QUANTITIES.items()]
    return "\n".join(lines) + "\n"
