"""What experiments share by content: taken where it is whole, made again where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny_mirror
from conftest import REPOSITORY, build_static_model
from embrepro import experiment_cache
from embrepro.config.compose import compose_values
from embrepro.config.schema import Config, parse_config
from embrepro.layout import Layout
from embrepro.pipeline import download, encode

TASK = tiny_mirror.STS


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """One tiny static model on one task of a tiny mirror."""
    root = tmp_path_factory.mktemp("sources")
    tiny_mirror.build(root / "mirror")
    values = compose_values(["device.threads=1"], REPOSITORY / "conf")
    folder = build_static_model(root / "tiny")
    values["models"] = {"tiny": {"org": "test", "name": "tiny", "family": "static", "folder": str(folder)}}
    values |= {"candidate": "tiny", "baseline": "tiny", "benchmarked": {}, "source": {"mirror": str(root / "mirror")}}
    values["tasks"] = {"names": [TASK]}
    return parse_config(values, "test")


def make(chosen: Config, root: Path) -> Layout:
    """Two stages in a folder of their own."""
    layout = Layout(root)
    download.run(chosen, layout)
    encode.run(chosen, layout, "tiny")
    return layout


def made(layout: Layout) -> list[Path]:
    """A file of each kind that is shared."""
    (rows,) = (layout.tasks / TASK / "data").rglob("*.parquet")
    model = layout.models / "tiny" / "snapshot" / "model.safetensors"
    return [rows, model, layout.embeddings("tiny") / f"{TASK}.safetensors"]


def same(one: Layout, other: Layout) -> list[bool]:
    """Of each kind: whether both have the very same file."""
    return [a.samefile(b) for a, b in zip(made(one), made(other), strict=True)]


def test_the_next_experiment_takes_what_is_whole_and_makes_what_is_not(
    chosen: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    monkeypatch.setenv(experiment_cache.VARIABLE, str(shared))
    first, second = make(chosen, tmp_path / "1"), make(chosen, tmp_path / "2")
    assert same(first, second) == [True] * 3
    before = [path.read_bytes() for path in made(first)]
    for path in shared.rglob("*"):
        if path.is_file():
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            # Another file: a hard link would damage the first experiment's too.
            path.unlink()
            path.write_bytes(content)
    third, fourth = make(chosen, tmp_path / "3"), make(chosen, tmp_path / "4")
    assert same(first, third) == [False] * 3
    assert same(third, fourth) == [True] * 3
    assert [path.read_bytes() for path in made(fourth)] == before


def test_without_a_queue_nothing_is_shared(tmp_path: Path) -> None:
    assert experiment_cache.of(tmp_path).find("tasks", "key") is None
    experiment_cache.of(tmp_path).add("tasks", "key", lambda folder: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "kit"])
def test_a_queued_experiment_shares_through_dvcs_folder(tmp_path: Path, below: str) -> None:
    folder = tmp_path / ".dvc" / "tmp" / "exps" / "tmp123" / below
    folder.mkdir(parents=True)
    assert experiment_cache.of(folder).folder == tmp_path / ".dvc" / "tmp" / "embrepro"


def test_an_entry_that_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    shared = experiment_cache.ExperimentCache(tmp_path / "file")
    shared.add("tasks", "key", lambda folder: None)
    assert shared.find("tasks", "key") is None


def test_an_entry_with_a_link_in_it_is_none(tmp_path: Path) -> None:
    shared = experiment_cache.ExperimentCache(tmp_path / "shared")
    shared.add("tasks", "key", lambda folder: (folder / "rows").write_bytes(b"x") and None)
    assert shared.find("tasks", "key") is not None
    (tmp_path / "shared" / "tasks" / "key" / "secret").symlink_to("/etc/hostname")
    assert shared.find("tasks", "key") is None
