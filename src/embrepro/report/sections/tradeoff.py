"""Quality against speed and size: where each model stands, and which none beats."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import altair as alt

from embrepro.benchmarking.speed import ModelSpeed, SpeedReport, Throughput
from embrepro.rendering.drawing import (
    Drawing,
    figure,
    labels_beside,
    log_axis,
    log_domain,
    log_scale,
    role_colour,
    role_shape,
)
from embrepro.rendering.formats import DASH, quantity, score, shorten, yes_no
from embrepro.rendering.model import Column, Figure, Section, Table, Value
from embrepro.rendering.palette import LIGHT
from embrepro.report.cells import SIDE_BY_SIDE, are_many, legend_of_roles, model_keys, role_note, role_of
from embrepro.report.origins import Origins
from embrepro.results.summary import Summary
from embrepro.statistics.pareto import undominated


def section(summary: Summary, speed: SpeedReport | None, origins: Origins) -> Section:
    """The table of positions, and a chart for each of speed and size."""
    title = "Quality against speed and size"
    if speed is None:
        return Section("trade", title, absent="Not shown: no benchmark was run.", short="Trade-off")
    figures = trade_figures(summary, speed)
    lead = [] if figures else ["No chart: the mean score is not computed while requested tasks are missing."]
    return Section("trade", title, lead, [positions_table(summary, speed, origins)], [figures], short="Trade-off")


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
    """Where each measured model stands, and whether none is at least as good in all and better in one.

    Many come from the highest mean to the lowest.
    """
    raw = []
    for key in model_keys(summary):
        if key in speed.models:
            measured, means = speed.models[key], summary.means.get(key)
            best = _fastest(measured)
            texts = best.texts_per_second.median if best else None
            raw.append((key, means.mean_task if means else None, texts, measured.size_mb, measured.latency.p50))
    front = undominated([(quality, texts, -size) for _, quality, texts, size, _ in raw])
    found = [Position(*values, on_front=on_front) for values, on_front in zip(raw, front, strict=True)]
    return sorted(found, key=lambda each: -(each.quality or 0.0)) if are_many(summary) else found


def _fastest(speed: ModelSpeed) -> Throughput | None:
    """The setting with the most texts per second, of medium texts where the benchmark took some."""
    for length in ("medium", "short", "long"):
        if settings := [setting for setting in speed.throughput if setting.length == length]:
            return max(settings, key=lambda setting: setting.texts_per_second.median)
    return None


def positions_table(summary: Summary, speed: SpeedReport, origins: Origins) -> Table:
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
                Value(position.model, note=role_note(summary, position.model)),
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


def trade_figures(summary: Summary, speed: SpeedReport) -> list[Figure]:
    """Mean score against throughput and against size, with the Pareto front; none without a mean."""
    found = [position for position in positions(summary, speed) if position.quality is not None]
    if not found:
        return []
    legend = legend_of_roles(summary)
    labels = {position.model: shorten(position.model, 22) for position in found}
    if are_many(summary):
        legend = [(role_of(summary, each.model), f"{place} {each.model}") for place, each in enumerate(found, 1)]
        labels = {position.model: str(place) for place, position in enumerate(found, 1)}
    drawn = []
    for name, axis, faster in (
        ("speed", "texts per second, log scale", True),
        ("size", "MB on disk, log scale", False),
    ):
        rows: list[dict[str, Any]] = []
        for position in found:
            value = position.texts_per_second if faster else position.size_mb
            if value and position.quality is not None:
                rows.append(
                    {
                        "model": position.model,
                        "role": role_of(summary, position.model),
                        "x": value,
                        "y": 100 * position.quality,
                        "label": labels[position.model],
                    }
                )
        if not rows:
            continue
        front = undominated([(row["x"] if faster else -row["x"], row["y"]) for row in rows])
        rows = [row | {"front": on_front} for row, on_front in zip(rows, front, strict=True)]
        words = "; ".join(f"{r['model']} {r['y']:.2f} at {quantity(r['x'])}" for r in rows)
        caption = "Quality against " + (
            "throughput: up and right is better" if faster else "size: up and left is better"
        )
        drawn.append(
            figure(
                f"trade-{name}",
                caption,
                f"{caption}. {words}.",
                partial(_trade_chart, rows, axis),
                [*legend, ("front", "Pareto front of the two axes")],
            )
        )
    return drawn


def _trade_chart(rows: list[dict[str, Any]], axis: str, width: int) -> Drawing:
    many = len(rows) > SIDE_BY_SIDE
    height = 300 if many else 220
    across = log_domain([row["x"] for row in rows])
    lowest, highest = (bound(row["y"] for row in rows) for bound in (min, max))
    up = [max(0, 10 * math.floor(lowest / 10 - 0.5)) if many else 0, min(100, 10 * math.ceil(highest / 10 + 0.5))]
    x = alt.X("x:Q", title=axis, scale=log_scale(across), axis=log_axis(across))
    y = alt.Y("y:Q", title="mean main score", scale=alt.Scale(domain=up, nice=False))
    base = alt.Chart(alt.InlineData(values=rows))
    front = base.transform_filter("datum.front").mark_line(
        interpolate="step-after" if "MB" in axis else "step-before",
        color=LIGHT["axis"],
        strokeDash=[4, 3],
        strokeWidth=1.5,
    )
    # What is drawn last is on top.
    others_first = alt.InlineData(values=sorted(rows, key=lambda row: row["role"] != "other"))
    points = (
        alt.Chart(others_first)
        .mark_point(filled=True, size=90 if many else 130, opacity=1)
        .encode(color=role_colour("role"), shape=role_shape("role"))
    )
    places = [
        (
            width * math.log(row["x"] / across[0]) / math.log(across[1] / across[0]),
            height * (up[1] - row["y"]) / (up[1] - up[0]),
        )
        for row in rows
    ]
    labels = [
        alt.Chart(alt.InlineData(values=[row]))
        .mark_text(fontSize=11, fontWeight=600)
        .encode(text="label:N", color=role_colour("role"), x=alt.value(left), y=alt.value(top))
        for row, (left, top) in zip(rows, labels_beside(places, [row["label"] for row in rows], width), strict=True)
    ]
    return alt.layer(*[layer.encode(x=x, y=y) for layer in (front, points)], *labels).properties(
        width=width, height=height
    )
