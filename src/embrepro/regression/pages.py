"""What verify, compare, board, confirm, gate and history say, as documents. Scores are on the 0-1 scale, as in `metrics.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, cast

import altair as alt

from embrepro.regression.board import Board, BoardEntry
from embrepro.regression.committed import Confirmation, Moved
from embrepro.regression.diff import RevisionComparison, ScoreChange
from embrepro.regression.gate import NOTED, GateOutcome, Note
from embrepro.regression.history import Mark, Point, Series, measures, series
from embrepro.regression.published import CLOSE, ExpectedFile, Judged, MeasuredRun
from embrepro.rendering.drawing import THIRD, forest_figure, svg_of
from embrepro.rendering.formats import DASH
from embrepro.rendering.formats import score as points
from embrepro.rendering.model import Code, Column, Document, Figure, Link, Section, Table, Tone, Value, Words
from embrepro.rendering.palette import LIGHT
from embrepro.report.sections import ranking
from embrepro.results.summary import Interval

GATE_MARKER = "embrepro gate"
_VERDICT_TONES: dict[str, Tone] = {"OK": "good", "close": "warn", "FAIL": "bad", "not run": "even"}
_MEASURED = "Size and memory in MB; speed as ratios to the baseline, more is faster"
_LINE_COLOURS = ("candidate", "baseline", "other", "good", "bad", "even")


def published_page(
    files: Sequence[ExpectedFile],
    judged: Sequence[Judged],
    measured: MeasuredRun,
    *,
    every: bool = False,
    named: int = 4,
) -> Document:
    """The verdict on every expected number.

    Args:
        files: what is expected.
        judged: the verdicts.
        measured: the run.
        every: a row for each number that was not run, too; else they are gathered by reason.
        named: how many tasks are named for each reason.
    """
    counts = Counter(str(each.verdict) for each in judged)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in _VERDICT_TONES)
    verdict = f"{len(judged)} published scores: {told}."
    lead = [f"Close means within {CLOSE:g} times the tolerance."]
    if len(judged) == counts["not run"]:
        lead.append("Nothing was compared: this run scored none of them.")
    tables = [_published_table([each for each in judged if each.measured is not None or every])]
    tables += [] if every else [_not_run_table(judged, named)]
    return Document(
        title="Reproduced scores",
        verdict=verdict,
        tone="bad" if counts["FAIL"] else "good" if counts["OK"] + counts["close"] else "even",
        sections=[Section("published", lead=lead, tables=_filled(tables), notes=_beyond(files, measured))],
    )


def reproduced_page(files: Sequence[ExpectedFile], judged: Sequence[Judged], measured: MeasuredRun) -> Document:
    """The page `docs/reproduced.md`."""
    page = published_page(files, judged, measured, named=len(judged))
    packages = ", ".join(f"{name} {version}" for name, version in sorted(measured.packages.items()))
    models = "; ".join(f"{model.name} at {model.revision}" for model in measured.models)
    made: Words = [
        Code("embrepro verify --write"),
        " makes this page from ",
        Code("conf/expected/"),
        " and a run, whose scores it keeps in the JSON file beside it. Scores are on the 0-1 scale.",
    ]
    about = [f"Measured on {measured.device} with {packages}.", f"Models of the run: {models}."]
    section = page.sections[0]
    return Document(
        title=page.title,
        verdict=page.verdict,
        tone=page.tone,
        sections=[
            Section(
                section.id,
                lead=[made, *section.lead, *about],
                tables=section.tables,
                notes=[*_sources(files), *section.notes],
            )
        ],
    )


def comparison_page(comparison: RevisionComparison) -> Document:
    """Every score before and after, and what else is different."""
    moved = sum(1 for row in comparison.rows if row.difference)
    lead = ["p is corrected for the number of each model's tasks (Holm)."] if comparison.rows else []
    return Document(
        title=f"{comparison.old} against {comparison.new}",
        verdict=f"{len(comparison.rows)} scores, {moved} of them different; {len(comparison.changes)} other changes.",
        sections=[
            Section("comparison", lead=lead, tables=_filled([_means_table(comparison)])),
            Section(
                "scores",
                figures=_difference_figures(comparison),
                tables=_filled(
                    [
                        _scores_table(comparison, comparison.rows, "scores", "Main scores"),
                        _measures_table(comparison),
                        _changes_table(comparison),
                    ]
                ),
                notes=comparison.notes,
            ),
        ],
    )


def _difference_figures(comparison: RevisionComparison) -> list[list[Figure]]:
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
    reach = row.interval or Interval(low=difference, high=difference)
    tone = _tone(difference, row.interval) if row.interval else "untested"
    return {
        "task": row.task,
        "estimate": difference,
        "low": reach.low,
        "high": reach.high,
        "words": _signed(difference),
        "tone": tone,
    }


def board_page(board: Board) -> Document:
    """Models of many states and folders by their mean, with ranks where there are three or more, and their scores by task."""
    notes = {entry.label: _sides(board, entry) for entry in board.entries}
    found = board.ranking
    tables = [ranking.ranking_table(found, notes), ranking.robustness_table(found)] if found else []
    scores = _board_table(board, folded=found is not None)
    tables += [scores, ranking.pairs_table(found)] if found else [scores]
    said = [f"{task} does not count: {why}." for task, why in board.left_out.items()]
    return Document(
        title=f"{len(board.entries)} models of {', '.join(board.sides)}",
        verdict=ranking.leaders_sentence(found)
        if found
        else f"{len(board.entries)} models on {len(board.tasks)} tasks.",
        sections=[
            Section(
                "board",
                tables=tables,
                figures=[[ranking.ranks_figure(found)]] if found else [],
                notes=[*(ranking.ranking_notes(found) if found else []), *board.notes, *said],
            )
        ],
    )


def _sides(board: Board, entry: BoardEntry) -> str:
    """Where a model was found, unless there is but one place."""
    return ", ".join(entry.sides) if len(board.sides) > 1 else ""


def _board_table(board: Board, *, folded: bool) -> Table:
    columns = [
        Column("Model"),
        Column("Mean", note="over tasks, \u00d7 100", numeric=True),
        *[Column(task, note=kind, numeric=True) for task, kind in board.tasks.items()],
    ]
    rows = [
        [
            Value(entry.label, note=_sides(board, entry)),
            Value(
                "missing" if entry.mean_task is None else points(entry.mean_task),
                sort=entry.mean_task,
                tone="missing" if entry.mean_task is None else "",
            ),
            *[
                Value("missing", note=entry.status[task], tone="missing")
                if score is None
                else Value(points(score), sort=score)
                for task, score in entry.scores.items()
            ],
        ]
        for entry in board.entries
    ]
    return Table("board", "Main scores \u00d7 100", columns, rows, restack=True, folded=folded)


def confirmation_page(found: Confirmation, named: int = 8) -> Document:
    """Whether the committed numbers were found again, and if not, which moved and what else is different.

    Args:
        found: the comparison.
        named: how many of the things that entered the run are named.
    """
    count = f"{len(found.moved)} {'value' if len(found.moved) == 1 else 'values'}"
    verdict, tone = {
        "equal": (f"The numbers equal those of commit {found.commit[:8]} to the byte.", "good"),
        "another run": (
            f"{count} of another run: other than in commit {found.commit[:8]}, as something else entered.",
            "even",
        ),
        "moved": (f"{count} moved from those of commit {found.commit[:8]}, though the same entered.", "bad"),
    }[found.verdict]
    notes = list(found.remarks)
    if found.entered:
        more = len(found.entered) - named
        notes.append(f"Entered otherwise: {', '.join(found.entered[:named])}{f' and {more} more' if more > 0 else ''}.")
    if found.made:
        notes.append(f"The first thing that was made otherwise: {found.made}.")
    columns = [Column("file"), Column("value"), Column("committed", numeric=True), Column("now", numeric=True)]
    rows = [
        [
            Value(each.file),
            Value(each.path, code=True),
            Value(DASH if each.committed is None else str(each.committed)),
            Value(DASH if each.found is None else str(each.found)),
            Value(DASH if (by := _by(each)) is None else f"{by:+.3g}", sort=by),
        ]
        for each in found.moved
    ]
    table = Table(
        "moved", "Values that differ", [*columns, Column("difference", numeric=True)], rows, folded=bool(found.entered)
    )
    section = Section("committed", tables=_filled([table]), notes=notes)
    return Document(title="Committed numbers", verdict=verdict, tone=cast(Tone, tone), sections=[section])


def _by(each: Moved) -> float | None:
    numbers = [value for value in (each.committed, each.found) if isinstance(value, int | float)]
    return float(numbers[1] - numbers[0]) if len(numbers) == 2 else None


def gate_page(outcome: GateOutcome) -> Document:
    """The gate's decision with its reasons, every score, and what else is different."""
    comparison, failures = outcome.comparison, len(outcome.failures)
    verdict = "passes" if outcome.passes else f"fails for {failures} {'reason' if failures == 1 else 'reasons'}"
    compared = comparison_page(comparison)
    changed = [row for row in comparison.rows if row.is_changed]
    same = [row for row in comparison.rows if not row.is_changed]
    reasons = [_findings_table("failures", "Why it fails", outcome.failures, "bad"), _means_table(comparison)]
    tables = [
        _scores_table(comparison, changed, "changed", "Main scores that changed"),
        _findings_table("remarks", "Worth knowing", outcome.remarks, ""),
        _measures_table(comparison, folded=True),
        _changes_table(comparison),
        _scores_table(comparison, same, "unchanged", "Main scores that did not change", folded=True),
    ]
    return Document(
        title=f"Regression gate: {verdict}",
        verdict=f"The change {verdict}: {comparison.new} held against {comparison.old}. {_mean_words(comparison)}".rstrip(),
        tone="good" if outcome.passes else "bad",
        sections=[
            Section("gate", lead=[compared.verdict, *compared.sections[0].lead], tables=_filled(reasons)),
            Section("scores", figures=_difference_figures(comparison), tables=_filled(tables), notes=comparison.notes),
        ],
    )


