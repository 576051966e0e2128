"""`embrepro upgrade`: what the installed kit would write today, beside what it wrote and what its user made of that.

A file that the user left as it was written can be written anew. What both changed is shown and left alone: the kit's change
is theirs to take over, by hand or not at all.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from embrepro.config.messages import suggest
from embrepro.config.params import PARAMS, read_params
from embrepro.errors import ConfigError
from embrepro.own_repository import generated
from embrepro.own_repository.generated import KitOrigin
from embrepro.own_repository.record import InitRecord, current, put, read_record, write_record

Standing = Literal["offered", "yours"]


@dataclass(frozen=True)
class FileChange:
    """One file that the kit would write otherwise today; a text is None where there is no such file.

    `offered` is a file that its user left alone, or that is new; `yours` one that both changed.
    """

    name: str
    written: str | None
    here: str | None
    today: str | None

    @property
    def standing(self) -> Standing:
        """Whether the kit may write it."""
        return "offered" if self.here == self.written else "yours"

    def diff(self) -> str:
        """What the kit changed: from what it wrote to what it would write."""
        old, new = ((text or "").splitlines(keepends=True) for text in (self.written, self.today))
        return "".join(difflib.unified_diff(old, new, f"{self.name} (written)", f"{self.name} (today)"))


@dataclass(frozen=True)
class Upgrade:
    """All changes between two versions of the kit, and why params.yaml does not fit the new one, if so."""

    old: str
    new: str
    changes: list[FileChange]
    params_problem: str

    @property
    def offered(self) -> list[FileChange]:
        """Those that can be written."""
        return [change for change in self.changes if change.standing == "offered"]


def compare(root: Path, origin: KitOrigin | None = None) -> Upgrade:
    """Hold what the installed kit would write against what was written, and against what is here.

    Args:
        root: the repository.
        origin: where the reusable workflow is had now; None keeps what was recorded.

    Raises:
        KitError: `embrepro init` did not make the repository.
    """
    record, today = read_record(root), _today(root, origin)
    changes = []
    for name in sorted({*record.files, *today.files}):
        change = FileChange(name, record.files.get(name), current(root, name), today.files.get(name))
        if change.written != change.today and change.here != change.today:
            changes.append(change)
    return Upgrade(record.kit, today.kit, changes, _params_problem(root))


def apply(root: Path, upgrade: Upgrade, origin: KitOrigin | None = None, settled: Sequence[str] = ()) -> list[str]:
    """Write what the user left alone; what both changed stays, and is shown again unless it is `settled`.

    Returns:
        The paths that were written or removed.

    Raises:
        ConfigError: `settled` names a file that is not among the changes.
    """
    names = [change.name for change in upgrade.changes]
    if unknown := [name for name in settled if name not in names]:
        raise ConfigError(f"{unknown[0]}: the kit changed no such file{suggest(unknown[0], names)}")
    record, today = read_record(root), _today(root, origin)
    files = dict(today.files)
    written = []
    for change in upgrade.changes:
        if change.name in settled:
            continue
        if change.standing == "yours":
            files.pop(change.name, None)
            if change.written is not None:
                files[change.name] = change.written
        elif change.today is None:
            (root / change.name).unlink()
            written.append(change.name)
        else:
            put(root, change.name, change.today)
            written.append(change.name)
    after = InitRecord(choices=today.choices, files=files)
    if after != record:
        write_record(root, after)
    return written


def _today(root: Path, origin: KitOrigin | None) -> InitRecord:
    """What `embrepro init` would write and record today, of the same choices."""
    choices = read_record(root).choices
    if origin:
        choices = choices.model_copy(update={"origin": origin})
    return InitRecord(kit=version("embrepro"), choices=choices, files=generated.texts(choices))


def _params_problem(root: Path) -> str:
    try:
        read_params(root / PARAMS)
    except ConfigError as error:
        return str(error)
    return ""
