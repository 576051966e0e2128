"""What is done to a copy of a good project: each kind of fault draws its place and its moment from a generator."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from faults import hub, project, zygote
from faults.project import MODELS, PINNED, QUICK, Good
from faults.zygote import Ended

Command = tuple[str, ...]


@dataclass
class Injection:
    """One fault on its way through a project.

    Attributes:
        group: row of the table.
        what: the fault in words, with its place.
        project: the copy that it happens to.
        spoilt: names of the files that the fault itself changed or removed.
        during: how the commands ended that ran under the fault.
        heal: takes the fault away, where it is one that passes; after it a whole run must give the good bytes.
        complaints: what the injection itself saw that must not be.
        good: the project that it is a copy of, where not the campaign's own.
        again: the whole run after it.
        environment: variables of that run.
    """

    group: str
    what: str
    project: Path
    spoilt: set[str] = field(default_factory=set)
    during: list[Ended] = field(default_factory=list)
    heal: Callable[[], None] | None = None
    complaints: list[str] = field(default_factory=list)
    good: Good | None = None
    again: tuple[Command, ...] = QUICK
    environment: dict[str, str] = field(default_factory=dict)


# --- One file is not what was written

KINDS: dict[str, tuple[str, tuple[Command, ...]]] = {
    "frozen rows": ("data/tasks/*/data/**/*.parquet", (("download",), ("evaluate", "big"))),
    "request lists": ("data/tasks/*/*.parquet", (("download",), ("encode", "big"), ("evaluate", "small"))),
    "manifests of tasks": (
        "data/tasks/*/manifest.json",
        (("download",), ("encode", "big"), ("evaluate", "big"), ("aggregate",)),
    ),
    "keys of tasks": ("data/tasks/*/key.json", (("download",),)),
    "the download's record": ("data/download.json", (("encode", "big"), ("evaluate", "big"), ("download",))),
    "files of models": ("data/models/*/snapshot/*", (("download",), ("encode", "big"), ("benchmark", "small"))),
    "availability of models": (
        "data/models/*/availability.json",
        (("download",), ("encode", "small"), ("benchmark", "small"), ("aggregate",)),
    ),
    "manifests of models": ("data/models/*/manifest.json", (("download",), ("encode", "small"), ("aggregate",))),
    "embeddings": ("embeddings/*/*.safetensors", (("encode", "big"), ("evaluate", "big"))),
    "records of encode": ("embeddings/*/record.json", (("encode", "big"), ("evaluate", "big"))),
    "results": (
        "results/**/*Classification.json,results/**/HUME*.json,results/**/AILA*.json",
        (("evaluate", "big"), ("aggregate",), ("check",)),
    ),
    "per-sample scores": ("results/**/*.samples.parquet", (("evaluate", "big"), ("aggregate",), ("check",))),
    "records of evaluate": ("reports/status/*.json", (("evaluate", "big"), ("aggregate",), ("check",))),
    "metrics": ("reports/metrics.json", (("aggregate",), ("report",), ("check",))),
    "the summary": ("reports/summary.json", (("aggregate",), ("report",))),
    "speeds": ("reports/speed/*.json,reports/speed.json", (("aggregate",), ("report",))),
    "params.yaml": ("params.yaml", (("check",), ("aggregate",), ("download",))),
    "pins": (f"conf/pins/{PINNED}.yaml", (("download",), ("evaluate", "big"), ("aggregate",))),
}
WAYS = ("a byte flipped", "cut", "another of its kind in its place", "emptied", "removed", "a number changed")


def damaged(good: Good, draw: random.Random, folder: Path, whole: bool) -> Injection | None:
    """A file of some kind is damaged, and the stages that read it run, one of them or all."""
    kind = draw.choice(list(KINDS))
    patterns, consumers = KINDS[kind]
    files = sorted(path for pattern in patterns.split(",") for path in folder.glob(pattern) if path.is_file())
    path, way = draw.choice(files), draw.choice(WAYS)
    before = path.read_bytes()
    after = damage(before, way, draw, [other.read_bytes() for other in files if other.suffix == path.suffix])
    if after == before:
        return None
    path.unlink()
    if after is not None:
        path.write_bytes(after)
    name = path.relative_to(folder).as_posix()
    commands = QUICK if whole else (draw.choice(consumers),)
    ran = "all stages" if whole else " ".join(commands[0])
    injection = Injection(
        f"{kind} damaged, then {'all stages' if whole else 'one stage'}", f"{name}: {way}; {ran}", folder
    )
    injection.spoilt.add(name)
    injection.during = _sequence(folder, commands)
    return injection


def damage(content: bytes, way: str, draw: random.Random, others: list[bytes]) -> bytes | None:
    """A file's content after one of `WAYS`; None where it is removed."""
    if way == "a byte flipped" and content:
        spoilt = bytearray(content)
        spoilt[draw.randrange(len(spoilt))] ^= 1 << draw.randrange(8)
        return bytes(spoilt)
    if way == "cut":
        return content[: draw.randrange(max(1, len(content)))]
    if way == "another of its kind in its place":
        return draw.choice(others)
    if way == "emptied":
        return b""
    if way == "removed":
        return None
    digits = [place for place, byte in enumerate(content) if 48 <= byte <= 57]
    if not digits:
        return content
    spoilt = bytearray(content)
    place = draw.choice(digits)
    spoilt[place] = 48 + (spoilt[place] - 48 + draw.randrange(1, 10)) % 10
    return bytes(spoilt)


