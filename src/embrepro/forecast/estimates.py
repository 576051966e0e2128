"""The forecast of a run, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

KEPT, ENCODE = "kept", "encode"


@dataclass(frozen=True)
class TaskForecast:
    """One task of a model; None where a quantity is not known.

    `texts` are distinct texts, or pairs of a cross-encoder; `tokens` count what the model reads, without padding;
    `seconds` are those of one worker; `disk` is bytes of embeddings.
    """

    task: str
    action: str
    texts: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    disk: int | None = None


@dataclass(frozen=True)
class ModelForecast:
    """All tasks of a model.

    `workers` share the seconds of the tasks; `rate` is tokens a second of one of them, as measured on a sample;
    `memory` is bytes for all of them; `problem` says why the model cannot be looked at.
    """

    key: str
    tasks: Sequence[TaskForecast]
    workers: int = 1
    rate: float | None = None
    memory: int | None = None
    problem: str = ""

    @property
    def to_encode(self) -> list[TaskForecast]:
        """Tasks that will be encoded."""
        return [task for task in self.tasks if task.action == ENCODE]

    @property
    def kept(self) -> int:
        """Tasks whose embeddings stand."""
        return sum(task.action == KEPT for task in self.tasks)

    @property
    def unknown(self) -> int:
        """Tasks of which nothing can be said yet."""
        return len(self.tasks) - self.kept - len(self.to_encode)

    def total(self, of: Callable[[TaskForecast], float | None]) -> float | None:
        """A quantity over the tasks to encode; None where one of them is not known."""
        values = [of(task) for task in self.to_encode]
        return None if None in values else sum(value for value in values if value is not None)

    @property
    def seconds(self) -> float | None:
        """Estimated seconds for all tasks to encode, on all workers."""
        alone = self.total(lambda task: task.seconds)
        return None if alone is None else alone / self.workers

    @property
    def disk(self) -> float | None:
        """Bytes of the embeddings that will be written."""
        return self.total(lambda task: task.disk)

    @property
    def room(self) -> float | None:
        """Bytes that must be free: what will be written, and the shards of the task that is being merged."""
        disks = [task.disk or 0 for task in self.to_encode]
        return None if self.disk is None else self.disk + max(disks, default=0)


@dataclass(frozen=True)
class Forecast:
    """A run that has not been made: its models, the bytes that are free, and what cannot be told."""

    models: Sequence[ModelForecast]
    free: int
    remarks: Sequence[str] = field(default=())

    @property
    def room(self) -> float:
        """Bytes that must be free for what is known."""
        return sum(model.room or 0 for model in self.models)

    @property
    def seconds(self) -> float:
        """Estimated seconds to encode what is known, one model after the other."""
        return sum(model.seconds or 0 for model in self.models)
