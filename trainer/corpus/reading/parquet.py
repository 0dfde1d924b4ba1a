"""Parquet: one document a row; only the columns of text and id are read."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trainer.corpus.reading.files import InputFile
from trainer.corpus.reading.opening import check_expansion, open_raw
from trainer.corpus.reading.quarantine import Quarantine, RecordLocation
from trainer.corpus.reading.record import RawDocument, ReadOptions, document_id
from trainer.errors import DataError

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.parquet import ParquetFile

MIB = 2**20
BATCH_BYTES = 16 * MIB
BATCH_ROWS = 1024
SHARED_PREFIX_ROWS = 16


def read_parquet(
    file: InputFile, options: ReadOptions, quarantine: Quarantine
) -> Iterator[RawDocument]:
    """The documents of a .parquet file; memory: a page and a batch of about 16 MiB.

    A row without text, with text that is not UTF-8 or exceeds the limit, is quarantined under its
    number. Raises DataError where `options.text_key` is no column of strings, for a damaged file,
    and where the texts exceed `limits.expansion`.
    """
    if file.bytes == 0:
        return
    with open_stored(file, options.anonymous) as stored:
        yield from _rows(file, stored, options, quarantine)


@contextmanager
def open_stored(file: InputFile, anonymous: bool) -> Iterator[Any]:
    """The file, seekable, for pyarrow.

    Raises DataError without pyarrow, as `open_raw` does, and for any error of pyarrow's inside the
    block.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise DataError(f"{file.path}: needs pyarrow: install the extra lyceum[data]") from None
    with open_raw(file, anonymous, seekable=True) as stored:
        try:
            yield stored
        # What pyarrow raises for a bad file: its own errors are subclasses of these four.
        except (OSError, ValueError, RuntimeError, NotImplementedError) as error:
            if "range requests" in str(error) or "Cannot seek" in str(error):
                raise DataError(
                    f"{file.path}: the server cannot give parts of a file, which Parquet needs:"
                    " download it first"
                ) from None
            message = " ".join(str(error).split())[:200]
            raise DataError(
                f"{file.path}: not Parquet, damaged or cut short ({message}): fetch it again, or"
                " leave it out"
            ) from None


def _rows(
    file: InputFile, stored: Any, options: ReadOptions, quarantine: Quarantine
) -> Iterator[RawDocument]:
    table = _open(file.path, stored, options)
    columns = [options.text_key]
    if options.id_key in table.schema_arrow.names and options.id_key != options.text_key:
        columns.append(options.id_key)
    number = unpacked = 0
    for group in range(table.num_row_groups):
        rows = _batch_rows(table, group, options.text_key)
        for batch in table.iter_batches(
            rows, row_groups=[group], columns=columns, use_threads=False
        ):
            ids = batch.column(1).to_pylist() if len(columns) > 1 else None
            for row, (text, raw) in enumerate(_texts(batch.column(0), options.record_bytes)):
                number += 1
                location = RecordLocation(file.path, "row", number)
                quarantine.tally.records += 1
                if text is None:
                    _set_aside(raw, location, options, quarantine)
                    continue
                # Characters, not bytes: to detect a bomb, a factor below four is no matter.
                unpacked += len(text)
                check_expansion(file, file.bytes, unpacked, options.limits)
                yield RawDocument(document_id(ids[row] if ids else None, location), file.path, text)


def _open(path: str, stored: Any, options: ReadOptions) -> "ParquetFile":
    """Open the file so that pages are read on demand and a dictionary-encoded column stays encoded:
    a string that occurs in a million rows is stored once.
    """
    from pyarrow.parquet import ParquetFile

    text_key = options.text_key
    settings: dict[str, Any] = {
        "pre_buffer": False,
        "buffer_size": MIB,
        "page_checksum_verification": True,
    }
    table = ParquetFile(stored, **settings)
    _check_columns(path, table, options)
    groups = (table.metadata.row_group(group) for group in range(table.num_row_groups))
    if any(_chunk(group, text_key, "has_dictionary_page") for group in groups):
        return ParquetFile(stored, read_dictionary=[text_key], **settings)
    return table


def _chunk(group: Any, text_key: str, attribute: str) -> Any:
    """An attribute of the metadata of a row group's text column; None without that column."""
    for number in range(group.num_columns):
        column = group.column(number)
        if column.path_in_schema == text_key:
            return getattr(column, attribute)
    return None


def _check_columns(path: str, table: "ParquetFile", options: ReadOptions) -> None:
    import pyarrow.types as types

    schema = table.schema_arrow
    if schema.names.count(options.text_key) == 1:
        kind = schema.field(options.text_key).type
        if types.is_dictionary(kind):
            kind = kind.value_type
        if types.is_string(kind) or types.is_large_string(kind):
            return
        wrong = f'column "{options.text_key}" holds {kind}, not strings'
    else:
        wrong = f'no column "{options.text_key}"'
    strings = [
        field.name
        for field in schema
        if types.is_string(field.type) or types.is_large_string(field.type)
    ]
    there = ", ".join(f"{field.name} ({field.type})" for field in schema)
    mend = f"corpus.text_key={strings[0]}" if strings else "corpus.text_key, or leave the file out"
    raise DataError(f"{path}: {wrong}; columns: {there}: set {mend}")


def _batch_rows(table: "ParquetFile", group: int, text_key: str) -> int:
    """The number of rows to decode at once, so that a batch is about 16 MiB."""
    metadata = table.metadata.row_group(group)
    if "DELTA_BYTE_ARRAY" in (_chunk(metadata, text_key, "encodings") or ()):
        # Strings stored as differences from the one before: the metadata lack their true size.
        return SHARED_PREFIX_ROWS
    size = _chunk(metadata, text_key, "total_uncompressed_size") or 0
    row_bytes = size // max(metadata.num_rows, 1)
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max(row_bytes, 1)))


def _texts(
    column: "pyarrow.Array", limit: int
) -> Iterator[tuple[str | None, "pyarrow.Scalar | None"]]:
    """(text, None) of each row, or (None, value) where its value is no usable text."""
    import pyarrow
    import pyarrow.compute as compute

    if isinstance(column, pyarrow.DictionaryArray):
        values, indices = column.dictionary, column.indices.to_pylist()
    else:
        values, indices = column, range(len(column))
        if (compute.max(compute.binary_length(column)).as_py() or 0) <= limit:
            try:
                yield from ((text, None) for text in column.to_pylist())
                return
            except UnicodeDecodeError:
                pass
    for index in indices:
        value = None if index is None else values[index]
        if value is None or not value.is_valid or value.as_buffer().size > limit:
            yield None, value
            continue
        try:
            text = value.as_py()
        except UnicodeDecodeError:
            text = None
        yield text, value


def _set_aside(
    value: Any, location: RecordLocation, options: ReadOptions, quarantine: Quarantine
) -> None:
    if value is None or not value.is_valid:
        quarantine.set_aside(location, "no text", b"", f'"{options.text_key}" is null')
        return
    raw = value.as_buffer().to_pybytes()
    if len(raw) > options.record_bytes:
        detail = f"{len(raw)} bytes, more than corpus.limits.record_mib {options.limits.record_mib}"
        quarantine.set_aside(location, "too large", raw, detail)
        return
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start
        detail = f"byte 0x{raw[at]:02x} at offset {at} of its text is not UTF-8"
        quarantine.set_aside(location, "not UTF-8", raw, detail)
