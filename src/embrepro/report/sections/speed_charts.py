"""Charts about speed: the distribution of latencies, and throughput over batch sizes."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import altair as alt

from embrepro.benchmarking.speed import ModelSpeed, SpeedReport
from embrepro.rendering.drawing import THIRD, Drawing, figure, log_axis, log_domain, log_scale, role_colour, role_shape
from embrepro.rendering.formats import quantity
from embrepro.rendering.model import Figure
from embrepro.rendering.palette import LIGHT
from embrepro.report.cells import compared_keys, drawing_order, legend_of_roles, role_of
from embrepro.results.summary import Summary


def latency_figures(summary: Summary, speed: SpeedReport) -> list[Figure]:
    """Distribution of the latency of a single query for each model that is compared, on one logarithmic scale."""
    found = {key: speed.models[key] for key in compared_keys(summary) if key in speed.models}
    samples = [value for one in found.values() for value in one.latency.samples if value > 0]
    if not samples:
        return []
    domain = log_domain(samples, 0.9)
    drawn = []
    for number, (key, one) in enumerate(found.items()):
        times = one.latency
        figures = f"p50 {quantity(times.p50)} ms, p95 {quantity(times.p95)} ms, p99 {quantity(times.p99)} ms"
        caption = f"Latency of a single query, {key}"
        draw = partial(_latency, one, role_of(summary, key), domain)
        legend = [(role_of(summary, key), figures)]
        drawn.append(figure(f"latency-{number}", caption, f"{caption}: {figures}.", draw, legend))
    return drawn


def _latency(one: ModelSpeed, role: str, domain: list[float], width: int) -> Drawing:
    low, high, bins = math.log(domain[0]), math.log(domain[1]), 60
    counts = [0] * bins
    for value in one.latency.samples:
        if value > 0:
            counts[min(bins - 1, int((math.log(value) - low) / (high - low) * bins))] += 1
    edges = [math.exp(low + (high - low) * index / bins) for index in range(bins + 1)]
    total = max(1, sum(counts))
    rows = [
        {"low": edges[i], "high": edges[i + 1], "share": 100 * count / total, "zero": 0}
        for i, count in enumerate(counts)
        if count
    ]
    x = alt.X("low:Q", title="milliseconds, log scale", scale=log_scale(domain), axis=log_axis(domain, "~g"))
    bars = alt.Chart(alt.InlineData(values=rows)).mark_rect(color=LIGHT[role], opacity=0.85)
    y = alt.Y("share:Q", title="% of queries", axis=alt.Axis(tickCount=4))
    bars = bars.encode(x=x, x2="high:Q", y=y, y2="zero:Q")
    marks = [{"at": getattr(one.latency, name), "name": name} for name in ("p50", "p95", "p99")]
    rules = alt.Chart(alt.InlineData(values=marks)).mark_rule(color=LIGHT["ink"], strokeDash=[3, 3]).encode(x="at:Q")
    labels = alt.Chart(alt.InlineData(values=_spread(marks, domain, width))).mark_text(
        color=LIGHT["ink"], fontSize=10, baseline="bottom", dy=-3
    )
    labels = labels.encode(x="at:Q", y=alt.value(0), text="name:N")
    return alt.layer(bars, rules, labels).properties(width=width, height=130)


def _spread(marks: list[dict[str, Any]], domain: list[float], width: int) -> list[dict[str, Any]]:
    """Labels moved apart, along a logarithmic axis, where they would cover each other."""
    room = 24 / width * math.log(domain[1] / domain[0])
    placed: list[dict[str, Any]] = []
    for mark in marks:
        at = math.log(max(mark["at"], domain[0]))
        if placed:
            at = max(at, math.log(placed[-1]["at"]) + room)
        placed.append({"at": math.exp(at), "name": mark["name"]})
    return placed


def throughput_figures(summary: Summary, speed: SpeedReport) -> list[Figure]:
    """Texts per second over batch size, one chart for each length of text, all on one scale."""
    rows: list[dict[str, Any]] = [
        {
            "length": setting.length,
            "batch": setting.batch_size,
            "role": role_of(summary, key),
            "model": key,
            "rate": setting.texts_per_second.median,
            "low": setting.texts_per_second.low,
            "high": setting.texts_per_second.high,
        }
        for key in drawing_order(summary)
        if key in speed.models
        for setting in speed.models[key].throughput
        if setting.texts_per_second.low > 0
    ]
    lengths = [name for name in ("short", "medium", "long") if any(row["length"] == name for row in rows)]
    domain = log_domain([value for row in rows for value in (row["low"], row["high"])]) if rows else []
    drawn = []
    for length in lengths:
        part = [row for row in rows if row["length"] == length]
        words = "; ".join(f"{r['model']} batch {r['batch']}: {quantity(r['rate'])}" for r in part)
        caption = f"Throughput on {length} texts by batch size"
        name, draw = f"throughput-{length}", partial(_throughput, part, domain)
        drawn.append(figure(name, caption, f"{caption}. {words}.", draw, legend_of_roles(summary), wide=THIRD))
    return drawn


def _throughput(rows: list[dict[str, Any]], domain: list[float], width: int) -> Drawing:
    batches = sorted({row["batch"] for row in rows})
    x = alt.X("batch:O", title="batch size", sort=batches, axis=alt.Axis(labelAngle=0))
    y = alt.Y("rate:Q", title="texts per second, log scale", scale=log_scale(domain), axis=log_axis(domain))
    base = alt.Chart(alt.InlineData(values=rows)).encode(x=x, color=role_colour("role"))
    lines = base.mark_line(strokeWidth=2).encode(y=y, detail="model:N")
    spans = base.mark_rule(strokeWidth=2, opacity=0.5).encode(y=alt.Y("low:Q"), y2="high:Q")
    points = base.mark_point(filled=True, size=60, opacity=1).encode(y=y, shape=role_shape("role"))
    return alt.layer(lines, spans, points).properties(width=width, height=180)
