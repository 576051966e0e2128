"""The same project under DVC: `dvc repro` is stopped, or meets a lock, parameters or files that are not what was written."""

from __future__ import annotations

import functools
import os
import random
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from faults import injections, project, zygote
from faults.injections import Injection
from faults.project import Good

REPOSITORY = Path(__file__).parents[2]
REPRO = ("dvc", "repro")
STAGES_SECONDS = 600.0
WAYS = {
    "dvc by kill -9": "its stage goes on and is waited for",
    "dvc and its stage by kill -9": "as by a crash of the machine",
    "dvc by Ctrl-C": "the whole group",
}
DAMAGED = {
    "dvc.lock": "dvc.lock",
    "params.yaml": "params.yaml",
    "embeddings": "embeddings/*/*.safetensors",
    "results": "results/**/*Classification.json",
    "metrics": "reports/metrics.json",
    "request lists": "data/tasks/*/*.parquet",
}


@functools.cache
def environment() -> tuple[tuple[str, str], ...]:
    """Variables of a shell in which `dvc` finds the kit's program."""
    import preloaded

    programs = (str(preloaded.programs()), str(Path(sys.executable).parent), os.environ["PATH"])
    return (("PATH", os.pathsep.join(programs)),)


@functools.cache
def build(good_root: Path, good_project: Path, sources: Path) -> tuple[Good, float]:
    """The good project as one of DVC's that has run, and how long a run takes that has all to do."""
    root = good_root / "under dvc"
    made = root / "good"
    shutil.copytree(good_project, made)
    for name in ("dvc.yaml", ".dvcignore", "src/embrepro", "own-data", "requirements"):
        source, target = REPOSITORY / name, made / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copy2(source, target)
    (made / "conf" / "documents").mkdir(exist_ok=True)
    (made / "reports" / "cases").mkdir(exist_ok=True)
    (made / ".dvc").mkdir()
    (made / ".dvc" / "config").write_text(
        "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n    site_cache_dir = site-cache\n"
    )
    _repro(made)
    files = project.content(made)
    _clear(made, random.Random(0), share=1.0)
    started = time.monotonic()
    _repro(made)
    return Good(root, sources, files, project.scores(made)), time.monotonic() - started


def _repro(folder: Path) -> None:
    ended = zygote.run(folder, *REPRO, environment=_variables(folder), seconds=STAGES_SECONDS)
    assert ended.code == 0, ended


def _variables(folder: Path) -> dict[str, str]:
    return {**dict(environment()), "PYTHONPATH": str(folder / "src"), "DVC_NO_ANALYTICS": "1"}


def _clear(folder: Path, draw: random.Random, share: float) -> None:
    """Remove some of what stages made, and what DVC remembers of runs, so that stages have work to do."""
    shutil.rmtree(folder / ".dvc" / "cache" / "runs", ignore_errors=True)
    for pattern in ("data/tasks/*", "embeddings/*/*.safetensors", "results/*/*/*.json", "reports/metrics.json"):
        for path in sorted(folder.glob(pattern)):
            if draw.random() < share:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def fault(good: Good, draw: random.Random, folder: Path) -> Injection | None:
    """`dvc repro` is stopped at a random moment, or a file is damaged before it; then it runs again."""
    made, seconds = build(good.root, good.project, good.sources)
    project.remove(folder)
    shutil.copytree(made.project, folder, symlinks=True)
    return _stopped(made, draw, folder, seconds) if draw.random() < 0.6 else _damaged(made, draw, folder)


def _stopped(made: Good, draw: random.Random, folder: Path, seconds: float) -> Injection:
    way = draw.choice(list(WAYS))
    _clear(folder, draw, share=0.5)
    delay = draw.uniform(0, seconds)
    injection = Injection(f"{way}: {WAYS[way]}", f"after {delay:.2f} s of dvc repro", folder, heal=lambda: None)
    running = zygote.Running(folder, REPRO, environment=_variables(folder))
    until = time.monotonic() + delay
    while time.monotonic() < until and not running.poll():
        time.sleep(0.005)
    if way == "dvc by Ctrl-C":
        running.send(signal.SIGINT, group=True)
    else:
        running.send(signal.SIGKILL)
        _quiet(folder, kill=way != "dvc by kill -9")
    injection.during = [running.finish(STAGES_SECONDS)]
    _again(injection, made)
    return injection


def _damaged(made: Good, draw: random.Random, folder: Path) -> Injection | None:
    kind = draw.choice(list(DAMAGED))
    path = draw.choice(sorted(folder.glob(DAMAGED[kind])))
    before, way = path.read_bytes(), draw.choice(injections.WAYS)
    after = injections.damage(before, way, draw, [before[::-1]])
    if after == before:
        return None
    path.unlink()
    if after is not None:
        path.write_bytes(after)
    name = path.relative_to(folder).as_posix()
    injection = Injection(f"{kind} damaged, then dvc repro", f"{name}: {way}; dvc repro", folder, {name})
    injection.during = [zygote.run(folder, *REPRO, environment=_variables(folder), seconds=STAGES_SECONDS)]

    def heal() -> None:
        if kind in ("dvc.lock", "params.yaml"):
            path.write_bytes(before)

    injection.heal = heal
    _again(injection, made)
    return injection


def _again(injection: Injection, made: Good) -> None:
    injection.good, injection.again = made, (REPRO,)
    injection.environment = _variables(injection.project)


def _quiet(folder: Path, *, kill: bool) -> None:
    """Wait until no process works in a folder any more, or end all that do."""
    until = time.monotonic() + STAGES_SECONDS
    while at_work := _at_work(folder):
        if kill or time.monotonic() > until:
            for process in at_work:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        time.sleep(0.05)


def _at_work(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
