"""Charts of the report: altair, rendered to SVG when the page is made, so that the page needs no script to show them."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import altair as alt

from embrepro.analysis.speed import ModelSpeed, SpeedReport
from embrepro.analysis.summary import Histogram, Summary
from embrepro.reporting.cells import model_keys, quantity, score, signed
from embrepro.reporting.machine_tables import overlap, positions
from embrepro.reporting.palette import LIGHT

_FONT = "'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', Arial, sans-serif"
_SHAPES = {"baseline": "circle", "candidate": "diamond", "other": "square"}
# Widths of the drawing area, in pixels, of one, two and three charts side by side and on a phone.
_FULL, _HALF, _THIRD, _PHONE = 860, 490, 305, 265


@dataclass(frozen=True)
class Figure:
    """A chart with what it shows in words.

    `svg` and `narrow`, for a phone where the other would be too small, draw when they are called: words need no drawing.
    """

    id: str
    caption: str
    alt: str
    svg: Callable[[], str]
    narrow: Callable[[], str] | None = None
    legend: list[tuple[str, str]] = field(default_factory=list)


def differences(summary: Summary) -> Figure | None:
    """Difference by task with its interval, from the greatest gain to the greatest loss."""
    rows = [
        {
            "task": task.name,
            "estimate": 100 * found.estimate,
            "low": 100 * (found.interval.low if found.interval else found.estimate),
            "high": 100 * (found.interval.high if found.interval else found.estimate),
            "tone": {"better": "good", "worse": "bad"}.get(found.outcome, "even"),
        }
        for task in summary.tasks
        if (found := task.difference) is not None
    ]
    if not rows:
        return None
    rows.sort(key=lambda row: -row["estimate"])
    words = "; ".join(f"{row['task']} {signed(row['estimate'] / 100)}" for row in rows)
    caption = f"Score differences by task: {summary.candidate} minus {summary.baseline}, points of 100, with 95 % intervals"
    return Figure(
        "differences",
        caption,
        f"{caption}. {words}.",
        lambda: _svg(_forest(rows, _FULL, 240), "differences"),
        lambda: _svg(_forest(rows, 190, 110), "differences-narrow"),
        [("good", "better"), ("bad", "worse"), ("even", "not distinguishable")],
    )


def _forest(rows: list[dict[str, Any]], width: int, label: int) -> alt.Chart | alt.LayerChart:
    order = [row["task"] for row in rows]
    tasks = alt.Y(
        "task:N", sort=order, title=None,
        axis=alt.Axis(labelLimit=label, labelPadding=8, grid=False, domain=False, ticks=False),
    )  # fmt: skip
    base = alt.Chart(alt.InlineData(values=rows)).encode(y=tasks, color=_tone("tone"))
    spans = base.mark_rule(strokeWidth=2.5, strokeCap="round", opacity=0.55).encode(
        x=alt.X("low:Q", title="difference, points", scale=alt.Scale(zero=True, nice=True)), x2="high:Q"
    )
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        x="estimate:Q",
        shape=alt.Shape(
            "tone:N",
            scale=alt.Scale(domain=["good", "bad", "even"], range=["triangle-right", "triangle-left", "circle"]),
            legend=None,
        ),
    )
    zero = alt.Chart(alt.InlineData(values=[{"x": 0}])).mark_rule(color=LIGHT["muted"], strokeWidth=1).encode(x="x:Q")
    return alt.layer(zero, spans, points).properties(width=width, height=alt.Step(24))


def types(summary: Summary) -> Figure | None:
    """Means by task type of both models, joined by a line."""
    keys = [summary.baseline, summary.candidate]
    rows = []
    for name in sorted({task.type for task in summary.tasks}):
        values = [means.by_type.get(name) if (means := summary.means.get(key)) else None for key in keys]
        if all(value is not None for value in values):
            rows += [
                {"type": name, "role": role, "score": 100 * float(value or 0)}
                for role, value in zip(("baseline", "candidate"), values, strict=True)
            ]
    if not rows or keys[0] == keys[1]:
        return None
    words = "; ".join(f"{row['type']} {row['role']} {row['score']:.2f}" for row in rows)
    caption = "Mean main score by task type, points of 100"
    return Figure(
        "types", caption, f"{caption}. {words}.",
        lambda: _svg(_dumbbell(rows, _FULL, 240), "types"), lambda: _svg(_dumbbell(rows, 190, 110), "types-narrow"),
        _roles(summary),
    )  # fmt: skip


def _dumbbell(rows: list[dict[str, Any]], width: int, label: int) -> alt.LayerChart:
    axis = alt.Axis(labelLimit=label, labelPadding=8, grid=False, domain=False, ticks=False)
    base = alt.Chart(alt.InlineData(values=rows)).encode(y=alt.Y("type:N", title=None, axis=axis))
    x = alt.X("score:Q", title="mean main score", scale=alt.Scale(domain=[0, 100]), axis=alt.Axis(tickCount=5))
    lines = base.mark_line(color=LIGHT["axis"], strokeWidth=2).encode(x=x, detail="type:N")
    points = base.mark_point(filled=True, size=90, opacity=1).encode(x=x, color=_role("role"), shape=_shape("role"))
    return alt.layer(lines, points).properties(width=width, height=alt.Step(26))


def trade(summary: Summary, speed: SpeedReport) -> list[Figure]:
    """Mean score against throughput and against size, with the Pareto front; none while a mean is not computed."""
    found = [position for position in positions(summary, speed) if position.quality is not None]
    if not found:
        return []
    drawn = []
    for name, axis, faster in (("speed", "texts per second, log scale", True), ("size", "MB on disk, log scale", False)):
        rows = []
        for position in found:
            value = position.texts_per_second if faster else position.size_mb
            if value and position.quality is not None:
                rows.append(
                    {"model": position.model, "role": _role_of(summary, position.model), "x": value,
                     "y": 100 * position.quality, "label": _shorten(position.model, 22)}
                )  # fmt: skip
        if not rows:
            continue
        _mark_front(rows, faster)
        words = "; ".join(f"{r['model']} {r['y']:.2f} at {quantity(r['x'])}" for r in rows)
        caption = "Quality against " + ("throughput: up and right is better" if faster else "size: up and left is better")
        drawn.append(
            _figure(f"trade-{name}", caption, f"{caption}. {words}.", partial(_pareto, rows, axis),
                    [*_roles(summary), ("front", "Pareto front of the two axes")])
        )  # fmt: skip
    return drawn


def _mark_front(rows: list[dict[str, Any]], greater: bool) -> None:
    """Mark the rows that no other one beats on both axes."""
    sign = 1 if greater else -1
    for row in rows:
        row["front"] = not any(
            sign * other["x"] >= sign * row["x"] and other["y"] >= row["y"]
            and (other["x"] != row["x"] or other["y"] != row["y"])
            for other in rows
        )  # fmt: skip


def _pareto(rows: list[dict[str, Any]], axis: str, width: int) -> alt.LayerChart:
    domain = _log_domain([row["x"] for row in rows])
    x = alt.X("x:Q", title=axis, scale=_log_scale(domain), axis=_log_axis(domain))
    highest = max(row["y"] for row in rows)
    y = alt.Y("y:Q", title="mean main score", scale=alt.Scale(domain=[0, min(100, 10 * math.ceil(highest / 10 + 1))]))
    base = alt.Chart(alt.InlineData(values=rows))
    front = base.transform_filter("datum.front").mark_line(
        interpolate="step-after" if "MB" in axis else "step-before", color=LIGHT["axis"], strokeDash=[4, 3], strokeWidth=1.5
    )
    points = base.mark_point(filled=True, size=130, opacity=1).encode(color=_role("role"), shape=_shape("role"))
    labels = base.mark_text(dy=-13, fontSize=11, fontWeight=600).encode(text="label:N", color=_role("role"))
    drawn = [layer.encode(x=x, y=y) for layer in (front, points, labels)]
    return alt.layer(*drawn).properties(width=width, height=220)


def latency(summary: Summary, speed: SpeedReport) -> list[Figure]:
    """Distribution of the latency of a single query for each model, on one logarithmic scale."""
    found = {key: speed.models[key] for key in model_keys(summary) if key in speed.models}
    samples = [value for one in found.values() for value in one.latency.samples if value > 0]
    if not samples:
        return []
    domain = _log_domain(samples, 0.9)
    drawn = []
    for number, (key, one) in enumerate(found.items()):
        times = one.latency
        figures = f"p50 {quantity(times.p50)} ms, p95 {quantity(times.p95)} ms, p99 {quantity(times.p99)} ms"
        caption = f"Latency of a single query, {key}"
        draw = partial(_latency, one, _role_of(summary, key), domain)
        legend = [(_role_of(summary, key), figures)]
        drawn.append(_figure(f"latency-{number}", caption, f"{caption}: {figures}.", draw, legend))
    return drawn


def _latency(one: ModelSpeed, role: str, domain: list[float], width: int) -> alt.LayerChart:
    low, high, bins = math.log(domain[0]), math.log(domain[1]), 60
    counts = [0] * bins
    for value in one.latency.samples:
        if value > 0:
            counts[min(bins - 1, int((math.log(value) - low) / (high - low) * bins))] += 1
    edges = [math.exp(low + (high - low) * index / bins) for index in range(bins + 1)]
    total = max(1, sum(counts))
    rows = [
        {"low": edges[i], "high": edges[i + 1], "share": 100 * count / total, "zero": 0}
        for i, count in enumerate(counts) if count
    ]  # fmt: skip
    x = alt.X("low:Q", title="milliseconds, log scale", scale=_log_scale(domain), axis=_log_axis(domain, "~g"))
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


def throughput(summary: Summary, speed: SpeedReport) -> list[Figure]:
    """Texts per second over batch size, one chart for each length of text, all on one scale."""
    rows = [
        {"length": setting.length, "batch": setting.batch_size, "role": _role_of(summary, key), "model": key,
         "rate": setting.texts_per_second.median, "low": setting.texts_per_second.low, "high": setting.texts_per_second.high}
        for key in model_keys(summary) if key in speed.models for setting in speed.models[key].throughput
    ]  # fmt: skip
    lengths = [name for name in ("short", "medium", "long") if any(row["length"] == name for row in rows)]
    domain = _log_domain([value for row in rows for value in (row["low"], row["high"]) if value > 0]) if rows else []
    drawn = []
    for length in lengths:
        part = [row for row in rows if row["length"] == length]
        words = "; ".join(f"{r['model']} batch {r['batch']}: {quantity(r['rate'])}" for r in part)
        caption = f"Throughput on {length} texts by batch size"
        name, draw = f"throughput-{length}", partial(_throughput, part, domain)
        drawn.append(_figure(name, caption, f"{caption}. {words}.", draw, _roles(summary), wide=_THIRD))
    return drawn


def _throughput(rows: list[dict[str, Any]], domain: list[float], width: int) -> alt.LayerChart:
    batches = sorted({row["batch"] for row in rows})
    x = alt.X("batch:O", title="batch size", sort=batches, axis=alt.Axis(labelAngle=0))
    y = alt.Y("rate:Q", title="texts per second, log scale", scale=_log_scale(domain), axis=_log_axis(domain))
    base = alt.Chart(alt.InlineData(values=rows)).encode(x=x, color=_role("role"))
    lines = base.mark_line(strokeWidth=2).encode(y=y, detail="model:N")
    spans = base.mark_rule(strokeWidth=2, opacity=0.5).encode(y=alt.Y("low:Q"), y2="high:Q")
    points = base.mark_point(filled=True, size=60, opacity=1).encode(y=y, shape=_shape("role"))
    return alt.layer(lines, spans, points).properties(width=width, height=180)


def similarities(summary: Summary) -> list[Figure]:
    """Similarities of positives (filled) and negatives (outlined), one chart for each task and model."""
    drawn = []
    for number, one in enumerate(summary.histograms):
        shared = overlap(one)
        apart = "" if shared is None else f", overlap {score(shared).removesuffix('.00')} %"
        caption = f"{one.task}, {one.model}{apart}"
        words = f"{caption}. {sum(one.positives)} positive and {sum(one.negatives)} negative pairs."
        draw = partial(_similarities, one, _role_of(summary, one.model))
        legend = [(_role_of(summary, one.model), "positive pairs"), ("outline", "negative pairs")]
        drawn.append(_figure(f"similarity-{number}", caption, words, draw, legend))
    return drawn


def _similarities(one: Histogram, role: str, width: int) -> alt.LayerChart:
    def shares(counts: list[int]) -> list[dict[str, float]]:
        total = max(1, sum(counts))
        return [
            {"low": low, "high": high, "share": 100 * count / total, "zero": 0}
            for low, high, count in zip(one.edges[:-1], one.edges[1:], counts, strict=True)
        ]

    def outline(counts: list[int]) -> list[dict[str, float]]:
        steps = shares(counts)
        return [*({"at": step["low"], "share": step["share"]} for step in steps), {"at": one.edges[-1], "share": steps[-1]["share"]}]

    domain = [one.edges[0], one.edges[-1]]
    x = alt.X("low:Q", title="similarity", scale=alt.Scale(domain=domain, nice=False), axis=alt.Axis(tickCount=6, grid=False))
    y = alt.Y("share:Q", title="% of pairs", axis=alt.Axis(tickCount=4))
    filled = alt.Chart(alt.InlineData(values=shares(one.positives))).mark_rect(color=LIGHT[role], opacity=0.65)
    filled = filled.encode(x=x, x2="high:Q", y=y, y2="zero:Q")
    line = alt.Chart(alt.InlineData(values=outline(one.negatives))).mark_line(
        color=LIGHT["bad"], interpolate="step-after", strokeWidth=1.8
    ).encode(x=alt.X("at:Q"), y="share:Q")
    return alt.layer(filled, line).properties(width=width, height=120)


def _figure(
    name: str, caption: str, words: str, draw: Callable[[int], alt.LayerChart], legend: list[tuple[str, str]],
    wide: int = _HALF,
) -> Figure:
    """One of several charts side by side, drawn again for a phone where it is too wide for one."""
    narrow = None if wide == _THIRD else lambda: _svg(draw(_PHONE), f"{name}-narrow")
    return Figure(name, caption, words, lambda: _svg(draw(wide), name), narrow, legend)


def _log_scale(domain: list[float]) -> alt.Scale:
    return alt.Scale(type="log", domain=domain, nice=False)


def _log_axis(domain: list[float], style: str = "~s") -> alt.Axis:
    """Ticks at the powers of ten, and between them where there are few."""
    first, last = math.floor(math.log10(domain[0])), math.ceil(math.log10(domain[1]))
    steps = (1,) if last - first > 3 else (1, 2, 5)
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return alt.Axis(values=[tick for tick in ticks if domain[0] <= tick <= domain[1]], format=style)


def _log_domain(values: list[float], margin: float = 0.5) -> list[float]:
    """Bounds of a logarithmic axis, widened by a factor on both sides."""
    low, high = min(values), max(values)
    factor = 1 / (1 - margin / 2) if high > 1.5 * low else 2
    return [low / factor, high * factor]


def _role_of(summary: Summary, model: str) -> str:
    if model == summary.candidate:
        return "candidate"
    return "baseline" if model == summary.baseline else "other"


def _roles(summary: Summary) -> list[tuple[str, str]]:
    return [(_role_of(summary, key), f"{key} ({summary.models[key].role})") for key in model_keys(summary)]


def _tone(field_name: str) -> alt.Color:
    tones = ["good", "bad", "even"]
    return alt.Color(f"{field_name}:N", scale=alt.Scale(domain=tones, range=[LIGHT[tone] for tone in tones]), legend=None)


def _role(field_name: str) -> alt.Color:
    roles = list(_SHAPES)
    return alt.Color(f"{field_name}:N", scale=alt.Scale(domain=roles, range=[LIGHT[role] for role in roles]), legend=None)


def _shape(field_name: str) -> alt.Shape:
    scale = alt.Scale(domain=list(_SHAPES), range=list(_SHAPES.values()))
    return alt.Shape(f"{field_name}:N", scale=scale, legend=None)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _svg(chart: alt.Chart | alt.LayerChart, name: str) -> str:
    """The chart as an SVG element for use inside HTML, the same for the same chart whatever was drawn before."""
    styled = chart.configure(background="transparent", font=_FONT, aria=False, padding=2).configure_view(stroke=None)
    styled = styled.configure_axis(
        labelColor=LIGHT["muted"], titleColor=LIGHT["muted"], gridColor=LIGHT["grid"], domainColor=LIGHT["axis"],
        tickColor=LIGHT["axis"], labelFontSize=11, titleFontSize=11, titleFontWeight="normal", tickSize=4,
        labelOverlap="greedy", labelFlush=False,
    )  # fmt: skip
    drawn = io.StringIO()
    styled.save(drawn, format="svg")
    return _for_page(drawn.getvalue(), name)


def _for_page(svg: str, name: str) -> str:
    """Drop what HTML does not need and give identifiers, which vega counts up while the process lives, stable names."""
    svg = re.sub(r' (?:xmlns(?::xlink)?|version)="[^"]*"', "", svg)
    svg = svg.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)
    found = dict.fromkeys(re.findall(r' id="([^"]+)"', svg))
    for number, identifier in enumerate(found):
        svg = svg.replace(f'id="{identifier}"', f'id="{name}-{number}"').replace(f"#{identifier})", f"#{name}-{number})")
    return svg
