"""A task or model that fails takes no other down, and is a row with its reason; what is wrong stops before any work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import tiny_mirror
from embrepro.errors import ConfigError, KitError, SourceError
from embrepro.layout import Layout
from embrepro.pipeline import aggregate, benchmark, check, download, encode, evaluate, report
from stage_project import MODELS, QUICK, configuration, metrics_bytes, run, times
from tiny_mirror import CLASSIFICATION, RETRIEVAL, STS, TASKS

pytest_plugins = ["stage_project"]


@pytest.fixture
def spoilt(sources: Path, tmp_path: Path) -> Path:
    """The sources, with one data set cut short and one absent."""
    copy = Path(shutil.copytree(sources, tmp_path / "sources"))
    file = tiny_mirror.folder(copy / "mirror", STS) / "data" / "test.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    shutil.rmtree(tiny_mirror.folder(copy / "mirror", CLASSIFICATION).parent)
    return copy


def test_lost_tasks_become_rows_with_their_reason(spoilt: Path, done: Layout, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "project")
    chosen = configuration(spoilt)
    metrics = run(chosen, layout)
    whole = json.loads(metrics_bytes(done))
    for key in MODELS:
        assert metrics["models"][key]["scores"][RETRIEVAL] == whole["models"][key]["scores"][RETRIEVAL]
        assert metrics["models"][key]["scores"][STS] is None
        assert metrics["models"][key]["mean_task"] is None
        assert metrics["models"][key]["mean_type"] is None
        status = metrics["status"][key]
        assert status[RETRIEVAL] == "scored"
        assert "test.parquet is damaged or cut short" in status[STS]
        assert "cannot be obtained" in status[CLASSIFICATION]
        assert all("\n" not in line for line in status.values())
    with pytest.raises(KitError) as caught:
        check.run(chosen, layout)
    assert STS in str(caught.value) and CLASSIFICATION in str(caught.value) and RETRIEVAL not in str(caught.value)
    check.run(configuration(spoilt, tasks__allow_missing=True), layout)


def test_a_lost_task_is_tried_again_once_it_can_be_had(
    spoilt: Path, sources: Path, done: Layout, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "project")
    run(configuration(spoilt), layout)
    with pytest.raises(KitError):
        check.run(configuration(spoilt), layout)
    before = times(layout.tasks / RETRIEVAL, layout.root / "results")
    assert run(configuration(sources), layout) == json.loads(metrics_bytes(done))
    after = times(layout.tasks / RETRIEVAL, layout.root / "results")
    assert {path: after[path] for path in before} == before


def test_a_task_that_fails_to_score_is_a_row_too(project: Layout, sources: Path) -> None:
    """Embeddings swapped under the right key: here, a file whose rows are too few."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    chosen = configuration(sources)
    path = project.embeddings("big") / f"{STS}.safetensors"
    with safe_open(path, framework="numpy") as file:
        rows, key = file.get_tensor("embeddings"), file.metadata()
    save_file({"embeddings": rows[:-1]}, path, metadata=key)
    project.evaluate_record("big").unlink()
    record = evaluate.run(chosen, project, "big")
    assert not record.tasks[STS].done
    assert "is not the file that was recorded" in record.tasks[STS].status
    assert record.tasks[RETRIEVAL].done
    aggregate.run(chosen, project)
    metrics = json.loads(metrics_bytes(project))
    assert metrics["models"]["big"]["scores"][STS] is None
    assert metrics["models"]["small"]["mean_task"] is not None


def test_a_flipped_bit_in_stored_embeddings_is_encoded_again_not_kept(project: Layout, sources: Path) -> None:
    path = project.embeddings("big") / f"{STS}.safetensors"
    whole = path.read_bytes()
    spoilt = bytearray(whole)
    spoilt[-5] ^= 16
    path.write_bytes(spoilt)
    project.evaluate_record("big").unlink()
    assert "is not the file that was recorded" in evaluate.run(configuration(sources), project, "big").tasks[STS].status
    encode.run(configuration(sources), project, "big")
    assert path.read_bytes() == whole


def test_another_models_embeddings_under_this_models_name_are_not_scored(project: Layout, sources: Path) -> None:
    shutil.copy(project.embeddings("small") / f"{STS}.safetensors", project.embeddings("big"))
    project.evaluate_record("big").unlink()
    record = evaluate.run(configuration(sources), project, "big")
    assert "is not the file that was recorded" in record.tasks[STS].status


