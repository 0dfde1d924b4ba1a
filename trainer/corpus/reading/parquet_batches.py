"""Batches of a Parquet table's rows, in memory that its row groups do not decide.

Without pyarrow's `read_dictionary`: where a dictionary has overflowed, which is what pyarrow and
pandas write of text, it collects every string of the row group in one dictionary and gives the
whole of it with each batch (pyarrow 26: four times the text's size, in quadratic time). Decoded
strings can expand instead, one dictionary entry into every row: so the rows of a batch follow from
the longest entry.
"""

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.parquet import FileMetaData, ParquetFile

MIB = 2**20
BATCH_BYTES = 8 * MIB
# More at once are hardly faster, and where long texts follow short ones would all be long.
BATCH_ROWS = 256
SHARED_PREFIX_ROWS = 16
# By itself mimalloc holds some 20 MiB of freed memory.
RELEASED_AFTER = 8 * MIB
# Of a larger dictionary, which pyarrow holds at the same time, the size itself is the bound.
DICTIONARY_BYTES = 16 * MIB
HEADER_BYTES = 4096
TAIL_BYTES = 8
# In the file's metadata: a field of 12 bytes, the key, and the header of its value's field.
ARROW_SCHEMA = b"\x18\x0cARROW:schema\x18"
DICTIONARY_PAGE = 2
LENGTH_BYTES = 4


def open_table(stored: Any) -> "ParquetFile":
    """The table of a seekable file: its pages are read on demand, their checksums verified.

    The types are Parquet's own; the Arrow schema that a writer may leave beside them is ignored, so
    that strings are strings and never dictionaries or views. Raises what pyarrow raises for a file
    that is no Parquet.
    """
    from pyarrow.parquet import ParquetFile

    return ParquetFile(
        stored,
        metadata=_metadata_without_arrow_schema(stored),
        pre_buffer=False,
        buffer_size=MIB,
        page_checksum_verification=True,
    )


def _metadata_without_arrow_schema(stored: Any) -> "FileMetaData | None":
    """The file's metadata; None where there are none, for pyarrow to say so."""
    from pyarrow.parquet import read_metadata

    size = stored.seek(0, io.SEEK_END)
    stored.seek(max(size - TAIL_BYTES, 0))
    tail = stored.read(TAIL_BYTES)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or length > size - TAIL_BYTES:
        return None
    stored.seek(size - TAIL_BYTES - length)
    before, key, after = stored.read(length).rpartition(ARROW_SCHEMA)
    return read_metadata(io.BytesIO(b"PAR1" + before + key.lower() + after + tail))


def row_batches(
    table: "ParquetFile", stored: Any, columns: Sequence[str] | None = None
) -> Iterator["pyarrow.RecordBatch"]:
    """The table's rows in order, in batches of at most 256 rows and about 8 MiB, at least one row.

    `stored`: the file that `open_table` was given; `columns`: names at the top of the schema (None:
    all). Memory beside a batch: for each column read, a page as stored and decompressed, and its
    row group's dictionary. Raises what pyarrow raises for a damaged file, and
    ValueError where rows are missing.
    """
    import pyarrow

    decoded = 0
    for group in range(table.num_row_groups):
        left = table.metadata.row_group(group).num_rows
        # One row first: this finds damage in the metadata of the columns that are read, at which
        # pyarrow's own view of them ends the process.
        for batch in table.iter_batches(1, row_groups=[group], columns=columns, use_threads=False):
            if left == table.metadata.row_group(group).num_rows:
                table.reader.set_batch_size(_rows_a_batch(table, group, stored, columns))
            yield batch
            left -= batch.num_rows
            decoded += batch.nbytes
            if decoded >= RELEASED_AFTER:
                pyarrow.default_memory_pool().release_unused()
                decoded = 0
        if left:
            # pyarrow ends a row group in silence where its pages do (and, of one nested row in
            # pages of a few bytes, before: findings/pyarrow-row-in-small-pages-lost.sh).
            raise ValueError(f"row group {group + 1} has {left} rows fewer than it should")


def batch_rows(batch: "pyarrow.RecordBatch") -> Iterator[dict[str, Any] | None]:
    """A batch's rows as objects; None for one with a string that is not UTF-8."""
    try:
        yield from batch.to_pylist()
        return
    except UnicodeDecodeError:
        pass
    for row in range(batch.num_rows):
        try:
            (record,) = batch.slice(row, 1).to_pylist()
        except UnicodeDecodeError:
            record = None
        yield record


