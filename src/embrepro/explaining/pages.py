"""Why two numbers differ, and on which samples, as a document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from embrepro.explaining.differences import ROUNDED, SWITCHED, Difference, Differences
from embrepro.explaining.moving import Found, MovedSample, MovedTask, SampleOutcome
from embrepro.explaining.switching import CLOSE, Attribution, Switched
from embrepro.regression.diff import ScoreChange
from embrepro.rendering.drawing import forest_figure, forest_row
from embrepro.rendering.formats import DASH, score, shorten, signed, signed_interval
from embrepro.rendering.model import Column, Document, Figure, Fold, Section, Table, Tone, Value, filled

_TEXT = 200
"""Characters of a text that stand in its row; the whole text is there when it is opened."""
_LISTED = 6
"""Differences that stand on a page unfolded."""
_DOCUMENT = 160
"""Characters of a document in a ranking."""


def explanation_page(
    differences: Differences, attribution: Attribution | str, moved: Sequence[MovedTask] = ()
) -> Document:
    """What is different, what was switched, the share of the difference that each step closed, and what samples moved."""
    switched = None if isinstance(attribution, str) else attribution
    tables = [_causes_table(differences.found), _scores_table(differences, switched)]
    if switched:
        tables.insert(0, _steps_table(switched))
    return Document(
        title=f"{_name(differences.old, differences.old_key)} against {_name(differences.new, differences.new_key)}",
        verdict=_verdict(differences, attribution),
        tone="good" if switched and switched.unexplained < 0.05 else "even",
        sections=[
            Section(
                "explanation",
                "What differs" if moved else "",
                figures=_figures(differences),
                tables=filled(tables),
                notes=[*_notes(differences, attribution)],
            ),
            *(_moved_section(each, folded=len(moved) > 1) for each in moved),
        ],
        # A page with many rows sorts and filters them.
        data={} if moved else None,
    )


def _name(side: str, key: str) -> str:
    return f"{key} ({side})"


def _verdict(differences: Differences, attribution: Attribution | str) -> str:
    moved = [row for row in differences.scores if abs(row.difference or 0) >= ROUNDED]
    if not moved:
        return f"All {len(differences.scores)} scores are equal."
    first = f"{len(moved)} of {len(differences.scores)} scores differ."
    if differences.two_models:
        return f"{first} {_outcomes(differences)}"
    if isinstance(attribution, str):
        causes = [cause for cause, _ in Counter(each.cause for each in differences.found).items()]
        return f"{first} What differs: {', '.join(causes) or 'nothing that is recorded'}."
    steps = sorted((each for each in attribution.switched if each.step), key=lambda each: each.step or 0)
    if not steps:
        return f"{first} Nothing that was switched leads from {attribution.start} to {attribution.target}."
    told = ", then ".join(f"{each.words} ({_percent(each.share)})" for each in steps)
    rest = attribution.unexplained
    left = "nothing is left" if rest < 0.005 else f"{_percent(rest)} of the difference is left"
    return f"{first} {attribution.start} comes to the numbers of {attribution.target} {told}; {left}."


def _outcomes(differences: Differences) -> str:
    """Where the second of two models is better and worse, and where the samples cannot say it."""
    tested = [row.interval for row in differences.scores if row.interval and not row.incomparable]
    better, worse = (sum(each.low > 0 for each in tested), sum(each.high < 0 for each in tested))
    told = f"{differences.new_key} is better than {differences.old_key} on {better} and worse on {worse} of {len(tested)} tasks"
    even = len(tested) - better - worse
    return told + (f"; on {even} the 95 % interval of the difference holds 0." if even else ".")


def _steps_table(attribution: Attribution) -> Table:
    columns = [
        Column("Switched"),
        Column("Known from", note="or tried"),
        Column("Alone", note="mean moves by", numeric=True),
        Column("Step", numeric=True),
        Column("Share", note="of the difference", numeric=True),
    ]
    ordered = sorted(attribution.switched, key=lambda each: (each.step is None, each.step))
    rows = [_step_row(attribution, each) for each in ordered]
    return Table("switched", f"{attribution.start}, with one thing after another switched", columns, rows, restack=True)


def _step_row(attribution: Attribution, each: Switched) -> list[Value]:
    moves = sum(each.alone[task] - attribution.again[task] for task in attribution.again) / len(attribution.again)
    tone: Tone = "good" if each.step else "even"
    return [
        Value(each.words),
        Value("its record" if each.recorded else "tried"),
        Value(signed(moves), sort=moves),
        Value(str(each.step) if each.step else DASH, sort=each.step),
        Value(_percent(each.share) if each.step else DASH, sort=each.share, tone=tone),
    ]


def _causes_table(found: list[Difference]) -> Table:
    columns = [
        Column("What differs"),
        Column("name"),
        Column("before", wide=True),
        Column("now", wide=True),
        Column("switched"),
    ]
    rows = [
        [
            Value(each.cause),
            Value(each.name, code=True),
            *(Value(_short(text)) for text in (each.old, each.new)),
            Value("can be" if each.cause in SWITCHED else "cannot be"),
        ]
        for each in sorted(found, key=lambda each: (each.cause == "code and settings", each.cause not in SWITCHED))
    ]
    caption = "What differs, as far as both record it"
    return Table("causes", caption, columns, rows, restack=True, folded=len(rows) > _LISTED)


def _figures(differences: Differences) -> list[list[Figure]]:
    """Every difference with its interval, where any has one."""
    rows = [
        forest_row(row.task, row.difference, row.interval, signed(row.difference), _outcome(row), scale=100)
        for row in differences.scores
        if row.difference is not None and not row.incomparable
    ]
    if not any(row.interval for row in differences.scores) or not any(row["estimate"] for row in rows):
        return []
    caption = f"From {' to '.join(_heads(differences))}: differences by task, points of 100, with paired 95 % intervals"
    return [[forest_figure("differences", caption, "difference, points", rows)]]


def _outcome(row: ScoreChange) -> str:
    if row.interval is None:
        return "untested"
    return "good" if row.interval.low > 0 else "bad" if row.interval.high < 0 else "even"


def _heads(differences: Differences) -> tuple[str, str]:
    """What the two sides are called where there is little room."""
    keys = differences.old_key, differences.new_key
    return keys if differences.two_models else (differences.old, differences.new)


def _scores_table(differences: Differences, attribution: Attribution | None) -> Table:
    rows, heads = differences.scores, _heads(differences) if differences.two_models else ("before", "now")
    columns = [Column("Task"), *(Column(head, numeric=True) for head in heads)]
    columns += [Column("difference", note="paired 95 %", numeric=True)]
    columns += [Column("reached", note="by the steps", numeric=True)] if attribution else []
    shown = []
    for row in rows:
        values = [Value(DASH if value is None else score(value), sort=value) for value in (row.old, row.new)]
        difference = DASH if row.difference is None else signed(row.difference)
        values.append(Value(difference, note=signed_interval(row.interval), sort=row.difference))
        if attribution:
            reached = attribution.reached.get(row.task)
            values.append(Value(DASH if reached is None else score(reached), sort=reached))
        note = row.incomparable or (attribution.left_out.get(row.task, "") if attribution else "")
        shown.append([Value(row.task), *values, Value(note)])
    if any(row[-1].text for row in shown):
        columns.append(Column("note", wide=True))
    return Table("scores", "Main scores \u00d7 100", columns, [row[: len(columns)] for row in shown], restack=True)


def _notes(differences: Differences, attribution: Attribution | str) -> list[str]:
    fixed = list(dict.fromkeys(each.cause for each in differences.found if each.cause not in SWITCHED))
    told = fixed and not differences.two_models
    notes = [f"Cannot be switched here, so what it moves is not told apart: {', '.join(fixed)}."] if told else []
    notes += differences.unknown
    if isinstance(attribution, str):
        return [attribution, *notes]
    off = max(abs(attribution.again[task] - attribution.recorded[task]) for task in attribution.recorded)
    exact = f" to within {off:.1g}" if off else ", to the last digit"
    again = (
        f"{attribution.start} was scored again on this machine first, with its own numbers{exact}."
        if off <= CLOSE
        else f"{attribution.start} does not come out the same on this machine, by up to {off:.4f}: "
        "packages, processor or the data's content are the cause of that part."
    )
    how = (
        "At each step everything left is switched alone, and what leads nearest to the other run stays. A share is of the sum "
        "of the tasks' differences; the order counts where two things work on each other. Once the numbers of the other run are "
        "found, nothing more is tried."
    )
    return [again, how, *notes]


def _moved_section(moved: MovedTask, *, folded: bool) -> Section:
    """One task's samples that moved most, with their texts and what both sides made of them."""
    if moved.why:
        return Section(moved.task, moved.task, absent=f"Nothing to browse: {moved.why.rstrip('.')}.")
    total = moved.lost + moved.gained + moved.still
    told = (
        f"From {moved.old} to {moved.new}, of {total:,} samples {moved.lost:,} did worse, {moved.gained:,} better, and "
        f"{moved.still:,} did not move."
    )
    shown = len(moved.samples)
    if not shown:
        return Section(moved.task, moved.task, lead=[told])
    columns = [Column("Sample", wide=True)]
    if any(each.gold for each in moved.samples):
        columns.append(Column("Gold"))
    columns += [Column(moved.old, numeric=True), Column(moved.new, numeric=True), Column("Change", numeric=True)]
    lost = sum(each.change < 0 for each in moved.samples)
    caption = f"The {lost} that lost most and the {shown - lost} that gained most, by {moved.measure}"
    several = len({(each.split, each.subset) for each in moved.samples}) > 1
    rows = [_sample_row(moved, each, named=several) for each in moved.samples]
    if len(columns) == 4:
        rows = [[row[0], *row[2:]] for row in rows]
    table = Table(f"moved-{moved.task}", caption, columns, rows, restack=True, folded=folded)
    return Section(moved.task, moved.task, lead=[told], tables=[table])


