"""`embrepro explain`: a planted cause is named, alone, with the whole of the difference; what cannot be switched is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
import yaml
from sentence_transformers.sentence_transformer.modules import Normalize
from typer.testing import CliRunner, Result

import tiny_mirror
from conftest import build_dense_model, build_static_model
from embrepro import models
from embrepro.cli import app
from embrepro.config.schema import Config, Device, ModelConfig, parse_config
from embrepro.explaining import differences, switching
from embrepro.explaining.pages import explanation_page
from embrepro.explaining.switching import Attribution
from embrepro.files import write_json
from embrepro.layout import Layout
from embrepro.regression import sides
from embrepro.rendering import render_html, render_markdown
from embrepro.tasks import freezing, pins, registry, shortcuts
from revision_project import QUERIES, Project
from stage_project import run, values
from tiny_mirror import MULTILINGUAL, STS

pytest_plugins = ["revision_project"]
Run = Callable[..., Result]
TASKS = [STS, MULTILINGUAL]
PROMPTS = {"query": "one two three ", "STS": "yes no "}


class Ran:
    """A small project that ran: a static model and a dense one."""

    def __init__(self, root: Path, chosen: dict[str, Any]) -> None:
        self.layout, self.values = Layout(root), chosen

    @property
    def config(self) -> Config:
        return parse_config(self.values, "test")

    def published(self, folder: Path, key: str, change: Callable[[Any], None], **settings: Any) -> Path:
        """A folder of mteb's results of the same model, loaded by hand otherwise."""
        model = self.config.models[key].model_copy(update=settings)
        loaded: Any = models.load(self.layout.models / key / "snapshot", model, self.config.device)
        change(loaded)
        encoder = models.wrap(loaded, model, "by-hand", models.describe(loaded))
        there = folder / model.full_name.replace("/", "__") / "by-hand"
        there.mkdir(parents=True)
        for request in registry.resolve(self.config.tasks):
            task = freezing.load_frozen(request, self.layout.tasks / request.name)
            shortcuts.speed_up(task)
            found = mteb.evaluate(encoder, task, cache=None, co2_tracker=False, show_progress_bar=False).task_results[0]
            found.to_disk(there / f"{request.name}.json")
        return folder

    def explained(self, folder: Path, key: str) -> Attribution:
        """The folder held against the project."""
        old, new = sides.load(self.layout.root, str(folder)), sides.load(self.layout.root, "workspace")
        found = differences.compare(old, new, [key])
        attribution = switching.attribute(self.config, self.layout, found, old, new)
        assert isinstance(attribution, Attribution), attribution
        page = explanation_page(found, attribution)
        assert page.verdict in render_markdown.render(page).replace("\\", "")
        assert render_html.render(page)
        return attribution


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A project after a whole run."""
    root = tmp_path_factory.mktemp("sources")
    tiny_mirror.build_pairs(root / "mirror")
    tiny_mirror.build_topics(root / "mirror", ["eng_Latn"])
    build_static_model(root / "big", dimensions=32, seed=1)
    build_dense_model(root / "dense" / "model")
    chosen = values(root, claims=[], recommendation=None)
    chosen["tasks"] = {"names": TASKS, "subsets": {MULTILINGUAL: ["eng_Latn"]}}
    chosen["models"] = {
        "big": {"org": "test", "name": "big", "family": "static", "folder": str(root / "big")},
        "dense": {
            "org": "test",
            "name": "dense",
            "family": "dense",
            "folder": str(root / "dense" / "model"),
            "prompts": PROMPTS,
        },
    }
    chosen |= {"candidate": "big", "baseline": "dense", "benchmarked": {}}
    made = Ran(tmp_path_factory.mktemp("ran"), chosen)
    # Goes before the kit's pin, which made-up data does not have
    none = pins.Pin(task=MULTILINGUAL, repository="made/up", revision="none", rows={})
    pins.write_pin(none, made.layout.root / pins.PINS)
    run(made.config, made.layout)
    (made.layout.root / "params.yaml").write_text(yaml.safe_dump(chosen))
    return made


def without_normalisation(loaded: Any) -> None:
    del loaded[len(loaded) - 1]


def cut(length: int) -> Callable[[Any], None]:
    def change(loaded: Any) -> None:
        loaded.truncate_dim = length

    return change


def short(loaded: Any) -> None:
    loaded.max_seq_length = 24


PLANTED: dict[str, tuple[str, Callable[[Any], None], dict[str, Any], str]] = {
    "normalisation": ("big", without_normalisation, {}, "without normalisation"),
    "prompts": ("dense", lambda loaded: None, {"prompts": {}}, "without prompts"),
    "dtype": ("dense", lambda loaded: None, {"dtype": "bfloat16"}, "in bfloat16"),
    "dimensions": ("big", cut(8), {}, "cut to 8 dimensions"),
    "max length": ("dense", short, {}, "texts cut at 24 tokens"),
}


@pytest.mark.slow
@pytest.mark.parametrize("cause", PLANTED)
def test_a_planted_cause_is_named_with_the_whole_of_the_difference(cause: str, ran: Ran, tmp_path: Path) -> None:
    key, change, settings, words = PLANTED[cause]
    folder = ran.published(tmp_path, key, change, **settings)
    meta = {"embed_dim": 8} if cause == "dimensions" else {"max_tokens": 24} if cause == "max length" else {}
    write_json(next(folder.rglob("by-hand")) / "model_meta.json", meta)
    found = ran.explained(folder, key)
    (step,) = [each for each in found.switched if each.step]
    assert (step.cause, step.words) == (cause, words)
    assert step.share == pytest.approx(1, abs=0.02)
    assert found.unexplained == pytest.approx(0, abs=0.02)


@pytest.mark.slow
def test_what_moved_is_shown_where_the_other_run_has_result_files_alone(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is scored again, as it was and without normalisation: the samples are those."""
    monkeypatch.chdir(ran.layout.root)
    folder = ran.published(tmp_path, "big", without_normalisation)
    page = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["explain", str(folder), "--model", "big", "--html", str(page)])
    assert result.exit_code == 0, result.output
    assert "without normalisation (100 %)" in " ".join(result.output.split())
    text = page.read_text(encoding="utf-8")
    # 701, 99 and 204 texts: every split is scored.
    assert "From without normalisation to workspace, of 1,004 samples" in text
    assert "The two scores are the same" not in text


