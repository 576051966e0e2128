"""Frozen tasks: thawing gives mteb the data it loaded; what is lost, cut short or changed is named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import mteb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict
from mteb import mocks

import tiny_mirror
from embrepro.config.schema import Tasks
from embrepro.errors import KitError, SourceError, TaskError
from embrepro.tasks import encode_requests, freezing, registry
from embrepro.tasks.registry import Request
from tiny_mirror import CLASSIFICATION, MULTILINGUAL, RETRIEVAL, STS, TAGGED

ALL = [STS, CLASSIFICATION, RETRIEVAL, MULTILINGUAL, TAGGED]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_mirror.build(tmp_path_factory.mktemp("mirror"))


@pytest.fixture
def mirror(whole: Path, tmp_path: Path) -> Path:
    """A mirror of one's own, free to be spoilt."""
    return Path(shutil.copytree(whole, tmp_path / "mirror"))


def request(name: str, **others: object) -> Request:
    subsets = {name: tiny_mirror.SUBSETS[name]} if name in tiny_mirror.SUBSETS and not others else {}
    (found,) = registry.resolve(Tasks(names=[name], **({"subsets": subsets} | others)))
    return found


def freeze(name: str, mirror: Path, folder: Path) -> freezing.Manifest:
    return freezing.freeze(request(name), folder, mirror)


def loaded_by_mteb(name: str, mirror: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache)
    task = registry.create(request(name))
    published = task.metadata
    local = {**published.dataset, "path": str(tiny_mirror.folder(mirror, name))}
    task.metadata = published.model_copy(update={"dataset": local})
    task.load_data()
    task.metadata = published
    if hasattr(task, "convert_v1_dataset_format_to_v2"):
        task.convert_v1_dataset_format_to_v2(num_proc=None)
    return task


def plain(node: Any) -> Any:
    if isinstance(node, Dataset):
        return node.to_dict()
    return {key: plain(child) for key, child in node.items()} if isinstance(node, dict) else node


def rewrite(path: Path, change: Any) -> None:
    pq.write_table(change(pq.read_table(path)), path)


# --- The same data