def _sample_row(moved: MovedTask, sample: MovedSample, *, named: bool) -> list[Value]:
    first, *others = (text or DASH for text in sample.texts)
    place = f"{sample.split}, {sample.subset}" if named else ""
    notes = [*(shorten(text, _TEXT) for text in others), *([place] if place else [])]
    folds = [Fold(label, [Value(text)]) for label, text in _whole(sample)]
    folds += [
        Fold(f"Ranked by {name}", [_ranked(each) for each in reading.ranking])
        for name, reading in ((moved.old, sample.old), (moved.new, sample.new))
        if reading.ranking
    ]
    return [
        Value(shorten(first, _TEXT), note=" \u2022 ".join(notes), folds=folds),
        Value(sample.gold),
        *(Value(f"{each.value:.2f}", note=_said(each), sort=each.value) for each in (sample.old, sample.new)),
        Value(
            f"{sample.change:+.2f}".replace("-", "\u2212"),
            sort=sample.change,
            tone="good" if sample.change > 0 else "bad",
        ),
    ]


def _whole(sample: MovedSample) -> list[tuple[str, str]]:
    """Texts that do not stand in their row in full."""
    return [("Whole text", text) for text in sample.texts if len(text) > _TEXT]


def _said(reading: SampleOutcome) -> str:
    if not reading.ranking:
        return reading.words
    place = next((each.place for each in reading.ranking if each.relevance > 0), None)
    return f"relevant: place {place}" if place else f"none relevant in {len(reading.ranking)}"


def _ranked(found: Found) -> Value:
    relevant = found.relevance > 0
    note = f"{'relevant, ' if relevant else ''}similarity {found.similarity:.3f}"
    return Value(shorten(found.text, _DOCUMENT), note=note, tone="good" if relevant else "")


def _short(text: str) -> str:
    """A hash as far as it tells apart, anything else as far as there is room."""
    return text[:12] if len(text) in (32, 40, 64) and text.isalnum() else shorten(text, 60)


def _percent(share: float | None) -> str:
    return DASH if share is None else f"{100 * share:.0f} %"
