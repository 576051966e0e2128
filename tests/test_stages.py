"""The stages from download to metrics on made-up data: what is kept, what is named, what comes out the same to the byte."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import polars as pl
import pytest
import yaml

import preloaded
import tiny_mirror
from conftest import REPOSITORY, build_sources
from embrepro import suite
from embrepro.config.compose import compose_values
from embrepro.config.schema import Config, parse_config
from embrepro.config.yaml_files import Strict
from embrepro.embeddings import encoding
from embrepro.errors import ConfigError, KitError, SourceError
from embrepro.layout import Layout
from embrepro.pipeline import aggregate, benchmark, check, download, encode, evaluate, report, scored
from embrepro.pipeline.records import parameters
from embrepro.results.quantities import QUANTITIES, Measurements
from embrepro.tasks import encode_requests, freezing, registry, samples
from tiny_mirror import CLASSIFICATION, RETRIEVAL, STS, TASKS

MODELS = ("big", "small")
QUICK = {"benchmark": {"repeats": 6, "batch_sizes": [1], "seconds": 0.001, "longest_batch": 0.5, "queries": 3}}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror and two tiny static models."""
    return build_sources(tmp_path_factory.mktemp("sources"))


def values(sources: Path, **changes: Any) -> dict[str, Any]:
    """A configuration over the sources; changes are given as section__key=value."""
    composed = compose_values(["device.threads=1"], REPOSITORY / "conf")
    composed["models"] = {
        name: {"org": "test", "name": name, "family": "static", "folder": str(sources / name)} for name in MODELS
    }
    composed |= {"candidate": "small", "baseline": "big"}
    composed["tasks"] = {"names": list(TASKS)}
    composed["source"] = {"mirror": str(sources / "mirror")}
    for path, value in changes.items():
        *sections, key = path.split("__")
        section = composed
        for name in sections:
            section = section[name]
        section[key] = value
    return composed


def configuration(sources: Path, **changes: Any) -> Config:
    return parse_config(values(sources, **changes), "test")


def run(chosen: Config, layout: Layout) -> dict[str, Any]:
    """All stages in order; returns the metrics."""
    download.run(chosen, layout)
    for key in chosen.models:
        encode.run(chosen, layout, key)
        evaluate.run(chosen, layout, key)
    aggregate.run(chosen, layout)
    return json.loads((layout.reports / "metrics.json").read_text())


def metrics_bytes(layout: Layout) -> bytes:
    return (layout.reports / "metrics.json").read_bytes()


def times(*folders: Path) -> dict[Path, int]:
    """When each file under the folders was written, records apart: those are rewritten by every run."""
    return {
        path: path.stat().st_mtime_ns
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("record.json", "model_meta.json")
    }


