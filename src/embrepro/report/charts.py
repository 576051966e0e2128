"""Charts about scores, drawn by altair when the page is made, so that the page needs no script for them."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import altair as alt

from embrepro.benchmarking.speed import SpeedReport
from embrepro.report.cells import quantity, signed
from embrepro.report.drawing import (
    FULL,
    Drawing,
    Figure,
    figure,
    legend_of_roles,
    log_axis,
    log_domain,
    log_scale,
    names_axis,
    role_colour,
    role_of,
    role_shape,
    shorten,
    svg_of,
    tone_colour,
)
from embrepro.report.machine_tables import overlap, positions
from embrepro.report.palette import LIGHT
from embrepro.results.summary import Histogram, Summary


def differences(summary: Summary) -> Figure | None:
    """Difference by task with its interval, from the greatest gain to the greatest loss."""
    rows: list[dict[str, Any]] = [
        {
            "task": task.name,
            "estimate": 100 * found.estimate,
            "low": 100 * (found.interval.low if found.interval else found.estimate),
            "high": 100 * (found.interval.high if found.interval else found.estimate),
            "tone": {"better": "good", "worse": "bad", "not tested": "untested"}.get(found.outcome, "even"),
        }
        for task in summary.tasks
        if (found := task.difference) is not None
    ]
    if not rows:
        return None
    rows.sort(key=lambda row: -row["estimate"])
    words = "; ".join(f"{row['task']} {signed(row['estimate'] / 100)}" for row in rows)
    models = f"{summary.candidate} minus {summary.baseline}"
    legend = [("good", "better"), ("bad", "worse"), ("even", "not distinguishable")]
    caption = f"Score differences by task: {models}, points of 100, with 95 % intervals"
    return Figure(
        "differences",
        caption,
        f"{caption}. {words}.",
        lambda: svg_of(_forest(rows, FULL, 240), "differences"),
        lambda: svg_of(_forest(rows, 190, 110), "differences-narrow"),
        [*legend, ("untested", "not tested")] if any(row["tone"] == "untested" for row in rows) else legend,
    )


def _forest(rows: list[dict[str, Any]], width: int, label: int) -> Drawing:
    order = [row["task"] for row in rows]
    tasks = alt.Y("task:N", sort=order, title=None, axis=names_axis(label))
    base = alt.Chart(alt.InlineData(values=rows)).encode(y=tasks, color=tone_colour("tone"))
    spans = base.mark_rule(strokeWidth=2.5, strokeCap="round", opacity=0.55).encode(
        x=alt.X("low:Q", title="difference, points", scale=alt.Scale(zero=True, nice=True)), x2="high:Q"
    )
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        x="estimate:Q",
        shape=alt.Shape(
            "tone:N",
            scale=alt.Scale(
                domain=["good", "bad", "even", "untested"],
                range=["triangle-right", "triangle-left", "circle", "cross"],
            ),
            legend=None,
        ),
    )
    zero = alt.Chart(alt.InlineData(values=[{"x": 0}])).mark_rule(color=LIGHT["muted"], strokeWidth=1).encode(x="x:Q")
    return alt.layer(zero, spans, points).properties(width=width, height=alt.Step(24 if len(rows) < 25 else 17))


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
        "types",
        caption,
        f"{caption}. {words}.",
        lambda: svg_of(_dumbbell(rows, FULL, 240), "types"),
        lambda: svg_of(_dumbbell(rows, 190, 110), "types-narrow"),
        legend_of_roles(summary),
    )


def _dumbbell(rows: list[dict[str, Any]], width: int, label: int) -> Drawing:
    axis = names_axis(label)
    base = alt.Chart(alt.InlineData(values=rows)).encode(y=alt.Y("type:N", title=None, axis=axis))
    x = alt.X("score:Q", title="mean main score", scale=alt.Scale(domain=[0, 100]), axis=alt.Axis(tickCount=5))
    lines = base.mark_line(color=LIGHT["axis"], strokeWidth=2).encode(x=x, detail="type:N")
    points = base.mark_point(filled=True, size=90, opacity=1).encode(
        x=x, color=role_colour("role"), shape=role_shape("role")
    )
    return alt.layer(lines, points).properties(width=width, height=alt.Step(26))


def trade(summary: Summary, speed: SpeedReport) -> list[Figure]:
    """Mean score against throughput and against size, with the Pareto front; none without a mean."""
    found = [position for position in positions(summary, speed) if position.quality is not None]
    if not found:
        return []
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
                        "label": shorten(position.model, 22),
                    }
                )
        if not rows:
            continue
        _mark_front(rows, faster)
        words = "; ".join(f"{r['model']} {r['y']:.2f} at {quantity(r['x'])}" for r in rows)
        caption = "Quality against " + (
            "throughput: up and right is better" if faster else "size: up and left is better"
        )
        drawn.append(
            figure(
                f"trade-{name}",
                caption,
                f"{caption}. {words}.",
                partial(_pareto, rows, axis),
                [*legend_of_roles(summary), ("front", "Pareto front of the two axes")],
            )
        )
    return drawn


def _mark_front(rows: list[dict[str, Any]], greater: bool) -> None:
    """Mark the rows that no other one beats on both axes."""
    sign = 1 if greater else -1
    for row in rows:
        row["front"] = not any(
            sign * other["x"] >= sign * row["x"]
            and other["y"] >= row["y"]
            and (other["x"] != row["x"] or other["y"] != row["y"])
            for other in rows
        )


def _pareto(rows: list[dict[str, Any]], axis: str, width: int) -> Drawing:
    domain = log_domain([row["x"] for row in rows])
    x = alt.X("x:Q", title=axis, scale=log_scale(domain), axis=log_axis(domain))
    highest = max(row["y"] for row in rows)
    y = alt.Y(
        "y:Q",
        title="mean main score",
        scale=alt.Scale(domain=[0, min(100, 10 * math.ceil(highest / 10 + 1))]),
    )
    base = alt.Chart(alt.InlineData(values=rows))
    front = base.transform_filter("datum.front").mark_line(
        interpolate="step-after" if "MB" in axis else "step-before",
        color=LIGHT["axis"],
        strokeDash=[4, 3],
        strokeWidth=1.5,
    )
    points = base.mark_point(filled=True, size=130, opacity=1).encode(
        color=role_colour("role"), shape=role_shape("role")
    )
    labels = base.mark_text(dy=-13, fontSize=11, fontWeight=600).encode(text="label:N", color=role_colour("role"))
    drawn = [layer.encode(x=x, y=y) for layer in (front, points, labels)]
    return alt.layer(*drawn).properties(width=width, height=220)


def similarities(summary: Summary) -> list[Figure]:
    """Similarities of positives (filled) and negatives (outlined), one chart for each task and model."""
    drawn = []
    for number, one in enumerate(found for found in summary.histograms if found.positives):
        shared = overlap(one)
        apart = "" if shared is None else f", overlap {100 * shared:.0f} %"
        caption = f"{one.task}, {one.model}{apart}"
        words = f"{caption}. {sum(one.positives)} positive and {sum(one.negatives)} negative pairs."
        draw = partial(_similarities, one, role_of(summary, one.model))
        legend = [(role_of(summary, one.model), "positive pairs"), ("outline", "negative pairs")]
        drawn.append(figure(f"similarity-{number}", caption, words, draw, legend))
    return drawn


def _similarities(one: Histogram, role: str, width: int) -> Drawing:
    def shares(counts: list[int]) -> list[dict[str, float]]:
        total = max(1, sum(counts))
        return [
            {"low": low, "high": high, "share": 100 * count / total, "zero": 0}
            for low, high, count in zip(one.edges[:-1], one.edges[1:], counts, strict=True)
        ]

    def outline(counts: list[int]) -> list[dict[str, float]]:
        steps = shares(counts)
        return [
            *({"at": step["low"], "share": step["share"]} for step in steps),
            {"at": one.edges[-1], "share": steps[-1]["share"]},
        ]

    domain = [one.edges[0], one.edges[-1]]
    x = alt.X(
        "low:Q",
        title="similarity",
        scale=alt.Scale(domain=domain, nice=False),
        axis=alt.Axis(tickCount=6, grid=False),
    )
    y = alt.Y("share:Q", title="% of pairs", axis=alt.Axis(tickCount=4))
    filled = alt.Chart(alt.InlineData(values=shares(one.positives))).mark_rect(color=LIGHT[role], opacity=0.65)
    filled = filled.encode(x=x, x2="high:Q", y=y, y2="zero:Q")
    line = (
        alt.Chart(alt.InlineData(values=outline(one.negatives)))
        .mark_line(color=LIGHT["bad"], interpolate="step-after", strokeWidth=1.8)
        .encode(x=alt.X("at:Q"), y="share:Q")
    )
    return alt.layer(filled, line).properties(width=width, height=120)
