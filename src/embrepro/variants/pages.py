"""What variants of a model cost and save, as a document."""

from __future__ import annotations

from embrepro.rendering.formats import DASH, probability, quantity, score, signed, signed_interval
from embrepro.rendering.model import Code, Column, Document, Section, Table, Tone, Value, Words
from embrepro.results.summary import ScoreDifference
from embrepro.variants.comparing import ComparedVariant, VariantsReport

_TONES: dict[str, Tone] = {"better": "good", "worse": "bad", "not distinguishable": "even", "not tested": "even"}


def variants_page(report: VariantsReport) -> Document:
    """The variants by their mean, what each takes, and their scores by task."""
    return Document(
        title=f"Variants of {report.model}",
        subtitle=f"{report.name} at {report.revision}",
        verdict=_verdict(report),
        sections=[
            Section(
                "variants",
                tables=[_variants_table(report), _tasks_table(report)],
                notes=_notes(report),
            )
        ],
    )


def _verdict(report: VariantsReport) -> str:
    if report.mean_task is None:
        return f"No mean is given, because {report.model} lacks the score of a requested task."
    alike = [
        one
        for one in report.variants
        if one.mean_difference is not None and one.mean_difference.outcome != "worse" and _share(report, one) < 1
    ]
    if not alike:
        return "Every variant that takes less memory is worse on the mean over tasks, or cannot be tested."
    least = min(alike, key=lambda one: (one.bytes_per_vector, -(one.mean_task or 0.0)))
    assert least.mean_difference is not None
    return (
        f"{least.label} takes {quantity(1 / _share(report, least))} times less memory, and its mean over tasks of "
        f"{score(least.mean_task or 0.0)} is not worse beyond doubt than the full {score(report.mean_task)} "
        f"({signed(least.mean_difference.estimate)} {signed_interval(least.mean_difference.interval)})."
    )


def _variants_table(report: VariantsReport) -> Table:
    columns = [
        Column("Variant", note="dimensions, precision"),
        Column("Mean", note="over tasks, \u00d7 100", numeric=True),
        Column("Difference", note="to the full model, 95 %", numeric=True),
        Column("Adjusted p", numeric=True),
        Column("Worse, better", note="tasks, beyond doubt"),
        Column("Bytes", note="a vector", numeric=True),
        Column("Size", note="of the full one", numeric=True),
        *([Column("Search", note="speed, of the full one", numeric=True)] if report.searched else []),
    ]
    full = [
        Value(f"{report.dimensions} {report.dtype}", note="the full model"),
        Value(DASH if report.mean_task is None else score(report.mean_task), sort=report.mean_task),
        Value(DASH, sort=0.0),
        Value(DASH),
        Value(DASH),
        Value(f"{report.bytes_per_vector:,}", sort=report.bytes_per_vector),
        Value("100 %", sort=1.0),
        *([Value("1\u00d7", sort=1.0)] if report.searched else []),
    ]
    rows = [full, *(_variant_row(report, one) for one in report.variants)]
    return Table("variants", "Variants of the stored embeddings", columns, rows, restack=True)


def _variant_row(report: VariantsReport, one: ComparedVariant) -> list[Value]:
    outcomes = [each.outcome for each in one.differences.values()]
    mean, share = one.mean_difference, _share(report, one)
    missing = sum(value is None for value in one.scores.values())
    return [
        Value(one.label),
        Value(score(one.mean_task), sort=one.mean_task)
        if one.mean_task is not None
        else Value("missing", note=f"{missing} of {len(one.scores)} tasks", tone="missing"),
        _difference(mean),
        Value(probability(mean.p_adjusted) if mean else DASH, sort=mean.p_adjusted if mean else None),
        Value(f"{outcomes.count('worse')}, {outcomes.count('better')}", note=f"of {len(outcomes)}"),
        Value(f"{one.bytes_per_vector:,}", sort=one.bytes_per_vector),
        Value(f"{100 * share:.3g} %", sort=share),
        *([_speed(one)] if report.searched else []),
    ]


def _speed(one: ComparedVariant) -> Value:
    found = one.search_speed
    if found is None:
        return Value(DASH)
    return Value(
        f"{quantity(found.median)}\u00d7", note=f"[{quantity(found.low)}, {quantity(found.high)}]", sort=found.median
    )


def _tasks_table(report: VariantsReport) -> Table:
    columns = [
        Column("Task"),
        Column("Full", numeric=True),
        *(Column(one.label, numeric=True) for one in report.variants),
    ]
    rows = []
    for task, full in report.scores.items():
        row = [Value(task), Value(DASH if full is None else score(full), sort=full)]
        for one in report.variants:
            found, difference = one.scores[task], one.differences.get(task)
            row.append(
                Value("missing", note=one.status[task], tone="missing")
                if found is None
                else Value(
                    score(found),
                    note=signed(difference.estimate) if difference else "",
                    sort=found,
                    tone=_TONES[difference.outcome] if difference else "",
                )
            )
        rows.append(row)
    return Table(
        "variants-by-task", "Main scores \u00d7 100, and differences to the full model", columns, rows, folded=True
    )


def _difference(mean: ScoreDifference | None) -> Value:
    if mean is None:
        return Value(DASH, note="not tested")
    return Value(
        signed(mean.estimate), note=signed_interval(mean.interval), sort=mean.estimate, tone=_TONES[mean.outcome]
    )


def _notes(report: VariantsReport) -> list[Words]:
    return [
        [
            "Truncation and quantisation are sentence-transformers' (",
            Code("truncate_dim"),
            ", ",
            Code("quantize_embeddings"),
            "); no model ran again.",
        ],
        f"Rescored: a search finds {report.rescore_multiplier} times as many documents as its main score looks at by codes, and "
        "ranks them again by the query as it is. Tasks without a search are the same with and without it.",
        *_timed(report),
        "p-values are corrected (Holm): of means for the number of variants, of tasks for all tasks of all variants.",
    ]


def _timed(report: VariantsReport) -> list[Words]:
    if (on := report.searched) is None:
        return []
    return [
        f"Search speed: the kit's exact search, of {on.queries:,} encoded queries at once among the {on.documents:,} documents "
        f"of {on.task}, in turn with the full model's; median and 95 % interval. It depends on the size of the corpus and on the "
        "machine, and says little of an approximate index."
    ]


def _share(report: VariantsReport, one: ComparedVariant) -> float:
    return one.bytes_per_vector / report.bytes_per_vector
