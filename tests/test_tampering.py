"""Nothing believed unchecked: whatever is changed between two stages is found by the next one, and no number comes of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from conftest import build_sources
from embrepro.config.schema import Config
from embrepro.errors import KitError
from embrepro.files import fingerprint, sha256, write_json
from embrepro.layout import Layout
from embrepro.pipeline import aggregate, check, encode, evaluate, report
from embrepro.pipeline.records import Record
from embrepro.regression import diff, reproduced, revisions
from embrepro.tasks import freezing, pins, samples, tables
from embrepro.tasks.pins import Pin
from stage_project import configuration, run
from tiny_mirror import CLASSIFICATION, STS

TASKS = [STS, CLASSIFICATION]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror and two tiny static models."""
    return build_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def chosen(sources: Path) -> Config:
    return configuration(sources, tasks__names=TASKS, claims=[], recommendation=None)


@pytest.fixture(scope="module")
def done(chosen: Config, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A project after a whole run."""
    layout = Layout(tmp_path_factory.mktemp("done"))
    run(chosen, layout)
    report.run(chosen, layout)
    check.run(chosen, layout)
    return layout


@pytest.fixture
def project(done: Layout, tmp_path: Path) -> Layout:
    """A copy of that project, free to be spoilt."""
    return Layout(Path(shutil.copytree(done.root, tmp_path / "project")))


def edit(path: Path, change: Callable[[Any], object], *, seal: bool = False) -> None:
    """Change a JSON file as an editor would, or with its seal made anew."""
    values = json.loads(path.read_text())
    change(values)
    if seal:
        values.pop("seal")
        values["seal"] = fingerprint(values)
    write_json(path, values)


def results(layout: Layout, key: str = "big") -> Path:
    (folder,) = (layout.root / "results" / f"test__{key}").iterdir()
    return folder


def raised(content: Any) -> None:
    """A score of 0.93, in mteb's result file."""
    content["scores"]["test"][0]["main_score"] = 0.93


def published_as(task: str, score: float) -> Callable[[Any], object]:
    """A summary that publishes another score of a task."""

    def change(summary: Any) -> None:
        row = next(row for row in summary["tasks"] if row["name"] == task)
        row["cells"]["big"]["score"] = score

    return change


# --- Records and manifests


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["details"].update(similarity="dot"),
        lambda record: record["details"].update(similarity="dot", normalised=True),
        lambda record: record["tasks"][STS].update(key="0" * 64),
        lambda record: record["made_for"].clear(),
        lambda record: record.pop("seal"),
    ],
)
def test_a_changed_encode_record_is_not_scored_by_but_named(
    change: Callable[[Any], object], project: Layout, chosen: Config
) -> None:
    edit(project.encode_record("big"), change)
    with pytest.raises(KitError, match=r"embeddings/big/record\.json was changed after it was written"):
        evaluate.run(chosen, project, "big")


def test_embeddings_of_a_changed_record_are_made_again(project: Layout, chosen: Config) -> None:
    whole = project.encode_record("big").read_bytes()
    edit(project.encode_record("big"), lambda record: record["details"].update(similarity="dot"))
    encode.run(chosen, project, "big")
    assert project.encode_record("big").read_bytes() == whole


def test_a_similarity_with_a_seal_of_its_own_is_another_key_not_a_kept_score(project: Layout, chosen: Config) -> None:
    """Whoever forges the seal too is found by `verify --deep`; here, that nothing stale is kept under it."""
    edit(project.encode_record("big"), lambda record: record["details"].update(similarity="dot"), seal=True)
    before = Record.read(project.evaluate_record("big")).tasks[STS].key
    assert evaluate.run(chosen, project, "big").tasks[STS].key != before


def test_another_models_folder_under_this_models_name_is_refused(project: Layout, chosen: Config) -> None:
    shutil.rmtree(project.embeddings("big"))
    shutil.copytree(project.embeddings("small"), project.embeddings("big"))
    with pytest.raises(KitError, match=r"made for other values of models\.big.*dvc repro encode@big"):
        evaluate.run(chosen, project, "big")
    shutil.copy(project.evaluate_record("small"), project.evaluate_record("big"))
    with pytest.raises(KitError, match=r"made for other values of models\.big.*dvc repro evaluate@big"):
        aggregate.run(chosen, project)


def test_a_changed_manifest_of_data_is_refused_and_made_again(project: Layout, chosen: Config) -> None:
    path = project.tasks / STS / "manifest.json"
    edit(path, lambda manifest: manifest.update(pinned=True))
    record = evaluate.run(chosen, project, "big")
    assert "was changed after it was written" in record.tasks[STS].status
    with pytest.raises(KitError, match="was changed after it was written"):
        aggregate.run(chosen, project)


