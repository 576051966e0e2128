"""NanoBEIR beside sentence-transformers' own evaluators, run directly on the same data with the same models.

The data is made up, in the sizes of mteb 2.26.24's statistics, once in mteb's layout and once in NanoBEIR's own.
"""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pyarrow as pa
import pytest

import embrepro.models
import tiny_mirror
from conftest import REPOSITORY, build_cross_encoder, build_dense_model, build_sparse_model, build_static_model
from embrepro.config.compose import compose_values
from embrepro.config.nanobeir import TASKS
from embrepro.config.schema import Config, parse_config
from embrepro.embeddings import nanobeir as evaluators
from embrepro.errors import ConfigError
from embrepro.layout import Layout
from embrepro.pipeline import aggregate, download, encode, evaluate
from embrepro.pipeline.records import Record
from embrepro.rendering import render_markdown
from embrepro.report import run_report
from embrepro.results import provenance
from embrepro.tasks import nanobeir, registry

SCIDOCS, SCIFACT = "NanoSCIDOCSRetrieval", "NanoSciFactRetrieval"
SPLITS = {SCIDOCS: "NanoSCIDOCS", SCIFACT: "NanoSciFact"}
PROMPTS = {"scidocs": "one two ", "scifact": "the "}
FAMILIES = {"dense": "dense", "static": "static", "sparse": "sparse", "reranker": "cross-encoder"}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror with two data sets, the same data in NanoBEIR's layout, and a model of each family."""
    root = tmp_path_factory.mktemp("nano")
    configs: dict[str, dict[str, str]] = {name: {} for name in ("corpus", "queries", "qrels")}
    for number, (task, split) in enumerate(SPLITS.items()):
        parts = made_up(task, random.Random(number))
        dataset = tiny_mirror.folder(root / "mirror", task)
        for part, table in parts.items():
            tiny_mirror.write(dataset / part / "train.parquet", table)
            without_scores = table.drop_columns(["score"]) if part == "qrels" else table
            tiny_mirror.write(root / "nano" / part / f"{split}.parquet", without_scores)
            configs[part][split] = f"{part}/{split}.parquet"
        tiny_mirror.card(
            dataset,
            {"corpus": {"train": "corpus/*"}, "queries": {"train": "queries/*"}, "default": {"train": "qrels/*"}},
        )
    tiny_mirror.card(root / "nano", configs)
    build_static_model(root / "static")
    build_dense_model(root / "dense")
    build_sparse_model(root / "sparse")
    build_cross_encoder(root / "reranker")
    return root


def made_up(task: str, generator: random.Random) -> dict[str, pa.Table]:
    statistics: Any = mteb.get_task(task).metadata.descriptive_stats
    found = statistics["train"]
    documents = [f"d{number}" for number in range(found["num_documents"])]
    queries = [f"q{number}" for number in range(found["num_queries"])]
    counts = [1] * len(queries)
    for place in range(found["relevant_docs_statistics"]["num_relevant_docs"] - len(queries)):
        counts[place % len(queries)] += 1
    texts = [tiny_mirror.text(generator, 12) for _ in documents]
    asked = [f"{generator.choice(texts)} {tiny_mirror.text(generator, 3)}" for _ in queries]
    near = {query: generator.sample(documents, count) for query, count in zip(queries, counts, strict=True)}
    for query, text in zip(queries, asked, strict=True):  # so that some are found
        near[query][0] = documents[texts.index(" ".join(text.split()[:12]))]
    pairs = [(query, document) for query in queries for document in dict.fromkeys(near[query])]
    missing = sum(counts) - len(pairs)
    assert not missing, "a document was drawn twice; take another seed"
    return {
        "corpus": pa.table({"_id": documents, "text": texts}),
        "queries": pa.table({"_id": queries, "text": asked}),
        "qrels": pa.table(
            {
                "query-id": [query for query, _ in pairs],
                "corpus-id": [document for _, document in pairs],
                "score": pa.array([1] * len(pairs), pa.int64()),
            }
        ),
    }


def configuration(sources: Path, *models: str, settings: dict[str, Any] | None = None, **changes: Any) -> Config:
    composed = compose_values(["device.threads=1", "tasks=nanobeir"], REPOSITORY / "conf")
    composed["models"] = {
        name: {"org": "test", "name": name, "family": FAMILIES[name], "folder": str(sources / name)} for name in models
    }
    composed["models"][models[0]] |= changes
    composed |= {
        "candidate": models[0],
        "baseline": models[0],
        "benchmarked": {},
        "source": {"mirror": str(sources / "mirror")},
    }
    composed["tasks"]["nanobeir"] |= {"dataset_names": ["scidocs", "scifact"], **(settings or {})}
    return parse_config(composed, "test")


def run(config: Config, layout: Layout) -> dict[str, dict[str, Any]]:
    """The stages up to evaluate; what became of NanoBEIR for each model."""
    download.run(config, layout)
    for key in config.models:
        encode.run(config, layout, key)
        evaluate.run(config, layout, key)
    return {key: Record.read(layout.evaluate_record(key)).details["nanobeir"] for key in config.models}


