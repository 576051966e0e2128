"""A mirror of made-up data sets in hub layout, under the names, revisions and sizes of mteb's smallest real tasks.

The sizes are those of mteb 2.26.24's descriptive statistics, because the kit refuses a data set of any other.
"""

from __future__ import annotations

import random
from pathlib import Path

import mteb
import pyarrow as pa
import pyarrow.parquet as pq

STS = "HUMESTS12"  # 50 pairs
CLASSIFICATION = "TelemarketingSalesRuleLegalBenchClassification"  # 4 training texts, 47 test texts
RETRIEVAL = "AILAStatutes"  # 50 queries, 82 documents, 217 qrels
RERANKING = "SyntecReranking"  # 100 queries, 1017 documents, each ranked for one query, 100 of them relevant
MULTILINGUAL = "SIB200Classification"  # a configuration a language; 701, 99 and 204 texts in each
TAGGED = "STS17"  # one configuration with a column that names the subset; 250 pairs in en-en and in es-es
SUBSETS = {MULTILINGUAL: ["eng_Latn", "fra_Latn"], TAGGED: ["en-en", "es-es"]}
TASKS = [STS, CLASSIFICATION, RETRIEVAL]
WORDS = [
    "one",
    "two",
    "three",
    "four",
    "yes",
    "no",
    "not",
    "the",
    "and",
    "for",
    "with",
    "from",
    "that",
    "this",
    "was",
    "are",
    "all",
    "any",
    "new",
    "old",
    "big",
    "low",
    "high",
    "far",
    "near",
]


def build(mirror: Path) -> Path:
    """Write all six data sets; the same bytes each time."""
    _pairs(folder(mirror, STS), {None: 50})
    _classification(folder(mirror, CLASSIFICATION))
    _retrieval(folder(mirror, RETRIEVAL))
    _reranking(folder(mirror, RERANKING))
    _pairs(folder(mirror, TAGGED), {"en-en": 250, "es-es": 250})
    _topics(folder(mirror, MULTILINGUAL), SUBSETS[MULTILINGUAL])
    return mirror


def build_pairs(mirror: Path) -> Path:
    """Write the smallest of them alone."""
    _pairs(folder(mirror, STS), {None: 50})
    return mirror


def folder(mirror: Path, task: str) -> Path:
    """Where a task's data set lies in a mirror."""
    published = mteb.get_task(task).metadata.dataset
    return mirror / "datasets" / published["path"] / published["revision"]


def write(path: Path, columns: dict[str, list[object]] | pa.Table) -> None:
    """One Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path)


def card(dataset: Path, configs: dict[str, dict[str, str]], features: str = "") -> None:
    """A README whose front matter says which files make which configuration and split."""
    lines = ["---", features, "configs:"] if features else ["---", "configs:"]
    for name, splits in configs.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split, pattern in splits.items():
            lines += [f"  - split: {split}", f"    path: {pattern}"]
    (dataset / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")


def text(generator: random.Random, words: int) -> str:
    """Made-up words."""
    return " ".join(generator.choices(WORDS, k=words))


def _pairs(dataset: Path, subsets: dict[str | None, int]) -> None:
    generator = random.Random(1)
    size = sum(subsets.values())
    columns: dict[str, list[object]] = {
        "sentence1": [text(generator, 6) for _ in range(size)],
        "sentence2": [text(generator, 6) for _ in range(size)],
        "score": [round(generator.uniform(0, 5), 2) for _ in range(size)],
    }
    if None not in subsets:
        columns["lang"] = [subset for subset, rows in subsets.items() for _ in range(rows)]
    write(dataset / "data" / "test.parquet", columns)
    card(dataset, {"default": {"test": "data/test.parquet"}})


def build_topics(mirror: Path, languages: list[str]) -> Path:
    """Write the multilingual one alone, in some languages; returns its folder."""
    _topics(folder(mirror, MULTILINGUAL), languages)
    return folder(mirror, MULTILINGUAL)


def _topics(dataset: Path, languages: list[str]) -> None:
    generator = random.Random(4)
    sizes = {"train": 701, "validation": 99, "test": 204}
    for language in languages:
        for split, size in sizes.items():
            labels = [row % 7 for row in range(size)]
            texts = [f"{WORDS[label]} {text(generator, 4)}" for label in labels]
            write(
                dataset / language / f"{split}.parquet",
                {"index_id": list(range(size)), "text": texts, "category": labels},
            )
    card(
        dataset,
        {name: {split: f"{name}/{split}.parquet" for split in sizes} for name in languages},
    )


def _classification(dataset: Path) -> None:
    generator = random.Random(2)
    for split, size in (("train", 4), ("test", 47)):
        labels = [row % 2 for row in range(size)]
        texts = [f"{'yes' if label else 'no'} {text(generator, 5)}" for label in labels]
        write(dataset / "data" / f"{split}.parquet", {"text": texts, "label": labels})
    features = "dataset_info:\n  features:\n  - name: text\n    dtype: string\n  - name: label\n    dtype:\n" + (
        "      class_label:\n        names:\n          '0': refused\n          '1': allowed"
    )
    card(dataset, {"default": {split: f"data/{split}.parquet" for split in ("train", "test")}}, features)


def _retrieval(dataset: Path) -> None:
    generator = random.Random(3)
    documents = [f"d{number}" for number in range(82)]
    queries = [f"q{number}" for number in range(50)]
    counts = [5] * 17 + [4] * 33  # 217 in all
    judged = zip(queries, counts, strict=True)
    pairs = [(query, document) for query, count in judged for document in generator.sample(documents, count)]
    write(
        dataset / "corpus" / "test.parquet",
        {
            "_id": documents,
            "title": [text(generator, 2) for _ in documents],
            "text": [text(generator, 20) for _ in documents],
        },
    )
    write(dataset / "queries" / "test.parquet", {"_id": queries, "text": [text(generator, 8) for _ in queries]})
    write(
        dataset / "qrels" / "test.parquet",
        {
            "query-id": [q for q, _ in pairs],
            "corpus-id": [d for _, d in pairs],
            "score": pa.array([1] * len(pairs), pa.int64()),
        },
    )
    card(
        dataset,
        {"corpus": {"test": "corpus/*"}, "queries": {"test": "queries/*"}, "default": {"test": "qrels/*"}},
    )


def _reranking(dataset: Path) -> None:
    generator = random.Random(4)
    queries = [f"q{number}" for number in range(100)]
    counts = [11] * 17 + [10] * 83  # 1017 in all
    documents = [f"d{number}" for number in range(sum(counts))]
    ranked, start = [], 0
    for count in counts:
        ranked.append(documents[start : start + count])
        start += count
    write(dataset / "corpus" / "test.parquet", {"_id": documents, "text": [text(generator, 20) for _ in documents]})
    write(dataset / "queries" / "test.parquet", {"_id": queries, "text": [text(generator, 8) for _ in queries]})
    relevant = [generator.choice(found) for found in ranked]
    scores = pa.array([1] * len(queries), pa.int64())
    write(dataset / "qrels" / "test.parquet", {"query-id": queries, "corpus-id": relevant, "score": scores})
    write(dataset / "top_ranked" / "test.parquet", {"query-id": queries, "corpus-ids": ranked})
    configs = {"corpus": "corpus", "queries": "queries", "default": "qrels", "top_ranked": "top_ranked"}
    card(dataset, {name: {"test": f"{folder}/*"} for name, folder in configs.items()})
