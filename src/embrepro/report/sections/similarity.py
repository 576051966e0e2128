"""How similar positive and negative pairs are to each other."""

from __future__ import annotations

from functools import partial
from itertools import accumulate

import altair as alt

from embrepro.rendering.drawing import Drawing, figure
from embrepro.rendering.formats import DASH
from embrepro.rendering.model import Column, Figure, Section, Table, Value
from embrepro.rendering.palette import LIGHT
from embrepro.report.cells import compared_keys, role_of
from embrepro.results.summary import Histogram, Summary


def section(summary: Summary) -> Section | None:
    """A chart for each task and model, and their figures; None where no task has labelled pairs."""
    if not summary.histograms:
        return None
    lead = ["The further apart the two distributions, the better the model tells a positive from a negative."]
    figures = similarity_figures(summary)
    groups = [figures[start : start + 2] for start in range(0, len(figures), 2)]
    found = [similarities_table(summary)]
    return Section("similarities", "Similarity of positives and negatives", lead, found, groups, short="Similarity")


def similarities_table(summary: Summary) -> Table:
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
    return Table("similarities", "The same in figures", columns, rows, restack=True, folded=True)


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


def similarity_figures(summary: Summary) -> list[Figure]:
    """Similarities of positives (filled) and negatives (outlined), one chart for each task and model that is compared."""
    drawn = []
    shown = compared_keys(summary)
    for number, one in enumerate(each for each in summary.histograms if each.positives and each.model in shown):
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
