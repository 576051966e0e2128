"""Never the same work twice, never the wrong cache; and what was good stays until what replaces it is whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from embrepro.config.schema import parse_config
from embrepro.embeddings import encoding
from embrepro.errors import KitError
from embrepro.layout import Layout
from embrepro.pipeline import aggregate, download, encode, evaluate
from stage_project import configuration, metrics_bytes, run, times, values
from tiny_mirror import RETRIEVAL, STS, TASKS

pytest_plugins = ["stage_project"]


def test_a_second_run_keeps_everything(project: Layout, sources: Path) -> None:
    folders = [project.root / name for name in ("data/tasks", "data/models", "embeddings", "results")]
    before, metrics = times(*folders), metrics_bytes(project)
    run(configuration(sources), project)
    assert times(*folders) == before
    assert metrics_bytes(project) == metrics


def test_one_more_task_leaves_the_others_as_they_are(project: Layout, sources: Path) -> None:
    before = times(project.tasks, project.root / "embeddings", project.root / "results")
    metrics = run(configuration(sources, tasks__names=[*TASKS, "STS17"], tasks__subsets={"STS17": ["en-en"]}), project)
    after = times(project.tasks, project.root / "embeddings", project.root / "results")
    assert {path: after[path] for path in before} == before
    assert set(metrics["models"]["big"]["scores"]) == {*TASKS, "STS17"}


def test_what_is_no_longer_asked_for_is_dropped(project: Layout, sources: Path) -> None:
    run(configuration(sources, tasks__names=[STS]), project)
    assert [path.name for path in project.tasks.iterdir()] == [STS]
    assert {path.name for path in project.embeddings("big").iterdir()} == {
        f"{STS}.safetensors",
        "record.json",
    }
    results = {path.name for path in (project.root / "results").rglob("*") if path.is_file()}
    assert results == {f"{STS}.json", f"{STS}.samples.parquet", "model_meta.json"}


def test_another_model_under_the_same_name_is_encoded_and_scored_anew(project: Layout, sources: Path) -> None:
    """The same name and revision with other weights: mteb's result cache would return the stale score."""
    before = json.loads(metrics_bytes(project))
    chosen = values(sources)
    chosen["models"]["big"]["folder"] = str(sources / "small")
    metrics = run(parse_config(chosen, "test"), project)
    assert metrics["models"]["big"]["scores"] == metrics["models"]["small"]["scores"]
    assert metrics["models"]["big"]["scores"] != before["models"]["big"]["scores"]
    assert metrics["models"]["small"] == before["models"]["small"]


@pytest.mark.parametrize(
    "changes",
    [
        {"models__big__prompts": {"query": "search: "}},
        {"models__big__batch_size": 3},
        {"models__big__dtype": "float32"},
    ],
)
def test_a_changed_recipe_encodes_anew(changes: dict[str, Any], project: Layout, sources: Path) -> None:
    before = times(project.embeddings("big"))
    encode.run(configuration(sources, **changes), project, "big")
    after = times(project.embeddings("big"))
    assert before.keys() == after.keys()
    assert all(after[path] != before[path] for path in before)


def test_embeddings_cut_short_are_made_again(project: Layout, sources: Path) -> None:
    path = project.embeddings("big") / f"{STS}.safetensors"
    whole, before = path.read_bytes(), times(project.embeddings("big"))
    path.write_bytes(whole[:-30])
    encode.run(configuration(sources), project, "big")
    assert path.read_bytes() == whole
    assert [one for one, when in times(project.embeddings("big")).items() if when != before[one]] == [path]


def test_a_result_that_was_changed_is_made_again(project: Layout, sources: Path) -> None:
    (path,) = (project.root / "results" / "test__big").rglob(f"{STS}.json")
    whole = json.loads(path.read_text())
    path.write_text(path.read_text().replace("0.", "0.9", 1))
    evaluate.run(configuration(sources), project, "big")
    again = json.loads(path.read_text())
    assert again["scores"] == whole["scores"]


def test_frozen_data_that_was_changed_is_frozen_again(project: Layout, sources: Path) -> None:
    (path,) = (project.tasks / STS / "data").rglob("*.parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    download.run(configuration(sources), project)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("name", ["download.json", "big"])
def test_a_damaged_record_is_named_or_made_again(name: str, project: Layout, sources: Path) -> None:
    chosen = configuration(sources)
    if name == "download.json":
        project.download_record.write_text('{"tasks": ')
        with pytest.raises(KitError, match=r"download\.json is damaged"):
            encode.run(chosen, project, "big")
        return
    project.evaluate_record("big").write_text('{"tasks": ')
    evaluate.run(chosen, project, "big")
    aggregate.run(chosen, project)


def test_a_refetch_that_fails_costs_nothing(project: Layout, done: Layout, sources: Path, tmp_path: Path) -> None:
    """The code that freezes changed, and the network is gone: data, embeddings and results of the run before stay."""
    folders = [project.tasks / STS / "data", project.embeddings("big"), project.root / "results"]
    before = times(*folders)
    spoil_key(project.tasks / STS)
    metrics = run(configuration(sources, source__mirror=str(tmp_path)), project)
    assert "cannot be obtained" in metrics["status"]["big"][STS]
    assert metrics["models"]["big"]["scores"][RETRIEVAL] is not None
    assert times(*folders) == before
    run(configuration(sources), project)
    assert metrics_bytes(project) == metrics_bytes(done)
    after = times(*folders[1:])
    assert {path: after[path] for path in after} == {path: before[path] for path in after}, "nothing is made again"


def spoil_key(folder: Path) -> None:
    """As after a change of the code that freezes: the same data under another key."""
    key = json.loads((folder / "key.json").read_text())
    (folder / "key.json").write_text(json.dumps(key | {"key": "another"}))


def test_a_model_that_comes_back_is_not_encoded_again(project: Layout, sources: Path) -> None:
    weights = {"org": "test", "name": "big", "revision": "f" * 40}
    absent = configuration(sources, models__big={"org": "test", "name": "big", "family": "static", "weights": weights})
    folders = [project.embeddings("big"), project.root / "results"]
    before = times(*folders)
    for _ in range(2):
        run(absent, project)
        assert times(*folders) == before
    run(configuration(sources), project)
    assert times(*folders) == before


def test_a_task_that_a_stage_before_has_not_seen_is_a_clear_error(project: Layout, sources: Path) -> None:
    """Stages run one by one, after the configuration changed."""
    more = configuration(sources, tasks__names=[*TASKS, "STS17"])
    with pytest.raises(KitError, match=r"made for other values of tasks\.names .*dvc repro evaluate@big"):
        aggregate.run(more, project)
    with pytest.raises(KitError, match=r"made for other values of tasks\.names .*dvc repro download"):
        encode.run(more, project, "big")
    with pytest.raises(KitError, match=r"made for other values of tasks\.names .*dvc repro encode@big"):
        evaluate.run(more, project, "big")


def test_merging_what_parts_encoded_encodes_nothing(
    project: Layout, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, folder = configuration(sources), project.embeddings("small")
    before = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    shutil.rmtree(folder)
    for part in ((1, 2), (2, 2)):
        encode.run(chosen, project, "small", part)
    assert list((folder / encode.SHARDS).iterdir())
    monkeypatch.setattr(encoding, "_in_this_process", lambda *_: pytest.fail("a stored shard was encoded again"))
    encode.run(chosen, project, "small")
    assert {path.name: path.read_bytes() for path in folder.glob("*.safetensors")} == before
