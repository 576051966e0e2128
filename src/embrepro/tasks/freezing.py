"""A task's data, frozen: what mteb loads and transforms, written once to Parquet with a manifest that pins every file.

`freeze` needs a source; `load_frozen` needs nothing but the folder, and refuses files whose SHA-256 is not the manifest's.

Layout of a frozen task::

    <task>/manifest.json
    <task>/data/<subset>/<split>.parquet              classification, STS, clustering, ...
    <task>/data/<subset>/<split>/corpus.parquet       retrieval and reranking, with queries, qrels, top_ranked
    <task>/requests.parquet, texts.arrow              what an encoder is asked for (see `requests`)
    <task>/pair_requests.parquet, pairs.arrow         what a cross-encoder is asked for, where there is a ranking
    <task>/first_stage.json                           the ranking, where BM25 made it (see `first_stage`)
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from embrepro.errors import TaskError
from embrepro.files import expect_room, fingerprint, read_sealed, scratch_folder, sha256, write_sealed
from embrepro.own_data import definition as own_files
from embrepro.sources import git_files, snapshots
from embrepro.tasks import integrity, pins, registry, tables
from embrepro.tasks.first_stage import FirstStage
from embrepro.tasks.pins import Pin
from embrepro.tasks.registry import Request, create
from embrepro.tasks.rows import hash_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mteb import AbsTask

DataKind = Literal["table", "retrieval", "columns", "row"]
FORMAT = 1


class Manifest(BaseModel):
    """What a frozen task is made of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    task: str
    type: str
    main_score: str
    repository: str
    revision: str
    source: str
    licence: str | None
    languages: list[str]
    subsets: list[str]
    splits: list[str]
    rows: dict[str, int]
    tree: dict[str, Any]
    attributes: dict[str, Any]
    random_state: dict[str, Any] | None
    row_hashes: dict[str, str]
    pinned: bool
    files: dict[str, str]
    requests: dict[str, str] = {}
    first_stage: FirstStage | None = None

    @property
    def drawn(self) -> list[str] | None:
        """The subsets, where loading drew rows at random; then those of one may depend on which others came before."""
        return self.subsets if self.random_state else None

    @property
    def data_hash(self) -> str:
        """SHA-256 over what decides a score: the files, the structure and the generator's state, not who served them."""
        return fingerprint([self.files, self.tree, self.attributes, self.random_state, self.subsets, self.splits])


def freeze(request: Request, folder: Path, mirror: Path | None, pin: Pin | None = None) -> Manifest:
    """Load a task from its source and write its data and manifest to `folder`.

    Raises:
        SourceError: the data cannot be obtained or is damaged.
        TaskError: mteb cannot load it, a split is empty or absent, it has other sizes than mteb's statistics say, its
            rows are not those of its pin, or it keeps state that cannot be frozen.
    """
    task = create(request)
    fresh = set(vars(task))
    state = _random_state(task)
    folder.mkdir(parents=True, exist_ok=True)
    source = _load(task, mirror, folder)
    writer = _Writer(folder, scored=set(request.splits), trained=getattr(task, "train_split", None))
    tree = writer.write(task.dataset, "data")
    integrity.expect_whole(task, sorted(writer.kept))
    loaded_state = _random_state(task)
    metadata = task.metadata
    manifest = Manifest(
        task=request.name,
        type=metadata.type,
        main_score=metadata.main_score,
        repository=metadata.dataset["path"],
        revision=metadata.dataset["revision"],
        source=source,
        licence=metadata.license,
        languages=sorted(task.languages),
        subsets=list(request.subsets),
        splits=list(request.splits),
        rows=writer.rows,
        tree=tree,
        attributes=_attributes(task, fresh),
        random_state=loaded_state if loaded_state != state else None,
        row_hashes=writer.row_hashes,
        pinned=False,
        files=writer.files,
    )
    manifest = check_pin(manifest, pin)
    write_sealed(folder / "manifest.json", manifest)
    return manifest


def check_pin(manifest: Manifest, pin: Pin | None) -> Manifest:
    """The manifest with whether its rows are pinned; raises TaskError where they are not the pinned ones."""
    pinned = pins.expect_pinned(pin, manifest.revision, manifest.drawn, manifest.row_hashes)
    return manifest.model_copy(update={"pinned": pinned})


