"""One's own files as tasks: the scores of the mteb tasks they came from, what is refused where, what is found."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

import tiny_mirror
from checkout import IDENTITY, small_project
from conftest import REPOSITORY, build_static_model
from embrepro.cli import app
from embrepro.config.compose import compose_values
from embrepro.config.schema import Config, parse_config
from embrepro.doctor import data_check as checking
from embrepro.errors import ConfigError, TaskError
from embrepro.layout import Layout
from embrepro.own_data import definition, reading
from embrepro.pipeline import download, encode, evaluate
from embrepro.pipeline.records import Record
from embrepro.tasks import freezing, main_scores, registry, samples
from tiny_mirror import CLASSIFICATION, RERANKING, RETRIEVAL, STS

REAL = (STS, CLASSIFICATION, RETRIEVAL, RERANKING)
Rows = Sequence[Mapping[str, Any]]


def write_jsonl(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_csv(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)


def define(name: str, **keys: object) -> Path:
    """A folder of `own-data` with a `task.yaml`; JSON is YAML."""
    folder = definition.FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.yaml").write_text(json.dumps({"languages": ["eng-Latn"], **keys}))
    return folder


def columns(data: Any, **names: str) -> list[dict[str, Any]]:
    """Rows of a data set of mteb's under other names."""
    return [dict(zip(names, row, strict=True)) for row in zip(*(data[name][:] for name in names.values()), strict=True)]


def rewrite(layout: Layout, config: Config) -> None:
    """The frozen data of mteb's tasks as a user's files, called `My...`."""
    requests = {request.name: request for request in registry.resolve(config.tasks)}
    tasks = {name: freezing.load_frozen(requests[name], layout.tasks / name).dataset for name in REAL}
    tasks = {name: data.get("default", data) for name, data in tasks.items()}

    pairs = columns(tasks[STS]["test"], sentence1="sentence1", sentence2="sentence2", score="score")
    write_csv(define(f"My{STS}", type="sts") / "test.csv", pairs)

    folder = define(f"My{CLASSIFICATION}", type="classification", columns={"text": "body"})
    for split in ("train", "test"):
        rows = pl.DataFrame(columns(tasks[CLASSIFICATION][split], body="text", label="label"))
        rows.write_parquet(folder / f"{split}.parquet")

    data = tasks[RETRIEVAL]["test"]
    folder = define(f"My{RETRIEVAL}", type="retrieval")
    write_jsonl(folder / "corpus.jsonl", columns(data["corpus"], _id="id", title="title", text="text"))
    write_csv(folder / "queries.csv", columns(data["queries"], _id="id", text="text"))
    write_csv(folder / "qrels" / "test.tsv", judgements(data["relevant_docs"]))

    data = tasks[RERANKING]["test"]
    texts = {side: dict(zip(data[side]["id"], data[side]["text"], strict=True)) for side in ("corpus", "queries")}
    ranked = [
        {
            "query": texts["queries"][query],
            "document": texts["corpus"][document],
            "relevance": data["relevant_docs"][query].get(document, 0),
        }
        for query, documents in data["top_ranked"].items()
        for document in documents
    ]
    write_jsonl(define(f"My{RERANKING}", type="reranking", languages=["fra-Latn"]) / "test.jsonl", ranked)


def judgements(relevant: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    return [
        {"query-id": query, "corpus-id": document, "score": score}
        for query, documents in relevant.items()
        for document, score in documents.items()
    ]


def configuration(sources: Path, names: Sequence[str]) -> Config:
    values = compose_values(["device.threads=1"], REPOSITORY / "conf")
    values["models"] = {"m": {"org": "test", "name": "m", "family": "static", "folder": str(sources / "model")}}
    values |= {"candidate": "m", "baseline": "m", "benchmarked": {}, "source": {"mirror": str(sources / "mirror")}}
    values["tasks"] = {"names": list(names)}
    return parse_config(values, "test")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror of mteb's tasks and a tiny static model."""
    root = tmp_path_factory.mktemp("sources")
    tiny_mirror.build(root / "mirror")
    build_static_model(root / "model", dimensions=16, seed=1)
    return root


@pytest.fixture(scope="module")
def scored(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Record]]:
    """A project whose own tasks are rewritten tasks of mteb's, scored beside them."""
    root, before = tmp_path_factory.mktemp("project"), Path.cwd()
    os.chdir(root)
    try:
        layout = Layout()
        download.run(configuration(sources, REAL), layout)
        rewrite(layout, configuration(sources, REAL))
        config = configuration(sources, [*REAL, *(f"My{name}" for name in REAL)])
        download.run(config, layout)
        encode.run(config, layout, "m")
        yield root, evaluate.run(config, layout, "m")
    finally:
        os.chdir(before)


