"""Means by task type."""

from __future__ import annotations

from typing import Any

import altair as alt

from embrepro.rendering.drawing import (
    FULL,
    PHONE,
    STEP_BELOW_NAMES,
    Drawing,
    names_above,
    names_axis,
    role_colour,
    role_shape,
    svg_of,
)
from embrepro.rendering.formats import DASH, score
from embrepro.rendering.model import Column, Figure, Section, Table, Value
from embrepro.rendering.palette import LIGHT
from embrepro.report.cells import (
    compared_keys,
    compares,
    drawing_order,
    legend_of_roles,
    mean_difference_cells,
    missing_tasks,
    role_columns,
    role_of,
)
from embrepro.report.origins import Origins
from embrepro.results.summary import Summary


def section(summary: Summary, origins: Origins) -> Section:
    """The means of each type as a table and as a chart."""
    chart = types_figure(summary)
    tables = [types_table(summary, origins)]
    return Section("types", "By task type", tables=tables, figures=[[chart]] if chart else [], short="Types")


def types_table(summary: Summary, origins: Origins) -> Table:
    """Means by task type; null where a task of the type is missing."""
    columns = [
        Column("Task type"),
        Column("Tasks", note="scored of requested", numeric=True),
        *role_columns(summary),
    ]
    if compares(summary):
        columns.append(Column("Difference", note="95 % interval", numeric=True))
        columns.append(Column("Verdict", aside=True))
    found = sorted({task.type for task in summary.tasks})
    rows = [_type_row(summary, name, origins) for name in found]
    return Table("types", "Mean main score \u00d7 100 by task type", columns, rows, restack=True)


def _type_row(summary: Summary, name: str, origins: Origins) -> list[Value]:
    keys = compared_keys(summary)
    tasks = {task.name for task in summary.tasks if task.type == name}
    missing = {key: tasks & set(missing_tasks(summary, key)) for key in keys}
    lost = len(set().union(*missing.values()))
    values = {key: means.by_type.get(name) if (means := summary.means.get(key)) else None for key in keys}
    row = [Value(name), Value(f"{len(tasks) - lost} of {len(tasks)}", sort=len(tasks) - lost)]
    for key in keys:
        value = values[key]
        words = f"not computed: {len(missing[key])} of {len(tasks)} tasks missing" if missing[key] else "not computed"
        if value is None:
            row.append(Value(words, tone="missing"))
        else:
            row.append(Value(score(value), sort=value, origin=origins.of_type(name, key, value)))
    if not compares(summary):
        return row
    before, after = values[summary.baseline], values[summary.candidate]
    if before is None or after is None:
        return [*row, Value(DASH), Value(DASH)]
    return [*row, *mean_difference_cells(summary.mean_differences.by_type.get(name), name, after - before, origins)]


def types_figure(summary: Summary) -> Figure | None:
    """Means by task type of all models, joined by a line; none where fewer than two models have one of the same type."""
    rows = []
    for name in sorted({task.type for task in summary.tasks}):
        values = {key: means.by_type.get(name) for key in drawing_order(summary) if (means := summary.means.get(key))}
        found = [
            {"type": name, "model": key, "role": role_of(summary, key), "score": 100 * value}
            for key, value in values.items()
            if value is not None
        ]
        rows += found if len(found) > 1 else []
    if not rows:
        return None
    words = "; ".join(f"{row['type']} {row['model']} {row['score']:.2f}" for row in rows)
    caption = "Mean main score by task type, points of 100"
    return Figure(
        "types",
        caption,
        f"{caption}. {words}.",
        lambda: svg_of(_dumbbell(rows, FULL, 240), "types"),
        lambda: svg_of(_dumbbell(rows, PHONE, None), "types-narrow"),
        legend_of_roles(summary),
    )


def _dumbbell(rows: list[dict[str, Any]], width: int, room: int | None) -> Drawing:
    """A point for each model by type; names stand at the side where there is room (in pixels) for them, else above."""
    types = alt.Y("type:N", title=None, axis=names_axis(room) if room else None)
    base = alt.Chart(alt.InlineData(values=rows)).encode(y=types)
    x = alt.X("score:Q", title="mean main score", scale=alt.Scale(domain=[0, 100]), axis=alt.Axis(tickCount=5))
    lines = base.mark_line(color=LIGHT["axis"], strokeWidth=2).encode(x=x, detail="type:N")
    points = base.mark_point(filled=True, size=90, opacity=1).encode(
        x=x, color=role_colour("role"), shape=role_shape("role")
    )
    if room is None:
        names = names_above(rows, "type", types)
        return alt.layer(lines, points, *names).properties(width=width, height=alt.Step(STEP_BELOW_NAMES))
    return alt.layer(lines, points).properties(width=width, height=alt.Step(26))