def _sequence(folder: Path, commands: tuple[Command, ...]) -> list[Ended]:
    """Commands one after the other, up to the first that fails, as DVC runs them."""
    ended: list[Ended] = []
    for command in commands:
        ended.append(zygote.run(folder, *command))
        if ended[-1].code != 0:
            break
    return ended


# --- A stage is stopped

ALL: tuple[Command, ...] = (*QUICK, *QUICK, ("report",), ("benchmark", "small"))
"""What is drawn from; the two stages that take seconds come half as often."""


def stopped(good: Good, draw: random.Random, folder: Path) -> Injection:
    """A stage with its work before it is ended by a signal at a random moment; then another goes on from there."""
    command = draw.choice(ALL)
    number = draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    injection = Injection(
        f"{command[0]} stopped by {'kill -9' if number == signal.SIGKILL else 'a signal'}",
        "",
        folder,
        heal=lambda: None,
    )
    _clear_way(folder, command, draw)
    running = zygote.Running(folder, command)
    delay = draw.uniform(0, 1.2) * DURATIONS.get(command[0], 0.3)
    until = time.monotonic() + delay
    while time.monotonic() < until and not running.poll():
        time.sleep(0.001)
    running.send(number, group=number != signal.SIGTERM and number != signal.SIGKILL)
    ended = running.finish(60)
    if ended.code == zygote.NO_END:
        # The program had ended, and the signal met the campaign's own last lines.
        ended.code = 128 + number
    injection.what = f"{' '.join(command)}: {number.name} after {delay:.3f} s"
    injection.during = [ended]
    # 130 for any of them while the command line is still read: typer takes each for Ctrl-C.
    if number != signal.SIGKILL and ended.code not in (0, 130, 128 + number, -number):
        injection.complaints.append(f"it ended with {ended.code}")
    return injection


DURATIONS: dict[str, float] = {}
"""Seconds that each stage takes with its work before it, measured at the start of a campaign."""


def _clear_way(folder: Path, command: Command, draw: random.Random) -> None:
    """Remove some of what a stage made, so that it has work to do."""
    made = {
        "download": [*folder.glob("data/tasks/*"), *folder.glob("data/models/*")],
        "encode": [*folder.glob(f"embeddings/{command[-1]}/*")],
        "evaluate": [*folder.glob(f"results/test__{command[-1]}/*/*")],
        "aggregate": [folder / "reports" / "metrics.json"],
        "report": [*folder.glob("reports/report.*")],
    }.get(command[0], [])
    for path in made:
        if draw.random() < 0.6:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def damaged_shards(good: Good, draw: random.Random, folder: Path) -> Injection | None:
    """An unfinished encode: a file of those it left is damaged, then it goes on."""
    key = draw.choice(MODELS)
    for path in folder.glob(f"embeddings/{key}/*.safetensors"):
        path.unlink()
    zygote.run(folder, "encode", key, "--shard", "1/2")
    files = sorted(folder.glob(f"embeddings/{key}/.shards/*"))
    path, way = draw.choice(files), draw.choice(WAYS)
    before = path.read_bytes()
    after = damage(before, way, draw, [other.read_bytes() for other in files])
    if after == before:
        return None
    path.unlink()
    if after is not None:
        path.write_bytes(after)
    injection = Injection("shards of an unfinished encode damaged", f"{key}: {path.name}: {way}", folder)
    injection.during = [zygote.run(folder, "encode", key)]
    injection.heal = lambda: None
    return injection


# --- There is no room


