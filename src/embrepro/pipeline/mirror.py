"""Fill a mirror folder with what a configuration needs, laid out as `sources.snapshots` reads it."""

from __future__ import annotations

import shutil
from pathlib import Path

from embrepro.config.schema import Config, Weights
from embrepro.errors import KitError, SourceError
from embrepro.files import replacing, replacing_folder
from embrepro.progress import console
from embrepro.sources import git_files, snapshots
from embrepro.sources.git_files import GitFile
from embrepro.sources.snapshots import Snapshot
from embrepro.suite import origin
from embrepro.tasks import registry


def fill(config: Config, folder: Path) -> None:
    """Copy every model and data set of a configuration into a mirror; what it holds already stays.

    Raises:
        KitError: something could not be obtained; it is named, and everything else is in the mirror.
    """
    lost: list[str] = []
    for weights in _weights(config):
        _copy(
            folder,
            "models",
            weights.repository,
            str(weights.revision),
            lost,
            lambda w=weights: snapshots.model(w, config.mirror),
        )
    for repository, revision in _datasets(config):
        _copy(
            folder,
            "datasets",
            repository,
            revision,
            lost,
            lambda name=repository, at=revision: snapshots.dataset(name, at, config.mirror),
        )
    for file in _git_files(config):
        _copy_file(folder, file, lost, config.mirror)
    if lost:
        raise KitError(
            f"the mirror {folder} lacks {len(lost)} of what was asked for:\n" + "\n".join(f"  {line}" for line in lost)
        )
    console.say(f"the mirror {folder} is complete; use it with EMBREPRO_MIRROR={folder}")


def _weights(config: Config) -> list[Weights]:
    found = [model.published_weights for model in config.models.values()]
    # One without a revision comes with a package alone, and needs no mirror.
    return [weights for weights in found if weights and weights.revision]


def _datasets(config: Config) -> list[tuple[str, str]]:
    pairs: dict[tuple[str, str], None] = {}
    for request in registry.resolve(config.tasks):
        for leaf in request.leaves():
            task = registry.create(leaf)
            if not registry.is_own(task):
                pairs[(task.metadata.dataset["path"], task.metadata.dataset["revision"])] = None
    return list(pairs)


def _git_files(config: Config) -> list[GitFile]:
    return [origin.FILES[origin.TASKS[name]] for name in config.tasks.names if name in origin.TASKS]


def _copy_file(folder: Path, file: GitFile, lost: list[str], mirror: Path | None) -> None:
    target = folder / git_files.KIND / file.place
    if target.is_file():
        console.say(f"git {file.place}: there already")
        return
    try:
        content, source = git_files.fetch(file, mirror)
    except SourceError as error:
        lost.append(str(error))
        console.say_error(f"git {file.place}: {error}")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as unfinished:
        unfinished.write_bytes(content)
    console.say(f"git {file.place}: from {source}")


def _copy(folder: Path, kind: str, repository: str, revision: str, lost: list[str], resolve: object) -> None:
    target = folder / kind / repository / revision
    if target.is_dir():
        console.say(f"{kind} {repository}: there already")
        return
    try:
        snapshot: Snapshot = resolve()  # type: ignore[operator]
    except SourceError as error:
        lost.append(str(error))
        console.say_error(f"{kind} {repository}: {error}")
        return
    with replacing_folder(target) as unfinished:
        every = {path.relative_to(snapshot.folder).as_posix(): path for path in sorted(snapshot.folder.rglob("*"))}
        for name, path in (snapshot.model_files() if kind == "models" else every).items():
            if not path.is_file():
                continue
            copy = unfinished / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    console.say(f"{kind} {repository} at {revision}: from {snapshot.source}")
