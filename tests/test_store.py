"""Stored embeddings: served under their own key alone, whole, in their own dtype; nothing that would fake a score is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.numpy import save_file
from scipy.sparse import csr_array

from embrepro.embeddings import store
from embrepro.errors import TaskError

ROWS = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = store.path_of(tmp_path / "embeddings", "STS12")
    store.write(path, ROWS, "key")
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_what_is_written_is_read_back_in_its_dtype(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    store.write(path, ROWS.astype(dtype), "key")
    stored = store.read(path, 5)
    assert stored.embeddings.dtype == dtype
    assert np.array_equal(stored.embeddings, ROWS.astype(dtype))
    assert stored.key == "key"


def test_rows_that_do_not_lie_side_by_side_are_written_right(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    store.write(path, np.asfortranarray(ROWS)[:, ::-1], "key")
    assert np.array_equal(store.read(path, 5).embeddings, ROWS[:, ::-1])


def test_the_same_embeddings_give_the_same_bytes(path: Path, tmp_path: Path) -> None:
    store.write(tmp_path / "again", ROWS, "key")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_a_file_is_whole_under_its_key_and_row_count_alone(path: Path) -> None:
    assert store.is_whole(path, "key", 5)
    assert not store.is_whole(path, "another key", 5)
    assert not store.is_whole(path, "key", 4)
    assert not store.is_whole(path.with_name("absent.safetensors"), "key", 5)


@pytest.mark.parametrize("length", [0, 4, 20, 100, -1])
def test_a_file_cut_short_is_not_whole_and_not_read(length: int, path: Path) -> None:
    path.write_bytes(path.read_bytes()[:length])
    assert not store.is_whole(path, "key", 5)
    with pytest.raises(TaskError, match="missing or damaged") as caught:
        store.read(path, 5)
    assert str(path) in str(caught.value)


def test_a_file_of_another_program_is_not_whole_and_not_read(path: Path) -> None:
    save_file({"something": ROWS}, path)
    assert not store.is_whole(path, "key", 5)
    with pytest.raises(TaskError, match="missing or damaged"):
        store.read(path, 5)
    save_file({"something": ROWS}, path, metadata={"key": "key"})
    assert not store.is_whole(path, "key", 5)
    with pytest.raises(TaskError, match="missing or damaged"):
        store.read(path, 5)


def test_another_row_count_is_refused(path: Path) -> None:
    with pytest.raises(TaskError, match="holds 5 embeddings for 6 texts"):
        store.read(path, 6)


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (np.where(np.arange(15).reshape(5, 3) == 7, np.nan, ROWS), "1 of 5 embeddings hold NaN"),
        (np.where(np.arange(15).reshape(5, 3) >= 9, -np.inf, ROWS), "2 of 5 embeddings hold NaN or infinity"),
        (np.zeros((5, 3)), "all embeddings are zero"),
        (np.ones((5, 3)), "every text to the same embedding"),
        (ROWS[0], r"shape \(3,\)"),
        (ROWS[None], r"shape \(1, 5, 3\)"),
        (ROWS[:, :0], r"shape \(5, 0\)"),
    ],
)
def test_embeddings_that_would_fake_a_score_are_refused(spoilt: np.ndarray, said: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=said):
        store.write(tmp_path / "x.safetensors", spoilt.astype(np.float32), "key")
    assert list(tmp_path.iterdir()) == []


def test_a_single_text_and_some_zero_rows_are_no_fault(tmp_path: Path) -> None:
    """A static model gives zero for a text without a known token."""
    store.write(tmp_path / "one", ROWS[:1], "key")
    some = ROWS.copy()
    some[2] = 0
    store.write(tmp_path / "some", some, "key")
    assert np.array_equal(store.read(tmp_path / "some", 5).embeddings, some)


def test_a_write_that_fails_leaves_the_earlier_file(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(TaskError):
        store.write(path, np.zeros((5, 3), np.float32), "key")
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


SPARSE = csr_array(np.array([[0, 1.5, 0, 2], [0, 0, 0, 0], [3, 0, 0, 0], [0, 1.5, 0, 2], [1, 1, 1, 1]], np.float32))


def test_sparse_embeddings_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    store.write(path, SPARSE, "key")
    stored = store.read(path, 5).embeddings
    assert (stored.dtype, stored.shape) == (np.float32, (5, 4))
    assert np.array_equal(stored.toarray(), SPARSE.toarray())
    assert store.active_dimensions(path).tolist() == [2, 0, 1, 2, 4]
    assert store.is_whole(path, "key", 5)
    assert not store.is_whole(path, "key", 4)
    with pytest.raises(TaskError, match="holds 5 embeddings for 6 texts"):
        store.read(path, 6)


def test_dense_embeddings_have_no_active_dimensions(path: Path) -> None:
    assert store.active_dimensions(path) is None


def test_a_sparse_file_cut_short_is_not_whole_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    store.write(path, SPARSE, "key")
    for length in (0, 20, 200, -1):
        path.write_bytes(path.read_bytes()[:length])
        assert not store.is_whole(path, "key", 5)
        with pytest.raises(TaskError, match="missing or damaged"):
            store.read(path, 5)


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (SPARSE * np.float32("nan"), "4 of 5 embeddings hold NaN"),
        (csr_array((5, 4), dtype=np.float32), "all embeddings are zero"),
        (csr_array(np.tile(np.float32([0, 1, 0, 2]), (5, 1))), "every text to the same embedding"),
    ],
)
def test_sparse_embeddings_that_would_fake_a_score_are_refused(spoilt: csr_array, said: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=said):
        store.write(tmp_path / "x.safetensors", spoilt, "key")


@pytest.mark.parametrize("kept", ["sparse", "dense"])
def test_what_a_sparse_model_returns_is_kept_sparse(kept: str) -> None:
    tensor = torch.tensor(SPARSE.toarray())
    found = store.rows(tensor.to_sparse() if kept == "sparse" else tensor, sparse=True)
    assert np.array_equal(found.toarray(), SPARSE.toarray())
    assert found.nnz == 9


def test_a_file_that_was_read_holds_no_memory(tmp_path: Path) -> None:
    """64 MB are read for the check and as rows; both are given back, and the rows are still there."""
    size = 2**14
    rows = np.arange(size * 1024, dtype=np.float32).reshape(size, 1024)
    store.write(tmp_path / "x.safetensors", rows, "key")
    before = psutil.Process().memory_full_info().uss
    embeddings = store.read(tmp_path / "x.safetensors", size).embeddings
    assert psutil.Process().memory_full_info().uss - before < rows.nbytes / 2
    assert np.array_equal(embeddings[::7], rows[::7])
    store.release(embeddings)
    assert psutil.Process().memory_full_info().uss - before < rows.nbytes / 2
    assert np.array_equal(embeddings[-3:], rows[-3:])
