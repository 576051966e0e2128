"""Links, pipes and cards in somebody else's folder: what leads out of it is refused by name, and never read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import tiny_mirror
from conftest import build_static_model
from embrepro.config.schema import ModelConfig, Weights
from embrepro.errors import SourceError
from embrepro.sources import models as model_sources
from embrepro.sources import snapshots

REVISION = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = Weights(org="tiny", name="static-model", revision=REVISION)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that is nobody's business."""
    path = tmp_path / "secret.txt"
    path.write_text("password")
    return path


@pytest.fixture
def snapshot(tmp_path: Path, static_folder: Path) -> Path:
    """A model in a mirror."""
    target = tmp_path / "mirror" / "models" / "tiny" / "static-model" / REVISION
    return Path(shutil.copytree(static_folder, target))


def fetch(mirror: Path) -> Path:
    model = ModelConfig(org="tiny", name="static-model", family="static", weights=WEIGHTS)
    model_sources.fetch(model, mirror.parent / "model", mirror)
    return mirror.parent / "model" / model_sources.SNAPSHOT


@pytest.mark.parametrize("target", ["../../../../../secret.txt", "/etc/hostname"])
def test_a_link_out_of_a_mirror_is_refused_by_name(target: str, snapshot: Path, secret: Path, tmp_path: Path) -> None:
    (snapshot / "notes.txt").symlink_to(target)
    with pytest.raises(SourceError, match=r"notes\.txt is a link, or lies behind one, that leads out of .*mirror"):
        fetch(tmp_path / "mirror")
    assert not (tmp_path / "model").exists()


def test_a_folder_behind_two_links_is_refused(snapshot: Path, secret: Path, tmp_path: Path) -> None:
    """The first link stays inside; what it leads to does not."""
    inner = tmp_path / "mirror" / "shared"
    inner.mkdir()
    (inner / "more").symlink_to(tmp_path)
    (snapshot / "extra").symlink_to(inner)
    with pytest.raises(SourceError, match="leads out of"):
        fetch(tmp_path / "mirror")


def test_a_repository_that_is_a_link_out_is_refused(snapshot: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.move(snapshot, elsewhere)
    snapshot.symlink_to(elsewhere)
    with pytest.raises(SourceError, match="leads out of"):
        fetch(tmp_path / "mirror")


def test_links_inside_the_mirror_serve(snapshot: Path, tmp_path: Path) -> None:
    """The hub's cache keeps files as blobs, with links to them; a mirror may, too."""
    blobs = tmp_path / "mirror" / "blobs"
    blobs.mkdir()
    for path in list(snapshot.iterdir()):
        shutil.move(path, blobs / path.name)
        path.symlink_to(os.path.relpath(blobs / path.name, snapshot))
    assert (fetch(tmp_path / "mirror") / "model.safetensors").is_file()


@pytest.mark.parametrize("kind", ["pipe", "dangling", "loop"])
def test_what_is_no_file_is_refused_and_not_waited_for(kind: str, snapshot: Path, tmp_path: Path) -> None:
    path = snapshot / "notes.txt"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("nothing" if kind == "dangling" else "notes.txt")
    with pytest.raises(SourceError, match=r"notes\.txt is (neither a file nor a folder|a link that leads nowhere)"):
        fetch(tmp_path / "mirror")


def test_a_local_model_folder_is_checked_before_it_is_read(secret: Path, tmp_path: Path) -> None:
    folder = build_static_model(tmp_path / "local")
    (folder / "notes.txt").symlink_to(secret)
    model = ModelConfig(org="tiny", name="static-model", family="static", folder=str(folder))
    with pytest.raises(SourceError, match=r"notes\.txt is a link, or lies behind one, that leads out of .*local"):
        model_sources.fetch(model, tmp_path / "model", None)


def test_a_model_folder_in_the_hubs_cache_may_link_to_its_blobs(tmp_path: Path) -> None:
    cached = tmp_path / "models--tiny--static-model"
    (cached / "blobs").mkdir(parents=True)
    folder = build_static_model(cached / "snapshots" / REVISION)
    for path in list(folder.iterdir()):
        shutil.move(path, cached / "blobs" / path.name)
        path.symlink_to(f"../../blobs/{path.name}")
    model = ModelConfig(org="tiny", name="static-model", family="static", folder=str(folder))
    assert model_sources.fetch(model, tmp_path / "model", None)[0].source == "folder"


@pytest.mark.parametrize("pattern", ["../../../secret.parquet", "/etc/hostname", "data/../../x", "https://localhost/x"])
def test_a_card_that_names_files_elsewhere_is_refused(pattern: str, tmp_path: Path) -> None:
    mirror = tiny_mirror.build_pairs(tmp_path / "mirror")
    folder = tiny_mirror.folder(mirror, tiny_mirror.STS)
    tiny_mirror.card(folder, {"default": {"test": pattern}})
    with pytest.raises(SourceError, match="names data files outside its folder"):
        snapshots.dataset(f"{folder.parent.parent.name}/{folder.parent.name}", folder.name, mirror)
