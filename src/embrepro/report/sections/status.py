"""What became of each requested task."""

from __future__ import annotations

from embrepro.rendering.formats import DASH, names, score
from embrepro.rendering.model import Column, Section, Table, Value
from embrepro.report.cells import model_keys, task_name, why_no_score
from embrepro.results.summary import Cell, Summary, TaskRow


def section(summary: Summary) -> Section:
    """One table with every task."""
    return Section("status", "Status of every requested task", tables=[status_table(summary)], short="Status")


def status_table(summary: Summary) -> Table:
    """Every requested task and what became of it, for every model."""
    columns = [Column("Task"), *[Column(key) for key in model_keys(summary)]]
    columns += [Column("Samples", numeric=True), Column("Splits"), Column("Subsets"), Column("Languages")]
    rows = [_status_row(summary, task) for task in summary.tasks]
    return Table("status", "What became of each requested task", columns, rows, restack=True)


def _status_row(summary: Summary, task: TaskRow) -> list[Value]:
    cells = [task.cells.get(key) for key in model_keys(summary)]
    samples = next((cell.samples for cell in cells if cell and cell.samples is not None), None)
    return [
        task_name(task),
        *[
            Value(
                why_no_score(cell),
                note=_first_stage(cell),
                tone="good" if cell and cell.score is not None else "missing",
            )
            for cell in cells
        ],
        Value(DASH if samples is None else f"{samples:,}", sort=samples),
        Value(names(task.splits)),
        Value(names(task.subsets)),
        Value(names(task.languages)),
    ]


def _first_stage(cell: Cell | None) -> str:
    if cell is None or (stage := cell.first_stage) is None or stage.score is None:
        return ""
    return f"reranks BM25's first {stage.depth}; BM25 alone {score(stage.score)}"
