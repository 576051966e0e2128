"""Benchmark: speed, memory and size of a model, measured in turn with the baseline in one process.

Texts are English ones of the kit's own suite, the same at every run; a cross-encoder gets pairs of a query of the suite
and such a text. Times go from strings to vectors or scores, so the tokenizer counts, as it does for whoever uses the model.
"""

from __future__ import annotations

import hashlib
import math
import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import psutil

import embrepro.models
from embrepro.benchmarking import clock
from embrepro.benchmarking.speed import Latency, Machine, ModelSpeed, RepeatedMeasure, SpeedReport, Throughput
from embrepro.config.schema import Benchmark, Config
from embrepro.files import write_json
from embrepro.layout import Layout
from embrepro.progress import console
from embrepro.results import provenance
from embrepro.sources import models as model_sources
from embrepro.suite.items import CATEGORIES, ClusteringItem, RetrievalItem, read_items

if TYPE_CHECKING:
    from embrepro.models import Inputs, Loaded

STAGE = "benchmark"
Length = Literal["short", "medium", "long"]
LANGUAGE = "eng-Latn"
SHORT_WORDS = range(5, 11)
FEWEST_WORDS: dict[Length, int] = {"medium": 36, "long": 196}
LENGTHS: tuple[Length, ...] = ("short", *FEWEST_WORDS)
WARM_UP_QUERIES = 20
FOOTPRINT_BATCH = 32


@dataclass(frozen=True)
class Setting:
    """One cell of the throughput table."""

    length: Length
    batch_size: int


@dataclass
class Contender:
    """A loaded model and what was measured of it so far."""

    key: str
    loaded: Loaded
    pool: Mapping[Length, list[Any]]
    counts: dict[Setting, int] = field(default_factory=dict)
    rates: dict[Setting, list[float]] = field(default_factory=dict)
    latencies: list[list[float]] = field(default_factory=list)


def run(config: Config, layout: Layout, key: str) -> SpeedReport:
    """Measure a model, in turn with the baseline unless it is that, and write `reports/speed/<key>.json`.

    Of a model that is not there, the file has the baseline alone, which may have no other stage to be measured in.

    Raises:
        ConfigError: an unknown model, or a device that is not there.
        SourceError: a model's files are damaged or do not load.
        KitError: a model does not fit into memory.
    """
    config.model(key)
    started = time.monotonic()
    others = clock.Others()
    threads = clock.use_threads(config.device)
    reasons = {each: model_sources.why_unavailable(layout.models / each) for each in (key, config.baseline)}
    there = [each for each, reason in reasons.items() if not reason]
    if not config.benchmark.measure:
        console.say(f"benchmark {key}: left out, as benchmark.measure is false")
        return _record_nothing(config, layout, key, threads)
    if reasons[key]:
        console.say_error(f"benchmark {key}: {reasons[key]}")
    if not there:
        return _record_nothing(config, layout, key, threads)
    with ExitStack() as stack:
        alone = [stack.enter_context(clock.FreshProcess()) for _ in there]
        contenders = [_load(config, layout, each) for each in there]
        for each in alone:
            each.wait()
        _calibrate(contenders, config.benchmark)
        _measure_throughput(contenders, config.benchmark.repeats)
        _measure_latency(contenders, config.benchmark)
        models = {
            each.key: _speed(config, layout, each, process) for each, process in zip(contenders, alone, strict=True)
        }
    *challengers, baseline = contenders
    report = SpeedReport(
        baseline=config.baseline,
        machine=_machine(config, layout, threads, others.share()),
        models=models,
        throughput_ratio={each.key: throughput_ratio(each.rates, baseline.rates) for each in challengers},
        latency_ratio={each.key: latency_ratio(each.latencies, baseline.latencies) for each in challengers},
    )
    write_json(layout.benchmark(key), report.model_dump())
    _say(report, key, time.monotonic() - started)
    return report


def _record_nothing(config: Config, layout: Layout, key: str, threads: int) -> SpeedReport:
    """Where nothing is measured: a report without a model."""
    machine = _machine(config, layout, threads)
    report = SpeedReport(baseline=config.baseline, machine=machine, models={}, throughput_ratio={}, latency_ratio={})
    write_json(layout.benchmark(key), report.model_dump())
    return report