@pytest.mark.parametrize("name", ALL)
def test_thawing_gives_what_mteb_loads(name: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    freeze(name, whole, tmp_path / "frozen")
    ours = freezing.load_frozen(request(name), tmp_path / "frozen")
    theirs = loaded_by_mteb(name, whole, tmp_path / "cache", monkeypatch)
    kept = plain(theirs.dataset)
    assert plain(ours.dataset) == kept
    assert ours.data_loaded
    assert ours.hf_subsets == theirs.hf_subsets
    assert ours.metadata == theirs.metadata


def test_class_labels_keep_their_names(whole: Path, tmp_path: Path) -> None:
    freeze(CLASSIFICATION, whole, tmp_path)
    feature = freezing.load_frozen(request(CLASSIFICATION), tmp_path).dataset["test"].features["label"]
    assert isinstance(feature, ClassLabel)
    assert feature.names == ["refused", "allowed"]


def test_the_manifest_says_where_the_data_came_from(whole: Path, tmp_path: Path) -> None:
    manifest = freeze(RETRIEVAL, whole, tmp_path)
    assert manifest == freezing.read_manifest(tmp_path)
    published = mteb.get_task(RETRIEVAL).metadata
    assert (manifest.repository, manifest.revision) == (
        published.dataset["path"],
        published.dataset["revision"],
    )
    assert (manifest.source, manifest.licence) == ("mirror", published.license)
    assert manifest.rows == {"default/test/corpus": 82, "default/test/queries": 50, "default/test/qrels": 217}
    assert all((tmp_path / name).is_file() for name in manifest.files)


def test_the_data_hash_depends_on_the_data_alone(whole: Path, mirror: Path, tmp_path: Path) -> None:
    one = freeze(STS, whole, tmp_path / "one")
    two = freeze(STS, mirror, tmp_path / "two")
    assert one.data_hash == two.data_hash
    assert one.files == two.files
    rewrite(
        tiny_mirror.folder(mirror, STS) / "data" / "test.parquet",
        lambda table: table.take(list(range(49, -1, -1))),
    )
    assert freeze(STS, mirror, tmp_path / "three").data_hash != one.data_hash


def test_a_mirror_rewritten_in_place_is_read_again(mirror: Path, tmp_path: Path) -> None:
    """`datasets` serves the old rows from its cache for a folder rewritten under the same name."""
    freeze(STS, mirror, tmp_path / "before")
    file = tiny_mirror.folder(mirror, STS) / "data" / "test.parquet"
    rewrite(file, lambda table: table.set_column(0, "sentence1", pa.array(["changed"] * 50)))
    freeze(STS, mirror, tmp_path / "after")
    assert set(freezing.load_frozen(request(STS), tmp_path / "after").dataset["test"]["sentence1"]) == {"changed"}


def test_only_the_subsets_asked_for_are_frozen(whole: Path, tmp_path: Path) -> None:
    manifest = freezing.freeze(request(TAGGED, subsets={TAGGED: ["es-es"]}), tmp_path, whole)
    assert manifest.rows == {"es-es/test": 250}
    assert manifest.subsets == ["es-es"]


# --- What loading leaves on a task


class Drawing(mocks.MockSTSTask):  # type: ignore[misc,name-defined]
    """A task that draws from its generators and keeps a value while loading."""

    def load_data(self, **others: object) -> None:
        super().load_data(**others)
        self.rng_state.random()
        self.np_rng.random()
        self.threshold = {"low": [0.25, None], "high": True}


class Keeping(mocks.MockSTSTask):  # type: ignore[misc,name-defined]
    """A task that keeps an object while loading."""

    def load_data(self, **others: object) -> None:
        super().load_data(**others)
        self.helper = object()


class Parallel(mocks.MockSTSTask):  # type: ignore[misc,name-defined]
    """A task whose splits are mappings of lists, as mteb's BUCC has them."""

    def load_data(self, **others: object) -> None:
        self.dataset = {
            "default": {"test": {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "gold": [[0, 0], [1, 1]]}}
        }
        self.data_loaded = True


def own(task_class: type[Any], monkeypatch: pytest.MonkeyPatch) -> Request:
    monkeypatch.setitem(registry._ADDED, task_class.metadata.name, task_class)
    task = task_class()
    return Request(task.metadata.name, tuple(task.hf_subsets), tuple(task.eval_splits))


def test_random_state_and_attributes_survive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = own(Drawing, monkeypatch)
    freezing.freeze(asked, tmp_path, None)
    theirs = registry.create(asked)
    theirs.load_data()
    ours = freezing.load_frozen(asked, tmp_path)
    assert ours.threshold == theirs.threshold
    assert [ours.rng_state.random() for _ in range(5)] == [theirs.rng_state.random() for _ in range(5)]
    assert ours.np_rng.random(5).tolist() == theirs.np_rng.random(5).tolist()


def test_what_cannot_be_kept_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TaskError, match=r"loading leaves 'helper' \(object\)"):
        freezing.freeze(own(Keeping, monkeypatch), tmp_path, None)


def test_splits_that_are_mappings_of_lists_survive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = own(Parallel, monkeypatch)
    manifest = freezing.freeze(asked, tmp_path, None)
    assert manifest.rows == {"default/test": 2}
    theirs = registry.create(asked)
    theirs.load_data()
    assert plain(freezing.load_frozen(asked, tmp_path).dataset) == theirs.dataset


# --- Damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("name", ALL)
def test_a_file_cut_short_in_the_mirror_is_named(name: str, mirror: Path, tmp_path: Path) -> None:
    broken = sorted(tiny_mirror.folder(mirror, name).rglob("*.parquet"))[0]
    cut(broken)
    with pytest.raises(SourceError, match="damaged or cut short") as caught:
        freeze(name, mirror, tmp_path / "frozen")
    assert str(broken) in str(caught.value)


def test_a_file_without_a_byte_in_the_mirror_is_named(mirror: Path, tmp_path: Path) -> None:
    broken = tiny_mirror.folder(mirror, STS) / "data" / "test.parquet"
    broken.write_bytes(b"")
    with pytest.raises(SourceError, match=r"test\.parquet is damaged or cut short"):
        freeze(STS, mirror, tmp_path / "frozen")


