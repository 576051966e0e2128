"""What each model is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from embrepro.rendering.formats import DASH, yes_no
from embrepro.rendering.model import Column, Section, Table, Value
from embrepro.report.cells import are_many, model_keys, turned
from embrepro.results.summary import ModelCard, Summary

_PROVENANCE = ("Revision", "SHA-256 of the content", "Served by", "Licence", "Distilled from")


def section(summary: Summary) -> Section:
    """Model cards side by side; of many, one row each, and where they come from below."""
    cards = models_table(summary)
    tables = [cards]
    if are_many(summary):
        found = [[row for row in cards.rows if (row[0].text in _PROVENANCE) == apart] for apart in (False, True)]
        found[1] += [row for row in found[0] if row[0].text.startswith("Recipe")]
        found[0] = [row for row in found[0] if row not in found[1]]
        origins = replace(cards, id="models-origins", caption="Where each model comes from", folded=True)
        tables = [
            turned(replace(table, rows=rows), "Model") for table, rows in zip((cards, origins), found, strict=True)
        ]
    return Section("models", "Model cards", tables=tables, short="Models")


def models_table(summary: Summary) -> Table:
    """Model cards side by side: one row per property."""
    keys = model_keys(summary)
    cards = [summary.models[key] for key in keys]
    recipe = sorted({name for card in cards for name in card.recipe})
    rows = [
        _card_row("Name", [card.name for card in cards], code=True),
        _card_row("Family", [card.family for card in cards]),
        _card_row("Revision", [card.revision for card in cards], code=True),
        _card_row("SHA-256 of the content", [card.content_hash for card in cards], code=True),
        _card_row("Served by", [card.source for card in cards]),
        _card_row("Licence", [card.licence or "not stated" for card in cards]),
        _card_row("Dimensions", [card.dimensions for card in cards]),
        _card_row("Dimensions that are not zero", [_active(card) for card in cards]),
        _card_row("Parameters", [card.parameters and f"{card.parameters:,}" for card in cards]),
        _card_row("Maximum sequence length", [card.max_seq_length or "unlimited" for card in cards]),
        _card_row("Number type", [card.dtype for card in cards]),
        _card_row("Normalised", [yes_no(card.normalised) for card in cards]),
        _card_row("Similarity", [card.similarity for card in cards]),
        _card_row("Size on disk, MB", [card.size_mb and f"{card.size_mb:.1f}" for card in cards]),
        _card_row("Distilled from", [card.distilled_from for card in cards]),
        *[_card_row(f"Recipe: {name}", [card.recipe.get(name) for card in cards]) for name in recipe],
    ]
    kept = [row for row in rows if any(value.text != DASH for value in row[1:])]
    columns = [Column("Property"), *[Column(key, note=summary.models[key].role) for key in keys]]
    return Table("models", "What each model is, as found on disk", columns, kept, plain=True)


def _active(card: ModelCard) -> str | None:
    """Mean number of active dimensions by prompt kind, and what share of all dimensions is zero."""
    parts = [
        f"{prompt or 'text'} {active:.1f} ({100 * (1 - active / card.dimensions):.2f} % zero)"
        for prompt, active in card.active_dimensions.items()
        if card.dimensions
    ]
    return ", ".join(parts) or None


def _card_row(title: str, values: Sequence[object], code: bool = False) -> list[Value]:
    texts = [DASH if value is None else str(value) for value in values]
    return [Value(title), *[Value(text, code=code and text != DASH) for text in texts]]