def _mean_words(comparison: RevisionComparison) -> str:
    """What became of the means, in a sentence a model whose mean moved."""
    said = []
    for mean in comparison.means:
        if mean.difference is None:
            said.append(f"{mean.model} has no mean to compare: {mean.why}.")
        elif mean.difference:
            certain = f" {_bounds(mean.interval)}" if mean.interval else ""
            said.append(
                f"{mean.model}: mean {_score(mean.old)} to {_score(mean.new)}, {_signed(mean.difference)}{certain}."
            )
    return " ".join(said) or ("No mean changed." if comparison.means else "")


def history_page(points: Sequence[Point], last: int) -> Document:
    """Every metric over the commits: a chart for every task and measure, and tables of the newest commits."""
    shown = points[-last:]
    found = series(list(points))
    measured = measures(list(points))
    models = list(dict.fromkeys(model for model, _ in (*found, *measured)))
    labels = [Column(point.label, numeric=True) for point in shown]
    rows = [
        [
            Value(model),
            Value(task),
            *(Value(_score(mark.value if mark else None), note=_bounds_of(mark)) for mark in marks[-last:]),
            Value(_since_first([mark.value if mark else None for mark in marks])),
        ]
        for (model, task), marks in found.items()
    ]
    columns = [Column("model"), Column("task"), *labels, Column("since the first", numeric=True)]
    of_measures = [
        [
            Value(model),
            Value(measure, code=True),
            *(
                Value(DASH if mark is None else f"{mark.value:.4g}", note=_range(_reach(mark)))
                for mark in marks[-last:]
            ),
        ]
        for (model, measure), marks in measured.items()
    ]
    commits = [[Value(point.label), Value(point.date[:10]), Value(point.subject)] for point in shown]
    return Document(
        title="Scores, size and speed over the commits" if measured else "Scores over the commits",
        verdict=f"{len(points)} states of reports/metrics.json, the last {len(shown)} in the table.",
        sections=[
            Section(
                "history",
                tables=_filled(
                    [
                        Table("scores", "Main scores by commit, with 95 % intervals", columns, rows),
                        Table("measures", _MEASURED, [Column("model"), Column("measure"), *labels], of_measures),
                        Table("commits", "Commits", [Column(name) for name in ("commit", "date", "subject")], commits),
                    ]
                ),
                figures=[_charts(points, found, models), _charts(points, measured, models)],
                notes=[f"{point.label}: {point.problem}." for point in points if point.problem],
            )
        ],
    )


