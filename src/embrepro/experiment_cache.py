"""What queued experiments share: frozen tasks, models and embeddings, each under the key that decides its content.

DVC runs a queued experiment in a folder of its own below `.dvc/tmp/exps`, and deletes the folder when the run fails. What
was fetched, distilled or encoded there is linked into `.dvc/tmp/embrepro` as soon as it is done, and the next experiment
that would make the same thing takes it from there. Whoever takes something checks it as if it had lain in its own folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from embrepro.errors import KitError
from embrepro.files import replacing_folder

SharedKind = Literal["models", "tasks", "embeddings"]
VARIABLE = "EMBREPRO_SHARED"
"""Environment variable: a folder to share through, in place of DVC's; for any run, queued or not."""


@dataclass(frozen=True)
class ExperimentCache:
    """Entries are folders, `<kind>/<key>`; without a folder nothing is shared."""

    folder: Path | None = None

    def find(self, kind: SharedKind, key: str) -> Path | None:
        """The folder of an entry; None where there is none, or where a link in it could lead elsewhere."""
        if self.folder is None:
            return None
        entry = self.folder / kind / key
        linked = any(path.is_symlink() for path in (entry, *entry.rglob("*")))
        return entry if entry.is_dir() and not linked else None

    def drop(self, kind: SharedKind, key: str) -> None:
        """Remove an entry that was found damaged."""
        if self.folder is not None:
            shutil.rmtree(self.folder / kind / key, ignore_errors=True)

    def add(self, kind: SharedKind, key: str, fill: Callable[[Path], None]) -> None:
        """Have a folder filled that becomes an entry, unless nothing is shared or the entry is there already.

        An entry that cannot be written costs nothing but the sharing.
        """
        if self.folder is None or self.find(kind, key) is not None:
            return
        with suppress(OSError, KitError), replacing_folder(self.folder / kind / key) as unfinished:
            fill(unfinished)


NOTHING_SHARED = ExperimentCache()


def of(root: Path) -> ExperimentCache:
    """The cache of a project's folder: one that `EMBREPRO_SHARED` names, or DVC's where a queued experiment runs in it."""
    if named := os.environ.get(VARIABLE):
        return ExperimentCache(Path(named))
    for folder in (root.resolve(), *root.resolve().parents):
        if folder.parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return ExperimentCache(folder.parent.parent / "embrepro")
    return NOTHING_SHARED


def link(source: Path, target: Path) -> None:
    """Put a file or a folder's files where `target` says, as hard links where the file system has them, else as copies.

    The kit replaces files and never changes them, so that two names of one file do not get into each other's way.
    """
    if source.is_dir():
        for path in source.rglob("*"):
            if path.is_file():
                link(path, target / path.relative_to(source))
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