@pytest.fixture
def project(scored: tuple[Path, Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A copy of that project, to change."""
    shutil.copytree(scored[0], tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return Layout()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", REAL)
def test_a_rewritten_task_of_mtebs_has_its_score(name: str, scored: tuple[Path, Record]) -> None:
    tasks = scored[1].tasks
    assert tasks[name].done, tasks[name].status
    assert tasks[f"My{name}"].done, tasks[f"My{name}"].status
    (folder,) = {path.parent for path in (scored[0] / "results").rglob("*.samples.parquet")}
    mine, theirs = (main_scores.path_of(folder, each) for each in (f"My{name}", name))
    assert main_scores.read_main_score(mine) == main_scores.read_main_score(theirs)
    mine, theirs = (samples.path_of(folder, each) for each in (f"My{name}", name))
    assert samples.read(mine).statistic == samples.read(theirs).statistic


def test_removed_lines_of_qrels_make_their_task_stale_and_no_other(project: Layout, sources: Path) -> None:
    mine = f"My{RETRIEVAL}"
    config = configuration(sources, [mine, STS, f"My{STS}"])
    before = download.run(config, project)
    path = definition.FOLDER / mine / "qrels" / "test.tsv"
    lines = path.read_text().splitlines(keepends=True)
    # The first judgement of 35 queries, each of which has others.
    gone = {next(row for row, line in enumerate(lines) if line.startswith(f"q{number}\t")) for number in range(35)}
    path.write_text("".join(line for row, line in enumerate(lines) if row not in gone))
    with pytest.raises(TaskError, match=r"Run: dvc repro download"):
        freezing.load_frozen(registry.resolve(config.tasks)[0], project.tasks / mine)
    kept = [(project.tasks / name / "manifest.json").stat().st_mtime_ns for name in (STS, f"My{STS}")]
    after = download.run(config, project)
    assert [name for name in after.tasks if after.tasks[name].key != before.tasks[name].key] == [mine]
    assert [(project.tasks / name / "manifest.json").stat().st_mtime_ns for name in (STS, f"My{STS}")] == kept
    assert freezing.read_manifest(project.tasks / mine).rows["default/test/qrels"] == 217 - 35


def test_malformed_files_stop_the_download_before_any_model_is_fetched(folder: Path, sources: Path) -> None:
    write_csv(define("Mine", type="sts") / "test.csv", [{"sentence1": "a", "sentence2": "b", "score": "high"}])
    with pytest.raises(ConfigError, match=r"own-data/Mine/test\.csv, line 2: score: expected a number, got 'high'"):
        download.run(configuration(sources, ["Mine"]), Layout())
    assert not Path("data/models").exists()


def test_a_folder_called_like_a_task_of_mtebs_is_refused(folder: Path) -> None:
    define("STS12", type="sts")
    with pytest.raises(ConfigError, match=r"own-data/STS12 is called like a task that there is already"):
        registry.find("STS12")


def test_a_misspelt_name_is_answered_with_ones_own_tasks_too(folder: Path) -> None:
    define("SupportSearch", type="retrieval")
    with pytest.raises(ConfigError, match="did you mean SupportSearch"):
        registry.find("SupportSerch")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"type": "search"}, "type"),
        ({"type": "sts", "splitz": ["test"]}, "splits"),
        ({"type": "sts", "languages": ["english"]}, "languages"),
        ({"type": "sts", "licence": "mine"}, "licence"),
        ({"type": "sts", "columns": {"sentence3": "x"}}, "no 'sentence3'.*sentence1"),
        ({"type": "bitext", "settings": {"n_clusters": 2}}, "no 'n_clusters'"),
    ],
)
def test_a_definition_is_refused_by_the_key_that_is_wrong(keys: dict[str, Any], said: str, folder: Path) -> None:
    define("Mine", **keys)
    with pytest.raises(ConfigError, match=rf"(?s)own-data/Mine/task\.yaml.*{said}"):
        registry.find("Mine")


def corpus(path: Path) -> None:
    write_jsonl(path / "corpus.jsonl", [{"_id": "d1", "text": "one"}, {"_id": "d2", "text": "two"}])
    write_jsonl(path / "queries.jsonl", [{"_id": "q1", "text": "1"}, {"_id": "q2", "text": "2"}])
    write_csv(path / "qrels" / "test.tsv", [{"query-id": f"q{n}", "corpus-id": f"d{n}", "score": 1} for n in (1, 2)])


def appended(name: str, line: str) -> Callable[[Path], None]:
    def append(path: Path) -> None:
        with (path / name).open("a") as file:
            file.write(line)

    return append


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (appended("corpus.jsonl", '{"_id": "d3"}\n'), "corpus.jsonl, line 3: text: no such column; there are _id"),
        (appended("corpus.jsonl", "{\n"), "corpus.jsonl, line 3: expected a JSON object"),
        (appended("corpus.jsonl", '{"_id": "d1", "text": "x"}\n'), "corpus.jsonl, line 3: _id 'd1' stands in line 1 already"),
        (appended("corpus.jsonl", '{"_id": "d3", "text": null}\n'), "corpus.jsonl, line 3: text: expected a text, got None"),
        (appended("queries.jsonl", '{"_id": "q3", "text": "3"}\n'), "queries.jsonl, line 3: query 'q3' stands in no file of"),
        (appended("qrels/test.tsv", "q1\td9\t1\n"), "qrels/test.tsv, line 4: corpus-id 'd9' is not in"),
        (appended("qrels/test.tsv", "q9\td1\t1\n"), "qrels/test.tsv, line 4: query-id 'q9' is not in"),
        (appended("qrels/test.tsv", "q1\td1\t1\n"), "qrels/test.tsv, line 4: this pair stands in line 2 already"),
        (appended("qrels/test.tsv", "q1\td2\t0.5\n"), "qrels/test.tsv, line 4: score: expected a whole number"),
        (appended("qrels/test.tsv", "q1\td2\n"), "qrels/test.tsv, line 4: expected 3 fields, as the first line has, got 2"),
        (lambda path: (path / "corpus.jsonl").write_bytes(b'{"_id": "d1", "text": "\xff"}\n'), "line 1: expected UTF-8"),
        (lambda path: (path / "corpus.jsonl").write_text(""), "corpus.jsonl has no rows"),
        (lambda path: (path / "corpus.jsonl").rename(path / "corpus.json"), "corpus{.jsonl,.csv,.tsv,.parquet}, found none"),
        (lambda path: (path / "corpus.csv").write_text("_id,text\n"), "found corpus.jsonl and corpus.csv"),
        (lambda path: (path / "qrels" / "test.tsv").rename(path / "qrels" / "dev.tsv"), "qrels/test{"),
    ],
)  # fmt: skip
def test_malformed_retrieval_files_are_refused_with_file_and_line(
    spoil: Callable[[Path], object], said: str, folder: Path
) -> None:
    path = define("Mine", type="retrieval")
    corpus(path)
    assert len(reading.read("Mine", definition.read("Mine")).splits["test"]) == 2
    spoil(path)
    with pytest.raises(ConfigError, match=re.escape(said)):
        reading.read("Mine", definition.read("Mine"))


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("pair-classification", "sentence1,sentence2,label\na,b,2\n", "line 2: label: expected 1 for a pair"),
        ("clustering", 'text,label\n"a\nb",x\nc,\n', "line 4: label: expected a label"),
        ("clustering", 'text,label\n"a\n', "line 2: unexpected end of data"),
        ("clustering", "text,text\na,b\n", "line 1: the column text stands twice"),
        ("sts", "sentence1,sentence2,score\na,b,nan\n", "line 2: score: expected a number"),
        (
            "reranking",
            "query,document,relevance\nq,d,0\n",
            "line 2: query 'q' has no document with a relevance above 0",
        ),
        ("reranking", "query,document,relevance\nq,d,1\nq,d,0\n", "line 3: this pair stands in line 2 already"),
    ],
)
def test_malformed_tables_are_refused_with_file_and_line(kind: str, text: str, said: str, folder: Path) -> None:
    (define("Mine", type=kind) / "test.csv").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f"own-data/Mine/test.csv, {said}")):
        reading.read("Mine", definition.read("Mine"))


def test_labels_of_csv_are_numbers_where_all_can_be(folder: Path) -> None:
    path = define("Mine", type="classification")
    (path / "train.csv").write_text("text,label\na,1\nb,10\n")
    (path / "test.csv").write_text("text,label\nc,2\n")
    assert reading.read("Mine", definition.read("Mine")).splits["train"].columns["label"] == [1, 10]
    (path / "test.csv").write_text("text,label\nc,07\n")
    assert reading.read("Mine", definition.read("Mine")).splits["train"].columns["label"] == ["1", "10"]
    (path / "test.csv").unlink()
    write_jsonl(path / "test.jsonl", [{"text": "c", "label": "x"}, {"text": "d", "label": 3}])
    with pytest.raises(ConfigError, match=r"test\.jsonl, line 2: label: 3 is a number, but other labels are texts"):
        reading.read("Mine", definition.read("Mine"))


def test_check_data_finds_what_is_well_formed_and_wrong(folder: Path) -> None:
    path = define("Mine", type="classification")
    train = [("a", "x"), ("a", "x"), ("b", "x"), ("b", "y"), ("c", "y"), (" ", "y"), ("d", "z")]
    write_csv(path / "train.csv", [{"text": text, "label": label} for text, label in train])
    write_csv(
        path / "test.csv", [{"text": text, "label": label} for text, label in [("a", "x"), ("e", "w"), ("f", "x")]]
    )
    found = {(each.severity, each.where.rpartition("/")[2], each.what) for each in checking.check("Mine")}
    assert found == {
        ("warning", "train.csv, line 7", "text: 1 empty text"),
        ("warning", "train.csv, line 3", "1 duplicate of an earlier text (this one of line 2)"),
        ("error", "train.csv, line 5", "1 duplicate of an earlier text with another label (this one of line 4)"),
        ("error", "test.csv, line 2", "1 of 3 rows of test stand in train too"),
        ("warning", "train.csv, line 8", "1 label that occur once, such as 'z'"),
        ("warning", "test.csv, line 3", "1 label that occur once, such as 'w'"),
        ("error", "test.csv, line 3", "1 of 3 rows of test have a label that train lacks, such as 'w'"),
    }


def test_check_data_looks_at_both_sides_of_a_search(folder: Path) -> None:
    path = define("Mine", type="retrieval", splits=["test", "dev"], unjudged_queries="drop")
    corpus(path)
    appended("corpus.jsonl", '{"_id": "d3", "text": "one"}\n')(path)
    appended("queries.jsonl", '{"_id": "q3", "text": ""}\n')(path)
    write_csv(path / "qrels" / "dev.tsv", [{"query-id": "q1", "corpus-id": "d2", "score": 1}])
    whats = [concern.what for concern in checking.check("Mine")]
    assert "1 duplicate of an earlier title and text (this one of line 1)" in whats
    assert "text: 1 empty text" in whats
    assert "1 of 3 queries have no qrels and are left out" in whats
    assert "1 query of dev stand in test too" in whats


def test_check_data_ends_with_1_where_something_is_wrong(folder: Path) -> None:
    path = define("Mine", type="bitext")
    write_jsonl(path / "test.jsonl", [{"sentence1": "ja", "sentence2": "yes"}])
    assert CliRunner().invoke(app, ["check-data"]).exit_code == 0
    appended("test.jsonl", "[]\n")(path)
    done = CliRunner().invoke(app, ["check-data", "Mine"])
    assert done.exit_code == 1
    assert "line 2: expected a JSON object" in " ".join(done.output.split())


@pytest.mark.slow
def test_the_page_takes_a_newcomer_from_a_folder_to_a_report(tmp_path: Path) -> None:
    project = small_project(tmp_path / "kit")
    page = (REPOSITORY / "docs" / "own-data.md").read_text(encoding="utf-8")
    commands = "\n".join(re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], cwd=project.folder, env=project.environment | IDENTITY,
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((project.folder / "reports" / "summary.json").read_text())
    (task,) = summary["tasks"]
    assert task["name"] == "SupportSearch"
    assert task["revision"] == definition.revision("SupportSearch", project.folder / "own-data")
    assert all(cell["score"] is not None for cell in task["cells"].values())
    assert "SupportSearch" in (project.folder / "reports" / "report.html").read_text()
    lock = (project.folder / "dvc.lock").read_text()
    assert "own-data" in lock
