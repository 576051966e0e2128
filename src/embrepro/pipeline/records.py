"""What became of every task in a stage: done, or the reason in words. Stages hand these on, so no task is ever lost.

A record is sealed, so that a change of it is noticed, and says which parameters it was made for, so that no stage takes
what another configuration made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from embrepro.config.schema import Config
from embrepro.errors import KitError
from embrepro.files import fingerprint, read_sealed, sha256, write_sealed

DONE = "done"
TASKS = ("tasks.benchmark", "tasks.languages", "tasks.names", "tasks.nanobeir", "tasks.subsets")
"""Parameters that say which tasks are asked for."""
SUMMARY = ("baseline", "candidate", "seed", *TASKS)
"""Parameters that a summary is made for, beside those of each model."""


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
    """Every task of a stage, by name, and the parameters that the stage ran with (see `parameters`)."""

    model_config = ConfigDict(extra="forbid")

    tasks: dict[str, TaskOutcome] = {}
    details: dict[str, Any] = {}
    made_for: dict[str, str] = {}
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
        """Read a record; raises KitError where it is absent, damaged, or was changed since it was written."""
        return read_sealed(path, cls)

    @classmethod
    def read_for(cls, path: Path, wanted: Mapping[str, str], stage: str) -> Record:
        """Read what a stage left for these parameters; raises KitError where it is damaged or was made for others."""
        record = cls.read(path)
        expect_made_for(path, record.made_for, wanted, stage)
        return record

    @classmethod
    def read_if_there(cls, path: Path) -> Record:
        """Read a record of an earlier run; empty where there is none or it is damaged, so that its work is done again."""
        try:
            return cls.read(path)
        except KitError:
            return cls()

    def write(self, path: Path) -> None:
        """Write the record whole or not at all."""
        write_sealed(path, self)


def parameters(config: Config, names: Iterable[str]) -> dict[str, str]:
    """Parameters by their dotted name, such as `models.minilm`, each as the SHA-256 of its value."""
    values = config.model_dump(mode="json")
    found = {}
    for name in names:
        section, _, key = name.partition(".")
        found[name] = fingerprint(values[section][key] if key else values[section])
    return found


def expect_made_for(path: Path, made_for: Mapping[str, str], wanted: Mapping[str, str], stage: str) -> None:
    """Compare the parameters that a file was made for with those in force; raises KitError naming those that differ."""
    if differing := [name for name, value in wanted.items() if made_for.get(name) != value]:
        raise KitError(
            f"{path} was made for other values of {', '.join(differing)} than params.yaml has now. "
            f"Run the stage that makes it first: dvc repro {stage}"
        )


def reason(error: BaseException) -> str:
    """An error as the one line that stands in a record and a report."""
    text = " ".join(str(error).split())
    if isinstance(error, KitError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
