"""All models of many states of a project and folders of results, ranked on the tasks that all were asked for, and their page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from embrepro.layout import Layout
from embrepro.regression import diff, revisions, sides
from embrepro.regression.revisions import WORKSPACE, RevisionError, Side
from embrepro.rendering.formats import score as points
from embrepro.rendering.model import Column, Document, Section, Table, Value
from embrepro.report.sections import ranking as pages
from embrepro.results import comparison, ranking
from embrepro.results.comparison import Scored
from embrepro.results.summary import Ranking
from embrepro.tasks.samples import Samples


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BoardEntry(_Document):
    """One model; several sides that found the same of it are one entry."""

    label: str = Field(description="the model's key, with a side where several sides found something else of it")
    model: str = Field(description="organisation/name")
    revision: str
    sides: list[str]
    scores: dict[str, float | None] = Field(description="by task, in the board's order")
    status: dict[str, str] = Field(description='by task: "scored", or the reason in words')
    mean_task: float | None = Field(description="null as soon as one task is missing")


class Board(_Document):
    """Models side by side; `ranking` needs three that have a score on every task, and per-sample scores of some task."""

    sides: list[str]
    tasks: dict[str, str] = Field(description="mteb's task type by task")
    left_out: dict[str, str] = Field(description="task -> why it does not count")
    entries: list[BoardEntry] = Field(description="the highest mean first")
    ranking: Ranking | None
    notes: list[str]


@dataclass
class _Found:
    """What some sides found of one model."""

    side: Side
    key: str
    sides: list[str] = field(default_factory=list)


def names(root: Path) -> list[str]:
    """What a board shows where nothing is named: working tree, last commit, every experiment, as far as they have reports.

    Raises:
        RevisionError: none of them has.
    """
    asked = [WORKSPACE, "HEAD", *dict.fromkeys(commit for _, commit in revisions.experiments(root))]
    called = {commit: name for name, commit in revisions.experiments(root)}
    found = []
    for name in asked:
        try:
            revision = revisions.resolve(root, name)
        except RevisionError:
            continue
        if revisions.read_text(root, revision, Layout().summary.as_posix()) is not None:
            found.append(called.get(name, name))
    if not found:
        raise RevisionError(f"Neither {WORKSPACE}, HEAD nor an experiment has reports; `dvc repro` makes them.")
    return list(dict.fromkeys(found))


def load_all(root: Path) -> Board:
    """Read whatever `names` finds, and rank what shares a task; the newest experiment decides what others are held to.

    Raises:
        RevisionError, KitError: as `names`, `sides.load` and `rank`.
    """
    together: list[Side] = []
    apart: list[str] = []
    for side in [sides.load(root, name) for name in reversed(names(root))]:
        if together and not _tasks([side, *together])[0]:
            apart.append(side.revision.label)
        else:
            together.insert(0, side)
    board = rank(together)
    said = [f"{label} is not on this board: the others share no task with it." for label in apart]
    return board.model_copy(update={"notes": [*board.notes, *said]})


def load(root: Path, asked: Sequence[str]) -> Board:
    """Read all sides and rank what they found; errors are those of `sides.load` and `rank`."""
    return rank([sides.load(root, name) for name in dict.fromkeys(asked)])


def rank(found: Sequence[Side]) -> Board:
    """Rank every model of some sides.

    Only tasks count that every side asked for, by the same metric and on the same data; the others are named with the reason.

    Raises:
        RevisionError: there is no such task.
        KitError: a score is not what its per-sample scores give.
    """
    shared, left_out = _tasks(found)
    if not shared:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(left_out.items())[:3])
        raise RevisionError(f"No task was asked for in all of {', '.join(_labels(found))} alike ({why}).")
    labelled = _labelled(list(_distinct(found, list(shared))))
    reasons: dict[str, list[str]] = {}
    scored = {label: dict(_scored(each, shared, reasons)) for label, each in labelled.items()}
    entries = [_entry(label, each, scored[label], shared) for label, each in labelled.items()]
    ranked = ranking.rank(scored, shared, found[0].seed)
    notes = [f"{reason} ({', '.join(dict.fromkeys(tasks))})." for reason, tasks in reasons.items()]
    if ranked and ranked.untested.keys() == shared.keys():
        # Without any uncertainty every difference would count as certain.
        ranked = None
        notes.insert(
            0,
            "There are no ranks: no task has per-sample scores of every model, so nothing says how certain a difference is.",
        )
    elif not ranked:
        notes.insert(0, f"A ranking needs three models with a score on each of the {len(shared)} tasks.")
    return Board(
        sides=_labels(found),
        tasks=shared,
        left_out=left_out,
        entries=sorted(entries, key=lambda one: (one.mean_task is None, -(one.mean_task or 0.0), one.label)),
        ranking=ranked,
        notes=notes,
    )


def _labels(found: Sequence[Side]) -> list[str]:
    return [side.revision.label for side in found]


def _tasks(found: Sequence[Side]) -> tuple[dict[str, str], dict[str, str]]:
    """Type of each task that counts, and why each other one does not."""
    shared, left_out = {}, {}
    for name in dict.fromkeys(name for side in found for name in side.tasks):
        without = [side.revision.label for side in found if name not in side.tasks]
        if without:
            left_out[name] = f"not asked for in {', '.join(without)}"
            continue
        first, *others = (side.tasks[name] for side in found)
        if why := next((why for other in others if (why := diff.incomparable(first, other))), ""):
            left_out[name] = f"not comparable: {why}"
        else:
            shared[name] = reduce(lambda known, side: known or side.tasks[name].type, found, "")
    return shared, left_out


def _distinct(found: Sequence[Side], tasks: Sequence[str]) -> Iterator[_Found]:
    """Each model once for all sides that have it with the same content and the same scores."""
    seen: dict[tuple[object, ...], _Found] = {}
    for side in found:
        for key, model in side.run.models.items():
            scores = tuple(_cell(side, key, task) for task in tasks)
            same = (model.name, model.revision, model.content_hash, scores)
            if same not in seen:
                seen[same] = _Found(side, key)
                yield seen[same]
            seen[same].sides.append(side.revision.label)


def _cell(side: Side, key: str, task: str) -> float | str:
    cell = side.tasks[task].cells.get(key)
    if cell is None:
        return diff.NOT_REQUESTED
    return cell.status if cell.score is None else cell.score


def _labelled(found: Sequence[_Found]) -> dict[str, _Found]:
    """The model's key, with a side where several states found something else of it."""
    keys = [each.key for each in found]
    return {
        each.key if keys.count(each.key) == 1 else f"{each.key} ({each.side.revision.label})": each for each in found
    }


