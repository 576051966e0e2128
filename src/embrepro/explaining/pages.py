"""Why two numbers differ, as a document."""

from __future__ import annotations

from collections import Counter

from embrepro.explaining.differences import SWITCHED, Difference, Differences
from embrepro.explaining.switching import CLOSE, Attribution, Switched
from embrepro.regression.diff import ScoreChange
from embrepro.rendering.formats import DASH, score, signed, signed_interval
from embrepro.rendering.model import Column, Document, Section, Table, Tone, Value


def explanation_page(differences: Differences, attribution: Attribution | str) -> Document:
    """What is different, what was switched, and the share of the difference that each step closed."""
    switched = None if isinstance(attribution, str) else attribution
    tables = [_causes_table(differences.found), _scores_table(differences.scores, switched)]
    if switched:
        tables.insert(0, _steps_table(switched))
    return Document(
        title=f"{_name(differences.old, differences.old_key)} against {_name(differences.new, differences.new_key)}",
        verdict=_verdict(differences, attribution),
        tone="good" if switched and switched.unexplained < 0.05 else "even",
        sections=[
            Section(
                "explanation",
                tables=[table for table in tables if table.rows],
                notes=[*_notes(differences, attribution)],
            )
        ],
    )


def _name(side: str, key: str) -> str:
    return f"{key} ({side})"


def _verdict(differences: Differences, attribution: Attribution | str) -> str:
    moved = [row for row in differences.scores if row.difference]
    if not moved:
        return f"All {len(differences.scores)} scores are equal."
    first = f"{len(moved)} of {len(differences.scores)} scores differ."
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
            *(Value(text if len(text) <= 60 else f"{text[:59]}…") for text in (each.old, each.new)),
            Value("can be" if each.cause in SWITCHED else "cannot be"),
        ]
        for each in sorted(found, key=lambda each: (each.cause == "code and settings", each.cause not in SWITCHED))
    ]
    return Table("causes", "What differs, as far as both record it", columns, rows, restack=True)


def _scores_table(rows: list[ScoreChange], attribution: Attribution | None) -> Table:
    columns = [Column("Task"), Column("before", numeric=True), Column("now", numeric=True)]
    columns += [Column("difference", note="paired 95 %", numeric=True)]
    columns += [Column("reached", note="by the steps", numeric=True)] if attribution else []
    columns += [Column("note", wide=True)]
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
    return Table("scores", "Main scores \u00d7 100", columns, shown, restack=True)


def _notes(differences: Differences, attribution: Attribution | str) -> list[str]:
    fixed = list(dict.fromkeys(each.cause for each in differences.found if each.cause not in SWITCHED))
    notes = [f"Cannot be switched here, so what it moves is not told apart: {', '.join(fixed)}."] if fixed else []
    notes += differences.unknown
    if isinstance(attribution, str):
        return [attribution, *notes]
    off = max(abs(attribution.again[task] - attribution.recorded[task]) for task in attribution.recorded)
    again = (
        f"{attribution.start} was scored again on this machine first, with its own numbers to within {off:.1g}."
        if off <= CLOSE
        else f"{attribution.start} does not come out the same on this machine, by up to {off:.4f}: "
        "packages, processor or the data's content are the cause of that part."
    )
    how = (
        "At each step everything left is switched alone, and what leads nearest to the other run stays. A share is of the sum "
        "of the tasks' differences; the order counts where two things work on each other."
    )
    return [again, how, *notes]


def _percent(share: float | None) -> str:
    return DASH if share is None else f"{100 * share:.0f} %"
