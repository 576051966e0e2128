"""Folders of pinned, checked files: of a model or a data set, from any source.

The order is mirror, package, hub. A package comes before the hub because its checksums prove the same bytes and it
needs no second service. Whatever served the files, links that lead out are refused, pinned SHA-256 sums are compared,
Parquet and safetensors files are opened far enough to notice a truncated one, and pickled weights are refused.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath

from embrepro.config.schema import Weights
from embrepro.errors import SourceError
from embrepro.files import fingerprint, sha256
from embrepro.sources import hub
from embrepro.sources.cards import expect_own_files
from embrepro.sources.links import expect_inside

MODEL_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "*.jinja", "README.md"]
UNUSED_FILES = [
    "onnx/*",
    "openvino/*",
    "*/onnx/*",
    "*/openvino/*",
    "*.onnx",
    "*.bin",
    "*.h5",
    "*.ot",
    "*.msgpack",
    "*.gguf",
]
CONVERTED = Path(".embrepro") / "converted"
"""A mirror of models that `embrepro convert` has converted from pickles."""
# mteb pins some data sets by the first seven digits of a commit
COMMIT_OR_ITS_START = re.compile(r"[0-9a-f]{7,}")


@dataclass(frozen=True)
class Snapshot:
    """A folder of pinned files, and what served it: mirror, package or hub."""

    folder: Path
    source: str
    root: Path
    """Links in the folder may lead to what lies below this one, and nowhere else."""
    names: Mapping[str, str] = field(default_factory=dict)
    """A model's file -> where it lies in the folder, of a package with another layout; empty where they are the same."""

    def model_files(self) -> dict[str, Path]:
        """The files of a model that the kit keeps, by name."""
        if self.names:
            return {name: self.folder / place for name, place in sorted(self.names.items())}
        return {path.relative_to(self.folder).as_posix(): path for path in model_files(self.folder)}


def dataset(
    repository: str,
    revision: str,
    mirror: Path | None,
    subsets: tuple[Collection[str], Collection[str]] = ((), ()),
) -> Snapshot:
    """The files of a data set repository at a revision.

    Args:
        repository: organisation/name.
        revision: a commit, or its start.
        mirror: a folder to look in first.
        subsets: those of a task's subsets that are asked for, and its others; the hub is not asked for files that only
            the others need. Without it, all files.

    Raises:
        SourceError: the revision can move, or neither mirror nor hub has it, or a file is damaged.
    """
    if not COMMIT_OR_ITS_START.fullmatch(revision):
        raise SourceError(f"data set {repository}: revision '{revision}' is not a commit, so its content could change")
    snapshot = _from_mirror("datasets", repository, revision, mirror) or _from_hub(
        "datasets", repository, revision, mirror, hub.without_subsets(repository, revision, *subsets)
    )
    expect_inside(snapshot.folder, snapshot.root)
    expect_own_files(snapshot.folder)
    check_files(sorted(snapshot.folder.rglob("*")))
    return snapshot


def model(weights: Weights, mirror: Path | None) -> Snapshot:
    """The files of a published model at its pinned revision.

    Raises:
        SourceError: no source has it, or its files are not the pinned ones, are damaged, or are pickles.
    """
    if not weights.pinned:
        raise SourceError(f"model {weights.repository} is unpinned: its revision is not known. Run `embrepro pin`.")
    snapshot = _at_revision(weights, weights.revision, mirror) if weights.revision else _from_package(weights)
    if snapshot is None:
        raise SourceError(
            f"model {weights.repository} comes with a package alone, which is not installed in the version that the "
            f"configuration names ({weights.package}). Install the locked packages: make env."
        )
    expect_inside(snapshot.folder, snapshot.root)
    check_model(snapshot.folder, snapshot.model_files(), weights.sha256)
    return snapshot


def _at_revision(weights: Weights, revision: str, mirror: Path | None) -> Snapshot:
    return (
        _from_mirror("models", weights.repository, revision, mirror)
        or _from_package(weights)
        or _converted(weights.repository, revision)
        or _from_hub("models", weights.repository, revision, mirror, _model_names)
    )


def converted_folder(repository: str, revision: str) -> Path:
    """Where a model lies that was converted from pickled weights."""
    return CONVERTED / "models" / repository / revision


def _converted(repository: str, revision: str) -> Snapshot | None:
    folder = converted_folder(repository, revision)
    return Snapshot(folder, "conversion of its pickled weights", folder) if folder.is_dir() else None


def pickled(weights: Weights, revision: str, mirror: Path | None) -> dict[str, Path]:
    """A model's files by name, with pickled weights (`*.bin`) that nobody has opened.

    Raises:
        SourceError: neither mirror nor hub has them, or the repository has safetensors and needs no conversion.
    """
    snapshot = _from_mirror("models", weights.repository, revision, mirror) or _from_hub(
        "models", weights.repository, revision, mirror, _pickled_names
    )
    expect_inside(snapshot.folder, snapshot.root)
    names = [path.relative_to(snapshot.folder) for path in sorted(snapshot.folder.rglob("*")) if path.is_file()]
    kept = {name.as_posix(): snapshot.folder / name for name in names if _is_pickled_model(name)}
    if any(name.endswith(".safetensors") for name in kept):
        raise SourceError(f"model {weights.repository} has safetensors at {revision}: there is nothing to convert.")
    if not any(name.endswith(".bin") for name in kept):
        raise SourceError(f"model {weights.repository} has no pickled weights (*.bin) at {revision}.")
    return kept


