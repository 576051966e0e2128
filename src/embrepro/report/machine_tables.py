"""Rows of the tables about speed, similarities, models and provenance; shared by Markdown and HTML."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from embrepro.benchmarking.speed import ModelSpeed, SpeedReport, Throughput
from embrepro.report.cells import DASH, Column, Table, Value, measure, model_keys, quantity, score, yes_no
from embrepro.report.origins import Origins
from embrepro.results.provenance import Provenance
from embrepro.results.summary import Histogram, ModelCard, Summary

_LENGTHS = ("short", "medium", "long")


def best_throughput(speed: ModelSpeed, length: str | None = None) -> Throughput | None:
    """The setting with the most texts per second, of one length class or else of medium texts."""
    lengths = [length] if length else [name for name in ("medium", "short", "long")]
    for name in lengths:
        settings = [setting for setting in speed.throughput if setting.length == name]
        if settings:
            return max(settings, key=lambda setting: setting.texts_per_second.median)
    return None


@dataclass(frozen=True)
class Position:
    """One model in the trade of quality against speed and size."""

    model: str
    quality: float | None
    texts_per_second: float | None
    size_mb: float
    p50: float
    on_front: bool


def positions(summary: Summary, speed: SpeedReport) -> list[Position]:
    """Where each measured model stands, and whether none is at least as good in all and better in one."""
    raw = []
    for key in model_keys(summary):
        if key in speed.models:
            measured, means = speed.models[key], summary.means.get(key)
            best = best_throughput(measured)
            texts = best.texts_per_second.median if best else None
            raw.append((key, means.mean_task if means else None, texts, measured.size_mb, measured.latency.p50))
    return [Position(*values, on_front=not any(_dominates(other, values) for other in raw)) for values in raw]


def _dominates(one: tuple, other: tuple) -> bool:
    """Whether `one` is nowhere worse than `other` in quality, throughput and size, and somewhere better."""
    if None in one[1:4] or None in other[1:4]:
        return False
    gains = (one[1] - other[1], one[2] - other[2], other[3] - one[3])
    return all(gain >= 0 for gain in gains) and any(gain > 0 for gain in gains)


def pareto(summary: Summary, speed: SpeedReport, origins: Origins) -> Table:
    """Quality, throughput and size side by side."""
    columns = [
        Column("Model"),
        Column("Mean score", note="over tasks, \u00d7 100", numeric=True),
        Column("Texts per second", note="medium length, best batch size", numeric=True),
        Column("Size", note="MB", numeric=True),
        Column("Query p50", note="ms", numeric=True),
        Column("On the Pareto front"),
    ]
    rows = []
    for position in positions(summary, speed):
        known = position.quality is not None
        origin = origins.of_speed(position.model)
        rows.append(
            [
                Value(position.model, note=summary.models[position.model].role),
                Value(
                    score(position.quality),
                    sort=position.quality,
                    origin=origins.of_mean("mean_task", position.model, position.quality),
                )
                if position.quality is not None
                else Value("not computed", tone="missing"),
                Value(DASH)
                if position.texts_per_second is None
                else Value(quantity(position.texts_per_second), sort=position.texts_per_second, origin=origin),
                Value(quantity(position.size_mb), sort=position.size_mb, origin=origin),
                Value(quantity(position.p50), sort=position.p50, origin=origin),
                Value(yes_no(position.on_front) if known else "not decided: no mean score"),
            ]
        )
    return Table("pareto", "Mean score, throughput, size and latency of each model", columns, rows, restack=True)


def speed_overview(summary: Summary, speed: SpeedReport, origins: Origins) -> Table:
    """Everything but throughput: one row per quantity, one column per model."""
    keys = [key for key in model_keys(summary) if key in speed.models]
    found = [speed.models[key] for key in keys]
    marks = [origins.of_speed(key) for key in keys]

    def row(title: str, note: str, values: list[Value]) -> list[Value]:
        linked = [Value(v.text, v.note, v.sort, v.tone, mark) for v, mark in zip(values, marks, strict=True)]
        return [Value(title, note=note), *linked]

    rows = [
        row("Latency p50", "ms, single query", [Value(quantity(m.latency.p50)) for m in found]),
        row("Latency p95", "ms, single query", [Value(quantity(m.latency.p95)) for m in found]),
        row("Latency p99", "ms, single query", [Value(quantity(m.latency.p99)) for m in found]),
        row("Time to load", "seconds", [measure(m.load_seconds) for m in found]),
        row("Peak memory", "MB, resident", [Value(quantity(m.peak_memory_mb)) for m in found]),
        row("Size on disk", "MB", [Value(quantity(m.size_mb)) for m in found]),
        row("Parameters", "millions", [Value(f"{m.parameters / 1e6:.2f}") for m in found]),
        row("Dimensions", "", [Value(DASH if m.dimensions is None else f"{m.dimensions}") for m in found]),
    ]
    columns = [
        Column("Quantity"),
        *[Column(key, note=summary.models[key].role, numeric=True) for key in keys],
    ]
    machine = speed.machine
    place = f"{machine.processor}, {machine.device}, {machine.threads} threads of {machine.cores} cores"
    caption = f"Speed and size on {place}"
    return Table("speed", caption, columns, rows, plain=True)


def ratios(speed: SpeedReport) -> list[str]:
    """The candidate against the baseline, in words."""
    found = []
    for model, ratio in sorted(speed.throughput_ratio.items()):
        if model != speed.baseline:
            found.append(
                f"{model} encodes {quantity(ratio.median)} [{quantity(ratio.low)}, {quantity(ratio.high)}]"
                f" times as many texts per second as {speed.baseline}, over the settings both have, both in one run."
            )
    for model, ratio in sorted(speed.latency_ratio.items()):
        if model != speed.baseline:
            found.append(
                f"A single query takes {speed.baseline} {quantity(ratio.median)}"
                f" [{quantity(ratio.low)}, {quantity(ratio.high)}] times as long as {model} (p50)."
            )
    return found


def throughput(summary: Summary, speed: SpeedReport, origins: Origins) -> Table:
    """Texts and tokens per second for every length and batch size."""
    keys = [key for key in model_keys(summary) if key in speed.models]
    by_setting = {key: {(s.length, s.batch_size): s for s in speed.models[key].throughput} for key in keys}
    settings = sorted({s for found in by_setting.values() for s in found}, key=_setting_order)
    columns = [Column("Texts"), Column("Batch", numeric=True)]
    for key in keys:
        columns += [Column(key, note="texts/s", numeric=True), Column(key, note="tokens/s", numeric=True)]
    rows = []
    for setting in settings:
        found = [by_setting[key].get(setting) for key in keys]
        tokens = next(s.tokens_per_text for s in found if s)
        row = [
            Value(setting[0], note=f"{quantity(tokens)} tokens", sort=tokens),
            Value(str(setting[1]), sort=setting[1]),
        ]
        for key, one in zip(keys, found, strict=True):
            row += _throughput_cells(one, origins.of_speed(key))
        rows.append(row)
    return Table("throughput", "Throughput: median and 95 % interval", columns, rows, collapsed=True)


def _setting_order(setting: tuple[str, int]) -> tuple[int, str, int]:
    length, batch = setting
    return (_LENGTHS.index(length) if length in _LENGTHS else len(_LENGTHS), length, batch)


def _throughput_cells(one: Throughput | None, origin: str) -> list[Value]:
    if one is None:
        return [Value(DASH), Value(DASH)]
    cells = [measure(one.texts_per_second), measure(one.tokens_per_second)]
    return [Value(cell.text, cell.note, cell.sort, origin=origin) for cell in cells]


def similarities(summary: Summary) -> Table:
    """Positives against negatives in figures: medians and the share by which the distributions overlap."""
    columns = [
        Column("Task"),
        Column("Model"),
        Column("Pairs", note="positive / negative", numeric=True),
        Column("Median similarity", note="positive / negative", numeric=True),
        Column("Overlap", numeric=True),
        Column("Positives", note="by similarity"),
        Column("Negatives", note="by similarity"),
    ]
    rows = []
    for one in summary.histograms:
        shared = overlap(one)
        low, high = one.edges[0], one.edges[-1]
        rows.append(
            [
                Value(one.task),
                Value(one.model),
                Value(f"{sum(one.positives):,} / {sum(one.negatives):,}", sort=sum(one.positives)),
                Value(f"{_median(one.edges, one.positives)} / {_median(one.edges, one.negatives)}"),
                Value(DASH) if shared is None else Value(f"{100 * shared:.0f} %", sort=shared),
                Value(_spark(one.positives), note=f"{low:.2f} to {high:.2f}".replace("-", "\u2212")),
                Value(_spark(one.negatives)),
            ]
        )
    return Table("similarities", "The same in figures", columns, rows, restack=True, collapsed=True)


def overlap(one: Histogram) -> float | None:
    """Shared area of the two distributions, 0 (apart) to 1 (the same); null where one of them is empty."""
    positive, negative = sum(one.positives), sum(one.negatives)
    if not positive or not negative:
        return None
    return sum(min(p / positive, n / negative) for p, n in zip(one.positives, one.negatives, strict=True))


def _median(edges: list[float], counts: list[int]) -> str:
    total = sum(counts)
    if not total:
        return DASH
    before = 0
    for index, upto in enumerate(accumulate(counts)):
        if 2 * upto >= total:
            share = (total / 2 - before) / counts[index]
            return f"{edges[index] + share * (edges[index + 1] - edges[index]):.2f}".replace("-", "\u2212")
        before = upto
    return DASH


def _spark(counts: list[int], width: int = 16) -> str:
    """Counts as a row of at most `width` block characters, for places that show no chart."""
    step = max(1, -(-len(counts) // width))
    merged = [sum(counts[start : start + step]) for start in range(0, len(counts), step)]
    top = max(merged, default=0)
    blocks = " ▁▂▃▄▅▆▇█"
    return "".join(blocks[0 if not count else max(1, round(8 * count / top))] for count in merged).replace(" ", "·")


def models(summary: Summary) -> Table:
    """Model cards side by side: one row per property."""
    keys = model_keys(summary)
    cards = [summary.models[key] for key in keys]
    recipe = sorted({name for card in cards for name in card.recipe})
    rows = [
        _card_row("Name", [card.name for card in cards], code=True),
        _card_row("Family", [card.family for card in cards]),
        _card_row("Revision", [card.revision for card in cards], code=True),
        _card_row("SHA-256 of the content", [card.content_hash for card in cards], code=True),
        _card_row("Served by", [card.source for card in cards]),
        _card_row("Licence", [card.licence or "not stated" for card in cards]),
        _card_row("Dimensions", [card.dimensions for card in cards]),
        _card_row("Dimensions that are not zero", [_active(card) for card in cards]),
        _card_row("Parameters", [card.parameters and f"{card.parameters:,}" for card in cards]),
        _card_row("Maximum sequence length", [card.max_seq_length or "unlimited" for card in cards]),
        _card_row("Number type", [card.dtype for card in cards]),
        _card_row("Normalised", [yes_no(card.normalised) for card in cards]),
        _card_row("Similarity", [card.similarity for card in cards]),
        _card_row("Size on disk, MB", [card.size_mb and f"{card.size_mb:.1f}" for card in cards]),
        _card_row("Distilled from", [card.distilled_from for card in cards]),
        *[_card_row(f"Recipe: {name}", [card.recipe.get(name) for card in cards]) for name in recipe],
    ]
    kept = [row for row in rows if any(value.text != DASH for value in row[1:])]
    columns = [Column("Property"), *[Column(key, note=summary.models[key].role) for key in keys]]
    return Table("models", "What each model is, as found on disk", columns, kept, plain=True)


def _active(card: ModelCard) -> str | None:
    """Mean number of active dimensions by prompt kind, and what share of all dimensions is zero."""
    parts = [
        f"{prompt or 'text'} {active:.1f} ({100 * (1 - active / card.dimensions):.2f} % zero)"
        for prompt, active in card.active_dimensions.items()
        if card.dimensions
    ]
    return ", ".join(parts) or None


def _card_row(title: str, values: list, code: bool = False) -> list[Value]:
    texts = [DASH if value is None else str(value) for value in values]
    return [Value(title), *[Value(text, code=code and text != DASH) for text in texts]]


def provenance(found: Provenance, summary: Summary) -> Table:
    """What produced this report."""
    dirty = {True: "with uncommitted changes", False: "clean", None: ""}[found.dirty]
    pairs = [
        ("Commit", found.commit or "not in a git repository", dirty, bool(found.commit)),
        ("Branch", found.branch, "", True),
        ("Date", found.date, "", False),
        ("SHA-256 of params.yaml", found.config_hash, "", True),
        (
            "Custom suite",
            f"version {summary.suite.version}" if summary.suite else None,
            summary.suite.content_hash if summary.suite else "",
            False,
        ),
        ("Python", found.python, "", False),
        ("Platform", found.platform, "", False),
        ("Processor", found.processor, f"{found.cores} cores", False),
        ("Device", found.device, found.gpu or "", False),
        ("Threads", found.threads, "", False),
        ("Container image", found.image or "none: on the host", "", bool(found.image)),
        *[(f"Recipe: {name}", value, "", False) for name, value in sorted(summary.recipe.items())],
    ]
    rows = [
        [Value(title), Value(str(value), note=note, code=code)]
        for title, value, note, code in pairs
        if value is not None
    ]
    return Table(
        "provenance",
        "What produced this report",
        [Column("Property"), Column("Value", wide=True)],
        rows,
        plain=True,
    )


def packages(found: Provenance, summary: Summary) -> Table:
    """Versions of the packages; those a score depends on come from the run that computed it."""
    versions = found.packages | summary.packages
    rows = [[Value(name), Value(version, code=True)] for name, version in sorted(versions.items())]
    return Table("packages", "Package versions", [Column("Package"), Column("Version")], rows, collapsed=True)


def commands(found: Provenance) -> Table:
    """The command of every stage."""
    rows = [[Value(name, code=True), Value(command, code=True)] for name, command in found.commands.items()]
    return Table(
        "commands",
        "Commands of the stages",
        [Column("Stage"), Column("Command", wide=True)],
        rows,
        collapsed=True,
    )