def _reach(mark: Mark | None) -> Interval | None:
    return None if mark is None or mark.low is None or mark.high is None else Interval(low=mark.low, high=mark.high)


def _bounds_of(mark: Mark | None) -> str:
    """An unsigned interval of a score."""
    reach = _reach(mark)
    return f"[{reach.low:.4f}, {reach.high:.4f}]" if reach else ""


def _filled(tables: Iterable[Table]) -> list[Table]:
    return [table for table in tables if table.rows]


def _numbered(heads: Iterable[str], numeric: Iterable[str], wide: Iterable[str] = ()) -> list[Column]:
    """Columns of the given heads; some are numbers, some may take several lines."""
    return [Column(head, numeric=head in numeric, wide=head in wide) for head in heads]


def _published_table(judged: Sequence[Judged]) -> Table:
    columns = _numbered(
        ("model", "task", "metric", "published", "measured", "difference", "tolerance", "verdict", "note"),
        {"published", "measured", "difference", "tolerance"},
        {"note"},
    )
    rows = []
    for each in judged:
        off = each.difference
        numbers = (
            f"{each.expected:.5f}",
            DASH if each.measured is None else f"{each.measured:.5f}",
            DASH if off is None else _signed(off, 5),
            f"{each.tolerance:g}",
        )
        words = map(Value, (each.model, each.task, each.metric, *numbers))
        rows.append([*words, Value(each.verdict, tone=_VERDICT_TONES[each.verdict]), Value(each.note)])
    return Table("published", "Published and measured scores", columns, rows, restack=True)


