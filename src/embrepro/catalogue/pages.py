"""The pages of the catalogue: the models with published and measured values marked as what they are, and a choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from embrepro.catalogue.choosing import Answer, DecisionTree, Walk
from embrepro.catalogue.listing import MEAN, CatalogueEntry
from embrepro.config.model_files import FIGURES
from embrepro.config.schema import Family
from embrepro.rendering.formats import DASH, quantity, yes_no
from embrepro.rendering.model import Code, Column, Document, Section, Table, Value, Words

FAMILIES = {"dense": "Dense", "static": "Static", "sparse": "Sparse", "cross-encoder": "Cross-encoders"}
"""Titles of families, in the order of their tables; another family has its name, and comes last."""
LEFT_OUT = {
    "Longest text", "Normalised", "Similarity", "Parameters", "Licence",
    *(FIGURES[name].title for name in FIGURES if FIGURES[name].kind == "speed" and not name.endswith("_v100")),
    *(FIGURES[name].title for name in FIGURES if name.startswith("mteb_")),
}  # fmt: skip
"""Columns that a terminal has no room for."""
MEASURED_COLUMNS = {
    MEAN: ("Measured mean score", "points, last run"),
    "texts_per_second_short": ("Measured short texts/s", "last run"),
    "latency_p50_ms": ("Measured query time", "ms, median, last run"),
}


def models_page(entries: Sequence[CatalogueEntry], *, by_family: bool = True, short: bool = False) -> Document:
    """All entries as tables that sort and filter.

    Args:
        entries: the models, in order.
        by_family: a table for each family, or one of all.
        short: no more columns than a terminal has room for, and no sources.
    """
    titles = FAMILIES | {family: family.capitalize() for family in get_args(Family) if family not in FAMILIES}
    groups = {family: [entry for entry in entries if entry.file.model.family == family] for family in titles}
    tables = (
        [_table(f"models-{family}", titles[family], found, short) for family, found in groups.items() if found]
        if by_family
        else [_table("models", "Models", entries, short)]
    )
    pinned = sum(entry.file.pinned for entry in entries)
    measured = sum(bool(entry.measured) for entry in entries)
    lead: Words = [
        "Columns whose names begin with \u201cMeasured\u201d hold what the last run of this project measured. All others hold "
        "what is published: what others measured, on their machines and data. A model that is not pinned is refused until ",
        Code("embrepro pin MODEL"),
        " has looked its revision up.",
    ]
    return Document(
        title="Models",
        subtitle="What is published of the models of conf/model"
        + (", and what the last run measured." if measured else "."),
        sections=[Section("models", tables=tables)]
        if short
        else [Section("models", "Models", lead=[lead], tables=tables), _sources(entries)],
        verdict=f"{len(entries)} models, {pinned} of them pinned, {measured} measured by the last run.",
        data={"models": [entry.as_dict() for entry in entries]},
    )


def _table(identifier: str, caption: str, entries: Sequence[CatalogueEntry], short: bool = False) -> Table:
    figures = [name for name in FIGURES if any(name in entry.figures for entry in entries)]
    measured = [name for name in MEASURED_COLUMNS if any(name in entry.measured for entry in entries)]
    one_family = len({entry.file.model.family for entry in entries}) == 1
    columns = [
        Column("Model"),
        *([] if one_family else [Column("Family")]),
        Column("Pinned"),
        *[Column(FIGURES[name].title, note="published", numeric=True) for name in figures],
        *[Column(MEASURED_COLUMNS[name][0], note=MEASURED_COLUMNS[name][1], numeric=True) for name in measured],
        Column("Dimensions", note="published", numeric=True),
        Column("Size", note="MB, published", numeric=True),
        Column("Longest text", note="tokens, published", numeric=True),
        Column("Normalised", note="published"),
        Column("Similarity", note="published"),
        Column("Parameters", note="millions, published", numeric=True),
        Column("Licence", note="published"),
    ]
    rows = [_row(entry, figures, measured, short, one_family) for entry in entries]
    kept = [
        place
        for place, column in enumerate(columns)
        if any(row[place].text != DASH for row in rows) and not (short and column.title in LEFT_OUT)
    ]
    return Table(
        identifier,
        caption,
        [columns[place] for place in kept],
        [[row[place] for place in kept] for row in rows],
        restack=True,
    )


def _row(
    entry: CatalogueEntry, figures: Sequence[str], measured: Sequence[str], short: bool, one_family: bool
) -> list[Value]:
    published = entry.file.published
    parameters = entry.value("parameters")
    return [
        Value(entry.file.key, note="" if short else entry.file.model.full_name, code=True),
        *([] if one_family else [Value(entry.file.model.family)]),
        Value(yes_no(entry.file.pinned), tone="" if entry.file.pinned else "missing"),
        *[_number(entry.value(name)) for name in figures],
        *[_measured(entry, name) for name in measured],
        _number(entry.value("dimensions")),
        _number(entry.value("size_mb")),
        _number(entry.value("max_seq_length")),
        Value(yes_no(published.normalised) if published else DASH),
        Value(", ".join(published.score_functions) if published and published.score_functions else DASH),
        Value(f"{parameters / 1e6:.1f}", sort=parameters) if parameters else Value(DASH),
        Value(entry.value("licence") or DASH),
    ]


def _number(value: float | None) -> Value:
    return Value(DASH) if value is None else Value(f"{value:,.2f}".rstrip("0").rstrip("."), sort=value)


def _measured(entry: CatalogueEntry, name: str) -> Value:
    value = entry.measured.get(name)
    if value is None:
        return Value(DASH)
    return Value(f"{value:.2f}" if name == MEAN else quantity(value), sort=value)


def _sources(entries: Sequence[CatalogueEntry]) -> Section:
    figures = [name for name in FIGURES if any(name in entry.figures for entry in entries)]
    rows = []
    for name in figures:
        sources = dict.fromkeys(entry.figures[name].source for entry in entries if name in entry.figures)
        rows.append(
            [
                Value(FIGURES[name].title),
                Value(FIGURES[name].unit),
                Value(FIGURES[name].description),
                Value("; ".join(sources)),
                Value(name, code=True),
            ]
        )
    columns = [Column(title) for title in ("Figure", "Unit", "What it is", "Published in", "Name")]
    table = Table("figures", "What the published figures are", columns, rows, restack=True)
    properties = dict.fromkeys(entry.file.published.source for entry in entries if entry.file.published)
    notes: list[Words] = [f"Properties are from {source}." for source in properties]
    return Section("sources", "Sources", tables=[table], notes=notes if len(notes) <= len(FAMILIES) else ())


def choice_page(tree: DecisionTree, walk: Walk, entries: Sequence[CatalogueEntry]) -> Document:
    """What was answered, why the tree leads where it does, and what is known of the models that it names."""
    steps = [[Value(question.asks), Value(answer.says)] for question, answer in walk.steps]
    path = Table("path", tree.title, [Column("Question"), Column("Answer")], steps, plain=True)
    named = [entry for key in walk.last.models for entry in entries if entry.file.key == key]
    tables = [path, *([_table("chosen", "What is known of it", named)] if named else [])]
    return Document(
        title="Choice",
        sections=[Section("choice", "", tables=tables)],
        verdict=_verdict(walk.last, named),
        tone="" if named else "missing",
    )


def _verdict(answer: Answer, named: Sequence[CatalogueEntry]) -> str:
    if not named:
        return f"No model: {answer.because}."
    first, *others = named
    also = f" (or {', '.join(entry.file.key for entry in others)})" if others else ""
    figures = [
        f"{FIGURES[name].title} {quantity(figure.value)}"
        for name, figure in first.figures.items()
        if FIGURES[name].kind == "quality" or name.endswith("_v100")
    ]
    known = f"; published: {', '.join(figures)}" if figures else ""
    here = [
        f"{MEASURED_COLUMNS[name][0].lower()} {quantity(first.measured[name])} ({MEASURED_COLUMNS[name][1]})"
        for name in MEASURED_COLUMNS
        if name in first.measured
    ]
    measured = f"; here: {', '.join(here)}" if here else ""
    unpinned = "" if first.file.pinned else f" Before a run: embrepro pin {first.file.key}."
    return f"{first.file.key}{also}: {answer.because}{known}{measured}.{unpinned}"