def test_other_data_under_a_whole_manifest_is_not_what_was_encoded(project: Layout, chosen: Config) -> None:
    """Labels reversed in the frozen file, with manifest and seal made to fit."""
    folder = project.tasks / STS
    (path,) = (folder / "data").rglob("*.parquet")
    table = pl.read_parquet(path)
    table.with_columns(pl.col("score").reverse()).write_parquet(path)
    edit(
        folder / "manifest.json",
        lambda manifest: manifest["files"].update({path.relative_to(folder).as_posix(): sha256(path)}),
        seal=True,
    )
    freezing.verify(folder, freezing.read_manifest(folder).files)
    assert "holds other data than" in evaluate.run(chosen, project, "big").tasks[STS].status
    with pytest.raises(KitError, match=r"holds other data than small was scored on.*dvc repro evaluate@small"):
        aggregate.run(chosen, project)


def test_other_texts_than_were_encoded_are_not_scored(project: Layout, chosen: Config) -> None:
    """As many texts as before, so that only the key of the embeddings tells."""
    folder = project.tasks / STS
    texts = tables.read_arrow(folder / "texts.arrow")
    turned = texts.set_column(1, "text", texts["text"].take(list(range(len(texts)))[::-1]))
    (folder / "texts.arrow").unlink()
    tables.write_arrow(turned, folder / "texts.arrow")
    hashed = {"texts.arrow": sha256(folder / "texts.arrow")}
    edit(folder / "manifest.json", lambda manifest: manifest["requests"].update(hashed), seal=True)
    assert "are of other texts" in evaluate.run(chosen, project, "big").tasks[STS].status


def test_a_file_added_to_a_model_is_refused(project: Layout, chosen: Config) -> None:
    (project.models / "big" / "snapshot" / "adapter_config.json").write_text("{}")
    with pytest.raises(KitError, match=r"adapter_config\.json was not fetched"):
        encode.run(chosen, project, "big")


@pytest.mark.parametrize("change", [{"revision": "f" * 40}, {"content_hash": "0" * 64}, {"source": "hub"}])
def test_a_changed_manifest_of_a_model_is_refused(change: dict[str, str], project: Layout, chosen: Config) -> None:
    edit(project.models / "big" / "manifest.json", lambda manifest: manifest.update(change))
    with pytest.raises(KitError, match="was changed after it was written"):
        encode.run(chosen, project, "big")
    with pytest.raises(KitError, match="was changed after it was written"):
        aggregate.run(chosen, project)


def test_a_pin_that_came_or_changed_after_the_data_was_frozen_is_not_passed_over(
    project: Layout, chosen: Config
) -> None:
    manifest = freezing.read_manifest(project.tasks / STS)
    found = {name: getattr(manifest, name) for name in ("task", "repository", "revision", "drawn")}
    pins.write_pin(Pin(**found, rows=manifest.row_hashes), project.root / pins.PINS)
    with pytest.raises(KitError, match=r"The pin of .* came or went after its data was frozen.*dvc repro download"):
        aggregate.run(chosen, project)
    (project.root / pins.PINS / f"{STS}.yaml").unlink()
    pins.write_pin(Pin(**found, rows={"test": "0" * 64}), project.root / pins.PINS)
    with pytest.raises(KitError, match="the rows of test are not the pinned ones"):
        aggregate.run(chosen, project)


# --- Scores


def test_a_score_has_one_source_the_result_file(done: Layout) -> None:
    assert "score" not in done.evaluate_record("big").read_text()


def test_a_changed_status_record_is_refused_and_made_again(project: Layout, chosen: Config) -> None:
    edit(project.evaluate_record("big"), lambda record: record["tasks"][STS]["details"].update(score=0.93))
    for stage in (aggregate.run, check.run):
        with pytest.raises(KitError, match=r"status/big\.json was changed after it was written"):
            stage(chosen, project)
    whole = (project.reports / "metrics.json").read_bytes()
    evaluate.run(chosen, project, "big")
    aggregate.run(chosen, project)
    assert (project.reports / "metrics.json").read_bytes() == whole


def test_a_score_written_into_a_result_file_is_found(project: Layout, chosen: Config) -> None:
    path = results(project) / f"{STS}.json"
    edit(path, raised)
    for stage in (aggregate.run, check.run):
        with pytest.raises(KitError, match="is not the file that the evaluate stage wrote"):
            stage(chosen, project)
    hashed = {path.name: sha256(path)}
    edit(project.evaluate_record("big"), lambda record: record["tasks"][STS]["files"].update(hashed), seal=True)
    for stage in (aggregate.run, check.run):
        with pytest.raises(KitError, match=r"the score of big on .* is 0\.93000, but its per-sample scores give"):
            stage(chosen, project)