def _scored(each: _Found, tasks: Mapping[str, str], reasons: dict[str, list[str]]) -> Iterator[tuple[str, Scored]]:
    for task in tasks:
        score = _cell(each.side, each.key, task)
        if isinstance(score, str):
            continue
        found = each.side.samples(each.key, task)
        if isinstance(found, str):
            reasons.setdefault(f"Without uncertainty: {found}", []).append(task)
        yield task, Scored(score, found if isinstance(found, Samples) else None)


def _entry(label: str, each: _Found, scored: Mapping[str, Scored], tasks: Mapping[str, str]) -> BoardEntry:
    model = each.side.run.models[each.key]
    scores = {task: scored[task].score if task in scored else None for task in tasks}
    cells = {task: _cell(each.side, each.key, task) for task in tasks}
    return BoardEntry(
        label=label,
        model=model.name,
        revision=model.revision,
        sides=each.sides,
        scores=scores,
        status={task: cell if isinstance(cell, str) else "scored" for task, cell in cells.items()},
        mean_task=comparison.means(scores, tasks).mean_task,
    )


def board_page(board: Board) -> Document:
    """Models of many states and folders by their mean, with ranks where there are three or more, and their scores by task."""
    notes = {entry.label: _sides(board, entry) for entry in board.entries}
    found = board.ranking
    tables = [pages.ranking_table(found, notes), pages.robustness_table(found)] if found else []
    scores = _board_table(board, folded=found is not None)
    tables += [scores, pages.pairs_table(found)] if found else [scores]
    said = [f"{task} does not count: {why}." for task, why in board.left_out.items()]
    return Document(
        title=f"{len(board.entries)} models of {', '.join(board.sides)}",
        verdict=pages.leaders_sentence(found) if found else f"{len(board.entries)} models on {len(board.tasks)} tasks.",
        sections=[
            Section(
                "board",
                tables=tables,
                figures=[[pages.ranks_figure(found)]] if found else [],
                notes=[*(pages.ranking_notes(found) if found else []), *board.notes, *said],
            )
        ],
    )


def _sides(board: Board, entry: BoardEntry) -> str:
    """Where a model was found, unless there is but one place."""
    return ", ".join(entry.sides) if len(board.sides) > 1 else ""


def _board_table(board: Board, *, folded: bool) -> Table:
    columns = [
        Column("Model"),
        Column("Mean", note="over tasks, \u00d7 100", numeric=True),
        *[Column(task, note=kind, numeric=True) for task, kind in board.tasks.items()],
    ]
    rows = [
        [
            Value(entry.label, note=_sides(board, entry)),
            Value(
                "missing" if entry.mean_task is None else points(entry.mean_task),
                sort=entry.mean_task,
                tone="missing" if entry.mean_task is None else "",
            ),
            *[
                Value("missing", note=entry.status[task], tone="missing")
                if score is None
                else Value(points(score), sort=score)
                for task, score in entry.scores.items()
            ],
        ]
        for entry in board.entries
    ]
    return Table("board", "Main scores \u00d7 100", columns, rows, restack=True, folded=folded)
