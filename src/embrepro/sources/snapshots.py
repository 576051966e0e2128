"""Folders of pinned, checked files: of a model or a data set, whoever served them.

The order is mirror, package, hub. A package comes before the hub because its checksums prove the same bytes and it
needs no second service. Whatever served the files, pinned SHA-256 sums are compared, Parquet and safetensors files are
opened far enough to notice a truncated one, and pickled weights are refused.
"""

from __future__ import annotations

import functools
import importlib.metadata
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from embrepro.config.schema import Weights
from embrepro.errors import SourceError
from embrepro.files import fingerprint, sha256

Kind = Literal["datasets", "models"]

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
REACH_SECONDS = 5.0
COMMIT_OR_ITS_START = re.compile(r"[0-9a-f]{7,}")  # mteb pins some data sets by the first seven digits of a commit


@dataclass(frozen=True)
class Snapshot:
    """A folder of pinned files, and what served it: mirror, package, hub or folder."""

    folder: Path
    source: str


def dataset(repository: str, revision: str, mirror: Path | None) -> Snapshot:
    """The files of a data set repository at a revision.

    Raises:
        SourceError: the revision can move, or neither mirror nor hub has it, or a file is damaged.
    """
    if not COMMIT_OR_ITS_START.fullmatch(revision):
        raise SourceError(f"data set {repository}: revision '{revision}' is not a commit, so its content could change")
    snapshot = _from_mirror("datasets", repository, revision, mirror) or _from_hub(
        "datasets", repository, revision, mirror
    )
    check_files(snapshot.folder)
    return snapshot


def model(weights: Weights, mirror: Path | None) -> Snapshot:
    """The files of a published model at its pinned revision.

    Raises:
        SourceError: no source has it, or its files are not the pinned ones, are damaged, or are pickles.
    """
    snapshot = (
        _from_mirror("models", weights.repository, weights.revision, mirror)
        or _from_package(weights)
        or _from_hub("models", weights.repository, weights.revision, mirror)
    )
    check_model(snapshot.folder, weights.sha256)
    return snapshot


def check_model(folder: Path, pinned: dict[str, str]) -> None:
    """Compare pinned checksums, open every weights file, refuse pickles."""
    for file, expected in pinned.items():
        path = folder / file
        if not path.is_file():
            raise SourceError(f"{path} is missing, but the configuration pins its SHA-256.")
        if (found := sha256(path)) != expected:
            raise SourceError(
                f"{path} is not the pinned file: SHA-256 {found}, expected {expected}. "
                "Fetch it again; if the model was meant to change, change the pin under models.*.weights.sha256."
            )
    check_files(folder)
    if not list(folder.rglob("*.safetensors")):
        raise SourceError(f"{folder} holds no *.safetensors weights; pickled weights (*.bin, *.pt) are not loaded.")


def check_files(folder: Path) -> None:
    """Open Parquet and safetensors files far enough to notice one that is cut short.

    Raises:
        SourceError: names the file.
    """
    import pyarrow.parquet
    from safetensors import safe_open

    for path in sorted(folder.rglob("*")):
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
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        wanted = any(relative.match(pattern) for pattern in MODEL_FILES)
        if path.is_file() and wanted and not any(relative.match(pattern) for pattern in UNUSED_FILES):
            yield path


def _from_mirror(kind: Kind, repository: str, revision: str, mirror: Path | None) -> Snapshot | None:
    if mirror is None:
        return None
    folder = mirror / kind / repository / revision
    return Snapshot(folder, "mirror") if folder.is_dir() else None


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
    return Snapshot(folder, f"package {package.distribution} {package.version}")


def _from_hub(kind: Kind, repository: str, revision: str, mirror: Path | None) -> Snapshot:
    noun = "data set" if kind == "datasets" else "model"
    wanted = f"{noun} {repository} at revision {revision}"
    looked = _looked_in(kind, repository, mirror)
    if problem := hub_problem():
        raise SourceError(f"{wanted} cannot be had: {looked}{problem}. {_remedy()}")
    from httpx import HTTPError
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            repository,
            repo_type="dataset" if kind == "datasets" else "model",
            revision=revision,
            allow_patterns=MODEL_FILES if kind == "models" else None,
            ignore_patterns=UNUSED_FILES if kind == "models" else None,
        )
    except (HfHubHTTPError, HTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SourceError(f"{wanted} cannot be had: {looked}the hub answered: {reason}. {_remedy()}") from None
    return Snapshot(Path(folder), "hub")


def _looked_in(kind: Kind, repository: str, mirror: Path | None) -> str:
    if mirror is None:
        return "no mirror is set, "
    others = mirror / kind / repository
    if others.is_dir():
        held = ", ".join(sorted(entry.name for entry in others.iterdir()))
        return f"the mirror holds other revisions only ({held}), "
    return f"the mirror {mirror} has no {kind}/{repository}, "


def _remedy() -> str:
    return "Connect to the hub, or set EMBREPRO_MIRROR to a folder that `embrepro mirror` filled."


@functools.cache
def hub_problem() -> str | None:
    """Why the hub cannot be asked, found out once a process within seconds; None where it answers."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "the hub is switched off by HF_HUB_OFFLINE"
    from huggingface_hub.utils import get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=REACH_SECONDS)
    except Exception as error:  # whatever the HTTP client raises: the hub cannot be asked
        return f"the hub ({constants.ENDPOINT}) cannot be reached: {error}"
    return None
