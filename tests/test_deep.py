"""`embrepro verify --deep`: a project as it was computed, and one that was changed consistently, seals and hashes included."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from conftest import build_sources
from embrepro.cli import app
from embrepro.config.schema import parse_config
from embrepro.embeddings import store
from embrepro.files import fingerprint, sha256, write_json
from embrepro.layout import Layout
from embrepro.pipeline import aggregate, deep, evaluate
from embrepro.regression.recomputed import Recomputed
from embrepro.tasks import samples
from stage_project import run, values
from tiny_mirror import CLASSIFICATION, STS

pytestmark = pytest.mark.slow

TASKS = [STS, CLASSIFICATION]


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A configuration over a mirror and two tiny static models."""
    root = build_sources(tmp_path_factory.mktemp("sources"))
    return values(root, tasks__names=TASKS, claims=[], recommendation=None)


@pytest.fixture(scope="module")
def done(chosen: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A project after a whole run."""
    layout = Layout(tmp_path_factory.mktemp("done"))
    run(parse_config(chosen, "test"), layout)
    (layout.root / "params.yaml").write_text(yaml.safe_dump(chosen))
    return layout


@pytest.fixture
def project(done: Layout, tmp_path: Path) -> Layout:
    """A copy of that project, free to be spoilt."""
    return Layout(Path(shutil.copytree(done.root, tmp_path / "project")))


def reseal(path: Path, change: Callable[[Any], object]) -> None:
    """Change a sealed file, and its seal with it."""
    content = json.loads(path.read_text())
    content.pop("seal")
    change(content)
    write_json(path, {**content, "seal": fingerprint(content)})


def results(layout: Layout) -> Path:
    (folder,) = (layout.root / "results" / "test__big").iterdir()
    return folder


def faults(layout: Layout, chosen: dict[str, Any]) -> dict[str, str]:
    """What is found, by part."""
    found = deep.verify(parse_config(chosen, "test"), layout, seed=1)
    return {each.part: each.words for each in found if each.verdict == "FAIL"}


def test_a_project_as_it_was_computed_is_found_so_and_left_alone(done: Layout, chosen: dict[str, Any]) -> None:
    before = {path: path.read_bytes() for path in done.root.rglob("*") if path.is_file()}
    found = deep.verify(parse_config(chosen, "test"), done, seed=1)
    assert {each.verdict for each in found} == {"OK"}, [each for each in found if each.verdict != "OK"]
    said = {(each.part, each.of): each.words for each in found}
    assert said["data", "all tasks"].endswith(" files and 101 rows of 2 tasks hashed, 0 of them pinned")
    assert "2 files hashed" in said["embeddings", "big"]
    assert "(seed 1) made again: the same bytes" in said["embeddings", "big"]
    assert said["scores", "small"].startswith("2 tasks scored again")
    assert {path: path.read_bytes() for path in done.root.rglob("*") if path.is_file()} == before


def test_similarity_that_is_not_the_models_is_found(project: Layout, chosen: dict[str, Any]) -> None:
    """Recorded, sealed, and scored by consistently: only the model itself says otherwise."""
    config = parse_config(chosen, "test")
    reseal(project.encode_record("big"), lambda record: record["details"].update(similarity="dot"))
    evaluate.run(config, project, "big")
    aggregate.run(config, project)
    found = faults(project, chosen)
    assert list(found) == ["embeddings"]
    assert "says similarity is dot; the model's is cosine" in found["embeddings"]


def test_embeddings_that_the_model_does_not_give_are_found(project: Layout, chosen: dict[str, Any]) -> None:
    """All of a task's rows changed a little, with every hash and score made to fit."""
    config = parse_config(chosen, "test")
    path = store.path_of(project.embeddings("big"), STS)
    record = json.loads(project.encode_record("big").read_text())["tasks"][STS]
    stored = store.read(path, record["details"]["texts"])
    store.write(path, np.asarray(stored.embeddings) + np.float32(0.01), stored.key)
    reseal(project.encode_record("big"), lambda record: record["tasks"][STS]["files"].update({path.name: sha256(path)}))
    project.evaluate_record("big").unlink()
    evaluate.run(config, project, "big")
    aggregate.run(config, project)
    found = faults(project, chosen)
    assert list(found) == ["embeddings"]
    assert "rows that were drawn are not what the model gives" in found["embeddings"]


def test_results_and_samples_that_replay_does_not_give_are_found(project: Layout, chosen: dict[str, Any]) -> None:
    """Per-sample scores changed together with the result, the record and the reports: they agree with each other."""
    config = parse_config(chosen, "test")
    path = samples.path_of(results(project), CLASSIFICATION)
    kept = samples.read(path)
    right = kept.frame.with_columns(score=pl.col("target"))
    samples.write(path, samples.Samples(kept.statistic, [right]))
    result = results(project) / f"{CLASSIFICATION}.json"
    content = json.loads(result.read_text())
    content["scores"]["test"][0]["main_score"] = 1.0
    result.write_text(json.dumps(content))
    files = {file.name: sha256(file) for file in (path, result)}
    reseal(project.evaluate_record("big"), lambda record: record["tasks"][CLASSIFICATION]["files"].update(files))
    aggregate.run(config, project)
    found = deep.verify(config, project, seed=1)
    said = [each.words for each in found if each.verdict == "FAIL" and each.part == "scores"]
    assert any(f"{CLASSIFICATION}.json is not what scoring the stored embeddings gives" in words for words in said)
    assert any("does not hold the per-sample scores that scoring gives" in words for words in said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda summary: summary["tasks"][0]["cells"]["big"]["interval"].update(low=0.5),
            r"cells\.big\.interval\.low is 0\.5",
        ),
        (lambda summary: summary["models"]["big"].update(dimensions=7), r"models\.big\.dimensions is 7"),
    ],
)
def test_a_summary_that_the_results_do_not_give_is_found(
    change: Callable[[Any], object], said: str, project: Layout, chosen: dict[str, Any]
) -> None:
    path = project.reports / "summary.json"
    content = json.loads(path.read_text())
    change(content)
    write_json(path, content)
    found = faults(project, chosen)
    assert list(found) == ["reports"]
    assert re.search(said, found["reports"])


