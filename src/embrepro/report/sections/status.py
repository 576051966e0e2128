"""What became of each requested task."""

from __future__ import annotations

from collections.abc import Mapping

from embrepro.rendering.formats import DASH, names, score
from embrepro.rendering.model import Column, Section, Table, Value
from embrepro.report.cells import are_many, model_keys, task_name, why_no_score
from embrepro.results.summary import Cell, Summary, TaskRow


def section(summary: Summary) -> Section:
    """One table with every task."""
    return Section("status", "Status of every requested task", tables=[status_table(summary)], short="Status")


def status_table(summary: Summary) -> Table:
    """Every requested task and what became of it, for every model; of many, those are named that have no score."""
    columns = [Column("Task")]
    if are_many(summary):
        columns += [Column("Scored", note="models"), Column("No score", wide=True)]
    else:
        columns += [Column(key) for key in model_keys(summary)]
    columns += [Column("Samples", numeric=True), Column("Splits"), Column("Subsets"), Column("Languages")]
    rows = [_status_row(summary, task) for task in summary.tasks]
    return Table("status", "What became of each requested task", columns, rows, restack=True)


def _status_row(summary: Summary, task: TaskRow) -> list[Value]:
    found = {key: task.cells.get(key) for key in model_keys(summary)}
    cells = list(found.values())
    samples = next((cell.samples for cell in cells if cell and cell.samples is not None), None)
    return [
        task_name(task),
        *(_of_many(found) if are_many(summary) else map(_outcome, cells)),
        Value(DASH if samples is None else f"{samples:,}", sort=samples),
        Value(names(task.splits)),
        Value(names(task.subsets)),
        Value(names(task.languages)),
    ]


def _outcome(cell: Cell | None) -> Value:
    return Value(
        why_no_score(cell), note=_first_stage(cell), tone="good" if cell and cell.score is not None else "missing"
    )


def _of_many(cells: Mapping[str, Cell | None]) -> list[Value]:
    """How many models have a score, and the others by reason."""
    lost: dict[str, list[str]] = {}
    for key, cell in cells.items():
        if cell is None or cell.score is None:
            lost.setdefault(why_no_score(cell), []).append(key)
    scored = len(cells) - sum(map(len, lost.values()))
    notes = dict.fromkeys(filter(None, map(_first_stage, cells.values())))
    return [
        Value(f"{scored} of {len(cells)}", note="; ".join(notes), sort=scored, tone="missing" if lost else "good"),
        # An empty cell is left out on a phone.
        Value("; ".join(f"{', '.join(keys)}: {why}" for why, keys in lost.items())),
    ]


def _first_stage(cell: Cell | None) -> str:
    if cell is None or (stage := cell.first_stage) is None or stage.score is None:
        return ""
    return f"reranks BM25's first {stage.depth}; BM25 alone {score(stage.score)}"
