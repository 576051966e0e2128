"""Work on files, on Ray: they travel there, and what was written comes back."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GIVEN, WRITTEN = "given", "written"


@dataclass(frozen=True)
class FilesOrder:
    """What to do, and the files that it needs by their path below the folder it is given."""

    what: Any
    files: dict[str, bytes]


class FileWorker:
    """Calls `do(what, given, written)` with a folder that holds the order's files and an empty one to write to."""

    def __init__(self, do: Callable[[Any, Path, Path], Any]) -> None:
        self._do = do

    def start(self) -> None:
        """Nothing is to be got ready."""

    def work(self, order: FilesOrder) -> tuple[Any, dict[str, bytes]]:
        """What `do` returned, and the files it wrote by name."""
        with tempfile.TemporaryDirectory(prefix="embrepro-work-") as folder:
            given, written = Path(folder) / GIVEN, Path(folder) / WRITTEN
            written.mkdir()
            for name, content in order.files.items():
                (given / name).parent.mkdir(parents=True, exist_ok=True)
                (given / name).write_bytes(content)
            result = self._do(order.what, given, written)
            return result, {path.name: path.read_bytes() for path in sorted(written.iterdir())}


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder by their path in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
