"""Files on disk: content hashes, whole-or-nothing writes, JSON the way the kit writes it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from embrepro.errors import KitError

Content = TypeVar("Content", bound=BaseModel)
UNFINISHED, REPLACED = ".unfinished", ".replaced"
SCRATCH = "embrepro-scratch-"
LONGEST_QUOTE = 300
LEAST_ROOM = 2**20
"""Bytes; a file system with less is taken for full."""
SEAL = "seal"
"""Key of a sealed file that holds the SHA-256 of all other keys."""


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def fingerprint(value: object) -> str:
    """SHA-256 of a value's canonical JSON; mappings are compared by key, not by order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    # A lone surrogate, which JSON may hold, has no place in UTF-8 proper.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


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
    except (ValueError, RecursionError) as error:
        raise KitError(f"{path} is damaged ({error}). Delete it and run `dvc repro` again.") from None


def read_model(path: Path, kind: type[Content]) -> Content:
    """Read JSON as a pydantic model; raises KitError naming a file that is absent, damaged or of another version."""
    return _validated(path, read_json(path), kind)


def _validated(path: Path, values: object, kind: type[Content]) -> Content:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        missing = ", ".join(".".join(map(str, problem["loc"])) or problem["msg"] for problem in error.errors()[:3])
        raise KitError(
            f"{path} does not hold what this version writes ({missing[:LONGEST_QUOTE]}). Delete it and run `dvc repro` again."
        ) from None


def write_sealed(path: Path, content: BaseModel) -> None:
    """Write a pydantic model as JSON with the hash of its content, whole or not at all; `read_sealed` reads it."""
    values = json.loads(dump_json(content.model_dump()))
    write_json(path, {**values, SEAL: fingerprint(values)})


def read_sealed(path: Path, kind: type[Content]) -> Content:
    """Read what `write_sealed` wrote; raises KitError as `read_model` does, and where anything in it was changed since."""
    values = read_json(path)
    seal = values.pop(SEAL, None) if isinstance(values, dict) else None
    content = _validated(path, values, kind)
    if seal != fingerprint(values):
        raise KitError(
            f"{path} was changed after it was written: its content does not have the SHA-256 of its seal. "
            "Delete it and run `dvc repro` again."
        )
    return content


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
    unfinished = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        yield unfinished
        # Some writers leave their files to their owner alone
        unfinished.chmod(0o666 & ~_umask())
        unfinished.replace(path)
    except Exception as error:
        if full := _no_room(error, path):
            raise full from None
        raise
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill that takes the place of `path` once the block ends well.

    What was there is moved aside first and removed last, so that at every moment one of the two is whole on disk;
    `clear_leftovers` puts it back where a run was killed in between.
    """
    make_folder(path.parent)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=UNFINISHED, dir=path.parent))
    unfinished.chmod(0o777 & ~_umask())
    aside = unfinished.with_name(f"{unfinished.name.removesuffix(UNFINISHED)}{REPLACED}")
    try:
        yield unfinished
        if path.exists():
            path.rename(aside)
        unfinished.rename(path)
    except Exception as error:
        if full := _no_room(error, path):
            raise full from None
        raise
    finally:
        _put_back(aside, path)
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder in the system's temporary folder for as long as the block lasts.

    Whoever uses one holds a lock on it, so that those of killed runs are known, and are removed first.

    Raises:
        KitError: there is no room in the temporary folder.
    """
    base = Path(tempfile.gettempdir())
    for leftover in base.glob(f"{SCRATCH}*"):
        if (held := _locked_folder(leftover)) is not None:
            shutil.rmtree(leftover, ignore_errors=True)
            os.close(held)
    folder, held = Path(), None
    # Another run may have taken the new folder for a leftover
    while held is None:
        folder = Path(tempfile.mkdtemp(prefix=SCRATCH))
        held = _locked_folder(folder)
    try:
        yield folder
    except Exception as error:
        if full := _no_room(error, base, only_if_full=True):
            raise full from None
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def clear_leftovers(folder: Path) -> None:
    """Put back the folders that a killed run had moved aside, and remove what it left unfinished.

    For a time when nothing else writes below `folder`.
    """
    for aside in sorted(folder.rglob(f".*{REPLACED}")):
        _put_back(aside, aside.with_name(aside.name.removesuffix(REPLACED).rpartition(".")[0][1:]))
    for unfinished in sorted(folder.rglob(f".*{UNFINISHED}")):
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            unfinished.unlink(missing_ok=True)


def _put_back(aside: Path, path: Path) -> None:
    """Remove a folder that was moved aside, or move it back where nothing has taken its place."""
    if not aside.is_dir():
        return
    if path.exists():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.rename(path)


def _locked_folder(folder: Path) -> int | None:
    """A descriptor that holds the lock on a folder until it is closed; None where another process holds it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    if os.fstat(descriptor).st_uid == os.getuid():
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder.is_dir():
                return descriptor
    os.close(descriptor)
    return None


def _umask() -> int:
    """What this process takes away from the modes of the files it makes."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def keep_only(folder: Path, names: set[str]) -> None:
    """Remove what is in `folder` under another name, leftovers of killed runs included."""
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.name not in names:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _no_room(error: Exception, path: Path, *, only_if_full: bool = False) -> KitError | None:
    """The error as the kit's own where a write found no room: such errors name no file.

    Args:
        error: what was raised.
        path: where it was to be written.
        only_if_full: leave alone what happened although there is room beside `path`: it was written elsewhere.
    """
    if isinstance(error, KitError) and not only_if_full:
        return None
    cause: BaseException | None = error
    while cause is not None and not _says_full(cause):
        cause = cause.__cause__ or cause.__context__
    if cause is None or (only_if_full and shutil.disk_usage(path).free >= LEAST_ROOM):
        return None
    reason = getattr(cause, "strerror", None) or "no space left on device"
    if only_if_full:
        return KitError(
            f"No room in the temporary folder {path}: {reason}. Free some, or set TMPDIR to a folder with more room."
        )
    return KitError(f"No room to write {path}: {reason}. Free some, and run again; what was finished is kept.")


def _says_full(error: BaseException) -> bool:
    """Whether an error means a full disk; libraries not written in Python say it in words."""
    known = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return known or any(said in str(error) for said in ("No space left on device", "os error 28)", "os error 27)"))


def size(count: float) -> str:
    """Bytes as a person reads them, 1 MB = 10^6 bytes."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def expect_room(folder: Path, needed: int, what: str) -> None:
    """Raise KitError, before any work, where the disk that a folder is on has less room than is needed.

    Args:
        folder: an existing one.
        needed: bytes.
        what: what needs the room, such as "The embeddings need".
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise KitError(
            f"{what} {size(needed)} in {folder}, and {size(free)} are free. Free {size(needed - free)}, ask for fewer tasks, or"
            " run on a larger disk; what is finished is kept."
        )
