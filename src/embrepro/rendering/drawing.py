"""How every chart is drawn: sizes, scales, colours and shapes by meaning, and the way from altair to SVG."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from typing import Any

import altair as alt

from embrepro.rendering.model import Figure
from embrepro.rendering.palette import LIGHT
from embrepro.results.summary import Interval

_FONT = "'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', Arial, sans-serif"
_SHAPES = {"baseline": "circle", "candidate": "diamond", "other": "square"}
# Widths of the drawing area, in pixels, of one, two and three charts side by side and on a phone.
FULL, HALF, THIRD, PHONE = 860, 490, 305, 265
STEP_BELOW_NAMES = 44
"""Height of a row, in pixels, that has its name above it in up to two lines."""

Drawing = alt.LayerChart | alt.FacetChart


def figure(
    name: str,
    caption: str,
    words: str,
    draw: Callable[[int], Drawing],
    legend: list[tuple[str, str]],
    wide: int = HALF,
) -> Figure:
    """One of several charts side by side, drawn again for a phone where it is too wide for one."""
    narrow = None if wide == THIRD else lambda: svg_of(draw(PHONE), f"{name}-narrow")
    return Figure(name, caption, words, lambda: svg_of(draw(wide), name), narrow, legend)


def forest_row(
    task: str, estimate: float, interval: Interval | None, words: str, tone: str, scale: int = 1
) -> dict[str, Any]:
    """A row of `forest_figure`; a difference without an interval is a point.

    Args:
        task: its name.
        estimate: the difference, in the score's own unit as `interval` is.
        interval: of the difference.
        words: the estimate as it is written.
        tone: see `tone_colour`.
        scale: what the axis shows is this many times as large.
    """
    low, high = (interval.low, interval.high) if interval else (estimate, estimate)
    drawn = {"estimate": scale * estimate, "low": scale * low, "high": scale * high}
    return {"task": task, **drawn, "words": words, "tone": tone}


def forest_figure(name: str, caption: str, title: str, rows: list[dict[str, Any]]) -> Figure:
    """Differences by task with their intervals, from the greatest gain to the greatest loss.

    Args:
        name: the figure's identifier.
        caption: what is shown.
        title: of the axis.
        rows: each as `forest_row` makes it.
    """
    rows = sorted(rows, key=lambda row: -row["estimate"])
    words = "; ".join(f"{row['task']} {row['words']}" for row in rows)
    legend = [("good", "better"), ("bad", "worse"), ("even", "not distinguishable")]
    return Figure(
        name,
        caption,
        f"{caption}. {words}.",
        lambda: svg_of(_forest(rows, title, FULL, 240), name),
        lambda: svg_of(_forest(rows, title, PHONE, None), f"{name}-narrow"),
        [*legend, ("untested", "not tested")] if any(row["tone"] == "untested" for row in rows) else legend,
    )


def _forest(rows: list[dict[str, Any]], title: str, width: int, room: int | None) -> Drawing:
    """Intervals by task; names stand at the side where there is room (in pixels) for them, else above."""
    order = [row["task"] for row in rows]
    tasks = alt.Y("task:N", sort=order, title=None, axis=names_axis(room) if room else None)
    base = alt.Chart(alt.InlineData(values=rows)).encode(y=tasks, color=tone_colour("tone"))
    spans = base.mark_rule(strokeWidth=2.5, strokeCap="round", opacity=0.55).encode(
        x=alt.X("low:Q", title=title, scale=alt.Scale(zero=True, nice=True)), x2="high:Q"
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
    if room is None:
        names = names_above(rows, "task", tasks)
        return alt.layer(zero, spans, points, *names).properties(width=width, height=alt.Step(STEP_BELOW_NAMES))
    return alt.layer(zero, spans, points).properties(width=width, height=alt.Step(24 if len(rows) < 25 else 17))


def svg_of(chart: Drawing, name: str) -> str:
    """The chart as an SVG element for HTML, the same for the same chart whatever was drawn before."""
    styled = chart.configure(background="transparent", font=_FONT, aria=False, padding=2).configure_view(stroke=None)
    styled = styled.configure_axis(
        labelColor=LIGHT["muted"],
        titleColor=LIGHT["muted"],
        gridColor=LIGHT["grid"],
        domainColor=LIGHT["axis"],
        tickColor=LIGHT["axis"],
        labelFontSize=11,
        titleFontSize=11,
        titleFontWeight="normal",
        tickSize=4,
        labelOverlap="greedy",
        labelFlush=False,
    )
    drawn = io.StringIO()
    styled.save(drawn, format="svg")
    return _for_page(drawn.getvalue(), name)


def _for_page(svg: str, name: str) -> str:
    """Drop what HTML does not need; rename identifiers, which vega counts up while the process lives."""
    svg = re.sub(r' (?:xmlns(?::xlink)?|version)="[^"]*"', "", svg)
    svg = svg.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)
    found = dict.fromkeys(re.findall(r' id="([^"]+)"', svg))
    for number, identifier in enumerate(found):
        svg = svg.replace(f'id="{identifier}"', f'id="{name}-{number}"').replace(
            f"#{identifier})", f"#{name}-{number})"
        )
    return svg


def names_axis(room: int) -> alt.Axis:
    """Names beside their rows, in the same room whatever they are, so that charts line up."""
    return alt.Axis(labelLimit=room - 10, minExtent=room, labelPadding=8, grid=False, domain=False, ticks=False)


def names_above(rows: list[dict[str, Any]], field_name: str, y: alt.Y) -> list[alt.Chart]:
    """Whole names above their rows, for a chart that is too narrow for them at its side.

    Args:
        rows: of the chart.
        field_name: the field that holds the name.
        y: the encoding of the rows, `STEP_BELOW_NAMES` apart.
    """
    by_count: dict[int, list[dict[str, str]]] = {}
    for name in dict.fromkeys(row[field_name] for row in rows):
        label = in_lines(name, 42)
        by_count.setdefault(label.count("\n"), []).append({field_name: name, "label": label})
    return [
        # A text of several lines hangs from the first of them, which must start higher for each line below it.
        alt.Chart(alt.InlineData(values=labels))
        .mark_text(
            align="left",
            baseline="bottom",
            dy=-9 - 12 * below,
            fontSize=11,
            color=LIGHT["ink"],
            lineBreak="\n",
            lineHeight=12,
        )
        .encode(y=y, x=alt.value(0), text="label:N")
        for below, labels in sorted(by_count.items())
    ]


def in_lines(name: str, length: int) -> str:
    """A name over as many lines as it takes, broken where its words meet, such as in CamelCase."""
    lines = [""]
    for part in re.split(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[\s/_-])", name):
        for piece in (part[start : start + length] for start in range(0, len(part), length)):
            if len(lines[-1]) + len(piece) > length:
                lines.append("")
            lines[-1] += piece
    return "\n".join(lines)


def labels_beside(points: list[tuple[float, float]], labels: list[str], width: int) -> list[tuple[float, float]]:
    """Where labels stand, each near its point, so that none covers a point or another label as far as there is room.

    Args:
        points: from the left and from the top of the drawing area, in pixels.
        labels: one for each point, drawn at 11 pixels; earlier ones choose first.
        width: of the drawing area, in pixels, which labels stay within.

    Returns:
        The middle of each label, in pixels.
    """
    taken = [_box(x, y, 10, 10) for x, y in points]
    found = []
    for (x, y), label in zip(points, labels, strict=True):
        wide = 6.6 * len(label)
        aside = wide / 2 + 9
        near = [
            (0, -14),
            (0, 15),
            (aside, 0),
            (-aside, 0),
            *((side * aside, rise) for side in (1, -1) for rise in (-11, 12)),
        ]
        far = [(reach * right, reach * down) for reach in (1.7, 2.4) for right, down in near]
        choices = [_box(x + right, y + down, wide, 12) for right, down in (*near, *far)]
        free = (
            box for box in choices if box[0] >= 0 and box[1] <= width and not any(_meet(box, other) for other in taken)
        )
        box = next(free, choices[0])
        taken.append(box)
        found.append(((box[0] + box[1]) / 2, (box[2] + box[3]) / 2))
    return found


def _box(x: float, y: float, wide: float, high: float) -> tuple[float, float, float, float]:
    return x - wide / 2, x + wide / 2, y - high / 2, y + high / 2


def _meet(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]


def log_scale(domain: list[float]) -> alt.Scale:
    """A logarithmic scale of just these bounds."""
    return alt.Scale(type="log", domain=domain, nice=False)


def log_axis(domain: list[float], style: str = "~s") -> alt.Axis:
    """Ticks at the powers of ten, and between them where there are few."""
    first, last = math.floor(math.log10(domain[0])), math.ceil(math.log10(domain[1]))
    steps = (1,) if last - first > 3 else (1, 2, 5)
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return alt.Axis(values=[tick for tick in ticks if domain[0] <= tick <= domain[1]], format=style)


def log_domain(values: list[float], margin: float = 0.5) -> list[float]:
    """Bounds of a logarithmic axis, widened by a factor on both sides."""
    low, high = min(values), max(values)
    factor = 1 / (1 - margin / 2) if high > 1.5 * low else 2
    return [low / factor, high * factor]


def tone_colour(field_name: str) -> alt.Color:
    """Colour by outcome: good, bad, even, or untested."""
    colours = {"good": LIGHT["good"], "bad": LIGHT["bad"], "even": LIGHT["even"], "untested": LIGHT["axis"]}
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color(f"{field_name}:N", scale=scale, legend=None)


def role_colour(field_name: str) -> alt.Color:
    """Colour by the part a model plays."""
    roles = list(_SHAPES)
    return alt.Color(
        f"{field_name}:N", scale=alt.Scale(domain=roles, range=[LIGHT[role] for role in roles]), legend=None
    )


def role_shape(field_name: str) -> alt.Shape:
    """Shape by the part a model plays, so that colour is not needed to tell them apart."""
    scale = alt.Scale(domain=list(_SHAPES), range=list(_SHAPES.values()))
    return alt.Shape(f"{field_name}:N", scale=scale, legend=None)
