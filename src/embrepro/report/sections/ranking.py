"""Three or more models: who leads, who cannot be told apart, what to pick for what, and how far it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from embrepro.benchmarking.speed import SpeedReport
from embrepro.rendering.drawing import FULL, PHONE, STEP_BELOW_NAMES, Drawing, figure, names_above, names_axis
from embrepro.rendering.formats import DASH, names, probability, quantity, score, signed
from embrepro.rendering.model import Column, Figure, Section, Table, Value
from embrepro.rendering.palette import LIGHT
from embrepro.report.cells import role_note, task_name, why_no_score
from embrepro.report.origins import Origins
from embrepro.results.summary import ModelPair, RankedModel, Ranking, Summary

_AVERAGES = {
    "tasks": ("Tasks", "mean of scores"),
    "types": ("Types", "mean of their means"),
    "median": ("Median", "of scores"),
    "standardised": ("Standardised", "mean of scores"),
    "ranks": ("Ranks", "mean by task"),
}
"""Ways of averaging, each with the words for its column."""


def section(summary: Summary, speed: SpeedReport | None, origins: Origins) -> Section | None:
    """The ranking, the choice by need, all scores and all pairs; None where there are but two models."""
    found = summary.ranking
    if found is None:
        return None
    return Section(
        "ranking",
        "Ranking",
        lead=choices(summary, speed),
        tables=[
            ranking_table(
                found,
                {key: role_note(summary, key) for key in summary.models},
                {each.key: origins.of_mean("mean_task", each.key, each.mean_task) for each in found.models},
            ),
            robustness_table(found),
            scores_table(summary, origins),
            pairs_table(found),
        ],
        figures=[[ranks_figure(found)]],
        notes=ranking_notes(found),
    )


def ranking_notes(found: Ranking) -> list[str]:
    """How far a ranking holds, who is not in it, and what counts without uncertainty."""
    return [
        f"A true difference of {score(found.detectable)} between two means would be found in four of five cases "
        "(median over the pairs); a smaller one easily stays hidden.",
        "All pairs are tested together by resampling the samples for all models at once: the chance of any false difference "
        "among them is at most 5 %. Intervals of ranks hold for all models at once, at 95 %, for these tasks.",
        *[f"{key} has no rank: {why}." for key, why in found.unranked.items()],
        *[f"{task} counts without uncertainty: {why}." for task, why in found.untested.items()],
    ]


def leaders_sentence(found: Ranking) -> str:
    """Who has the highest mean, and who cannot be told apart from it."""
    first = found.models[0]
    like = _like_the_first(found)
    lead = f"{first.key} has the highest mean over tasks, {score(first.mean_task)}, of {len(found.models)} models"
    if not like:
        return f"{lead}, and the difference to every other one is beyond doubt."
    return f"{lead}; {_and(like)} cannot be told apart from it with this data."


def choices(summary: Summary, speed: SpeedReport | None) -> list[str]:
    """Which model to pick for what: quality, speed and size among those that are as good, and by task type."""
    found = summary.ranking
    if found is None:
        return []
    best = [found.models[0].key, *_like_the_first(found)]
    said = []
    if len(best) > 1:
        named = [f"the {words} is {key} ({value})" for key, words, value in _extremes(summary, speed, best)]
        if named:
            said.append(f"Among {_and(best)}, {' and '.join(named)}: pick by that, since quality does not decide.")
    else:
        said.append(f"For quality, pick {best[0]}.")
    every = [model.key for model in found.models]
    rest = [
        f"{key} is the {words} of all ({value}), at a mean of {score(_mean(found, key))}"
        for key, words, value in _extremes(summary, speed, every)
        if key not in best
    ]
    if rest:
        said.append("; ".join(rest) + ".")
    if len(found.best_by_type) > 1:
        by_type = [f"{kind}: {' or '.join(keys)}" for kind, keys in found.best_by_type.items()]
        said.append(f"By task type, the best and those like it: {'; '.join(by_type)}.")
    return said


def _like_the_first(found: Ranking) -> list[str]:
    first = found.models[0].key
    return [pair.other for pair in found.pairs if pair.one == first and not pair.distinct]


def _mean(found: Ranking, key: str) -> float:
    return next(model.mean_task for model in found.models if model.key == key)


def _extremes(summary: Summary, speed: SpeedReport | None, keys: Sequence[str]) -> list[tuple[str, str, str]]:
    """The fastest and the smallest of some models, each with the words for that and its value; one entry for one model.

    Models were measured one after the other, each in turn with the baseline: speed is compared by that ratio.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    if speed is not None and (fastest := _fastest(speed, keys)) is not None:
        key, ratio = fastest
        value = f"{quantity(ratio)} times the baseline's texts/s" if key != speed.baseline else "the baseline"
        found.setdefault(key, []).append(("fastest", value))
    sizes = {key: size for key in keys if (size := summary.models[key].size_mb) is not None}
    if len(sizes) == len(keys) > 1:
        key = min(sizes, key=sizes.__getitem__)
        found.setdefault(key, []).append(("smallest", f"{quantity(sizes[key])} MB"))
    return [
        (key, " and the ".join(word for word, _ in said), ", ".join(value for _, value in said))
        for key, said in found.items()
    ]


