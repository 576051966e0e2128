"""Two states side by side, as a document; its tables are the gate's, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from embrepro.regression.diff import MEASURES, NOTED, RevisionComparison, ScoreChange
from embrepro.rendering.drawing import forest_figure, forest_row
from embrepro.rendering.formats import (
    DASH,
    fraction,
    short_interval,
    shorten,
    signed_fraction,
    signed_fraction_interval,
)
from embrepro.rendering.model import Document, Figure, Section, Table, Tone, Value, columns_of, filled
from embrepro.results.summary import Interval


def comparison_page(comparison: RevisionComparison) -> Document:
    """Every score before and after, and what else is different."""
    moved = sum(1 for row in comparison.rows if row.difference)
    lead = ["p is corrected for the number of each model's tasks (Holm)."] if comparison.rows else []
    return Document(
        title=f"{comparison.old} against {comparison.new}",
        verdict=f"{len(comparison.rows)} scores, {moved} of them different; {len(comparison.changes)} other changes.",
        sections=[
            Section("comparison", lead=lead, tables=filled([means_table(comparison)])),
            Section(
                "scores",
                figures=difference_figures(comparison),
                tables=filled(
                    [
                        scores_table(comparison, comparison.rows, "scores", "Main scores"),
                        measures_table(comparison),
                        changes_table(comparison),
                    ]
                ),
                notes=comparison.notes,
            ),
        ],
    )


def difference_figures(comparison: RevisionComparison) -> list[list[Figure]]:
    """A chart for each model that changed: its differences by task with their intervals."""
    figures = []
    for number, model in enumerate(dict.fromkeys(row.model for row in comparison.rows)):
        known = [row for row in comparison.rows if row.model == model and not row.incomparable]
        rows = [_drawn(row, row.difference) for row in known if row.difference is not None]
        if any(row["estimate"] for row in rows):
            level = f"paired {100 * comparison.level:g} % intervals"
            caption = f"{model}: change by task from {comparison.old} to {comparison.new}, with {level}"
            figures.append([forest_figure(f"changes-{number}", caption, "change of the main score", rows)])
    return figures


def _drawn(row: ScoreChange, difference: float) -> dict[str, Any]:
    tone = _tone(difference, row.interval) if row.interval else "untested"
    return forest_row(row.task, difference, row.interval, signed_fraction(difference), tone)


def means_table(comparison: RevisionComparison) -> Table:
    """The mean over tasks of each model, before and after."""
    level = f"paired {100 * comparison.level:g} % interval"
    columns = columns_of(
        ("model", "old", "new", "difference", level, "tasks", "note"),
        {"old", "new", "difference", level, "tasks"},
        {"note"},
    )
    rows = [
        [
            Value(mean.model),
            Value(fraction(mean.old), sort=mean.old),
            Value(fraction(mean.new), sort=mean.new),
            Value(
                DASH if mean.difference is None else signed_fraction(mean.difference),
                sort=mean.difference,
                tone=_tone(mean.difference, mean.interval),
            ),
            Value(signed_fraction_interval(mean.interval)),
            Value(str(mean.tasks), sort=mean.tasks),
            Value(mean.why),
        ]
        for mean in comparison.means
    ]
    return Table("means", "Means over tasks", columns, rows, restack=True)


def measures_table(comparison: RevisionComparison, *, folded: bool = False) -> Table:
    """Size, memory and speed; folded only where nothing of it is worse by more than is noted."""
    columns = columns_of(("model", "measure", "old", "new", "change"), {"old", "new", "change"})
    rows = []
    for each in comparison.measures:
        tone: Tone = ("bad" if each.worse > 0 else "good") if each.certain and abs(each.worse) > NOTED else "even"
        change = 100 * (each.new / each.old - 1)
        rows.append(
            [
                Value(each.model),
                Value(each.measure, code=True),
                Value(f"{each.old:.4g}", note=short_interval(each.old_interval), sort=each.old),
                Value(f"{each.new:.4g}", note=short_interval(each.new_interval), sort=each.new),
                Value(f"{change:+.1f} %", sort=change, tone=tone),
            ]
        )
    quiet = all(not each.certain or abs(each.worse) <= NOTED for each in comparison.measures)
    return Table("measures", MEASURES, columns, rows, restack=True, folded=folded and quiet)


def _tone(difference: float | None, interval: Interval | None) -> Tone:
    certain = interval is not None and (interval.low > 0 or interval.high < 0)
    return ("good" if (difference or 0) > 0 else "bad") if certain else "even"


def scores_table(
    comparison: RevisionComparison, shown: Sequence[ScoreChange], name: str, caption: str, *, folded: bool = False
) -> Table:
    """Some of the scores, before and after, with what says how sure each change is."""
    level = f"paired {100 * comparison.level:g} % interval"
    columns = columns_of(
        ("model", "task", "old", "new", "difference", level, "p", "samples", "note"),
        {"old", "new", "difference", level, "p", "samples"},
        {"note"},
    )
    return Table(name, caption, columns, [_score_row(row) for row in shown], restack=True, folded=folded)


def _score_row(row: ScoreChange) -> list[Value]:
    notes = [row.incomparable, f"not tested: {row.why_no_interval}" if row.why_no_interval else ""]
    notes += [f"before: {row.old_status}"] if row.old is None else []
    notes += [f"now: {row.new_status}"] if row.new is None else []
    tone = _tone(row.difference, row.interval)
    return [
        Value(row.model),
        Value(row.task),
        Value(fraction(row.old), sort=row.old),
        Value(fraction(row.new), sort=row.new),
        Value(DASH if row.difference is None else signed_fraction(row.difference), sort=row.difference, tone=tone),
        Value(signed_fraction_interval(row.interval)),
        Value(DASH if row.p_adjusted is None else "< 0.001" if row.p_adjusted < 0.001 else f"{row.p_adjusted:.3f}"),
        Value(DASH if row.samples is None else f"{row.samples:,}", sort=row.samples),
        Value("; ".join(note for note in notes if note)),
    ]


def changes_table(comparison: RevisionComparison) -> Table:
    """What is different but for scores and measures; folded where it is much."""
    rows = [
        [*map(Value, (change.kind, change.name, _cut(change.old), _cut(change.new)))] for change in comparison.changes
    ]
    columns = columns_of(("what", "name", "before", "after"), (), {"before", "after"})
    return Table("changes", "What else changed", columns, rows, restack=True, folded=len(rows) > 12)


def _cut(text: str, room: int = 80) -> str:
    """Hashes as far as they tell apart, long values as far as there is room."""
    if len(text) in (32, 36, 40, 64) and " " not in text:
        return text[:12]
    return shorten(text, room)