@pytest.mark.parametrize("spoil", [cut, lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), Path.unlink])
@pytest.mark.parametrize("name", [STS, RETRIEVAL])
def test_a_frozen_file_that_is_not_the_one_written_is_named(name: str, spoil: Any, whole: Path, tmp_path: Path) -> None:
    manifest = freeze(name, whole, tmp_path)
    spoilt = tmp_path / sorted(manifest.files)[-1]
    spoil(spoilt)
    with pytest.raises(TaskError, match="dvc repro --force --single-item download") as caught:
        freezing.load_frozen(request(name), tmp_path)
    assert str(spoilt) in str(caught.value)


@pytest.mark.parametrize("spoil", [cut, lambda path: path.write_text("{}"), Path.unlink])
def test_a_manifest_that_is_damaged_is_named(spoil: Any, whole: Path, tmp_path: Path) -> None:
    freeze(STS, whole, tmp_path)
    spoil(tmp_path / "manifest.json")
    with pytest.raises(KitError, match=r"manifest\.json"):
        freezing.load_frozen(request(STS), tmp_path)


@pytest.mark.parametrize("pairs", [False, True])
def test_requests_of_another_version_are_named(pairs: bool, whole: Path, tmp_path: Path) -> None:
    manifest = freeze(STS, whole, tmp_path)
    other = manifest.model_copy(update={"requests": {"texts.parquet": "0"}})
    with pytest.raises(TaskError, match="listed by another version of the kit, or not at all. Run: dvc repro"):
        encode_requests.read(tmp_path, other, pairs=pairs)


# --- Lost data, each of which mteb would score


@pytest.mark.parametrize(
    ("name", "file", "found", "expected"),
    [
        (STS, "data/test.parquet", "49 samples", "50"),
        (CLASSIFICATION, "data/test.parquet", "46 samples", "47"),
        (CLASSIFICATION, "data/train.parquet", "3 samples", "4"),
        (RETRIEVAL, "corpus/test.parquet", "81 documents", "82"),
        (RETRIEVAL, "queries/test.parquet", "49 queries", "50"),
        (RETRIEVAL, "qrels/test.parquet", "216 relevant documents", "217"),
        (MULTILINGUAL, "fra_Latn/test.parquet", "203 samples", "204"),
        (MULTILINGUAL, "eng_Latn/train.parquet", "700 samples", "701"),
        (TAGGED, "data/test.parquet", "249 samples", "250"),
    ],
)
def test_a_lost_row_is_named_with_both_numbers(
    name: str, file: str, found: str, expected: str, mirror: Path, tmp_path: Path
) -> None:
    """The right numbers are mteb 2.26.24's descriptive statistics."""
    rewrite(tiny_mirror.folder(mirror, name) / file, lambda table: table.slice(0, table.num_rows - 1))
    with pytest.raises(TaskError) as caught:
        freeze(name, mirror, tmp_path / "frozen")
    assert f"has {found}, but mteb's statistics of this data set say {expected}" in str(caught.value)


def test_qrels_that_are_missing_for_some_queries_are_noticed(mirror: Path, tmp_path: Path) -> None:
    """mteb drops queries without qrels while loading, and the score of the others rises."""
    rewrite(
        tiny_mirror.folder(mirror, RETRIEVAL) / "qrels" / "test.parquet",
        lambda table: table.filter(pa.compute.not_equal(table["query-id"], "q3")),
    )
    with pytest.raises(TaskError, match="has 49 queries, but mteb's statistics of this data set say 50"):
        freeze(RETRIEVAL, mirror, tmp_path / "frozen")


class Unjudged(mocks.MockRetrievalTask):  # type: ignore[misc,name-defined]
    """A retrieval task one of whose queries has no qrels, and that mteb has no statistics of."""

    def load_data(self, **others: object) -> None:
        split = {
            "corpus": Dataset.from_dict({"id": ["d1", "d2"], "text": ["one", "two"]}),
            "queries": Dataset.from_dict({"id": ["q1", "q2"], "text": ["one", "two"]}),
            "relevant_docs": {"q1": {"d1": 1}},
            "top_ranked": None,
        }
        self.dataset = {"default": {name: split for name in self.eval_splits}}
        self.data_loaded = True


