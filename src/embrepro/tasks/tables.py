"""Arrow tables that may be larger than memory: written batch by batch to a file, which is then mapped.

Of what is mapped the kernel keeps as much in memory as it has room for.
"""

from __future__ import annotations

import mmap
import os
import secrets
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embrepro.errors import TaskError
from embrepro.files import expect_room

if TYPE_CHECKING:
    from datasets import Dataset

LARGE = 64 * 2**20
"""Bytes above which a table is mapped instead of held."""
ROWS_AT_ONCE = 65_536


class Spool:
    """A table that is written batch by batch to a file without a name, of which nothing is left when the process ends.

    Args:
        schema: of the batches.
        folder: on the disk that is to hold it. Without one, or where it can't be written to, it is the system's temporary
            folder, which may be memory.
        size: bytes that it will take, as far as that is known.

    Raises:
        KitError: the disk has less room.
    """

    def __init__(self, schema: pa.Schema, folder: Path | None = None, size: int = 0) -> None:
        place = folder if folder and os.access(folder, os.W_OK) else Path(tempfile.gettempdir())
        expect_room(place, size, "Tables that are not held in memory need")
        self._file = tempfile.TemporaryFile(dir=place)  # noqa: SIM115 - `table` closes it
        self._stream = pa.ipc.new_stream(self._file, schema)

    def write(self, batch: pa.RecordBatch) -> None:
        """Add a batch."""
        self._stream.write_batch(batch)

    def table(self) -> pa.Table:
        """Everything that was written, mapped; nothing can be added after that."""
        self._stream.close()
        self._file.flush()
        with self._file:
            mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return pa.ipc.open_stream(pa.py_buffer(mapped)).read_all()


def spooled(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, folder: Path | None = None, size: int = 0
) -> pa.Table:
    """Batches as one table, mapped from a file without a name.

    Args:
        batches: the rows.
        schema: of the batches.
        folder: as of `Spool`.
        size: as of `Spool`.

    Raises:
        KitError: the disk has less room.
    """
    spool = Spool(schema, folder, size)
    for batch in batches:
        spool.write(batch)
    return spool.table()


def read_parquet(path: Path) -> pa.Table:
    """A Parquet file's table; mapped, from a copy that is not compressed, where it is a large one."""
    file = pq.ParquetFile(path)
    groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
    size = sum(group.total_byte_size for group in groups)
    if size < LARGE:
        return pq.read_table(path)
    return spooled(file.iter_batches(ROWS_AT_ONCE), file.schema_arrow, path.parent, size)


def as_dataset(table: pa.Table) -> Dataset:
    """A table as mteb takes it, with a name by chance: to make one, `datasets` would pickle all of the table."""
    from datasets import Dataset

    return Dataset(table, fingerprint=secrets.token_hex(8))


def materialised(data: Dataset, folder: Path | None = None) -> pa.Table:
    """The rows of a data set, in the types of its features; mapped, in batches of one size, where they are many bytes.

    Args:
        data: the data set, which may be an index of another one's rows.
        folder: as of `Spool`.

    Raises:
        KitError: the disk has less room.
    """
    schema = data.features.arrow_schema
    if data.data.nbytes < LARGE:
        table = data.with_format("arrow")[:]
        table = table if isinstance(table, pa.Table) else pa.table(table)
        return pa.table({name: table[name].combine_chunks() for name in table.column_names}).cast(schema)
    parts = data.with_format("arrow").iter(ROWS_AT_ONCE)
    batches = (part.cast(schema).combine_chunks().to_batches()[0] for part in parts)
    return spooled(batches, schema, folder, data.data.nbytes)


def write_arrow(table: pa.Table, path: Path) -> None:
    """Write an Arrow IPC file, which `read_arrow` maps."""
    if table.nbytes < LARGE:
        table = table.combine_chunks()
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as stream:
        for batch in table.to_batches(max_chunksize=ROWS_AT_ONCE):
            stream.write_batch(batch)


def read_arrow(path: Path) -> pa.Table:
    """The table of an Arrow IPC file, mapped; raises TaskError naming a file that is absent or damaged."""
    try:
        with pa.memory_map(str(path)) as file:
            return pa.ipc.open_file(file).read_all()
    except (pa.ArrowException, OSError) as error:
        raise TaskError(f"{path} cannot be read ({error}). Run: dvc repro") from None


def take(column: pa.ChunkedArray, rows: np.ndarray) -> pa.ChunkedArray:
    """Values of a column in the order of `rows`, (rows,); Arrow's own `take` would copy the whole column first."""
    if not len(rows):
        return column.slice(0, 0)
    if rows[0] + len(rows) - 1 == rows[-1] and (np.diff(rows.astype(np.int64)) == 1).all():
        return column.slice(int(rows[0]), len(rows))
    starts = np.cumsum([0, *map(len, column.chunks)])
    chunk_of = np.searchsorted(starts, rows, side="right") - 1
    order = np.argsort(chunk_of, kind="stable")
    numbers, firsts = np.unique(chunk_of[order], return_index=True)
    parts = [
        column.chunk(number).take(pa.array(rows[places] - starts[number]))
        for number, places in zip(numbers.tolist(), np.split(order, firsts[1:]), strict=True)
    ]
    if len(parts) < 2:
        return pa.chunked_array(parts, column.type)
    back = np.empty(len(rows), dtype=np.int64)
    back[order] = np.arange(len(rows))
    return pa.chunked_array([pa.concat_arrays(parts).take(pa.array(back))])


def numbers_of(column: pa.ChunkedArray, values: list[str]) -> np.ndarray:
    """The place in `values` of each value of a column, (rows,), as small integers; all are there."""
    numbers: np.ndarray = pc.index_in(column, value_set=pa.array(values, column.type)).to_numpy().astype(np.uint8)
    return numbers
