"""Files on disk: content hashes, whole-or-nothing writes, JSON the way the kit writes it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from embrepro.errors import KitError

Content = TypeVar("Content", bound=BaseModel)


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def fingerprint(value: object) -> str:
    """SHA-256 of a value's canonical JSON; mappings are compared by key, not by order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def dump_json(value: object) -> str:
    """JSON with sorted keys, two spaces and a final newline."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write JSON whole or not at all."""
    write_text(path, dump_json(value))


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Read JSON; raises KitError naming a file that is absent or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KitError(f"{path} is missing; `dvc repro` makes it.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise KitError(f"{path} is damaged ({error}). Delete it and run `dvc repro` again.") from None


def read_model(path: Path, kind: type[Content]) -> Content:
    """Read JSON as a pydantic model; raises KitError naming a file that is absent, damaged or of another version."""
    try:
        return kind.model_validate(read_json(path))
    except ValidationError as error:
        missing = ", ".join(".".join(map(str, problem["loc"])) or problem["msg"] for problem in error.errors()[:3])
        raise KitError(
            f"{path} does not hold what this version writes ({missing}). Delete it and run `dvc repro` again."
        ) from None


def make_folder(folder: Path) -> None:
    """Make a folder, parents included; raises KitError where it cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise KitError(
            f"Cannot write to {folder}: {error.strerror or error}. Make it writable, or run elsewhere."
        ) from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to that takes the place of `path` once the block ends well."""
    make_folder(path.parent)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        yield unfinished
        unfinished.chmod(0o644)  # some writers leave their files to their owner alone
        unfinished.replace(path)
    except OSError as error:
        if full := _no_room(path, error):
            raise full from None
        raise
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill that takes the place of `path` once the block ends well."""
    make_folder(path.parent)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".unfinished", dir=path.parent))
    unfinished.chmod(0o755)
    try:
        yield unfinished
        if path.exists():
            shutil.rmtree(path)
        unfinished.rename(path)
    except OSError as error:
        if full := _no_room(path, error):
            raise full from None
        raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def keep_only(folder: Path, names: set[str]) -> None:
    """Remove what is in `folder` under another name, leftovers of killed runs included."""
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.name not in names:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _no_room(path: Path, error: OSError) -> KitError | None:
    """The error as the kit's own where a write found no room: such errors name no file."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return None
    return KitError(f"No room to write {path}: {error.strerror}. Free some, and run again; what was finished is kept.")