def loaded(sources: Path, config: Config, name: str) -> Any:
    return embrepro.models.load(sources / name, config.models[name], config.device)


def equal(found: dict[str, float], expected: dict[str, float], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=tolerance), name


@pytest.mark.slow
def test_a_dense_model_with_prompts_gets_what_the_library_gives_it(sources: Path, tmp_path: Path) -> None:
    from sentence_transformers import SimilarityFunction
    from sentence_transformers.sentence_transformer.evaluation import NanoBEIREvaluator

    settings: dict[str, Any] = {
        "dataset_names": ["SciDocs", "scifact"],
        "score_functions": ["cosine", "dot", "euclidean"],
        "main_score_function": "euclidean",
        "mrr_at_k": [1, 10],
        "ndcg_at_k": [3, 10],
        "map_at_k": [5, 100],
        "aggregate_fn": "median",
        "aggregate_key": "middle",
        "query_prompts": PROMPTS,
        "corpus_prompts": "two ",
    }
    config = configuration(sources, "dense", settings=settings)
    layout = Layout(tmp_path)
    found = run(config, layout)["dense"]
    evaluator = NanoBEIREvaluator(
        ["scidocs", "scifact"],
        dataset_id=str(sources / "nano"),
        score_functions={name: SimilarityFunction.to_similarity_fn(name) for name in ("cosine", "dot", "euclidean")},
        main_score_function="euclidean",
        mrr_at_k=[1, 10],
        ndcg_at_k=[3, 10],
        map_at_k=[5, 100],
        aggregate_fn=np.median,
        aggregate_key="middle",
        query_prompts=PROMPTS,
        corpus_prompts="two ",
    )
    expected = evaluator(loaded(sources, config, "dense"), output_path=str(tmp_path / "library"))
    details = found["details"]
    equal(details["scores"], expected, 1e-6)
    assert details["primary_metric"] == evaluator.primary_metric == "NanoBEIR_middle_euclidean_ndcg@10"
    assert details["evaluator"] == "NanoBEIREvaluator"
    assert {"NanoSCIDOCS_cosine_accuracy@3", "NanoSciFact_dot_map@5", "NanoBEIR_middle_cosine_mrr@1"} <= expected.keys()
    folder = layout.results(config.models["dense"])
    for name in found["files"]:
        (ours,) = folder.glob(f"*/{name}")
        written = list(csv.reader(ours.open()))
        theirs = list(csv.reader((tmp_path / "library" / ours.name).open()))
        assert written[0] == theirs[0]
        assert [float(value) for value in written[1]] == pytest.approx([float(value) for value in theirs[1]], abs=1e-6)
    assert len(found["files"]) == 3