def texts(length: Length) -> list[str]:
    """Distinct English texts of the suite: of 5 to 10 words, or joined until they have about 40 or 200 words.

    They come in the order of their hashes, which mixes categories and is the same everywhere.
    """
    found = _mixed(text for item in _english() for text in _texts_of(item))
    if length == "short":
        return [text for text in found if len(text.split()) in SHORT_WORDS]
    return list(_joined(found, FEWEST_WORDS[length]))


def pairs(length: Length) -> list[tuple[str, str]]:
    """Queries of the suite, each beside a text of a length: what a cross-encoder scores."""
    asked = _queries()
    return [(asked[place % len(asked)], text) for place, text in enumerate(texts(length))]


def queries(count: int) -> list[tuple[str, str]]:
    """Queries of the suite, each with the text that answers it, for the latency of a single one."""
    answers = {item.query: item.positive for item in _english() if isinstance(item, RetrievalItem)}
    return clock.take([(query, answers[query]) for query in _queries()], count)


def _queries() -> list[str]:
    return _mixed(item.query for item in _english() if isinstance(item, RetrievalItem))


def throughput_ratio(
    model: Mapping[Setting, Sequence[float]], baseline: Mapping[Setting, Sequence[float]]
) -> RepeatedMeasure:
    """Texts per second, model over baseline: each repeat's geometric mean over settings that both have."""
    common = [setting for setting in model if setting in baseline]
    ratios = np.array([np.divide(model[setting], baseline[setting]) for setting in common])
    return clock.measure(np.exp(np.log(ratios).mean(axis=0)).tolist())


def latency_ratio(model: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]]) -> RepeatedMeasure:
    """Median time of the baseline over the model's in each repeat; above 1 the model is faster."""
    return clock.measure([float(np.median(b) / np.median(m)) for m, b in zip(model, baseline, strict=True)])


def _english() -> Iterator[RetrievalItem | ClusteringItem]:
    for task in CATEGORIES:
        yield from (item for item in read_items(task) if item.language == LANGUAGE)


def _texts_of(item: RetrievalItem | ClusteringItem) -> list[str]:
    return [item.query, item.positive, *item.negatives] if isinstance(item, RetrievalItem) else [item.text]


def _mixed(found: Iterable[str]) -> list[str]:
    return sorted(set(found), key=lambda text: hashlib.sha256(text.encode()).digest())


def _joined(found: Sequence[str], words: int) -> Iterator[str]:
    parts: list[str] = []
    for text in found:
        parts.append(text)
        if sum(len(part.split()) for part in parts) >= words:
            yield " ".join(parts)
            parts = []


def _load(config: Config, layout: Layout, key: str) -> Contender:
    _, snapshot = model_sources.read_for(layout.models / key, config.models[key], config.device.numerics)
    loaded = embrepro.models.load(snapshot, config.models[key], config.device)
    inputs = pairs if embrepro.models.takes_pairs(loaded) else texts
    return Contender(key, loaded, {length: inputs(length) for length in LENGTHS})


def _calibrate(contenders: Sequence[Contender], wanted: Benchmark) -> None:
    """Find how many texts each measurement takes; leave out batches that would take a model too long."""
    for contender, length in product(contenders, LENGTHS):
        rate = math.inf
        for batch_size in wanted.batch_sizes:
            if batch_size / rate > wanted.longest_batch:
                break
            count, rate = clock.calibrate(contender.loaded, contender.pool[length], batch_size, wanted.seconds)
            contender.counts[Setting(length, batch_size)] = count


def _measure_throughput(contenders: Sequence[Contender], repeats: int) -> None:
    """Every setting once in each repeat, the models in turn: a slow moment falls on one repeat of each alike.

    Each repeat goes on to the next texts, so that a handful of them does not stand for all.
    """
    settings = list(dict.fromkeys(setting for each in contenders for setting in each.counts))
    with console.work(STAGE, f"{contenders[0].key} throughput", repeats * len(settings), "settings") as work:
        for repeat, setting in product(range(repeats), settings):
            for contender in contenders:
                if count := contender.counts.get(setting):
                    chosen = clock.take(contender.pool[setting.length], count, repeat * count)
                    elapsed = clock.seconds(contender.loaded, chosen, setting.batch_size)
                    contender.rates.setdefault(setting, []).append(count / elapsed)
            work.advance(1)


