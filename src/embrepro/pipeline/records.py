"""What became of every task in a stage: done, or the reason in words. Stages hand these on, so no task is ever lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from embrepro.errors import KitError
from embrepro.files import read_model, sha256, write_json

DONE = "done"


class TaskOutcome(BaseModel):
    """One task in one stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: str = DONE
    stage: str
    key: str | None = None
    files: dict[str, str] = {}
    details: dict[str, Any] = {}

    @property
    def done(self) -> bool:
        """Whether the stage did its work on the task."""
        return self.status == DONE

    def stands(self, folder: Path) -> bool:
        """Whether the work was done and its files are in `folder` as they were written."""
        return self.done and all(
            (folder / name).is_file() and sha256(folder / name) == expected for name, expected in self.files.items()
        )


class Record(BaseModel):
    """Every task of a stage, by name."""

    model_config = ConfigDict(extra="forbid")

    tasks: dict[str, TaskOutcome] = {}
    details: dict[str, Any] = {}
    earlier: Record | None = None
    """What an earlier run made of the tasks that this one lost: its files stay, and serve again once they can."""

    def made(self) -> Record:
        """What was made, by this run or an earlier one, and of which the files are there."""
        before = self.earlier or Record()
        done = {name: outcome for name, outcome in self.tasks.items() if outcome.done}
        return Record(tasks={**before.tasks, **done}, details=self.details or before.details)

    def keep(self, made: Record) -> None:
        """Remember what an earlier run made of the tasks that this one lost."""
        lost = {name for name, outcome in self.tasks.items() if not outcome.done}
        kept = {name: outcome for name, outcome in made.tasks.items() if name in lost}
        self.earlier = Record(tasks=kept, details=made.details) if kept else None

    @property
    def files(self) -> set[str]:
        """Names of the files that hold what was made."""
        return {name for outcome in self.made().tasks.values() for name in outcome.files}

    def outcome(self, task: str, stage: str) -> TaskOutcome:
        """What became of a task; one that the record does not name was not seen by `stage`, which wrote it."""
        return self.tasks.get(task) or TaskOutcome(status=f"the {stage} stage has not seen this task", stage=stage)

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read a record; raises KitError where it is absent or damaged."""
        return read_model(path, cls)

    @classmethod
    def read_if_there(cls, path: Path) -> Record:
        """Read a record of an earlier run; empty where there is none or it is damaged, so that its work is done again."""
        try:
            return cls.read(path)
        except KitError:
            return cls()

    def write(self, path: Path) -> None:
        """Write the record whole or not at all."""
        write_json(path, self.model_dump(exclude=None if self.earlier else {"earlier"}))


def reason(error: BaseException) -> str:
    """An error as the one line that stands in a record and a report."""
    text = " ".join(str(error).split())
    if isinstance(error, KitError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
