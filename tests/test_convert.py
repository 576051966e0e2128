"""Pickled weights become safetensors in a container, once and on request; nothing on the host ever reads a pickle."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import embrepro.models
from conftest import REPOSITORY, build_dense_model
from embrepro import containers
from embrepro.config.compose import compose_values
from embrepro.config.model_files import read_model_file
from embrepro.config.schema import Config, Device, ModelConfig, Weights, parse_config
from embrepro.containers import ContainerError
from embrepro.errors import ConfigError, SourceError
from embrepro.files import sha256
from embrepro.pipeline import convert as conversion
from embrepro.pipeline import unpickling
from embrepro.sources import snapshots

REVISION = "0123456789abcdef0123456789abcdef01234567"
MODEL = f"""# @package _global_
candidate: tiny
models:
  tiny:
    org: tiny
    name: pickled
    family: dense
    weights:
      org: tiny
      name: pickled
      revision: {REVISION}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one model, which its mirror holds as a pickle alone; its safetensors lie beside it for comparison."""
    mirrored = tmp_path / "mirror" / "models" / "tiny" / "pickled" / REVISION
    build_dense_model(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", mirrored)
    tensors = load_file(mirrored / "model.safetensors")
    (mirrored / "model.safetensors").unlink()
    names = sorted(tensors)
    torch.save({name: tensors[name] for name in names[:5]}, mirrored / "pytorch_model-00001-of-00002.bin")
    torch.save({name: tensors[name] for name in names[5:]}, mirrored / "pytorch_model-00002-of-00002.bin")
    (mirrored / "pytorch_model.bin.index.json").write_text("{}")
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "tiny.yaml").write_text(MODEL)
    shutil.copytree(REPOSITORY / "requirements", tmp_path / "requirements")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configuration(project: Path) -> Config:
    composed = compose_values((), REPOSITORY / "conf") | {"source": {"mirror": str(project / "mirror")}}
    return parse_config(composed, "test")


@pytest.fixture
def engine(project: Path) -> None:
    """A container engine with the CPU image of this lock; else the tests are skipped."""
    config = configuration(project)
    try:
        containers.checked_image(containers.find_engine(config), config, project)
    except ContainerError as error:
        pytest.skip(f"NO ENGINE OR NO IMAGE, conversion is not tested in a container: {error}")


@pytest.mark.docker
@pytest.mark.slow
def test_a_pickle_is_converted_once_pinned_and_then_served(project: Path, engine: None) -> None:
    weights = Weights(org="tiny", name="pickled", revision=REVISION)
    with pytest.raises(SourceError, match=r"pickled weights \(\*.bin, \*.pt\) are not loaded.*embrepro convert"):
        snapshots.model(weights, project / "mirror")
    folder = conversion.convert("tiny", configuration(project))
    assert "candidate: tiny" in (project / "conf" / "model" / "tiny.yaml").read_text()
    pinned = read_model_file(project / "conf" / "model" / "tiny.yaml").model.weights
    assert pinned and pinned.sha256 == {"model.safetensors": sha256(folder / "model.safetensors")}
    record = json.loads((folder / conversion.RECORD).read_text())
    mirrored = project / "mirror" / "models" / "tiny" / "pickled" / REVISION
    assert record["pickles"] == {path.name: sha256(path) for path in mirrored.glob("*.bin")}
    assert not list(folder.rglob("*.bin")) and not (folder / "pytorch_model.bin.index.json").exists()
    shutil.rmtree(project / "mirror")
    served = snapshots.model(pinned, None)
    assert served.source == "conversion of its pickled weights"
    assert [entry.name for entry in folder.parent.iterdir()] == [REVISION], "nothing of the work stays"
    model = ModelConfig(org="tiny", name="pickled", family="dense", folder="x")
    device = Device(name="cpu", numerics="portable", batch_tokens=64)
    texts = ["one two", "not the one"]
    before, after = (embrepro.models.load(place, model, device).encode(texts) for place in (project / "whole", folder))
    np.testing.assert_array_equal(before, after)


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {Path.cwd()}/ran",)


@pytest.mark.docker
@pytest.mark.slow
def test_a_hostile_pickle_is_refused_and_changes_nothing_here(project: Path, engine: None) -> None:
    mirrored = project / "mirror" / "models" / "tiny" / "pickled" / REVISION
    torch.save({"a": Hostile()}, mirrored / "pytorch_model-00001-of-00002.bin")
    with pytest.raises(ContainerError, match="ended with 1 in its container"):
        conversion.convert("tiny", configuration(project))
    assert not (project / "ran").exists()
    assert (project / "conf" / "model" / "tiny.yaml").read_text() == MODEL
    assert not list((project / ".embrepro" / "converted").rglob("*.safetensors"))


def test_the_program_gives_the_tensors_and_refuses_all_else(project: Path) -> None:
    source = project / "mirror" / "models" / "tiny" / "pickled" / REVISION
    unpickling.convert(source, project / "out")
    expected = load_file(project / "whole" / "model.safetensors")
    found = load_file(project / "out" / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    first = sha256(project / "out" / "model.safetensors")
    unpickling.convert(source, project / "again")
    assert sha256(project / "again" / "model.safetensors") == first
    torch.save({"a": 1}, source / "pytorch_model-00001-of-00002.bin")
    with pytest.raises(ValueError, match="a is a int, not a tensor"):
        unpickling.convert(source, project / "third")


def test_what_needs_no_conversion_or_has_no_pickle_is_refused(project: Path) -> None:
    mirrored = project / "mirror" / "models" / "tiny" / "pickled" / REVISION
    shutil.copy(project / "whole" / "model.safetensors", mirrored)
    with pytest.raises(SourceError, match="there is nothing to convert"):
        conversion.convert("tiny", configuration(project))
    (mirrored / "model.safetensors").unlink()
    for path in mirrored.glob("*.bin"):
        path.unlink()
    with pytest.raises(SourceError, match=r"has no pickled weights \(\*.bin\)"):
        conversion.convert("tiny", configuration(project))
    with pytest.raises(ConfigError, match="there is no"):
        conversion.convert("tinny", configuration(project))


def test_the_container_has_no_network_and_one_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the engine is asked to run, without running it."""
    asked: list[list[str]] = []
    monkeypatch.setattr(containers, "find_engine", lambda _: containers.Engine("docker"))
    monkeypatch.setattr(containers, "checked_image", lambda *_: "sha256:abc")
    monkeypatch.setattr(containers, "_attend", lambda _, command, __: asked.append(list(command)) or 0)
    monkeypatch.setenv("HF_TOKEN", "secret")
    with pytest.raises(SourceError, match=r"expected model\.safetensors"):
        conversion.convert("tiny", configuration(project))
    (command,) = asked
    assert command[command.index("--network") + 1] == "none"
    mounts = [word for word in command if word.startswith("type=bind")]
    assert len(mounts) == 1 and str(project / ".embrepro" / "converted") in mounts[0]
    assert not any("HF_TOKEN" in word for word in command)
    assert command[-4] == "python" and yaml.safe_load(MODEL) == yaml.safe_load(
        (project / "conf/model/tiny.yaml").read_text()
    )