@pytest.fixture(scope="module")
def done(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A project after a whole run."""
    layout = Layout(tmp_path_factory.mktemp("done"))
    run(configuration(sources), layout)
    return layout


@pytest.fixture
def project(done: Layout, tmp_path: Path) -> Layout:
    """A copy of that project, free to be spoilt."""
    shutil.copytree(done.root, tmp_path / "project")
    return Layout(tmp_path / "project")


# --- What comes out


def test_every_requested_task_has_a_score_for_every_model(done: Layout) -> None:
    metrics = json.loads(metrics_bytes(done))
    for key in MODELS:
        scores = metrics["models"][key]["scores"]
        assert list(scores) == sorted(TASKS)
        assert all(-1 <= score <= 1 for score in scores.values())
        assert metrics["status"][key] == dict.fromkeys(sorted(TASKS), "scored")
        assert metrics["models"][key]["mean_task"] == pytest.approx(np.mean(list(scores.values())), abs=1e-12)


def test_the_scores_are_those_of_mteb_on_the_same_data(done: Layout, sources: Path) -> None:
    """`mteb.evaluate` with the model itself, no replay; equal to the last bit for a static model."""
    from embrepro import models

    chosen = configuration(sources)
    model = chosen.models["big"]
    loaded = models.load(sources / "big", model, chosen.device)
    encoder = models.wrap(loaded, model, "1", models.describe(loaded))
    metrics = json.loads(metrics_bytes(done))
    for request in registry.resolve(chosen.tasks):
        task = freezing.load_frozen(request, done.tasks / request.name)
        result = mteb.evaluate(encoder, task, cache=None, co2_tracker=False, show_progress_bar=False).task_results[0]
        assert metrics["models"]["big"]["scores"][request.name] == result.get_score()


def test_results_are_read_back_by_mteb(done: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = json.loads(metrics_bytes(done))
    monkeypatch.setenv("MTEB_CACHE", str(done.root))
    by_cache = mteb.ResultCache(done.root).load_results(include_remote=False, validate_and_filter=True)
    for found in (by_cache, mteb.load_results(download_latest=False)):
        by_model = {result.model_name: result for result in found.model_results}
        assert set(by_model) == {"test/big", "test/small"}
        for key in MODELS:
            read = {result.task_name: result.get_score() for result in by_model[f"test/{key}"].task_results}
            assert read == metrics["models"][key]["scores"]


def test_samples_lie_beside_every_result(done: Layout) -> None:
    for key in MODELS:
        folder = next(path for path in (done.root / "results" / f"test__{key}").iterdir())
        names = {path.name for path in folder.iterdir()}
        assert names == {"model_meta.json"} | {
            f"{task}{end}" for task in TASKS for end in (".json", ".samples.parquet")
        }
        assert len(samples.read(folder / f"{RETRIEVAL}.samples.parquet").frame) == 50
        assert len(samples.read(folder / f"{STS}.samples.parquet").frame) == 50


def test_check_ends_well_where_every_task_has_a_score(done: Layout, sources: Path) -> None:
    check.run(configuration(sources), done)


def test_two_runs_from_scratch_give_the_same_bytes(done: Layout, sources: Path, tmp_path: Path) -> None:
    again = Layout(tmp_path)
    run(configuration(sources), again)
    assert metrics_bytes(again) == metrics_bytes(done)
    for folder in ("data", "embeddings"):
        ours = {
            path.relative_to(again.root): path.read_bytes()
            for path in (again.root / folder).rglob("*")
            if path.is_file()
        }
        theirs = {
            path.relative_to(done.root): path.read_bytes() for path in (done.root / folder).rglob("*") if path.is_file()
        }
        assert ours == theirs


# --- Never the same work twice, never the wrong cache


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


# --- A task that fails takes no other down


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


# --- Stopped before any work


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


def test_one_model_of_two_that_cannot_be_had_is_a_row_with_its_reason(
    project: Layout, done: Layout, sources: Path
) -> None:
    """The other model is scored, measured and reported; what the lost one left in an earlier run stays."""
    weights = {"org": "test", "name": "big", "revision": "f" * 40}
    absent = {"org": "test", "name": "big", "family": "static", "weights": weights}
    chosen = configuration(sources, models__big=absent, **QUICK)
    before = times(project.models / "big" / "snapshot", project.embeddings("big"), project.root / "results")
    metrics = run(chosen, project)
    for key in chosen.models:
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


# --- The program itself: killed, without network, without room


def command(sources: Path, folder: Path, *arguments: str, code: str = "", **environment: str) -> subprocess.Popen[str]:
    """The `embrepro` program in a project folder; a fresh Python where `code` runs before it, or it has a path of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "params.yaml").exists():
        (folder / "params.yaml").write_text(yaml.safe_dump(values(sources)))
    program = [str(preloaded.programs() / "embrepro"), *arguments]
    if code or "PYTHONPATH" in environment:
        call = f"from embrepro.cli import main\nsys.argv = ['embrepro', *{list(arguments)!r}]\nmain()\n"
        program = [sys.executable, "-c", f"{code}\nimport sys\n{call}"]
    variables = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY / "src"),
        "OMP_WAIT_POLICY": "PASSIVE",
        **environment,
    }
    return subprocess.Popen(
        program, cwd=folder, env=variables, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


SLOW_IMPORTS = (
    "torch", "mteb", "sentence_transformers", "transformers", "datasets", "sklearn", "hydra", "scipy.stats"
)  # fmt: skip


@pytest.mark.parametrize(
    "stage",
    [["download"], ["encode", "big"], ["evaluate", "big"], ["aggregate"], ["report"], ["check"]],
    ids=lambda x: x[0],
)
def test_with_everything_kept_no_stage_imports_what_takes_seconds(
    stage: list[str], finished_project: Path, sources: Path
) -> None:
    noted = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print('imported', [name for name in {SLOW_IMPORTS} if name in sys.modules]))"
    )
    code, out, err = finish(command(sources, finished_project, *stage, code=noted))
    assert code == 0, err
    assert out.splitlines()[-1] == "imported []"