@pytest.mark.parametrize("task", TASKS)
def test_a_score_written_into_the_reports_is_found_by_all_that_read_them(
    task: str, project: Layout, chosen: Config
) -> None:
    path = project.reports / "metrics.json"
    edit(path, lambda metrics: metrics["models"]["big"]["scores"].update({task: 0.93}))
    with pytest.raises(KitError, match=r"metrics\.json does not say what .*summary\.json says"):
        check.run(chosen, project)
    edit(project.reports / "summary.json", published_as(task, 0.93))
    with pytest.raises(KitError, match="0.93"):
        check.run(chosen, project)
    said = rf"the published score of big on {task} is 0\.93000, but .*{task}\.json says"
    with pytest.raises(KitError, match=said):
        reproduced.last_run(project)
    with pytest.raises(KitError, match=said):
        report.run(chosen, project)
    side = revisions.load(project.root, revisions.WORKSPACE)
    with pytest.raises(KitError, match=said):
        diff.compare(side, side)
    (results(project) / f"{task}.json").unlink()
    with pytest.raises(KitError, match=rf"the published score of big on {task} is 0\.93000, but its per-sample scores"):
        diff.compare(side, side)


@pytest.mark.parametrize("what", ["mean_task", "difference"])
def test_what_is_derived_from_scores_is_derived_again(what: str, project: Layout, chosen: Config) -> None:
    def change(summary: Any) -> None:
        if what == "difference":
            summary["tasks"][0]["difference"]["estimate"] += 0.01
        else:
            summary["means"]["big"]["mean_task"] = 0.9

    edit(project.reports / "summary.json", change)
    if what == "mean_task":
        role = "candidate" if chosen.candidate == "big" else "baseline"

        def change_metrics(metrics: Any) -> None:
            metrics["models"]["big"]["mean_task"] = metrics[role]["mean_task"] = 0.9

        edit(project.reports / "metrics.json", change_metrics)
    with pytest.raises(KitError, match="means of big are not|difference on .* is not"):
        check.run(chosen, project)


# --- Per-sample scores


@pytest.mark.parametrize("fault", ["removed", "replaced", "cut", "flipped"])
def test_spoilt_samples_are_an_error_and_scored_again(fault: str, project: Layout, chosen: Config) -> None:
    path = samples.path_of(results(project), STS)
    whole = path.read_bytes()
    if fault == "removed":
        path.unlink()
    elif fault == "replaced":
        shutil.copy(samples.path_of(results(project, "small"), STS), path)
    else:
        path.write_bytes(whole[:-20] if fault == "cut" else bytes([*whole[:500], whole[500] ^ 4, *whole[501:]]))
    for stage in (aggregate.run, check.run):
        with pytest.raises(KitError, match=rf"{path.name} is .*Run: dvc repro --force --single-item evaluate@big"):
            stage(chosen, project)
    evaluate.run(chosen, project, "big")
    assert path.read_bytes() == whole


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all"])
def test_samples_that_are_none_are_a_clear_error_wherever_they_are_read(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.samples.parquet"
    path.write_bytes(content)
    with pytest.raises(KitError, match="is missing or damaged"):
        samples.read(path)
    pl.DataFrame({"score": [1.0]}).write_parquet(path)
    with pytest.raises(KitError, match="does not hold per-sample scores"):
        samples.read(path)


# --- Stages one by one


def test_no_stage_takes_what_another_configuration_made(project: Layout, sources: Path, chosen: Config) -> None:
    """The stage that would have made it was skipped, or failed."""
    fewer = configuration(sources, tasks__names=[STS], claims=[], recommendation=None)
    with pytest.raises(KitError, match=r"download\.json was made for other values of tasks\.names.*dvc repro download"):
        encode.run(fewer, project, "big")
    prompted = configuration(
        sources, tasks__names=TASKS, claims=[], recommendation=None, models__big__prompts={"query": "q: "}
    )
    with pytest.raises(KitError, match=r"record\.json was made for other values of models\.big.*dvc repro encode@big"):
        evaluate.run(prompted, project, "big")
    for stage in (aggregate.run, check.run):
        with pytest.raises(KitError, match=r"big\.json was made for other values of models\.big.*evaluate@big"):
            stage(prompted, project)
    with pytest.raises(KitError, match=r"summary\.json was made for other values of models\.big.*dvc repro aggregate"):
        report.run(prompted, project)
    seeded = configuration(sources, tasks__names=TASKS, claims=[], recommendation=None, seed=7)
    with pytest.raises(KitError, match=r"summary\.json was made for other values of seed.*dvc repro aggregate"):
        report.run(seeded, project)
    swapped = configuration(
        sources, tasks__names=TASKS, claims=[], recommendation=None, models__big__folder=str(sources / "small")
    )
    with pytest.raises(KitError, match=r"fetched for another configuration.*dvc repro download"):
        encode.run(swapped, project, "big")
    report.run(chosen, project)
