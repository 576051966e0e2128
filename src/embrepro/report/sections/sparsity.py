"""How sparse a sparse model's embeddings are, and how large an index of them is, by task."""

from __future__ import annotations

from embrepro.rendering.formats import quantity
from embrepro.rendering.model import Column, Section, Table, Value
from embrepro.report.cells import model_keys
from embrepro.results.summary import SparsityRow, Summary


def section(summary: Summary) -> Section:
    """One row for each model, task and prompt kind."""
    columns = [
        Column("Task"),
        Column("Model"),
        Column("Texts", note="distinct", numeric=True),
        Column("Active dimensions", note="mean a text", numeric=True),
        Column("Zero", note="% of dimensions", numeric=True),
        Column("Index", note="MB", numeric=True),
        Column("Dense", note="MB, float32", numeric=True),
    ]
    order = {key: place for place, key in enumerate(model_keys(summary))}
    rows = [_row(row) for row in sorted(summary.sparsity, key=lambda row: (row.task, order[row.model]))]
    table = Table("sparsity", "Sparse embeddings of each task's distinct texts", columns, rows, restack=True)
    lead = [
        "The index holds a 32-bit text number and a 32-bit weight for each value that is not zero, uncompressed; "
        "beside it is what the same embeddings take as dense vectors."
    ]
    return Section("sparsity", "Sparsity", lead=lead, tables=[table], short="Sparsity")


def _row(row: SparsityRow) -> list[Value]:
    dimensions = row.active_dimensions / (1 - row.sparsity) if row.sparsity < 1 else 0.0
    dense = 4 * row.texts * dimensions / 1e6
    return [
        Value(row.task, note={"query": "queries", "document": "documents"}.get(row.prompt, "texts")),
        Value(row.model),
        Value(f"{row.texts:,}", sort=row.texts),
        Value(f"{row.active_dimensions:.1f}", sort=row.active_dimensions),
        Value(f"{100 * row.sparsity:.2f}", sort=row.sparsity),
        Value(quantity(row.index_mb), sort=row.index_mb),
        Value(quantity(dense), sort=dense),
    ]