def test_frozen_data_changed_after_the_download_is_not_scored(project: Layout, sources: Path) -> None:
    (path,) = (project.tasks / STS / "data").rglob("*.parquet")
    table = pl.read_parquet(path)
    table.with_columns(score=pl.lit(1.0)).write_parquet(path)
    project.evaluate_record("big").unlink()
    record = evaluate.run(configuration(sources), project, "big")
    assert "is not the file that was frozen" in record.tasks[STS].status


def test_a_model_that_gives_nan_is_a_row_for_every_task(sources: Path, tmp_path: Path) -> None:
    from model2vec import StaticModel

    broken = StaticModel.from_pretrained(str(sources / "small"))
    broken.embedding = np.full_like(broken.embedding, np.nan)
    broken.save_pretrained(str(tmp_path / "broken"))
    layout = Layout(tmp_path / "project")
    metrics = run(
        configuration(sources, models__small__folder=str(tmp_path / "broken"), tasks__names=[STS, RETRIEVAL]),
        layout,
    )
    assert metrics["models"]["small"]["scores"] == {STS: None, RETRIEVAL: None}
    assert all("NaN" in status for status in metrics["status"]["small"].values())
    assert metrics["models"]["big"]["mean_task"] is not None


def test_cuda_without_a_gpu_is_refused_before_any_work(sources: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match="device=cuda, but there is no GPU"):
        download.run(configuration(sources, device__name="cuda"), Layout(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks__names": [STS, "STS-12"]}, "there is no task 'STS-12'"),
        ({"tasks__languages": ["en"]}, "did you mean eng"),
        ({"tasks__subsets": {STS: ["deu"]}}, "no subset 'deu'"),
    ],
)
def test_a_wrong_task_is_refused_before_any_work(
    changes: dict[str, Any], said: str, sources: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        download.run(configuration(sources, **changes), Layout(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_had_leaves_earlier_results_alone(project: Layout, sources: Path) -> None:
    before, metrics = times(project.root), metrics_bytes(project)
    with pytest.raises(SourceError, match="does not exist"):
        download.run(configuration(sources, models__small__folder=str(sources / "nowhere")), project)
    assert times(project.root) == before
    assert metrics_bytes(project) == metrics


@pytest.mark.usefixtures("preloaded_workers")
def test_one_model_of_two_that_cannot_be_had_is_a_row_with_its_reason(
    project: Layout, done: Layout, sources: Path
) -> None:
    """The other model is scored, measured and reported; what the lost one left in an earlier run stays."""
    weights = {"org": "test", "name": "big", "revision": "f" * 40}
    absent = {"org": "test", "name": "big", "family": "static", "weights": weights}
    chosen = configuration(sources, models__big=absent, **QUICK)
    before = times(project.models / "big" / "snapshot", project.embeddings("big"), project.root / "results")
    metrics = run(chosen, project)
    for key in chosen.benchmarked:
        benchmark.run(chosen, project, key)
    aggregate.run(chosen, project)
    report.run(chosen, project)
    assert times(project.models / "big" / "snapshot", project.embeddings("big"), project.root / "results") == before
    whole = json.loads(metrics_bytes(done))
    assert metrics["models"]["small"] == whole["models"]["small"]
    assert set(metrics["models"]["big"]["scores"].values()) == {None}
    why = "model test/big at revision ffffffff"
    assert all(status.startswith(why) for status in metrics["status"]["big"].values())
    assert why in (project.reports / "report.md").read_text()
    with pytest.raises(KitError, match=why) as caught:
        check.run(chosen, project)
    assert str(caught.value).count(why) == 1, "one reason for all its tasks is said once"
    assert all(task in str(caught.value) for task in TASKS)
    assert run(configuration(sources), project) == whole, "and once it can be obtained, nothing is lost"


def test_no_model_at_all_is_an_error(project: Layout, sources: Path) -> None:
    def absent(name: str) -> dict[str, Any]:
        weights = {"org": "test", "name": name, "revision": "f" * 40}
        return {"org": "test", "name": name, "family": "static", "weights": weights}

    chosen = configuration(sources, models={name: absent(name) for name in MODELS})
    with pytest.raises(SourceError, match=r"test/big at revision[^\n]*\n[^\n]*test/small at revision"):
        download.run(chosen, project)