@pytest.mark.slow
def test_a_half_precision_static_model_gets_it_to_the_last_bit_and_only_once(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers.sentence_transformer.evaluation import NanoBEIREvaluator

    config = configuration(sources, "static", settings={"write_csv": False})
    layout = Layout(tmp_path)
    found = run(config, layout)["static"]
    expected = NanoBEIREvaluator(["scidocs", "scifact"], dataset_id=str(sources / "nano"))(
        loaded(sources, config, "static")
    )
    assert found["details"]["scores"] == {name: float(value) for name, value in expected.items()}
    assert found["files"] == {}
    monkeypatch.setattr(evaluators, "evaluate", lambda *_, **__: pytest.fail("what is kept was evaluated again"))
    evaluate.run(config, layout, "static")
    assert Record.read(layout.evaluate_record("static")).details["nanobeir"] == found
    aggregate.run(config, layout)
    metrics = json.loads((layout.reports / "metrics.json").read_text())["models"]["static"]
    assert metrics["nanobeir"] == found["details"]["scores"]


@pytest.mark.slow
def test_a_sparse_model_with_a_limit_gets_what_the_library_gives_it(sources: Path, tmp_path: Path) -> None:
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.evaluation import SparseNanoBEIREvaluator

    config = configuration(sources, "sparse", max_active_dims=6)
    layout = Layout(tmp_path)
    found = run(config, layout)["sparse"]["details"]
    evaluator = SparseNanoBEIREvaluator(
        ["scidocs", "scifact"], dataset_id=str(sources / "nano"), max_active_dims=6, write_csv=False
    )
    expected = evaluator(SparseEncoder(str(sources / "sparse"), device="cpu"))
    equal(found["scores"], expected, 1e-6)
    assert found["primary_metric"] == "NanoBEIR_mean_6_dot_ndcg@10"
    assert found["scores"]["NanoSCIDOCS_6_query_active_dims"] <= 6
    assert found["scores"]["NanoBEIR_mean_6_corpus_sparsity_ratio"] > 0.9
    summary = aggregate.run(config, layout)
    rows = {(row.task, row.prompt): row for row in summary.sparsity}
    for task, split in SPLITS.items():
        for prompt, theirs in (("query", "query"), ("document", "corpus")):
            row = rows[task, prompt]
            assert row.active_dimensions == pytest.approx(found["scores"][f"{split}_6_{theirs}_active_dims"], abs=0.02)
            assert row.sparsity == pytest.approx(found["scores"][f"{split}_6_{theirs}_sparsity_ratio"], abs=1e-4)
            assert row.index_mb == pytest.approx(row.texts * row.active_dimensions * 8 / 1e6)
    card = summary.models["sparse"]
    assert card.index_mb["document"] == pytest.approx(sum(rows[task, "document"].index_mb for task in SPLITS))
    metrics = json.loads((layout.reports / "metrics.json").read_text())["models"]["sparse"]
    assert metrics["sparsity"][SCIDOCS]["query"]["active_dimensions"] <= 6
    shown = render_markdown.render(
        run_report.build(summary, provenance.collect(tmp_path, device="cpu", threads=1), None)
    )
    assert "NanoBEIR as a whole, every metric at every cut-off" in shown
    assert "`dot_ndcg@10`" in shown
    assert "NanoSCIDOCS_6" in shown
    assert "Sparse embeddings of each task's distinct texts" in shown


@pytest.mark.slow
def test_a_cross_encoder_gets_what_the_library_gives_it(sources: Path, tmp_path: Path) -> None:
    from sentence_transformers.cross_encoder.evaluation import CrossEncoderNanoBEIREvaluator

    layout = Layout(tmp_path)
    found = {}
    for always in (True, False):
        config = configuration(sources, "reranker", settings={"at_k": 5, "always_rerank_positives": always})
        config = config.model_copy(update={"tasks": config.tasks.model_copy(update={"rerank": 7})})
        found[always] = run(config, layout)["reranker"]["details"]
    nano = tmp_path / "nano"
    configs: dict[str, dict[str, str]] = {}
    for part in ("corpus", "queries", "qrels", "bm25"):
        for task, split in SPLITS.items():
            configs.setdefault(part, {})[split] = f"{part}/{split}.parquet"
            if part != "bm25":
                (nano / part).mkdir(parents=True, exist_ok=True)
                (nano / part / f"{split}.parquet").symlink_to(sources / "nano" / part / f"{split}.parquet")
                continue
            ranking = nanobeir.bm25(layout.tasks / task)
            tiny_mirror.write(
                nano / part / f"{split}.parquet",
                {"query-id": list(ranking), "corpus-ids": list(ranking.values())},
            )
    tiny_mirror.card(nano, configs)
    for always, details in found.items():
        evaluator = CrossEncoderNanoBEIREvaluator(
            ["scidocs", "scifact"],
            dataset_id=str(nano),
            rerank_k=7,
            at_k=5,
            always_rerank_positives=always,
            write_csv=False,
        )
        equal(details["scores"], evaluator(loaded(sources, config, "reranker")), 1e-6)
        assert details["primary_metric"] == evaluator.primary_metric == "NanoBEIR_R7_mean_ndcg@5"
    assert found[True]["scores"] != found[False]["scores"]


def test_a_lost_data_set_takes_the_aggregate_with_it_and_nothing_else(sources: Path, tmp_path: Path) -> None:
    config = configuration(sources, "static", settings={"dataset_names": ["scidocs", "nq"]})
    found = run(config, Layout(tmp_path))["static"]
    assert found["status"].startswith(
        "no aggregate, because NanoNQRetrieval has no score: data set mteb/NanoNQRetrieval"
    )
    assert "NanoSCIDOCS_cosine_ndcg@10" in found["details"]["scores"]
    assert not [name for name in found["details"]["scores"] if name.startswith("NanoBEIR_")]
    assert list(found["files"]) == ["nanobeir/Information-Retrieval_evaluation_NanoSCIDOCS_results.csv"]


def test_short_names_are_the_librarys_and_each_has_its_task() -> None:
    from sentence_transformers.sentence_transformer.evaluation.nano_beir import DATASET_NAME_TO_HUMAN_READABLE

    assert list(TASKS) == list(DATASET_NAME_TO_HUMAN_READABLE)
    assert set(TASKS.values()) == {task.metadata.name for task in mteb.get_benchmark("NanoBEIR").tasks}
    for short, readable in DATASET_NAME_TO_HUMAN_READABLE.items():
        assert readable.removesuffix("Retrieval").lower() in TASKS[short].lower()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"dataset_names": ["msmarcos"]}, "NanoBEIR has no data set 'msmarcos'; did you mean msmarco"),
        ({"dataset_names": ["nq", "NQ"]}, "each data set once"),
        ({"query_prompts": {"scidocs": "x"}}, "query_prompts has no prompt for scifact"),
        ({"score_functions": ["dot"], "main_score_function": "cosine"}, "main_score_function cosine is none of"),
        ({"aggregate_key": "my_mean"}, "aggregate_key"),
        ({"map_at_k": []}, "map_at_k"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(sources: Path, settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        configuration(sources, "static", settings=settings)


def test_the_data_sets_are_asked_for_beside_other_tasks() -> None:
    values = compose_values(["tasks=nanobeir", "tasks.nanobeir.dataset_names=[nq]"], REPOSITORY / "conf")
    values["tasks"]["names"] = ["STS12", "NanoNQRetrieval"]
    requested = registry.resolve(parse_config(values, "test").tasks)
    assert [each.name for each in requested] == ["STS12", "NanoNQRetrieval"]
