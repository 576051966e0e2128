"""What `embrepro init` wrote, kept in the repository so that an upgrade knows what its user changed; and how it is written."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from embrepro.errors import KitError
from embrepro.files import read_model, write_json, write_text
from embrepro.own_repository.generated import BLOCKS, InitChoices

RECORD = Path(".embrepro-init.json")
BEGIN, END = "# >>> embrepro", "# <<< embrepro"


class InitRecord(BaseModel):
    """What was asked, and the text of every file as the kit wrote it last."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kit: str = Field(default_factory=lambda: version("embrepro"), description="version of the kit that wrote it")
    choices: InitChoices
    files: dict[str, str]


def read_record(root: Path) -> InitRecord:
    """The record of a repository; raises KitError where `embrepro init` did not make it."""
    path = root / RECORD
    if not path.is_file():
        raise KitError(f"There is no {path}: `embrepro init` makes a repository, and leaves it there.")
    return read_model(path, InitRecord)


def write_record(root: Path, record: InitRecord) -> None:
    """Write the record of a repository."""
    write_json(root / RECORD, record.model_dump())


def current(root: Path, name: str) -> str | None:
    """The text of a file, of `BLOCKS` the part between the marks; None where there is none."""
    path = root / name
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    if name not in BLOCKS:
        return text
    _, begin, rest = text.partition(f"{BEGIN}\n")
    inner, end, _ = rest.partition(f"{END}\n")
    return inner if begin and end else None


def put(root: Path, name: str, text: str) -> None:
    """Write a file; of `BLOCKS` the part between the marks, at the end where they are not there yet."""
    path = root / name
    if name in BLOCKS:
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        old, marked = current(root, name), f"{BEGIN}\n{{}}{END}\n".format
        if old is not None:
            text = before.replace(marked(old), marked(text))
        else:
            text = before + ("\n" if before and not before.endswith("\n") else "") + marked(text)
    write_text(path, text)
