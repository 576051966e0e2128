"""What verify, compare, gate and history say, as pages. Scores are on the 0-1 scale, as in `metrics.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt

from embrepro.regression.diff import RevisionComparison, ScoreChange
from embrepro.regression.gate import GateOutcome
from embrepro.regression.history import Point, series
from embrepro.regression.published import CLOSE, ExpectedFile, Judged, MeasuredRun
from embrepro.report.drawing import svg_of
from embrepro.report.grids import Drawing, Grid, Page
from embrepro.report.grids import GridRow as GridRow
from embrepro.report.palette import LIGHT

DASH = "\u2013"
GATE_MARKER = "embrepro gate"
_VERDICT_TONES = {"OK": "good", "close": "warn", "FAIL": "bad", "not run": "even"}
_LINE_COLOURS = ("candidate", "baseline", "other", "good", "bad", "even")
_NUMBERS = frozenset({"published", "measured", "difference", "tolerance", "old", "new", "samples"})


def verified(
    files: Sequence[ExpectedFile],
    judged: Sequence[Judged],
    measured: MeasuredRun,
    *,
    every: bool = False,
    named: int = 4,
) -> Page:
    """The verdict on every expected number.

    Args:
        files: what is expected.
        judged: the verdicts.
        measured: the run.
        every: a row for each number that was not run, too; else they are gathered by reason.
        named: how many tasks are named for each reason.
    """
    counts = Counter(each.verdict for each in judged)
    ran = [each for each in judged if each.measured is not None or every]
    heads = ("model", "task", "metric", "published", "measured", "difference", "tolerance", "verdict", "note")
    grid = Grid("Published and measured scores", heads, [_judged(each) for each in ran], _NUMBERS, marked="verdict")
    gathered = [] if every else _gathered(judged, named)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in _VERDICT_TONES)
    lead = [f"{len(judged)} published scores: {told}. Close means within {CLOSE:g} times the tolerance."]
    if len(judged) == counts["not run"]:
        lead.append("Nothing was compared: this run scored none of them.")
    not_run = Grid("Not run", ("model", "why", "scores", "tasks"), gathered, frozenset({"scores"}), folded=True)
    tone = "bad" if counts["FAIL"] else "good" if counts["OK"] + counts["close"] else "even"
    return Page("Reproduced scores", lead, [grid, not_run], notes=_beyond(files, measured), tone=tone)


def reproduced(files: Sequence[ExpectedFile], judged: Sequence[Judged], measured: MeasuredRun) -> Page:
    """The page `docs/reproduced.md`."""
    page = verified(files, judged, measured, named=len(judged))
    packages = ", ".join(f"{name} {version}" for name, version in sorted(measured.packages.items()))
    models = "; ".join(f"{model.name} at {model.revision}" for model in measured.models)
    made = (
        "`embrepro verify --write` makes this page from `conf/expected/` and a run, whose scores it keeps in "
        "the JSON file beside it. Scores are on the 0-1 scale."
    )
    about = [f"Measured on {measured.device} with {packages}.", f"Models of the run: {models}."]
    return Page(page.title, [made, *page.lead, *about], page.grids, [*_sources(files), *page.notes])


def compared(comparison: RevisionComparison) -> Page:
    """Every score before and after, and what else is different."""
    rows = [_compared(row) for row in comparison.rows]
    level = f"{100 * comparison.level:g} %"
    heads = ("model", "task", "old", "new", "difference", f"paired {level} interval", "p", "samples", "note")
    numeric = _NUMBERS | {f"paired {level} interval", "p"}
    grids = [Grid("Main scores", heads, rows, numeric, marked="difference"), _changes(comparison)]
    moved = sum(1 for row in comparison.rows if row.difference)
    lead = [f"{len(comparison.rows)} scores, {moved} of them different; {len(comparison.changes)} other changes."]
    if comparison.rows:
        lead.append("p is corrected for the number of each model's tasks (Holm).")
    return Page(f"{comparison.old} against {comparison.new}", lead, grids, comparison.notes)


def gated(outcome: GateOutcome) -> Page:
    """The gate's decision with its reasons, every score, and what else is different."""
    page = compared(outcome.comparison)
    failures = len(outcome.failures)
    verdict = "passes" if outcome.passes else f"fails for {failures} {'reason' if failures == 1 else 'reasons'}"
    heads = ("finding", "model", "task", "what was found")
    failed, noted = (
        [GridRow((note.finding, note.model, note.task, note.words), tone) for note in notes]
        for notes, tone in ((outcome.failures, "bad"), (outcome.remarks, ""))
    )
    scores, changed = page.grids
    grids = [
        Grid("Why it fails", heads, failed, marked="finding"),
        Grid("Worth knowing", heads, noted),
        Grid(scores.caption, scores.heads, scores.rows, scores.numeric, scores.marked, folded=True),
        changed,
    ]
    lead = [
        f"The change {verdict}: {outcome.comparison.new} held against {outcome.comparison.old}.",
        *page.lead,
    ]
    return Page(f"Regression gate: {verdict}", lead, grids, page.notes, tone="good" if outcome.passes else "bad")


