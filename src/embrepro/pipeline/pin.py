"""Pin what a run uses: the rows of frozen data, and the commit and files of a published model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import yaml

from embrepro import kit
from embrepro.config.messages import suggest
from embrepro.config.model_files import read_model_file
from embrepro.config.schema import Weights
from embrepro.config.yaml_files import read_yaml
from embrepro.errors import ConfigError, KitError, SourceError
from embrepro.files import write_text
from embrepro.layout import Layout
from embrepro.progress import console
from embrepro.sources import hub, snapshots
from embrepro.tasks import freezing, pins
from embrepro.tasks.pins import Pin


def pin(names: Sequence[str], layout: Layout, conf: Path = kit.CONF) -> list[Path]:
    """Pin tasks and models by name; all frozen tasks where no name is given. Returns the files that were written.

    Args:
        names: frozen tasks, and models of `conf/model`.
        layout: the project's folders.
        conf: the configuration's folder.

    Raises:
        ConfigError: a name is neither a frozen task nor a model.
        TaskError: a pin that is there says otherwise.
        SourceError: the hub does not know a model.
    """
    tasks = sorted(entry.name for entry in layout.tasks.glob("*") if (entry / "manifest.json").is_file())
    models = kit.documents(conf / "model", kit.CONF / "model")
    if unknown := [name for name in names if name not in tasks and name not in models]:
        raise ConfigError(
            f"pin: {unknown[0]} is neither a task under {layout.tasks} (`embrepro download` puts them there) nor a model "
            f"of {conf / 'model'}{suggest(unknown[0], [*tasks, *models])}"
        )
    if not names and not tasks:
        raise ConfigError(
            f"pin: there is no task under {layout.tasks}; run `embrepro download` first, or name a model."
        )
    written = []
    for name in names or tasks:
        written += (
            _pin_task(layout.tasks / name, conf / "pins") if name in tasks else _pin_model(models[name], conf / "model")
        )
    return written


def _pin_task(folder: Path, to: Path) -> list[Path]:
    manifest = freezing.read_manifest(folder)
    freezing.verify(folder, manifest.files)
    found = Pin(
        task=manifest.task,
        repository=manifest.repository,
        revision=manifest.revision,
        drawn=manifest.drawn,
        rows=manifest.row_hashes,
    )
    path = to / f"{manifest.task}.yaml"
    if not pins.write_pin(found, to):
        console.say(f"task {manifest.task}: pinned already")
        return []
    console.say(f"task {manifest.task}: {len(found.rows)} parts pinned in {path}, as {manifest.source} served them")
    return [path]


def _pin_model(source: Path, folder: Path) -> list[Path]:
    key, path = source.stem, folder / source.name
    weights = _weights(source)
    if weights.revision and weights.sha256:
        console.say(f"model {key}: pinned already, at {weights.revision}")
        return []
    if problem := hub.problem():
        raise SourceError(f"model {weights.repository} cannot be looked up: {problem}. Connect to the hub.")
    try:
        revision = weights.revision or hub.commit("models", weights.repository)
        listed = hub.hashes("models", weights.repository, revision)
    except SourceError as error:
        raise SourceError(f"model {weights.repository} cannot be looked up: {error}.") from None
    sums = {name: digest for name, digest in sorted(listed.items()) if snapshots.is_of_model(PurePosixPath(name))}
    if not any(name.endswith(".safetensors") for name in sums):
        raise SourceError(
            f"model {weights.repository} holds no *.safetensors weights at {revision}; pickled weights are not loaded. "
            f"`embrepro convert {key}` converts them in a container, and pins what comes out."
        )
    write_pins(source, path, revision, sums)
    console.say(f"model {key}: {weights.repository} pinned at {revision}, with SHA-256 of {', '.join(sums)}")
    return [path]


def _weights(path: Path) -> Weights:
    weights = read_model_file(path).model.weights
    if weights is None:
        raise ConfigError(f"{path}: the model comes from no hub repository of its own, so there is nothing to look up.")
    return weights


def write_pins(source: Path, path: Path, revision: str, sums: dict[str, str]) -> None:
    """Write a model's file with `revision` and `sha256` set, and everything else as it is in `source`.

    The two are one file, but for a model of the kit that is pinned in a repository of one's own.

    Raises:
        KitError: the file is written in another way than the kit's own; names what to write by hand.
    """
    write_text(path, _with_pins(source, path.stem, revision, sums))


def _with_pins(path: Path, key: str, revision: str, sums: dict[str, str]) -> str:
    """The file's text with `revision` and `sha256` set under its weights, everything else as it was.

    Raises:
        KitError: the file is written in another way than the kit's own; names what to write by hand.
    """
    text = path.read_text(encoding="utf-8")
    expected = read_yaml(path)
    expected["models"][key]["weights"] |= {"revision": revision, "sha256": sums}
    line = re.search(r"^( +)revision:[^\n]*$", text, re.MULTILINE)
    if line:
        block = "".join(f"\n{line[1]}  {name}: {digest}" for name, digest in sums.items())
        text = f"{text[: line.start()]}{line[1]}revision: {revision}\n{line[1]}sha256:{block}{text[line.end() :]}"
    try:
        changed = yaml.safe_load(text)
    except yaml.YAMLError:
        changed = None
    if changed != expected:
        raise KitError(f"{path} cannot be changed here; write under models.{key}.weights: {expected['models'][key]}")
    return text