def test_frozen_rows_that_are_not_those_of_the_manifest_are_found(project: Layout, chosen: dict[str, Any]) -> None:
    folder = project.tasks / STS
    (path,) = (folder / "data").rglob("*.parquet")
    pl.read_parquet(path).with_columns(pl.col("score").reverse()).write_parquet(path)
    name = path.relative_to(folder).as_posix()
    reseal(folder / "manifest.json", lambda manifest: manifest["files"].update({name: sha256(path)}))
    found = faults(project, chosen)
    assert "holds other data than the download stage recorded" in found["data"]


def test_the_command_ends_with_0_or_1_or_2(
    project: Layout, chosen: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [Recomputed("data", "all", "OK", "hashed")]
    monkeypatch.setattr(deep, "verify", lambda *_: told)
    monkeypatch.chdir(project.root)
    assert CliRunner().invoke(app, ["verify", "--deep"]).exit_code == 0
    told.append(Recomputed("scores", "big", "not judged", "other packages"))
    assert CliRunner().invoke(app, ["verify", "--deep"]).exit_code == 2
    told.append(Recomputed("scores", "big", "FAIL", "0.93 it is not"))
    failed = CliRunner().invoke(app, ["verify", "--deep"])
    assert failed.exit_code == 1
    assert "0.93 it is not" in failed.stdout
    monkeypatch.undo()
    (tmp_path / "empty").mkdir()
    shutil.copy(project.root / "params.yaml", tmp_path / "empty")
    monkeypatch.chdir(tmp_path / "empty")
    nothing = CliRunner().invoke(app, ["verify", "--deep"])
    assert nothing.exit_code == 2
    assert "nothing to verify" in nothing.stderr
