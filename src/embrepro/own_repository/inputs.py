"""What the stages of one's own repository depend on beside its own files: the installed kit's code, files and packages.

Run as a program, `python -m embrepro.own_repository.inputs NAME...` (the first stage of such a repository's `dvc.yaml`),
it writes what `embrepro.source_code` writes in the kit's own, one file for each name of the kit's (such as `conf/pins`)
and one for the packages that the kit needs. The stage runs each time, as DVC does not look outside a repository; a file whose
content stands is left alone, so an upgraded kit makes exactly those stages stale whose code, files or packages changed.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from embrepro import kit, source_code

FOLDER = Path(".embrepro") / "kit"
PACKAGES = FOLDER / "packages.json"


def files_in_force(name: str, root: Path = Path()) -> dict[str, str]:
    """SHA-256 of a file, or of each file of a folder: the repository's, and the kit's where the repository has none."""
    found = {}
    for place in (kit.ROOT, root):
        path = place / name
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file():
                found[file.relative_to(place).as_posix()] = hashlib.sha256(file.read_bytes()).hexdigest()
    return dict(sorted(found.items()))


def packages(of: str = "embrepro") -> dict[str, str]:
    """The version of every package that a package needs, directly or not, without the local part of a build (`+cpu`)."""
    found: dict[str, str] = {}
    done: set[str] = set()
    waiting = [Requirement(of)]
    while waiting:
        asked = waiting.pop()
        if str(asked) in done:
            continue
        done.add(str(asked))
        try:
            distribution = metadata.distribution(asked.name)
        except metadata.PackageNotFoundError:
            # Optional in the end: pip would have installed it otherwise
            continue
        if asked.name != of:
            found[canonicalize_name(asked.name)] = distribution.version.partition("+")[0]
        for line in distribution.requires or []:
            needed = Requirement(line)
            extras = asked.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    return dict(sorted(found.items()))


def write(names: Sequence[str], root: Path = Path()) -> None:
    """Write all of it under a repository's `.embrepro`."""
    source_code.write(root / source_code.FOLDER)
    source_code.write_if_changed(root / PACKAGES, packages())
    for name in names:
        source_code.write_if_changed(root / FOLDER / f"{name}.json", files_in_force(name, root))


if __name__ == "__main__":
    write(sys.argv[1:])