def _rows_a_batch(
    table: "ParquetFile", group: int, stored: Any, columns: Sequence[str] | None
) -> int:
    rows = BATCH_ROWS
    row_bytes = 0.0
    metadata = table.metadata.row_group(group)
    for number in range(metadata.num_columns):
        path = table.schema.column(number).path
        if columns is None or any(path == name or path.startswith(f"{name}.") for name in columns):
            chunk = metadata.column(number)
            if "DELTA_BYTE_ARRAY" in chunk.encodings:
                # Strings stored as differences from the one before: no size says how long they are.
                rows = SHARED_PREFIX_ROWS
            entry = _longest_entry(chunk, stored) if chunk.physical_type == "BYTE_ARRAY" else 0
            size = chunk.total_uncompressed_size + entry * chunk.num_values
            row_bytes += size / metadata.num_rows
    return max(1, min(rows, int(BATCH_BYTES // max(row_bytes, 1))))


def _longest_entry(chunk: Any, stored: Any) -> int:
    """Bytes of the longest string in a chunk's dictionary, or a bound of it; 0 without one."""
    # Some writers of old count the dictionary as the first data page.
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    stored.seek(start)
    try:
        header = _page_header(stored.read(HEADER_BYTES))
    except (IndexError, KeyError, ValueError):
        # Damaged, as pyarrow will say, or a longer header than any writer's.
        return int(chunk.total_uncompressed_size)
    if header is None:
        return 0
    if max(header.size, header.stored_size) > DICTIONARY_BYTES:
        return header.size
    stored.seek(start + header.length)
    try:
        page = _decompressed(stored.read(header.stored_size), chunk.compression, header.size)
    except (OSError, ValueError, NotImplementedError):
        return header.size
    return max(_lengths(page), default=0)


def _decompressed(page: bytes, compression: str, size: int) -> bytes:
    """A page's content. Raises what pyarrow raises for damage, or a codec that is not there."""
    import pyarrow

    if compression == "UNCOMPRESSED":
        return page
    # pyarrow calls Parquet's two forms of LZ4 by one name; the older one fails here.
    codec = pyarrow.Codec("lz4_raw" if compression == "LZ4" else compression.lower())
    return bytes(codec.decompress(page, size, asbytes=True))


def _lengths(page: bytes) -> Iterator[int]:
    """The lengths of a dictionary page's strings, each of which follows its length."""
    at = 0
    while at + LENGTH_BYTES <= len(page):
        length = int.from_bytes(page[at : at + LENGTH_BYTES], "little")
        yield length
        at += LENGTH_BYTES + length


class _PageHeader(NamedTuple):
    """A dictionary page's header: the page's bytes decompressed and stored, and its own."""

    size: int
    stored_size: int
    length: int


def _page_header(data: bytes) -> _PageHeader | None:
    """The header of a dictionary page, in Thrift's compact protocol; None for another page.

    Source: parquet.thrift, PageHeader: 1 type, 2 uncompressed_page_size, 3 compressed_page_size;
    a header within it is passed over. Raises IndexError, KeyError or ValueError for anything else.
    """
    fields: dict[int, int] = {}
    numbers, at = [0], 0
    while numbers:
        delta, kind = data[at] >> 4, data[at] & 15
        at += 1
        if kind == 0:  # the end of a struct
            numbers.pop()
            continue
        if not delta:
            raise ValueError("a field's number in full, which no such header needs")
        numbers[-1] += delta
        if kind == 12:  # a struct
            numbers.append(0)
        elif kind in (4, 5, 6):  # integers
            value, at = _zigzag(data, at)
            if len(numbers) == 1:
                fields[numbers[0]] = value
        elif kind not in (1, 2):  # true and false, which are their own values
            raise ValueError(f"type {kind} in the header of a dictionary page")
        if fields.get(1, DICTIONARY_PAGE) != DICTIONARY_PAGE:
            return None
    if min(fields[2], fields[3]) < 0:
        raise ValueError("a page of less than no bytes")
    return _PageHeader(fields[2], fields[3], at)


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    """The integer at an offset, and the offset behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
