"""Pins of data sets: the hash of the rows of each split and subset as they are frozen, in `conf/pins/<task>.yaml`.

A pin is written after a first look (`embrepro pin`) and compared from then on, for every source. It holds for one
revision of a data set: where mteb asks for another, the data has no pin, and is marked so.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import yaml
from pydantic import Field

from embrepro import kit
from embrepro.config.yaml_files import Strict, read_document
from embrepro.errors import TaskError
from embrepro.files import write_text

if TYPE_CHECKING:
    from collections.abc import Mapping

PINS = kit.CONF / "pins"


class Pin(Strict):
    """What the rows of a task's data are."""

    task: str
    repository: str
    revision: str
    drawn: list[str] | None = Field(
        default=None,
        description="subsets asked for together, where loading draws rows at random and one draw moves the next",
    )
    rows: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(
        description="split, or subset/split, -> SHA-256 of its rows (see tasks/rows.py)"
    )

    def fits(self, revision: str, drawn: list[str] | None) -> bool:
        """Whether the pin speaks about data at a revision."""
        return self.revision == revision and self.drawn == drawn


def read_pin(task: str, folder: Path = PINS) -> Pin | None:
    """The pin of a task, if it has one; the kit's where the folder holds none.

    Raises:
        ConfigError: the file is not a pin.
    """
    path = kit.find(_path(task, folder), _path(task, PINS))
    return read_document(path, Pin, "a pin", "docs/sources.md") if path.is_file() else None


def expect_pinned(pin: Pin | None, revision: str, drawn: list[str] | None, rows: Mapping[str, str]) -> bool:
    """Compare rows with their pin.

    Args:
        pin: the task's pin, if it has one.
        revision: of the data set.
        drawn: the subsets asked for, where loading draws at random; else None.
        rows: split, or subset/split, -> SHA-256.

    Returns:
        Whether all of them are pinned; False where some have no pin at this revision.

    Raises:
        TaskError: rows differ from their pin.
    """
    if pin is None or not pin.fits(revision, drawn):
        return False
    for part, found in rows.items():
        if part in pin.rows and pin.rows[part] != found:
            raise TaskError(
                f"the rows of {part} are not the pinned ones of {pin.repository} at {revision}: SHA-256 {found}, expected "
                f"{pin.rows[part]}. The copy that was read holds other data: fetch it again, from elsewhere. Only if the "
                f"pin itself is wrong: delete {PINS / pin.task}.yaml, look at the data, and run `embrepro pin {pin.task}`"
            )
    return rows.keys() <= pin.rows.keys()


def write_pin(pin: Pin, folder: Path = PINS) -> bool:
    """Write a pin, or add parts to the one that is there; returns whether anything changed.

    Raises:
        TaskError: the pin that is there says otherwise of a part.
    """
    before = read_pin(pin.task, folder)
    if before is not None and before.fits(pin.revision, pin.drawn):
        expect_pinned(before, pin.revision, pin.drawn, pin.rows)
        pin = pin.model_copy(update={"rows": dict(sorted({**before.rows, **pin.rows}.items()))})
    if pin == before:
        return False
    body = yaml.safe_dump(pin.model_dump(exclude_none=True), sort_keys=False, width=120)
    header = "# Rows of this data set as they were when they were first looked at; written by `embrepro pin`.\n"
    write_text(_path(pin.task, folder), header + body)
    return True


def _path(task: str, folder: Path) -> Path:
    return folder / f"{task}.yaml"