def no_room(good: Good, draw: random.Random, folder: Path) -> Injection:
    """No file may grow beyond a size: what a full disk does to each write."""
    command = draw.choice([stage for stage in ALL if stage != ("check",)])
    size = int(2 ** draw.uniform(0, 16))
    _clear_way(folder, command, draw)
    injection = Injection(f"no room while {command[0]} writes", f"{' '.join(command)}: at {size} bytes", folder)
    injection.during = [zygote.run(folder, *command, prepare=zygote.limit_files(size))]
    injection.heal = lambda: None
    return injection


FULL = ("data/models", "data/tasks", "embeddings", "results", "reports", ".embrepro", "TMPDIR")


def full_disk(good: Good, draw: random.Random, folder: Path) -> Injection | None:
    """A folder lies on a small file system with little room left; only root can mount one."""
    place = draw.choice(FULL)
    by_place: dict[str, list[Command]] = {
        "data/models": [("download",)],
        "data/tasks": [("download",)],
        "embeddings": [("encode", "big"), ("encode", "small")],
        "results": [("evaluate", "big"), ("evaluate", "small")],
        "reports": [("evaluate", "small"), ("aggregate",), ("report",), ("benchmark", "small")],
        ".embrepro": [("encode", "big"), ("download",)],
        "TMPDIR": [("download",)],
    }
    command = draw.choice(by_place[place])
    target = folder.with_name(folder.name + ".tmp") if place == "TMPDIR" else folder / place
    target.mkdir(exist_ok=True)
    held = folder.with_name(folder.name + ".held")
    shutil.copytree(target, held)
    if not mount(target):
        return None
    shutil.copytree(held, target, dirs_exist_ok=True)
    shutil.rmtree(held)
    _clear_way(folder, command, draw)
    room = int(2 ** draw.uniform(8, 17))
    with suppress(OSError):
        free = os.statvfs(target).f_bavail * os.statvfs(target).f_frsize
        (target / "filler").write_bytes(b"\0" * max(0, free - room))
    injection = Injection(f"{place} on a full disk", f"{' '.join(command)}: {room} bytes left in {place}", folder)
    environment = {"TMPDIR": str(target)} if place == "TMPDIR" else {}
    injection.during = [zygote.run(folder, *command, environment=environment)]

    def heal() -> None:
        (target / "filler").unlink(missing_ok=True)
        if place == "TMPDIR":
            unmount(target)
            shutil.rmtree(target)

    injection.heal = heal
    return injection


def mount(target: Path) -> bool:
    """Mount an empty file system of 4 MiB."""
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(target)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def unmount(target: Path) -> None:
    """Unmount it."""
    subprocess.run(["umount", "--lazy", str(target)], capture_output=True, check=False)


# --- Two at once


def two_at_once(good: Good, draw: random.Random, folder: Path) -> Injection:
    """Two commands start at nearly the same time; each ends well or says who is at work."""
    commands = [draw.choice(ALL) for _ in range(2)]
    for command in commands:
        _clear_way(folder, command, draw)
    first = zygote.Running(folder, commands[0])
    time.sleep(draw.uniform(0, 0.2))
    second = zygote.Running(folder, commands[1])
    what = " beside ".join(" ".join(command) for command in commands)
    injection = Injection("two runs at once", what, folder, heal=lambda: None)
    injection.during = [first.finish(), second.finish()]
    return injection


# --- The hub


def bad_hub(good: Good, draw: random.Random, folder: Path) -> Injection:
    """What is to be fetched again comes from a hub that has a fault."""
    part, fault = draw.choice(hub.PARTS), draw.choice(list(hub.FAULTS))
    times = draw.choice((1, 2, 1000))
    lost = [path for path in (*folder.glob("data/tasks/*"), *folder.glob("data/models/*")) if draw.random() < 0.5]
    for path in lost:
        _outdate(path)
    injection = Injection(f"a hub: {fault}", f"{fault}, {times} times, at {part}", folder)
    injection.during = [hub.download(good, folder, part, fault, times)]

    injection.heal = lambda: None
    return injection


def _outdate(path: Path) -> None:
    """Leave data or a model as after a change of the code that fetched it."""
    for name, key in (("key.json", "key"), ("manifest.json", "spec_hash")):
        if (path / name).is_file():
            content = json.loads((path / name).read_bytes())
            if key in content:
                (path / name).write_text(json.dumps(content | {key: "outdated"}))
                return


@contextmanager
def clean(folder: Path) -> Iterator[None]:
    """Take a copy away once its block ends, with all that was mounted in it."""
    try:
        yield
    finally:
        for place in (*(folder / name for name in FULL), folder.with_name(folder.name + ".tmp")):
            if os.path.ismount(place):
                unmount(place)
        for path in folder.parent.glob(f"{folder.name}.*"):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
        project.remove(folder)
