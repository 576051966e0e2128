"""The files of `conf/model`: pinned or marked, what is published of each, and how they are listed and chosen.

Published figures are of sentence-transformers' documentation at commit cad21198, as their sources in the files say.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from conftest import REPOSITORY
from embrepro.catalogue import choosing, listing, pages
from embrepro.catalogue.listing import CatalogueEntry
from embrepro.cli import app
from embrepro.config.model_files import FIGURES, read_model_file, read_model_files
from embrepro.errors import ConfigError
from embrepro.pipeline import pin
from embrepro.rendering import render_html, render_markdown

FILES = read_model_files(REPOSITORY / "conf")
ENTRIES = [CatalogueEntry(file) for file in FILES.values()]
NAMED = {
    "all-mpnet-base-v2", "all-MiniLM-L6-v2", "paraphrase-mpnet-base-v2", "multi-qa-mpnet-base-cos-v1",
    "msmarco-distilbert-dot-v5", "bge-large-en", "bge-large-en-v1.5", "splade-cocondenser-ensembledistil",
    "Splade_PP_en_v1", "ms-marco-TinyBERT-L2-v2", "ms-marco-MiniLM-L6-v2", "all-distilroberta-v1",
}  # fmt: skip


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(REPOSITORY)
    return CliRunner()


def test_every_model_that_the_documents_name_has_a_file_and_a_name_of_its_own() -> None:
    names = [file.model.name for file in FILES.values()]
    assert set(names) >= NAMED
    assert len({file.model.full_name for file in FILES.values()}) == len(FILES)
    assert (
        sum(file.model.family == "dense" and "sentence_performance" in figures(file.key) for file in FILES.values())
        == 36
    )
    assert (
        sum(file.model.family == "static" and "sentence_performance" in figures(file.key) for file in FILES.values())
        == 2
    )


def figures(key: str) -> dict[str, float]:
    published = FILES[key].published
    return {name: figure.value for name, figure in published.figures.items()} if published else {}


def test_figures_are_the_documentations() -> None:
    assert figures("mpnet") | {"sentence_performance": 69.57, "semantic_search": 57.02} == figures("mpnet")
    assert figures("mpnet")["sentences_per_second_v100"] == 2800
    assert figures("minilm")["sentences_per_second_v100"] == 14200
    assert figures("multi_qa_mpnet_base_cos_v1")["queries_per_second_gpu"] == 4000
    assert figures("multi_qa_mpnet_base_cos_v1")["documents_per_second_cpu"] == 30
    assert figures("ms_marco_tinybert_l2_v2") == {
        "trec_dl_2019_ndcg_at_10": 69.84,
        "msmarco_dev_mrr_at_10": 32.56,
        "pairs_per_second_v100": 9000,
    }
    assert figures("splade_pp_en_v1") == {"msmarco_dev_mrr_at_10": 37.2, "beir_13_ndcg_at_10": 48.7}
    published = FILES["msmarco_distilbert_dot_v5"].published
    assert published and (published.dimensions, published.score_functions) == (768, ["dot"])


def test_a_model_is_pinned_or_says_that_it_is_not() -> None:
    for file in FILES.values():
        text = (REPOSITORY / "conf" / "model" / f"{file.key}.yaml").read_text(encoding="utf-8")
        assert file.pinned or f"Unpinned: `embrepro pin {file.key}`" in text, file.key
        assert text.startswith("# @package _global_\n")


def test_pin_can_write_into_every_file_that_is_unpinned() -> None:
    for file in FILES.values():
        if not file.pinned:
            path = REPOSITORY / "conf" / "model" / f"{file.key}.yaml"
            weights = yaml.safe_load(pin._with_pins(path, file.key, "f" * 40, {"model.safetensors": "a" * 64}))
            assert weights["models"][file.key]["weights"]["revision"] == "f" * 40
            assert "published" in weights["models"][file.key]


@pytest.mark.parametrize(
    ("part", "complaint"),
    [
        ("figures: {sentence_perfomance: {value: 1, source: abc}}", "did you mean sentence_performance"),
        ("figures: {semantic_search: {value: 1}}", "source: this key is needed"),
        ("dimension: 3", "unknown key; did you mean dimensions"),
    ],
)
def test_a_faulty_publication_is_refused(tmp_path: Path, part: str, complaint: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"models:\n  mine:\n    org: a\n    name: b\n    family: static\n    folder: c\n"
        f"    published:\n      source: somewhere\n      {part}\n"
    )
    with pytest.raises(ConfigError, match=complaint):
        read_model_file(path)


def keys(entries: list[CatalogueEntry]) -> list[str]:
    return [entry.file.key for entry in entries]


def test_conditions_keep_what_meets_them_all_and_drop_what_is_not_known() -> None:
    found = keys(listing.keep(ENTRIES, ["dimensions<=384", "sentence_performance > 68.5", "family=dense"]))
    assert found == ["all_minilm_l12_v1", "all_minilm_l12_v2"]
    assert "ms_marco_minilm" not in keys(listing.keep(ENTRIES, ["dimensions<=384"])), "it has no embeddings"
    assert "bge_large_en" in keys(listing.keep(ENTRIES, ["licence=MIT", "pinned=yes"]))
    assert set(keys(listing.keep(ENTRIES, ["score_functions=euclidean"]))) < set(
        keys(listing.keep(ENTRIES, ["score_functions=dot"]))
    )


@pytest.mark.parametrize(
    ("condition", "complaint"),
    [
        ("dimension<=384", "called 'dimension'; did you mean dimensions"),
        ("dimensions<=few", "takes a number; got 'few'"),
        ("dimensions", "expected a name, one of"),
    ],
)
def test_a_condition_that_cannot_be_read_says_what_is_expected(condition: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        listing.keep(ENTRIES, [condition])


def test_figures_sort_from_the_best_and_sizes_from_the_smallest_unknown_ones_last() -> None:
    by_quality = listing.order(ENTRIES, "sentence_performance")
    assert keys(by_quality)[:2] == ["sentence_t5_xxl", "gtr_t5_xxl"]
    assert by_quality[-1].value("sentence_performance") is None
    assert keys(listing.order(ENTRIES, "size_mb"))[0] == "paraphrase_albert_small_v2"
    assert keys(listing.order(ENTRIES, "size_mb", reverse=True))[0].endswith("t5_xxl")


def test_the_page_of_models_is_what_the_files_say() -> None:
    page = (REPOSITORY / "docs" / "models.md").read_text(encoding="utf-8")
    assert page == render_markdown.render(pages.models_page(ENTRIES)), "stale: embrepro models --write docs/models.md"


def test_a_measured_value_stands_in_a_column_of_its_own() -> None:
    measured = {"mean_task": 46.87, "texts_per_second_short": 1500.0}
    entries = [CatalogueEntry(FILES["minilm"], measured), CatalogueEntry(FILES["mpnet"])]
    (table,) = pages.models_page(entries).sections[0].tables
    by_title = {column.title: place for place, column in enumerate(table.columns)}
    assert table.columns[by_title["Measured mean score"]].note == "points, last run"
    assert table.columns[by_title["Sentence performance"]].note == "published"
    assert [row[by_title["Measured mean score"]].text for row in table.rows] == ["46.87", "\u2013"]
    assert keys(listing.order(entries, "measured.mean_task")) == ["minilm", "mpnet"]
    html = render_html.render(pages.models_page(entries))
    assert "Measured mean score" in html


def test_the_last_runs_values_belong_to_the_model_of_that_name(run: CliRunner) -> None:
    found = {entry.file.key: entry for entry in listing.catalogue(REPOSITORY / "conf", REPOSITORY / "reports")}
    metrics = json.loads((REPOSITORY / "reports" / "metrics.json").read_text())["models"]["minilm"]
    assert found["minilm"].measured["mean_task"] == pytest.approx(100 * metrics["mean_task"])
    assert found["mpnet"].measured == {}


def test_models_prints_json_with_published_and_measured_apart(run: CliRunner) -> None:
    result = run.invoke(app, ["models", "--json", "--where", "family=cross-encoder", "--sort", "pairs_per_second_v100"])
    assert result.exit_code == 0
    first = json.loads(result.stdout)[0]
    assert first["model"] in ("ms_marco_tinybert_l2_v2", "ms_marco_tinybert_l2")
    assert first["published"]["figures"]["pairs_per_second_v100"]["value"] == 9000
    assert "pre" not in first and first["measured"] is None


# --- The decision tree

TREE = choosing.read_tree("overview", REPOSITORY / "conf" / "documents" / "choice")


def test_the_tree_leads_to_the_models_that_the_overview_names() -> None:
    ends = {
        ("similarity", "speed"): "minilm",
        ("similarity", "quality"): "mpnet",
        ("retrieval", "english"): "splade_cocondenser_ensembledistil",
        ("ranking", "general"): "ms_marco_minilm",
        ("ranking", "specific"): "msmarco_distilbert_dot_v5",
    }
    for words, key in ends.items():
        assert choosing.walk(TREE, words).last.models[0] == key
    assert set(TREE.models()) <= set(FILES)
    assert choosing.walk(TREE, ("retrieval", "multilingual")).last.models == []


def test_choose_says_the_way_the_reason_and_what_is_published(run: CliRunner) -> None:
    shown = run.invoke(app, ["choose", "similarity", "quality"])
    assert shown.exit_code == 0
    assert "What matters most?" in shown.stdout
    assert (
        "mpnet: the overview's general embeddings, of the best quality; published: Sentence performance 69.6"
        in shown.stdout
    )
    as_json = json.loads(run.invoke(app, ["choose", "ranking", "general", "--json"]).stdout)
    assert [each["model"] for each in as_json["models"]] == ["ms_marco_minilm", "ms_marco_tinybert_l2_v2"]


def test_choose_without_a_terminal_names_the_open_question_and_its_answers(run: CliRunner) -> None:
    result = run.invoke(app, ["choose", "retrieval"])
    assert result.exit_code == 2
    assert "Which language?" in result.output and "multilingual" in result.output


def test_choose_asks_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from embrepro.cli import models

    given = iter(["x", "2"])
    monkeypatch.setattr(models.typer, "prompt", lambda _: next(given))
    assert models._ask(TREE.questions["language"]) == "multilingual"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("reranking",), "'reranking' is no answer; did you mean ranking"),
        (("similarity", "speed", "now"), "'now' answers nothing"),
    ],
)
def test_a_wrong_answer_names_the_right_ones(words: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        choosing.walk(TREE, words)


def test_a_tree_with_a_loop_or_a_lost_question_is_refused() -> None:
    values = TREE.model_dump()
    values["questions"]["domain"]["answers"]["general"] = {"says": "again", "question": "use_case"}
    with pytest.raises(ValueError, match="reached in two ways"):
        choosing.DecisionTree.model_validate(values)
    values = TREE.model_dump()
    del values["questions"]["use_case"]["answers"]["ranking"]
    with pytest.raises(ValueError, match="no answer leads to question 'domain'"):
        choosing.DecisionTree.model_validate(values)


def test_every_kind_of_figure_is_used() -> None:
    assert set(FIGURES) == {name for file in FILES.values() for name in figures(file.key)}
