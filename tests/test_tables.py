"""Tables that are mapped hold what was written, and nothing of them is left in a folder."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embrepro.errors import TaskError
from embrepro.tasks import tables
from embrepro.tasks.encode_requests import Recorder
from embrepro.tasks.rows import hash_rows

WORDS = pa.table(
    {"id": [f"d{row}" for row in range(1000)], "text": [f"word {row % 7} " * (row % 5) for row in range(1000)]}
)


@given(lengths=st.lists(st.integers(0, 5), max_size=6), data=st.data())
def test_values_are_taken_in_the_order_asked_for(lengths: list[int], data: st.DataObject) -> None:
    ends = np.cumsum([0, *lengths])
    chunks = [
        [f"text {row}" for row in range(start, start + count)] for start, count in zip(ends, lengths, strict=False)
    ]
    column = pa.chunked_array(chunks, pa.large_string())
    whole = column.to_pylist()
    rows = data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=12) if whole else st.just([]))
    found = tables.take(column, np.asarray(rows, dtype=np.uint32))
    assert found.to_pylist() == [whole[row] for row in rows]
    assert found.type == column.type


def test_rows_that_follow_each_other_are_not_copied() -> None:
    column = pa.chunked_array([["a", "b", "c"], ["d"]], pa.large_string())
    before = pa.total_allocated_bytes()
    found = tables.take(column, np.arange(1, 4, dtype=np.uint32))
    assert (found.to_pylist(), pa.total_allocated_bytes()) == (["b", "c", "d"], before)


def test_a_large_table_is_mapped_from_a_file_that_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(WORDS, tmp_path / "a.parquet", row_group_size=300)
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 256)
    monkeypatch.setattr(tables, "LARGE", 0)
    before = pa.total_allocated_bytes()
    mapped = tables.read_parquet(tmp_path / "a.parquet")
    assert mapped.equals(WORDS)
    assert pa.total_allocated_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


@pytest.mark.parametrize("large", [0, tables.LARGE])
def test_an_arrow_file_is_mapped(large: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LARGE", large)
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 100)
    tables.write_arrow(WORDS, tmp_path / "a.arrow")
    before = pa.total_allocated_bytes()
    found = tables.read_arrow(tmp_path / "a.arrow")
    assert found.equals(WORDS)
    assert pa.total_allocated_bytes() == before


def test_an_arrow_file_that_was_cut_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    tables.write_arrow(WORDS, path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(TaskError, match=r"a\.arrow cannot be read .* Run: dvc repro"):
        tables.read_arrow(path)
    path.unlink()
    with pytest.raises(TaskError, match=r"a\.arrow cannot be read"):
        tables.read_arrow(path)


def test_a_folder_that_cannot_be_written_to_is_not_spooled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(WORDS, tmp_path / "a.parquet")
    # Root may write anywhere, whatever the mode says.
    monkeypatch.setattr("embrepro.tasks.tables.os.access", lambda folder, _: Path(folder) != tmp_path)
    monkeypatch.setattr(tables, "LARGE", 0)
    places = []
    real = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: places.append(dir) or real(dir=dir))
    assert tables.read_parquet(tmp_path / "a.parquet").equals(WORDS)
    assert places == [Path(tempfile.gettempdir())]


@pytest.mark.parametrize("large", [0, tables.LARGE])
def test_a_data_set_is_materialised_with_its_rows_in_order(large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import Dataset

    monkeypatch.setattr(tables, "LARGE", large)
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 3)
    rows = [5, 4, 999, 0, 17, 17, 3]
    chosen = Dataset(WORDS).select(rows)
    assert tables.materialised(chosen).to_pylist() == WORDS.take(rows).to_pylist()


CALLS = st.lists(
    st.tuples(
        st.sampled_from(["query", "document", ""]),
        st.lists(st.sampled_from(["", "a", "b", "ab", "é", "a "]), max_size=6),
    ),
    min_size=1,
    max_size=6,
)


@given(CALLS)
def test_distinct_texts_are_numbered_by_first_appearance(calls: list[tuple[str, list[str]]]) -> None:
    recorder = Recorder()
    number: dict[tuple[str, str], int] = {}
    expected = []
    for prompt, texts in calls:
        recorder.record("test", "default", prompt, texts)
        expected.append([number.setdefault((prompt, text), len(number)) for text in texts])
    listed = recorder.request_list()
    assert [request.rows.tolist() for request in listed.requests] == expected
    assert list(zip(*listed.texts.to_pydict().values(), strict=True)) == list(number)


def test_a_prompt_and_a_text_are_not_taken_for_another_pair_that_reads_the_same() -> None:
    recorder = Recorder("query")
    recorder.record_pairs("test", "default", ["a", "ab", "1:a"], ["bc", "c", "bc"])
    assert recorder.request_list().requests[0].rows.tolist() == [0, 1, 2]


@given(
    st.lists(st.one_of(st.none(), st.text(max_size=4)), max_size=12),
    st.lists(st.integers(0, 12), max_size=3),
    st.integers(1, 5),
)
def test_the_hash_of_text_is_that_of_its_values_however_it_is_cut(
    values: list[str | None], cuts: list[int], piece: int
) -> None:
    whole = pa.table({"text": pa.array(values, pa.string())})
    edges = sorted({0, len(values), *(cut for cut in cuts if cut < len(values))})
    chunks = [values[start:end] for start, end in pairwise(edges)]
    cut = pa.table({"text": pa.chunked_array(chunks, pa.large_string())})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embrepro.tasks.rows.PIECE", piece)
        assert hash_rows(cut) == hash_rows(whole)
        found = hash_rows(whole)
    assert found == hash_rows(whole)
