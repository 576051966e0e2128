"""Whether a run found the committed numbers again: `metrics.json` and `summary.json` of the working tree against HEAD's.

What entered the two runs is read from `dvc.lock`, so that a number that moved by itself is told from one that had to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import yaml

from embrepro import numerics
from embrepro.layout import Layout
from embrepro.regression import revisions
from embrepro.regression.revisions import RevisionError, related
from embrepro.rendering.formats import DASH
from embrepro.rendering.model import Column, Document, Section, Table, Tone, Value, filled
from embrepro.source_code import FOLDER

COMMITTED = "HEAD"
LOCK = "dvc.lock"
SCORING = ("download", "encode", "evaluate", "aggregate")
"""Stages from which the numbers follow; the others measure time or write pages."""


@dataclass(frozen=True)
class Moved:
    """One value that is another than the committed one; None where it is absent."""

    file: str
    path: str
    committed: Any
    found: Any


@dataclass(frozen=True)
class Confirmation:
    """What became of the committed numbers.

    `entered` names what entered the run and is another than in the committed run's; `made` the first output that is
    another although the same entered; `remarks` what may be the reason.
    """

    commit: str
    equal: bool
    moved: list[Moved] = field(default_factory=list)
    entered: list[str] = field(default_factory=list)
    made: str = ""
    remarks: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> Literal["equal", "another run", "moved"]:
        """Equal to the byte; other, as something else entered; or other for no reason that is recorded."""
        return "equal" if self.equal else "another run" if self.entered else "moved"


def confirm(root: Path) -> Confirmation:
    """Compare the numbers in the working tree with those of the last commit.

    Raises:
        RevisionError: there is no commit, or one of the two holds no numbers.
    """
    head = revisions.resolve(root, COMMITTED)
    here = revisions.resolve(root, revisions.WORKSPACE)
    equal, moved = True, []
    for name in ("metrics.json", "summary.json"):
        path = (Layout().reports / name).as_posix()
        committed, found = revisions.read_text(root, head, path), revisions.read_text(root, here, path)
        if committed is None:
            raise RevisionError(f"The last commit holds no {path}; commit reports/ together with {LOCK} after a run.")
        if found is None:
            raise RevisionError(f"There is no {path} to compare; `dvc repro` makes it.")
        equal &= committed == found
        moved += _moved(path, _values(committed, path), _values(found, path))
    before, now = (_lock(revisions.read_text(root, side, LOCK)) for side in (head, here))
    entered = sorted(_differing(_entered(before), _entered(now))) if before and now else []
    made = "" if equal or entered else next(iter(_differing(_made(before), _made(now))), "")
    return Confirmation(str(head.commit), equal, moved, entered, made, [] if equal else list(_remarks(before, now)))


def _values(text: str, path: str) -> dict[str, Any]:
    try:
        return dict(_leaves(json.loads(text)))
    except json.JSONDecodeError as error:
        raise RevisionError(f"{path} is damaged ({error}). Restore it, or run `dvc repro` again.") from None


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - whatever JSON holds
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield from _leaves(each, f"{path}.{name}" if path else str(name))
    if not inner:
        yield path, value


def _moved(file: str, committed: Mapping[str, Any], found: Mapping[str, Any]) -> list[Moved]:
    names = _differing(committed, found)
    return [Moved(file, name, committed.get(name), found.get(name)) for name in names]


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Names whose values differ, in the order of `before`."""
    for name in dict.fromkeys([*before, *now]):
        if name not in before or name not in now or before[name] != now[name]:
            yield name


def _lock(text: str | None) -> dict[str, Any]:
    """The stages of a dvc.lock."""
    return (yaml.safe_load(text or "") or {}).get("stages") or {}


def _scoring(stages: Mapping[str, Any]) -> dict[str, Any]:
    """The stages that give the numbers, in the order in which they run."""
    return {
        name: stages[name] for kind in SCORING for name in sorted(stages) if name == kind or name.startswith(f"{kind}@")
    }


def _entered(stages: Mapping[str, Any]) -> dict[str, Any]:
    """What no stage makes of others: settings, locked or installed packages, pins, and the code that each stage runs."""
    made = [str(out["path"]) for stage in stages.values() if stage.get("deps") for out in stage.get("outs", [])]
    found: dict[str, Any] = {}
    for name, stage in _scoring(stages).items():
        for dep in stage.get("deps", []):
            path = str(dep["path"])
            if path.startswith(FOLDER.as_posix()):
                found[f"code of {name.partition('@')[0]}"] = dep.get("md5")
            elif not any(related(path, out) for out in made):
                found[path] = dep.get("md5")
        for file, values in (stage.get("params") or {}).items():
            found |= {f"{path} in {file}": value for path, value in _leaves(values)}
    return found


def _made(stages: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{out['path']} (stage {name})": out.get("md5")
        for name, stage in _scoring(stages).items()
        for out in stage.get("outs", [])
        if name != "aggregate"
    }


def _remarks(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if not before or not now:
        yield f"One of the two runs has no {LOCK}, so what entered it is not known."
    settings = {path: value for stage in now.values() for path, value in _leaves(stage.get("params") or {})}
    if "native" in [value for path, value in settings.items() if path.endswith("device.numerics")]:
        yield "Numerics are native: they move with the processor and the number of threads."
    elif why := numerics.why_not_portable():
        yield f"Numerics are not portable on this machine: {why}."


def confirmation_page(found: Confirmation, named: int = 8) -> Document:
    """Whether the committed numbers were found again, and if not, which moved and what else is different.

    Args:
        found: the comparison.
        named: how many of the things that entered the run are named.
    """
    count = f"{len(found.moved)} {'value' if len(found.moved) == 1 else 'values'}"
    verdict, tone = {
        "equal": (f"The numbers equal those of commit {found.commit[:8]} to the byte.", "good"),
        "another run": (
            f"{count} of another run: other than in commit {found.commit[:8]}, as something else entered.",
            "even",
        ),
        "moved": (f"{count} moved from those of commit {found.commit[:8]}, though the same entered.", "bad"),
    }[found.verdict]
    notes = list(found.remarks)
    if found.entered:
        more = len(found.entered) - named
        notes.append(f"Entered otherwise: {', '.join(found.entered[:named])}{f' and {more} more' if more > 0 else ''}.")
    if found.made:
        notes.append(f"The first thing that was made otherwise: {found.made}.")
    columns = [Column("file"), Column("value"), Column("committed", numeric=True), Column("now", numeric=True)]
    rows = [
        [
            Value(each.file),
            Value(each.path, code=True),
            Value(DASH if each.committed is None else str(each.committed)),
            Value(DASH if each.found is None else str(each.found)),
            Value(DASH if (by := _by(each)) is None else f"{by:+.3g}", sort=by),
        ]
        for each in found.moved
    ]
    table = Table(
        "moved", "Values that differ", [*columns, Column("difference", numeric=True)], rows, folded=bool(found.entered)
    )
    section = Section("committed", tables=filled([table]), notes=notes)
    return Document(title="Committed numbers", verdict=verdict, tone=cast(Tone, tone), sections=[section])


def _by(each: Moved) -> float | None:
    numbers = [value for value in (each.committed, each.found) if isinstance(value, int | float)]
    return float(numbers[1] - numbers[0]) if len(numbers) == 2 else None