@pytest.fixture(scope="module")
def finished_project(done: Layout, sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after a whole run of the program, with what `report` needs."""
    root = tmp_path_factory.mktemp("finished") / "project"
    shutil.copytree(done.root, root)
    (root / "params.yaml").write_text(yaml.safe_dump(values(sources, claims=[], recommendation=None)))
    return root


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def written(folders: Iterable[Path]) -> int:
    """Files under folders that a running stage fills and renames meanwhile, which `os.walk` puts up with."""
    return sum(len(files) for folder in folders for _, _, files in os.walk(folder))


def finished(stage: str, layout: Layout) -> dict[Path, int]:
    """When the files of tasks that a stage has finished were written."""
    if stage == "download":
        return times(*[file.parent / "data" for file in layout.tasks.glob("[!.]*/key.json")])
    if stage == "encode":
        return {path: path.stat().st_mtime_ns for path in layout.embeddings("big").glob("[!.]*.safetensors")}
    if not layout.evaluate_record("big").is_file():
        return {}
    record = json.loads(layout.evaluate_record("big").read_text())
    names = {name for outcome in record["tasks"].values() for name in outcome["files"]}
    results = layout.root / "results" / "test__big"
    return {path: path.stat().st_mtime_ns for path in results.rglob("*") if path.name in names}


@pytest.mark.slow
def test_a_sparse_model_goes_through_all_stages(sources: Path, sparse_folder: Path, tmp_path: Path) -> None:
    changed = values(
        sources,
        models__small={"org": "test", "name": "small", "family": "sparse", "folder": str(sparse_folder)},
        benchmark={"repeats": 6, "batch_sizes": [4], "seconds": 0.01, "longest_batch": 5, "queries": 2},
    )
    changed["tasks"]["names"] += list(suite.CATEGORIES)
    chosen, layout = parse_config(changed, "test"), Layout(tmp_path)
    scores = run(chosen, layout)["models"]["small"]["scores"]
    assert all(score is not None for score in scores.values())
    speed = benchmark.run(chosen, layout, "small").models["small"]
    summary, _ = report.read(layout)
    card = summary.models["small"]
    assert (card.family, card.similarity, card.dimensions) == ("sparse", "dot", speed.dimensions)
    assert set(card.active_dimensions) == {"", "query", "document"}
    assert all(0 < active < 0.5 * speed.dimensions for active in card.active_dimensions.values())
    assert {row.category for row in summary.legacy if row.model == "small"} > {"topic clustering"}
    report.run(chosen, layout)
    assert "Dimensions that are not zero" in (layout.reports / "report.md").read_text()


@pytest.mark.slow
def test_a_cross_encoder_goes_through_all_stages_beside_an_embedding_model(
    sources: Path, cross_encoder_folder: Path, tmp_path: Path
) -> None:
    """It ranks what the task brings, or what BM25 finds; a task with nothing to rank is a row with its reason."""
    changed = values(
        sources,
        models__small={"org": "test", "name": "small", "family": "cross-encoder", "folder": str(cross_encoder_folder)},
        tasks__names=[tiny_mirror.RERANKING, RETRIEVAL],
        benchmark={"repeats": 6, "batch_sizes": [4], "seconds": 0.01, "longest_batch": 5, "queries": 2},
    )
    chosen, layout = parse_config(changed, "test"), Layout(tmp_path)
    metrics = run(chosen, layout)
    assert metrics["models"]["small"]["scores"][tiny_mirror.RERANKING] > 0
    assert "a cross-encoder scores documents that are ranked already" in metrics["status"]["small"][RETRIEVAL]
    assert metrics["models"]["big"]["scores"][RETRIEVAL] is not None
    speed = benchmark.run(chosen, layout, "small")
    assert (speed.models["small"].dimensions, speed.models["small"].pairs) == (None, True)
    measured = Measurements(speed=speed.models["small"]), Measurements(speed=speed.models["big"])
    assert [QUANTITIES["pairs_per_second_long"].take(each) is None for each in measured] == [False, True]
    summary, _ = report.read(layout)
    row = next(row for row in summary.tasks if row.name == tiny_mirror.RERANKING)
    assert row.difference is not None
    assert row.difference.interval is not None
    assert (summary.models["small"].dimensions, summary.models["small"].similarity) == (None, None)
    report.run(chosen, layout)
    before = run(chosen, layout)
    assert before == metrics
    written = times(layout.embeddings("big"))
    listed = {path: path.read_bytes() for path in layout.tasks.rglob("*") if path.is_file()}
    (tmp_path / "nothing").mkdir()
    changed |= {"tasks": changed["tasks"] | {"rerank": 5}, "source": {"mirror": str(tmp_path / "nothing")}}
    behind = run(parse_config(changed, "test"), layout)
    assert times(layout.embeddings("big")) == written
    assert 0 < behind["models"]["small"]["scores"].pop(RETRIEVAL) <= 1
    assert behind["models"]["small"]["scores"].items() <= metrics["models"]["small"]["scores"].items()
    summary, _ = report.read(layout)
    cells = next(row.cells for row in summary.tasks if row.name == RETRIEVAL)
    assert cells["big"].first_stage is None
    bm25 = freezing.read_manifest(layout.tasks / RETRIEVAL).first_stage
    assert cells["small"].first_stage == bm25
    assert bm25 is not None
    assert bm25.score is not None
    report.run(chosen, layout)
    assert f"reranks BM25's first 5; BM25 alone {100 * bm25.score:.2f}" in (layout.reports / "report.md").read_text()
    changed["tasks"]["rerank"] = None
    download.run(parse_config(changed, "test"), layout)
    assert {path: path.read_bytes() for path in layout.tasks.rglob("*") if path.is_file()} == listed


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["download", "encode", "evaluate"])
def test_a_stage_that_is_killed_goes_on_and_ends_with_the_same_bytes(
    stage: str, done: Layout, sources: Path, tmp_path: Path
) -> None:
    shutil.copytree(done.root, tmp_path / "project")
    layout = Layout(tmp_path / "project")
    made = {
        "download": [layout.tasks, layout.models],
        "encode": [layout.embeddings("big")],
        "evaluate": [layout.root / "results"],
    }
    for folder in made[stage]:
        shutil.rmtree(folder)
    if stage == "evaluate":
        layout.evaluate_record("big").unlink()
    arguments = [stage] if stage == "download" else [stage, "big"]
    generator = random.Random(time.time())
    for attempt in range(4):
        before = finished(stage, layout)
        process = command(sources, layout.root, *arguments)
        while process.poll() is None and written(made[stage]) <= attempt:
            time.sleep(0.005)
        time.sleep(generator.uniform(0, 0.1))  # work has begun: strike at a random moment from here
        process.kill()
        # Ends only when no worker holds the other end of the pipes any more.
        process.communicate(timeout=60)
        after = finished(stage, layout)
        assert {path: after[path] for path in before} == before
    code, _, errors = finish(command(sources, layout.root, *arguments))
    assert code == 0, errors
    whole = finished(stage, layout)
    assert {path: whole[path] for path in after} == after
    assert not list(layout.root.rglob("*.unfinished"))
    metrics = run(configuration(sources), layout)
    assert metrics == json.loads(metrics_bytes(done))
    assert metrics_bytes(layout) == metrics_bytes(done)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("download", signal.SIGHUP),
        ("encode", signal.SIGINT),
        ("evaluate", signal.SIGINT),
        ("evaluate", signal.SIGTERM),
    ],
)
def test_a_signal_ends_a_stage_with_a_word_and_keeps_what_is_done(
    stage: str, number: signal.Signals, done: Layout, sources: Path, tmp_path: Path
) -> None:
    """SIGINT comes to the whole group, as by Ctrl-C; the others to the stage alone."""
    shutil.copytree(done.root, tmp_path / "project")
    layout = Layout(tmp_path / "project")
    made = {"download": layout.tasks, "encode": layout.embeddings("big"), "evaluate": layout.root / "results"}[stage]
    shutil.rmtree(made)
    if stage == "evaluate":
        layout.evaluate_record("big").unlink()
    # Where the tests run under nohup, SIGHUP is switched off, and stays so in what they start.
    by_default = f"import signal\nsignal.signal({int(number)}, signal.SIG_DFL)"
    words = [stage] if stage == "download" else [stage, "big"]
    process = command(sources, layout.root, *words, code=by_default if number != signal.SIGINT else "pass")
    while process.poll() is None and not list(made.glob("[!.]*")):
        time.sleep(0.005)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    code, _, errors = finish(process)
    assert code == 128 + number
    assert "interrupted; what was finished is kept" in errors
    assert "Traceback" not in errors
    assert list(made.glob("[!.]*"))
    assert not list(layout.root.rglob("*.unfinished"))


NO_NETWORK = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        address = arguments[1] if event == "socket.connect" else arguments[0]
        host = address[0] if isinstance(address, tuple) else address
        local = isinstance(address, (str, bytes)) and event == "socket.connect"
        if not local and host not in ("127.0.0.1", "::1", "localhost", None):
            print("NETWORK", event, arguments, file=sys.stderr, flush=True)
            raise OSError("the network was touched")
sys.addaudithook(refuse)
"""


@pytest.mark.slow
def test_no_stage_touches_the_network_after_download(
    done: Layout, project: Layout, sources: Path, tmp_path: Path
) -> None:
    """The hook is installed in every process through sitecustomize; the hub is not switched off for them."""
    # One of the two models is encoded and scored anew.
    for made in (project.embeddings("big"), *project.root.glob("results/*__big")):
        shutil.rmtree(made)
    project.evaluate_record("big").unlink()
    project.metrics.unlink()
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NO_NETWORK)
    path = f"{tmp_path / 'site'}:{REPOSITORY / 'src'}"
    probe = command(
        sources,
        project.root,
        "--version",
        PYTHONPATH=path,
        code="import socket; socket.getaddrinfo('example.org', 80)",
    )
    assert "the network was touched" in finish(probe)[2]
    outcomes = []
    for arguments in (["encode", "big"], ["evaluate", "big"], ["aggregate"], ["check"]):
        process = command(
            sources,
            project.root,
            *arguments,
            PYTHONPATH=path,
            HF_HUB_OFFLINE="0",
            HF_DATASETS_OFFLINE="0",
        )
        outcomes.append((arguments, *finish(process)))
    assert [code for _, code, _, _ in outcomes] == [0] * 4, outcomes
    assert not [error for *_, error in outcomes if "NETWORK" in error]
    assert metrics_bytes(project) == metrics_bytes(done)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "blocked"),
    [
        (["download"], "data"),
        (["encode", "big"], "embeddings"),
        (["evaluate", "big"], "results"),
        (["aggregate"], "reports/plots"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_clear_line(
    arguments: list[str], blocked: str, done: Layout, sources: Path, tmp_path: Path
) -> None:
    """A file stands where the folder should be: the one obstacle that also stops root."""
    shutil.copytree(done.root, tmp_path / "project")
    target = tmp_path / "project" / blocked
    shutil.rmtree(target)
    target.write_text("in the way")
    code, _, errors = finish(command(sources, tmp_path / "project", *arguments))
    assert code == 1
    assert blocked in errors
    assert "Traceback" not in errors
    assert target.read_text() == "in the way"


@pytest.mark.slow
def test_a_full_disk_is_one_clear_line_and_leaves_no_half_file(done: Layout, sources: Path, tmp_path: Path) -> None:
    """No more than 512 bytes may be written to any file: the same errors as a full disk, without needing one."""
    shutil.copytree(done.root / "data", tmp_path / "project" / "data")
    limit = (
        "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))"
    )
    code, _, errors = finish(command(sources, tmp_path / "project", "encode", "big", code=limit))
    assert "Traceback" not in errors
    assert code == 1
    assert "No room to write" in errors
    assert not list((tmp_path / "project" / "embeddings").rglob("*.unfinished"))
    assert not list((tmp_path / "project" / "embeddings").rglob("*.safetensors"))


@pytest.mark.slow
def test_the_program_refuses_a_wrong_configuration_in_one_message(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values(sources, device__name="gpu")))
    code, out, errors = finish(command(sources, tmp_path, "download"))
    assert (code, out) == (1, "")
    assert "device.name" in errors
    assert "Traceback" not in errors


def test_listing_twice_gives_the_same_requests(done: Layout, sources: Path, tmp_path: Path) -> None:
    for request in registry.resolve(configuration(sources).tasks):
        folder = Path(shutil.copytree(done.tasks / request.name, tmp_path / request.name))
        before = freezing.read_manifest(folder)
        assert encode_requests.write(request, folder) == before


# --- What was good stays until what replaces it is whole


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


# --- What dvc.yaml says that a stage depends on is what it reads


NAMED = 0
"""In place of an identity: parameters that a stage named to `records.parameters`."""
CHANGES_NOTHING = {
    "executor": "who does the work; no result depends on it",
    "source.mirror": "where bytes come from; what they are is pinned",
    "device.threads": "how many workers share the work; no result depends on it where numerics are portable",
}
READ_ELSEWHERE = {
    "device": "dvc.yaml takes the lock by it, and the program sets the numerics before a stage starts",
    "device.name": "dvc.yaml takes the lock by it",
    "device.numerics": "the program sets them before a stage starts",
    "models": "the keys alone",
    "tasks.allow_missing": "where a task has no score",
    "tasks.benchmark": "where no names are given",
}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> dict[int, set[str]]:
    """By the identity of a section of the configuration: the keys that were read of it."""
    found: dict[int, set[str]] = {}

    def record(self: Strict, names: Iterable[str]) -> None:
        found.setdefault(id(self), set()).update(names)

    def getattribute(self: Strict, name: str) -> Any:
        if name in type(self).__pydantic_fields__:
            record(self, {name})
        return original(self, name)

    def dump(self: Strict, include: set[str] | None = None, exclude: set[str] | None = None, **options: Any) -> Any:
        # `records.parameters` names what it takes of a dump of everything.
        if not isinstance(self, Config):
            record(self, (include or set(type(self).__pydantic_fields__)) - (exclude or set()))
        return original_dump(self, include=include, exclude=exclude, **options)

    def named(config: Config, names: Iterable[str]) -> dict[str, str]:
        names = list(names)
        found.setdefault(NAMED, set()).update(names)
        return parameters(config, names)

    for module in (download, encode, evaluate, aggregate, check, scored):
        monkeypatch.setattr(module, "parameters", named, raising=False)
    original, original_dump = Strict.__getattribute__, Strict.model_dump
    monkeypatch.setattr(Strict, "__getattribute__", getattribute)
    monkeypatch.setattr(Strict, "model_dump", dump)
    return found


def paths(config: Config, reads: dict[int, set[str]]) -> set[str]:
    """What was read, as keys of params.yaml."""
    plain = vars(config)
    sections = {"": config} | {name: plain[name] for name in ("tasks", "device", "source", "benchmark")}
    sections |= {f"models.{key}": model for key, model in plain["models"].items()}
    found = {f"{name}.{key}".lstrip(".") for name, section in sections.items() for key in reads.get(id(section), ())}
    return (found - {*sections, "models"}) | reads.get(NAMED, set())


def declared(stage: str, key: str, config: Config) -> set[str]:
    """The parameters of a stage in dvc.yaml, for one model."""
    found = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"][stage]
    return {
        name.replace("${key}", key).replace("${baseline}", vars(config)["baseline"])
        for name in found.get("do", found)["params"]
    }


@pytest.mark.parametrize("stage", ["download", "encode", "evaluate", "benchmark", "aggregate", "check"])
def test_a_stage_reads_the_parameters_that_dvc_yaml_names_and_no_others(
    stage: str, project: Layout, sources: Path, reads: dict[int, set[str]]
) -> None:
    chosen = parse_config(values(sources) | QUICK, "test")
    for made in ("embeddings", "results", "data/tasks"):
        if (stage, made) in (("encode", "embeddings"), ("evaluate", "results"), ("download", "data/tasks")):
            shutil.rmtree(project.root / made)
    reads.clear()
    module = {"download": download, "encode": encode, "evaluate": evaluate, "benchmark": benchmark}.get(stage)
    if module is None:
        {"aggregate": aggregate, "check": check}[stage].run(chosen, project)
    elif module is download:
        module.run(chosen, project)
    else:
        module.run(chosen, project, "small")
    found, wanted = paths(chosen, reads) - set(CHANGES_NOTHING), declared(stage, "small", chosen)
    assert {path for path in found if not any(f"{path}.".startswith(f"{name}.") for name in wanted)} == set()
    unread = {name for name in wanted if not any(f"{path}.".startswith(f"{name}.") for path in found)}
    assert unread - set(READ_ELSEWHERE) == set()


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


def test_a_run_that_measures_no_speed_reports_none(project: Layout, sources: Path) -> None:
    chosen = configuration(sources, benchmark__measure=False, claims=[], recommendation=None)
    for key in MODELS:
        benchmark.run(chosen, project, key)
    aggregate.run(chosen, project)
    report.run(chosen, project)
    assert project.speed.is_file(), "DVC expects what a stage promises"
    text = project.report_markdown.read_text(encoding="utf-8")
    assert "no benchmark was run" in text
    assert "texts/s" not in text


def test_dvc_plots_one_bar_a_task_and_model(done: Layout) -> None:
    """Rows that share a bar are stacked."""
    drawn = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]["aggregate"]["plots"][0]
    ((name, settings),) = drawn.items()
    with (done.root / name).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(MODELS) * len(TASKS)
    assert len({row[settings["y"]] for row in rows}) == len(rows)
    assert all(float(row[settings["x"]]) <= 1 for row in rows)