def copy(folder: Path, to: Path) -> None:
    """Copy a frozen task's data and manifest, without its request list."""
    manifest = read_manifest(folder)
    for name in manifest.files:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, to / name)
    write_sealed(to / "manifest.json", manifest.model_copy(update={"requests": {}, "first_stage": None}))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a frozen task; raises KitError where it is absent or damaged, or was changed since it was written."""
    return read_sealed(folder / "manifest.json", Manifest)


def read_recorded(folder: Path, data_hash: str | None) -> Manifest:
    """The manifest of the very data that the download stage recorded.

    Raises:
        KitError: it is absent or damaged, or was changed since it was written.
        TaskError: it is that of other data.
    """
    manifest = read_manifest(folder)
    if manifest.data_hash != data_hash:
        raise TaskError(
            f"{folder} holds other data than the download stage recorded (SHA-256 {manifest.data_hash[:12]}, expected "
            f"{str(data_hash)[:12]}). Run: dvc repro --force --single-item download"
        )
    return manifest


def load_frozen(request: Request, folder: Path) -> AbsTask:
    """A fresh mteb task with its data in place, ready to be evaluated with no network.

    Raises:
        TaskError: a file's SHA-256 is not the manifest's, or the task is at another revision by now.
    """
    manifest = read_manifest(folder)
    verify(folder, manifest.files)
    task = create(request)
    if manifest.revision != task.metadata.dataset["revision"]:
        raise TaskError(
            f"{folder} was frozen at revision {manifest.revision}, but the task is now at "
            f"{task.metadata.dataset['revision']}. Run: dvc repro download"
        )
    task.dataset = _Reader(folder).read(manifest.tree)
    for name, value in manifest.attributes.items():
        setattr(task, name, value)
    if manifest.random_state:
        _restore_random_state(task, manifest.random_state)
    task.data_loaded = True
    return task


def verify(folder: Path, files: Mapping[str, str]) -> None:
    """Compare files with their SHA-256; raises TaskError naming the first that differs."""
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise TaskError(f"{path} is missing. Run: dvc repro --force --single-item download")
        if sha256(path) != expected:
            raise TaskError(f"{path} is not the file that was frozen. Run: dvc repro --force --single-item download")


def _load(task: AbsTask, mirror: Path | None, folder: Path) -> str:
    """Let mteb load the task, from a local folder of pinned files where it comes from a repository; returns the source.

    Tables too large for memory go to the disk of `folder`.
    """
    if registry.is_own(task):
        source = _load_own(task, mirror)
        task.dataset = _by_itself(_current_layout(task), folder)
        return source
    published = task.metadata
    others = set(published.hf_subsets) - set(task.hf_subsets)
    snapshot = snapshots.dataset(
        published.dataset["path"], published.dataset["revision"], mirror, (task.hf_subsets, others)
    )
    task.metadata = published.model_copy(update={"dataset": {**published.dataset, "path": str(snapshot.folder)}})
    with _private_cache() as cache:
        size = sum(path.stat().st_size for path in snapshot.folder.rglob("*") if path.is_file())
        expect_room(cache, size, "To load a data set takes at least as much as its files, which is")
        try:
            task.load_data()
        except Exception as error:
            raise TaskError(f"mteb cannot load it from {snapshot.folder}: {_why(error, snapshot.folder)}") from error
        finally:
            task.metadata = published
        task.dataset = _by_itself(_current_layout(task), folder)
    return snapshot.source


def _load_own(task: AbsTask, mirror: Path | None) -> str:
    """Let a task of the kit load itself, from its own code or from a file of a git repository; returns the source."""
    file = getattr(task, "file", None)
    if not isinstance(file, git_files.GitFile):
        task.load_data()
        return "files of one's own" if own_files.exists(task.metadata.name) else "its own code"
    content, source = git_files.fetch(file, mirror)
    task.load_data(content=content)
    return source


def _why(error: BaseException, folder: Path) -> str:
    """The first cause of an error, and the files without a row, which `datasets` cannot read."""
    while error.__cause__:
        error = error.__cause__
    empty = [path for path in sorted(folder.rglob("*.parquet")) if pq.read_metadata(path).num_rows == 0]
    return f"{type(error).__name__}: {error}" + (f" ({', '.join(map(str, empty))} has no rows)" if empty else "")


def _current_layout(task: AbsTask) -> Any:  # noqa: ANN401 - a nested mapping of data sets
    if hasattr(task, "convert_v1_dataset_format_to_v2"):
        task.convert_v1_dataset_format_to_v2(num_proc=None)
    return task.dataset


@contextmanager
def _private_cache() -> Iterator[Path]:
    """A cache of `datasets` that lives as long as the block: the shared one serves old rows for a folder rewritten in place."""
    import datasets

    before = datasets.config.HF_DATASETS_CACHE
    with scratch_folder() as folder:
        datasets.config.HF_DATASETS_CACHE = folder
        try:
            yield folder
        finally:
            datasets.config.HF_DATASETS_CACHE = before


def _by_itself(node: Any, folder: Path) -> Any:  # noqa: ANN401 - a nested mapping of data sets
    """Data that needs neither the cache nor the larger table that it was taken from."""
    from datasets import Dataset

    if isinstance(node, Dataset):
        return tables.as_dataset(tables.materialised(node, folder))
    return {key: _by_itself(child, folder) for key, child in node.items()} if isinstance(node, Mapping) else node


def _attributes(task: AbsTask, fresh: set[str]) -> dict[str, Any]:
    """What loading left on the task beside its data; it must survive JSON, or the frozen task would not be the task."""
    kept = {
        name: value for name, value in vars(task).items() if name not in fresh | {"dataset", "data_loaded", "metadata"}
    }
    for name, value in kept.items():
        if not _is_plain(value):
            raise TaskError(f"loading leaves '{name}' ({type(value).__name__}) on the task, which cannot be frozen")
    return kept


def _is_plain(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(child) for key, child in value.items())
    if isinstance(value, list):
        return all(_is_plain(child) for child in value)
    return value is None or isinstance(value, str | int | float | bool)


def _random_state(task: AbsTask) -> dict[str, Any]:
    version, internal, gauss = task.rng_state.getstate()
    return {"python": [version, list(internal), gauss], "numpy": task.np_rng.bit_generator.state}


def _restore_random_state(task: AbsTask, state: dict[str, Any]) -> None:
    version, internal, gauss = state["python"]
    task.rng_state.setstate((version, tuple(internal), gauss))
    task.np_rng.bit_generator.state = state["numpy"]


class _Writer:
    """Writes the nested mapping of a task's data to Parquet files under one folder."""

    def __init__(self, folder: Path, scored: set[str], trained: str | None) -> None:
        self.folder = folder
        self.scored = scored
        self.kept = scored | ({trained} if trained else set())
        self.files: dict[str, str] = {}
        self.rows: dict[str, int] = {}
        self.row_hashes: dict[str, str] = {}

    def write(self, node: Any, path: str) -> dict[str, Any]:  # noqa: ANN401 - a nested mapping of data sets
        from datasets import Dataset

        if isinstance(node, Dataset):
            if len(node) == 0:
                raise TaskError(f"{path.removeprefix('data/')} has no rows")
            self._save(f"{path}.parquet", node.data.table, rows=path)
            return {"kind": "table"}
        if _is_single_row(node):
            return {**self.write(dict(node[0]), path), "kind": "row"}
        if not isinstance(node, Mapping):
            raise TaskError(f"its data at {path} is a {type(node).__name__}, which cannot be frozen")
        if "corpus" in node and "queries" in node:
            return self._retrieval(node, path)
        if node and all(_is_column(child) for child in node.values()):
            columns = {key: list(child[:]) for key, child in node.items()}
            self._save(f"{path}.parquet", pa.table({key: [column] for key, column in columns.items()}), rows=None)
            self.rows[path.removeprefix("data/")] = max(len(column) for column in columns.values())
            return {"kind": "columns"}
        holds_splits = not self.kept.isdisjoint(node) or all(_is_leaf(child) for child in node.values())
        if holds_splits and (absent := sorted(self.scored - set(node))):
            raise TaskError(f"{path.removeprefix('data').strip('/') or 'the data'} has no split {', '.join(absent)}")
        wanted = {key: child for key, child in node.items() if key in self.kept} if holds_splits else node
        return {"children": {key: self.write(child, f"{path}/{_safe(key)}") for key, child in wanted.items()}}

    def _retrieval(self, split: Mapping[str, Any], path: str) -> dict[str, Any]:
        queries, corpus, qrels = split["queries"], split["corpus"], split["relevant_docs"]
        if not len(queries) or not len(corpus) or not qrels:
            raise TaskError(f"{path.removeprefix('data/')} has no queries, no corpus or no qrels")
        self._save(f"{path}/corpus.parquet", corpus.data.table, rows=f"{path}/corpus")
        self._save(f"{path}/queries.parquet", queries.data.table, rows=f"{path}/queries")
        order = {query: position for position, query in enumerate(queries["id"])}
        rows = [
            (query, document, score)
            for query in sorted(qrels, key=lambda query: (order.get(query, len(order)), query))
            for document, score in (sorted(qrels[query].items()) or [(None, None)])
        ]
        table = pl.DataFrame(rows, schema={"query": pl.String, "document": pl.String, "score": pl.Int64}, orient="row")
        self._save(f"{path}/qrels.parquet", table.to_arrow(), rows=f"{path}/qrels")
        top_ranked = split.get("top_ranked")
        if top_ranked is not None:
            ranked = {"query": list(top_ranked), "documents": [list(top_ranked[query]) for query in top_ranked]}
            self._save(f"{path}/top_ranked.parquet", pa.table(ranked), rows=f"{path}/top_ranked")
        return {"kind": "retrieval", "top_ranked": top_ranked is not None}

    def _save(self, name: str, table: pa.Table, rows: str | None) -> None:
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, target, compression="zstd")
        self.files[name] = sha256(target)
        self.row_hashes[name.removeprefix("data/").removesuffix(".parquet")] = hash_rows(table)
        if rows is not None:
            self.rows[rows.removeprefix("data/")] = table.num_rows


