"""What the evaluate stage left of a model, for the stages that publish it: its record, and each score with its samples.

A score is read from mteb's result file, whose SHA-256 is in the record, and compared with what its per-sample scores give.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from embrepro.config.schema import Config
from embrepro.errors import KitError
from embrepro.files import sha256
from embrepro.layout import Layout
from embrepro.pipeline.records import TASKS, Record, parameters
from embrepro.results.agreement import expect_agreement
from embrepro.results.comparison import Scored
from embrepro.tasks import main_scores, samples


def read_record(config: Config, layout: Layout, key: str) -> Record:
    """A model's record; raises KitError where it is damaged, was changed, or was made for another configuration."""
    wanted = parameters(config, [f"models.{key}", "device.numerics", *TASKS])
    return Record.read_for(layout.evaluate_record(key), wanted, f"evaluate@{key}")


def read_scores(config: Config, layout: Layout, key: str, record: Record, tasks: Iterable[str]) -> dict[str, Scored]:
    """The scores of the tasks that have one.

    Raises:
        KitError: a file is not the one that was recorded, or a score is not what its samples give.
    """
    folder = layout.results(config.models[key]) / str(record.details.get("revision"))
    found = {}
    for name in tasks:
        outcome = record.outcome(name, "evaluate")
        if outcome.done:
            for file, expected in outcome.files.items():
                _expect_sha256(folder / file, expected, key)
            kept = samples.path_of(folder, name)
            scored = Scored(
                main_scores.read_main_score(main_scores.path_of(folder, name)),
                samples.read(kept) if kept.name in outcome.files else None,
            )
            if scored.samples:
                expect_agreement(scored.score, scored.samples, f"the score of {key} on {name}")
            found[name] = scored
    return found


def expect_recorded(path: Path, record: Path, task: str) -> None:
    """Compare a task's result file with a model's record, where both are here; raises KitError where they differ."""
    if path.is_file() and record.is_file():
        outcome = Record.read(record).tasks.get(task)
        _expect_sha256(path, outcome.files.get(path.name, "") if outcome else "", record.stem)


def _expect_sha256(path: Path, expected: str, key: str) -> None:
    if not path.is_file() or sha256(path) != expected:
        state = "is not the file that the evaluate stage wrote" if path.is_file() else "is missing"
        raise KitError(f"{path} {state}. Run: dvc repro --force --single-item evaluate@{key}")