def test_queries_without_qrels_are_refused_where_mteb_has_no_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TaskError, match=r"1 of 2 queries have no qrels \(the first: q2\)"):
        freezing.freeze(own(Unjudged, monkeypatch), tmp_path, None)


def test_a_split_that_is_not_there_is_named(mirror: Path, tmp_path: Path) -> None:
    dataset = tiny_mirror.folder(mirror, STS)
    tiny_mirror.card(dataset, {"default": {"validation": "data/test.parquet"}})
    with pytest.raises(TaskError, match="has no split test"):
        freeze(STS, mirror, tmp_path / "frozen")


def test_a_split_without_rows_is_named(mirror: Path, tmp_path: Path) -> None:
    rewrite(tiny_mirror.folder(mirror, STS) / "data" / "test.parquet", lambda table: table.slice(0, 0))
    with pytest.raises(TaskError, match=r"test\.parquet has no rows"):
        freeze(STS, mirror, tmp_path / "frozen")


@pytest.mark.parametrize(
    ("name", "held", "lacking"), [(TAGGED, "en-en", "es-en"), (MULTILINGUAL, "eng_Latn", "deu_Latn")]
)
def test_a_subset_that_the_mirror_lacks_is_named(
    name: str, held: str, lacking: str, whole: Path, tmp_path: Path
) -> None:
    """Where a column names the subset, mteb loads what is there and says nothing of the rest."""
    with pytest.raises(TaskError, match=lacking):
        freezing.freeze(request(name, subsets={name: [held, lacking]}), tmp_path, whole)


def test_a_column_that_mteb_needs_is_named_before_anything_is_encoded(mirror: Path, tmp_path: Path) -> None:
    file = tiny_mirror.folder(mirror, CLASSIFICATION) / "data" / "test.parquet"
    rewrite(file, lambda table: table.rename_columns({"label": "lable"}))
    with pytest.raises(Exception, match="label"):
        freeze(CLASSIFICATION, mirror, tmp_path / "frozen")
        encode_requests.write(request(CLASSIFICATION), tmp_path / "frozen")


def test_a_task_without_any_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing(mocks.MockSTSTask):  # type: ignore[misc,name-defined]
        def load_data(self, **others: object) -> None:
            self.dataset = DatasetDict()
            self.data_loaded = True

    with pytest.raises(TaskError, match="has no split test"):
        freezing.freeze(own(Nothing, monkeypatch), tmp_path, None)


@pytest.mark.parametrize("name", [RETRIEVAL, STS, CLASSIFICATION])
def test_a_task_that_is_mapped_is_the_same_task(
    name: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = freeze(name, whole, tmp_path / "held")
    encode_requests.write(request(name), tmp_path / "held")
    monkeypatch.setattr("embrepro.tasks.tables.LARGE", 0)
    monkeypatch.setattr("embrepro.tasks.tables.ROWS_AT_ONCE", 3)
    mapped = freeze(name, whole, tmp_path / "mapped")
    manifest = encode_requests.write(request(name), tmp_path / "mapped")
    assert mapped.row_hashes == held.row_hashes
    tasks = [freezing.load_frozen(request(name), tmp_path / folder) for folder in ("held", "mapped")]
    assert plain(tasks[0].dataset) == plain(tasks[1].dataset)
    lists = [
        encode_requests.read(tmp_path / folder, freezing.read_manifest(tmp_path / folder))
        for folder in ("held", "mapped")
    ]
    assert manifest.requests.keys() >= set(encode_requests.FILES)
    assert lists[0].texts.equals(lists[1].texts)
    assert [one.rows.tolist() for one in lists[0].requests] == [one.rows.tolist() for one in lists[1].requests]


def test_data_that_the_disk_has_no_room_for_is_said_before_it_is_loaded(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embrepro.files.shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 5))  # type: ignore[attr-defined]
    with pytest.raises(KitError, match=r"takes at least as much as its files, which is .* and 5 bytes are free"):
        freeze(RETRIEVAL, whole, tmp_path / "task")
