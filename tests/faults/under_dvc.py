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
import yaml

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
def programs(root: Path) -> Path:
    """A folder with a program `embrepro` that runs the kit in forks of a process that has imported everything."""
    import preloaded

    folder, served = root / "programs", os.getpid()
    preloaded.write_programs(folder)
    if os.fork() == 0:
        try:
            zygote.use_forks()
            preloaded.serve(str(folder / "socket"), served)
        finally:
            os._exit(0)
    return folder


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
    _dvc(made, good_root, "repro", "code")
    # All that stages make is there already: it needs no run to be recorded.
    _dvc(made, good_root, "commit", "--force")
    files = project.content(made)
    _clear(made, random.Random(0), share=1.0)
    started = time.monotonic()
    _dvc(made, good_root, "repro")
    return Good(root, sources, files, project.scores(made)), time.monotonic() - started


def _dvc(folder: Path, good_root: Path, *command: str) -> None:
    ended = zygote.run(folder, "dvc", *command, environment=_variables(folder, good_root), seconds=STAGES_SECONDS)
    assert ended.code == 0, ended


def _variables(folder: Path, good_root: Path) -> dict[str, str]:
    """Variables of a shell in a project of this campaign."""
    path = [str(programs(good_root)), str(Path(sys.executable).parent), os.environ["PATH"]]
    return {"PATH": os.pathsep.join(path), "PYTHONPATH": str(folder / "src")}


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
    variables = _variables(folder, good.root)
    injection = (
        _stopped(draw, folder, variables, made.project, seconds)
        if draw.random() < 0.6
        else _damaged(draw, folder, variables)
    )
    if injection is not None:
        injection.good, injection.again, injection.environment = made, (REPRO,), variables
    return injection


def _stopped(draw: random.Random, folder: Path, variables: dict[str, str], made: Path, seconds: float) -> Injection:
    way = draw.choice(list(WAYS))
    _clear(folder, draw, share=0.5)
    delay = draw.uniform(0, seconds)
    injection = Injection(f"{way}: {WAYS[way]}", f"after {delay:.2f} s of dvc repro", folder)
    running = zygote.Running(folder, REPRO, environment=variables)
    until = time.monotonic() + delay
    while time.monotonic() < until and not running.poll():
        time.sleep(0.005)
    if way == "dvc by Ctrl-C":
        running.send(signal.SIGINT, group=True)
    else:
        running.send(signal.SIGKILL)
        _quiet(folder, kill=way != "dvc by kill -9")
    injection.during = [running.finish(STAGES_SECONDS)]
    injection.heal = lambda: _restore_lock(folder, made)
    return injection


def _restore_lock(folder: Path, made: Path) -> None:
    """What `git checkout dvc.lock` does, where DVC was killed while it wrote that file, which it does in place."""
    try:
        whole = "stages" in yaml.safe_load((folder / "dvc.lock").read_bytes())
    except (OSError, TypeError, yaml.YAMLError):
        whole = False
    if not whole:
        shutil.copy2(made / "dvc.lock", folder / "dvc.lock")


def _damaged(draw: random.Random, folder: Path, variables: dict[str, str]) -> Injection | None:
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
    injection.during = [zygote.run(folder, *REPRO, environment=variables, seconds=STAGES_SECONDS)]
    # What people write is theirs to put right; what stages made, a run makes again.
    injection.heal = (
        (lambda: path.write_bytes(before) and None) if kind in ("dvc.lock", "params.yaml") else lambda: None
    )
    return injection


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