@pytest.mark.slow
def test_two_causes_at_once_have_a_share_each(ran: Ran, tmp_path: Path) -> None:
    def change(loaded: Any) -> None:
        without_normalisation(loaded)
        loaded.truncate_dim = 8

    folder = ran.published(tmp_path, "big", change)
    write_json(next(folder.rglob("by-hand")) / "model_meta.json", {"embed_dim": 8})
    found = ran.explained(folder, "big")
    steps = [each for each in found.switched if each.step]
    assert {each.cause for each in steps} == {"dimensions", "normalisation"}
    assert sum(each.share or 0 for each in steps) == pytest.approx(1, abs=0.02)


@pytest.mark.slow
def test_the_command_says_it_and_another_models_files_are_not_switched(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ran.published(tmp_path / "published", "big", without_normalisation)
    monkeypatch.chdir(ran.layout.root)
    result = CliRunner().invoke(app, ["explain", str(folder), "--model", "big", "--json", "--no-switching"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["differences"]
    assert any("does not record the model's files, prompts, normalisation, dtype" in line for line in found["unknown"])
    old, new = sides.load(Path(), str(folder)), sides.load(Path(), "workspace")
    key = "big"
    new.run.models[key] = new.run.models[key].model_copy(update={"content_hash": "other"})
    said = switching.attribute(ran.config, ran.layout, differences.compare(old, new, [key]), old, new)
    assert isinstance(said, str)
    assert "the files of neither run's model are on this machine" in said


@pytest.mark.parametrize("family", ["static", "dense"])
def test_embeddings_are_normalised_and_cut_as_the_model_itself_does_it_and_encoded_once(
    family: str, tmp_path: Path, static_folder: Path
) -> None:
    """To the last bit, a half-precision model included, against sentence-transformers' own module and truncation."""
    folder = static_folder if family == "static" else build_dense_model(tmp_path / "dense")
    model = ModelConfig(org="test", name=family, family=family, folder=str(folder))  # type: ignore[arg-type]
    device = Device(name="cpu", numerics="portable", batch_tokens=1024)
    texts = ["one two", "three", "one two", "four all any"]
    asked: list[str] = []
    bare: Any = models.load(folder, model, device)
    for name in [name for name, module in bare.named_children() if isinstance(module, Normalize)]:
        del bare[int(name)]
    kept = switching._Embedded()

    def encode(inputs: list[str], **named: Any) -> Any:
        asked.extend(inputs)
        return bare.encode(inputs, **named)

    for normalised in (True, False):
        other: Any = models.load(folder, model, device)
        for name in [name for name, module in other.named_children() if isinstance(module, Normalize)]:
            del other[int(name)]
        if normalised:
            other.append(Normalize())
        for length in (8, 16):
            found = kept.encode(encode, texts, normalised=normalised, length=length, prompt="")
            expected = other.encode(texts, truncate_dim=length, prompt="")
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
    assert asked == ["one two", "three", "four all any"]


class TestWhatDiffers:
    """Between revisions whose summaries record it; nothing is switched."""

    @pytest.mark.parametrize(
        ("change", "cause", "name"),
        [
            ("repinned", "data", "revision"),
            ("tampered", "data", "data_hash"),
            ("harmless", "packages", "numpy"),
            ("regression", "batch", "batch_size"),
        ],
    )
    def test_it_is_named_by_its_cause(self, program: Run, change: str, cause: str, name: str) -> None:
        result = program("explain", "base", change, "--model", "static", "--no-switching", "--json")
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)["differences"]["found"]
        assert any(each["cause"] == cause and each["name"].endswith(name) for each in found)

    def test_equal_runs_are_said_to_be_equal(self, program: Run) -> None:
        said = program("explain", "base", "base", "--no-switching").output
        assert "All 3 scores are equal." in said

    def test_an_unknown_model_is_refused(self, program: Run) -> None:
        result = program("explain", "base", "noise", "--model", "statik", "--no-switching")
        assert result.exit_code == 2
        assert "no model 'statik'; did you mean static?" in " ".join(result.stderr.split())

    def test_what_cannot_be_switched_is_said(self, program: Run, states: Project) -> None:
        said = " ".join(program("explain", "base", "harmless", "--no-switching").output.split())
        assert "Cannot be switched here, so what it moves is not told apart: packages" in said
        assert QUERIES in said
