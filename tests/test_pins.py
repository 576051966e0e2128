"""Pins: a hash of rows that only rows decide, and what is refused, kept and marked by it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import constants

import tiny_mirror
from conftest import REPOSITORY
from embrepro import suite
from embrepro.config.schema import ModelConfig, parse_config
from embrepro.errors import ConfigError, KitError, TaskError
from embrepro.files import sha256
from embrepro.layout import Layout
from embrepro.pipeline.pin import pin
from embrepro.sources import hub
from embrepro.tasks import freezing, pins, registry
from embrepro.tasks.pins import Pin
from embrepro.tasks.registry import Request
from embrepro.tasks.rows import hash_rows
from hub_server import serving

REVISION = "0123456789abcdef0123456789abcdef01234567"
ROWS = pa.table(
    {
        "text": ["one", "zwölf", None, ""],
        "label": pa.array([1, 0, None, -3], pa.int64()),
        "score": [0.5, None, float("nan"), -1.0],
        "words": [["a", "bc"], [], None, ["d"]],
        "more": [{"x": 1, "y": "z"}, {"x": None, "y": "w"}, None, {"x": 2, "y": ""}],
        "yes": [True, False, None, True],
    }
)


# --- The hash


def as_written(table: pa.Table, path: Path, **how: Any) -> pa.Table:
    pq.write_table(table, path, **how)
    return pq.read_table(path)


def test_the_hash_does_not_depend_on_how_rows_are_stored(tmp_path: Path) -> None:
    """Golden: SHA-256 as of the first version; a change of it would unpin every data set."""
    assert hash_rows(ROWS) == "11e230a41b76c842fb757d6943a0828d4815c1964c16a1d882398bd70b8ffbe5"
    text = ROWS["text"].cast(pa.large_string())
    others = [
        ROWS.select(sorted(ROWS.column_names)),
        pa.concat_tables([ROWS.slice(0, 1), ROWS.slice(1, 2), ROWS.slice(3)]),
        as_written(ROWS, tmp_path / "a.parquet", compression="gzip", row_group_size=1),
        as_written(ROWS, tmp_path / "b.parquet", use_dictionary=False, version="1.0"),
        ROWS.set_column(0, "text", text.dictionary_encode()),
        ROWS.set_column(1, "label", ROWS["label"].cast(pa.int8())),
        ROWS.set_column(2, "score", ROWS["score"].cast(pa.float32())),
        ROWS.set_column(3, "words", ROWS["words"].cast(pa.large_list(pa.large_string()))),
    ]
    assert {hash_rows(other) for other in others} == {hash_rows(ROWS)}


@pytest.mark.parametrize(
    "changed",
    [
        ROWS.slice(0, 3),
        ROWS.take([1, 0, 2, 3]),
        ROWS.rename_columns(["TEXT", *ROWS.column_names[1:]]),
        ROWS.drop_columns(["yes"]),
        ROWS.set_column(0, "text", pa.array(["one", "zwölf", "", None])),
        ROWS.set_column(0, "text", pa.array(["onez", "wölf", None, ""])),
        ROWS.set_column(1, "label", pc.negate(ROWS["label"])),
        ROWS.set_column(1, "label", ROWS["label"].cast(pa.float64())),
        ROWS.set_column(3, "words", pa.array([["a"], ["bc"], None, ["d"]])),
        ROWS.set_column(5, "yes", pa.array([True, False, False, True])),
    ],
    ids=["fewer", "order", "name", "column", "null", "border", "sign", "kind", "nesting", "false"],
)
def test_the_hash_depends_on_every_value(changed: pa.Table) -> None:
    assert hash_rows(changed) != hash_rows(ROWS)


def test_what_lies_behind_a_null_does_not_count() -> None:
    hidden = pa.Array.from_buffers(
        pa.int64(), 2, [pa.py_buffer(b"\x01"), pa.py_buffer(b"\x07" + bytes(7) + b"\x09" + bytes(7))]
    )
    assert hidden.to_pylist() == [7, None]
    assert hash_rows(pa.table({"a": hidden})) == hash_rows(pa.table({"a": [7, None]}))


# --- Data


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return tiny_mirror.build_pairs(tmp_path / "mirror")


def freeze(mirror: Path, pin: Pin | None = None) -> freezing.Manifest:
    folder = mirror.parent / "frozen"
    shutil.rmtree(folder, ignore_errors=True)
    return freezing.freeze(Request(tiny_mirror.STS, ("default",), ("test",)), folder, mirror, pin)


def pin_of(manifest: freezing.Manifest, **changes: Any) -> Pin:
    found = {name: getattr(manifest, name) for name in ("task", "repository", "revision", "drawn")}
    return Pin(**(found | {"rows": manifest.row_hashes} | changes))


def test_labels_reversed_in_a_mirror_of_the_same_size_are_refused(mirror: Path) -> None:
    pin = pin_of(freeze(mirror))
    path = tiny_mirror.folder(mirror, tiny_mirror.STS) / "data" / "test.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(2, "score", pa.array(reversed(table["score"].to_pylist()))), path)
    assert not freeze(mirror).pinned, "its size is right, so only the pin can tell"
    with pytest.raises(TaskError, match=r"the rows of test are not the pinned ones of .*HUMESTS12|humests12"):
        freeze(mirror, pin)


def test_a_copy_that_is_cut_and_compressed_otherwise_is_the_pinned_one(mirror: Path) -> None:
    pin = pin_of(freeze(mirror))
    folder = tiny_mirror.folder(mirror, tiny_mirror.STS)
    table = pq.read_table(folder / "data" / "test.parquet")
    for number, part in enumerate((table.slice(0, 20), table.slice(20))):
        pq.write_table(part, folder / "data" / f"test-{number}.parquet", compression="gzip")
    (folder / "data" / "test.parquet").unlink()
    tiny_mirror.card(folder, {"default": {"test": "data/test-*.parquet"}})
    assert freeze(mirror, pin).pinned


def test_a_pin_of_another_revision_or_other_parts_pins_nothing(mirror: Path) -> None:
    manifest = freeze(mirror)
    assert not freeze(mirror, pin_of(manifest, revision="f" * 40)).pinned
    assert not freeze(mirror, pin_of(manifest, rows={"train": "0" * 64})).pinned
    assert freeze(mirror, pin_of(manifest)).pinned


@pytest.mark.parametrize("name", suite.TASKS)
def test_the_suite_is_pinned(name: str, tmp_path: Path) -> None:
    task = registry.find(name)
    request = Request(name, tuple(task.hf_subsets), tuple(task.eval_splits))
    assert freezing.freeze(request, tmp_path, None, pins.read_pin(name, REPOSITORY / "conf" / "pins")).pinned


def test_every_pin_is_one_of_a_task_at_the_revision_that_mteb_asks_for() -> None:
    files = sorted((REPOSITORY / "conf" / "pins").glob("*.yaml"))
    assert len(files) > 20
    for file in files:
        found = pins.read_pin(file.stem, file.parent)
        assert found and found.task == file.stem
        assert registry.find(found.task).metadata.dataset["revision"] == found.revision


# --- The command


def test_pin_writes_what_was_frozen_and_keeps_to_it(mirror: Path, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "project")
    (tmp_path / "conf" / "model").mkdir(parents=True)
    shutil.copytree(mirror, tmp_path / "copy")
    manifest = freeze(mirror)
    shutil.copytree(tmp_path / "frozen", layout.tasks / tiny_mirror.STS)
    (path,) = pin([], layout, tmp_path / "conf")
    assert pins.read_pin(tiny_mirror.STS, path.parent) == pin_of(manifest)
    assert pin([tiny_mirror.STS], layout, tmp_path / "conf") == [], "pinned already"
    text = path.read_text().replace(manifest.row_hashes["test"], "a" * 64)
    path.write_text(text)
    with pytest.raises(TaskError, match="are not the pinned ones"):
        pin([], layout, tmp_path / "conf")
    assert path.read_text() == text
    with pytest.raises(ConfigError, match=f"did you mean {tiny_mirror.STS}"):
        pin(["HUMESTS21"], layout, tmp_path / "conf")


MODEL = """# @package _global_
# A comment that stays.
candidate: tiny
models:
  tiny:
    org: tiny
    name: static-model
    family: static
    weights:
      org: tiny
      name: static-model
      revision: null