def _fastest(speed: SpeedReport, keys: Sequence[str]) -> tuple[str, float] | None:
    """The model with the greatest throughput and its ratio to the baseline's, None unless it is known of all."""
    known = {key: each.median for key, each in speed.throughput_ratio.items()} | {speed.baseline: 1.0}
    if len(keys) < 2 or any(key not in known or key not in speed.models for key in keys):
        return None
    key = max(keys, key=known.__getitem__)
    return key, known[key]


def _and(keys: Sequence[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{', '.join(keys[:-1])} and {keys[-1]}"


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}\u2013{high}"


def ranking_table(found: Ranking, notes: Mapping[str, str], origins: Mapping[str, str] | None = None) -> Table:
    """Each model with its rank, what the data leaves possible, its groups, and what it wins and loses.

    Args:
        found: the ranking.
        notes: what stands below each model's name.
        origins: the origin of each model's mean.
    """
    first = found.models[0].key
    to_first = {pair.other: pair for pair in found.pairs if pair.one == first}
    columns = [
        Column("Model"),
        Column("Mean", note="over tasks, \u00d7 100", numeric=True),
        Column("Rank", note="95 % interval", numeric=True),
        Column("Groups", note="alike within one"),
        Column("Behind the first", note="adjusted p", numeric=True),
        Column("Wins, losses", note="by task, beyond doubt"),
        Column("Best on", aside=True, wide=True),
    ]
    tasks = found.models[0].comparisons // (len(found.models) - 1)
    rows = [
        _ranked_row(model, to_first.get(model.key), tasks, notes.get(model.key, ""), (origins or {}).get(model.key))
        for model in found.models
    ]
    return Table(
        "ranking",
        "Models by their mean over tasks; those that share a group cannot be told apart",
        columns,
        rows,
        restack=True,
    )


def _ranked_row(model: RankedModel, behind: ModelPair | None, tasks: int, note: str, origin: str | None) -> list[Value]:
    even = model.comparisons - model.wins - model.losses
    best = f"{len(model.best_on)} of {tasks} tasks" if len(model.best_on) > 3 else names(model.best_on)
    return [
        Value(model.key, note=note),
        Value(score(model.mean_task), sort=model.mean_task, origin=origin),
        Value(str(model.rank), note=_span(model.rank_low, model.rank_high), sort=model.rank),
        Value(" ".join(_letter(place) for place in model.groups)),
        Value(DASH, sort=0.0)
        if behind is None
        else Value(
            signed(-behind.difference),
            note=probability(behind.p_adjusted),
            sort=-behind.difference,
            tone="bad" if behind.distinct else "even",
        ),
        Value(
            f"{model.wins}, {model.losses}", note=f"{even} of {model.comparisons} even", sort=model.wins - model.losses
        ),
        Value(best),
    ]


def _letter(place: int) -> str:
    """a, b, ... z, aa, ab, ..."""
    return (_letter(place // 26 - 1) if place >= 26 else "") + chr(ord("a") + place % 26)


def robustness_table(found: Ranking) -> Table:
    """Rank of each model by other ways of averaging, and without any one task."""
    columns = [
        Column("Model"),
        *[Column(title, note=note, numeric=True) for title, note in _AVERAGES.values()],
        Column("One left out", note="least and greatest", numeric=True),
    ]
    rows = [
        [
            Value(model.key),
            *[
                Value(str(place), sort=place, tone="" if model.rank_low <= place <= model.rank_high else "warn")
                for place in map(model.by_averaging.__getitem__, _AVERAGES)
            ],
            Value(_span(*model.without_a_task) if model.without_a_task else DASH),
        ]
        for model in found.models
    ]
    caption = "Ranks by other ways of averaging, and the least and greatest when one task is left out"
    return Table("robustness", caption, columns, rows, restack=True)


def scores_table(summary: Summary, origins: Origins) -> Table:
    """Main scores of all models on all tasks."""
    found = summary.ranking
    assert found is not None
    keys = [*[model.key for model in found.models], *found.unranked]
    rows = []
    for task in summary.tasks:
        highest = max((cell.score for cell in task.cells.values() if cell.score is not None), default=None)
        row = [task_name(task)]
        for key in keys:
            cell = task.cells.get(key)
            if cell is None or cell.score is None:
                row.append(Value("missing", note=why_no_score(cell), tone="missing"))
            else:
                tone: Any = "good" if cell.score == highest else ""
                row.append(Value(score(cell.score), sort=cell.score, tone=tone, origin=origins.of_score(task, key)))
        rows.append(row)
    columns = [Column("Task"), *[Column(key, numeric=True) for key in keys]]
    return Table("scores", "Main scores \u00d7 100 of all models", columns, rows, folded=True)


def pairs_table(found: Ranking) -> Table:
    """Every pair of models."""
    columns = [
        Column("Models"),
        Column("Difference", note="of means over tasks", numeric=True),
        Column("Standard error", numeric=True),
        Column("Adjusted p", numeric=True),
        Column("Can be detected", note="in four of five cases", numeric=True),
        Column("Verdict"),
    ]
    rows = [
        [
            Value(f"{pair.one}, {pair.other}"),
            Value(signed(pair.difference), sort=pair.difference),
            Value(score(pair.standard_error), sort=pair.standard_error),
            Value(probability(pair.p_adjusted), sort=pair.p_adjusted),
            Value(score(pair.detectable), sort=pair.detectable),
            Value(
                f"{pair.one} is better" if pair.distinct else "not distinguishable",
                tone="good" if pair.distinct else "even",
            ),
        ]
        for pair in found.pairs
    ]
    return Table("pairs", "Every pair of models, tested together", columns, rows, restack=True, folded=True)


def ranks_figure(found: Ranking) -> Figure:
    """The ranks that the data leaves possible, from first to last."""
    rows: list[dict[str, Any]] = [
        {
            "model": model.key,
            "rank": model.rank,
            "low": model.rank_low,
            "high": model.rank_high,
        }
        for model in found.models
    ]
    words = "; ".join(f"{row['model']} {row['rank']} ({_span(row['low'], row['high'])})" for row in rows)
    caption = "Rank of each model with its 95 % interval"
    legend = [("candidate", "rank by mean over tasks")]
    return figure("ranks", caption, f"{caption}. {words}.", lambda width: _ranks_chart(rows, width), legend, FULL)


def _ranks_chart(rows: list[dict[str, Any]], width: int) -> Drawing:
    narrow = width == PHONE
    models = alt.Y("model:N", sort=[row["model"] for row in rows], title=None, axis=None if narrow else names_axis(200))
    base = alt.Chart(alt.InlineData(values=rows)).encode(y=models)
    scale = alt.Scale(domain=[1, len(rows)], nice=False, padding=12)
    axis = alt.Axis(values=list(range(1, len(rows) + 1)), format="d")
    x = alt.X("low:Q", title="rank", scale=scale, axis=axis)
    spans = base.mark_rule(strokeWidth=2.5, strokeCap="round", opacity=0.55, color=LIGHT["candidate"]).encode(
        x=x, x2="high:Q"
    )
    points = base.mark_point(filled=True, size=80, opacity=1, color=LIGHT["candidate"], shape="diamond").encode(
        x=alt.X("rank:Q")
    )
    if narrow:
        return alt.layer(spans, points, *names_above(rows, "model", models)).properties(
            width=width, height=alt.Step(STEP_BELOW_NAMES)
        )
    return alt.layer(spans, points).properties(width=width - 200, height=alt.Step(24))
