"""The samples that moved most: how well each was done, what is shown of it, and the page of `embrepro explain --html`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

import browser
from conftest import build_sources
from embrepro.cli import app
from embrepro.config.params import read_params
from embrepro.config.schema import parse_config
from embrepro.embeddings import store
from embrepro.explaining import differences, moving
from embrepro.explaining.moving import MovedTask
from embrepro.layout import Layout
from embrepro.regression import sides
from embrepro.statistics import estimates
from embrepro.tasks import samples, tables
from stage_project import run, values
from tiny_mirror import CLASSIFICATION, RETRIEVAL, STS


def frame(scores: list[float], targets: list[float] | None = None, replicates: int = 1) -> pl.DataFrame:
    """Samples 0, 1, ... in each of some experiments, one after the other."""
    size = len(scores) // replicates
    columns = {
        "split": ["test"] * len(scores),
        "subset": ["default"] * len(scores),
        "sample": [str(number % size) for number in range(len(scores))],
        "replicate": [number // size for number in range(len(scores))],
        "score": scores,
        "target": targets or [None] * len(scores),
    }
    return pl.DataFrame(columns, schema=samples.SCHEMA)


def valued(scores: list[float], targets: list[float] | None = None, *, statistic: str) -> list[float]:
    return moving.values(frame(scores, targets), statistic)["value"].to_list()


class TestHowWellASampleWasDone:
    def test_a_querys_score_is_what_it_is(self) -> None:
        assert valued([0.2, 0.8], statistic="mean") == [0.2, 0.8]

    def test_a_predicted_label_is_right_in_a_share_of_the_experiments(self) -> None:
        found = frame([1, 0, 2, 1, 1, 2], [1, 1, 2, 1, 1, 2], 2)
        each = moving.values(found, "accuracy")
        assert each["value"].to_list() == [1, 0.5, 1]
        assert each["value"].mean() == pytest.approx(estimates.point(found, "accuracy"))

    def test_a_similarity_counts_by_its_rank_whatever_its_scale(self) -> None:
        gold = [0.0, 1.0, 2.0, 3.0]
        assert valued([0.1, 0.2, 0.3, 0.4], gold, statistic="spearman") == [1, 1, 1, 1]
        # The first and the last have changed places: both are three of four places off.
        assert valued([40, 20, 30, 10], gold, statistic="spearman") == [0.25, 1, 1, 0.25]

    def test_a_match_should_rank_high_and_no_match_low(self) -> None:
        assert valued([0.9, 0.1, 0.5, 0.7], [1, 0, 1, 0], statistic="average_precision") == [1, 0.75, 0.5, 0.25]

    def test_a_cluster_is_held_against_the_label_by_bcubed(self) -> None:
        # Two labels, a and b; the third document of a lies in b's cluster. Precision and recall of Bagga & Baldwin (1998):
        # a in its own cluster 1 and 2/3, a in b's 1/3 and 1/3, b 2/3 and 1.
        found = valued([0, 0, 1, 1, 1], [0, 0, 0, 1, 1], statistic="v_measure")
        assert found == pytest.approx([0.8, 0.8, 1 / 3, 0.8, 0.8])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two static models after a whole run."""
    sources = build_sources(tmp_path_factory.mktemp("sources"))
    made = tmp_path_factory.mktemp("ran")
    chosen = values(sources, claims=[], recommendation=None)
    run(parse_config(chosen, "test"), Layout(made))
    (made / "params.yaml").write_text(yaml.safe_dump(chosen))
    return made