"""


def test_an_unpinned_model_is_refused_until_pin_has_looked_it_up(
    static_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "conf" / "model" / "tiny.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(MODEL)
    values = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    values |= {"models": yaml.safe_load(MODEL)["models"], "candidate": "tiny", "baseline": "tiny", "benchmarked": {}}
    with pytest.raises(ConfigError, match=r"models\.tiny is unpinned.*embrepro pin tiny"):
        parse_config(values, "params.yaml")
    published = shutil.copytree(static_folder, tmp_path / "hub" / "models" / "tiny" / "static-model" / REVISION)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serving(tmp_path / "hub") as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        hub.problem.cache_clear()
        assert pin(["tiny"], Layout(tmp_path), tmp_path / "conf") == [path]
        assert pin(["tiny"], Layout(tmp_path), tmp_path / "conf") == [], "pinned already"
    hub.problem.cache_clear()
    assert "# A comment that stays." in path.read_text()
    weights = ModelConfig.model_validate(yaml.safe_load(path.read_text())["models"]["tiny"]).weights
    assert weights and weights.revision == REVISION
    assert weights.sha256 == {"model.safetensors": sha256(published / "model.safetensors")}


def test_a_model_without_a_repository_has_nothing_to_look_up(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="nothing to look up"):
        pin(["static_minilm"], Layout(tmp_path), REPOSITORY / "conf")