def _not_run_table(judged: Iterable[Judged], named: int) -> Table:
    """Numbers that were not run, by model and reason."""
    tasks: dict[tuple[str, str], list[str]] = {}
    for each in judged:
        if each.measured is None:
            tasks.setdefault((each.model, each.note), []).append(each.task)
    rows = [
        [
            *map(Value, (model, why, str(len(names)))),
            Value(", ".join(names if len(names) <= named else [*names[:named], "…"])),
        ]
        for (model, why), names in tasks.items()
    ]
    columns = _numbered(("model", "why", "scores", "tasks"), {"scores"}, {"tasks"})
    return Table("not-run", "Not run", columns, rows, restack=True, folded=True)


def _sources(files: Sequence[ExpectedFile]) -> list[Words]:
    lines: list[Words] = []
    for file in files:
        at = f", commit {file.source.commit}" if file.source.commit else ""
        lines.append(
            [f"{file.model.name}: {file.source.name} (", Link(file.source.url), f"{at}). {file.model.note}".rstrip()]
        )
    return lines


def _beyond(files: Sequence[ExpectedFile], measured: MeasuredRun) -> list[Words]:
    """Scores of the run that no file says anything about."""
    expected = {file.model.name: file.scores for file in files}
    lines: list[Words] = []
    for model in measured.models:
        known = expected.get(model.name, {})
        beyond = [
            f"{name} {task.score:.5f}"
            for name, task in model.tasks.items()
            if name not in known and task.score is not None
        ]
        if beyond:
            lines.append(
                f"Measured for {model.name} without a published score to hold it against: {', '.join(beyond)}."
            )
    return lines


def _means_table(comparison: RevisionComparison) -> Table:
    level = f"paired {100 * comparison.level:g} % interval"
    columns = _numbered(
        ("model", "old", "new", "difference", level, "tasks", "note"),
        {"old", "new", "difference", level, "tasks"},
        {"note"},
    )
    rows = [
        [
            Value(mean.model),
            Value(_score(mean.old), sort=mean.old),
            Value(_score(mean.new), sort=mean.new),
            Value(
                DASH if mean.difference is None else _signed(mean.difference),
                sort=mean.difference,
                tone=_tone(mean.difference, mean.interval),
            ),
            Value(_bounds(mean.interval)),
            Value(str(mean.tasks), sort=mean.tasks),
            Value(mean.why),
        ]
        for mean in comparison.means
    ]
    return Table("means", "Means over tasks", columns, rows, restack=True)


def _measures_table(comparison: RevisionComparison, *, folded: bool = False) -> Table:
    """Size, memory and speed; folded only where nothing of it is worse by more than is noted."""
    columns = _numbered(("model", "measure", "old", "new", "change"), {"old", "new", "change"})
    rows = []
    for each in comparison.measures:
        tone: Tone = ("bad" if each.worse > 0 else "good") if each.certain and abs(each.worse) > NOTED else "even"
        change = 100 * (each.new / each.old - 1)
        rows.append(
            [
                Value(each.model),
                Value(each.measure, code=True),
                Value(f"{each.old:.4g}", note=_range(each.old_interval), sort=each.old),
                Value(f"{each.new:.4g}", note=_range(each.new_interval), sort=each.new),
                Value(f"{change:+.1f} %", sort=change, tone=tone),
            ]
        )
    quiet = all(not each.certain or abs(each.worse) <= NOTED for each in comparison.measures)
    return Table("measures", _MEASURED, columns, rows, restack=True, folded=folded and quiet)


def _range(interval: Interval | None) -> str:
    return f"[{interval.low:.4g}, {interval.high:.4g}]" if interval else ""


def _bounds(interval: Interval | None) -> str:
    return f"[{_signed(interval.low)}, {_signed(interval.high)}]" if interval else DASH


def _tone(difference: float | None, interval: Interval | None) -> Tone:
    certain = interval is not None and (interval.low > 0 or interval.high < 0)
    return ("good" if (difference or 0) > 0 else "bad") if certain else "even"