def _pickled_names(names: list[str]) -> Iterable[str]:
    return (name for name in names if _is_pickled_model(PurePosixPath(name)))


def _is_pickled_model(name: PurePath) -> bool:
    """Whether a file is one of a model's, or its pickled weights; their index is of no use once they are one file."""
    return (is_of_model(name) and not name.name.endswith(".bin.index.json")) or name.match("pytorch_model*.bin")


def check_model(folder: Path, files: Mapping[str, Path], pinned: Mapping[str, str]) -> None:
    """Compare pinned checksums of a model's files, by name, open every weights file, refuse pickles.

    Raises:
        SourceError: names the file.
    """
    for file, expected in pinned.items():
        path = files.get(file, folder / file)
        if not path.is_file():
            raise SourceError(f"{path} is missing, but the configuration pins its SHA-256.")
        if (found := sha256(path)) != expected:
            raise SourceError(
                f"{path} is not the pinned file: SHA-256 {found}, expected {expected}. "
                "Fetch it again; if the model was meant to change, change the pin under models.*.weights.sha256."
            )
    check_files(files.values())
    if not any(path.suffix == ".safetensors" for path in files.values()):
        raise SourceError(
            f"{folder} holds no *.safetensors weights; pickled weights (*.bin, *.pt) are not loaded. "
            "`embrepro convert MODEL` converts a published one in a container."
        )


def check_files(paths: Iterable[Path]) -> None:
    """Open Parquet and safetensors files far enough to notice one that is cut short.

    Raises:
        SourceError: names the file.
    """
    import pyarrow.parquet
    from safetensors import safe_open

    for path in paths:
        try:
            if path.suffix == ".parquet":
                pyarrow.parquet.read_metadata(path)
            elif path.suffix == ".safetensors":
                with safe_open(path, framework="numpy"):
                    pass
        except Exception as error:
            raise SourceError(f"{path} is damaged or cut short ({error}). Fetch it again.") from None


def content_hash(files: dict[str, str]) -> str:
    """SHA-256 over the files that decide what a model computes: name and SHA-256 of each, documentation left out."""
    return fingerprint({name: digest for name, digest in files.items() if not is_documentation(name)})


def is_documentation(name: str) -> bool:
    """Whether a file of a model folder says something about the model instead of being part of it."""
    return name.endswith(".md") or Path(name).name.startswith(".") or name == "PROVENANCE.json"


def model_files(folder: Path) -> Iterable[Path]:
    """The files of a model folder that the kit keeps, sorted."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and is_of_model(path.relative_to(folder)))


def is_of_model(name: PurePath) -> bool:
    """Whether a file of a model's repository is one that the kit keeps."""
    wanted = any(name.match(pattern) for pattern in MODEL_FILES)
    return wanted and not any(name.match(pattern) for pattern in UNUSED_FILES)


def _model_names(names: list[str]) -> Iterable[str]:
    return (name for name in names if is_of_model(PurePosixPath(name)))


def _from_mirror(kind: hub.Kind, repository: str, revision: str, mirror: Path | None) -> Snapshot | None:
    if mirror is None:
        return None
    folder = mirror / kind / repository / revision
    return Snapshot(folder, "mirror", mirror) if folder.is_dir() else None


def _from_package(weights: Weights) -> Snapshot | None:
    package = weights.package
    if package is None:
        return None
    try:
        distribution = importlib.metadata.distribution(package.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
    folder = Path(str(distribution.locate_file(package.folder)))
    if distribution.version != package.version or not folder.is_dir():
        return None
    return Snapshot(folder, f"package {package.distribution} {package.version}", folder, package.files)


def _from_hub(
    kind: hub.Kind,
    repository: str,
    revision: str,
    mirror: Path | None,
    choose: Callable[[list[str]], Iterable[str]],
) -> Snapshot:
    from huggingface_hub import constants

    noun = "data set" if kind == "datasets" else "model"
    wanted = f"{noun} {repository} at revision {revision}"
    looked = _looked_in(kind, repository, mirror)
    if problem := hub.problem():
        raise SourceError(f"{wanted} cannot be obtained: {looked}{problem}. {_remedy()}")
    try:
        folder = hub.fetch(kind, repository, revision, choose)
    except SourceError as error:
        raise SourceError(f"{wanted} cannot be obtained: {looked}{error}. {_remedy()}") from None
    return Snapshot(folder, "hub", Path(constants.HF_HUB_CACHE))


def _looked_in(kind: hub.Kind, repository: str, mirror: Path | None) -> str:
    if mirror is None:
        return "no mirror is set, "
    others = mirror / kind / repository
    if others.is_dir():
        held = ", ".join(sorted(entry.name for entry in others.iterdir()))
        return f"the mirror holds other revisions only ({held}), "
    return f"the mirror {mirror} has no {kind}/{repository}, "


def _remedy() -> str:
    return "Connect to the hub, or set EMBREPRO_MIRROR to a folder that `embrepro mirror` filled."
