"""A hash of a table's rows that depends on their values alone.

Two tables have the same hash if and only if they have the same columns (in any order) with the same values in the same
order, however the files that held them were cut, compressed or encoded: the width of integers and floats, dictionary
encoding, chunks, large or small offsets and what lies behind a null do not count.

The hash is SHA-256 over, for each column by name, the hash of the column; that of a column covers a tag of its kind and,
as little-endian bytes, which values are null (one byte each), and

- `bool`, `int`, `float`: the values, as one byte, 64-bit integers, IEEE 754 doubles with one NaN;
- `text`, `bytes`: the lengths (64-bit integers), and the values in UTF-8 one after the other;
- `list`: the lengths, and the hash of all values in a row as a column;
- `record`: the hashes of its fields by name;
- everything else, such as dates: as its text.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = "rows-1"
PIECE = 65_536
"""Rows of text that are looked at together."""


def hash_rows(table: pa.Table) -> str:
    """SHA-256 of a table's values, hexadecimal; see the module."""
    columns = {name: _column(pa.chunked_array(table[name])) for name in table.column_names}
    text = json.dumps([FORMAT, table.num_rows, columns], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _column(column: pa.ChunkedArray) -> str:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _text(column)
    array = _plain(column)
    kind, parts = _parts(array)
    digest = hashlib.sha256(kind.encode() + b"\0")
    digest.update(np.asarray(array.is_null(), dtype=np.uint8).tobytes())
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _text(column: pa.ChunkedArray) -> str:
    """The hash of a column of text, piece by piece, since it may be larger than memory."""
    pieces = [chunk.slice(start, PIECE) for chunk in column.chunks for start in range(0, len(chunk), PIECE)]
    digest = hashlib.sha256(b"text\0")
    for piece in pieces:
        digest.update(np.asarray(piece.is_null(), dtype=np.uint8).tobytes())
    for part in (0, 1):
        for piece in pieces:
            digest.update(_parts(_plain(pa.chunked_array([piece])))[1][part])
    return digest.hexdigest()


def _plain(column: pa.ChunkedArray) -> pa.Array:
    """One array of large offsets in place of chunks, dictionaries and views."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        column = column.cast(pa.large_string())
    elif pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_binary_view(kind):
        column = column.cast(pa.large_binary())
    elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        column = column.cast(pa.large_list(kind.value_type))
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _parts(array: pa.Array) -> tuple[str, list[bytes]]:
    """A tag of an array's kind and its values as bytes."""
    kind = array.type
    if pa.types.is_null(kind):
        return "null", []
    if pa.types.is_boolean(kind):
        return "bool", [_numbers(array.fill_null(False), np.uint8).tobytes()]
    if pa.types.is_integer(kind):
        wide = np.uint64 if pa.types.is_uint64(kind) else np.int64
        return "int", [_numbers(array.fill_null(0), wide).tobytes()]
    if pa.types.is_floating(kind):
        values = _numbers(array.cast(pa.float64()).fill_null(0.0), np.float64)
        return "float", [np.where(np.isnan(values), np.nan, values).tobytes()]
    if pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        text = pa.types.is_large_string(kind)
        filled = array.fill_null("" if text else b"")
        lengths = _numbers(pc.binary_length(filled), np.int64)
        return "text" if text else "bytes", [lengths.tobytes(), _joined(filled)]
    if pa.types.is_large_list(kind):
        lengths = _numbers(pc.list_value_length(array).fill_null(0), np.int64)
        # Unlike `values`, `flatten` leaves out what lies behind nulls and outside a slice.
        return "list", [lengths.tobytes(), _column(pa.chunked_array([array.flatten()])).encode()]
    if pa.types.is_struct(kind):
        names = sorted(field.name for field in kind)
        fields = zip(kind, array.flatten(), strict=True)
        hashes = {field.name: _column(pa.chunked_array([child])) for field, child in fields}
        return "record", [json.dumps([[name, hashes[name]] for name in names]).encode()]
    return _parts(_plain(pa.chunked_array([array.cast(pa.string())])))


def _numbers(array: pa.Array, dtype: type) -> NDArray[np.generic]:
    return np.asarray(array.to_numpy(zero_copy_only=False)).astype(np.dtype(dtype).newbyteorder("<"))


def _joined(array: pa.Array) -> bytes:
    """All values of a text or binary array one after the other."""
    _, offsets, data = array.buffers()
    if data is None or not len(array):
        return b""
    start, *_, end = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    return bytes(data[int(start) : int(end)])
