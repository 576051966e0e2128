"""`embrepro plan`: what a run will do is told before it, agrees with what it then does, and costs nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import embrepro.models
import tiny_mirror
from conftest import REPOSITORY, build_dense_model, build_static_model
from embrepro.cli import app
from embrepro.config.compose import compose_values
from embrepro.config.schema import Config, parse_config
from embrepro.files import size
from embrepro.forecast.estimates import ENCODE, KEPT, Forecast, ModelForecast, TaskForecast
from embrepro.forecast.pages import forecast_page
from embrepro.layout import Layout
from embrepro.pipeline import download, encode
from embrepro.pipeline.forecast import forecast
from embrepro.rendering import render_markdown
from embrepro.tasks import tables

TASKS = [tiny_mirror.STS, tiny_mirror.RETRIEVAL]


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two tiny models and two tasks."""
    root = tmp_path_factory.mktemp("forecast")
    tiny_mirror.build(root / "mirror")
    build_static_model(root / "static")
    build_dense_model(root / "dense")
    composed = compose_values(["device.threads=1", "device.batch_tokens=64"], REPOSITORY / "conf")
    composed["models"] = {
        name: {"org": "test", "name": name, "family": name, "folder": str(root / name)} for name in ("static", "dense")
    }
    composed |= {
        "candidate": "static",
        "baseline": "dense",
        "benchmarked": {},
        "source": {"mirror": str(root / "mirror")},
    }
    return composed | {"tasks": {"names": TASKS}}


@pytest.fixture(scope="module")
def config(values: dict[str, Any]) -> Config:
    return parse_config(values, "test")


@pytest.fixture(scope="module")
def downloaded(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A project before encode."""
    layout = Layout(tmp_path_factory.mktemp("project"))
    download.run(config, layout)
    return layout


@pytest.mark.slow
def test_the_forecast_agrees_with_what_encode_then_does(config: Config, downloaded: Layout) -> None:
    before = forecast(config, downloaded)
    for model in before.models:
        assert [task.action for task in model.tasks] == [ENCODE] * len(TASKS)
        assert model.rate and model.memory and model.seconds
        loaded = embrepro.models.load(
            config.models[model.key].folder and Path(config.models[model.key].folder),
            config.models[model.key],
            config.device,
        )
        for task in model.tasks:
            texts = tables.read_arrow(downloaded.tasks / task.task / "texts.arrow")["text"]
            assert task.texts == len(texts)
            # All texts are in the sample, so tokens are no estimate here.
            assert task.tokens == embrepro.models.token_counts(loaded, texts).sum()
    assert not downloaded.embeddings("static").exists()
    encode.run(config, downloaded, "static")
    after = forecast(config, downloaded)
    assert [model.kept for model in after.models] == [len(TASKS), 0]
    for task in before.models[0].tasks:
        written = (downloaded.embeddings("static") / f"{task.task}.safetensors").stat().st_size
        assert task.disk and 0 < written - task.disk < 400, "beside the header"


@pytest.mark.slow
def test_another_recipe_is_to_be_encoded_again(values: dict[str, Any], downloaded: Layout) -> None:
    native = parse_config(values | {"device": values["device"] | {"numerics": "native"}}, "test")
    assert {task.action for task in forecast(native, downloaded, measure=False).models[0].tasks} == {ENCODE}


def test_before_the_download_it_says_that_nothing_is_known(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    done = CliRunner().invoke(app, ["plan"])
    assert done.exit_code == 0, done.output
    assert "4 not known yet" in done.output
    assert "dvc repro download" in done.output
    assert {path.name for path in tmp_path.iterdir()} <= {"params.yaml", ".embrepro"}


def test_a_disk_that_will_not_do_is_said_first() -> None:
    task = TaskForecast("A", ENCODE, texts=1000, tokens=5000, seconds=10.0, disk=4_000_000)
    model = ModelForecast("m", [task, TaskForecast("B", KEPT, texts=5)], workers=2, rate=500.0)
    assert (model.seconds, model.room) == (5.0, 8_000_000)
    full = forecast_page(Forecast([model], free=7_000_000))
    assert full.tone == "bad" and full.verdict.startswith("Not enough room")
    text = render_markdown.render(forecast_page(Forecast([model], free=9_000_000)))
    assert "1 tasks to encode, 1 kept; about 5.0 s to encode; 8.0 MB of disk needed, 9.0 MB free." in text


def test_a_total_with_an_unknown_part_is_not_known() -> None:
    tasks = [TaskForecast("A", ENCODE, texts=10, seconds=1.0), TaskForecast("B", ENCODE, texts=10)]
    assert ModelForecast("m", tasks).seconds is None


@pytest.mark.parametrize(("count", "said"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2.5e12, "2.5 TB")])
def test_bytes_are_said_in_the_unit_that_fits(count: float, said: str) -> None:
    assert size(count) == said