def trends(points: Sequence[Point], last: int, *, drawn: bool = False) -> Page:
    """Every metric over the commits: a table of the newest ones and, if `drawn`, a chart for every task."""
    shown = points[-last:]
    found = series(list(points))
    rows = [
        GridRow((model, task, *(_score(value) for value in values[-last:]), _since_first(values)))
        for (model, task), values in found.items()
    ]
    labels = [point.label for point in shown]
    change = "since the first"
    grid = Grid("Main scores by commit", ("model", "task", *labels, change), rows, frozenset({*labels, change}))
    commits = Grid(
        "Commits", ("commit", "date", "subject"), [GridRow((p.label, p.date[:10], p.subject)) for p in shown]
    )
    models = list(dict.fromkeys(model for model, _ in found))
    legend = [(_LINE_COLOURS[index % len(_LINE_COLOURS)], model) for index, model in enumerate(models)]
    return Page(
        "Scores over the commits",
        [f"{len(points)} states of reports/metrics.json, the last {len(shown)} in the table."],
        [grid, commits],
        [f"{point.label}: {point.problem}." for point in points if point.problem],
        _charts(points, found, models) if drawn else [],
        legend if drawn else (),
    )


def _judged(judged: Judged) -> GridRow:
    off = judged.difference
    cells = (
        judged.model,
        judged.task,
        judged.metric,
        f"{judged.expected:.5f}",
        DASH if judged.measured is None else f"{judged.measured:.5f}",
        DASH if off is None else _signed(off, 5),
        f"{judged.tolerance:g}",
        judged.verdict,
        judged.note,
    )
    return GridRow(cells, _VERDICT_TONES[judged.verdict])


def _gathered(judged: Iterable[Judged], named: int) -> list[GridRow]:
    """Numbers that were not run, by model and reason."""
    tasks: dict[tuple[str, str], list[str]] = {}
    for each in judged:
        if each.measured is None:
            tasks.setdefault((each.model, each.note), []).append(each.task)
    return [
        GridRow((model, why, str(len(names)), ", ".join(names if len(names) <= named else [*names[:named], "…"])))
        for (model, why), names in tasks.items()
    ]


def _sources(files: Sequence[ExpectedFile]) -> list[str]:
    lines = []
    for file in files:
        at = f", commit {file.source.commit}" if file.source.commit else ""
        lines.append(f"{file.model.name}: {file.source.name} ({file.source.url}{at}). {file.model.note}".rstrip())
    return lines


def _beyond(files: Sequence[ExpectedFile], measured: MeasuredRun) -> list[str]:
    """Scores of the run that no file says anything about."""
    expected = {file.model.name: file.scores for file in files}
    lines = []
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


def _compared(row: ScoreChange) -> GridRow:
    interval = f"[{_signed(row.interval.low)}, {_signed(row.interval.high)}]" if row.interval else DASH
    notes = [row.incomparable, f"not tested: {row.why_no_interval}" if row.why_no_interval else ""]
    notes += [f"before: {row.old_status}"] if row.old is None else []
    notes += [f"now: {row.new_status}"] if row.new is None else []
    cells = (
        row.model,
        row.task,
        _score(row.old),
        _score(row.new),
        DASH if row.difference is None else _signed(row.difference),
        interval,
        DASH if row.p_adjusted is None else "< 0.001" if row.p_adjusted < 0.001 else f"{row.p_adjusted:.3f}",
        DASH if row.samples is None else f"{row.samples:,}",
        "; ".join(note for note in notes if note),
    )
    certain = row.interval is not None and (row.interval.low > 0 or row.interval.high < 0)
    return GridRow(cells, ("good" if (row.difference or 0) > 0 else "bad") if certain else "even")


def _changes(comparison: RevisionComparison) -> Grid:
    rows = [GridRow((change.kind, change.name, _cut(change.old), _cut(change.new))) for change in comparison.changes]
    return Grid("What else changed", ("what", "name", "before", "after"), rows, folded=len(rows) > 12)


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


def _charts(
    points: Sequence[Point], found: dict[tuple[str, str], list[float | None]], models: list[str]
) -> list[Drawing]:
    drawn = []
    for number, task in enumerate(dict.fromkeys(task for _, task in found)):
        lines = {model: found[model, task] for model in models if (model, task) in found}
        rows: list[dict[str, Any]] = [
            # Two commits may share a short name only if they are one commit; the number keeps their order.
            {"at": f"{index:04d} {point.label}", "model": model, "score": values[index]}
            for model, values in lines.items()
            for index, point in enumerate(points)
            if values[index] is not None
        ]
        if rows:
            words = "; ".join(f"{model}: {', '.join(map(_score, values))}" for model, values in lines.items())
            chart = _lines(rows, [f"{index:04d} {point.label}" for index, point in enumerate(points)], models)
            drawn.append(Drawing(task, f"{task} over the commits. {words}.", svg_of(chart, f"history-{number}")))
    return drawn


def _lines(rows: list[dict[str, Any]], order: list[str], models: list[str]) -> alt.LayerChart:
    axis = alt.Axis(labelExpr="slice(datum.label, 5)", labelAngle=-45, grid=False)
    colours = [LIGHT[_LINE_COLOURS[index % len(_LINE_COLOURS)]] for index in range(len(models))]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("at:O", title=None, scale=alt.Scale(domain=order), axis=axis),
        y=alt.Y("score:Q", title="main score", scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(tickCount=4)),
        color=alt.Color("model:N", scale=alt.Scale(domain=models, range=colours), legend=None),
    )
    points = base.mark_point(filled=True, size=45, opacity=1)
    return alt.layer(base.mark_line(strokeWidth=2), points).properties(width=280, height=130)