def _scores_table(
    comparison: RevisionComparison, shown: Sequence[ScoreChange], name: str, caption: str, *, folded: bool = False
) -> Table:
    level = f"paired {100 * comparison.level:g} % interval"
    columns = _numbered(
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
        Value(_score(row.old), sort=row.old),
        Value(_score(row.new), sort=row.new),
        Value(DASH if row.difference is None else _signed(row.difference), sort=row.difference, tone=tone),
        Value(_bounds(row.interval)),
        Value(DASH if row.p_adjusted is None else "< 0.001" if row.p_adjusted < 0.001 else f"{row.p_adjusted:.3f}"),
        Value(DASH if row.samples is None else f"{row.samples:,}", sort=row.samples),
        Value("; ".join(note for note in notes if note)),
    ]


def _findings_table(name: str, caption: str, notes: Sequence[Note], tone: Tone) -> Table:
    columns = _numbered(("finding", "model", "task", "what was found"), (), {"what was found"})
    rows = [[Value(note.finding, tone=tone), *map(Value, (note.model, note.task, note.words))] for note in notes]
    return Table(name, caption, columns, rows, restack=True)


def _changes_table(comparison: RevisionComparison) -> Table:
    rows = [
        [*map(Value, (change.kind, change.name, _cut(change.old), _cut(change.new)))] for change in comparison.changes
    ]
    columns = _numbered(("what", "name", "before", "after"), (), {"before", "after"})
    return Table("changes", "What else changed", columns, rows, restack=True, folded=len(rows) > 12)


def _cut(text: str, room: int = 80) -> str:
    """Hashes as far as they tell apart, long values as far as there is room."""
    if len(text) in (32, 36, 40, 64) and " " not in text:
        return text[:12]
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _score(value: float | None) -> str:
    return DASH if value is None else f"{value:.4f}"


def _signed(value: float, digits: int = 4) -> str:
    """A difference with its sign; none where it rounds to zero."""
    text = f"{value:+.{digits}f}"
    return text if float(text) else text[1:]


def _since_first(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return _signed(known[-1] - known[0]) if len(known) > 1 else DASH


def _charts(points: Sequence[Point], found: Series, models: Sequence[str]) -> list[Figure]:
    """A chart for each task or measure, a line for each model that has a value."""
    # Two commits may share a short name only if they are one commit; the number keeps their order.
    order = [f"{index:04d} {point.label}" for index, point in enumerate(points)]
    drawn = []
    for name in dict.fromkeys(name for _, name in found):
        lines = {model: found[model, name] for model in models if (model, name) in found}
        rows: list[dict[str, Any]] = [
            {"at": at, "model": model, "value": mark.value, "low": mark.low, "high": mark.high}
            for model, marks in lines.items()
            for at, mark in zip(order, marks, strict=True)
            if mark is not None
        ]
        if rows:
            told = {
                model: ", ".join(DASH if mark is None else f"{mark.value:.4g}" for mark in marks)
                for model, marks in lines.items()
            }
            words = "; ".join(f"{model}: {values}" for model, values in told.items())
            caption, title = _DRAWN.get(name, (name, "main score"))
            legend = [(_colour(models, model), model) for model in lines]
            draw = partial(_draw, rows, order, models, title, f"history-{name}")
            drawn.append(
                Figure(f"history-{name}", caption, f"{caption}, over the commits. {words}.", draw, legend=legend)
            )
    return drawn


_DRAWN = {
    "size_mb": ("Size on disk", "MB"),
    "peak_memory_mb": ("Memory at its peak", "MB"),
    "throughput_ratio": ("Throughput, as a multiple of the baseline's", "times"),
    "latency_ratio": ("Speed of a single query, as a multiple of the baseline's", "times"),
}
"""Caption and axis of a measure's chart."""


def _colour(models: Sequence[str], model: str) -> str:
    return _LINE_COLOURS[models.index(model) % len(_LINE_COLOURS)]


def _draw(rows: list[dict[str, Any]], order: list[str], models: Sequence[str], title: str, name: str) -> str:
    axis = alt.Axis(labelExpr="slice(datum.label, 5)", labelAngle=-45, grid=False)
    colours = [LIGHT[_colour(models, model)] for model in models]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("at:O", title=None, scale=alt.Scale(domain=order), axis=axis),
        color=alt.Color("model:N", scale=alt.Scale(domain=list(models), range=colours), legend=None),
    )
    values = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(tickCount=4))
    points = base.mark_point(filled=True, size=45, opacity=1).encode(y=values)
    lines = base.mark_line(strokeWidth=2).encode(y=values)
    spans = (
        base.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=2.5, opacity=0.4)
        .encode(y=alt.Y("low:Q", title=title, scale=alt.Scale(zero=False, nice=True)), y2="high:Q")
    )
    return svg_of(alt.layer(spans, lines, points).properties(width=THIRD, height=130), name)