@pytest.fixture(scope="module")
def moved(root: Path) -> dict[str, MovedTask]:
    """What moved between the two models of the run, by task."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        side = sides.load(Path(), "workspace")
        compared = differences.compare(side, side, ["big", "small"])
        return {each.task: each for each in moving.find(read_params(), Layout(), compared, side, side, "")}


@pytest.mark.slow
class TestOfARun:
    def test_every_sample_is_counted_and_those_that_moved_most_come_first(self, moved: dict[str, MovedTask]) -> None:
        assert set(moved) == {STS, CLASSIFICATION, RETRIEVAL}
        assert [each.lost + each.gained + each.still for each in moved.values()] == [50, 47, 50]
        for each in moved.values():
            changes = [sample.change for sample in each.samples]
            lost = [change for change in changes if change < 0]
            assert lost == sorted(lost) == changes[: len(lost)]
            assert changes[len(lost) :] == sorted(changes[len(lost) :], reverse=True)

    def test_a_sample_has_its_texts_and_what_is_right(self, moved: dict[str, MovedTask], root: Path) -> None:
        data = root / "data" / "tasks"
        pairs = pl.read_parquet(next((data / STS / "data").rglob("test.parquet")))
        for sample in moved[STS].samples:
            row = pairs.row(int(sample.name), named=True)
            assert sample.texts == [row["sentence1"], row["sentence2"]]
            assert sample.gold == f"{row['score']:g}"
        texts = pl.read_parquet(next((data / CLASSIFICATION / "data").rglob("test.parquet")))
        for sample in moved[CLASSIFICATION].samples:
            assert sample.texts == [texts["text"][int(sample.name)]]
            assert sample.gold == str(texts["label"][int(sample.name)])

    def test_a_query_has_both_models_rankings(self, moved: dict[str, MovedTask], root: Path) -> None:
        """Against the products of the stored rows, which are of unit length."""
        folder = root / "data" / "tasks" / RETRIEVAL
        texts = pl.from_arrow(tables.read_arrow(folder / "texts.arrow"))
        documents = texts.filter(prompt="document")["text"].to_list()
        assert moved[RETRIEVAL].samples
        for sample in moved[RETRIEVAL].samples:
            for key, reading in ((moved[RETRIEVAL].old, sample.old), (moved[RETRIEVAL].new, sample.new)):
                rows = store.read(store.path_of(root / "embeddings" / key, RETRIEVAL), len(texts)).embeddings
                vectors = np.asarray(rows, dtype=np.float64)
                vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
                (query,) = texts.with_row_index().filter(prompt="query", text=sample.texts[0])["index"].to_list()
                similarities = dict(zip(texts["text"], vectors @ vectors[query], strict=True))
                best = sorted((similarities[text] for text in documents), reverse=True)[:5]
                assert [each.similarity for each in reading.ranking] == pytest.approx(best, abs=2e-3)

    def test_the_page_shows_them_and_the_terminal_does_not(
        self, moved: dict[str, MovedTask], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(root)
        page = tmp_path / "moved.html"
        asked = ["explain", "workspace", "--model", moved[STS].old, "--model", moved[STS].new, "--html", str(page)]
        result = CliRunner().invoke(app, asked)
        assert result.exit_code == 0, result.output
        text = page.read_text(encoding="utf-8")
        for each in moved.values():
            assert f"From {each.old} to {each.new}, of" in text
        query = moved[RETRIEVAL].samples[0].texts[0]
        assert query[:60] in text and query[:60] not in result.output
        assert text.count(f"Ranked by {moved[RETRIEVAL].old}") == len(moved[RETRIEVAL].samples)
        assert "are two models" in " ".join(result.output.split())


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_a_row_opens_to_both_rankings_in_a_browser(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    if missing := browser.missing():
        pytest.skip(f"no {missing}")
    monkeypatch.chdir(root)
    path = tmp_path / "moved.html"
    result = CliRunner().invoke(
        app, ["explain", "workspace", "--model", "big", "--model", "small", "--html", str(path)]
    )
    assert result.exit_code == 0, result.output
    with browser.opened() as page:
        page.load(path, width=width)
        assert page.run("document.documentElement.scrollWidth") <= width
        row = f"document.querySelector('#{RETRIEVAL} details.fold')"
        page.run(f"document.querySelector('#{RETRIEVAL} details.more').open = true")
        assert not page.run(f"{row}.querySelector('ol').checkVisibility()")
        page.run(f"{row}.querySelector('summary').click()")
        assert page.run(
            f"[...{row}.querySelectorAll('ol')].map((one) => one.checkVisibility() && one.children.length)"
        ) == [5, 5]
        assert page.run("document.documentElement.scrollWidth") <= width
        assert not [one for one in page.reports() if one["method"] in ("Log", "Runtime.exceptionThrown")]
