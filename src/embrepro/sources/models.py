"""A model's files and manifest under `data/models/<key>`, fetched, copied or distilled once and checked at every use."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from embrepro.config.schema import ModelConfig
from embrepro.errors import KitError, SourceError
from embrepro.experiment_cache import NOTHING_SHARED, ExperimentCache, link
from embrepro.files import (
    dump_json,
    fingerprint,
    read_model,
    read_sealed,
    replacing_folder,
    scratch_folder,
    sha256,
    write_sealed,
    write_text,
)
from embrepro.numerics import Numerics
from embrepro.source_code import code_hash
from embrepro.sources import snapshots
from embrepro.sources.links import expect_inside
from embrepro.sources.snapshots import Snapshot

SNAPSHOT = "snapshot"
AVAILABILITY = "availability.json"
"""Beside a model's files, whether there are any or not: the content that they have, or why the model that the
configuration asks for could not be obtained. In the latter case what lies there is another model."""


class ModelManifest(BaseModel):
    """Where a model came from and what it consists of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    revision: str
    source: str
    asked: str
    spec_hash: str
    content_hash: str
    files: dict[str, str]
    bytes: int
    distilled_from: str | None = None


class _Availability(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    content: str | None = None
    reason: str | None = None


def fetch(
    model: ModelConfig,
    folder: Path,
    mirror: Path | None,
    numerics: Numerics = "portable",
    shared: ExperimentCache = NOTHING_SHARED,
    workers: int = 1,
) -> tuple[ModelManifest, bool]:
    """Put a model's files under `folder`; returns its manifest and whether it was there already.

    Args:
        model: its configuration.
        folder: where its snapshot and manifest go.
        mirror: a mirror folder, asked before any other source.
        numerics: what a distillation is computed with; another one is another model.
        shared: what other experiments have fetched or distilled.
        workers: processes that a distillation may use.

    Raises:
        SourceError: no source has it, or its files are damaged.
    """
    spec_hash = _spec_hash(model, numerics)
    if _kept(folder, spec_hash) is None:
        _take(shared, spec_hash, folder)
    if (kept := _kept(folder, spec_hash)) is not None:
        # The same files, from a folder that lies elsewhere now
        if kept.asked != _asked(model, numerics):
            kept = kept.model_copy(update={"asked": _asked(model, numerics), "name": model.full_name})
            write_sealed(folder / "manifest.json", kept)
        _mark(folder, _Availability(content=kept.content_hash))
        return kept, True
    with replacing_folder(folder) as unfinished:
        snapshot = unfinished / SNAPSHOT
        source = _fill(model, snapshot, mirror, workers)
        files = {path.relative_to(snapshot).as_posix(): sha256(path) for path in snapshots.model_files(snapshot)}
        content_hash = snapshots.content_hash(files)
        manifest = ModelManifest(
            name=model.full_name,
            revision=(model.weights.revision if model.weights else None) or content_hash[:40],
            source=source,
            asked=_asked(model, numerics),
            spec_hash=spec_hash,
            content_hash=content_hash,
            files=files,
            bytes=sum(path.stat().st_size for path in snapshots.model_files(snapshot) if not _is_documentation(path)),
            distilled_from=f"{model.distill.teacher.repository}@{model.distill.teacher.revision}"
            if model.distill
            else None,
        )
        write_sealed(unfinished / "manifest.json", manifest)
        _mark(unfinished, _Availability(content=content_hash))
    shared.add("models", spec_hash, partial(link, folder))
    return manifest, False


def _take(shared: ExperimentCache, spec_hash: str, folder: Path) -> None:
    """Put a model that another experiment has under `folder`, where there is such and it is whole."""
    entry = shared.find("models", spec_hash)
    if entry is None:
        return
    if _kept(entry, spec_hash) is None:
        shared.drop("models", spec_hash)
        return
    with replacing_folder(folder) as unfinished:
        link(entry, unfinished)


def mark_unavailable(folder: Path, reason: str) -> None:
    """Record in a model's folder that it could not be obtained; files of an earlier fetch stay, and are not used."""
    _mark(folder, _Availability(reason=reason))


def _mark(folder: Path, availability: _Availability) -> None:
    path, text = folder / AVAILABILITY, dump_json(availability.model_dump())
    if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
        write_text(path, text)


def why_unavailable(folder: Path) -> str | None:
    """Why the last download could not have a model; None where it could."""
    path = folder / AVAILABILITY
    return read_model(path, _Availability).reason if path.is_file() else None


def read(folder: Path) -> tuple[ModelManifest, Path]:
    """A fetched model's manifest and snapshot folder, every file compared with its SHA-256.

    Raises:
        SourceError: the model could not be obtained, or a file is missing or damaged.
    """
    if reason := why_unavailable(folder):
        raise SourceError(reason)
    return _read(folder)


def _read(folder: Path) -> tuple[ModelManifest, Path]:
    manifest = read_sealed(folder / "manifest.json", ModelManifest)
    for name, expected in manifest.files.items():
        path = folder / SNAPSHOT / name
        if not path.is_file() or sha256(path) != expected:
            state = "is not the file that was fetched" if path.is_file() else "is missing"
            raise SourceError(f"{path} {state}. Run: dvc repro --force --single-item download")
    snapshot = folder / SNAPSHOT
    for path in snapshots.model_files(snapshot):
        if path.relative_to(snapshot).as_posix() not in manifest.files:
            raise SourceError(f"{path} was not fetched, and could change the model. Delete it.")
    return manifest, snapshot


def read_for(folder: Path, model: ModelConfig, numerics: Numerics) -> tuple[ModelManifest, Path]:
    """As `read`, of the model that the configuration asks for; raises SourceError where another one was fetched."""
    manifest, snapshot = read(folder)
    if manifest.asked != _asked(model, numerics):
        raise SourceError(
            f"{folder} holds a model that was fetched for another configuration than params.yaml's; run the stage that "
            "fetches it first: dvc repro download"
        )
    return manifest, snapshot


def _asked(model: ModelConfig, numerics: Numerics) -> str:
    """What the configuration says of a model's files, hashed."""
    source = model.model_dump(include={"org", "name", *model.SOURCES}, mode="json")
    return fingerprint([source, numerics if model.distill else None])


def _spec_hash(model: ModelConfig, numerics: Numerics) -> str:
    """What decides a model's files: its source, the code, and for a distillation the packages and the numerics."""
    # A folder's files count, not its name.
    source = model.model_dump(include={*model.SOURCES} - {"folder"})
    spec: list[object] = [source, code_hash("embrepro.sources.models")]
    if model.folder:
        root = _local_folder(model)
        spec.append({path.relative_to(root).as_posix(): sha256(path) for path in snapshots.model_files(root)})
    if model.distill:
        from importlib.metadata import version

        spec.append(
            {package: version(package) for package in ("model2vec", "torch", "transformers", "numpy", "scikit-learn")}
        )
        spec.append(numerics)
    return fingerprint(spec)


def _kept(folder: Path, spec_hash: str) -> ModelManifest | None:
    try:
        manifest, _ = _read(folder)
    except KitError:
        return None
    return manifest if manifest.spec_hash == spec_hash else None


def _fill(model: ModelConfig, target: Path, mirror: Path | None, workers: int) -> str:
    if model.distill:
        from embrepro.models.static import distill

        teacher = snapshots.model(model.distill.teacher, mirror)
        with scratch_folder() as scratch:
            _copy(teacher.model_files(), scratch / "teacher")
            distill(scratch / "teacher", model.distill, target, workers)
        return f"distilled; teacher from {teacher.source}"
    if model.folder:
        folder = _local_folder(model)
        files = Snapshot(folder, "folder", folder).model_files()
        snapshots.check_model(folder, files, {})
        _copy(files, target)
        return "folder"
    weights = model.weights
    # The configuration holds exactly one source.
    assert weights is not None
    snapshot = snapshots.model(weights, mirror)
    _copy(snapshot.model_files(), target)
    return snapshot.source


def _local_folder(model: ModelConfig) -> Path:
    """A model's own folder, whose links lead nowhere else; in the hub's cache they may lead to the repository's blobs."""
    folder = Path(str(model.folder)).expanduser()
    if not folder.is_dir():
        raise SourceError(f"The folder of model {model.full_name}, {folder}, does not exist.")
    in_cache = folder.parent.name == "snapshots" and (folder.parent.parent / "blobs").is_dir()
    expect_inside(folder, folder.parent.parent if in_cache else folder)
    return folder


def _copy(files: Mapping[str, Path], target: Path) -> None:
    for name, path in files.items():
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def _is_documentation(path: Path) -> bool:
    return snapshots.is_documentation(path.name)
