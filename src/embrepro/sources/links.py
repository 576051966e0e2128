"""What is read from a folder of somebody else's files must lie in it: no link leads anywhere else."""

from __future__ import annotations

from pathlib import Path

from embrepro.errors import SourceError


def expect_inside(folder: Path, root: Path) -> None:
    """Check that every file of a folder, links followed, is a plain file below `root`.

    Args:
        folder: a model's or a data set's files.
        root: where links may lead: the mirror, the hub's cache, or the folder itself.

    Raises:
        SourceError: names the link that leads out, or leads nowhere, and where to; or what is no file.
    """
    resolved_root = root.resolve()
    checked: set[Path] = set()
    unchecked = [folder]
    while unchecked:
        path = unchecked.pop()
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError):
            raise SourceError(
                f"{path} is a link that leads nowhere ({_target(path)}). Remove it, or copy what it meant."
            ) from None
        if not target.is_relative_to(resolved_root):
            raise SourceError(
                f"{path} is a link, or lies behind one, that leads out of {root}, to {target}. "
                "Nothing outside is read: put the file itself there, or remove the link."
            )
        if target in checked:
            continue
        checked.add(target)
        if target.is_dir():
            unchecked.extend(sorted(path.iterdir()))
        elif not target.is_file():
            raise SourceError(f"{path} is neither a file nor a folder (a pipe, socket or device). Remove it.")


def _target(path: Path) -> str:
    return str(path.readlink()) if path.is_symlink() else "a part of its path is gone"
