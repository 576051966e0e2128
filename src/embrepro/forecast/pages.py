"""The forecast of a run, as a document."""

from __future__ import annotations

from embrepro.files import size
from embrepro.forecast.estimates import ENCODE, Forecast, ModelForecast, TaskForecast
from embrepro.progress.console import duration
from embrepro.rendering.formats import DASH
from embrepro.rendering.model import Column, Document, Section, Table, Value

_COLUMNS = (
    Column("task"),
    Column("will be done", wide=True),
    Column("texts", numeric=True),
    Column("tokens", numeric=True),
    Column("time", numeric=True),
    Column("disk", numeric=True),
)


def forecast_page(forecast: Forecast) -> Document:
    """A section for each model, with a row for each task and what they come to."""
    tasks = [task for model in forecast.models for task in model.tasks]
    encoded = sum(task.action == ENCODE for task in tasks)
    kept = sum(model.kept for model in forecast.models)
    words = [f"{encoded} tasks to encode", f"{kept} kept"]
    if unknown := len(tasks) - encoded - kept:
        words.append(f"{unknown} not known yet")
    enough = forecast.room <= forecast.free
    needed = f"{size(forecast.room)} of disk needed, {size(forecast.free)} free"
    verdict = f"{', '.join(words)}; about {duration(forecast.seconds)} to encode; {needed}."
    return Document(
        title="Forecast",
        verdict=verdict if enough else f"Not enough room: {verdict}",
        tone="bad" if not enough else "warn" if unknown else "good",
        sections=[_section(model) for model in forecast.models]
        + ([Section("remarks", notes=list(forecast.remarks))] if forecast.remarks else []),
    )


def _section(model: ModelForecast) -> Section:
    notes = [model.problem] if model.problem else []
    if model.rate:
        notes.append(
            f"{model.rate:,.0f} tokens a second in each of {model.workers} {_plural(model.workers, 'worker')},"
            " measured on a sample."
        )
    if model.memory:
        notes.append(f"About {size(model.memory)} of memory for all workers.")
    footer = []
    if model.to_encode:
        footer = [
            [
                Value("To encode"),
                Value(f"{len(model.to_encode)} {_plural(len(model.to_encode), 'task')}"),
                _count(model.total(lambda task: task.texts)),
                _count(model.total(lambda task: task.tokens)),
                _time(model.seconds),
                _disk(model.disk),
            ]
        ]
    table = Table(
        f"forecast-{model.key}",
        f"Model {model.key}",
        _COLUMNS,
        [_row(task, model.workers) for task in model.tasks],
        footer=footer,
        plain=True,
    )
    return Section(f"model-{model.key}", model.key, tables=[table], notes=notes)


def _row(task: TaskForecast, workers: int) -> list[Value]:
    return [
        Value(task.task),
        Value(task.action),
        _count(task.texts),
        _count(task.tokens),
        _time(None if task.seconds is None else task.seconds / workers),
        _disk(task.disk),
    ]


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"


def _count(value: float | None) -> Value:
    return Value(DASH if value is None else f"{value:,.0f}", sort=value)


def _time(seconds: float | None) -> Value:
    return Value(DASH if seconds is None else duration(seconds), sort=seconds)


def _disk(count: float | None) -> Value:
    return Value(DASH if count is None else size(count), sort=count)