def _measure_latency(contenders: Sequence[Contender], wanted: Benchmark) -> None:
    asked = queries(wanted.queries * wanted.repeats)
    for contender in contenders:
        for query in asked[:WARM_UP_QUERIES]:
            clock.seconds(contender.loaded, _alone(contender, query), 1)
    with console.work(STAGE, f"{contenders[0].key} latency", len(asked), "queries") as work:
        for start in range(0, len(asked), wanted.queries):
            for contender in contenders:
                contender.latencies.append([])
            for query in asked[start : start + wanted.queries]:
                for contender in contenders:
                    contender.latencies[-1].append(1000 * clock.seconds(contender.loaded, _alone(contender, query), 1))
                work.advance(1)


def _alone(contender: Contender, query: tuple[str, str]) -> Inputs:
    """A single query as a model takes it: with its answer, or by itself."""
    return [query] if embrepro.models.takes_pairs(contender.loaded) else [query[0]]


def _speed(config: Config, layout: Layout, contender: Contender, process: clock.FreshProcess) -> ModelSpeed:
    model = config.models[contender.key]
    manifest, snapshot = model_sources.read(layout.models / contender.key)
    known = embrepro.models.describe(contender.loaded)
    size = config.device.batch_size or model.batch_size or FOOTPRINT_BATCH
    batch = clock.take(contender.pool["long"], size)
    alone = process.footprint(snapshot, model, config.device, batch, size, config.benchmark.repeats)
    samples = [value for block in contender.latencies for value in block]
    p50, p95, p99 = np.percentile(samples, [50, 95, 99]).tolist()
    return ModelSpeed(
        model=contender.key,
        load_seconds=clock.measure(alone.load_seconds),
        peak_memory_mb=alone.peak_memory_mb,
        throughput=[_throughput(contender, setting) for setting in contender.counts],
        latency=Latency(p50=p50, p95=p95, p99=p99, samples=samples),
        size_mb=manifest.bytes / 1e6,
        dimensions=known.dimensions,
        parameters=known.parameters,
        max_seq_length=known.max_seq_length,
        normalised=known.normalised,
        pairs=embrepro.models.takes_pairs(contender.loaded),
    )


def _throughput(contender: Contender, setting: Setting) -> Throughput:
    rates = contender.rates[setting]
    embedded = contender.pool[setting.length][: contender.counts[setting] * len(rates)]
    tokens_per_text = embrepro.models.count_tokens(contender.loaded, embedded) / len(embedded)
    rate = clock.measure(rates)
    return Throughput(
        length=setting.length,
        tokens_per_text=tokens_per_text,
        batch_size=setting.batch_size,
        texts_per_second=rate,
        tokens_per_second=RepeatedMeasure(
            median=rate.median * tokens_per_text,
            low=rate.low * tokens_per_text,
            high=rate.high * tokens_per_text,
            repeats=rate.repeats,
        ),
    )


def _machine(config: Config, layout: Layout, threads: int, busy: float | None = None) -> Machine:
    found = provenance.collect(layout.root, device=config.device.name, threads=threads)
    return Machine(
        processor=found.processor,
        cores=found.cores,
        threads=threads,
        device=f"{found.device} ({found.gpu})" if found.gpu else found.device,
        memory_gb=psutil.virtual_memory().total / 1e9,
        system=f"{platform.system()} {platform.release()}",
        busy=busy,
    )


def _say(report: SpeedReport, key: str, seconds: float) -> None:
    measured = key if key in report.models else report.baseline
    found = report.models[measured]
    fastest = max(setting.texts_per_second.median for setting in found.throughput)
    unit = "pairs" if found.pairs else "texts"
    words = f"up to {fastest:.0f} {unit}/s, a query in {found.latency.p50:.2f} ms, {found.size_mb:.1f} MB"
    if ratio := report.throughput_ratio.get(key):
        interval = f"[{ratio.low:.3g}, {ratio.high:.3g}]"
        words += f", {ratio.median:.3g} {interval} times the throughput of {report.baseline}"
    console.say(f"benchmark {measured}: {words}, measured in {console.duration(seconds)}")
    if report.machine.busy is not None and report.machine.busy > clock.BUSY:
        console.say_error(
            f"benchmark {measured}: other processes took {report.machine.busy:.0%} of the cores' time meanwhile; these times are "
            f"doubtful, the ratios less so. On a quiet machine: dvc repro --force --single-item benchmark@{key}"
        )