class _Reader:
    """Reads what `_Writer` wrote, as the objects mteb expects."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, tree: dict[str, Any], path: str = "data") -> Any:  # noqa: ANN401 - a nested mapping of data sets
        from datasets import Dataset, DatasetDict

        kind: DataKind | None = tree.get("kind")
        if kind == "table":
            return tables.as_dataset(tables.read_parquet(self.folder / f"{path}.parquet"))
        if kind == "retrieval":
            return self._retrieval(tree, path)
        if kind in ("columns", "row"):
            columns = tables.read_parquet(self.folder / f"{path}.parquet").to_pylist()[0]
            return [columns] if kind == "row" else columns
        children = {key: self.read(child, f"{path}/{_safe(key)}") for key, child in tree["children"].items()}
        return DatasetDict(children) if all(isinstance(child, Dataset) for child in children.values()) else children

    def _retrieval(self, tree: dict[str, Any], path: str) -> dict[str, Any]:
        found = {
            name: tables.read_parquet(self.folder / path / f"{name}.parquet")
            for name in ("corpus", "queries", "qrels", *(["top_ranked"] if tree["top_ranked"] else []))
        }
        qrels: dict[str, dict[str, int]] = {}
        for row in found["qrels"].to_pylist():
            documents = qrels.setdefault(row["query"], {})
            if row["document"] is not None:
                documents[row["document"]] = row["score"]
        top_ranked = None
        if tree["top_ranked"]:
            ranked = found["top_ranked"].to_pydict()
            top_ranked = dict(zip(ranked["query"], ranked["documents"], strict=True))
        return {
            "corpus": tables.as_dataset(found["corpus"]),
            "queries": tables.as_dataset(found["queries"]),
            "relevant_docs": qrels,
            "top_ranked": top_ranked,
        }


def _is_leaf(node: object) -> bool:
    from datasets import Dataset

    return isinstance(node, Dataset) or _is_single_row(node) or (isinstance(node, Mapping) and "corpus" in node)


def _is_single_row(node: object) -> bool:
    """Whether a split is kept as one row of columns, as older pair classification tasks do."""
    return isinstance(node, list) and len(node) == 1 and isinstance(node[0], Mapping)


def _is_column(node: object) -> bool:
    """Whether a value is a list of cells; `datasets` hands columns out lazily."""
    from datasets import Column

    return isinstance(node, Column) or (isinstance(node, list) and not _is_single_row(node))


def _safe(key: str) -> str:
    """A subset or split as one file name."""
    return key.replace("/", "__")
