"""Convert a model that is published as a pickle alone, once and on request, to safetensors; its hash is pinned."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from embrepro import containers, kit
from embrepro.config.model_files import read_model_file
from embrepro.config.schema import Config, Weights
from embrepro.errors import ConfigError, SourceError
from embrepro.files import make_folder, replacing_folder, sha256, write_json
from embrepro.pipeline import pin, unpickling
from embrepro.progress import console
from embrepro.sources import hub, snapshots

WEIGHTS = "model.safetensors"
RECORD = "CONVERSION.json"
"""Beside converted files: what they were made from."""


def convert(key: str, config: Config, conf: Path = kit.CONF) -> Path:
    """Convert a model of `conf/model` and write its revision and the SHA-256 of its weights into its file.

    The pickle is read in the CPU image, with no network and no file of this machine but a copy of it.

    Args:
        key: the model.
        config: says which container engine and image, and which mirror.
        conf: the configuration's folder.

    Returns:
        The folder of the converted files, where `download` finds them.

    Raises:
        ConfigError: there is no such model, or it comes from no repository.
        SourceError: the pickle cannot be obtained, there is none, or what came out is not its weights.
        ContainerError: there is no engine or no image, or the container failed.
    """
    path = conf / "model" / f"{key}.yaml"
    source = kit.find(path, kit.CONF / "model" / path.name)
    if not source.is_file():
        raise ConfigError(f"convert: there is no {path}")
    weights = read_model_file(source).model.weights
    if weights is None:
        raise ConfigError(f"{path}: the model comes from no hub repository of its own, so there is nothing to convert.")
    revision = weights.revision or hub.commit("models", weights.repository)
    weights = weights.model_copy(update={"revision": revision})
    folder = snapshots.converted_folder(weights.repository, revision)
    published = snapshots.pickled(weights, revision, config.mirror)
    make_folder(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = _in_a_container(published, Path(scratch).resolve(), config)
        _lay_out(published, made, folder, weights)
    sums = {name: sha256(folder / name) for name in made}
    pin.write_pins(source, path, revision, sums)
    console.say(f"model {key}: {weights.repository} at {revision} converted into {folder}; pinned in {path}")
    return folder


def _in_a_container(published: Mapping[str, Path], scratch: Path, config: Config) -> dict[str, Path]:
    """Converted files by name: one for each folder that has pickles."""
    source, target = scratch / "pickled", scratch / "converted"
    target.mkdir()
    pickles = {name: path for name, path in published.items() if name.endswith(".bin")}
    for name, path in pickles.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, source / name)
    program = scratch / "unpickling.py"
    shutil.copyfile(str(unpickling.__file__), program)
    containers.run_alone(config, ["python", str(program), str(source), str(target)], scratch)
    names = dict.fromkeys((Path(name).parent / WEIGHTS).as_posix() for name in pickles)
    found = {name: target / name for name in names}
    unexpected = [path for path in target.rglob("*") if path.is_file() and path not in found.values()]
    if unexpected or not all(path.is_file() and not path.is_symlink() for path in found.values()):
        raise SourceError(f"the container wrote {unexpected or 'nothing'}, expected {', '.join(names)}")
    snapshots.check_files(found.values())
    return found


def _lay_out(published: Mapping[str, Path], made: Mapping[str, Path], folder: Path, weights: Weights) -> None:
    """The repository's other files with the converted weights, in a mirror's layout, and what they were made from."""
    pickles = {name: sha256(path) for name, path in published.items() if name.endswith(".bin")}
    with replacing_folder(folder) as unfinished:
        for name, path in {**published, **made}.items():
            if name not in pickles:
                (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, unfinished / name)
        origin = {"repository": weights.repository, "revision": weights.revision, "pickles": pickles}
        write_json(unfinished / RECORD, origin)
