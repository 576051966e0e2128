"""What each model is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from embrepro.rendering.formats import DASH, yes_no
from embrepro.rendering.model import Column, Section, Table, Value
from embrepro.report.cells import are_many, model_keys, turned
from embrepro.results.summary import ModelCard, Summary

_ORIGINS = ("Revision", "SHA-256 of the content", "Served by", "Licence", "Distilled from")
_WIDE = ("Served by", "Distilled from")
_RECIPE = "Recipe: "


def section(summary: Summary) -> Section:
    """Model cards side by side; of many, one row each, and below where they come from and how they were made."""
    cards = models_table(summary)
    tables = _by_model(cards) if are_many(summary) else [cards]
    return Section("models", "Model cards", tables=tables, short="Models")


def _by_model(cards: Table) -> list[Table]:
    """The cards with a row for each model, in as many tables as have room for their columns."""
    parts: dict[str, list[Sequence[Value]]] = {"": [], "origins": [], "recipes": []}
    for row in cards.rows:
        name = row[0].text
        parts["recipes" if name.startswith(_RECIPE) else "origins" if name in _ORIGINS else ""].append(row)
    captions = {"origins": "Where each model comes from", "recipes": "How each model was encoded and distilled"}
    return [
        _with_wide(
            turned(
                replace(
                    cards, id=f"models-{part}".rstrip("-"), caption=captions.get(part, cards.caption), rows=rows,
                    folded=bool(part),
                ),
                "Model",
            )
        )
        for part, rows in parts.items()
        if rows
    ]  # fmt: skip


def _with_wide(table: Table) -> Table:
    """The same with room for sentences."""
    columns = [replace(column, wide=column.title in _WIDE) for column in table.columns]
    return replace(table, columns=columns)


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
        *[_card_row(f"{_RECIPE}{name}", [card.recipe.get(name) for card in cards]) for name in recipe],
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
